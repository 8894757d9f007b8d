//! Usage that sites hand over: believed if it can be true, counted once, charged to what was held for it.
//!
//! A batch is one transaction: when the receipt is read, every record of it is durable, counted or in quarantine.

use std::collections::{BTreeMap, BTreeSet};

use gregal_api::protocol::{USAGE_BATCH_MAX, UsageBatch, UsageReceipt, UsageRefusal};
use gregal_core::{
    audit::AuditEntry,
    id::{EndpointId, JobId, OrganisationId, SiteId},
    meter::{self, Meter, UsageEvent},
    money::Nano,
    price::PriceBook,
};
use gregal_store::{Tx, UsageInserted};

use crate::{Control, Cx, Error, Result, app::price_item, context::Facts as _, metrics::Metric, wakes::Wake};

/// Most refusals named in one audit entry; the receipt names all.
const REFUSALS_NAMED_MAX: usize = 20;

/// What a batch has come to so far.
#[derive(Debug, Default)]
struct Tally {
    accepted: u32,
    duplicates: u32,
    refused: Vec<UsageRefusal>,
    /// What to charge: organisation and what was held for it, a job's id or an allowance's.
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
        let tx = self.store().begin().await?;
        let books = tx.price_books_all().await?;
        let mut tally = Tally::default();
        let mut seen = BTreeSet::new();
        for event in &batch.events {
            let refusal = self.usage_one(cx, &tx, site, event, &books, &mut tally).await?;
            // Once for each id: a batch that repeats a bad record has one thing wrong with it.
            if let Some(reason) = refusal.filter(|_| seen.insert(event.id.as_str())) {
                tally.refused.push(UsageRefusal { id: event.id.chars().take(64).collect(), reason });
            }
        }
        for ((organisation, subject), used) in &tally.charges {
            self.hold_charge(&tx, *organisation, subject, *used).await?;
        }
        self.metrics().add(Metric::UsageAccepted, u64::from(tally.accepted));
        self.metrics().add(Metric::UsageDuplicates, u64::from(tally.duplicates));
        self.metrics().add(Metric::UsageRefused, tally.refused.len() as u64);
        let entries = tally.entries(cx, site);
        if entries.is_empty() {
            // Everything was here before: nothing to write.
            drop(tx);
        } else {
            self.finish(cx, tx, &entries, Wake::Nobody).await?;
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
    ) -> Result<Option<String>> {
        if let Err(error) = event.check(cx.now) {
            return Ok(Some(error.to_string()));
        }
        if event.site != site {
            return Ok(Some("it is of another site".into()));
        }
        if let Err(reason) = self.usage_belongs(tx, event).await? {
            return Ok(Some(reason));
        }
        let rated = match meter::rate(event, books) {
            Ok(rated) => rated,
            Err(error) => return Ok(Some(error.to_string())),
        };
        match tx.usage_insert(event, rated, cx.now).await? {
            UsageInserted::Duplicate => tally.duplicates += 1,
            UsageInserted::Conflict => return Ok(Some("its id was seen before with other facts".into())),
            UsageInserted::Inserted => tally.count(event, rated)?,
        }
        Ok(None)
    }

    /// Whether what used it is there, belongs to whom it says, and can have used that much of that.
    async fn usage_belongs(&self, tx: &Tx, event: &UsageEvent) -> Result<std::result::Result<(), String>> {
        let stranger = || Ok(Err(format!("`{}` is not at this site, or not of this project", event.subject)));
        if let Ok(id) = event.subject.parse::<JobId>() {
            let found = tx.job_get(id).await?;
            let mine = found.filter(|job| {
                job.organisation == event.organisation && job.project == event.project && job.site == Some(event.site)
            });
            let Some(job) = mine else { return stranger() };
            let Some(sku) = self.sku(&job.sku) else { return stranger() };
            let most = match event.meter {
                Meter::ComputeCore => u64::from(sku.cpus_milli),
                Meter::Accelerator => u64::from(sku.gpus) * 1000,
                Meter::Energy => return Ok(Ok(())),
                Meter::TokensIn | Meter::TokensOut => return Ok(Err("a job uses no tokens".into())),
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
            Meter::ComputeCore | Meter::Accelerator => Ok(Err("an endpoint is billed by tokens".into())),
            Meter::TokensIn | Meter::TokensOut => {
                let model = tx.model_get(endpoint.model).await?;
                let class = model.map(|model| price_item(model.parameters));
                let fits = class == Some(event.item.as_str());
                Ok(if fits { Ok(()) } else { Err("it is priced as another class of model".into()) })
            }
        }
    }
}

/// Whether a stretch of time is long enough for what was counted in it: `most` thousandths at a time.
fn can_have_used(event: &UsageEvent, most: u64) -> std::result::Result<(), String> {
    let millis = u64::try_from(event.ended_at.millis_since(event.started_at)).unwrap_or(0);
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
        if !self.refused.is_empty() {
            let named = self.refused.iter().take(REFUSALS_NAMED_MAX);
            let named: Vec<_> = named.map(|refusal| serde_json::json!([refusal.id, refusal.reason])).collect();
            let why = format!("{} usage records cannot be counted", self.refused.len());
            entries.push(cx.done(None, "usage:quarantine", site).refused(why).fact("records", named));
        }
        entries
    }
}
