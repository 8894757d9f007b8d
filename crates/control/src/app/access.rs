//! Support accesses: an operator asks, a second one approves, the organisation is told and may have to agree. What is read by
//! one stands in the organisation's own log, with its reason.

use std::sync::Arc;

use gregal_api::{
    access::{AccessRequest, AccessSetting, AccessView},
    problem::{Code, Problem},
};
use gregal_core::{
    access::{Action, Role},
    id::{AccessId, OrganisationId},
    key::Key,
    organisation::Organisation,
    site::{Site, SiteOperator},
    support::{self, By, SUPPORT_S_MAX, SupportAccess, SupportRefusal, SupportSetting, SupportState},
    time::Time,
};
use gregal_policy::{OwnPolicies, Placement, Policies, Principal, Resource, Verdict};
use gregal_store::{Listed, Page};

use crate::{Control, Cx, Error, Result, context::Facts as _, names, wakes::Wake};

/// The fewest characters of a reason: a word is none.
const REASON_CHARS_MIN: usize = 10;
/// The most.
const REASON_CHARS_MAX: usize = 500;
/// The most accesses one key may have asked for that are not over.
const OPEN_MAX: usize = 32;

impl Control {
    /// Asks for a look at an organisation's facts. Nothing is opened by it.
    pub(crate) async fn access_request(
        &self,
        cx: &Cx,
        id: OrganisationId,
        wanted: AccessRequest,
    ) -> Result<AccessView> {
        let (organisation, policies) = self.organisation_seen(cx, id, Action::AccessRequest).await?;
        names::words("reason", &wanted.reason, REASON_CHARS_MAX)?;
        if wanted.reason.chars().count() < REASON_CHARS_MIN {
            return Err(Error::invalid(format!("`reason` is shorter than {REASON_CHARS_MIN} characters: say why")));
        }
        let most = self.options().access.support_s_max.min(SUPPORT_S_MAX);
        if wanted.seconds == 0 || wanted.seconds > most {
            return Err(Error::invalid(format!("`seconds` is {}: expected 1 to {most}", wanted.seconds)));
        }
        self.support_is_let(&organisation, self.own_of(self.store(), &organisation).await?.as_ref())?;
        let tx = self.begin(cx).await?;
        if let Some(project) = wanted.project {
            let found = tx.project_get(project).await?.filter(|project| project.organisation == id);
            found.ok_or_else(|| Error::missing("project", project))?;
        }
        let key = cx.key()?;
        if tx.accesses_open_of(key.id).await?.len() >= OPEN_MAX {
            let detail = format!("this key has asked for {OPEN_MAX} accesses that are not over");
            return Err(Problem::new(Code::Conflict, detail).hint("end one that is not needed").into());
        }
        let access = SupportAccess {
            id: AccessId::new(self.world()),
            organisation: id,
            project: wanted.project,
            reason: wanted.reason,
            requested: By::of(key, cx.now),
            seconds: wanted.seconds,
            needs_consent: organisation.support == SupportSetting::Consent,
            approved: None,
            consented: None,
            ends_at: None,
            ended: None,
            is_closed: false,
            version: 1,
        };
        tx.access_insert(&access).await?;
        let answer = AccessView::at(&access, cx.now);
        let entry = cx.done(Some(id), Action::AccessRequest.as_str(), access.id).by(&policies);
        let mut entry = entry.fact("seconds", access.seconds).fact("needs_consent", access.needs_consent);
        entry.reason = Some(access.reason.clone());
        let entry = match access.project {
            Some(project) => entry.fact("project", project.to_string()),
            None => entry,
        };
        self.finish_created(cx, tx, &[entry], Wake::Nobody, &answer).await?;
        Ok(answer)
    }

    /// Whether support may look at all: the organisation has not refused it, and its ceiling holds those who would look.
    fn support_is_let(&self, organisation: &Organisation, own: Option<&OwnPolicies>) -> Result<()> {
        if organisation.support == SupportSetting::Refused {
            let mut problem = Problem::new(Code::Forbidden, "the organisation lets no operator look at its facts");
            problem.rule = Some("support.refused".into());
            return Err(problem.hint("ask it to say otherwise: `gregal access set`").into());
        }
        self.support_is_lawful(organisation, own)
    }

    /// Whether the law that whoever runs this cloud answers to is within the organisation's ceiling: a look is an access to
    /// its data from there. What it wrote for itself about places holds too. One question, asked here alone.
    fn support_is_lawful(&self, organisation: &Organisation, own: Option<&OwnPolicies>) -> Result<()> {
        let Some(operator) = &self.options().access.operator else {
            let mut problem =
                Problem::new(Code::ResidencyRefused, "nobody said under which law this cloud's operator is");
            problem.rule = Some("residency.unknown".into());
            return Err(problem.into());
        };
        let desk = desk_of(operator, organisation);
        let verdict = self.policies().place_within(&organisation.residency, &desk, Placement::Support, own);
        if verdict.allowed { Ok(()) } else { Err(Error::residency(&verdict, Placement::Support)) }
    }

    /// The access named, if its organisation is within the asker's reach for this action.
    async fn access_seen(&self, cx: &Cx, id: AccessId, action: Action) -> Result<(SupportAccess, Vec<String>)> {
        let access = self.store().access_get(id).await?.ok_or_else(|| Error::missing("access", id))?;
        let verdict = self.verdict(cx, action, &Resource::organisation(access.organisation));
        if verdict.hides() {
            return Err(Error::missing("access", id));
        }
        let policies = self.authorize(cx, action, &Resource::organisation(access.organisation)).await?;
        Ok((access, policies))
    }

    /// Approves as the second operator.
    pub(crate) async fn access_approve(&self, cx: &Cx, id: AccessId) -> Result<AccessView> {
        let (seen, policies) = self.access_seen(cx, id, Action::AccessApprove).await?;
        let organisation = self.organisation_of(self.store(), seen.organisation).await?;
        self.support_is_let(&organisation, self.own_of(self.store(), &organisation).await?.as_ref())?;
        // As the organisation wants it now, not as it did when the look was asked for.
        let by_consent = organisation.support == SupportSetting::Consent;
        let approve = |access: &SupportAccess, key: &Key, now: Time| {
            let needs_consent = access.needs_consent || by_consent;
            SupportAccess { needs_consent, ..access.clone() }.approve(key, now)
        };
        self.access_step(cx, id, Action::AccessApprove, &policies, approve).await
    }

    /// Approves for the organisation.
    pub(crate) async fn access_consent(&self, cx: &Cx, id: AccessId) -> Result<AccessView> {
        let (_, policies) = self.access_seen(cx, id, Action::AccessConsent).await?;
        self.access_step(cx, id, Action::AccessConsent, &policies, SupportAccess::consent).await
    }

    /// Ends an access, or turns the wish for one down. Either side may, at any time.
    pub(crate) async fn access_end(&self, cx: &Cx, id: AccessId) -> Result<AccessView> {
        let (_, policies) = self.access_seen(cx, id, Action::AccessEnd).await?;
        self.access_step(cx, id, Action::AccessEnd, &policies, SupportAccess::end).await
    }

    async fn access_step(
        &self,
        cx: &Cx,
        id: AccessId,
        action: Action,
        policies: &[String],
        step: impl Fn(&SupportAccess, &Key, Time) -> std::result::Result<SupportAccess, SupportRefusal>,
    ) -> Result<AccessView> {
        let tx = self.begin(cx).await?;
        let before = tx.access_get(id).await?.ok_or_else(|| Error::missing("access", id))?;
        let after = step(&before, cx.key()?, cx.now).map_err(|why| {
            let code = if why == SupportRefusal::SamePerson { Code::Forbidden } else { Code::Conflict };
            let mut problem = Problem::new(code, format!("{why}; it stands at `{}`", before.state(cx.now).as_str()));
            problem.rule = (why == SupportRefusal::SamePerson).then(|| "support.second_person".into());
            problem
        })?;
        tx.access_update(&after).await?;
        let entry = cx.done(Some(after.organisation), action.as_str(), id).by(policies);
        let mut entry = entry.fact("state", after.state(cx.now).as_str());
        entry.reason = Some(after.reason.clone());
        let entry = match after.ends_at {
            Some(end) => entry.fact("ends_at", end.to_string()),
            None => entry,
        };
        self.finish(cx, tx, &[entry], Wake::Nobody).await?;
        Ok(AccessView::at(&after, cx.now))
    }

    /// Accesses asked for of one organisation, oldest first.
    pub(crate) async fn accesses_list(
        &self,
        cx: &Cx,
        id: OrganisationId,
        page: &Page,
    ) -> Result<Listed<SupportAccess>> {
        self.organisation_seen(cx, id, Action::AccessRead).await?;
        Ok(self.store().accesses_list(Some(id), page).await?)
    }

    /// What the organisation lets operators see.
    pub(crate) async fn access_setting_read(&self, cx: &Cx, id: OrganisationId) -> Result<AccessSetting> {
        let (organisation, _) = self.organisation_seen(cx, id, Action::AccessRead).await?;
        Ok(AccessSetting { setting: organisation.support })
    }

    /// Says what operators may see, and who has to agree. What is active and would not be let now ends.
    pub(crate) async fn access_setting_write(
        &self,
        cx: &Cx,
        id: OrganisationId,
        wanted: AccessSetting,
    ) -> Result<AccessSetting> {
        let (_, policies) = self.organisation_seen(cx, id, Action::AccessConfigure).await?;
        let tx = self.begin(cx).await?;
        let before = self.organisation_of(&tx, id).await?;
        let after = Organisation { support: wanted.setting, version: before.version + 1, ..before };
        tx.organisation_update(&after).await?;
        let said = wanted.setting.as_str();
        let entry = cx.done(Some(id), Action::AccessConfigure.as_str(), id).by(&policies).fact("setting", said);
        self.finish(cx, tx, &[entry], Wake::Nobody).await?;
        Ok(wanted)
    }

    /// The accesses the asker may use now: for operators alone. Looked up anew for each request: what was ended is over.
    pub(crate) async fn accesses_in_use(&self, cx: &Cx) -> Result<Arc<Vec<Look>>> {
        let crate::Actor::Key(key) = &cx.actor else { return Ok(Arc::default()) };
        if !key.role.is_operator() {
            return Ok(Arc::default());
        }
        let mut usable = Vec::new();
        for access in self.store().accesses_open_of(key.id).await? {
            if !access.is_for(key, cx.now) {
                continue;
            }
            // The ceiling and the organisation's will as they are now, not as they were when it was approved.
            let organisation = self.organisation_of(self.store(), access.organisation).await?;
            if organisation.support == SupportSetting::Consent && access.consented.is_none() {
                continue;
            }
            let own = self.own_of(self.store(), &organisation).await?;
            if self.support_is_let(&organisation, own.as_ref()).is_ok() {
                usable.push(Look { access, own });
            }
        }
        Ok(Arc::new(usable))
    }

    /// Writes down, in the organisation's own log, that something of it is looked at.
    pub(crate) async fn access_used(
        &self,
        cx: &Cx,
        access: &SupportAccess,
        action: Action,
        resource: &Resource,
    ) -> Result<()> {
        let entry = cx.done(Some(access.organisation), "access:use", &resource.id);
        let entry = entry.by(&["role.visitor".to_owned()]);
        let mut entry = entry.fact("access", access.id.to_string()).fact("action", action.as_str());
        entry.reason = Some(access.reason.clone());
        self.store().begin().await?.commit(&[entry]).await?;
        Ok(())
    }

    /// Writes down that accesses have ended by themselves.
    pub(crate) async fn accesses_close(&self) -> Result<()> {
        let now = self.now();
        let over = |access: &SupportAccess| access.state(now) == SupportState::Over;
        let due: Vec<_> = self.store().accesses_open().await?.into_iter().filter(over).collect();
        if due.is_empty() {
            return Ok(());
        }
        let cx = self.system("expire");
        let tx = self.store().begin().await?;
        let mut entries = Vec::new();
        for access in due {
            // Ended by somebody since it was looked at: written down already.
            let found = tx.access_get(access.id).await?.filter(|access| !access.is_closed && over(access));
            let Some(before) = found else { continue };
            let after = SupportAccess { is_closed: true, version: before.version + 1, ..before };
            tx.access_update(&after).await?;
            entries.push(cx.done(Some(after.organisation), "access:lapse", after.id));
        }
        if entries.is_empty() {
            return Ok(());
        }
        self.finish(&cx, tx, &entries, Wake::Nobody).await
    }
}

/// A look that may be used now, and what the organisation looked at wrote for itself: its guardrails hold for visitors too.
#[derive(Debug)]
pub(crate) struct Look {
    pub(crate) access: SupportAccess,
    pub(crate) own: Option<OwnPolicies>,
}

/// What an access opens of a resource: what the role `visitor` may in that organisation, while it lasts.
pub(crate) fn opened<'a>(
    policies: &Policies,
    accesses: &'a [Look],
    key: &Key,
    action: Action,
    resource: &Resource,
) -> Option<(&'a SupportAccess, Verdict)> {
    if !support::opens(action) {
        return None;
    }
    accesses.iter().find_map(|Look { access, own }| {
        let visitor = Principal::Key {
            key: key.id.into(),
            role: Role::Visitor,
            organisation: Some(access.organisation),
            project: access.project,
        };
        let verdict = policies.authorize_narrowed(&key.scope, &visitor, action, resource, own.as_ref());
        verdict.is_allowed().then_some((access, verdict))
    })
}

/// The desk from which support looks, as the ceiling sees it: it keeps nothing, so certifications of a place are not asked.
fn desk_of(operator: &SiteOperator, organisation: &Organisation) -> Site {
    Site {
        id: gregal_core::id::SiteId::from_u128(0),
        name: "support".into(),
        jurisdiction: operator.jurisdiction,
        operator: operator.clone(),
        certifications: organisation.residency.certifications.clone(),
        url: None,
        secret_digest: String::new(),
        grid: None,
        capacity: None,
        lease_until: None,
        incarnation: None,
        created_at: Time::from_millis(0),
        version: 1,
    }
}
