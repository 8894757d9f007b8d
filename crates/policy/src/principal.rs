//! Who asks.

use std::{fmt, str::FromStr};

use gregal_core::{
    access::Role,
    id::{IdError, KeyId, OrganisationId, ProjectId, ServiceAccountId, SiteId},
    key::Key,
};

use crate::resource::Resource;

/// How policies call who asks: a service account's keys by the account, any other by its own id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HolderId {
    /// A key of its own name.
    Key(KeyId),
    /// A key of a service account.
    Account(ServiceAccountId),
}

impl HolderId {
    /// What a key is called, with the account it acts as, if as one.
    pub const fn of(key: KeyId, account: Option<ServiceAccountId>) -> Self {
        match account {
            Some(account) => Self::Account(account),
            None => Self::Key(key),
        }
    }
}

impl fmt::Display for HolderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => key.fmt(f),
            Self::Account(account) => account.fmt(f),
        }
    }
}

impl FromStr for HolderId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        text.parse().map(Self::Account).or_else(|_: IdError| text.parse().map(Self::Key))
    }
}

impl From<KeyId> for HolderId {
    fn from(key: KeyId) -> Self {
        Self::Key(key)
    }
}

/// Who asks, already authenticated: this room never sees a secret and does not know revocation or expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Principal {
    /// The holder of a key.
    Key {
        /// The key, or the account it acts as.
        key: HolderId,
        /// What it may do.
        role: Role,
        /// The organisation it acts for; none for an operator's key.
        organisation: Option<OrganisationId>,
        /// The one project it reaches; none reaches every project of its organisation.
        project: Option<ProjectId>,
    },
    /// A site that dialled in with its own secret.
    Site(SiteId),
}

impl Principal {
    /// The widest resource this principal reaches, to be asked about when listing: its project if it is bound to one,
    /// else its organisation; the cloud for operators; itself for a site.
    pub fn home(&self) -> Resource {
        match *self {
            Self::Key { organisation: Some(organisation), project: Some(project), .. } => {
                Resource::project(organisation, project)
            }
            Self::Key { organisation: Some(organisation), project: None, .. } => Resource::organisation(organisation),
            Self::Key { organisation: None, .. } => Resource::cloud(),
            Self::Site(site) => Resource::site(site),
        }
    }
}

impl From<&Key> for Principal {
    fn from(key: &Key) -> Self {
        let holder = HolderId::of(key.id, key.account);
        Self::Key { key: holder, role: key.role, organisation: key.organisation, project: key.project }
    }
}
