//! Support accesses on the wire: looks that operators ask for into what a tenant owns.

use gregal_core::{
    id::{AccessId, KeyId, OrganisationId, ProjectId},
    support::{SupportAccess, SupportSetting},
    time::Time,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Asks for a look at the facts of an organisation.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessRequest {
    /// Why, 10 to 500 characters, for the organisation to read.
    pub reason: String,
    /// How long it lasts once it begins, in seconds; at most four hours, or what the operator allows.
    pub seconds: u32,
    /// The one project it is about; absent: all of them.
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    pub project: Option<ProjectId>,
}

/// A look an operator asked for, and where it stands.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AccessView {
    /// Its id.
    #[schema(value_type = String)]
    pub id: AccessId,
    /// Whose facts.
    #[schema(value_type = String)]
    pub organisation: OrganisationId,
    /// Of which project; none: of all of them.
    #[schema(value_type = Option<String>)]
    pub project: Option<ProjectId>,
    /// Why.
    pub reason: String,
    /// `waits_for_operator`, `waits_for_tenant`, `active` or `over`.
    pub state: String,
    /// Who asked, and looks.
    #[schema(value_type = String)]
    pub requested_by: KeyId,
    /// When.
    #[schema(value_type = String)]
    pub requested_at: Time,
    /// The operator who approved.
    #[schema(value_type = Option<String>)]
    pub approved_by: Option<KeyId>,
    /// Who approved for the organisation.
    #[schema(value_type = Option<String>)]
    pub consented_by: Option<KeyId>,
    /// Whether the organisation has to approve.
    pub needs_consent: bool,
    /// How long it lasts once it begins, in seconds.
    pub seconds: u32,
    /// When it ends by itself; none until it has begun.
    #[schema(value_type = Option<String>)]
    pub ends_at: Option<Time>,
    /// Who ended it before that.
    #[schema(value_type = Option<String>)]
    pub ended_by: Option<KeyId>,
}

impl AccessView {
    /// An access as it stands at a time.
    pub fn at(access: &SupportAccess, now: Time) -> Self {
        Self {
            id: access.id,
            organisation: access.organisation,
            project: access.project,
            reason: access.reason.clone(),
            state: access.state(now).as_str().into(),
            requested_by: access.requested.key,
            requested_at: access.requested.at,
            approved_by: access.approved.map(|by| by.key),
            consented_by: access.consented.map(|by| by.key),
            needs_consent: access.needs_consent,
            seconds: access.seconds,
            ends_at: access.ends_at,
            ended_by: access.ended.map(|by| by.key),
        }
    }
}

/// What operators may see of an organisation's facts, and who has to agree.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessSetting {
    /// `refused`: nothing, ever. `consent`: what a second operator and the organisation approve. `notify`: what a second
    /// operator approves; the organisation is told, and may end it.
    #[schema(value_type = String, example = "consent")]
    pub setting: SupportSetting,
}
