//! Sign-ins that last: a family of refresh credentials of which only the newest works, and the short key it stands behind.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    id::{KeyId, OrganisationId, PersonId, SessionId},
    time::Time,
};

/// How long a console sign-in's key works, in seconds: a working day.
pub const CONSOLE_KEY_S: u32 = 8 * 3600;
/// How long a command line's key works, in seconds.
pub const CLI_KEY_S: u32 = 15 * 60;
/// How long a family works without being used, in seconds: a week.
pub const SESSION_IDLE_S: u32 = 7 * 24 * 3600;
/// How long a family works at most, in seconds: 30 days.
pub const SESSION_S_MAX: u32 = 30 * 24 * 3600;
/// What a refresh credential begins with, so that scanners find leaked ones.
pub const REFRESH_PREFIX: &str = "gr_";

/// A family of refresh credentials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// Who signed in.
    pub person: PersonId,
    /// For which organisation.
    pub organisation: OrganisationId,
    /// SHA-256 of the half that all of the family share, hex: whoever sends it once held a true one.
    pub family: String,
    /// SHA-256 of the half that only the newest has, hex.
    pub newest: String,
    /// The key that goes with the newest.
    pub key: KeyId,
    /// When somebody signed in.
    pub created_at: Time,
    /// When it was used last.
    pub used_at: Time,
    /// When it ended: signed out, revoked, or replayed.
    pub ended_at: Option<Time>,
    /// Grows by one with every change.
    pub version: u64,
}

/// What a refresh credential is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refresh {
    /// The newest of a living family.
    Good,
    /// The family has ended, or was idle for too long.
    Over,
    /// An older one of a living family: somebody has a copy. The family ends.
    Replayed,
}

impl Session {
    /// Whether it lasts at this time.
    pub fn lives_at(&self, now: Time) -> bool {
        let idle = now < self.used_at.plus_seconds(i64::from(SESSION_IDLE_S));
        let young = now < self.created_at.plus_seconds(i64::from(SESSION_S_MAX));
        self.ended_at.is_none() && idle && young
    }

    /// What a credential of this family is worth, by the digest of its second half.
    pub fn refresh(&self, half: &str, now: Time) -> Refresh {
        if !self.lives_at(now) {
            return Refresh::Over;
        }
        if self.newest == half { Refresh::Good } else { Refresh::Replayed }
    }
}

/// Shapes two times 32 bytes of entropy into a refresh credential.
pub fn refresh_from(family: &[u8; 32], half: &[u8; 32]) -> String {
    format!("{REFRESH_PREFIX}{}{}", hex::encode(family), hex::encode(half))
}

/// The digests of a refresh credential's two halves, hex; none if it has not the form of one.
pub fn refresh_digests(text: &str) -> Option<(String, String)> {
    let body = text.strip_prefix(REFRESH_PREFIX)?;
    let is_one = body.len() == 128 && body.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    let (family, half) = is_one.then(|| body.split_at(64))?;
    Some((hex::encode(Sha256::digest(family)), hex::encode(Sha256::digest(half))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Session {
        Session {
            id: SessionId::from_u128(1),
            person: PersonId::from_u128(1),
            organisation: OrganisationId::from_u128(1),
            family: "f".into(),
            newest: "n".into(),
            key: KeyId::from_u128(1),
            created_at: Time::from_millis(0),
            used_at: Time::from_millis(0),
            ended_at: None,
            version: 1,
        }
    }

    #[test]
    fn only_the_newest_is_good_and_an_older_one_is_a_replay_while_the_family_lives() {
        let at = |seconds: u32| Time::from_millis(0).plus_seconds(i64::from(seconds));
        let family = session();
        assert_eq!(family.refresh("n", at(1)), Refresh::Good);
        assert_eq!(family.refresh("old", at(1)), Refresh::Replayed);
        assert_eq!(family.refresh("n", at(SESSION_IDLE_S)), Refresh::Over);
        let used = Session { used_at: at(SESSION_S_MAX - 5), ..family.clone() };
        assert_eq!(used.refresh("n", at(SESSION_S_MAX - 1)), Refresh::Good);
        assert_eq!(used.refresh("n", at(SESSION_S_MAX)), Refresh::Over);
        let ended = Session { ended_at: Some(at(1)), ..family };
        assert_eq!((ended.refresh("n", at(2)), ended.refresh("old", at(2))), (Refresh::Over, Refresh::Over));
    }

    #[test]
    fn a_refresh_credential_has_two_halves_and_one_form() {
        let text = refresh_from(&[1; 32], &[2; 32]);
        let (family, half) = refresh_digests(&text).unwrap();
        assert_eq!(refresh_digests(&refresh_from(&[1; 32], &[3; 32])).unwrap().0, family);
        assert_ne!(family, half);
        for wrong in ["", "gr_", "gk_00", &text[..100], &text.to_uppercase(), &format!("{text}0")] {
            assert_eq!(refresh_digests(wrong), None, "{wrong}");
        }
    }
}
