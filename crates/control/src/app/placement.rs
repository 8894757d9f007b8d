//! Where content could be, and which rule forbids the rest.

use gregal_api::placement::{PlacementAnswer, PlacementAsk, SiteVerdict};
use gregal_core::{access::Action, id::ProjectId};
use gregal_policy::Placement;

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
}
