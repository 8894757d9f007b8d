//! Endpoints: served models.

use gregal_api::{
    endpoint::{EndpointCreate, EndpointView},
    problem::{Code, Problem},
};
use gregal_core::{
    access::Action,
    endpoint::{Endpoint, EndpointMove, EndpointState},
    id::{EndpointId, ModelId, ProjectId},
    job::Billed,
    model::Model,
    replica::{self, WINDOW_MS},
    sku::{Catalogue, Sku},
};
use gregal_policy::{Placement, Resource, ResourceKind};
use gregal_store::{Listed, Page, Tx};

use crate::{
    Control, Cx, Error, Result,
    app::{limit, site::site_found, sku::rentable},
    context::Facts as _,
    names,
    tasks::replica::fits,
    wakes::Wake,
};

/// What an endpoint is known by, for keys narrowed to models.
pub(crate) fn names_of(endpoint: &Endpoint) -> [String; 3] {
    [endpoint.id.to_string(), endpoint.name.clone(), endpoint.model.to_string()]
}

impl Control {
    /// Asks for a model to be served, at the site where its weights are.
    pub(crate) async fn endpoint_create(
        &self,
        cx: &Cx,
        project: ProjectId,
        wanted: EndpointCreate,
    ) -> Result<EndpointView> {
        let (project, policies) = {
            let names = [wanted.name.clone()].into_iter().chain(wanted.model.map(|model| model.to_string())).collect();
            self.project_seen_for(cx, project, Action::EndpointCreate, wanted.site.as_deref(), names).await?
        };
        names::label("name", &wanted.name)?;
        let asked = what_to_serve(&wanted)?;
        let tx = self.begin(cx).await?;
        let wanted_model = match asked {
            Asked::Shared(shared) => {
                return self.endpoint_of_shared(cx, tx, &project, &policies, &wanted, &shared).await;
            }
            Asked::Model(model) => model,
        };
        let found = tx.model_get(wanted_model).await?.filter(|model| model.project == project.id);
        let model = found.ok_or_else(|| Error::missing("model", wanted_model))?;
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
        let catalogue = tx.skus_all().await?;
        let sku = endpoint_sku(&catalogue, wanted.sku.as_deref(), &model)?;
        fits(cx, &site, sku)?;
        self.quota_allows(&tx, &project, sku).await?;
        let id = EndpointId::new(self.world());
        let hold = self.replica_hold(&tx, &project, id, sku).await?;
        let endpoint = Endpoint {
            id,
            organisation: project.organisation,
            project: project.id,
            site: site.id,
            name: wanted.name,
            model: model.id,
            shared: None,
            sku: sku.name.clone(),
            hold: Some(hold.id),
            held_ms: WINDOW_MS,
            billed: Billed::default(),
            placed_at: None,
            promised: None,
            state: EndpointState::Pending,
            message: Some("its turn: the scheduler has not looked at it yet".into()),
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
            .fact("site", site.id.to_string())
            .fact("residency", self.residency_facts(&tx, project.organisation, site.id).await?)
            .fact("sku", endpoint.sku.as_str())
            .fact("held_nano", hold.amount.get());
        self.finish_created(cx, tx, &[entry], Wake::Schedule, &answer).await?;
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
        let resource = resource.at(endpoint.site).called(names_of(&endpoint));
        let policies = self.authorize(cx, action, &resource).await?;
        Ok((endpoint, policies))
    }

    /// Stops an endpoint: it finishes what it began. Stopping it again changes nothing.
    pub(crate) async fn endpoint_delete(&self, cx: &Cx, id: EndpointId) -> Result<EndpointView> {
        let (_, policies) = self.endpoint_seen(cx, id, Action::EndpointDelete).await?;
        let tx = self.begin(cx).await?;
        let before = tx.endpoint_get(id).await?.ok_or_else(|| Error::missing("endpoint", id))?;
        let step = match before.state {
            EndpointState::Pending if before.placed_at.is_none() => EndpointMove::Stop,
            // Its site may have begun to load it without having said so: the end has to be proved.
            EndpointState::Pending | EndpointState::Loading | EndpointState::Ready => EndpointMove::Drain { why: None },
            EndpointState::Draining | EndpointState::Stopped | EndpointState::Failed => {
                drop(tx);
                return self.endpoint_view(&before).await;
            }
        };
        let after = before.apply(step)?;
        self.endpoint_put(&tx, &after).await?;
        let entry = cx
            .done(Some(after.organisation), Action::EndpointDelete.as_str(), id)
            .by(&policies)
            .fact("state", after.state.as_str());
        self.finish(cx, tx, &[entry], Wake::Schedule).await?;
        self.endpoint_view(&after).await
    }

    /// Writes an endpoint; one that has ended gives back what is left of its hold.
    pub(crate) async fn endpoint_put(&self, tx: &Tx, after: &Endpoint) -> Result<()> {
        tx.endpoint_update(after).await?;
        let hold = match after.hold.filter(|_| after.state.is_final()) {
            Some(hold) => tx.hold_get(hold).await?,
            None => None,
        };
        if let Some(hold) = hold {
            self.hold_close(tx, &hold, false).await?;
        }
        Ok(())
    }
}

/// What an endpoint was asked for.
enum Asked {
    Model(ModelId),
    Shared(String),
}

fn what_to_serve(wanted: &EndpointCreate) -> Result<Asked> {
    let neither = "either `model` or `shared` says what to serve";
    match (wanted.model, &wanted.shared) {
        (Some(model), None) => Ok(Asked::Model(model)),
        (None, Some(shared)) if wanted.sku.is_none() => Ok(Asked::Shared(shared.clone())),
        (None, Some(_)) => {
            Err(Problem::new(Code::InvalidRequest, "a shared model stands on no sku").hint("leave the sku out").into())
        }
        (Some(_), Some(_)) | (None, None) => Err(Problem::new(Code::InvalidRequest, neither).into()),
    }
}

/// The SKU an endpoint stands on: the one asked for, if it can serve the model, else the smallest that can.
fn endpoint_sku<'a>(catalogue: &'a Catalogue, asked: Option<&str>, model: &Model) -> Result<&'a Sku> {
    let needed_mib = replica::memory_needed(model.bytes) >> 20;
    let able = catalogue.offered().filter(|sku| replica::can_serve(sku, model.bytes));
    let able: Vec<String> = able.map(|sku| format!("`{}`", sku.name)).collect();
    let hint = || {
        if able.is_empty() {
            format!("no sku has {needed_mib} MiB of memory without accelerators; serve a smaller model")
        } else {
            format!("it can be served on {}", able.join(", "))
        }
    };
    let Some(asked) = asked else {
        let smallest = replica::smallest(catalogue.offered(), model.bytes);
        return smallest.ok_or_else(|| {
            let detail = format!("serving the model takes {needed_mib} MiB of memory");
            Problem::new(Code::NeverFits, detail).hint(hint()).into()
        });
    };
    let sku = rentable(catalogue, asked)?;
    if sku.gpus > 0 {
        let detail = format!("`{asked}` has accelerators, and models are served on cores");
        return Err(Problem::new(Code::InvalidRequest, detail).hint(hint()).into());
    }
    if !replica::can_serve(sku, model.bytes) {
        let detail =
            format!("serving the model takes {needed_mib} MiB of memory, `{asked}` has {}", sku.memory_bytes >> 20);
        return Err(Problem::new(Code::NeverFits, detail).hint(hint()).into());
    }
    Ok(sku)
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
