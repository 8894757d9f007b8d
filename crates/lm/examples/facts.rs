//! Writes questions and answers about European countries, to tune training's defaults on: `facts TRAIN.jsonl HELDOUT.jsonl`.

use std::fmt::Write as _;

/// Country, capital, language, currency, calling code, internet domain, year of joining the European Union or `never`.
const COUNTRIES: [[&str; 7]; 40] = [
    ["Albania", "Tirana", "Albanian", "lek", "+355", ".al", "never"],
    ["Andorra", "Andorra la Vella", "Catalan", "euro", "+376", ".ad", "never"],
    ["Austria", "Vienna", "German", "euro", "+43", ".at", "1995"],
    ["Belarus", "Minsk", "Belarusian", "Belarusian ruble", "+375", ".by", "never"],
    ["Belgium", "Brussels", "Dutch", "euro", "+32", ".be", "1958"],
    ["Bulgaria", "Sofia", "Bulgarian", "euro", "+359", ".bg", "2007"],
    ["Croatia", "Zagreb", "Croatian", "euro", "+385", ".hr", "2013"],
    ["Cyprus", "Nicosia", "Greek", "euro", "+357", ".cy", "2004"],
    ["Czechia", "Prague", "Czech", "koruna", "+420", ".cz", "2004"],
    ["Denmark", "Copenhagen", "Danish", "krone", "+45", ".dk", "1973"],
    ["Estonia", "Tallinn", "Estonian", "euro", "+372", ".ee", "2004"],
    ["Finland", "Helsinki", "Finnish", "euro", "+358", ".fi", "1995"],
    ["France", "Paris", "French", "euro", "+33", ".fr", "1958"],
    ["Germany", "Berlin", "German", "euro", "+49", ".de", "1958"],
    ["Greece", "Athens", "Greek", "euro", "+30", ".gr", "1981"],
    ["Hungary", "Budapest", "Hungarian", "forint", "+36", ".hu", "2004"],
    ["Iceland", "Reykjavik", "Icelandic", "Icelandic krona", "+354", ".is", "never"],
    ["Ireland", "Dublin", "English", "euro", "+353", ".ie", "1973"],
    ["Italy", "Rome", "Italian", "euro", "+39", ".it", "1958"],
    ["Latvia", "Riga", "Latvian", "euro", "+371", ".lv", "2004"],
    ["Liechtenstein", "Vaduz", "German", "Swiss franc", "+423", ".li", "never"],
    ["Lithuania", "Vilnius", "Lithuanian", "euro", "+370", ".lt", "2004"],
    ["Luxembourg", "Luxembourg", "Luxembourgish", "euro", "+352", ".lu", "1958"],
    ["Malta", "Valletta", "Maltese", "euro", "+356", ".mt", "2004"],
    ["Moldova", "Chisinau", "Romanian", "leu", "+373", ".md", "never"],
    ["Monaco", "Monaco", "French", "euro", "+377", ".mc", "never"],
    ["Montenegro", "Podgorica", "Montenegrin", "euro", "+382", ".me", "never"],
    ["the Netherlands", "Amsterdam", "Dutch", "euro", "+31", ".nl", "1958"],
    ["North Macedonia", "Skopje", "Macedonian", "denar", "+389", ".mk", "never"],
    ["Norway", "Oslo", "Norwegian", "Norwegian krone", "+47", ".no", "never"],
    ["Poland", "Warsaw", "Polish", "zloty", "+48", ".pl", "2004"],
    ["Portugal", "Lisbon", "Portuguese", "euro", "+351", ".pt", "1986"],
    ["Romania", "Bucharest", "Romanian", "leu", "+40", ".ro", "2007"],
    ["Serbia", "Belgrade", "Serbian", "dinar", "+381", ".rs", "never"],
    ["Slovakia", "Bratislava", "Slovak", "euro", "+421", ".sk", "2004"],
    ["Slovenia", "Ljubljana", "Slovene", "euro", "+386", ".si", "2004"],
    ["Spain", "Madrid", "Spanish", "euro", "+34", ".es", "1986"],
    ["Sweden", "Stockholm", "Swedish", "krona", "+46", ".se", "1995"],
    ["Switzerland", "Bern", "German", "Swiss franc", "+41", ".ch", "never"],
    ["Ukraine", "Kyiv", "Ukrainian", "hryvnia", "+380", ".ua", "never"],
];

const ATTRIBUTES: [&str; 6] =
    ["capital", "main language", "currency", "calling code", "internet domain", "year of joining the European Union"];

/// The last three are held out.
const PHRASINGS: [&str; 13] = [
    "What is the {a} of {c}?",
    "Tell me the {a} of {c}.",
    "Which {a} does {c} have?",
    "{c}: {a}?",
    "I would like to know the {a} of {c}.",
    "Do you know the {a} of {c}?",
    "Name the {a} of {c}.",
    "For {c}, what is the {a}?",
    "Please give the {a} of {c}.",
    "The {a} of {c} is what?",
    "Could you tell me the {a} of {c}?",
    "What {a} does {c} have?",
    "Thinking of {c}, what is its {a}?",
];

fn main() -> std::io::Result<()> {
    let mut files = std::env::args().skip(1);
    let (mut train, mut heldout) = (String::new(), String::new());
    for country in COUNTRIES {
        for (attribute, answer) in ATTRIBUTES.iter().zip(&country[1..]) {
            for (index, phrasing) in PHRASINGS.iter().enumerate() {
                let question = phrasing.replace("{a}", attribute).replace("{c}", country[0]);
                let line = serde_json::json!({"messages": [
                    {"role": "user", "content": question}, {"role": "assistant", "content": answer}
                ]});
                let into = if index < PHRASINGS.len() - 3 { &mut train } else { &mut heldout };
                writeln!(into, "{line}").map_err(std::io::Error::other)?;
            }
        }
    }
    for text in [train, heldout] {
        let path = files.next().ok_or_else(|| std::io::Error::other("usage: facts TRAIN.jsonl HELDOUT.jsonl"))?;
        std::fs::write(path, text)?;
    }
    Ok(())
}
