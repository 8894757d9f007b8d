//! Spells tokens as they come: never half a character, never a part of a stop string.

use tokenizers::Tokenizer;

/// A character is at most four bytes, so after this many tokens what is still broken stays broken.
const UNFINISHED_TOKENS_MAX: usize = 8;

/// Turns one generation's ids into text, piece by piece.
#[derive(Debug, Default)]
pub struct Writer {
    /// The last ids: what is spelled already, for context, and what is not yet.
    ids: Vec<u32>,
    /// How many of `ids` are spelled already.
    spelled: usize,
}

impl Writer {
    /// The text that `id` completes; empty while a character is unfinished.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> Result<String, tokenizers::Error> {
        self.ids.push(id);
        let before = tokenizer.decode(&self.ids[..self.spelled], true)?;
        let after = tokenizer.decode(&self.ids, true)?;
        let unfinished = after.ends_with(char::REPLACEMENT_CHARACTER);
        if unfinished && self.ids.len() - self.spelled < UNFINISHED_TOKENS_MAX {
            return Ok(String::new());
        }
        Ok(self.spell(&before, &after))
    }

    /// What is left when the generation ends: an unfinished character becomes its replacement.
    pub fn finish(&mut self, tokenizer: &Tokenizer) -> Result<String, tokenizers::Error> {
        let before = tokenizer.decode(&self.ids[..self.spelled], true)?;
        let after = tokenizer.decode(&self.ids, true)?;
        Ok(self.spell(&before, &after))
    }

    fn spell(&mut self, before: &str, after: &str) -> String {
        // A decoder may treat the first token specially (leading spaces), so the last spelled ones stay as context.
        // Broken text, shown at last, may yet turn out otherwise: then what is new begins where the two part.
        let same = before.chars().zip(after.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum();
        let text = after[same..].to_owned();
        self.ids.drain(..self.spelled);
        self.spelled = self.ids.len();
        text
    }
}

/// Watches text for stop strings, across the borders of pieces.
#[derive(Debug)]
pub struct Stops {
    stops: Vec<String>,
    /// Text that may be the beginning of a stop string.
    held: String,
}

impl Stops {
    /// Watches for these; empty ones are ignored.
    pub fn new(stops: Vec<String>) -> Self {
        Self { stops: stops.into_iter().filter(|stop| !stop.is_empty()).collect(), held: String::new() }
    }

    /// The text that may be shown now, and whether a stop string was found. After it was, nothing more is shown.
    pub fn push(&mut self, text: &str) -> (String, bool) {
        self.held.push_str(text);
        let found = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min();
        if let Some(at) = found {
            self.held.truncate(at);
            return (std::mem::take(&mut self.held), true);
        }
        let keep = self.stops.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        (std::mem::replace(&mut self.held, rest), false)
    }

    /// What was held back, when the text ends without a stop.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// Bytes at the end of `text` that begin `stop`.
fn overlap(text: &str, stop: &str) -> usize {
    let mut ends = stop.char_indices().map(|(at, _)| at).skip(1).collect::<Vec<_>>();
    ends.reverse();
    ends.into_iter().find(|at| text.ends_with(&stop[..*at])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use tokenizers::models::bpe::{BPE, Vocab};
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;

    use super::*;

    fn bytes_tokenizer() -> Tokenizer {
        let mut letters: Vec<char> = ByteLevel::alphabet().into_iter().collect();
        letters.sort_unstable();
        let vocab = letters.iter().zip(0..).map(|(letter, id)| (letter.to_string(), id)).collect::<Vocab>();
        let mut tokenizer = Tokenizer::new(BPE::builder().vocab_and_merges(vocab, Vec::new()).build().unwrap());
        tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
        tokenizer.with_decoder(Some(ByteLevel::new(false, true, true)));
        tokenizer
    }

    #[test]
    fn half_a_character_is_never_shown() {
        let tokenizer = bytes_tokenizer();
        let ids = tokenizer.encode("a é€😀 b", false).unwrap().get_ids().to_vec();
        assert_eq!(ids.len(), 13, "one token a byte");
        let mut writer = Writer::default();
        let pieces: Vec<_> = ids.iter().map(|id| writer.push(&tokenizer, *id).unwrap()).collect();
        assert_eq!(pieces, ["a", " ", "", "é", "", "", "€", "", "", "", "😀", " ", "b"]);
        assert_eq!(writer.finish(&tokenizer).unwrap(), "");
    }

    #[test]
    fn what_stays_broken_is_shown_as_broken() {
        let tokenizer = bytes_tokenizer();
        let euro = tokenizer.encode("€", false).unwrap().get_ids().to_vec();
        let mut writer = Writer::default();
        let mut text = String::new();
        for id in [euro[0], euro[1]].iter().chain(&euro) {
            text += &writer.push(&tokenizer, *id).unwrap();
        }
        assert_eq!(text, "\u{fffd}€");
        for _ in 0..20 {
            text += &writer.push(&tokenizer, euro[1]).unwrap();
        }
        assert!(text.len() > 20, "text that never mends is not held for ever");
        assert_eq!(
            writer.push(&tokenizer, euro[0]).unwrap() + &writer.finish(&tokenizer).unwrap(),
            "\u{fffd}".repeat(5)
        );
    }

    fn watch(stops: &[&str], pieces: &[&str]) -> (Vec<String>, bool) {
        let mut watch = Stops::new(stops.iter().map(ToString::to_string).collect());
        let mut shown = Vec::new();
        for piece in pieces {
            let (text, found) = watch.push(piece);
            shown.push(text);
            if found {
                return (shown, true);
            }
        }
        shown.push(watch.finish());
        (shown, false)
    }

    #[test]
    fn a_stop_string_across_pieces_is_never_shown_in_part() {
        assert_eq!(
            watch(&["END"], &["one E", "N", "D two"]),
            (vec!["one ".into(), String::new(), String::new()], true)
        );
    }

    #[test]
    fn what_only_began_like_a_stop_is_shown_in_the_end() {
        let (shown, found) = watch(&["END", "Éé"], &["an E", "NormOUS É", "", "N"]);
        assert_eq!(shown.concat(), "an ENormOUS ÉN");
        assert!(!found);
    }

    #[test]
    fn the_first_of_several_stops_wins() {
        assert_eq!(watch(&["b", "ab"], &["xxab"]), (vec!["xx".into()], true));
        assert_eq!(watch(&[""], &["text"]).0.concat(), "text");
    }
}
