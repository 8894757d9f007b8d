//! Organisations: who pays, and under which law its content lives.

use std::collections::BTreeSet;

use gregal_api::{
    key::KeyCreated,
    organisation::{OrganisationCreate, OrganisationCreated, OrganisationView, ResidencyView},
    problem::{Code, Problem},
};
use gregal_core::{
    access::{Action, Role},
    id::{KeyId, OrganisationId},
    job::JobState,
    key::{self, Key},
    ledger::{self, PostingKind},
    money::Cents,
    organisation::{FairShare, Organisation, Plan},
    residency::{Jurisdiction, ResidencyPolicy},
};
use gregal_policy::{OwnPolicies, Placement, Resource};
use gregal_store::{Listed, PAGE_MAX, Page, View};

use crate::{Control, Cx, Error, Result, context::Facts as _, names, wakes::Wake};

impl Control {
    /// Makes an organisation, its credit and its owner's key.
    pub(crate) async fn organisation_create(&self, cx: &Cx, wanted: OrganisationCreate) -> Result<OrganisationCreated> {
        let policies = self.authorize(cx, Action::OrganisationCreate, &Resource::cloud()).await?;
        names::title("name", &wanted.name)?;
        if let Some(vat_id) = &wanted.vat_id {
            names::title("vat_id", vat_id)?;
        }
        let credit = Cents::new(i64::from(wanted.credit_cents)).to_nano()?;
        let organisation = Organisation {
            id: OrganisationId::new(self.world()),
            country: jurisdiction("country", &wanted.country)?,
            billing: None,
            plan: plan(wanted.plan.as_deref())?,
            residency: wanted.residency.as_ref().map_or_else(|| Ok(ResidencyPolicy::eu()), residency)?,
            name: wanted.name,
            vat_id: wanted.vat_id,
            credit,
            share: FairShare::default(),
            policies: 0,
            support: gregal_core::support::SupportSetting::default(),
            created_at: cx.now,
            version: 1,
        };
        let secret = self.secret();
        let owner = Key {
            id: KeyId::new(self.world()),
            organisation: Some(organisation.id),
            project: None,
            name: "owner".into(),
            role: Role::Owner,
            digest: key::digest_of(&secret),
            kind: key::KeyKind::Made,
            person: None,
            account: None,
            scope: key::Scope::default(),
            created_at: cx.now,
            expires_at: None,
            revoked_at: None,
            replaces: None,
            replaced_by: None,
            version: 1,
        };
        let tx = self.begin(cx).await?;
        tx.organisation_insert(&organisation).await?;
        tx.key_insert(&owner).await?;
        self.post(&tx, organisation.id, PostingKind::Credit, organisation.id, ledger::credit(credit)?).await?;
        let answer = |secret: Option<String>| OrganisationCreated {
            organisation: (&organisation).into(),
            owner_key: KeyCreated { key: (&owner).into(), secret },
        };
        let entries = [
            cx.done(Some(organisation.id), Action::OrganisationCreate.as_str(), organisation.id)
                .by(&policies)
                .fact("name", organisation.name.as_str())
                .fact("credit_nano", credit.get()),
            cx.done(Some(organisation.id), Action::KeyCreate.as_str(), owner.id).by(&policies).fact("role", "owner"),
        ];
        self.finish_created(cx, tx, &entries, Wake::Sites, &answer(None)).await?;
        Ok(answer(Some(secret)))
    }

    /// The organisations the key may see: all for operators, its own for a tenant, none for a key bound to a project.
    pub(crate) async fn organisations_list(&self, cx: &Cx, page: &Page) -> Result<Listed<Organisation>> {
        let Some(own) = cx.key()?.organisation else {
            self.authorize(cx, Action::OrganisationRead, &Resource::cloud()).await?;
            return Ok(self.store().organisations_list(page).await?);
        };
        let hidden = self.verdict(cx, Action::OrganisationRead, &Resource::organisation(own)).hides();
        if hidden || page.after.is_some() {
            // A bound key may ask, and sees none: the organisation stands above its project.
            let home = gregal_policy::Principal::from(cx.key()?).home();
            let asked = if hidden { Action::ProjectRead } else { Action::OrganisationRead };
            self.authorize(cx, asked, &home).await?;
            return Ok(Listed { items: Vec::new(), next: None });
        }
        Ok(Listed { items: vec![self.organisation_read(cx, own).await?], next: None })
    }

    /// An organisation.
    pub(crate) async fn organisation_read(&self, cx: &Cx, id: OrganisationId) -> Result<Organisation> {
        Ok(self.organisation_seen(cx, id, Action::OrganisationRead).await?.0)
    }

    /// An organisation on which this action is allowed, and the policies that allow it.
    pub(crate) async fn organisation_seen(
        &self,
        cx: &Cx,
        id: OrganisationId,
        action: Action,
    ) -> Result<(Organisation, Vec<String>)> {
        let found = self.store().organisation_get(id).await?;
        let organisation = found.ok_or_else(|| Error::missing("organisation", id))?;
        let policies = self.authorize(cx, action, &Resource::organisation(id)).await?;
        Ok((organisation, policies))
    }

    /// The organisation a row belongs to, inside or outside a transaction.
    pub(crate) async fn organisation_of(&self, view: &View, id: OrganisationId) -> Result<Organisation> {
        let gone = || Error::Broken(format!("organisation `{id}` has rows and is not there"));
        view.organisation_get(id).await?.ok_or_else(gone)
    }

    /// Sets where the organisation's content may be. Refused while content stands where it would no longer be allowed:
    /// the policy would say one thing and the disks another.
    pub(crate) async fn residency_write(
        &self,
        cx: &Cx,
        id: OrganisationId,
        wanted: &ResidencyView,
    ) -> Result<OrganisationView> {
        let (_, policies) = self.organisation_seen(cx, id, Action::ResidencyWrite).await?;
        let policy = residency(wanted)?;
        let tx = self.begin(cx).await?;
        let before = self.organisation_of(&tx, id).await?;
        let own = self.own_of(&tx, &before).await?;
        self.content_fits(&tx, id, &policy, own.as_ref()).await?;
        let after = Organisation { residency: policy, version: before.version + 1, ..before };
        tx.organisation_update(&after).await?;
        let written = serde_json::to_value(ResidencyView::from(&after.residency)).unwrap_or_default();
        let entry = cx.done(Some(id), Action::ResidencyWrite.as_str(), id).by(&policies).fact("residency", written);
        self.finish(cx, tx, &[entry], Wake::Schedule).await?;
        Ok((&after).into())
    }

    /// Refuses a residency policy, or policies of an organisation's own, while content stands where it would no longer be
    /// allowed: the rules would say one thing and the disks another.
    pub(crate) async fn content_fits(
        &self,
        view: &View,
        id: OrganisationId,
        policy: &ResidencyPolicy,
        own: Option<&OwnPolicies>,
    ) -> Result<()> {
        const NAMED_MAX: usize = 10;
        let outside = self.content_outside(view, id, policy, own).await?;
        if outside.is_empty() {
            return Ok(());
        }
        let named = outside.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
        let more = outside.len().saturating_sub(NAMED_MAX);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let detail = format!("content stands where this policy would not allow it: {named}{more}");
        let hint = "remove it first (datasets, endpoints) or let it end (jobs), then set the policy again; a model \
                    cannot be removed or moved yet: while one stands at a site, the policy has to allow that site";
        Err(Problem::new(Code::Conflict, detail).hint(hint).into())
    }

    /// What stands at sites that a policy does not allow, each asked as what it is.
    async fn content_outside(
        &self,
        view: &View,
        id: OrganisationId,
        policy: &ResidencyPolicy,
        own: Option<&OwnPolicies>,
    ) -> Result<Vec<String>> {
        let mut forbidden = BTreeSet::new();
        for site in view.sites_all().await? {
            for what in STANDING {
                if !self.policies().place_within(policy, &site, what, own).allowed {
                    forbidden.insert((what, site.id));
                }
            }
        }
        let mut outside = Vec::new();
        if forbidden.is_empty() {
            return Ok(outside);
        }
        for project in projects_all(view, id).await? {
            for dataset in datasets_all(view, project.id).await? {
                if dataset.state != gregal_core::dataset::DatasetState::Deleted
                    && forbidden.contains(&(Placement::Dataset, dataset.site))
                {
                    outside.push(format!("dataset `{}`", dataset.name));
                }
            }
            let mut page = Page::first(PAGE_MAX);
            loop {
                let models = view.models_list(project.id, &page).await?;
                let there = models.items.iter().filter(|model| forbidden.contains(&(Placement::Model, model.site)));
                outside.extend(there.map(|model| format!("model `{}` {}", model.name, model.number)));
                let Some(next) = models.next else { break };
                page = Page::after(next, PAGE_MAX);
            }
        }
        let mine = |endpoint: &&gregal_core::endpoint::Endpoint| endpoint.organisation == id;
        for endpoint in view.endpoints_live().await?.iter().filter(mine) {
            if forbidden.contains(&(Placement::Endpoint, endpoint.site)) {
                outside.push(format!("endpoint `{}`", endpoint.name));
            }
        }
        for job in view.jobs_in_states(&JobState::NOT_ENDED).await? {
            if job.organisation == id && job.site.is_some_and(|site| forbidden.contains(&(Placement::Job, site))) {
                outside.push(format!("job `{}`", job.name));
            }
        }
        Ok(outside)
    }
}

/// What stands at a site, as residency calls it.
const STANDING: [Placement; 4] = [Placement::Dataset, Placement::Job, Placement::Model, Placement::Endpoint];

/// Every project of an organisation.
pub(crate) async fn projects_all(view: &View, id: OrganisationId) -> Result<Vec<gregal_core::organisation::Project>> {
    let (mut all, mut page) = (Vec::new(), Page::first(PAGE_MAX));
    loop {
        let listed = view.projects_list(id, &page).await?;
        all.extend(listed.items);
        let Some(next) = listed.next else { return Ok(all) };
        page = Page::after(next, PAGE_MAX);
    }
}

/// Every dataset of a project, removed ones among them.
pub(crate) async fn datasets_all(
    view: &View,
    id: gregal_core::id::ProjectId,
) -> Result<Vec<gregal_core::dataset::Dataset>> {
    let (mut all, mut page) = (Vec::new(), Page::first(PAGE_MAX));
    loop {
        let listed = view.datasets_list(id, &page).await?;
        all.extend(listed.items);
        let Some(next) = listed.next else { return Ok(all) };
        page = Page::after(next, PAGE_MAX);
    }
}

/// A country code from a field.
pub(crate) fn jurisdiction(field: &str, text: &str) -> Result<Jurisdiction> {
    text.parse().map_err(|_| Error::invalid(format!("`{field}` is not a country code: expected one like `FR`")))
}

fn plan(text: Option<&str>) -> Result<Plan> {
    match text {
        None | Some("self_service") => Ok(Plan::SelfService),
        Some("subscription") => Ok(Plan::Subscription),
        Some("dedicated") => Ok(Plan::Dedicated),
        Some(_) => Err(Error::invalid("`plan` is not one of `self_service`, `subscription`, `dedicated`")),
    }
}

/// A residency policy as it was written; `EU` stands for all member states.
fn residency(view: &ResidencyView) -> Result<ResidencyPolicy> {
    names::titles("certifications", &view.certifications)?;
    names::titles("operators", &view.operators)?;
    if view.jurisdictions.len() > 300 {
        return Err(Error::invalid("`jurisdictions` has more items than there are countries"));
    }
    let mut jurisdictions = BTreeSet::new();
    for text in &view.jurisdictions {
        if text == "EU" {
            jurisdictions.extend(Jurisdiction::eu());
        } else {
            jurisdictions.insert(jurisdiction("jurisdictions", text)?);
        }
    }
    if jurisdictions.is_empty() {
        return Err(Error::invalid(
            "`jurisdictions` is empty: content could be nowhere; `EU` stands for all member states",
        ));
    }
    Ok(ResidencyPolicy {
        jurisdictions,
        certifications: view.certifications.iter().cloned().collect(),
        operators: view.operators.iter().cloned().collect(),
    })
}
