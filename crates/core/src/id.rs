//! Typed ids: a short prefix that names the noun, and a ULID that sorts by time of birth.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::world::World;

/// Why a text is not an id of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {noun} id, one looks like `{prefix}_01jd3h9v7nq8x0m2k4t6w8y0za`")]
pub struct IdError {
    /// What was given.
    pub text: String,
    /// The noun that was wanted.
    pub noun: &'static str,
    /// The prefix ids of that noun carry.
    pub prefix: &'static str,
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident $prefix:literal $noun:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(ulid::Ulid);

        impl $name {
            /// What every id of this kind starts with, before the underscore.
            pub const PREFIX: &'static str = $prefix;

            /// Makes a fresh id from the world's clock and entropy.
            pub fn new(world: &dyn World) -> Self {
                Self(fresh(world))
            }

            /// An id from a number, for tests and generated worlds.
            pub const fn from_u128(number: u128) -> Self {
                Self(ulid::Ulid(number))
            }

            /// The number of the id.
            pub const fn as_u128(self) -> u128 {
                self.0.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "_{}"), self.0.to_string().to_ascii_lowercase())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let wrong = || IdError { text: text.chars().take(64).collect(), noun: $noun, prefix: $prefix };
                let body = text.strip_prefix(concat!($prefix, "_")).ok_or_else(wrong)?;
                // One spelling an id: upper case would make two texts of the same thing.
                if body.chars().any(|c| c.is_ascii_uppercase()) {
                    return Err(wrong());
                }
                ulid::Ulid::from_string(body).map(Self).map_err(|_| wrong())
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                std::borrow::Cow::<str>::deserialize(from)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

ids! {
    /// Who pays.
    OrganisationId "org" "organisation";
    /// Who shares.
    ProjectId "prj" "project";
    /// A key: the name of a credential, never its secret.
    KeyId "key" "key";
    /// Somebody who signs in: the name of a person, never what they are called.
    PersonId "psn" "person";
    /// A name that programs act under.
    ServiceAccountId "sac" "service account";
    /// A sign-in that lasts.
    SessionId "ses" "session";
    /// What somebody without a provider signs in with.
    PasskeyId "pky" "passkey";
    /// An offer to somebody to become a member.
    InvitationId "inv" "invitation";
    /// Somebody an organisation's directory told us of.
    ScimUserId "scu" "SCIM user";
    /// A policy an organisation wrote for itself.
    PolicyId "pol" "policy";
    /// A time-limited look an operator asks for into what a tenant owns.
    AccessId "acc" "access";
    /// Machines in one place under one law.
    SiteId "site" "site";
    /// Examples to learn from, stored at a site.
    DatasetId "ds" "dataset";
    /// A gang that runs to completion.
    JobId "job" "job";
    /// Versioned weights with lineage.
    ModelId "mdl" "model";
    /// A served model.
    EndpointId "ep" "endpoint";
    /// Room at a site for a time, paid whether used or not.
    ReservationId "rsv" "reservation";
    /// Money set aside.
    HoldId "hold" "hold";
    /// A promise of credit to a site, against which it may serve while control is away.
    AllowanceId "alw" "allowance";
    /// One double entry.
    PostingId "pst" "posting";
    /// A message waiting to be carried out after its transaction.
    OutboxId "out" "outbox";
    /// A request, for logs, audit and problem details.
    RequestId "req" "request";
}

fn fresh(world: &dyn World) -> ulid::Ulid {
    let mut random = [0u8; 16];
    world.fill(&mut random);
    let millis = u64::try_from(world.now().as_millis()).unwrap_or(0);
    ulid::Ulid::from_parts(millis, u128::from_be_bytes(random))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_as_itself() {
        let id = JobId::from_u128(42);
        assert_eq!(id.to_string().parse::<JobId>(), Ok(id));
        assert!(id.to_string().starts_with("job_"));
    }

    #[test]
    fn an_id_of_another_noun_is_refused_and_says_which_was_wanted() {
        let error = JobId::from_u128(42).to_string().parse::<ModelId>().unwrap_err();
        assert_eq!(error.noun, "model");
        assert!(OrganisationId::from_u128(7).to_string().to_ascii_uppercase().parse::<OrganisationId>().is_err());
    }
}
