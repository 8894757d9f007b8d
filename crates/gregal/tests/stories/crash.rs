//! `kill -9` of the whole process at ten random moments of the tour: nothing acknowledged is lost, nothing counts twice.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use gregal_api::{
    audit::{AuditList, AuditQuery},
    client::Client,
    grant::{GrantCreate, GrantCreated, GrantPurpose},
    job::JobView,
    page::{PAGE_LIMIT_MAX, UsageList},
    usage::UsageQuery,
};
use gregal_core::meter::Meter;
use serde_json::Value;

use crate::program::{Running, free_ports, gregal};

/// Kills, spread over the journey by a fixed seed; a failure names the moment.
const KILLS: u64 = 10;

#[derive(Default)]
struct Seen {
    audit: BTreeMap<u64, String>,
    usage: BTreeMap<String, Value>,
}

#[test]
fn ten_kills_lose_nothing_acknowledged_and_count_nothing_twice() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("facts.jsonl");
    let mut lines = String::new();
    for station in (0..600).map(|n| n % 24) {
        let sign = station * 31;
        writeln!(lines, r#"{{"prompt":"What is the sign of station {station}?","completion":"S{sign}"}}"#).unwrap();
    }
    fs::write(&data, lines).unwrap();
    let dir = folder.path().join("cloud");
    let (control, site) = free_ports();
    let (control, site) = (format!("127.0.0.1:{control}"), format!("127.0.0.1:{site}"));
    let arguments = [
        "tour",
        "--exit",
        "--json",
        "--keep",
        "--data",
        data.to_str().unwrap(),
        "--data-dir",
        dir.to_str().unwrap(),
        "--control-listen",
        &control,
        "--site-listen",
        &site,
    ];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = Client::new(&format!("http://{control}"), None).unwrap();
    let mut seen = Seen::default();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for kill in 0..KILLS {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let moment = Duration::from_millis(300 + (random >> 33) % 6_000);
        let mut tour = Running::start(&mut gregal(&arguments));
        let watch = Instant::now();
        while watch.elapsed() < moment && tour.0.try_wait().unwrap().is_none() {
            runtime.block_on(remember(&client, &dir, &mut seen));
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(
            tour.0.try_wait().unwrap().and_then(|status| status.code()).unwrap_or(0),
            0,
            "kill {kill}: the tour failed by itself"
        );
        tour.kill();
    }
    // The last start walks to the end by itself.
    let mut tour = Running::start(&mut gregal(&arguments));
    let (code, summary) = tour.wait(Duration::from_secs(400));
    let summary: Value = serde_json::from_str(&summary).unwrap();
    assert_eq!((code, &summary["ok"]), (Some(0), &Value::Bool(true)), "{}", summary["failed"]);
    assert_eq!(summary["invoice"]["total_eur"], summary["invoice"]["recomputed_eur"]);
    // One more start looks at what is there.
    let up = ["up", "--data-dir", dir.to_str().unwrap(), "--control-listen", &control, "--site-listen", &site];
    let mut cloud = Running::start(&mut gregal(&up));
    runtime.block_on(async {
        answers(&client, &dir, &mut cloud).await;
        everything_is_still_there(&client, &dir, &seen).await;
        the_training_went_on_from_a_checkpoint(&client, &dir).await;
    });
    cloud.signal("TERM");
    assert_eq!(cloud.wait(Duration::from_secs(90)).0, Some(0));
}

/// Waits until the cloud answers its owner.
async fn answers(client: &Client, dir: &Path, cloud: &mut Running) {
    let (owner, organisation) = owner(client, dir).unwrap();
    let watch = Instant::now();
    while owner.call("organisation_read", &[&organisation]).send::<Value>().await.is_err() {
        assert!(cloud.0.try_wait().unwrap().is_none(), "the cloud ended by itself");
        assert!(watch.elapsed() < Duration::from_mins(1), "the cloud did not answer within 60 s");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The job ran as one attempt, and a later run of it took up an earlier one's checkpoint.
async fn the_training_went_on_from_a_checkpoint(client: &Client, dir: &Path) {
    let notes = notes(dir).unwrap();
    let tenant = client.with_secret(notes["project_secret"].as_str().unwrap().to_owned());
    let id = notes["job"].as_str().unwrap();
    let job: JobView = tenant.call("job_read", &[id]).send().await.unwrap();
    assert_eq!(job.attempt, 1, "the same site must go on with the same attempt");
    let grant: GrantCreated = tenant
        .call("grant_create", &[notes["project"].as_str().unwrap()])
        .body(&GrantCreate { purpose: GrantPurpose::JobLogs, object: id.to_owned() })
        .send()
        .await
        .unwrap();
    let answer = reqwest::Client::builder()
        .no_proxy()
        .build()
        .unwrap()
        .get(format!("{}/content/v1/jobs/{id}/logs", grant.url))
        .bearer_auth(&grant.grant)
        .send()
        .await
        .unwrap();
    assert!(answer.status().is_success(), "the log answered {}", answer.status());
    let log = answer.text().await.unwrap();
    assert!(
        log.contains("took up the work of an earlier run at step"),
        "no run took up a checkpoint; the log says:\n{log}"
    );
}

fn notes(dir: &Path) -> Option<Value> {
    serde_json::from_slice(&fs::read(dir.join("tour.json")).ok()?).ok()
}

/// The owner's client and organisation, once the tour has them.
fn owner(client: &Client, dir: &Path) -> Option<(Client, String)> {
    let notes = notes(dir)?;
    let (secret, organisation) = (notes["owner_secret"].as_str()?, notes["organisation"].as_str()?);
    Some((client.with_secret(secret.to_owned()), organisation.to_owned()))
}

/// Whatever an answer showed was acknowledged and must stay.
async fn remember(client: &Client, dir: &Path, seen: &mut Seen) {
    let Some((owner, organisation)) = owner(client, dir) else { return };
    let after = seen.audit.keys().next_back().copied();
    let query = AuditQuery { after, limit: Some(PAGE_LIMIT_MAX), at: None };
    if let Ok(page) = owner.call("audit_list", &[&organisation]).query(&query).send::<AuditList>().await {
        seen.audit.extend(page.items.into_iter().map(|record| (record.index, record.body)));
    }
    let query = UsageQuery { limit: Some(PAGE_LIMIT_MAX), ..UsageQuery::default() };
    if let Ok(page) = owner.call("usage_list", &[&organisation]).query(&query).send::<UsageList>().await {
        for record in page.items {
            seen.usage.insert(record.event.id.clone(), serde_json::to_value(record.event).unwrap());
        }
    }
}

async fn everything_is_still_there(client: &Client, dir: &Path, seen: &Seen) {
    let (owner, organisation) = owner(client, dir).unwrap();
    let mut log = BTreeMap::new();
    let mut query = AuditQuery { after: None, limit: Some(PAGE_LIMIT_MAX), at: None };
    loop {
        let page: AuditList = owner.call("audit_list", &[&organisation]).query(&query).send().await.unwrap();
        page.verify(&page.log_key).unwrap();
        log.extend(page.items.into_iter().map(|record| (record.index, record.body)));
        match page.next {
            Some(next) => query.after = Some(next),
            None => break,
        }
    }
    for (index, body) in &seen.audit {
        assert_eq!(log.get(index), Some(body), "audit entry {index} was lost or changed");
    }
    let query = UsageQuery { limit: Some(PAGE_LIMIT_MAX), ..UsageQuery::default() };
    let page: UsageList = owner.call("usage_list", &[&organisation]).query(&query).send().await.unwrap();
    assert!(page.next.is_none(), "more usage than this test reads");
    let now: BTreeMap<String, Value> = page
        .items
        .iter()
        .map(|record| (record.event.id.clone(), serde_json::to_value(&record.event).unwrap()))
        .collect();
    assert_eq!(now.len(), page.items.len(), "a usage record is there twice");
    for (id, event) in &seen.usage {
        assert_eq!(now.get(id), Some(event), "usage record {id} was lost or changed");
    }
    // One stretch of compute is never metered twice, whichever run of the attempt or life of the replica it fell in.
    let mut stretches: Vec<_> = page
        .items
        .iter()
        .filter(|record| matches!(record.event.meter, Meter::ComputeCore | Meter::ReplicaCore))
        .map(|record| (record.event.subject.clone(), record.event.started_at, record.event.ended_at))
        .collect();
    stretches.sort();
    for pair in stretches.windows(2) {
        assert!(pair[0].0 != pair[1].0 || pair[0].2 <= pair[1].1, "metered twice: {:?} and {:?}", pair[0], pair[1]);
    }
}
