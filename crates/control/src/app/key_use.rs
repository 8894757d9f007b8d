//! When keys were used last. A request notes it in memory; the expiring task writes it down, at most once a minute. So it
//! costs no write on a request's way, and what is shown is late by a minute and a pass; what a plane noted and had not written
//! when it fell is lost.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use gregal_api::{key::KeyView, protocol::KeyUsed};
use gregal_core::{id::KeyId, key::Key, time::Time};

use crate::{Control, Cx, Result};

/// The least time between two writes.
const REST: Duration = Duration::from_mins(1);
/// The most keys that are remembered between two writes; beyond, new ones wait for the next turn.
const KEYS_MAX: usize = 100_000;
/// A minute, in milliseconds: times are told no finer.
const MINUTE_MS: i64 = 60_000;

/// Uses that are not written yet.
#[derive(Debug, Default)]
pub(crate) struct KeyUses(Mutex<Noted>);

#[derive(Debug, Default)]
struct Noted {
    uses: BTreeMap<KeyId, Time>,
    written_at: Option<Instant>,
}

impl KeyUses {
    /// Notes that a key was used.
    pub(crate) fn note(&self, key: KeyId, at: Time) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = noted.uses.len() >= KEYS_MAX;
        match noted.uses.get_mut(&key) {
            Some(before) => *before = at.max(*before),
            None if is_full => {}
            None => {
                noted.uses.insert(key, at);
            }
        }
    }

    /// What is to be written now; nothing so soon after the last time.
    fn take(&self, now: Instant) -> BTreeMap<KeyId, Time> {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_soon = noted.written_at.is_some_and(|at| now.saturating_duration_since(at) < REST);
        if is_soon || noted.uses.is_empty() {
            return BTreeMap::new();
        }
        noted.written_at = Some(now);
        std::mem::take(&mut noted.uses)
    }
}

/// A time to the minute.
fn to_the_minute(at: Time) -> Time {
    Time::from_millis(at.as_millis().div_euclid(MINUTE_MS) * MINUTE_MS)
}

impl Control {
    /// Writes down when keys were used, if it is time to.
    pub(crate) async fn key_uses_write(&self) -> Result<()> {
        let uses = self.key_uses().take(self.world().steady());
        if uses.is_empty() {
            return Ok(());
        }
        let uses = uses.into_iter().map(|(key, at)| (key, to_the_minute(at))).collect();
        let tx = self.store().begin_upkeep().await?;
        tx.key_uses_put(&uses).await?;
        Ok(tx.commit_observation().await?)
    }

    /// Notes what a site saw of keys. A site may be wrong about when, and not about keys that nobody has.
    pub(crate) async fn keys_used_observed(&self, cx: &Cx, used: &[KeyUsed]) -> Result<()> {
        for KeyUsed { key, at } in used {
            if self.store().key_get(*key).await?.is_some_and(|key| key.works_at(*at) && key.created_at <= cx.now) {
                self.key_uses().note(*key, cx.now.min(*at));
            }
        }
        Ok(())
    }

    /// Keys as they are shown, with their last use.
    pub(crate) async fn key_views(&self, keys: &[Key]) -> Result<Vec<KeyView>> {
        let ids: Vec<KeyId> = keys.iter().map(|key| key.id).collect();
        let used = self.store().key_uses(&ids).await?;
        let view = |key: &Key| KeyView { last_used_at: used.get(&key.id).copied(), ..key.into() };
        Ok(keys.iter().map(view).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_use_is_taken_once_a_minute() {
        let (uses, start) = (KeyUses::default(), Instant::now());
        let (one, two) = (KeyId::from_u128(1), KeyId::from_u128(2));
        uses.note(one, Time::from_millis(2));
        uses.note(one, Time::from_millis(1));
        assert_eq!(uses.take(start), [(one, Time::from_millis(2))].into());
        uses.note(two, Time::from_millis(3));
        assert!(uses.take(start + Duration::from_secs(59)).is_empty(), "too soon");
        assert_eq!(uses.take(start + Duration::from_mins(1)), [(two, Time::from_millis(3))].into());
        assert!(uses.take(start + Duration::from_secs(999)).is_empty(), "nothing new");
    }

    #[test]
    fn no_more_than_so_many_are_remembered_and_those_go_on() {
        let uses = KeyUses::default();
        for number in 0..=KEYS_MAX as u128 {
            uses.note(KeyId::from_u128(number), Time::from_millis(1));
        }
        uses.note(KeyId::from_u128(0), Time::from_millis(5));
        let taken = uses.take(Instant::now());
        assert_eq!((taken.len(), taken[&KeyId::from_u128(0)]), (KEYS_MAX, Time::from_millis(5)));
    }
}
