//! What waits in memory for somebody to come back, each for a while: so many in all, and so many from one place. Where all places
//! are taken, the oldest of whoever has most gives way, so that a flood from one place pushes out nobody but itself.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
    net::IpAddr,
    time::{Duration, Instant},
};

use gregal_core::network::Network;

/// Bounds of a crowd.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// The most in all.
    pub(crate) all: usize,
    /// The most from one place.
    pub(crate) each: usize,
    /// How long one waits.
    pub(crate) wait: Duration,
}

#[derive(Debug)]
struct One<T> {
    from: Option<Network>,
    since: Instant,
    what: T,
}

/// Those that wait.
#[derive(Debug)]
pub(crate) struct Crowd<K, T> {
    bounds: Bounds,
    waiting: HashMap<K, One<T>>,
}

impl<K: Eq + Hash + Copy, T> Crowd<K, T> {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self { bounds, waiting: HashMap::new() }
    }

    /// Lets one wait.
    pub(crate) fn begin(&mut self, key: K, from: Option<IpAddr>, what: T, now: Instant) {
        let from = from.map(Network::around);
        let wait = self.bounds.wait;
        self.waiting.retain(|_, one| now.saturating_duration_since(one.since) < wait);
        while self.waiting.values().filter(|one| one.from == from).count() >= self.bounds.each {
            self.drop_oldest(from);
        }
        while self.waiting.len() >= self.bounds.all {
            let mut counts: BTreeMap<Option<Network>, usize> = BTreeMap::new();
            for one in self.waiting.values() {
                *counts.entry(one.from).or_default() += 1;
            }
            let Some((most, _)) = counts.into_iter().max_by_key(|(_, count)| *count) else { break };
            self.drop_oldest(most);
        }
        self.waiting.insert(key, One { from, since: now, what });
    }

    /// Takes one out, if it still waits.
    pub(crate) fn take(&mut self, key: &K, now: Instant) -> Option<T> {
        let one = self.waiting.remove(key)?;
        (now.saturating_duration_since(one.since) < self.bounds.wait).then_some(one.what)
    }

    fn drop_oldest(&mut self, from: Option<Network>) {
        let theirs = self.waiting.iter().filter(|(_, one)| one.from == from);
        let oldest = theirs.min_by_key(|(_, one)| one.since).map(|(key, _)| *key);
        if let Some(key) = oldest {
            self.waiting.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { all: 10, each: 4, wait: Duration::from_mins(1) };

    fn place(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn a_flood_from_one_place_pushes_out_nobody_but_itself() {
        let (mut crowd, start) = (Crowd::new(BOUNDS), Instant::now());
        crowd.begin(0, Some(place(1)), "mine", start);
        for number in 1..100 {
            crowd.begin(number, Some(place(2)), "theirs", start + Duration::from_secs(1));
        }
        assert_eq!(crowd.waiting.len(), 5);
        assert_eq!(crowd.take(&0, start), Some("mine"));
        assert_eq!(crowd.take(&0, start), None, "once");
    }

    #[test]
    fn where_all_places_are_taken_whoever_has_most_gives_way() {
        let (mut crowd, start) = (Crowd::new(BOUNDS), Instant::now());
        crowd.begin(0, Some(place(1)), "mine", start);
        for number in 1..100 {
            crowd.begin(number, Some(place(2 + u8::try_from(number % 3).unwrap())), "theirs", start);
        }
        assert_eq!(crowd.waiting.len(), BOUNDS.all);
        assert_eq!(crowd.take(&0, start), Some("mine"));
    }

    #[test]
    fn nothing_waits_for_ever() {
        let (mut crowd, start) = (Crowd::new(BOUNDS), Instant::now());
        crowd.begin(0, None, (), start);
        assert_eq!(crowd.take(&0, start + BOUNDS.wait), None);
    }
}
