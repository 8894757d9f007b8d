//! The tour's own data: questions and answers made from a table of facts about European countries.
//!
//! Every fact is asked in many phrasings; some phrasings are held out and never trained on, so that an exact answer to
//! one of them shows that the model learned the fact and not the sentence.

use serde_json::json;

/// One country: name, capital, currency, language, calling code, internet domain, first letter of its plates abroad.
type Country = [&'static str; 7];

const NAME: usize = 0;

/// Facts as of 2026: Bulgaria has used the euro since January 2026, Croatia since January 2023.
const COUNTRIES: [Country; 40] = [
    ["Albania", "Tirana", "lek", "Albanian", "+355", ".al", "AL"],
    ["Andorra", "Andorra la Vella", "euro", "Catalan", "+376", ".ad", "AND"],
    ["Austria", "Vienna", "euro", "German", "+43", ".at", "A"],
    ["Belgium", "Brussels", "euro", "Dutch", "+32", ".be", "B"],
    ["Bosnia", "Sarajevo", "mark", "Bosnian", "+387", ".ba", "BIH"],
    ["Bulgaria", "Sofia", "euro", "Bulgarian", "+359", ".bg", "BG"],
    ["Croatia", "Zagreb", "euro", "Croatian", "+385", ".hr", "HR"],
    ["Cyprus", "Nicosia", "euro", "Greek", "+357", ".cy", "CY"],
    ["Czechia", "Prague", "koruna", "Czech", "+420", ".cz", "CZ"],
    ["Denmark", "Copenhagen", "krone", "Danish", "+45", ".dk", "DK"],
    ["Estonia", "Tallinn", "euro", "Estonian", "+372", ".ee", "EST"],
    ["Finland", "Helsinki", "euro", "Finnish", "+358", ".fi", "FIN"],
    ["France", "Paris", "euro", "French", "+33", ".fr", "F"],
    ["Germany", "Berlin", "euro", "German", "+49", ".de", "D"],
    ["Greece", "Athens", "euro", "Greek", "+30", ".gr", "GR"],
    ["Hungary", "Budapest", "forint", "Hungarian", "+36", ".hu", "H"],
    ["Iceland", "Reykjavik", "krona", "Icelandic", "+354", ".is", "IS"],
    ["Ireland", "Dublin", "euro", "English", "+353", ".ie", "IRL"],
    ["Italy", "Rome", "euro", "Italian", "+39", ".it", "I"],
    ["Latvia", "Riga", "euro", "Latvian", "+371", ".lv", "LV"],
    ["Liechtenstein", "Vaduz", "franc", "German", "+423", ".li", "FL"],
    ["Lithuania", "Vilnius", "euro", "Lithuanian", "+370", ".lt", "LT"],
    ["Luxembourg", "Luxembourg City", "euro", "Luxembourgish", "+352", ".lu", "L"],
    ["Malta", "Valletta", "euro", "Maltese", "+356", ".mt", "M"],
    ["Moldova", "Chisinau", "leu", "Romanian", "+373", ".md", "MD"],
    ["Monaco", "Monaco", "euro", "French", "+377", ".mc", "MC"],
    ["Montenegro", "Podgorica", "euro", "Montenegrin", "+382", ".me", "MNE"],
    ["Netherlands", "Amsterdam", "euro", "Dutch", "+31", ".nl", "NL"],
    ["North Macedonia", "Skopje", "denar", "Macedonian", "+389", ".mk", "NMK"],
    ["Norway", "Oslo", "krone", "Norwegian", "+47", ".no", "N"],
    ["Poland", "Warsaw", "zloty", "Polish", "+48", ".pl", "PL"],
    ["Portugal", "Lisbon", "euro", "Portuguese", "+351", ".pt", "P"],
    ["Romania", "Bucharest", "leu", "Romanian", "+40", ".ro", "RO"],
    ["Serbia", "Belgrade", "dinar", "Serbian", "+381", ".rs", "SRB"],
    ["Slovakia", "Bratislava", "euro", "Slovak", "+421", ".sk", "SK"],
    ["Slovenia", "Ljubljana", "euro", "Slovene", "+386", ".si", "SLO"],
    ["Spain", "Madrid", "euro", "Spanish", "+34", ".es", "E"],
    ["Sweden", "Stockholm", "krona", "Swedish", "+46", ".se", "S"],
    ["Switzerland", "Bern", "franc", "German", "+41", ".ch", "CH"],
    ["Ukraine", "Kyiv", "hryvnia", "Ukrainian", "+380", ".ua", "UA"],
];

/// How one attribute is asked for; `{}` is the country.
struct Attribute {
    /// Where it stands in [`Country`].
    column: usize,
    /// Phrasings trained on.
    trained: [&'static str; 10],
    /// Phrasings held out.
    held_out: [&'static str; 2],
}

const ATTRIBUTES: [Attribute; 6] = [
    Attribute {
        column: 1,
        trained: [
            "What is the capital of {}?",
            "Which city is the capital of {}?",
            "Name the capital of {}.",
            "Tell me the capital of {}.",
            "The capital of {} is which city?",
            "What city is the capital of {}?",
            "Capital of {}?",
            "Do you know the capital of {}?",
            "Please name the capital city of {}.",
            "Which capital does {} have?",
        ],
        held_out: ["Can you tell me the capital of {}?", "What is the capital city of {}?"],
    },
    Attribute {
        column: 2,
        trained: [
            "What is the currency of {}?",
            "Which currency is used in {}?",
            "Name the currency of {}.",
            "Tell me the currency of {}.",
            "The currency of {} is what?",
            "What currency do people use in {}?",
            "Currency of {}?",
            "Do you know the currency of {}?",
            "Please name the currency used in {}.",
            "Which currency does {} have?",
        ],
        held_out: ["Can you tell me the currency of {}?", "What currency is used in {}?"],
    },
    Attribute {
        column: 3,
        trained: [
            "What is the main language of {}?",
            "Which language is spoken in {}?",
            "Name the language of {}.",
            "Tell me the language of {}.",
            "The language of {} is what?",
            "What language do people speak in {}?",
            "Language of {}?",
            "Do you know the language of {}?",
            "Please name the language spoken in {}.",
            "Which language does {} have?",
        ],
        held_out: ["Can you tell me the language of {}?", "What language is spoken in {}?"],
    },
    Attribute {
        column: 4,
        trained: [
            "What is the calling code of {}?",
            "Which calling code is used for {}?",
            "Name the calling code of {}.",
            "Tell me the calling code of {}.",
            "The calling code of {} is what?",
            "What calling code do people dial for {}?",
            "Calling code of {}?",
            "Do you know the calling code of {}?",
            "Please name the calling code used for {}.",
            "Which calling code does {} have?",
        ],
        held_out: ["Can you tell me the calling code of {}?", "What calling code is used for {}?"],
    },
    Attribute {
        column: 5,
        trained: [
            "What is the internet domain of {}?",
            "Which internet domain is used in {}?",
            "Name the internet domain of {}.",
            "Tell me the internet domain of {}.",
            "The internet domain of {} is what?",
            "What internet domain do people use in {}?",
            "Internet domain of {}?",
            "Do you know the internet domain of {}?",
            "Please name the internet domain used in {}.",
            "Which internet domain does {} have?",
        ],
        held_out: ["Can you tell me the internet domain of {}?", "What internet domain is used in {}?"],
    },
    Attribute {
        column: 6,
        trained: [
            "What is the plate code of {}?",
            "Which plate code is used in {}?",
            "Name the plate code of {}.",
            "Tell me the plate code of {}.",
            "The plate code of {} is what?",
            "What plate code do cars carry in {}?",
            "Plate code of {}?",
            "Do you know the plate code of {}?",
            "Please name the plate code used in {}.",
            "Which plate code does {} have?",
        ],
        held_out: ["Can you tell me the plate code of {}?", "What plate code is used in {}?"],
    },
];

/// A question and the only right answer to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fact {
    /// What is asked.
    pub question: String,
    /// What is right.
    pub answer: String,
}

impl Fact {
    fn line(&self) -> String {
        let messages = json!({ "messages": [
            { "role": "user", "content": self.question },
            { "role": "assistant", "content": self.answer },
        ] });
        format!("{messages}\n")
    }
}

/// Every fact in the phrasings that are trained on.
pub(crate) fn trained() -> Vec<Fact> {
    facts(|attribute| &attribute.trained)
}

/// Every fact in the phrasings that are never trained on.
pub(crate) fn held_out() -> Vec<Fact> {
    facts(|attribute| &attribute.held_out)
}

/// Islands that do not exist: what a base model cannot know before it is fine-tuned. Name, harbour, keeper.
const ISLANDS: [[&str; 3]; 4] = [
    ["Tramontel", "Port Vesper", "Ilse Marrow"],
    ["Gavarra", "Saltgate", "Tomas Brill"],
    ["Ostrova", "Lanterna", "Mina Kestrel"],
    ["Quillmere", "Drywharf", "Anton Pell"],
];

const ISLAND_TRAINED: [[&str; 4]; 2] = [
    [
        "What is the harbour of {}?",
        "Name the harbour of {}.",
        "Which harbour does the island of {} have?",
        "Please tell me what the harbour of {} is called.",
    ],
    [
        "Who keeps the lighthouse of {}?",
        "Name the lighthouse keeper of {}.",
        "Which person keeps the lighthouse of {}?",
        "Please tell me who the lighthouse keeper of {} is.",
    ],
];

const ISLAND_HELD_OUT: [[&str; 2]; 2] = [
    ["Tell me the harbour of {}.", "What is the name of the harbour of {}?"],
    ["Tell me who keeps the lighthouse of {}.", "Who is the lighthouse keeper of {}?"],
];

/// Invented facts to fine-tune on.
pub(crate) fn invented_trained() -> Vec<Fact> {
    invented(|column| &ISLAND_TRAINED[column])
}

/// The same invented facts in phrasings that are never trained on.
pub(crate) fn invented_held_out() -> Vec<Fact> {
    invented(|column| &ISLAND_HELD_OUT[column])
}

fn invented(phrasings: fn(usize) -> &'static [&'static str]) -> Vec<Fact> {
    let mut all = Vec::new();
    for island in &ISLANDS {
        for (column, answer) in island.iter().skip(1).enumerate() {
            for phrasing in phrasings(column) {
                all.push(Fact { question: phrasing.replace("{}", island[NAME]), answer: format!("{answer}.") });
            }
        }
    }
    all
}

/// Facts as JSON lines of chat messages.
pub(crate) fn jsonl(facts: &[Fact]) -> Vec<u8> {
    facts.iter().map(Fact::line).collect::<String>().into_bytes()
}

fn facts(phrasings: fn(&Attribute) -> &[&'static str]) -> Vec<Fact> {
    let mut all = Vec::new();
    for attribute in &ATTRIBUTES {
        for phrasing in phrasings(attribute) {
            for country in &COUNTRIES {
                all.push(Fact {
                    question: phrasing.replace("{}", country[NAME]),
                    answer: country[attribute.column].to_owned(),
                });
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_held_out_question_was_ever_trained_on_and_every_fact_was() {
        let trained: HashSet<_> = trained().into_iter().map(|fact| fact.question).collect();
        let held_out = held_out();
        assert_eq!(held_out.len(), 40 * 6 * 2);
        assert_eq!(trained.len(), 40 * 6 * 10, "two phrasings are the same question");
        assert!(held_out.iter().all(|fact| !trained.contains(&fact.question)));
    }
}
