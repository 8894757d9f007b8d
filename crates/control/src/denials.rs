//! Which denials were written down lately. Denials are audited, but whoever knocks a thousand times a second must not
//! fill the log: the same denial is written once a minute, with the number of those left out in between.

use std::{collections::HashMap, sync::Mutex};

use gregal_core::time::Time;

/// The most different denials remembered; beyond, new ones are only counted until old ones are a minute old.
const DENIALS_MAX: usize = 4_096;
/// How long the same denial is only counted, in milliseconds.
const QUIET_MS: i64 = 60_000;

#[derive(Debug, Default)]
pub(crate) struct Denials(Mutex<HashMap<String, Said>>);

#[derive(Debug)]
struct Said {
    at: Time,
    left_out: u64,
}

impl Denials {
    /// Whether this denial should be written down now, and how many like it were left out before. None: only count it.
    pub(crate) fn admit(&self, denial: &str, now: Time) -> Option<u64> {
        let mut said = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(known) = said.get_mut(denial) {
            if now.millis_since(known.at) < QUIET_MS {
                known.left_out += 1;
                return None;
            }
            let left_out = known.left_out;
            *known = Said { at: now, left_out: 0 };
            return Some(left_out);
        }
        if said.len() >= DENIALS_MAX {
            said.retain(|_, known| now.millis_since(known.at) < QUIET_MS);
            if said.len() >= DENIALS_MAX {
                return None;
            }
        }
        said.insert(denial.to_owned(), Said { at: now, left_out: 0 });
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_denial_is_written_once_a_minute_and_says_how_many_were_left_out() {
        let denials = Denials::default();
        let at = |seconds: i64| Time::from_millis(0).plus_seconds(seconds);
        assert_eq!(denials.admit("a", at(0)), Some(0));
        assert_eq!(denials.admit("a", at(1)), None);
        assert_eq!(denials.admit("b", at(1)), Some(0));
        assert_eq!(denials.admit("a", at(59)), None);
        assert_eq!(denials.admit("a", at(60)), Some(2));
    }

    #[test]
    fn what_is_remembered_has_a_bound() {
        let denials = Denials::default();
        let now = Time::from_millis(0);
        let written = (0..2 * DENIALS_MAX).filter(|i| denials.admit(&i.to_string(), now).is_some()).count();
        assert_eq!(written, DENIALS_MAX);
        assert_eq!(denials.admit("later", now.plus_seconds(61)), Some(0));
    }
}
