//! Which keys were used here, for control to hear with the next sync: to the minute, and once a minute a key. What a site noted
//! and had not told when it stopped is lost.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use gregal_api::protocol::{KEYS_USED_MAX, KeyUsed};
use gregal_core::{id::KeyId, time::Time};

/// The most keys that are remembered; beyond, all are told anew.
const KEYS_MAX: usize = 20_000;
const MINUTE_MS: i64 = 60_000;

/// Uses of keys.
#[derive(Debug, Default)]
pub(crate) struct KeyUses(Mutex<Noted>);

#[derive(Debug, Default)]
struct Noted {
    waiting: BTreeMap<KeyId, Time>,
    /// The last minute that control heard of each.
    told: BTreeMap<KeyId, Time>,
}

impl KeyUses {
    /// Notes that a key was used.
    pub(crate) fn note(&self, key: KeyId, at: Time) {
        let minute = Time::from_millis(at.as_millis().div_euclid(MINUTE_MS) * MINUTE_MS);
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.told.get(&key) != Some(&minute) && (noted.waiting.len() < KEYS_MAX || noted.waiting.contains_key(&key))
        {
            noted.waiting.insert(key, minute);
        }
    }

    /// What control should hear next. It waits until control has heard it.
    pub(crate) fn waiting(&self) -> Vec<KeyUsed> {
        let noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        noted.waiting.iter().take(KEYS_USED_MAX).map(|(key, at)| KeyUsed { key: *key, at: *at }).collect()
    }

    /// Control has heard this.
    pub(crate) fn heard(&self, told: &[KeyUsed]) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.told.len() >= KEYS_MAX {
            noted.told.clear();
        }
        for KeyUsed { key, at } in told {
            if noted.waiting.get(key) == Some(at) {
                noted.waiting.remove(key);
            }
            noted.told.insert(*key, *at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_use_is_told_until_it_is_heard_and_once_a_minute() {
        let (uses, key) = (KeyUses::default(), KeyId::from_u128(1));
        let at = Time::from_millis;
        uses.note(key, at(61_000));
        let told = uses.waiting();
        assert_eq!(told, [KeyUsed { key, at: at(60_000) }]);
        assert_eq!(uses.waiting(), told, "not heard yet");
        // Used again in another minute while control was told of the first.
        uses.note(key, at(125_000));
        uses.heard(&told);
        assert_eq!(uses.waiting(), [KeyUsed { key, at: at(120_000) }]);
        uses.heard(&uses.waiting());
        uses.note(key, at(179_999));
        assert_eq!(uses.waiting(), [], "control has heard of this minute");
        uses.note(key, at(180_000));
        assert_eq!(uses.waiting().len(), 1);
    }
}
