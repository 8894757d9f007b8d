//! Allowances: credit leased to a site, against which it serves tokens while control is away.
//!
//! An organisation with a live endpoint at a site has one there: a hold like any other, of a euro at most at a time. It
//! grows as it is used, its time is renewed while the site dials in, and it is settled once nothing is served any more
//! and the use is in. Which allowance is at which site stands in one row a site.

use std::collections::BTreeSet;

use gregal_api::protocol::{Allowance, ObservedAllowance};
use gregal_core::{
    audit::AuditEntry,
    hold::{self, Hold, HoldState},
    id::{AllowanceId, HoldId, OrganisationId, SiteId},
    ledger::PostingKind,
    money::Nano,
    time::Time,
};
use gregal_store::{Tx, View};
use serde::{Deserialize, Serialize};

use crate::{Control, Cx, Error, Result, app::money::HoldFor, context::Facts as _};

/// What one allowance begins with and grows by.
const STEP: Nano = Nano::from_euro(1);
/// The most a site may have left of one, however often it asks for more.
const LEFT_MAX: Nano = Nano::from_euro(5);
/// How long one holds without being renewed, in seconds: a site that is dark for longer stops serving.
const SECONDS: i64 = 86_400;
/// How long use may come in after it ran out before the rest is given back, in seconds.
const GRACE_SECONDS: i64 = 3_600;
/// How far the site's own count and ours may differ when it is settled: both round nano-euros a record, one up, one down.
const ROUNDING: Nano = Nano::new(1_000);

/// An allowance and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Leased {
    pub(crate) allowance: AllowanceId,
    pub(crate) organisation: OrganisationId,
    pub(crate) hold: HoldId,
    pub(crate) expires_at: Time,
    /// Taken back: the site is not told of it any more, and it is settled once its use is in.
    pub(crate) closing: bool,
}

/// The allowances at a site.
pub(crate) async fn leased_at(view: &View, site: SiteId) -> Result<Vec<Leased>> {
    let Some(bytes) = view.meta_get(&row_name(site)).await? else { return Ok(Vec::new()) };
    serde_json::from_slice(&bytes)
        .map_err(|error| Error::Broken(format!("the allowances of {site} cannot be read: {error}")))
}

/// What the site is told of them.
pub(crate) async fn granted_at(view: &View, site: SiteId) -> Result<Vec<Allowance>> {
    let mut granted = Vec::new();
    for leased in leased_at(view, site).await?.into_iter().filter(|leased| !leased.closing) {
        let open = view.hold_get(leased.hold).await?.filter(|hold| hold.state == HoldState::Open);
        if let Some(hold) = open {
            granted.push(Allowance {
                allowance: leased.allowance,
                organisation: leased.organisation,
                granted: hold.amount,
                charged: hold.charged,
                expires_at: leased.expires_at,
            });
        }
    }
    Ok(granted)
}

fn row_name(site: SiteId) -> String {
    format!("allowances.{site}")
}

impl Control {
    /// Brings the allowances at a site to where they should be: made, grown, renewed, taken back or settled.
    /// `knows_newest`: the site acts by an intent without the closing ones. Answers the audit entries to commit with it.
    pub(crate) async fn allowances_keep(
        &self,
        cx: &Cx,
        tx: &Tx,
        site: SiteId,
        observed: &[ObservedAllowance],
        knows_newest: bool,
    ) -> Result<Vec<AuditEntry>> {
        let before = leased_at(tx, site).await?;
        let mut serving: BTreeSet<OrganisationId> = tx
            .endpoints_live_at_site(site)
            .await?
            .iter()
            .filter(|one| one.is_for_site())
            .map(|one| one.organisation)
            .collect();
        let mut entries = Vec::new();
        let mut after = Vec::with_capacity(before.len());
        for leased in &before {
            let open = tx.hold_get(leased.hold).await?.filter(|hold| hold.state == HoldState::Open);
            // Expired meanwhile: its row has no use any more, and the organisation gets a new one below.
            let Some(hold) = open else { continue };
            let seen = observed.iter().find(|seen| seen.allowance == leased.allowance);
            if !leased.closing && serving.remove(&leased.organisation) {
                let (leased, entry) = self.allowance_grow(cx, tx, leased, &hold, seen).await?;
                entries.extend(entry);
                after.push(leased);
            } else if leased.closing && knows_newest && is_settled(&hold, seen) {
                self.hold_close(tx, &hold, false).await?;
                let entry = cx.done(Some(leased.organisation), "allowance:settle", leased.allowance);
                entries.push(entry.fact("charged_nano", hold.charged.get()));
            } else {
                after.push(Leased { closing: true, ..leased.clone() });
            }
        }
        for organisation in serving {
            if let Some((leased, entry)) = self.allowance_make(cx, tx, site, organisation).await? {
                after.push(leased);
                entries.push(entry);
            }
        }
        if after != before {
            let bytes = serde_json::to_vec(&after).map_err(|error| Error::Broken(error.to_string()))?;
            tx.meta_put(&row_name(site), &bytes).await?;
        }
        Ok(entries)
    }

    async fn allowance_make(
        &self,
        cx: &Cx,
        tx: &Tx,
        site: SiteId,
        organisation: OrganisationId,
    ) -> Result<Option<(Leased, AuditEntry)>> {
        let amount = tx.balances_get(organisation).await?.available.min(STEP);
        if amount <= Nano::ZERO {
            return Ok(None);
        }
        let allowance = AllowanceId::new(self.world());
        let expires_at = cx.now.plus_seconds(SECONDS);
        let wanted = HoldFor {
            organisation,
            project: None,
            subject: allowance.to_string(),
            amount,
            expires_at: Some(expires_at.plus_seconds(GRACE_SECONDS)),
        };
        let hold = self.hold_place(tx, wanted, "the allowance").await?;
        let entry = cx
            .done(Some(organisation), "allowance:create", allowance)
            .fact("site", site.to_string())
            .fact("granted_nano", amount.get());
        Ok(Some((Leased { allowance, organisation, hold: hold.id, expires_at, closing: false }, entry)))
    }

    /// Adds to an allowance that runs low, and renews one whose time is half over.
    async fn allowance_grow(
        &self,
        cx: &Cx,
        tx: &Tx,
        leased: &Leased,
        open: &Hold,
        seen: Option<&ObservedAllowance>,
    ) -> Result<(Leased, Option<AuditEntry>)> {
        let used = seen.map_or(open.charged, |seen| seen.used.max(open.charged));
        let left = Nano::new(open.amount.get().saturating_sub(used.get()));
        let is_low = left.get() < STEP.get() / 2 || (seen.is_some_and(|seen| seen.wants_more) && left < LEFT_MAX);
        let balances = tx.balances_get(leased.organisation).await?;
        let by = if is_low { balances.available.min(STEP).max(Nano::ZERO) } else { Nano::ZERO };
        let is_old = leased.expires_at.millis_since(cx.now) < SECONDS * 1000 / 2;
        if by.is_zero() && !is_old {
            return Ok((leased.clone(), None));
        }
        let expires_at = cx.now.plus_seconds(SECONDS);
        let (mut after, legs) = hold::extend(open, &balances, by)?;
        after.expires_at = Some(expires_at.plus_seconds(GRACE_SECONDS));
        tx.hold_update(&after).await?;
        self.post(tx, after.organisation, PostingKind::Hold, after.id, legs).await?;
        let entry = cx
            .done(Some(leased.organisation), "allowance:extend", leased.allowance)
            .fact("granted_nano", after.amount.get())
            .fact("expires_at", expires_at.to_string());
        Ok((Leased { expires_at, ..leased.clone() }, Some(entry)))
    }
}

/// Whether all that was used of it has come in.
fn is_settled(hold: &Hold, seen: Option<&ObservedAllowance>) -> bool {
    seen.is_none_or(|seen| seen.used.get() <= hold.charged.get().saturating_add(ROUNDING.get()))
}
