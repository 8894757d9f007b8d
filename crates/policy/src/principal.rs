//! Who asks.

use gregal_core::{
    access::Role,
    id::{KeyId, OrganisationId, ProjectId, SiteId},
    key::Key,
};

use crate::resource::Resource;

/// Who asks, already authenticated: this room never sees a secret and does not know revocation or expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Principal {
    /// The holder of a key.
    Key {
        /// The key.
        key: KeyId,
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
        Self::Key { key: key.id, role: key.role, organisation: key.organisation, project: key.project }
    }
}
