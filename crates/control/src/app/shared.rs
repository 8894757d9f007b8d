//! Endpoints of shared models: what sites offer by the token. Nothing is started for one, and nothing is held but tokens.

use gregal_api::{
    endpoint::{EndpointCreate, EndpointView},
    problem::{Code, Problem},
};
use gregal_core::{
    access::Action,
    endpoint::{Endpoint, EndpointState},
    id::{EndpointId, ModelId},
    job::Billed,
    meter::Meter,
    organisation::Project,
    shared::SharedModel,
    site::Site,
};
use gregal_policy::Placement;
use gregal_store::Tx;

use crate::{
    Control, Cx, Error, Result,
    app::{limit, site::site_found},
    context::Facts as _,
    wakes::Wake,
};

impl Control {
    /// Makes an endpoint that stands for a shared model, at the site asked for or the first lawful one that offers it.
    pub(crate) async fn endpoint_of_shared(
        &self,
        cx: &Cx,
        tx: Tx,
        project: &Project,
        policies: &[String],
        wanted: &EndpointCreate,
        shared: &str,
    ) -> Result<EndpointView> {
        let (site, offer) = self.shared_at(&tx, project, wanted.site.as_deref(), shared).await?;
        let live = (Code::Conflict, "endpoints that have not ended");
        let there = tx.endpoints_live_count(project.id).await?;
        limit::one_more(there, limit::ENDPOINTS_LIVE_MAX, live, "delete one that is not needed")?;
        self.shared_is_priced(cx, &tx, &offer).await?;
        let endpoint = Endpoint {
            id: EndpointId::new(self.world()),
            organisation: project.organisation,
            project: project.id,
            site: site.id,
            name: wanted.name.clone(),
            model: ModelId::from_u128(0),
            shared: Some(offer),
            sku: String::new(),
            hold: None,
            held_ms: 0,
            billed: Billed::default(),
            // It waits for no room, for it takes none.
            placed_at: Some(cx.now),
            promised: None,
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
            .by(policies)
            .fact("shared", shared)
            .fact("site", site.id.to_string())
            .fact("residency", self.residency_facts(&tx, project.organisation, site.id).await?);
        self.finish_created(cx, tx, &[entry], Wake::Schedule, &answer).await?;
        Ok(answer)
    }

    /// The site that answers for a shared model, and its offer. Sites are tried by name, so that the same ask finds the same.
    async fn shared_at(
        &self,
        tx: &Tx,
        project: &Project,
        asked: Option<&str>,
        shared: &str,
    ) -> Result<(Site, SharedModel)> {
        let mut sites = match asked {
            Some(asked) => vec![site_found(tx, asked).await?],
            None => tx.sites_all().await?,
        };
        sites.sort_by(|one, other| one.name.cmp(&other.name));
        let mut unlawful = None;
        for site in sites {
            let offers = site.capacity.iter().flat_map(|capacity| &capacity.shared);
            let Some(offer) = offers.into_iter().find(|offer| offer.name == shared).cloned() else { continue };
            match self.lawful(tx, project.organisation, &site, Placement::Endpoint).await {
                Ok(()) => return Ok((site, offer)),
                Err(error) => unlawful = Some(error),
            }
        }
        Err(unlawful.unwrap_or_else(|| Error::missing("shared model", shared.chars().take(64).collect::<String>())))
    }

    /// Nothing is offered that the price book does not know: its requests would all be refused.
    async fn shared_is_priced(&self, cx: &Cx, tx: &Tx, offer: &SharedModel) -> Result<()> {
        let books = tx.price_books_all().await?;
        let book = gregal_core::price::at(&books, cx.now);
        let has_price = |meter: Meter| book.is_some_and(|book| book.row(meter, &offer.price_item).is_some());
        if has_price(Meter::TokensIn) && has_price(Meter::TokensOut) {
            return Ok(());
        }
        let detail = format!("tokens of `{}` have no price yet", offer.price_item);
        Err(Problem::new(Code::Conflict, detail).hint("the operator puts it in the price book").into())
    }
}
