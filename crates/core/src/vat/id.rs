//! VAT identification numbers of the member states: their form and check digits, as the Commission's VIES publishes the
//! forms and each tax office its check digits. A number that passes may still be nobody's: that only VIES says.
//!
//! Numbers of persons that carry a date of birth (Bulgaria, Czechia, Latvia, Romania, Slovakia) have their check digits looked at,
//! not their dates.

use crate::residency::Jurisdiction;

/// Why a text is no VAT id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VatIdError {
    /// It is of another country, or of none.
    #[error("not a VAT id of {0}: it begins with its country's letters (`EL` for Greece)")]
    Country(Jurisdiction),
    /// Its form or check digits are wrong.
    #[error("not a VAT id of {0}: its length, letters or check digits do not fit")]
    Digits(Jurisdiction),
}

/// A VAT id as it is written on invoices (letters, digits, its country in front), if it may be one of this member state.
pub fn id(text: &str, country: Jurisdiction) -> Result<String, VatIdError> {
    let plain: String = text.chars().filter(|c| !matches!(c, ' ' | '.' | '-' | '/')).collect();
    let plain = plain.to_ascii_uppercase();
    let prefix = if country.as_str() == "GR" { "EL" } else { country.as_str() };
    let number = plain.strip_prefix(prefix).ok_or(VatIdError::Country(country))?;
    if !number.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'*') {
        return Err(VatIdError::Digits(country));
    }
    // Belgian numbers of before 2005 had nine digits; the same ones have a zero in front now.
    let number = if prefix == "BE" && number.len() == 9 { format!("0{number}") } else { number.to_owned() };
    if fits(country.as_str(), number.as_bytes()).unwrap_or(false) {
        Ok(format!("{prefix}{number}"))
    } else {
        Err(VatIdError::Digits(country))
    }
}

/// Whether a number fits its country's rule; none where it has not even digits where they belong.
fn fits(country: &str, text: &[u8]) -> Option<bool> {
    Some(match country {
        "AT" => austria(text)?,
        "CY" => cyprus(text)?,
        "ES" => spain(text)?,
        "FR" => france(text)?,
        "IE" => ireland(text)?,
        "NL" => netherlands(text)?,
        _ => {
            let n = digits(text)?;
            match (country, n.len()) {
                ("BE", 10) => n[0] <= 1 && (value(&n[..8]) + value(&n[8..])).is_multiple_of(97),
                ("BG", 9) => bulgarian_company(&n),
                ("BG", 10) => bulgarian_person(&n),
                ("CZ", 8..=10) => czechia(&n),
                ("DE", 9) => n[0] != 0 && mod_11_10(&n),
                ("DK", 8) => n[0] != 0 && weighed(&n, &[2, 7, 6, 5, 4, 3, 2, 1]).is_multiple_of(11),
                ("EE", 9) => weighed(&n, &[3, 7, 1, 3, 7, 1, 3, 7, 1]).is_multiple_of(10),
                ("FI", 8) => weighed(&n, &[7, 9, 10, 5, 8, 4, 2, 1]).is_multiple_of(11),
                ("GR", 9) => weighed(&n, &[256, 128, 64, 32, 16, 8, 4, 2]) % 11 % 10 == n[8],
                ("HR", 11) => mod_11_10(&n),
                ("HU", 8) => weighed(&n, &[9, 7, 3, 1, 9, 7, 3, 1]).is_multiple_of(10),
                ("IT", 11) => italy(&n),
                ("LT", 9 | 12) => n[n.len() - 2] == 1 && lithuania(&n),
                ("LU", 8) => value(&n[..6]) % 89 == value(&n[6..]),
                ("LV", 11) => latvia(&n),
                ("MT", 8) => n[0] != 0 && weighed(&n, &[3, 4, 6, 7, 8, 9, 10, 1]).is_multiple_of(37),
                ("PL", 10) => weighed(&n, &[6, 5, 7, 2, 3, 4, 5, 6, 7]) % 11 == n[9],
                ("PT", 9) => n[0] != 0 && (11 - weighed(&n, &[9, 8, 7, 6, 5, 4, 3, 2]) % 11) % 11 % 10 == n[8],
                ("RO", 2..=10) => n[0] != 0 && romania(&n),
                ("RO", 13) => weighed(&n, &[2, 7, 9, 1, 4, 6, 3, 5, 8, 2, 7, 9]) % 11 % 10 == n[12],
                ("SE", 12) => value(&n[10..]) == 1 && luhn(&n[..10]),
                ("SI", 8) => n[0] != 0 && slovenia(&n),
                // A company, or a person by the number of birth.
                ("SK", 10) => value(&n) != 0 && (value(&n).is_multiple_of(11) || value(&n[..9]) % 11 % 10 == n[9]),
                _ => false,
            }
        }
    })
}

fn digits(text: &[u8]) -> Option<Vec<u64>> {
    text.iter().map(|byte| byte.is_ascii_digit().then(|| u64::from(byte - b'0'))).collect()
}

/// The number that some digits write.
fn value(digits: &[u64]) -> u64 {
    digits.iter().fold(0, |value, digit| value * 10 + digit)
}

/// Digits times weights, summed; digits beyond the weights do not count.
fn weighed(digits: &[u64], weights: &[u64]) -> u64 {
    digits.iter().zip(weights).map(|(digit, weight)| digit * weight).sum()
}

/// Luhn's rule, the check digit last.
fn luhn(digits: &[u64]) -> bool {
    let each = |(place, digit): (usize, &u64)| if place % 2 == 0 { *digit } else { digit * 2 / 10 + digit * 2 % 10 };
    digits.iter().rev().enumerate().map(each).sum::<u64>().is_multiple_of(10)
}

/// ISO 7064, Mod 11,10.
fn mod_11_10(digits: &[u64]) -> bool {
    let step = |check: u64, digit: &u64| (if check == 0 { 10 } else { check }) * 2 % 11 + digit;
    digits.iter().fold(5, |check, digit| step(check, digit) % 10) == 1
}

fn austria(text: &[u8]) -> Option<bool> {
    let Some((b'U', rest)) = text.split_first() else { return None };
    let n = digits(rest)?;
    if n.len() != 8 {
        return None;
    }
    let each = |(place, digit): (usize, &u64)| if place % 2 == 0 { *digit } else { digit * 2 / 10 + digit * 2 % 10 };
    let sum: u64 = n[..7].iter().enumerate().map(each).sum();
    Some((10 - (sum + 4) % 10) % 10 == n[7])
}

fn bulgarian_company(n: &[u64]) -> bool {
    let first = weighed(n, &[1, 2, 3, 4, 5, 6, 7, 8]) % 11;
    let check = if first == 10 { weighed(n, &[3, 4, 5, 6, 7, 8, 9, 10]) % 11 } else { first };
    check % 10 == n[8]
}

/// A Bulgarian's own number, a foreigner's, or another natural person's.
fn bulgarian_person(n: &[u64]) -> bool {
    let citizen = weighed(n, &[2, 4, 8, 5, 10, 9, 7, 3, 6]) % 11 % 10;
    let foreigner = weighed(n, &[21, 19, 17, 13, 11, 9, 7, 3, 1]) % 10;
    let other = (11 - weighed(n, &[4, 3, 2, 7, 6, 5, 4, 3, 2]) % 11) % 11;
    [citizen, foreigner, other].contains(&n[9])
}

fn cyprus(text: &[u8]) -> Option<bool> {
    const ODD: [u64; 10] = [1, 0, 5, 7, 9, 13, 15, 17, 19, 21];
    let (letter, rest) = text.split_last()?;
    let n = digits(rest)?;
    if n.len() != 8 || value(&n[..2]) == 12 {
        return None;
    }
    let each = |(place, digit): (usize, &u64)| {
        if place % 2 == 0 { ODD.get(usize::try_from(*digit).unwrap_or(0)).copied().unwrap_or(0) } else { *digit }
    };
    let sum: u64 = n.iter().enumerate().map(each).sum();
    Some(u64::from(*letter) == u64::from(b'A') + sum % 26)
}

fn czechia(n: &[u64]) -> bool {
    match n.len() {
        8 => {
            let check = (11 - weighed(n, &[8, 7, 6, 5, 4, 3, 2]) % 11) % 11;
            n[0] != 9 && (if check == 0 { 1 } else { check }) % 10 == n[7]
        }
        9 if n[0] == 6 => {
            let check = weighed(&n[1..], &[8, 7, 6, 5, 4, 3, 2]) % 11;
            (18 - (21 - check) % 11) % 10 == n[8]
        }
        // Numbers of persons of before 1954 have no check digit.
        9 => true,
        _ => value(&n[..9]) % 11 % 10 == n[9],
    }
}

fn spain(text: &[u8]) -> Option<bool> {
    const LETTERS: &[u8; 23] = b"TRWAGMYFPDXBNJZSQVHLCKE";
    let (first, rest) = text.split_first()?;
    let (last, middle) = rest.split_last()?;
    let n = digits(middle)?;
    if n.len() != 7 {
        return None;
    }
    let letter_of = |number: u64| LETTERS.get(usize::try_from(number % 23).unwrap_or(0));
    match first {
        b'0'..=b'9' => Some(letter_of(u64::from(first - b'0') * 10_000_000 + value(&n)) == Some(last)),
        b'X' | b'Y' | b'Z' => Some(letter_of(u64::from(first - b'X') * 10_000_000 + value(&n)) == Some(last)),
        b'K' | b'L' | b'M' => Some(letter_of(value(&n)) == Some(last)),
        _ if b"ABCDEFGHJNPQRSUVW".contains(first) => {
            // Companies: Luhn, written as a digit or as one of ten letters.
            let digit = (0..10).find(|digit| luhn(&[&n[..], &[*digit]].concat()))?;
            let letter = b"JABCDEFGHI".get(usize::try_from(digit).ok()?)?;
            Some(u64::from(*last) == u64::from(b'0') + digit || last == letter)
        }
        _ => None,
    }
}

fn france(text: &[u8]) -> Option<bool> {
    const ALPHABET: &[u8; 34] = b"0123456789ABCDEFGHJKLMNPQRSTUVWXYZ";
    if text.len() != 11 {
        return None;
    }
    let place = |byte: u8| ALPHABET.iter().position(|letter| *letter == byte).and_then(|at| u64::try_from(at).ok());
    let (first, second) = (place(text[0])?, place(text[1])?);
    let n = digits(&text[2..])?;
    let siren = value(&n);
    // Monaco's numbers are in no French register.
    let in_register = n[..3] == [0, 0, 0] || luhn(&n);
    let key = match (text[0].is_ascii_digit(), text[1].is_ascii_digit()) {
        (true, true) => (siren * 100 + 12) % 97 == first * 10 + second,
        (begins, _) => {
            let check = if begins { first * 24 + second - 10 } else { (first * 34 + second).checked_sub(100)? };
            (siren + 1 + check / 11) % 11 == check % 11
        }
    };
    Some(in_register && key)
}

fn ireland(text: &[u8]) -> Option<bool> {
    const LETTERS: &[u8; 23] = b"WABCDEFGHIJKLMNOPQRSTUV";
    let place = |byte: u8| LETTERS.iter().position(|letter| *letter == byte).and_then(|at| u64::try_from(at).ok());
    if !matches!(text.len(), 8 | 9) {
        return None;
    }
    let check = text[7];
    let (n, more) = if let Some(n) = digits(&text[..7]) {
        (n, text.get(8).map_or(Some(0), |byte| place(*byte))?)
    } else {
        // The form of before 2013: a letter or sign in second place, which does not count.
        let old = text.len() == 8 && (text[1].is_ascii_uppercase() || matches!(text[1], b'+' | b'*'));
        let rest = digits(&text[2..7]).filter(|_| old)?;
        let first = digits(&text[..1])?;
        ([&[0], &rest[..], &first[..]].concat(), 0)
    };
    let sum = weighed(&n, &[8, 7, 6, 5, 4, 3, 2]) + 9 * more;
    Some(LETTERS.get(usize::try_from(sum % 23).ok()?) == Some(&check))
}

fn italy(n: &[u64]) -> bool {
    let office = value(&n[7..10]);
    value(&n[..7]) != 0 && matches!(office, 1..=100 | 120 | 121 | 888 | 999) && luhn(n)
}

fn lithuania(n: &[u64]) -> bool {
    let body = &n[..n.len() - 1];
    let round = |begin: usize| -> u64 {
        let weight = |place: usize| u64::try_from(1 + (place + begin) % 9).unwrap_or(0);
        body.iter().enumerate().map(|(place, digit)| digit * weight(place)).sum::<u64>() % 11
    };
    let first = round(0);
    (if first == 10 { round(2) } else { first }) % 10 == n[n.len() - 1]
}

fn latvia(n: &[u64]) -> bool {
    if n[0] > 3 {
        return weighed(n, &[9, 1, 4, 8, 3, 10, 2, 5, 7, 6, 1]) % 11 == 3;
    }
    (1 + weighed(n, &[10, 5, 8, 4, 2, 1, 6, 3, 7, 9])) % 11 % 10 == n[10]
}

fn netherlands(text: &[u8]) -> Option<bool> {
    if text.len() != 12 || text[9] != b'B' {
        return None;
    }
    let (n, branch) = (digits(&text[..9])?, digits(&text[10..])?);
    let sum = i64::try_from(weighed(&n, &[9, 8, 7, 6, 5, 4, 3, 2])).ok()? - i64::try_from(n[8]).ok()?;
    // Since 2020: ISO 7064, Mod 97-10, over `NL`, the digits, `B` and the branch (N is 23, L is 21, B is 11).
    let whole = [&[2, 3, 2, 1][..], &n, &[1, 1], &branch].concat();
    let rest = whole.iter().fold(0, |rest, digit| (rest * 10 + digit) % 97);
    Some(value(&n) != 0 && value(&branch) != 0 && (sum.rem_euclid(11) == 0 || rest == 1))
}

fn romania(n: &[u64]) -> bool {
    let (body, check) = n.split_at(n.len() - 1);
    let weights = [7, 5, 3, 2, 1, 7, 5, 3, 2];
    10 * weighed(body, &weights[weights.len() - body.len()..]) % 11 % 10 == check[0]
}

fn slovenia(n: &[u64]) -> bool {
    match 11 - weighed(n, &[8, 7, 6, 5, 4, 3, 2]) % 11 {
        10 => n[7] == 0,
        check => check == n[7],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that companies print on their own pages, and each with its last digit or letter changed.
    #[test]
    fn known_numbers_fit_and_a_changed_sign_is_seen() {
        for text in [
            "ATU13585627",
            "BE0428759497",
            "BG175074752",
            "CY10259033P",
            "CZ25123891",
            "DE136695976",
            "DK13585628",
            "EE100931558",
            "EL094259216",
            "ES54362315K",
            "FI20774740",
            "FR40303265045",
            "HR33392005961",
            "HU12892312",
            "IE6433435F",
            "IT00743110157",
            "LT119511515",
            "LU15027442",
            "LV40003521600",
            "MT11679112",
            "NL004495445B01",
            "PL8567346215",
            "PT501964843",
            "RO18547290",
            "SE123456789701",
            "SI50223054",
            "SK2022749619",
        ] {
            let country = if text.starts_with("EL") { "GR" } else { &text[..2] }.parse().unwrap();
            assert_eq!(id(text, country).as_deref(), Ok(text));
            let spaced = format!("{} {}", &text[..2].to_lowercase(), &text[2..]);
            assert_eq!(id(&spaced, country).as_deref(), Ok(text));
            // The last sign is checked, but for the Dutch branch number behind the `B`.
            let at = text.find('B').filter(|_| country.as_str() == "NL").unwrap_or(text.len()) - 1;
            let mut wrong = text.to_owned();
            let other = match &text[at..=at] {
                "9" => "8",
                sign if sign.as_bytes()[0].is_ascii_digit() => "9",
                _ => "X",
            };
            wrong.replace_range(at..=at, other);
            assert_eq!(id(&wrong, country), Err(VatIdError::Digits(country)), "{wrong}");
            assert!(id(&text[2..], country).is_err());
        }
    }

    #[test]
    fn nothing_that_is_typed_breaks_it() {
        for country in crate::residency::EU {
            let law = country.parse().unwrap();
            for text in ["", "é", "0", "00000000000000000000000000000000", "A1B2C3D4E5F6", "+*+*+*+*", "ZZZZZZZZZZZ"] {
                let prefix = if country == "GR" { "EL" } else { country };
                assert!(id(&format!("{prefix}{text}"), law).is_err(), "{country}{text}");
            }
        }
    }
}
