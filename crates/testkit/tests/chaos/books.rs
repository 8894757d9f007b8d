//! What must hold once everything has come to its end.

use std::collections::{BTreeMap, BTreeSet};

use gregal_api::{
    audit::{AuditList, AuditQuery},
    client::Client,
    invoice::InvoiceDraftView,
    page::{PAGE_LIMIT_MAX, PriceList, UsageList},
    usage::UsageQuery,
};
use gregal_core::{
    audit::AuditEntry,
    invoice::recompute,
    meter::{Meter, UsageEvent},
    money::Nano,
    price::{PriceBook, PriceRow},
    time::Time,
};
use gregal_store::{Store, StoreOptions, StoredUsage};
use gregal_testkit::{Cloud, replica::PROMPT_TOKENS, until};
use serde_json::Value;

use crate::deeds::Deeds;

/// Everything has arrived and every hold is closed, but for the allowances that sites live on. The tenant's own means
/// agree: the invoice re-derives from the records, and the audit log verifies and tells of every acknowledged job.
pub(crate) async fn closed(cloud: &Cloud, deeds: &Deeds) {
    let store = Store::open(StoreOptions::new(cloud.store_url())).await.unwrap();
    let spoken: u64 = deeds.spoken.iter().map(|spoken| spoken.tokens_out).sum();
    until("all holds of jobs to be closed, and all use to have arrived", async || {
        // An allowance is an organisation's, a job's hold a project's.
        let open = store.holds_open().await.unwrap().iter().any(|hold| hold.project.is_some());
        let arrived = tokens(&usage(&store, deeds).await, Meter::TokensOut) >= spoken;
        (!open && arrived).then_some(())
    })
    .await;
    let client = cloud.client(&deeds.tenant.owner);
    invoice(&client, deeds).await;
    audit(&client, deeds).await;
    store.close().await.unwrap();
}

/// The books balance.
pub(crate) async fn balanced(cloud: &Cloud, deeds: &Deeds) {
    let store = Store::open(StoreOptions::new(cloud.store_url())).await.unwrap();
    let organisation = deeds.tenant.organisation;
    let balances = store.balances_get(organisation).await.unwrap();
    assert_eq!(balances.sum(), 0, "{balances:?}");
    assert_eq!(balances, store.balances_recomputed(organisation).await.unwrap(), "balances are what was posted");
    let held: i64 = store.holds_open().await.unwrap().iter().map(|hold| hold.remaining().get()).sum();
    assert_eq!(balances.held, Nano::new(held), "what is held is what open holds have left");
    let usage = usage(&store, deeds).await;
    let rated: i64 = usage.iter().map(|used| used.rated.get()).sum();
    assert_eq!(balances.accrued, Nano::new(rated), "what is owed is what was used");
    chats(cloud, deeds, &usage);
    jobs(cloud, deeds, &store, &usage).await;
    store.close().await.unwrap();
}

async fn usage(store: &Store, deeds: &Deeds) -> Vec<StoredUsage> {
    let (from, until) = (Time::from_millis(0), Time::from_millis(i64::MAX / 2));
    store.usage_all(deeds.tenant.organisation, from, until).await.unwrap()
}

fn tokens(usage: &[StoredUsage], meter: Meter) -> u64 {
    usage.iter().filter(|used| used.event.meter == meter).map(|used| used.event.quantity).sum()
}

/// No acknowledged answer is missing, and nothing is billed that no replica made.
fn chats(cloud: &Cloud, deeds: &Deeds, usage: &[StoredUsage]) {
    let spoken = |of: fn(&crate::deeds::Spoken) -> u64| deeds.spoken.iter().map(of).sum::<u64>();
    let count = |counter: &std::sync::atomic::AtomicUsize| counter.load(std::sync::atomic::Ordering::SeqCst) as u64;
    let (read, written) = (tokens(usage, Meter::TokensIn), tokens(usage, Meter::TokensOut));
    assert!(read >= spoken(|spoken| spoken.tokens_in), "an acknowledged prompt was not billed");
    assert!(written >= spoken(|spoken| spoken.tokens_out), "an acknowledged answer was not billed");
    let asked = count(&cloud.stage.counts.asked) * PROMPT_TOKENS;
    assert!(read <= asked, "{read} tokens were billed as read, and replicas read {asked}");
    assert!(written <= count(&cloud.stage.counts.made), "{written} tokens were billed that no replica wrote");
}

/// Every acknowledged job has ended, no moment of it is billed twice, and none in which its program did not run.
async fn jobs(cloud: &Cloud, deeds: &Deeds, store: &Store, usage: &[StoredUsage]) {
    let ran = cloud.stage.ran_ms().await;
    for id in &deeds.jobs {
        let job = store.job_get(*id).await.unwrap().expect("an acknowledged job is there");
        assert!(job.state.is_final(), "{job:?}");
        let subject = id.to_string();
        let mut intervals: Vec<&UsageEvent> =
            usage.iter().map(|used| &used.event).filter(|event| event.subject == subject).collect();
        intervals.retain(|event| event.meter == Meter::ComputeCore);
        intervals.sort_by_key(|event| event.started_at);
        for pair in intervals.windows(2) {
            assert!(pair[0].ended_at <= pair[1].started_at, "a moment was billed twice: {pair:#?}");
        }
        let billed: u64 = intervals.iter().map(|event| event.quantity).sum();
        let really = ran.iter().filter(|(name, _)| name.contains(&subject)).map(|(_, ms)| ms).sum::<u64>();
        assert!(billed <= really, "{subject}: {billed} core-ms were billed, and it ran for {really} ms on one core");
    }
}

async fn invoice(client: &Client, deeds: &Deeds) {
    let organisation = deeds.tenant.organisation.to_string();
    let draft: InvoiceDraftView = client.call("invoice_draft", &[&organisation]).send().await.unwrap();
    let mut records: Vec<Value> = Vec::new();
    let mut query = UsageQuery { limit: Some(PAGE_LIMIT_MAX), ..UsageQuery::default() };
    loop {
        let page: UsageList = client.call("usage_list", &[&organisation]).query(&query).send().await.unwrap();
        records.extend(page.items.iter().map(|record| serde_json::to_value(&record.event).unwrap()));
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    let books = books(client).await;
    let again = recompute(&draft.draft, &books, &records).unwrap();
    assert!(again.agrees(), "{:?}", again.differences);
    assert!(!draft.draft.lines.is_empty(), "something was used");
}

/// The price list as books.
async fn books(client: &Client) -> Vec<PriceBook> {
    let prices: PriceList = client.call("prices_list", &[]).send().await.unwrap();
    let mut books: BTreeMap<u32, PriceBook> = BTreeMap::new();
    for price in prices.items {
        let meter = Meter::ALL.iter().copied().find(|meter| meter.as_str() == price.meter).unwrap();
        let row = PriceRow { meter, item: price.item, nano: price.nano, per: price.per, label: price.label };
        let empty = || PriceBook { version: price.book, from: Time::from_millis(0), rows: Vec::new() };
        books.entry(price.book).or_insert_with(empty).rows.push(row);
    }
    books.into_values().collect()
}

/// Proves every entry, and finds the ones of the jobs that were acknowledged.
async fn audit(client: &Client, deeds: &Deeds) {
    let organisation = deeds.tenant.organisation.to_string();
    let (mut query, mut key) = (AuditQuery { after: None, limit: Some(PAGE_LIMIT_MAX), at: None }, None);
    let mut told: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    loop {
        let page: AuditList = client.call("audit_list", &[&organisation]).query(&query).send().await.unwrap();
        let key = key.get_or_insert_with(|| page.log_key.clone());
        page.verify(key).unwrap();
        for record in &page.items {
            let entry: AuditEntry = serde_json::from_str(&record.body).unwrap();
            let fresh = told.entry(entry.action.clone()).or_default().insert(entry.object.clone());
            assert!(fresh || entry.action != "job:create", "a job was made twice: {entry:?}");
        }
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    for job in &deeds.jobs {
        assert!(told["job:create"].contains(&job.to_string()), "the log does not tell of {job}");
    }
    assert_eq!(told["job:create"].len(), deeds.jobs.len(), "a job was made that nobody was told of");
}
