//! Support access: a time-limited look of an operator at the facts of what a tenant owns. Asked for with a reason, approved by
//! somebody else, and where the tenant wants it so, by the tenant too. Facts only: never content, secrets or grants.

use serde::{Deserialize, Serialize};

use crate::{
    access::Action,
    id::{AccessId, KeyId, OrganisationId, PersonId, ProjectId},
    key::Key,
    time::Time,
};

/// How long a request may wait to be approved, in seconds: a day.
pub const WAIT_S_MAX: i64 = 86_400;
/// The longest an access lasts unless the operator allows less, in seconds: four hours.
pub const SUPPORT_S_MAX: u32 = 4 * 3600;

/// What an organisation lets operators see of its facts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SupportSetting {
    /// Nothing, ever.
    Refused,
    /// What a second operator and the organisation itself approve.
    #[default]
    Consent,
    /// What a second operator approves; the organisation is told at once, and may end it.
    Notify,
}

impl SupportSetting {
    /// How the wire spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Consent => "consent",
            Self::Notify => "notify",
        }
    }
}

/// Who did a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct By {
    /// With which key.
    pub key: KeyId,
    /// Whose sign-in made it, if a sign-in did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<PersonId>,
    /// When.
    pub at: Time,
}

impl By {
    /// The holder of a key, now.
    pub const fn of(key: &Key, at: Time) -> Self {
        Self { key: key.id, person: key.person, at }
    }

    /// Whether this is surely somebody else than the holder of that key: another key, and where both name a person,
    /// another person.
    pub fn is_other_than(&self, key: &Key) -> bool {
        let same_person = self.person.is_some() && self.person == key.person;
        self.key != key.id && !same_person && key.replaces != Some(self.key) && key.replaced_by != Some(self.key)
    }
}

/// A look that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SupportAccess {
    /// Its id.
    pub id: AccessId,
    /// Whose facts.
    pub organisation: OrganisationId,
    /// Of which project; none: of all of them.
    pub project: Option<ProjectId>,
    /// Why, for the tenant to read.
    pub reason: String,
    /// Who asked, and will look.
    pub requested: By,
    /// How long it lasts once it begins, in seconds.
    pub seconds: u32,
    /// Whether the organisation has to approve too.
    pub needs_consent: bool,
    /// The second operator.
    pub approved: Option<By>,
    /// The organisation.
    pub consented: Option<By>,
    /// When it ends by itself; none until it has begun.
    pub ends_at: Option<Time>,
    /// Who ended it before that.
    pub ended: Option<By>,
    /// Whether its end by itself stands in the log.
    #[serde(default)]
    pub is_closed: bool,
    /// Grows by one with every change.
    pub version: u64,
}

/// Where an access stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SupportState {
    /// A second operator has not approved.
    WaitsForOperator,
    /// The organisation has not approved.
    WaitsForTenant,
    /// The requester may look.
    Active,
    /// It ran out, was ended, or nobody approved in time.
    Over,
}

impl SupportState {
    /// How the wire spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WaitsForOperator => "waits_for_operator",
            Self::WaitsForTenant => "waits_for_tenant",
            Self::Active => "active",
            Self::Over => "over",
        }
    }
}

/// Why a step is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SupportRefusal {
    /// Whoever asked may not approve.
    #[error("whoever asked for an access cannot approve it: it takes a second person, with a key of their own")]
    SamePerson,
    /// It is over, or was approved before.
    #[error("the access does not wait for this")]
    NotWaiting,
}

impl SupportAccess {
    /// Where it stands.
    pub fn state(&self, now: Time) -> SupportState {
        let lapses = self.ends_at.unwrap_or_else(|| self.requested.at.plus_seconds(WAIT_S_MAX));
        if self.ended.is_some() || lapses <= now {
            SupportState::Over
        } else if self.ends_at.is_some() {
            SupportState::Active
        } else if self.approved.is_none() {
            SupportState::WaitsForOperator
        } else {
            SupportState::WaitsForTenant
        }
    }

    /// As approved by a second operator.
    pub fn approve(&self, key: &Key, now: Time) -> Result<Self, SupportRefusal> {
        if self.state(now) != SupportState::WaitsForOperator {
            return Err(SupportRefusal::NotWaiting);
        }
        if !self.requested.is_other_than(key) {
            return Err(SupportRefusal::SamePerson);
        }
        Ok(Self { approved: Some(By::of(key, now)), ..self.clone() }.begun(now))
    }

    /// As approved by the organisation.
    pub fn consent(&self, key: &Key, now: Time) -> Result<Self, SupportRefusal> {
        let waits = matches!(self.state(now), SupportState::WaitsForOperator | SupportState::WaitsForTenant);
        if !waits || !self.needs_consent || self.consented.is_some() {
            return Err(SupportRefusal::NotWaiting);
        }
        Ok(Self { consented: Some(By::of(key, now)), ..self.clone() }.begun(now))
    }

    /// As ended by somebody before its time.
    pub fn end(&self, key: &Key, now: Time) -> Result<Self, SupportRefusal> {
        if self.state(now) == SupportState::Over {
            return Err(SupportRefusal::NotWaiting);
        }
        Ok(Self { ended: Some(By::of(key, now)), is_closed: true, version: self.version + 1, ..self.clone() })
    }

    fn begun(self, now: Time) -> Self {
        let is_whole = self.approved.is_some() && (!self.needs_consent || self.consented.is_some());
        let ends_at = is_whole.then(|| now.plus_seconds(i64::from(self.seconds)));
        Self { ends_at, version: self.version + 1, ..self }
    }

    /// Whether the holder of this key may use it now.
    pub fn is_for(&self, key: &Key, now: Time) -> bool {
        self.requested.key == key.id && self.state(now) == SupportState::Active
    }
}

/// Whether an access can open this at all: reading facts, and nothing that reads content, secrets or money.
pub const fn opens(action: Action) -> bool {
    matches!(
        action,
        Action::OrganisationRead
            | Action::ProjectRead
            | Action::QuotaRead
            | Action::DatasetRead
            | Action::JobRead
            | Action::ReservationRead
            | Action::ModelRead
            | Action::EndpointRead
            | Action::PlacementExplain
    )
}
