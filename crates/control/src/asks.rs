//! Command lines that wait for a person's word: device codes (RFC 8628) and authorisation codes (RFC 6749, 4.1, with PKCE).
//! In memory only, minutes long, within bounds; a restart forgets them, and the command line asks again.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use gregal_core::{id::OrganisationId, key::digest_of, network::Network};
use sha2::{Digest as _, Sha256};

use crate::app::sign_in::Vouched;

/// How long a device code waits.
pub(crate) const DEVICE_MAX: Duration = Duration::from_mins(10);
/// Pause between two questions for a device code; asking sooner makes it longer by as much.
pub(crate) const INTERVAL: Duration = Duration::from_secs(5);
/// How long an authorisation code waits.
const CODE_MAX: Duration = Duration::from_mins(1);
/// The most that wait at once, of each kind. A new one is refused then: those that wait keep their place.
const WAITING_MAX: usize = 2_048;
/// The most devices that wait at once from one place: its next one is refused, and no other's is.
const EACH_MAX: usize = 32;
/// The most user codes that one person may mistype in ten minutes: of 20^8, that finds nothing.
const WRONG_MAX: u32 = 10;
/// What user codes are made of: no vowels, so no words; nothing that looks like something else.
const ALPHABET: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";

/// What a person has said to a device.
#[derive(Debug, Clone)]
enum Word {
    Waits,
    Granted(Vouched, OrganisationId),
    Refused,
}

#[derive(Debug)]
struct Device {
    user_code: String,
    /// What it says it is. A stranger's word.
    client: String,
    from: Option<Network>,
    begun_at: Instant,
    asked_at: Option<Instant>,
    interval: Duration,
    word: Word,
}

/// An authorisation code, and what it is bound to.
#[derive(Debug)]
struct Code {
    vouched: Vouched,
    organisation: OrganisationId,
    challenge: String,
    redirect: String,
    begun_at: Instant,
}

#[derive(Debug, Default)]
struct Waiting {
    devices: HashMap<String, Device>,
    codes: HashMap<String, Code>,
    /// How often each person mistyped, and since when.
    wrong: HashMap<String, (u32, Instant)>,
}

/// Everything that waits.
#[derive(Debug, Default)]
pub(crate) struct Asks(Mutex<Waiting>);

/// What a device is answered.
#[derive(Debug)]
pub(crate) enum Told {
    Granted(Vouched, OrganisationId),
    Waits,
    SlowDown,
    Refused,
    /// Unknown, used, or too old.
    Over,
}

/// What is shown of a device that waits.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) client: String,
    pub(crate) minutes_ago: u64,
}

impl Asks {
    fn held(&self, now: Instant) -> MutexGuard<'_, Waiting> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let age = |then: Instant| now.saturating_duration_since(then);
        waiting.devices.retain(|_, device| age(device.begun_at) < DEVICE_MAX);
        waiting.codes.retain(|_, code| age(code.begun_at) < CODE_MAX);
        waiting.wrong.retain(|_, (_, since)| age(*since) < DEVICE_MAX);
        waiting
    }

    /// Lets a device wait; none if too many do, at all or from the same place.
    pub(crate) fn device_begin(
        &self,
        device_code: &str,
        entropy: &[u8; 32],
        client: String,
        from: Option<IpAddr>,
        now: Instant,
    ) -> Option<String> {
        let mut waiting = self.held(now);
        let from = from.map(Network::around);
        let theirs = waiting.devices.values().filter(|device| device.from == from).count();
        if waiting.devices.len() >= WAITING_MAX || theirs >= EACH_MAX {
            return None;
        }
        let user_code = user_code_of(entropy);
        if waiting.devices.values().any(|device| device.user_code == user_code) {
            return None;
        }
        let shown = user_code.clone();
        let (interval, word) = (INTERVAL, Word::Waits);
        let device = Device { user_code, client, from, begun_at: now, asked_at: None, interval, word };
        waiting.devices.insert(digest_of(device_code), device);
        Some(shown)
    }

    /// What a person sees of the device with this code. Mistyping is counted: none, and after too many, none of any.
    pub(crate) fn device_shown(&self, vouched: &Vouched, typed: &str, now: Instant) -> Option<Shown> {
        let mut waiting = self.held(now);
        let who = vouched.subject.digest();
        if waiting.wrong.get(&who).is_some_and(|(times, _)| *times >= WRONG_MAX) {
            return None;
        }
        // Who could not be counted is told nothing: a guess that is not counted is free.
        if waiting.wrong.len() >= WAITING_MAX && !waiting.wrong.contains_key(&who) {
            return None;
        }
        let typed = plain(typed);
        let found = waiting.devices.values().find(|device| plain(&device.user_code) == typed && device.waits());
        if let Some(device) = found {
            let minutes_ago = now.saturating_duration_since(device.begun_at).as_secs() / 60;
            return Some(Shown { client: device.client.clone(), minutes_ago });
        }
        waiting.wrong.entry(who).or_insert((0, now)).0 += 1;
        None
    }

    /// Says a person's word to the device with this code; whether there was one that waited.
    pub(crate) fn device_word(
        &self,
        vouched: &Vouched,
        typed: &str,
        organisation: Option<OrganisationId>,
        now: Instant,
    ) -> bool {
        if self.device_shown(vouched, typed, now).is_none() {
            return false;
        }
        let mut waiting = self.held(now);
        let typed = plain(typed);
        let found = waiting.devices.values_mut().find(|device| plain(&device.user_code) == typed && device.waits());
        let Some(device) = found else { return false };
        device.word = match organisation {
            Some(organisation) => Word::Granted(vouched.clone(), organisation),
            None => Word::Refused,
        };
        true
    }

    /// A device asks. What was said is told once.
    pub(crate) fn device_asked(&self, device_code: &str, now: Instant) -> Told {
        let mut waiting = self.held(now);
        let digest = digest_of(device_code);
        let Some(device) = waiting.devices.get_mut(&digest) else { return Told::Over };
        let told = match &device.word {
            Word::Granted(vouched, organisation) => Told::Granted(vouched.clone(), *organisation),
            Word::Refused => Told::Refused,
            Word::Waits => {
                let hasty = device.asked_at.is_some_and(|then| now.saturating_duration_since(then) < device.interval);
                device.asked_at = Some(now);
                if hasty {
                    device.interval += INTERVAL;
                    return Told::SlowDown;
                }
                return Told::Waits;
            }
        };
        waiting.devices.remove(&digest);
        told
    }

    /// Lets an authorisation code wait for its command line; false if too many do.
    pub(crate) fn code_begin(
        &self,
        code: &str,
        (vouched, organisation): (Vouched, OrganisationId),
        challenge: String,
        redirect: String,
        now: Instant,
    ) -> bool {
        let mut waiting = self.held(now);
        if waiting.codes.len() >= WAITING_MAX {
            return false;
        }
        let code_kept = Code { vouched, organisation, challenge, redirect, begun_at: now };
        waiting.codes.insert(digest_of(code), code_kept);
        true
    }

    /// Redeems an authorisation code, once: for whoever holds the challenge's verifier and asked from that address.
    pub(crate) fn code_redeemed(
        &self,
        code: &str,
        verifier: &str,
        redirect: &str,
        now: Instant,
    ) -> Option<(Vouched, OrganisationId)> {
        let found = self.held(now).codes.remove(&digest_of(code))?;
        // RFC 7636, 4.6: base64url without padding over SHA-256 of the verifier.
        let challenge = BASE64.encode(Sha256::digest(verifier.as_bytes()));
        let is_met = digest_of(&challenge) == digest_of(&found.challenge) && found.redirect == redirect;
        is_met.then_some((found.vouched, found.organisation))
    }
}

impl Device {
    const fn waits(&self) -> bool {
        matches!(self.word, Word::Waits)
    }
}

/// Eight letters in two groups, from entropy; every letter as likely as the others.
fn user_code_of(entropy: &[u8; 32]) -> String {
    // Bytes from 240 on would make some letters likelier. All 32 being such has a chance of 2^-96 for the last letters.
    let fair = entropy.iter().filter(|byte| **byte < 240).chain(std::iter::repeat(&0));
    let letters: Vec<char> = fair.take(8).map(|byte| char::from(ALPHABET[usize::from(byte % 20)])).collect();
    let text: String = letters.iter().collect();
    format!("{}-{}", &text[..4], &text[4..])
}

/// A code as it is compared, however it was typed.
fn plain(typed: &str) -> String {
    typed.chars().take(32).filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_uppercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use gregal_core::person::Subject;

    fn ada() -> Vouched {
        let subject = Subject { issuer: "https://id.example".into(), subject: "7".into() };
        Vouched { subject, email: "ada@example.eu".into(), name: None }
    }

    #[test]
    fn a_device_that_asks_too_often_is_slowed_down_and_one_that_waits_too_long_is_forgotten() {
        let (asks, start) = (Asks::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let code = asks.device_begin("d", &[1; 32], "laptop".into(), None, start).unwrap();
        assert_eq!(code, "CCCC-CCCC");
        assert!(matches!(asks.device_asked("d", at(0)), Told::Waits));
        assert!(matches!(asks.device_asked("d", at(4)), Told::SlowDown));
        assert!(matches!(asks.device_asked("d", at(10)), Told::SlowDown), "the pause has grown to ten seconds");
        assert!(matches!(asks.device_asked("d", at(30)), Told::Waits));
        assert!(matches!(asks.device_asked("other", at(30)), Told::Over));
        assert!(matches!(asks.device_asked("d", at(600)), Told::Over));
    }

    #[test]
    fn codes_are_not_found_by_trying() {
        let (asks, now) = (Asks::default(), Instant::now());
        let code = asks.device_begin("d", &[1; 32], "laptop".into(), None, now).unwrap();
        assert!(asks.device_shown(&ada(), "cccc cccc", now).is_some(), "however it is typed");
        for _ in 0..WRONG_MAX {
            assert!(asks.device_shown(&ada(), "BBBB-BBBB", now).is_none());
        }
        assert!(asks.device_shown(&ada(), &code, now).is_none(), "whoever guessed so often is told nothing");
        assert!(!asks.device_word(&ada(), &code, Some(OrganisationId::from_u128(1)), now));
        let later = now + Duration::from_secs(599);
        assert!(asks.device_shown(&ada(), &code, later).is_none());
    }

    #[test]
    fn who_cannot_be_counted_guesses_nothing() {
        let (asks, now) = (Asks::default(), Instant::now());
        let code = asks.device_begin("d", &[1; 32], "laptop".into(), None, now).unwrap();
        let person = |number: usize| {
            let subject = Subject { issuer: "https://id.example".into(), subject: number.to_string() };
            Vouched { subject, ..ada() }
        };
        for number in 0..WAITING_MAX {
            assert!(asks.device_shown(&person(number), "BBBB-BBBB", now).is_none());
        }
        assert!(asks.device_shown(&person(0), &code, now).is_some(), "who is counted goes on");
        assert!(asks.device_shown(&person(WAITING_MAX), &code, now).is_none());
    }

    #[test]
    fn a_code_is_redeemed_once_by_whoever_began_it_and_within_a_minute() {
        let (asks, now) = (Asks::default(), Instant::now());
        let challenge = BASE64.encode(Sha256::digest(b"verifier"));
        let begin = |code: &str| {
            asks.code_begin(code, (ada(), OrganisationId::from_u128(1)), challenge.clone(), "r".into(), now)
        };
        assert!(begin("a") && begin("b") && begin("c") && begin("d"));
        assert!(asks.code_redeemed("a", "other", "r", now).is_none());
        assert!(asks.code_redeemed("a", "verifier", "r", now).is_none(), "one try");
        assert!(asks.code_redeemed("b", "verifier", "other", now).is_none());
        assert!(asks.code_redeemed("c", "verifier", "r", now).is_some());
        assert!(asks.code_redeemed("c", "verifier", "r", now).is_none());
        assert!(asks.code_redeemed("d", "verifier", "r", now + CODE_MAX).is_none());
    }

    #[test]
    fn what_waits_has_a_bound_and_keeps_its_place() {
        let (asks, now) = (Asks::default(), Instant::now());
        let entropy = |number: usize| {
            let mut bytes = [0; 32];
            for (place, byte) in bytes.iter_mut().enumerate().take(8) {
                *byte = u8::try_from((number / 20_usize.pow(u32::try_from(place % 8).unwrap())) % 20).unwrap();
            }
            bytes
        };
        let begin = |number: usize, place: usize| {
            let from = Some(IpAddr::from(u32::try_from(place).unwrap().to_be_bytes()));
            asks.device_begin(&number.to_string(), &entropy(number), String::new(), from, now).is_some()
        };
        let from_one = (0..100).filter(|number| begin(*number, 1)).count();
        assert_eq!(from_one, EACH_MAX, "a flood from one place");
        let of_others = (100..WAITING_MAX + 200).filter(|number| begin(*number, *number)).count();
        assert_eq!(of_others, WAITING_MAX - EACH_MAX, "what one place was refused, others have");
        assert!(matches!(asks.device_asked("0", now), Told::Waits));
    }
}
