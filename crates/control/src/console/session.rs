//! Sessions: who is signed in. Kept in memory only: a restart signs everybody out, and no key is ever written down.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use gregal_core::{
    id::{PersonId, ProjectId},
    person::Subject,
};
use sha2::{Digest, Sha256};

use crate::app::sign_in::Vouched;

/// How long a session lasts without being used.
const IDLE_MAX: Duration = Duration::from_hours(8);
/// How long a session that a provider vouched for lasts without being used.
const VOUCHED_IDLE_MAX: Duration = Duration::from_mins(30);
/// How long a provider's word is good for, used or not: then it is asked again.
const VOUCHED_MAX: Duration = Duration::from_secs(gregal_core::session::CONSOLE_KEY_S as u64);
/// The most sessions of one person, or of one key that somebody signed in with.
const PER_PERSON_MAX: usize = 32;
/// The most sessions altogether.
const SESSIONS_MAX: usize = 4096;

/// What a session is found by: the digest of the random text in its cookie, so that looking it up tells nothing by its timing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SessionId([u8; 32]);

impl SessionId {
    /// The id that a cookie's text stands for.
    pub(crate) fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }
}

/// Someone who is signed in.
#[derive(Clone)]
pub(crate) struct Session {
    /// The key; empty until an organisation was chosen. It leaves this type only on its way to the API.
    pub(crate) key: String,
    /// What every form of this session carries.
    pub(crate) csrf: String,
    /// The project looked at last.
    pub(crate) project: Option<ProjectId>,
    /// Whom a provider vouched for; none for whoever signed in with a key.
    pub(crate) vouched: Option<Vouched>,
    /// Who that is here, since they are somebody here.
    pub(crate) person: Option<PersonId>,
    /// When the provider did, or the key was shown: choosing another organisation does not make its word newer.
    pub(crate) since: Instant,
    used_at: Instant,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

/// Everyone who is signed in, within bounds.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<HashMap<SessionId, Session>>);

impl Sessions {
    /// Begins a session. Where there are too many, the one unused longest ends: first of the same person or key, then of whoever
    /// has most.
    pub(crate) fn begin(&self, token: &str, key: String, csrf: String, now: Instant) {
        self.insert(
            token,
            Session { key, csrf, project: None, vouched: None, person: None, since: now, used_at: now },
            now,
        );
    }

    /// As [`Sessions::begin`], for somebody a provider vouched for, at `since`.
    pub(crate) fn begin_for(
        &self,
        token: &str,
        key: String,
        csrf: String,
        (vouched, since): (Vouched, Instant),
        now: Instant,
    ) {
        self.insert(
            token,
            Session { key, csrf, project: None, vouched: Some(vouched), person: None, since, used_at: now },
            now,
        );
    }

    fn insert(&self, token: &str, begun: Session, now: Instant) {
        let whose = Whose::of(&begun);
        let mut sessions = self.held();
        sessions.retain(|_, session| is_live(session, now));
        while sessions.values().filter(|session| Whose::of(session) == whose).count() >= PER_PERSON_MAX {
            drop_oldest(&mut sessions, &whose);
        }
        while sessions.len() >= SESSIONS_MAX {
            // Whoever has most gives way: nobody is pushed out by somebody who signs in again and again.
            let mut counts: BTreeMap<Whose, usize> = BTreeMap::new();
            for session in sessions.values() {
                *counts.entry(Whose::of(session)).or_default() += 1;
            }
            let Some((most, _)) = counts.into_iter().max_by_key(|(_, count)| *count) else { break };
            drop_oldest(&mut sessions, &most);
        }
        sessions.insert(SessionId::of(token), begun);
    }

    /// The session, if it lasts; using it makes it last.
    pub(crate) fn used(&self, id: SessionId, now: Instant) -> Option<Session> {
        let mut sessions = self.held();
        if !is_live(sessions.get(&id)?, now) {
            sessions.remove(&id);
            return None;
        }
        let session = sessions.get_mut(&id)?;
        session.used_at = now;
        Some(session.clone())
    }

    /// Remembers which project is looked at.
    pub(crate) fn look_at(&self, id: SessionId, project: ProjectId) {
        if let Some(session) = self.held().get_mut(&id) {
            session.project = Some(project);
        }
    }

    /// Remembers who somebody is, from when they are somebody here.
    pub(crate) fn is_of(&self, id: SessionId, person: PersonId) {
        if let Some(session) = self.held().get_mut(&id) {
            session.person = Some(person);
        }
    }

    /// Ends a session.
    pub(crate) fn end(&self, id: SessionId) {
        self.held().remove(&id);
    }

    fn held(&self) -> MutexGuard<'_, HashMap<SessionId, Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_live(session: &Session, now: Instant) -> bool {
    let idle_max = if session.vouched.is_some() { VOUCHED_IDLE_MAX } else { IDLE_MAX };
    let is_fresh = session.vouched.is_none() || now.saturating_duration_since(session.since) < VOUCHED_MAX;
    is_fresh && now.saturating_duration_since(session.used_at) < idle_max
}

/// Whose a session is: a person, in whichever organisation they act, or a key.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Whose {
    Person(Subject),
    Key(String),
}

impl Whose {
    fn of(session: &Session) -> Self {
        match &session.vouched {
            Some(vouched) => Self::Person(vouched.subject.clone()),
            None => Self::Key(session.key.clone()),
        }
    }
}

fn drop_oldest(sessions: &mut HashMap<SessionId, Session>, whose: &Whose) {
    let theirs = sessions.iter().filter(|(_, session)| Whose::of(session) == *whose);
    let oldest = theirs.min_by_key(|(_, session)| session.used_at);
    if let Some(id) = oldest.map(|(id, _)| *id) {
        sessions.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(sessions: &Sessions, token: &str, key: &str, now: Instant) {
        sessions.begin(token, key.into(), "csrf".into(), now);
    }

    #[test]
    fn a_session_ends_after_eight_idle_hours_and_not_before() {
        let (sessions, start) = (Sessions::default(), Instant::now());
        begin(&sessions, "a", "gk_1", start);
        let nearly = Duration::from_secs(8 * 3600 - 1);
        let almost = start + nearly;
        assert!(sessions.used(SessionId::of("a"), almost).is_some());
        assert!(sessions.used(SessionId::of("a"), almost + nearly).is_some(), "use renews it");
        assert!(sessions.used(SessionId::of("a"), almost + 3 * IDLE_MAX).is_none());
    }

    #[test]
    fn one_key_cannot_push_out_the_sessions_of_another() {
        let (sessions, start) = (Sessions::default(), Instant::now());
        begin(&sessions, "mine", "gk_mine", start);
        for number in 0..SESSIONS_MAX + 10 {
            begin(&sessions, &format!("theirs {number}"), "gk_theirs", start + Duration::from_secs(1));
        }
        assert!(sessions.used(SessionId::of("mine"), start).is_some());
        assert_eq!(sessions.held().len(), PER_PERSON_MAX + 1);
    }

    #[test]
    fn one_person_cannot_push_out_another_by_going_in_and_out_of_organisations() {
        let (sessions, start) = (Sessions::default(), Instant::now());
        let word = |subject: &str| Vouched {
            subject: Subject { issuer: "https://id.example".into(), subject: subject.into() },
            email: format!("{subject}@example.eu"),
            name: None,
        };
        let begin = |token: &str, key: &str, subject: &str, now: Instant| {
            sessions.begin_for(token, key.into(), "csrf".into(), (word(subject), now), now);
        };
        begin("mine", "gk_mine", "ada", start);
        for number in 0..SESSIONS_MAX + 10 {
            let soon = start + Duration::from_secs(1);
            begin(&format!("theirs {number}"), &format!("gk_{number}"), "eve", soon);
        }
        assert!(sessions.used(SessionId::of("mine"), start).is_some());
        assert_eq!(sessions.held().len(), PER_PERSON_MAX + 1);
    }

    #[test]
    fn where_all_places_are_taken_whoever_has_most_gives_way() {
        let (sessions, start) = (Sessions::default(), Instant::now());
        begin(&sessions, "mine", "gk_!first", start);
        for number in 0..SESSIONS_MAX + 10 {
            begin(&sessions, &format!("{number}"), &format!("gk_{}", number / 2), start + Duration::from_secs(1));
        }
        assert_eq!(sessions.held().len(), SESSIONS_MAX);
        assert!(sessions.used(SessionId::of("mine"), start).is_some(), "the oldest, and the only one of its key");
    }

    #[test]
    fn an_ended_session_is_gone() {
        let (sessions, now) = (Sessions::default(), Instant::now());
        begin(&sessions, "a", "gk_1", now);
        sessions.end(SessionId::of("a"));
        assert!(sessions.used(SessionId::of("a"), now).is_none());
    }
}
