//! Which denials were written down lately. Denials are audited, but whoever knocks a thousand times a second must not
//! fill the log: the same denial is written once a minute, and of one asker some few a minute, with the number of those
//! left out in between.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use gregal_core::time::Time;

/// The most different denials remembered; beyond, new ones are only counted until old ones are a minute old.
const DENIALS_MAX: usize = 4_096;
/// The most denials of one asker that are written in a minute: enough to see what he tries, too few to fill a log by.
const ASKER_MAX: u32 = 60;
/// How long the same denial is only counted, in milliseconds.
const QUIET_MS: i64 = 60_000;

#[derive(Debug, Default)]
pub(crate) struct Denials(Mutex<Said>);

#[derive(Debug, Default)]
struct Said {
    /// By asker and what he was denied.
    denials: HashMap<(String, String), Moment>,
    askers: HashMap<String, Minute>,
}

#[derive(Debug)]
struct Moment {
    at: Time,
    left_out: u64,
}

#[derive(Debug)]
struct Minute {
    since: Time,
    written: u32,
    left_out: u64,
}

impl Denials {
    /// Whether this denial of this asker should be written down now, and how many were left out before. None: only count it.
    pub(crate) fn admit(&self, asker: &str, denial: &str, now: Time) -> Option<u64> {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let said = &mut *said;
        let key = (asker.to_owned(), denial.to_owned());
        if let Some(known) = said.denials.get_mut(&key)
            && now.millis_since(known.at) < QUIET_MS
        {
            known.left_out += 1;
            return None;
        }
        forget(said, now);
        let left_out = said.denials.get(&key).map_or(0, |known| known.left_out);
        let minute = said.askers.entry(asker.to_owned()).or_insert(Minute { since: now, written: 0, left_out: 0 });
        if now.millis_since(minute.since) >= QUIET_MS {
            *minute = Minute { since: now, written: 0, left_out: minute.left_out };
        }
        if minute.written >= ASKER_MAX || said.denials.len() >= DENIALS_MAX {
            minute.left_out += 1;
            return None;
        }
        minute.written += 1;
        let left_out = left_out + std::mem::take(&mut minute.left_out);
        said.denials.insert(key, Moment { at: now, left_out: 0 });
        Some(left_out)
    }
}

/// Forgets what is over a minute old, where there is much of it. What was left out of what is forgotten is not told.
fn forget(said: &mut Said, now: Time) {
    if said.denials.len() >= DENIALS_MAX {
        said.denials.retain(|_, known| now.millis_since(known.at) < QUIET_MS);
    }
    if said.askers.len() >= DENIALS_MAX {
        said.askers.retain(|_, minute| now.millis_since(minute.since) < QUIET_MS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Time {
        Time::from_millis(0).plus_seconds(seconds)
    }

    #[test]
    fn the_same_denial_is_written_once_a_minute_and_says_how_many_were_left_out() {
        let denials = Denials::default();
        assert_eq!(denials.admit("key", "a", at(0)), Some(0));
        assert_eq!(denials.admit("key", "a", at(1)), None);
        assert_eq!(denials.admit("key", "b", at(1)), Some(0));
        assert_eq!(denials.admit("key", "a", at(59)), None);
        assert_eq!(denials.admit("key", "a", at(60)), Some(2));
    }

    #[test]
    fn one_asker_writes_few_a_minute_and_takes_nobody_elses_place() {
        let denials = Denials::default();
        let written = (0..1_000).filter(|i| denials.admit("guesser", &i.to_string(), at(0)).is_some()).count();
        assert_eq!(written, ASKER_MAX as usize);
        assert_eq!(denials.admit("other", "a", at(1)), Some(0));
        assert_eq!(denials.admit("guesser", "later", at(60)), Some(1_000 - u64::from(ASKER_MAX)));
    }

    #[test]
    fn what_is_remembered_has_a_bound() {
        let denials = Denials::default();
        let written = (0..2 * DENIALS_MAX).filter(|i| denials.admit(&i.to_string(), "a", at(0)).is_some()).count();
        assert_eq!(written, DENIALS_MAX);
        assert_eq!(denials.admit("somebody", "a", at(61)), Some(0));
    }
}
