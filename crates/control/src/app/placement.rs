//! Where content could be, and which rule forbids the rest.

use gregal_api::placement::{PlacementAnswer, PlacementAsk, SiteVerdict};
use gregal_core::{
    access::Action,
    id::{OrganisationId, ProjectId, SiteId},
    residency::Jurisdiction,
};
use gregal_policy::Placement;
use gregal_store::View;
use serde_json::{Value, json};

use crate::{Control, Cx, Result, app::site::site_found};

impl Control {
    /// Says of every site, or of one, whether the organisation's content may be there.
    pub(crate) async fn placement_explain(
        &self,
        cx: &Cx,
        project: ProjectId,
        asked: &PlacementAsk,
    ) -> Result<PlacementAnswer> {
        let (project, _) = self.project_seen(cx, project, Action::PlacementExplain).await?;
        let organisation = self.organisation_of(self.store(), project.organisation).await?;
        let sites = match &asked.site {
            Some(site) => vec![site_found(self.store(), site).await?],
            None => self.store().sites_all().await?,
        };
        let own = self.own_of(self.store(), &organisation).await?;
        let verdict = |site: &gregal_core::site::Site| {
            let what = Placement::Dataset;
            let verdict = self.policies().place_within(&organisation.residency, site, what, own.as_ref());
            SiteVerdict {
                site: site.id.to_string(),
                name: site.name.clone(),
                allowed: verdict.allowed,
                rule: verdict.rule,
                because: verdict.because,
                would_need: verdict.would_need,
            }
        };
        Ok(PlacementAnswer { sites: sites.iter().map(verdict).collect() })
    }

    /// What a decision that content may be at a site was made from, for the audit entry of what was placed there: the facts
    /// about the site as they were registered then, the ceiling they stood under, and how many times the organisation had
    /// written policies of its own.
    pub(crate) async fn residency_facts(&self, view: &View, owner: OrganisationId, site: SiteId) -> Result<Value> {
        let (organisation, site) = (self.organisation_of(view, owner).await?, self.site_of(view, site).await?);
        let ceiling = &organisation.residency;
        // Twenty-seven codes in every entry would bury the rest.
        let jurisdictions =
            if ceiling.jurisdictions == Jurisdiction::eu() { json!(["EU"]) } else { json!(ceiling.jurisdictions) };
        Ok(json!({
            "site": {
                "jurisdiction": site.jurisdiction,
                "operator": site.operator.name,
                "operator_jurisdiction": site.operator.jurisdiction,
                "parent_jurisdiction": site.operator.parent_jurisdiction,
                "certifications": site.certifications,
            },
            "ceiling": {
                "jurisdictions": jurisdictions,
                "certifications": ceiling.certifications,
                "operators": ceiling.operators,
            },
            "own_policies": organisation.policies,
        }))
    }
}
