//! Sites: registered by operators, found by id or name.

use gregal_api::site::{SiteCreate, SiteCreated, SiteView};
use gregal_core::{
    access::Action,
    id::SiteId,
    key,
    site::{Site, SiteOperator},
};
use gregal_policy::{Placement, Resource};
use gregal_store::{Listed, Page, Quarantined, View};

use crate::{Control, Cx, Error, Result, app::organisation::jurisdiction, context::Facts as _, names, wakes::Wake};

impl Control {
    /// Registers a site and makes the secret it dials in with.
    pub(crate) async fn site_create(&self, cx: &Cx, wanted: SiteCreate) -> Result<SiteCreated> {
        let policies = self.authorize(cx, Action::SiteCreate, &Resource::cloud()).await?;
        names::label("name", &wanted.name)?;
        names::title("operator_name", &wanted.operator_name)?;
        names::titles("certifications", &wanted.certifications)?;
        if let Some(grid) = &wanted.grid {
            names::title("grid.source", &grid.source)?;
        }
        let secret = self.secret();
        let site = Site {
            id: SiteId::new(self.world()),
            jurisdiction: jurisdiction("jurisdiction", &wanted.jurisdiction)?,
            operator: SiteOperator {
                jurisdiction: jurisdiction("operator_jurisdiction", &wanted.operator_jurisdiction)?,
                parent_jurisdiction: jurisdiction(
                    "operator_parent_jurisdiction",
                    &wanted.operator_parent_jurisdiction,
                )?,
                name: wanted.operator_name,
            },
            name: wanted.name,
            certifications: wanted.certifications.into_iter().collect(),
            url: None,
            secret_digest: key::digest_of(&secret),
            grid: wanted.grid,
            capacity: None,
            lease_until: None,
            incarnation: None,
            created_at: cx.now,
            version: 1,
        };
        let tx = self.begin(cx).await?;
        tx.site_insert(&site).await?;
        let answer = |secret: Option<String>| SiteCreated { site: SiteView::at(&site, cx.now), secret };
        let entry = cx
            .done(None, Action::SiteCreate.as_str(), site.id)
            .by(&policies)
            .fact("name", site.name.as_str())
            .fact("jurisdiction", site.jurisdiction.as_str());
        self.finish_created(cx, tx, &[entry], Wake::Schedule, &answer(None)).await?;
        Ok(answer(Some(secret)))
    }

    /// The sites there are.
    pub(crate) async fn sites_list(&self, cx: &Cx, page: &Page) -> Result<Listed<Site>> {
        self.authorize(cx, Action::CatalogueRead, &Resource::cloud()).await?;
        Ok(self.store().sites_list(page).await?)
    }

    /// A site, by id or name.
    pub(crate) async fn site_read(&self, cx: &Cx, asked: &str) -> Result<Site> {
        let site = site_found(self.store(), asked).await?;
        self.authorize(cx, Action::CatalogueRead, &Resource::site(site.id)).await?;
        Ok(site)
    }

    /// What a site sent as usage and nobody could count, in the order of arrival.
    pub(crate) async fn site_quarantine(&self, cx: &Cx, asked: &str, page: &Page) -> Result<Listed<Quarantined>> {
        let site = site_found(self.store(), asked).await?;
        self.authorize(cx, Action::QuarantineRead, &Resource::site(site.id)).await?;
        Ok(self.store().usage_quarantine_list(site.id, page).await?)
    }

    /// A site that a row names.
    pub(crate) async fn site_of(&self, view: &View, id: SiteId) -> Result<Site> {
        let gone = || Error::Broken(format!("site `{id}` has rows and is not there"));
        view.site_get(id).await?.ok_or_else(gone)
    }

    /// Refuses, naming the rule, where an organisation's content may not be at a site.
    pub(crate) async fn lawful(
        &self,
        view: &View,
        organisation: gregal_core::id::OrganisationId,
        site: &Site,
        what: Placement,
    ) -> Result<()> {
        let organisation = self.organisation_of(view, organisation).await?;
        let own = self.own_of(view, &organisation).await?;
        let verdict = self.policies().place_within(&organisation.residency, site, what, own.as_ref());
        if verdict.allowed { Ok(()) } else { Err(Error::residency(&verdict, what)) }
    }
}

/// A site by id or name.
pub(crate) async fn site_found(view: &View, asked: &str) -> Result<Site> {
    let found = match asked.parse::<SiteId>() {
        Ok(id) => view.site_get(id).await?,
        Err(_) => view.site_by_name(asked).await?,
    };
    found.ok_or_else(|| Error::missing("site", asked.chars().take(64).collect::<String>()))
}
