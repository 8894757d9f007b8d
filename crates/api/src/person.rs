//! People on the wire: members, invitations, and the domains whose people sign in elsewhere.

use gregal_core::{
    access::Role,
    id::{InvitationId, OrganisationId, PersonId, ProjectId},
    invitation::Invitation,
    member::Member,
    person::Person,
    provider::Domain,
    time::Time,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Whoever is signed in.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PersonView {
    /// Their id.
    #[schema(value_type = String)]
    pub id: PersonId,
    /// The address their provider verified; empty once they are erased.
    pub email: String,
    /// What their provider says they are called.
    pub name: Option<String>,
    /// How the audit log calls them; none once they are erased.
    pub log_name: Option<String>,
    /// When they were erased.
    #[schema(value_type = Option<String>)]
    pub erased_at: Option<Time>,
}

impl From<&Person> for PersonView {
    fn from(person: &Person) -> Self {
        Self {
            id: person.id,
            email: person.email.clone(),
            name: person.name.clone(),
            log_name: person.log_name(),
            erased_at: person.erased_at,
        }
    }
}

/// A member of an organisation.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct MemberView {
    /// The organisation.
    #[schema(value_type = String)]
    pub organisation: OrganisationId,
    /// The person.
    #[schema(value_type = String)]
    pub person: PersonId,
    /// The address their provider verified.
    pub email: String,
    /// What their provider says they are called.
    pub name: Option<String>,
    /// How the audit log calls them.
    pub log_name: Option<String>,
    /// What they may do.
    #[schema(value_type = String, example = "developer")]
    pub role: Role,
    /// The one project they reach; absent: all of them.
    #[schema(value_type = Option<String>)]
    pub project: Option<ProjectId>,
    /// When they joined.
    #[schema(value_type = String)]
    pub created_at: Time,
}

impl MemberView {
    /// A member and who it is.
    pub fn new(member: &Member, person: &Person) -> Self {
        Self {
            organisation: member.organisation,
            person: member.person,
            email: person.email.clone(),
            name: person.name.clone(),
            log_name: person.log_name(),
            role: member.role,
            project: member.project,
            created_at: member.created_at,
        }
    }
}

/// Says what a member may do from now on. Their sessions end: they sign in anew, with the new role.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MemberWrite {
    /// What they may do; nobody can grant more than he holds.
    #[schema(value_type = String, example = "developer")]
    pub role: Role,
    /// The one project they reach; absent: all of them.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub project: Option<ProjectId>,
}

/// Offers a membership to whoever proves to hold an address. No mail is sent: hand the text over yourself.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InvitationCreate {
    /// The address; whoever takes it up has to sign in with it.
    #[schema(example = "ada@example.eu")]
    pub email: String,
    /// What they would be; nobody can grant more than he holds.
    #[schema(value_type = String, example = "developer")]
    pub role: Role,
    /// The one project they would reach; absent: all of them.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub project: Option<ProjectId>,
    /// Seconds until it stops standing, at most 30 days; absent: 7 days.
    #[serde(default)]
    pub expires_in_s: Option<u32>,
    /// Whether whoever holds the text may take it up with a passkey. Nobody vouches for the address then: hand the text over
    /// with care. Not for addresses of a domain whose organisation has a provider.
    #[serde(default)]
    pub passkey: bool,
}

// An address must not reach a log by way of `{:?}`.
impl std::fmt::Debug for InvitationCreate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InvitationCreate").field("role", &self.role).finish_non_exhaustive()
    }
}

/// An invitation, without the text that takes it up.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct InvitationView {
    /// Its id.
    #[schema(value_type = String)]
    pub id: InvitationId,
    /// The organisation that offers.
    #[schema(value_type = String)]
    pub organisation: OrganisationId,
    /// To whom; empty once it is over.
    pub email: String,
    /// What they would be.
    #[schema(value_type = String)]
    pub role: Role,
    /// The one project they would reach.
    #[schema(value_type = Option<String>)]
    pub project: Option<ProjectId>,
    /// When it was made.
    #[schema(value_type = String)]
    pub created_at: Time,
    /// When it stops standing by itself.
    #[schema(value_type = String)]
    pub expires_at: Time,
    /// When it was taken up or taken back.
    #[schema(value_type = Option<String>)]
    pub ended_at: Option<Time>,
    /// Whether a passkey may take it up.
    #[serde(default)]
    pub passkey: bool,
}

impl From<&Invitation> for InvitationView {
    fn from(invitation: &Invitation) -> Self {
        Self {
            id: invitation.id,
            organisation: invitation.organisation,
            email: invitation.email.clone(),
            role: invitation.role,
            project: invitation.project,
            created_at: invitation.created_at,
            expires_at: invitation.expires_at,
            ended_at: invitation.ended_at,
            passkey: invitation.passkey,
        }
    }
}

/// A new invitation with its text.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct InvitationCreated {
    /// The invitation.
    pub invitation: InvitationView,
    /// The text that takes it up, shown only here. None when an idempotent retry asks again: it is not kept.
    pub text: Option<String>,
    /// Where whoever is invited goes with it.
    pub join_at: String,
}

// A secret must not reach a log by way of `{:?}`.
impl std::fmt::Debug for InvitationCreated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InvitationCreated").field("text", &"[hidden]").finish_non_exhaustive()
    }
}

/// Gives a domain to an organisation: whoever has an address there signs in with the provider named, and with no other.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DomainWrite {
    /// The provider's issuer address.
    #[schema(example = "https://id.example.eu")]
    pub issuer: String,
    /// What the cloud is called there: a public client with PKCE, so there is no secret.
    pub client_id: String,
}

/// A domain and its provider.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DomainView {
    /// The domain.
    #[schema(example = "example.eu")]
    pub name: String,
    /// Whose it is.
    #[schema(value_type = String)]
    pub organisation: OrganisationId,
    /// The provider's issuer address.
    pub issuer: String,
    /// What the cloud is called there.
    pub client_id: String,
    /// When it was made.
    #[schema(value_type = String)]
    pub created_at: Time,
}

impl From<&Domain> for DomainView {
    fn from(domain: &Domain) -> Self {
        Self {
            name: domain.name.clone(),
            organisation: domain.organisation,
            issuer: domain.issuer.clone(),
            client_id: domain.client_id.clone(),
            created_at: domain.created_at,
        }
    }
}
