//! Quotas: the operator sets an organisation's, and an organisation shares its own among its projects.

use std::collections::BTreeMap;

use gregal_api::{
    organisation::OrganisationView,
    problem::{Code, Problem},
    quota::{QuotaView, QuotaWrite, ShareWrite},
};
use gregal_core::{
    access::Action,
    endpoint::Endpoint,
    id::{OrganisationId, ProjectId},
    job::{JobState, PRIORITY_MAX},
    organisation::{FairShare, Organisation, Project},
    quota::{self, Quota, QuotaId, UNITS_MAX},
    reservation::{Reservation, ReservationState},
    sku::{Catalogue, Sku},
};
use gregal_policy::Resource;
use gregal_store::{Tx, View};

use crate::{Control, Cx, Error, Result, context::Facts as _, wakes::Wake};

/// The largest weight of an organisation.
const WEIGHT_MAX: u32 = 1_000;

/// What holds where nothing is set: nothing guaranteed, and no limit.
const NOTHING_SET: QuotaWrite = QuotaWrite { guarantee: 0, borrow_max: None, lend_max: None };

/// Whose quota it is.
#[derive(Debug, Clone, Copy)]
struct Holder {
    organisation: OrganisationId,
    project: Option<ProjectId>,
}

impl Control {
    /// An organisation's quotas and its projects'.
    pub(crate) async fn quotas_list(&self, cx: &Cx, id: OrganisationId) -> Result<Vec<QuotaView>> {
        self.organisation_seen(cx, id, Action::QuotaRead).await?;
        let quotas = self.store().quotas_of_organisation(id).await?;
        self.quotas_used(self.store(), id, &quotas).await
    }

    /// A project's quotas.
    pub(crate) async fn project_quotas_list(&self, cx: &Cx, id: ProjectId) -> Result<Vec<QuotaView>> {
        let (project, _) = self.project_seen(cx, id, Action::QuotaRead).await?;
        let quotas = self.store().quotas_of_project(id).await?;
        self.quotas_used(self.store(), project.organisation, &quotas).await
    }

    /// Sets what an organisation has of a family of SKUs.
    pub(crate) async fn quota_write(
        &self,
        cx: &Cx,
        id: OrganisationId,
        family: &str,
        wanted: &QuotaWrite,
    ) -> Result<QuotaView> {
        let (_, policies) = self.organisation_seen(cx, id, Action::QuotaWrite).await?;
        let holder = Holder { organisation: id, project: None };
        self.quota_set(cx, holder, family, Some(wanted), Action::QuotaWrite, &policies).await
    }

    /// Takes an organisation's quota of a family of SKUs away, and answers what holds then: nothing guaranteed, and no limit.
    pub(crate) async fn quota_remove(&self, cx: &Cx, id: OrganisationId, family: &str) -> Result<QuotaView> {
        let (_, policies) = self.organisation_seen(cx, id, Action::QuotaWrite).await?;
        let holder = Holder { organisation: id, project: None };
        self.quota_set(cx, holder, family, None, Action::QuotaWrite, &policies).await
    }

    /// Sets what a project has of its organisation's family of SKUs.
    pub(crate) async fn project_quota_write(
        &self,
        cx: &Cx,
        id: ProjectId,
        family: &str,
        wanted: &QuotaWrite,
    ) -> Result<QuotaView> {
        let (holder, policies) = self.project_sharing(cx, id).await?;
        self.quota_set(cx, holder, family, Some(wanted), Action::QuotaShare, &policies).await
    }

    /// Takes a project's quota of a family of SKUs away.
    pub(crate) async fn project_quota_remove(&self, cx: &Cx, id: ProjectId, family: &str) -> Result<QuotaView> {
        let (holder, policies) = self.project_sharing(cx, id).await?;
        self.quota_set(cx, holder, family, None, Action::QuotaShare, &policies).await
    }

    /// A project whose part of the organisation's quotas the key may set. Asked of the organisation, after the project was
    /// seen: what one project gets the others do not, so a key bound to one does not share.
    async fn project_sharing(&self, cx: &Cx, id: ProjectId) -> Result<(Holder, Vec<String>)> {
        let (project, _) = self.project_seen(cx, id, Action::ProjectRead).await?;
        let whole = Resource::organisation(project.organisation);
        let policies = self.authorize(cx, Action::QuotaShare, &whole).await?;
        Ok((Holder { organisation: project.organisation, project: Some(id) }, policies))
    }

    /// Writes a quota, or takes it away where none is wanted, if what projects are given stays within what their organisation
    /// has.
    async fn quota_set(
        &self,
        cx: &Cx,
        holder: Holder,
        family: &str,
        wanted: Option<&QuotaWrite>,
        action: Action,
        policies: &[String],
    ) -> Result<QuotaView> {
        let id = QuotaId::of(holder.organisation, holder.project, family);
        if let Some(wanted) = wanted {
            checked(wanted)?;
        }
        let tx = self.begin(cx).await?;
        let catalogue = tx.skus_all().await?;
        if wanted.is_some() {
            known_family(&catalogue, family)?;
        }
        let before = tx.quota_get(&id).await?;
        let after = wanted.map(|wanted| as_wanted(holder, family, wanted, before.as_ref()));
        self.stays_shared(&tx, holder, family, after.as_ref()).await?;
        let shown = after.clone().unwrap_or_else(|| as_wanted(holder, family, &NOTHING_SET, None));
        let view = self.quota_used(&tx, &shown).await?;
        match (&before, &after) {
            (None, Some(after)) => tx.quota_insert(after).await?,
            (Some(_), Some(after)) => tx.quota_update(after).await?,
            (Some(before), None) => tx.quota_remove(before).await?,
            (None, None) => {
                // Taken away already: the same act again changes nothing.
                known_family(&catalogue, family)?;
                return Ok(view);
            }
        }
        let entry = cx.done(Some(holder.organisation), action.as_str(), &id).by(policies).fact("sku", family);
        let entry = match &after {
            Some(quota) => entry
                .fact("guarantee", quota.guarantee)
                .fact("borrow_max", quota.borrow_max)
                .fact("lend_max", quota.lend_max),
            None => entry.fact("removed", true),
        };
        self.finish(cx, tx, &[entry], Wake::Schedule).await?;
        Ok(view)
    }

    /// Whether guarantees still fit once a holder's quota is this one.
    async fn stays_shared(&self, tx: &Tx, holder: Holder, family: &str, after: Option<&Quota>) -> Result<()> {
        let mut given = tx.quotas_given(holder.organisation, family).await?;
        let whole = match holder.project {
            None => after.cloned(),
            Some(project) => {
                given.retain(|quota| quota.project != Some(project));
                given.extend(after.cloned());
                tx.quota_get(&QuotaId::of(holder.organisation, None, family)).await?
            }
        };
        quota::shared(family, whole.as_ref(), &given).map_err(|over| {
            let hint = match holder.project {
                Some(_) => "give another project less, or ask the operator for a larger guarantee",
                None => "the organisation's projects have to be given less first",
            };
            Problem::new(Code::Conflict, over.to_string()).hint(hint).into()
        })
    }

    /// Quotas of an organisation with what its jobs and served models use of them now.
    async fn quotas_used(&self, view: &View, of: OrganisationId, quotas: &[Quota]) -> Result<Vec<QuotaView>> {
        let mut used: BTreeMap<QuotaId, u32> = BTreeMap::new();
        let jobs = view.jobs_in_states(&JobState::BOUND).await?;
        // What runs in a reservation is counted with it.
        let jobs = jobs.iter().filter(|job| job.organisation == of && job.reservation.is_none());
        let jobs = jobs.map(|job| (job.project, &job.sku, 1));
        let models = view.endpoints_live().await?;
        let stands = |model: &&Endpoint| model.organisation == of && model.takes_room();
        let models = models.iter().filter(stands).map(|model| (model.project, &model.sku, 1));
        let reserved = view.reservations_live().await?;
        let begun = |one: &&Reservation| one.organisation == of && one.state == ReservationState::Active;
        let reserved = reserved.iter().filter(begun).map(|one| (one.project, &one.sku, one.count));
        let catalogue = view.skus_all().await?;
        for (project, sku, count) in jobs.chain(models).chain(reserved) {
            let Some(sku) = catalogue.sku(sku) else { continue };
            for project in [None, Some(project)] {
                let sum = used.entry(QuotaId::of(of, project, sku.family())).or_default();
                *sum = sum.saturating_add(sku.units().saturating_mul(count));
            }
        }
        let shown = |quota: &Quota| QuotaView::new(quota, used.get(&quota.id).copied().unwrap_or(0));
        Ok(quotas.iter().map(shown).collect())
    }

    async fn quota_used(&self, view: &View, quota: &Quota) -> Result<QuotaView> {
        let mut views = self.quotas_used(view, quota.organisation, std::slice::from_ref(quota)).await?;
        views.pop().ok_or_else(|| Error::Broken("a quota has no view".into()))
    }

    /// Refuses a job that its quotas can never allow: it would wait for ever.
    pub(crate) async fn quota_allows(&self, view: &View, project: &Project, sku: &Sku) -> Result<()> {
        let own = view.quota_get(&QuotaId::of(project.organisation, Some(project.id), sku.family())).await?;
        let whole = view.quota_get(&QuotaId::of(project.organisation, None, sku.family())).await?;
        quota::allows(sku, own.as_ref(), whole.as_ref()).map_err(|beyond| {
            let hint = match beyond.holder {
                "project" => {
                    "choose a smaller sku, or ask an admin of the organisation for a larger quota of the project"
                }
                _ => "choose a smaller sku, or ask the operator for a larger quota of the organisation",
            };
            Problem::new(Code::NeverFits, beyond.to_string()).hint(hint).into()
        })
    }

    /// Sets how an organisation stands to the others: its weight, and how high its jobs may reach.
    pub(crate) async fn share_write(
        &self,
        cx: &Cx,
        id: OrganisationId,
        wanted: &ShareWrite,
    ) -> Result<OrganisationView> {
        let (_, policies) = self.organisation_seen(cx, id, Action::QuotaWrite).await?;
        if wanted.weight == 0 || wanted.weight > WEIGHT_MAX {
            return Err(Error::invalid(format!("`weight` is not from 1 to {WEIGHT_MAX}")));
        }
        if wanted.priority_max > PRIORITY_MAX {
            return Err(Error::invalid(format!("`priority_max` is not from 0 to {PRIORITY_MAX}")));
        }
        let tx = self.begin(cx).await?;
        let before = self.organisation_of(&tx, id).await?;
        let share = FairShare { weight: wanted.weight, priority_max: wanted.priority_max };
        let after = Organisation { share, version: before.version + 1, ..before };
        tx.organisation_update(&after).await?;
        let entry = cx.done(Some(id), Action::QuotaWrite.as_str(), id).by(&policies);
        let entry = entry.fact("weight", share.weight).fact("priority_max", share.priority_max);
        self.finish(cx, tx, &[entry], Wake::Schedule).await?;
        Ok((&after).into())
    }
}

/// Refuses what quotas cannot speak of, and says what they can.
fn known_family(catalogue: &Catalogue, asked: &str) -> Result<()> {
    let families = catalogue.families();
    if families.contains(asked) {
        return Ok(());
    }
    let detail = match catalogue.sku(asked) {
        Some(sku) => format!("quotas count `{asked}` as `{}`, together with the others of that family", sku.family()),
        None => "no sku is of this family".to_owned(),
    };
    let known: Vec<String> = families.into_iter().map(|family| format!("`{family}`")).collect();
    Err(Problem::new(Code::InvalidRequest, detail).hint(format!("quotas are of {}", known.join(", "))).into())
}

fn checked(wanted: &QuotaWrite) -> Result<()> {
    let fields =
        [("guarantee", Some(wanted.guarantee)), ("borrow_max", wanted.borrow_max), ("lend_max", wanted.lend_max)];
    match fields.iter().find(|(_, units)| units.is_some_and(|units| units > UNITS_MAX)) {
        Some((field, _)) => Err(Error::invalid(format!("`{field}` is larger than {UNITS_MAX}"))),
        None => Ok(()),
    }
}

fn as_wanted(holder: Holder, family: &str, wanted: &QuotaWrite, before: Option<&Quota>) -> Quota {
    Quota {
        id: QuotaId::of(holder.organisation, holder.project, family),
        organisation: holder.organisation,
        project: holder.project,
        sku: family.to_owned(),
        guarantee: wanted.guarantee,
        borrow_max: wanted.borrow_max,
        lend_max: wanted.lend_max,
        version: before.map_or(1, |before| before.version + 1),
    }
}
