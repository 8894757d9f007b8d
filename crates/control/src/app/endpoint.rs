//! Endpoints: served models.

use gregal_api::{
    endpoint::{EndpointCreate, EndpointView},
    problem::{Code, Problem},
};
use gregal_core::{
    access::Action,
    endpoint::{Endpoint, EndpointMove, EndpointState},
    id::{EndpointId, ProjectId},
};
use gregal_policy::{Placement, Resource, ResourceKind};
use gregal_store::{Listed, Page};

use crate::{
    Control, Cx, Error, Result,
    app::{limit, site::site_found},
    context::Facts as _,
    names,
    wakes::Wake,
};

impl Control {
    /// Asks for a model to be served, at the site where its weights are.
    pub(crate) async fn endpoint_create(
        &self,
        cx: &Cx,
        project: ProjectId,
        wanted: EndpointCreate,
    ) -> Result<EndpointView> {
        let (project, policies) = self.project_seen(cx, project, Action::EndpointCreate).await?;
        names::label("name", &wanted.name)?;
        let tx = self.begin(cx).await?;
        let found = tx.model_get(wanted.model).await?.filter(|model| model.project == project.id);
        let model = found.ok_or_else(|| Error::missing("model", wanted.model))?;
        let site = self.site_of(&tx, model.site).await?;
        if let Some(asked) = &wanted.site {
            let asked = site_found(&tx, asked).await?;
            self.lawful(&tx, project.organisation, &asked, Placement::Endpoint).await?;
            if asked.id != site.id {
                let detail = format!("its weights are at `{}` and cannot be read at `{}`", site.name, asked.name);
                return Err(Problem::new(Code::NeverFits, detail).hint("leave the site out").into());
            }
        }
        self.lawful(&tx, project.organisation, &site, Placement::Endpoint).await?;
        let live = (Code::Conflict, "endpoints that have not ended");
        let there = tx.endpoints_live_count(project.id).await?;
        limit::one_more(there, limit::ENDPOINTS_LIVE_MAX, live, "delete one that is not needed")?;
        let endpoint = Endpoint {
            id: EndpointId::new(self.world()),
            organisation: project.organisation,
            project: project.id,
            site: site.id,
            name: wanted.name,
            model: model.id,
            state: EndpointState::Pending,
            message: None,
            created_at: cx.now,
            ready_at: None,
            version: 1,
        };
        tx.endpoint_insert(&endpoint).await?;
        let answer = EndpointView::at(&endpoint, site.url.as_deref());
        let entry = cx
            .done(Some(project.organisation), Action::EndpointCreate.as_str(), endpoint.id)
            .by(&policies)
            .fact("model", model.id.to_string())
            .fact("site", site.id.to_string());
        self.finish_created(cx, tx, &[entry], Wake::Sites, &answer).await?;
        Ok(answer)
    }

    /// A project's endpoints.
    pub(crate) async fn endpoints_list(
        &self,
        cx: &Cx,
        project: ProjectId,
        page: &Page,
    ) -> Result<Listed<EndpointView>> {
        let (project, _) = self.project_seen(cx, project, Action::EndpointRead).await?;
        let listed = self.store().endpoints_list(project.id, page).await?;
        let mut items = Vec::with_capacity(listed.items.len());
        for endpoint in &listed.items {
            items.push(self.endpoint_view(endpoint).await?);
        }
        Ok(Listed { items, next: listed.next })
    }

    /// An endpoint.
    pub(crate) async fn endpoint_read(&self, cx: &Cx, id: EndpointId) -> Result<EndpointView> {
        let (endpoint, _) = self.endpoint_seen(cx, id, Action::EndpointRead).await?;
        self.endpoint_view(&endpoint).await
    }

    async fn endpoint_view(&self, endpoint: &Endpoint) -> Result<EndpointView> {
        let site = self.site_of(self.store(), endpoint.site).await?;
        Ok(EndpointView::at(endpoint, site.url.as_deref()))
    }

    async fn endpoint_seen(&self, cx: &Cx, id: EndpointId, action: Action) -> Result<(Endpoint, Vec<String>)> {
        let endpoint = self.store().endpoint_get(id).await?.ok_or_else(|| Error::missing("endpoint", id))?;
        let resource = Resource::within(ResourceKind::Endpoint, endpoint.organisation, endpoint.project, id);
        let policies = self.authorize(cx, action, &resource).await?;
        Ok((endpoint, policies))
    }

    /// Stops an endpoint: it finishes what it began. Stopping it again changes nothing.
    pub(crate) async fn endpoint_delete(&self, cx: &Cx, id: EndpointId) -> Result<EndpointView> {
        let (_, policies) = self.endpoint_seen(cx, id, Action::EndpointDelete).await?;
        let tx = self.begin(cx).await?;
        let before = tx.endpoint_get(id).await?.ok_or_else(|| Error::missing("endpoint", id))?;
        let step = match before.state {
            // Its site may have begun to load it without having said so: the intent without it stops that too.
            EndpointState::Pending => EndpointMove::Stop,
            EndpointState::Loading | EndpointState::Ready => EndpointMove::Drain,
            EndpointState::Draining | EndpointState::Stopped | EndpointState::Failed => {
                drop(tx);
                return self.endpoint_view(&before).await;
            }
        };
        let after = before.apply(step)?;
        tx.endpoint_update(&after).await?;
        let entry = cx
            .done(Some(after.organisation), Action::EndpointDelete.as_str(), id)
            .by(&policies)
            .fact("state", after.state.as_str());
        self.finish(cx, tx, &[entry], Wake::Sites).await?;
        self.endpoint_view(&after).await
    }
}

/// What a served model's tokens are priced as: its class by size. Price books name classes, or `*` for all.
pub(crate) const fn price_item(parameters: u64) -> &'static str {
    const MILLIARD: u64 = 1_000_000_000;
    if parameters <= MILLIARD {
        "lm.1b"
    } else if parameters <= 8 * MILLIARD {
        "lm.8b"
    } else if parameters <= 32 * MILLIARD {
        "lm.32b"
    } else if parameters <= 100 * MILLIARD {
        "lm.100b"
    } else {
        "lm.max"
    }
}
