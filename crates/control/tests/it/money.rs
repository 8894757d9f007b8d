//! Invoices that anyone can recompute, and holds that run out.

use gregal_core::{
    id::{HoldId, JobId},
    invoice::{self, InvoiceDraft},
    ledger::{Account, Leg, Posting, PostingKind},
    money::Nano,
    time::Time,
    world::World as _,
};
use serde_json::{Value, json};

use crate::world::{Cloud, ended, entry, running, with_dataset};

#[tokio::test]
async fn the_draft_invoice_re_derives_from_the_raw_records_page_by_page() {
    let (cloud, mut site, tenant, dataset) = with_dataset().await;
    let job = cloud.job(&tenant, &dataset, "first").await;
    cloud.control.step().await.unwrap();
    site.says(&cloud, job, 1, running(&cloud)).await;
    cloud.world.pass_seconds(100);
    let events: Vec<_> =
        (0..25).map(|i| site.core_seconds(&cloud, &tenant, job, &format!("interval {i}"), 2)).collect();
    site.uses(&cloud, &events).await;
    site.says(&cloud, job, 1, ended(&cloud, "failed", false)).await;

    let organisation = tenant.organisation();
    let draft = cloud.call(&tenant.owner, "invoice_draft", &[&organisation], Value::Null).await.good();
    assert_eq!(draft["currency"], "EUR");
    let (mut records, mut after) = (Vec::new(), String::new());
    loop {
        let page =
            cloud.get(&tenant.owner, &format!("/api/v1/organisations/{organisation}/usage?limit=10{after}")).await;
        let page = page.good();
        records.extend(page["items"].as_array().unwrap().iter().cloned());
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(records.len(), 25);
    let draft: InvoiceDraft = serde_json::from_value(draft).unwrap();
    let books = cloud.store.price_books_all().await.unwrap();
    let again = invoice::recompute(&draft, &books, &records).unwrap();
    assert!(again.agrees(), "{:?}", again.differences);
    assert_eq!((draft.lines.len(), draft.lines[0].quantity, draft.lines[0].records), (1, 50_000, 25));
    // A changed record is seen.
    records[3]["quantity"] = json!(2_001);
    assert!(!invoice::recompute(&draft, &books, &records).unwrap().agrees());

    let sums = cloud.call(&tenant.owner, "usage_summary", &[&organisation], Value::Null).await.good();
    assert_eq!((&sums["items"][0]["quantity"], &sums["items"][0]["unit"]), (&json!(50_000), &json!("core_ms")));
    let backwards =
        format!("/api/v1/organisations/{organisation}/usage?from=2026-11-02T00:00:00Z&until=2026-11-01T00:00:00Z");
    assert_eq!(cloud.get(&tenant.owner, &backwards).await.problem(), "invalid_request");
    let empty = format!(
        "/api/v1/organisations/{organisation}/invoice-draft?from=2026-10-01T00:00:00Z&until=2026-11-01T00:00:00Z"
    );
    assert_eq!(cloud.get(&tenant.owner, &empty).await.good()["total"], 0);
}

#[tokio::test]
async fn a_hold_whose_time_ran_out_or_whose_job_is_gone_is_given_back_once() {
    let cloud = Cloud::open().await;
    let tenant = cloud.tenant("Acme", 1_000).await;
    let now = cloud.world.now();
    let hold = |subject: String, expires_at: Option<Time>| gregal_core::hold::Hold {
        id: HoldId::new(&*cloud.world),
        organisation: tenant.organisation,
        project: None,
        subject,
        amount: Nano::from_euro(1),
        charged: Nano::ZERO,
        state: gregal_core::hold::HoldState::Open,
        created_at: now,
        expires_at,
        version: 1,
    };
    let holds = [
        hold(gregal_core::id::AllowanceId::from_u128(1).to_string(), Some(now.plus_seconds(60))),
        hold(JobId::from_u128(1).to_string(), None),
        hold(gregal_core::id::AllowanceId::from_u128(2).to_string(), Some(now.plus_seconds(6_000))),
    ];
    let tx = cloud.store.begin().await.unwrap();
    for hold in &holds {
        tx.hold_insert(hold).await.unwrap();
        let leg = |account, euro| Leg { account, amount: Nano::from_euro(euro) };
        let posting = Posting {
            id: gregal_core::id::PostingId::new(&*cloud.world),
            organisation: tenant.organisation,
            kind: PostingKind::Hold,
            reference: hold.id.to_string(),
            legs: vec![leg(Account::Available, -1), leg(Account::Held, 1)],
            at: now,
        };
        tx.posting_insert(&posting).await.unwrap();
    }
    tx.commit(&[entry(now, "test:holds")]).await.unwrap();
    cloud.world.pass_seconds(120);
    for _ in 0..2 {
        cloud.control.step().await.unwrap();
        assert_eq!(cloud.balances(tenant.organisation).await.held, Nano::from_euro(1));
    }
    let open = cloud.store.holds_open().await.unwrap();
    assert_eq!(open.iter().map(|hold| hold.id).collect::<Vec<_>>(), [holds[2].id]);
}

#[tokio::test]
async fn the_ledger_is_paged_and_every_posting_balances() {
    let (cloud, _site, tenant, dataset) = with_dataset().await;
    for name in ["a", "b", "c"] {
        cloud.job(&tenant, &dataset, name).await;
    }
    let base = format!("/api/v1/organisations/{}/postings", tenant.organisation);
    let mut seen = Vec::new();
    let mut path = format!("{base}?limit=1");
    loop {
        let page = cloud.get(&tenant.owner, &path).await.good();
        for posting in page["items"].as_array().unwrap() {
            let sum: i64 = posting["legs"].as_array().unwrap().iter().map(|leg| leg["amount"].as_i64().unwrap()).sum();
            assert_eq!(sum, 0, "{posting}");
            seen.push(posting["kind"].as_str().unwrap().to_owned());
        }
        let Some(next) = page["next"].as_str() else { break };
        path = format!("{base}?limit=1&after={next}");
    }
    assert_eq!(seen, ["credit", "hold", "hold", "hold"]);
    let balance = cloud.call(&tenant.owner, "balance_read", &[&tenant.organisation()], Value::Null).await.good();
    assert_eq!(balance["held_nano"], 3 * 666_667);
}
