//! Usage that sites hand over: believed if it can be true, counted once, charged to what was held for it.
//!
//! A batch is one transaction: when the receipt is read, every record of it is durable, counted or whole in quarantine.
//! What may count later (a clock ahead, a price that is not there yet) is not answered with a receipt: the site keeps the
//! batch and sends it again.

use std::collections::{BTreeMap, BTreeSet};

use gregal_api::{
    problem::{Code, Problem},
    protocol::{USAGE_BATCH_MAX, UsageBatch, UsageReceipt, UsageRefusal},
};
use gregal_core::{
    audit::AuditEntry,
    endpoint::Endpoint,
    id::{EndpointId, JobId, OrganisationId, SiteId},
    job::Billed,
    meter::{self, Meter, RateError, UsageError, UsageEvent},
    money::Nano,
    price::PriceBook,
    sku::Sku,
};
use gregal_store::{Tx, UsageInserted};

use crate::{Control, Cx, Error, Result, app::price_item, context::Facts as _, metrics::Metric, wakes::Wake};

/// Most refusals named in one audit entry; the receipt names all.
const REFUSALS_NAMED_MAX: usize = 20;
/// How far ahead of us the end of a use may lie and be waited for: a day. Beyond it no clock is skewed, it is broken, and
/// one such record must not hold back for years what the site sends after it.
const WAIT_MS_MAX: i64 = 86_400_000;
/// How far a site's clock may be behind ours, in milliseconds: what is said to have been used longer before there was
/// anything to use it cannot be true.
const SKEW_MS: i64 = 86_400_000;

/// Why a record is not counted.
enum Uncounted {
    /// Never as it is: into quarantine.
    Refused(String),
    /// Not now: sent again later it may count.
    NotYet(String),
}

/// A refusal for ever, and its reason.
fn refused(reason: impl Into<String>) -> Uncounted {
    Uncounted::Refused(reason.into())
}

/// What a batch has come to so far.
#[derive(Debug, Default)]
struct Tally {
    accepted: u32,
    duplicates: u32,
    refused: Vec<UsageRefusal>,
    /// How many of those were not in quarantine yet.
    quarantined: usize,
    /// Time that served models were billed for.
    replicas: BTreeMap<EndpointId, Billed>,
    /// What to charge: organisation and what was held for it: a job's id, an endpoint's or an allowance's.
    charges: BTreeMap<(OrganisationId, String), Nano>,
    organisations: BTreeMap<OrganisationId, (u64, Nano)>,
}

impl Control {
    /// Takes in a batch of usage records.
    pub(crate) async fn site_usage(&self, cx: &Cx, batch: UsageBatch) -> Result<UsageReceipt> {
        let site = self.site_itself(cx).await?;
        if batch.events.len() > USAGE_BATCH_MAX {
            return Err(Error::invalid(format!("more than {USAGE_BATCH_MAX} records in one batch")));
        }
        let tx = self.store().begin_upkeep().await?;
        let books = tx.price_books_all().await?;
        let mut tally = Tally::default();
        let mut seen = BTreeSet::new();
        for event in &batch.events {
            let reason = match self.usage_one(cx, &tx, site, event, &books, &mut tally).await? {
                None => continue,
                Some(Uncounted::Refused(reason)) => reason,
                // Dropping the transaction takes back what the batch had come to.
                Some(Uncounted::NotYet(reason)) => return Err(not_yet(site, event, &reason)),
            };
            // The site lets go of what is refused: this copy is the only one from here on.
            tally.quarantined += usize::from(tx.usage_quarantine(site, event, &reason, cx.now).await?);
            // Once for each id: a batch that repeats a bad record has one thing wrong with it.
            if seen.insert(event.id.as_str()) {
                tally.refused.push(UsageRefusal { id: event.id.chars().take(64).collect(), reason });
            }
        }
        for ((organisation, subject), used) in &tally.charges {
            self.hold_charge(&tx, *organisation, subject, *used).await?;
        }
        let mut entries = tally.entries(cx, site);
        let mut wake = Wake::Nobody;
        for (endpoint, billed) in &tally.replicas {
            if let Some(entry) = self.replica_charged(cx, &tx, *endpoint, *billed).await? {
                entries.push(entry);
                wake = Wake::Sites;
            }
        }
        self.metrics().add(Metric::UsageAccepted, u64::from(tally.accepted));
        self.metrics().add(Metric::UsageDuplicates, u64::from(tally.duplicates));
        self.metrics().add(Metric::UsageRefused, tally.refused.len() as u64);
        if entries.is_empty() {
            // Everything was here before: nothing to write.
            drop(tx);
        } else {
            self.finish(cx, tx, &entries, wake).await?;
        }
        Ok(UsageReceipt { accepted: tally.accepted, duplicates: tally.duplicates, refused: tally.refused })
    }

    /// Takes in one record; answers why it is refused, if it is.
    async fn usage_one(
        &self,
        cx: &Cx,
        tx: &Tx,
        site: SiteId,
        event: &UsageEvent,
        books: &[PriceBook],
        tally: &mut Tally,
    ) -> Result<Option<Uncounted>> {
        let ahead = match event.check(cx.now) {
            Ok(()) => None,
            Err(error @ UsageError::Future { ended_at, now }) if ended_at.millis_since(now) <= WAIT_MS_MAX => {
                Some(error)
            }
            Err(error) => return Ok(Some(refused(error.to_string()))),
        };
        if event.site != site {
            return Ok(Some(refused("it is of another site")));
        }
        if let Err(reason) = self.usage_belongs(tx, event, tally).await? {
            return Ok(Some(refused(reason)));
        }
        if let Some(error) = ahead {
            return Ok(Some(Uncounted::NotYet(error.to_string())));
        }
        let rated = match meter::rate(event, books) {
            Ok(rated) => rated,
            Err(error @ RateError::Overflow(_)) => return Ok(Some(refused(error.to_string()))),
            Err(error) => return Ok(Some(Uncounted::NotYet(error.to_string()))),
        };
        match tx.usage_insert(event, rated, cx.now).await? {
            UsageInserted::Duplicate => tally.duplicates += 1,
            UsageInserted::Conflict => return Ok(Some(refused("its id was seen before with other facts"))),
            UsageInserted::Inserted => tally.count(event, rated)?,
        }
        Ok(None)
    }

    /// Whether what used it is there, belongs to whom it says, and can have used that much of that.
    async fn usage_belongs(
        &self,
        tx: &Tx,
        event: &UsageEvent,
        tally: &Tally,
    ) -> Result<std::result::Result<(), String>> {
        let stranger = || Ok(Err(format!("`{}` is not at this site, or not of this project", event.subject)));
        if let Ok(id) = event.subject.parse::<JobId>() {
            let found = tx.job_get(id).await?;
            let mine = found.filter(|job| {
                job.organisation == event.organisation && job.project == event.project && job.site == Some(event.site)
            });
            let Some(job) = mine else { return stranger() };
            if job.created_at.millis_since(event.started_at) > SKEW_MS {
                return Ok(Err("the job was not there then".into()));
            }
            let Some(sku) = tx.sku_get(&job.sku).await?.map(|offer| offer.sku) else { return stranger() };
            let (cores, gpus) = (u64::from(sku.cpus_milli), u64::from(sku.gpus) * 1000);
            let most = match (event.meter, job.reservation) {
                (Meter::ComputeCore, None) | (Meter::CoveredCore, Some(_)) => cores,
                (Meter::Accelerator, None) | (Meter::CoveredAccelerator, Some(_)) => gpus,
                (Meter::ComputeCore | Meter::Accelerator, Some(_)) => {
                    return Ok(Err("its reservation has paid for the job's time".into()));
                }
                (Meter::CoveredCore | Meter::CoveredAccelerator, None) => {
                    return Ok(Err("the job runs in no reservation".into()));
                }
                (Meter::Energy, _) => return Ok(Ok(())),
                (Meter::TokensIn | Meter::TokensOut, _) => return Ok(Err("a job uses no tokens".into())),
                (Meter::ReplicaCore, _) => return Ok(Err("a job is no served model".into())),
                (Meter::ReservedCore | Meter::ReservedAccelerator, _) => {
                    return Ok(Err("what is reserved is counted by control, not by sites".into()));
                }
            };
            if event.item != job.sku {
                return Ok(Err(format!("the job was sold `{}`, not what this record is priced as", job.sku)));
            }
            return Ok(can_have_used(event, most));
        }
        let Ok(id) = event.subject.parse::<EndpointId>() else {
            return Ok(Err("its subject is neither a job nor an endpoint".into()));
        };
        let found = tx.endpoint_get(id).await?;
        let mine = found.filter(|endpoint| {
            endpoint.organisation == event.organisation
                && endpoint.project == event.project
                && endpoint.site == event.site
        });
        let Some(endpoint) = mine else { return stranger() };
        match event.meter {
            Meter::Energy => Ok(Ok(())),
            Meter::ComputeCore
            | Meter::Accelerator
            | Meter::ReservedCore
            | Meter::ReservedAccelerator
            | Meter::CoveredCore
            | Meter::CoveredAccelerator => Ok(Err("an endpoint is billed by tokens and by the time it answers".into())),
            Meter::ReplicaCore => {
                // What counts already was within bounds when it came.
                let earlier = tally.replicas.get(&endpoint.id).map_or(0, |billed| billed.ms);
                let sku = tx.sku_get(&endpoint.sku).await?.map(|offer| offer.sku);
                match replica_can_have_used(&endpoint, sku.as_ref(), event, earlier) {
                    Err(why) if tx.usage_get(&event.id).await?.is_none() => Ok(Err(why)),
                    _ => Ok(Ok(())),
                }
            }
            Meter::TokensIn | Meter::TokensOut => {
                let fits = if let Some(shared) = &endpoint.shared {
                    shared.price_item == event.item
                } else {
                    let model = tx.model_get(endpoint.model).await?;
                    model.is_some_and(|model| price_item(model.parameters) == event.item)
                };
                Ok(if fits { Ok(()) } else { Err("it is priced as another class of model".into()) })
            }
        }
    }
}

/// Whether a served model can have stood for what a record says.
/// `earlier`: milliseconds that came before it in the same batch.
fn replica_can_have_used(
    endpoint: &Endpoint,
    sku: Option<&Sku>,
    event: &UsageEvent,
    earlier: u64,
) -> std::result::Result<(), String> {
    let Some(sku) = sku.filter(|sku| sku.name == event.item) else {
        return Err(format!("the endpoint was sold `{}`, not what this record is priced as", endpoint.sku));
    };
    let Some(placed) = endpoint.placed_at else { return Err("the endpoint was never given room".into()) };
    if placed.millis_since(event.started_at) > SKEW_MS {
        return Err("the endpoint had no room then".into());
    }
    // A site stops what stands when what it was told is held is used up; what is held only grows.
    let counted = endpoint.billed.ms.saturating_add(earlier);
    if counted.saturating_add(millis_of(event)) > endpoint.held_ms {
        return Err(format!("{counted} ms of {} that were held are used already", endpoint.held_ms));
    }
    if event.allowance.is_some() {
        return Err("the time an endpoint stands is paid from its own hold".into());
    }
    can_have_used(event, u64::from(sku.cpus_milli))
}

/// The whole batch has to wait for one record, and somebody may have to look why.
fn not_yet(site: SiteId, event: &UsageEvent, reason: &str) -> Error {
    tracing::warn!(site.id = %site, usage.id = event.id, "usage has to wait at its site: {reason}");
    let detail = format!("usage record `{}` cannot be counted yet, so nothing of this batch was: {reason}", event.id);
    Problem::new(Code::Unavailable, detail).hint("keep the batch and send it again with a growing pause").into()
}

/// How long a record's time is, in milliseconds.
fn millis_of(event: &UsageEvent) -> u64 {
    u64::try_from(event.ended_at.millis_since(event.started_at)).unwrap_or(0)
}

/// Whether a stretch of time is long enough for what was counted in it: `most` thousandths at a time.
fn can_have_used(event: &UsageEvent, most: u64) -> std::result::Result<(), String> {
    let millis = millis_of(event);
    // Rounded up, and one unit for the site's own rounding.
    let bound = (u128::from(most) * u128::from(millis)).div_ceil(1000) + 1;
    if u128::from(event.quantity) <= bound {
        return Ok(());
    }
    Err(format!("{} {} cannot be used in {millis} ms by what was sold", event.quantity, event.meter.unit()))
}

impl Tally {
    fn count(&mut self, event: &UsageEvent, rated: Nano) -> Result<()> {
        self.accepted += 1;
        if let (Meter::ReplicaCore, Ok(endpoint)) = (event.meter, event.subject.parse::<EndpointId>()) {
            let billed = self.replicas.entry(endpoint).or_default();
            billed.ms = billed.ms.saturating_add(millis_of(event));
            billed.until = billed.until.max(Some(event.ended_at));
        }
        let (records, sum) = self.organisations.entry(event.organisation).or_default();
        *records += 1;
        *sum = sum.add(rated)?;
        let held_for = event.allowance.map_or_else(|| event.subject.clone(), |allowance| allowance.to_string());
        let charge = self.charges.entry((event.organisation, held_for)).or_default();
        *charge = charge.add(rated)?;
        Ok(())
    }

    /// One entry an organisation, so that each sees its own; and one for the quarantine, which is the operator's.
    fn entries(&self, cx: &Cx, site: SiteId) -> Vec<AuditEntry> {
        let of = |(organisation, (records, sum)): (&OrganisationId, &(u64, Nano))| {
            let entry = cx.done(Some(*organisation), "usage:record", site);
            entry.fact("records", *records).fact("charged_nano", sum.get())
        };
        let mut entries: Vec<AuditEntry> = self.organisations.iter().map(of).collect();
        if self.quarantined > 0 {
            let named = self.refused.iter().take(REFUSALS_NAMED_MAX);
            let named: Vec<_> = named.map(|refusal| serde_json::json!([refusal.id, refusal.reason])).collect();
            let why = format!("{} usage records cannot be counted", self.refused.len());
            entries.push(cx.done(None, "usage:quarantine", site).refused(why).fact("records", named));
        }
        entries
    }
}
