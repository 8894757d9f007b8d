//! Endpoints: served models.

use gregal_core::{
    endpoint::{Endpoint, EndpointState},
    id::{EndpointId, ProjectId, SiteId},
};
use sea_orm::{ColumnTrait, Condition};

use crate::{Listed, Page, Result, Tx, View, noun};

noun::row!(Endpoint, "endpoints", "endpoint" [changed] {
    organisation: String = |it| it.organisation.to_string();
    project: String = |it| it.project.to_string();
    site: String = |it| it.site.to_string();
    name: String = |it| it.name.clone();
    state: String = |it| it.state.as_str().to_owned();
});

/// The states an endpoint does not leave; the table's unique index spells out the same two.
const FINAL: [&str; 2] = [EndpointState::Stopped.as_str(), EndpointState::Failed.as_str()];

fn live() -> Condition {
    Condition::all().add(row::Column::State.is_not_in(FINAL))
}

impl View {
    /// The endpoint with this id.
    pub async fn endpoint_get(&self, id: EndpointId) -> Result<Option<Endpoint>> {
        self.noun_get(&id.to_string()).await
    }

    /// A project's endpoint with this name that has not ended.
    pub async fn endpoint_live_by_name(&self, project: ProjectId, name: &str) -> Result<Option<Endpoint>> {
        let within = row::Column::Project.eq(project.to_string());
        self.noun_where(live().add(within).add(row::Column::Name.eq(name))).await
    }

    /// A project's endpoints, oldest first.
    pub async fn endpoints_list(&self, project: ProjectId, page: &Page) -> Result<Listed<Endpoint>> {
        self.nouns_page(Condition::all().add(row::Column::Project.eq(project.to_string())), page).await
    }

    /// How many endpoints of a project have not ended.
    pub async fn endpoints_live_count(&self, project: ProjectId) -> Result<u64> {
        self.nouns_count::<Endpoint>(live().add(row::Column::Project.eq(project.to_string()))).await
    }

    /// Every endpoint of a site that has not ended.
    pub async fn endpoints_live_at_site(&self, site: SiteId) -> Result<Vec<Endpoint>> {
        self.nouns_all(live().add(row::Column::Site.eq(site.to_string()))).await
    }

    /// Endpoints written at a mark or after it, whatever their state ([`View::mark_read`]).
    pub async fn endpoints_changed(&self, since: u64) -> Result<Vec<Endpoint>> {
        self.nouns_changed(row::Column::Changed, since).await
    }

    /// Every endpoint that has not ended.
    pub async fn endpoints_live(&self) -> Result<Vec<Endpoint>> {
        self.nouns_all(live()).await
    }
}

impl Tx {
    /// Adds an endpoint. Its name must be free among the project's endpoints that have not ended.
    pub async fn endpoint_insert(&self, endpoint: &Endpoint) -> Result<()> {
        self.noun_insert(endpoint).await
    }

    /// Writes a changed endpoint; the stored one must be one version behind.
    pub async fn endpoint_update(&self, endpoint: &Endpoint) -> Result<()> {
        self.noun_update(endpoint).await
    }
}
