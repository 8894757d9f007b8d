//! Wrong keys, counted by where they came from. Whoever sends too many is told to wait; a right key is always let in, so
//! that one guesser does not lock out the office whose address he shares. A secret has 256 bits of chance: guessing is
//! hopeless with and without this. What is bounded is how long somebody is answered as if trying again made sense.

use std::{collections::BTreeMap, net::IpAddr};

use crate::{network::Network, time::Time};

/// The most wrong keys from one place in a minute that are answered as wrong keys; more are told to wait.
pub const WRONG_MAX: u32 = 30;
/// How long wrong keys are counted together, in milliseconds.
const MINUTE_MS: i64 = 60_000;
/// The most places remembered at once.
const PLACES_MAX: usize = 4_096;

/// Where wrong keys came from in the last minute. Bounded: it remembers a few thousand places at most.
#[derive(Debug, Default)]
pub struct Attempts(BTreeMap<Network, Minute>);

#[derive(Debug, Clone, Copy)]
struct Minute {
    since: Time,
    wrong: u32,
}

impl Minute {
    const fn is_over(self, now: Time) -> bool {
        // A clock that was set back begins a new minute.
        !matches!(now.millis_since(self.since), 0..MINUTE_MS)
    }
}

impl Attempts {
    /// Counts a wrong key. Some: this place sent too many, and should wait this many seconds.
    pub fn wrong(&mut self, from: IpAddr, now: Time) -> Option<u32> {
        let place = Network::around(from);
        if !self.0.contains_key(&place) {
            self.make_room(now);
        }
        let minute = self.0.entry(place).or_insert(Minute { since: now, wrong: 0 });
        if minute.is_over(now) {
            *minute = Minute { since: now, wrong: 0 };
        }
        minute.wrong = minute.wrong.saturating_add(1);
        let left_ms = MINUTE_MS - now.millis_since(minute.since);
        (minute.wrong > WRONG_MAX).then(|| u32::try_from(left_ms / 1000).unwrap_or(0).max(1))
    }

    /// Forgets minutes that are over, and else whoever sent fewest: a flood of fresh places must not free a busy one.
    fn make_room(&mut self, now: Time) {
        if self.0.len() < PLACES_MAX {
            return;
        }
        self.0.retain(|_, minute| !minute.is_over(now));
        if self.0.len() < PLACES_MAX {
            return;
        }
        if let Some(fewest) = self.0.iter().min_by_key(|(_, minute)| (minute.wrong, minute.since)) {
            let fewest = *fewest.0;
            self.0.remove(&fewest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn too_many_wrong_keys_have_to_wait_until_their_minute_is_over() {
        let (mut attempts, from) = (Attempts::default(), address("192.0.2.7"));
        for second in 0..30 {
            assert_eq!(attempts.wrong(from, Time::from_millis(second * 1000)), None);
        }
        assert_eq!(attempts.wrong(from, Time::from_millis(40_000)), Some(20));
        assert_eq!(attempts.wrong(from, Time::from_millis(59_999)), Some(1));
        assert_eq!(attempts.wrong(address("192.0.2.8"), Time::from_millis(59_999)), None);
        assert_eq!(attempts.wrong(from, Time::from_millis(60_000)), None);
    }

    #[test]
    fn one_subscriber_is_one_place_however_many_addresses_he_has() {
        let mut attempts = Attempts::default();
        let mut told = None;
        for host in 0..=WRONG_MAX {
            told = attempts.wrong(address(&format!("2001:db8:0:1::{host:x}")), Time::from_millis(1));
        }
        assert_eq!(told, Some(60));
        assert_eq!(attempts.wrong(address("2001:db8:0:2::1"), Time::from_millis(1)), None);
        // An IPv4 address that came mapped is the IPv4 address it is.
        for _ in 0..WRONG_MAX {
            assert_eq!(attempts.wrong(address("::ffff:192.0.2.1"), Time::from_millis(1)), None);
        }
        assert!(attempts.wrong(address("192.0.2.1"), Time::from_millis(1)).is_some());
    }

    #[test]
    fn a_flood_of_places_takes_bounded_room_and_frees_nobody() {
        let (mut attempts, from) = (Attempts::default(), address("192.0.2.7"));
        for _ in 0..=WRONG_MAX {
            attempts.wrong(from, Time::from_millis(0));
        }
        for place in 0..10_000_u32 {
            attempts.wrong(IpAddr::V4((0x0a00_0000 + place).into()), Time::from_millis(1));
        }
        assert!(attempts.0.len() <= PLACES_MAX);
        assert!(attempts.wrong(from, Time::from_millis(2)).is_some());
    }
}
