//! What is asked about.

use gregal_core::{
    access::Role,
    id::{KeyId, OrganisationId, ProjectId, SiteId},
};

/// The nouns policies know. An action applies to some of them; the schema says to which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResourceKind {
    /// The cloud itself: its catalogue, its organisations and sites as lists, its whole audit log.
    Cloud,
    /// A site, as a public fact or as the thing that dials in.
    Site,
    /// An organisation, with its usage, invoices, audit log and lists.
    Organisation,
    /// A project, with its usage and lists, and everything that is made in it.
    Project,
    /// A key, with the role it carries or would carry: nobody makes or revokes a key above his own grants.
    Key(Role),
    /// A member, an invitation to become one, or a service account, with the role it carries or would carry.
    Member(Role),
    /// A dataset.
    Dataset,
    /// A job.
    Job,
    /// A model.
    Model,
    /// An endpoint.
    Endpoint,
    /// A reservation.
    Reservation,
}

impl ResourceKind {
    /// Every noun, as the schema spells it, in the order of [`ResourceKind::index`].
    pub(crate) const NOUNS: &'static [&'static str] = &[
        "Cloud",
        "Site",
        "Organisation",
        "Project",
        "Key",
        "Member",
        "Dataset",
        "Job",
        "Model",
        "Endpoint",
        "Reservation",
    ];

    /// Where the noun stands among all.
    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Cloud => 0,
            Self::Site => 1,
            Self::Organisation => 2,
            Self::Project => 3,
            Self::Key(_) => 4,
            Self::Member(_) => 5,
            Self::Dataset => 6,
            Self::Job => 7,
            Self::Model => 8,
            Self::Endpoint => 9,
            Self::Reservation => 10,
        }
    }

    /// The noun as the schema spells it.
    pub const fn as_str(self) -> &'static str {
        Self::NOUNS[self.index()]
    }
}

/// What is asked about, and where it belongs. `organisation` and `project` come from the stored row, never from what the
/// caller sent: isolation rests on them.
///
/// For a create, name the container ([`Resource::project`], [`Resource::organisation`]) or the thing to be made, with its
/// fresh id and its container's. Two are stricter: a project is made in the organisation, so that no bound key makes one,
/// and keys are always named themselves, because their role decides.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Resource {
    /// Its noun.
    pub kind: ResourceKind,
    /// Its id.
    pub id: String,
    /// The organisation it belongs to; none only for the cloud and for sites.
    pub organisation: Option<OrganisationId>,
    /// The project it belongs to, if to one. A project belongs to itself.
    pub project: Option<ProjectId>,
    /// The site it is at or would be at, if that is known. Only scopes of keys look at it.
    pub site: Option<SiteId>,
    /// What a model or endpoint is called, ids included. Only scopes of keys look at it.
    pub names: Vec<String>,
}

impl Resource {
    /// The cloud itself.
    pub fn cloud() -> Self {
        Self { kind: ResourceKind::Cloud, id: "cloud".into(), organisation: None, ..Self::nothing() }
    }

    /// A site.
    pub fn site(id: SiteId) -> Self {
        Self { kind: ResourceKind::Site, id: id.to_string(), organisation: None, ..Self::nothing() }
    }

    /// An organisation.
    pub fn organisation(id: OrganisationId) -> Self {
        Self { kind: ResourceKind::Organisation, id: id.to_string(), organisation: Some(id), ..Self::nothing() }
    }

    /// A project.
    pub fn project(organisation: OrganisationId, id: ProjectId) -> Self {
        Self {
            kind: ResourceKind::Project,
            id: id.to_string(),
            organisation: Some(organisation),
            project: Some(id),
            ..Self::nothing()
        }
    }

    /// A key that exists or is to be made, with the role it carries and the project it is bound to, if to one.
    pub fn key(organisation: OrganisationId, project: Option<ProjectId>, id: KeyId, role: Role) -> Self {
        Self {
            kind: ResourceKind::Key(role),
            id: id.to_string(),
            organisation: Some(organisation),
            project,
            ..Self::nothing()
        }
    }

    /// A member, an invitation or a service account that is there or is to be made, with the role it carries and its one project, if it has one.
    #[expect(clippy::needless_pass_by_value, reason = "ids are small and callers have them by value or by reference")]
    pub fn member(organisation: OrganisationId, project: Option<ProjectId>, id: impl ToString, role: Role) -> Self {
        let kind = ResourceKind::Member(role);
        Self { kind, id: id.to_string(), organisation: Some(organisation), project, site: None, names: Vec::new() }
    }

    /// Anything that lives in a project: a dataset, job, model or endpoint, by its id.
    #[expect(clippy::needless_pass_by_value, reason = "ids are small and callers have them by value or by reference")]
    pub fn within(kind: ResourceKind, organisation: OrganisationId, project: ProjectId, id: impl ToString) -> Self {
        Self { kind, id: id.to_string(), organisation: Some(organisation), project: Some(project), ..Self::nothing() }
    }

    /// At a site, if it is known at which.
    #[must_use]
    pub fn at(self, site: impl Into<Option<SiteId>>) -> Self {
        Self { site: site.into(), ..self }
    }

    /// Known by these names too.
    #[must_use]
    pub fn called(mut self, names: impl IntoIterator<Item = String>) -> Self {
        self.names.extend(names);
        self
    }

    /// What every resource begins as.
    const fn nothing() -> Self {
        Self {
            kind: ResourceKind::Cloud,
            id: String::new(),
            organisation: None,
            project: None,
            site: None,
            names: Vec::new(),
        }
    }
}
