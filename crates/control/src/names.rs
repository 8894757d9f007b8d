//! What names may look like. Checked here, at the edge; stored as given.

use crate::{Error, Result};

/// Checks a label: 1 to 63 of `a-z`, `0-9`, `-`, beginning with a letter. Labels become host names and paths.
pub(crate) fn label(field: &str, text: &str) -> Result<()> {
    shaped(field, text, "-", "1 to 63 of `a-z`, `0-9`, `-`")
}

/// Checks a file-like label, which may also have dots: datasets are called after files.
pub(crate) fn file_label(field: &str, text: &str) -> Result<()> {
    shaped(field, text, "-.", "1 to 63 of `a-z`, `0-9`, `-`, `.`")
}

fn shaped(field: &str, text: &str, extra: &str, expected: &str) -> Result<()> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || extra.contains(c);
    let begins = text.chars().next().is_some_and(|c| c.is_ascii_lowercase());
    if begins && text.len() <= 63 && text.chars().all(fits) {
        return Ok(());
    }
    Err(Error::invalid(format!("`{field}` is not usable: expected {expected}, beginning with a letter")))
}

/// Checks a title for people: 1 to 80 characters, no control characters, no blanks at the ends.
pub(crate) fn title(field: &str, text: &str) -> Result<()> {
    words(field, text, 80)
}

/// Checks words for people: 1 to `max` characters, no control characters, no blanks at the ends.
pub(crate) fn words(field: &str, text: &str, max: usize) -> Result<()> {
    let count = text.chars().count();
    if (1..=max).contains(&count) && text.trim() == text && !text.chars().any(|c| c.is_control() || turns_text(c)) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "`{field}` is not usable: expected 1 to {max} characters, no control characters and no blanks at its ends"
    )))
}

/// Whether a character turns the direction of what follows it: a name with one reads otherwise than it is.
const fn turns_text(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Checks a list of short texts (certifications, operators): at most 64, each a title.
pub(crate) fn titles(field: &str, texts: &[String]) -> Result<()> {
    if texts.len() > 64 {
        return Err(Error::invalid(format!("`{field}` has more than 64 items")));
    }
    texts.iter().try_for_each(|text| title(field, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_begin_with_a_letter_and_keep_to_their_alphabet() {
        for good in ["a", "train-1", &"a".repeat(63)] {
            assert!(label("name", good).is_ok(), "{good}");
        }
        for bad in ["", "1a", "-a", "A", "a_b", "a.b", "a b", "é", &"a".repeat(64)] {
            assert!(label("name", bad).is_err(), "{bad}");
        }
        assert!(file_label("name", "facts.jsonl").is_ok());
        assert!(file_label("name", ".hidden").is_err());
    }

    #[test]
    fn titles_are_short_and_hold_no_control_characters() {
        assert!(title("name", "Ville de Lyon").is_ok());
        assert!(title("name", &"é".repeat(80)).is_ok());
        for bad in ["", " a", "a ", "a\nb", &"a".repeat(81)] {
            assert!(title("name", bad).is_err(), "{bad:?}");
        }
    }
}
