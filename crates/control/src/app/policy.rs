//! Policies that organisations write for themselves: checked before they are stored, and what decisions come of them.

use gregal_api::{
    policy::{PolicyChecked, PolicyExplain, PolicyExplanation, PolicyReason, PolicyView, PolicyWrite},
    problem::{Code, Problem},
};
use gregal_core::{
    access::Action,
    id::{IdError, OrganisationId, PolicyId, ProjectId},
    key::Key,
    organisation::Organisation,
    policy::{OwnPolicy, POLICIES_MAX},
};
use gregal_policy::{Checked, Placement, Principal, Refused, Resource, ResourceKind, Verdict, Written, refuse_unknown};
use gregal_store::View;
use sha2::{Digest, Sha256};

use crate::{Control, Cx, Error, Result, context::Facts as _, names, own::compiled, wakes::Wake};

/// Whose policy it is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Holder {
    /// A whole organisation's.
    Organisation(OrganisationId),
    /// A project's.
    Project(ProjectId),
}

/// Where a policy stands, and who let it be written.
struct Place {
    organisation: OrganisationId,
    project: Option<ProjectId>,
    policies: Vec<String>,
}

impl Control {
    /// Where a holder's policies stand, if this may be done there.
    async fn policy_place(&self, cx: &Cx, holder: Holder, action: Action) -> Result<Place> {
        Ok(match holder {
            Holder::Organisation(id) => {
                let (_, policies) = self.organisation_seen(cx, id, action).await?;
                Place { organisation: id, project: None, policies }
            }
            Holder::Project(id) => {
                let (project, policies) = self.project_seen(cx, id, action).await?;
                Place { organisation: project.organisation, project: Some(id), policies }
            }
        })
    }

    /// The policies an organisation and its projects wrote for themselves; of a project, those that bind it.
    pub(crate) async fn policies_list(&self, cx: &Cx, holder: Holder) -> Result<Vec<PolicyView>> {
        let place = self.policy_place(cx, holder, Action::PolicyRead).await?;
        let all = self.store().policies_of_organisation(place.organisation).await?;
        let binds = |one: &&OwnPolicy| place.project.is_none() || one.project.is_none() || one.project == place.project;
        Ok(all.iter().filter(binds).map(PolicyView::from).collect())
    }

    /// Writes a policy under a name, in place of what stood there. Refused, with a case in point, where it is not one an
    /// organisation may write.
    pub(crate) async fn policy_write(
        &self,
        cx: &Cx,
        holder: Holder,
        name: &str,
        wanted: PolicyWrite,
    ) -> Result<PolicyView> {
        let place = self.policy_place(cx, holder, Action::PolicyWrite).await?;
        names::label("policy", name)?;
        let checked = self.policy_checked(&place, name, &wanted.text).await?;
        let tx = self.begin(cx).await?;
        let before = tx.policy_named(place.organisation, place.project, name).await?;
        if let Some(before) = before.as_ref().filter(|before| before.text == wanted.text) {
            return Ok(before.into());
        }
        let mut all = tx.policies_of_organisation(place.organisation).await?;
        if before.is_none() && all.len() >= POLICIES_MAX {
            let detail = format!("the organisation has {POLICIES_MAX} policies already, its projects' among them");
            return Err(Problem::new(Code::InvalidRequest, detail).hint("remove one, or say two in one").into());
        }
        let after = OwnPolicy {
            id: before.as_ref().map_or_else(|| PolicyId::new(self.world()), |before| before.id),
            organisation: place.organisation,
            project: place.project,
            name: name.to_owned(),
            text: wanted.text,
            permits: checked.permits,
            created_at: before.as_ref().map_or(cx.now, |before| before.created_at),
            version: before.as_ref().map_or(1, |before| before.version + 1),
        };
        let owner = self.organisation_of(&tx, place.organisation).await?;
        if checked.about_places {
            all.retain(|one| one.id != after.id);
            all.push(after.clone());
            self.nothing_outside(&tx, &owner, &all).await?;
        }
        match before {
            Some(_) => tx.policy_update(&after).await?,
            None => tx.policy_insert(&after).await?,
        }
        tx.organisation_update(&rewritten(owner)).await?;
        let entry = cx
            .done(Some(place.organisation), Action::PolicyWrite.as_str(), after.id)
            .by(&place.policies)
            .fact("rule", after.rule())
            .fact("text_sha256", hex::encode(Sha256::digest(&after.text)))
            .fact("effect", if checked.permits { "permit" } else { "forbid" })
            .fact("tried", checked.tried)
            .fact("applies", checked.applies);
        let entry = match place.project {
            Some(project) => entry.fact("project", project.to_string()),
            None => entry,
        };
        self.finish(cx, tx, &[entry], Wake::Schedule).await?;
        Ok((&after).into())
    }

    /// Removes a policy.
    pub(crate) async fn policy_remove(&self, cx: &Cx, holder: Holder, name: &str) -> Result<PolicyView> {
        let place = self.policy_place(cx, holder, Action::PolicyWrite).await?;
        names::label("policy", name)?;
        let tx = self.begin(cx).await?;
        let found = tx.policy_named(place.organisation, place.project, name).await?;
        let before = found.ok_or_else(|| Error::missing("policy", name))?;
        tx.policy_remove(&before).await?;
        tx.organisation_update(&rewritten(self.organisation_of(&tx, place.organisation).await?)).await?;
        let entry = cx
            .done(Some(place.organisation), Action::PolicyWrite.as_str(), before.id)
            .by(&place.policies)
            .fact("rule", before.rule())
            .fact("removed", true);
        self.finish(cx, tx, &[entry], Wake::Schedule).await?;
        Ok((&before).into())
    }

    /// Says what a policy would be, and stores nothing.
    pub(crate) async fn policy_check(&self, cx: &Cx, holder: Holder, wanted: PolicyWrite) -> Result<PolicyChecked> {
        const UNNAMED: &str = "checked";
        let place = self.policy_place(cx, holder, Action::PolicyWrite).await?;
        let checked = self.policy_checked(&place, UNNAMED, &wanted.text).await?;
        let mut sites_forbidden = Vec::new();
        if checked.about_places {
            let owner = self.organisation_of(self.store(), place.organisation).await?;
            let one = Written { project: None, name: UNNAMED, text: &wanted.text };
            let own = gregal_policy::OwnPolicies::compile(owner.id, [one]);
            for site in self.store().sites_all().await? {
                let refused = |what: &&Placement| {
                    self.policies().place(&owner.residency, &site, **what).allowed
                        && !self.policies().place_within(&owner.residency, &site, **what, Some(&own)).allowed
                };
                if Placement::ALL.iter().any(|what| refused(&what)) {
                    sites_forbidden.push(site.name);
                }
            }
        }
        Ok(PolicyChecked {
            effect: if checked.permits { "permit" } else { "forbid" }.into(),
            about: if checked.about_places { "places" } else { "access" }.into(),
            tried: checked.tried,
            applies: checked.applies,
            sites_forbidden,
        })
    }

    /// Checks a policy, and that what it names is the organisation's.
    async fn policy_checked(&self, place: &Place, name: &str, text: &str) -> Result<Checked> {
        let (policies, organisation, project) = (self.policies().clone(), place.organisation, place.project);
        let (name, text) = (name.to_owned(), text.to_owned());
        // Work of many milliseconds, beside what answers others.
        let tried = tokio::task::spawn_blocking(move || {
            policies.check(organisation, Written { project, name: &name, text: &text })
        });
        let checked = tried.await.map_err(|error| Error::Broken(format!("a check ended early: {error}")))?;
        let checked = checked.map_err(|refused| refusal(&refused))?;
        for (kind, id) in &checked.names {
            if !self.policy_names_own(self.store(), organisation, kind, id).await? {
                return Err(refusal(&refuse_unknown(kind, id)));
            }
        }
        Ok(checked)
    }

    /// Whether a thing that a policy names is there, and the organisation's.
    async fn policy_names_own(&self, view: &View, own: OrganisationId, kind: &str, id: &str) -> Result<bool> {
        if matches!(kind, "Site" | "Ground") {
            return Ok(match id.parse() {
                Ok(id) => view.site_get(id).await?.is_some(),
                Err(_) => false,
            });
        }
        if kind == "Holder"
            && let Ok(account) = id.parse()
        {
            return Ok(view.service_account_get(account).await?.is_some_and(|account| account.organisation == own));
        }
        // A key of an account is asked about as the account: a rule that names it would never meet anything.
        if kind == "Holder"
            && let Ok(key) = id.parse()
            && view.key_get(key).await?.is_some_and(|key| key.account.is_some())
        {
            return Ok(false);
        }
        let found = self.object_of(view, id).await?;
        let is_of_kind = |found: &Resource| found.kind.as_str() == kind || (kind == "Holder" && is_key(found));
        Ok(found.is_some_and(|found| found.organisation == Some(own) && is_of_kind(&found)))
    }

    /// Refuses policies about places while content stands where it would no longer be allowed.
    async fn nothing_outside(&self, view: &View, owner: &Organisation, all: &[OwnPolicy]) -> Result<()> {
        let own = compiled(owner.id, all);
        self.content_fits(view, owner.id, &owner.residency, Some(&own)).await
    }

    /// Why a key may or may not do something, and what would have to change.
    pub(crate) async fn policy_explain(&self, cx: &Cx, asked: &PolicyExplain) -> Result<PolicyExplanation> {
        let known = Action::ALL.iter().copied().find(|action| action.as_str() == asked.action);
        let action = known.ok_or_else(|| {
            let problem = Problem::new(Code::InvalidRequest, "`action` is not one of the API's");
            Error::from(
                problem.hint("`gregal whoami` lists the actions a key has; all stand in `docs/concepts/policy.md`"),
            )
        })?;
        let key = self.key_explained(cx, asked.key.as_deref()).await?;
        let missing = || Error::missing("object", asked.object.chars().take(64).collect::<String>());
        let resource = match asked.object.as_str() {
            "cloud" => Resource::cloud(),
            id => self.object_of(self.store(), id).await?.ok_or_else(missing)?,
        };
        if !reaches(cx.key()?, &resource) {
            return Err(missing());
        }
        let principal = Principal::from(&key);
        let own = cx.own();
        let verdict = self.policies().authorize_narrowed(&key.scope, &principal, action, &resource, own);
        let rows = match key.organisation {
            Some(id) if verdict.policies().iter().any(|rule| rule.contains(':')) => {
                self.store().policies_of_organisation(id).await?
            }
            _ => Vec::new(),
        };
        let policies = verdict.policies().iter().map(|rule| self.reason_of(rule, &rows, &resource)).collect();
        Ok(PolicyExplanation {
            key: key.id.to_string(),
            role: key.role.as_str().into(),
            action: action.as_str().into(),
            object: resource.id.clone(),
            allowed: verdict.is_allowed(),
            reason: match &verdict {
                Verdict::Allow { .. } => None,
                Verdict::Deny { reason, .. } => Some(reason.as_str().into()),
            },
            policies,
            would_need: self.policies().would_need(&principal, action, &resource, own),
        })
    }

    fn reason_of(&self, rule: &str, rows: &[OwnPolicy], resource: &Resource) -> PolicyReason {
        let stands =
            |row: &&OwnPolicy| row.rule() == rule && (row.project.is_none() || row.project == resource.project);
        let (is_permit, text) = match rows.iter().find(stands) {
            Some(row) => (row.permits, row.text.clone()),
            None => self.policies().text_of(rule).unwrap_or_default(),
        };
        PolicyReason { rule: rule.into(), effect: if is_permit { "permit" } else { "forbid" }.into(), text }
    }

    /// The key a question is about: the asker's own, or another of its organisation if it may read policies there.
    async fn key_explained(&self, cx: &Cx, asked: Option<&str>) -> Result<Key> {
        let own = cx.key()?;
        let Some(asked) = asked else { return Ok(own.clone()) };
        let missing = || Error::missing("key", asked.chars().take(64).collect::<String>());
        let id = asked.parse().map_err(|_: IdError| missing())?;
        if id == own.id {
            return Ok(own.clone());
        }
        let found = self.store().key_get(id).await?.ok_or_else(missing)?;
        let home = Principal::from(&found).home();
        if found.organisation.is_none() || self.verdict(cx, Action::PolicyRead, &home).hides() {
            return Err(missing());
        }
        self.authorize(cx, Action::PolicyRead, &home).await?;
        Ok(found)
    }

    /// What an id stands for, with its owner from its row; none if there is no such thing.
    async fn object_of(&self, view: &View, id: &str) -> Result<Option<Resource>> {
        let (prefix, _) = id.split_once('_').unwrap_or((id, ""));
        macro_rules! row {
            ($get:ident, $of:expr) => {
                match id.parse() {
                    Ok(id) => view.$get(id).await?.map($of),
                    Err(_) => None,
                }
            };
        }
        let within = |kind, of: OrganisationId, project: ProjectId| Resource::within(kind, of, project, id);
        Ok(match prefix {
            "org" => row!(organisation_get, |row| Resource::organisation(row.id)),
            "prj" => row!(project_get, |row| Resource::project(row.organisation, row.id)),
            "site" => row!(site_get, |row| Resource::site(row.id)),
            "key" => match id.parse() {
                Ok(id) => view
                    .key_get(id)
                    .await?
                    .and_then(|row| Some(Resource::key(row.organisation?, row.project, row.id, row.role))),
                Err(_) => None,
            },
            "ds" => row!(dataset_get, |row| within(ResourceKind::Dataset, row.organisation, row.project)),
            "job" => row!(job_get, |row| within(ResourceKind::Job, row.organisation, row.project)),
            "mdl" => row!(model_get, |row| within(ResourceKind::Model, row.organisation, row.project)),
            "ep" => row!(endpoint_get, |row| within(ResourceKind::Endpoint, row.organisation, row.project)),
            "rsv" => row!(reservation_get, |row| within(ResourceKind::Reservation, row.organisation, row.project)),
            _ => None,
        })
    }
}

fn is_key(found: &Resource) -> bool {
    matches!(found.kind, ResourceKind::Key(_))
}

/// Whether a key may know of a thing at all: what it is told of the rest must not differ from what is not there.
fn reaches(key: &Key, resource: &Resource) -> bool {
    match (key.organisation, resource.organisation) {
        (_, None) => true,
        (None, Some(_)) => resource.kind == ResourceKind::Organisation,
        (Some(own), Some(of)) => own == of && key.project.is_none_or(|bound| resource.project == Some(bound)),
    }
}

/// The organisation after one more write of its policies.
fn rewritten(owner: Organisation) -> Organisation {
    Organisation { policies: owner.policies + 1, version: owner.version + 1, ..owner }
}

/// A refused policy, as an answer.
fn refusal(refused: &Refused) -> Error {
    let mut problem = Problem::new(Code::PolicyRefused, refused.detail.clone()).hint(refused.hint.clone());
    problem.rule.clone_from(&refused.rule);
    problem.into()
}
