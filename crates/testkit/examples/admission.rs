//! Kueue's published performance scenario through the whole control plane: every workload is submitted over HTTP with its
//! owner's key, waits, is bound, runs at a simulated site that speaks the site protocol, is metered, charged and settled, on a
//! SQLite file with the settings it always has.
//!
//! 30 queues with 20 units each that may borrow up to 100 more; for each 350 workloads of one unit that run 0.2 s and come
//! every 0.1 s, 100 of five units (0.5 s, every 0.5 s) and 50 of twenty (1 s, every 1.2 s). The work alone needs 66 s; Kueue
//! publishes a mean of 351 s (github.com/kubernetes-sigs/kueue, test/performance/scheduler, configs/baseline).
//!
//! `cargo run --release -p gregal-testkit --example admission -- --queues 30 --percent 100`
//!
//! `--percent` takes so much of each class of workloads. Figures only; nothing passes or fails by a time, but it ends with an
//! error where a quota or the site was ever exceeded, or the books do not balance.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on says where")]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use gregal_api::{
    client::Client,
    organisation::{OrganisationCreate, OrganisationCreated},
    project::{ProjectCreate, ProjectView},
    protocol::{
        AttemptPhase, INTENT_PURPOSE, Intent, ObservedAttempt, SyncAnswer, SyncRequest, USAGE_BATCH_MAX, UsageBatch,
        UsageReceipt, WantedAttempt,
    },
    signed::verifying_key,
    site::{SiteCreate, SiteCreated},
};
use gregal_control::{Control, ControlOptions};
use gregal_core::{
    id::{JobId, OrganisationId, SiteId},
    job::{Billed, JobEnd, Program},
    meter::{Meter, UsageEvent},
    price,
    schedule::{
        Decision, Snapshot,
        record::{CHAIN_MAX, Inputs, replay},
        schedule_saying,
    },
    site::Capacity,
    time::Time,
    world::{RealWorld, World as _},
};
use gregal_store::{Store, StoreOptions};
use serde_json::{Value, json};
use tokio::{sync::oneshot, task::JoinSet};

/// A class of workloads: its SKU, units, how many a queue, how long each runs and how often one comes, in milliseconds.
struct Class {
    sku: &'static str,
    units: u32,
    count: u64,
    runs_ms: i64,
    every_ms: u64,
}

const CLASSES: [Class; 3] = [
    Class { sku: "unit.1", units: 1, count: 350, runs_ms: 200, every_ms: 100 },
    Class { sku: "unit.5", units: 5, count: 100, runs_ms: 500, every_ms: 500 },
    Class { sku: "unit.20", units: 20, count: 50, runs_ms: 1000, every_ms: 1200 },
];
/// Units that a queue owns, and may borrow beyond.
const QUOTA: u32 = 20;
const BORROW: u32 = 100;
const UNIT_CPUS_MILLI: u32 = 100;
const UNIT_MEMORY_BYTES: u64 = 64 << 20;
/// Mean of what Kueue publishes, in seconds.
const KUEUE_S: f64 = 351.0;

struct Queue {
    organisation: OrganisationId,
    project: String,
    client: Client,
}

#[tokio::main]
async fn main() {
    let (mut queues, mut percent) = (30u32, 100u64);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value: u64 = arguments.next().and_then(|value| value.parse().ok()).expect("a number follows each option");
        match name.as_str() {
            "--queues" => queues = u32::try_from(value).unwrap(),
            "--percent" => percent = value,
            other => panic!("`{other}` is none of --queues --percent"),
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let store =
        Store::open(StoreOptions::new(folder.path().join("control.sqlite").display().to_string())).await.unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let control = Control::open(ControlOptions {
        store: store.clone(),
        world: Arc::new(RealWorld),
        url: url.clone(),
        invoicing: None,
        seller: "FR".parse().unwrap(),
        first_prices: price::default_book(Time::from_millis(0)),
        clean_ms: 300_000,
        identity: gregal_control::IdentityOptions::default(),
        access: gregal_control::AccessOptions::default(),
        origin: "audit.bench.example/gregal".into(),
        code_version: "bench".into(),
    })
    .await
    .unwrap();
    let operator = Client::new(&url, control.operator_key_ensure().await.unwrap()).unwrap();
    let router = control.router();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let (stop, stopped) = oneshot::channel::<()>();
    let looping = control.clone();
    let tasks = tokio::spawn(async move { looping.run(async { drop(stopped.await) }).await });

    let site = Site::made(&url, &operator, queues * QUOTA).await;
    let owners = made(&url, &operator, queues).await;
    let count: u64 = CLASSES.iter().map(|class| taken(class, percent)).sum::<u64>() * u64::from(queues);
    let passes = passes_so_far(&store).await;
    let watch = Instant::now();
    let runs = tokio::spawn(site.run(count));
    let submitted = submitted(owners.iter(), percent, watch).await;
    let (syncs, mut served) = runs.await.unwrap();
    let wall = watch.elapsed().as_secs_f64();
    let ideal = ideal_s(percent);
    served.sort_unstable();
    let checked = checked(&store, &owners, passes, queues * QUOTA).await;
    drop(stop);
    tasks.await.unwrap();
    let figures = json!({
        "queues": queues, "workloads": count, "wall_s": wall, "work_alone_s": ideal, "wall_to_work": wall / ideal,
        "kueue_published_s": if percent == 100 && queues == 30 { json!(KUEUE_S) } else { Value::Null },
        "times_faster_than_kueue": if percent == 100 && queues == 30 { json!(KUEUE_S / wall) } else { Value::Null },
        "submitted_s": submitted, "syncs": syncs, "started_to_told_ms_p50": served.get(served.len() / 2),
        "checked": checked,
        "build": if cfg!(debug_assertions) { "debug: no figure to compare" } else { "release" },
    });
    println!("{}", serde_json::to_string_pretty(&figures).unwrap());
}

fn taken(class: &Class, percent: u64) -> u64 {
    (class.count * percent).div_ceil(100)
}

/// How long the work of a queue takes on its own units, at the least.
fn ideal_s(percent: u64) -> f64 {
    let work = |class: &Class| taken(class, percent) as f64 * f64::from(class.units) * class.runs_ms as f64 / 1000.0;
    CLASSES.iter().map(work).sum::<f64>() / f64::from(QUOTA)
}

/// SKUs, and an organisation with a project, a quota and credit for each queue.
async fn made(url: &str, operator: &Client, queues: u32) -> Vec<Queue> {
    for class in &CLASSES {
        let sku = json!({
            "name": class.sku, "cpus_milli": class.units * UNIT_CPUS_MILLI,
            "memory_bytes": u64::from(class.units) * UNIT_MEMORY_BYTES, "family": "unit", "units": class.units,
        });
        let _: Value = operator.call("sku_create", &[]).body(&sku).send().await.unwrap();
    }
    let mut owners = Vec::new();
    for number in 0..queues {
        let wanted = json!({ "name": format!("queue-{number}"), "country": "FR", "credit_cents": 100_000_000 });
        let wanted: OrganisationCreate = serde_json::from_value(wanted).unwrap();
        let made: OrganisationCreated = operator.call("organisation_create", &[]).body(&wanted).send().await.unwrap();
        let organisation = made.organisation.id;
        let quota = json!({ "guarantee": QUOTA, "borrow_max": BORROW });
        let parameters = [organisation.to_string(), "unit".to_owned()];
        let _: Value =
            operator.call("quota_write", &[&parameters[0], &parameters[1]]).body(&quota).send().await.unwrap();
        let client = Client::new(url, made.owner_key.secret).unwrap();
        let wanted = ProjectCreate { name: "main".into() };
        let call = client.call("project_create", &[&parameters[0]]).body(&wanted);
        let project: ProjectView = call.send().await.unwrap();
        owners.push(Queue { organisation, project: project.id.to_string(), client });
    }
    owners
}

/// Submits everything at its time, each queue's classes side by side; answers how long that took, in seconds.
async fn submitted(owners: impl Iterator<Item = &Queue>, percent: u64, began: Instant) -> f64 {
    let mut tasks = JoinSet::new();
    for owner in owners {
        for class in &CLASSES {
            let (client, project) = (owner.client.clone(), owner.project.clone());
            tasks.spawn(async move {
                for number in 0..taken(class, percent) {
                    let at = began + Duration::from_millis(number * class.every_ms);
                    tokio::time::sleep_until(at.into()).await;
                    let wanted = json!({
                        "name": "work", "sku": class.sku, "seconds_max": 60,
                        "program": { "kind": "command", "argv": [class.runs_ms.to_string()] },
                    });
                    let call = client.call("job_create", &[&project]).body(&wanted);
                    let _: Value = call.send().await.unwrap();
                }
            });
        }
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    began.elapsed().as_secs_f64()
}

/// A machine room that is simulated: it says what a real site's agent would, and the time its work takes passes.
struct Site {
    client: Client,
    id: SiteId,
    report: SyncRequest,
    runs: BTreeMap<(JobId, u32), Run>,
    over: BTreeSet<(JobId, u32)>,
}

struct Run {
    wanted: WantedAttempt,
    since: Time,
    ends: Time,
}

impl Site {
    async fn made(url: &str, operator: &Client, units: u32) -> Self {
        let made: SiteCreated = operator
            .call("site_create", &[])
            .body(&SiteCreate {
                name: "hall".into(),
                jurisdiction: "FR".into(),
                operator_name: "Hoster".into(),
                operator_jurisdiction: "FR".into(),
                operator_parent_jurisdiction: "FR".into(),
                certifications: Vec::new(),
                grid: None,
            })
            .send()
            .await
            .unwrap();
        let report = SyncRequest {
            incarnation: "first".into(),
            url: "http://127.0.0.1:1".into(),
            code_version: "bench".into(),
            capacity: Capacity {
                cpus_milli: units * UNIT_CPUS_MILLI,
                memory_bytes: u64::from(units) * UNIT_MEMORY_BYTES,
                accelerators: Vec::new(),
                protections_missing: Vec::new(),
                engine: "sim".into(),
                shared: Vec::new(),
            },
            intent_revision: 0,
            intent_again: false,
            wait_ms: 0,
            attempts: Vec::new(),
            replicas: Vec::new(),
            datasets: Vec::new(),
            datasets_gone: Vec::new(),
            allowances: Vec::new(),
            keys_used: Vec::new(),
        };
        let mut site = Self {
            client: Client::new(url, made.secret).unwrap(),
            id: made.site.id,
            report,
            runs: BTreeMap::new(),
            over: BTreeSet::new(),
        };
        site.sync().await;
        site
    }

    /// Runs what is wanted until so many attempts have ended; answers the number of syncs, and of each attempt how long after
    /// its end control had taken that in, in milliseconds.
    async fn run(mut self, mut left: u64) -> (u64, Vec<i64>) {
        let (mut syncs, mut told) = (0, Vec::new());
        while left > 0 {
            let now = RealWorld.now();
            let ended: Vec<(JobId, u32)> =
                self.runs.iter().filter(|(_, run)| run.ends <= now).map(|(key, _)| *key).collect();
            // What was used is handed over before the end is: a settled hold has all its charges.
            self.uses(&ended).await;
            self.report.attempts = self.runs.iter().map(|(key, run)| seen(*key, run, ended.contains(key))).collect();
            let next = self.runs.values().map(|run| run.ends.millis_since(now)).filter(|ms| *ms > 0).min();
            self.report.wait_ms = u32::try_from(next.unwrap_or(1000)).unwrap_or(1000).min(1000);
            let answer = self.sync().await;
            syncs += 1;
            for gone in &answer.attempts_ended {
                let Some(run) = self.runs.remove(&(gone.job, gone.attempt)) else { continue };
                told.push(RealWorld.now().millis_since(run.ends));
                self.over.insert((gone.job, gone.attempt));
                left -= 1;
            }
        }
        (syncs, told)
    }

    async fn sync(&mut self) -> SyncAnswer {
        let answer: SyncAnswer = self.client.call("site_sync", &[]).body(&self.report).send().await.unwrap();
        if let Some(signed) = &answer.intent {
            let intent: Intent = signed.open(&verifying_key(&answer.control_key).unwrap(), INTENT_PURPOSE).unwrap();
            self.report.intent_revision = intent.revision;
            let now = RealWorld.now();
            for wanted in intent.attempts {
                let key = (wanted.job, wanted.attempt);
                let Program::Command { argv, .. } = &wanted.program else { panic!("no command") };
                let ends = now.plus_millis(argv[0].parse().unwrap());
                if !self.over.contains(&key) {
                    self.runs.entry(key).or_insert(Run { wanted, since: now, ends });
                }
            }
        }
        answer
    }

    /// Hands over what these attempts used.
    async fn uses(&self, ended: &[(JobId, u32)]) {
        let event = |(job, attempt): &(JobId, u32)| {
            let run = &self.runs[&(*job, *attempt)];
            let millis = u64::try_from(run.ends.millis_since(run.since)).unwrap();
            UsageEvent {
                id: UsageEvent::id_of(self.id, &job.to_string(), Meter::ComputeCore, &format!("{attempt}-0")),
                organisation: run.wanted.organisation,
                project: run.wanted.project,
                site: self.id,
                meter: Meter::ComputeCore,
                item: run.wanted.sku.name.clone(),
                quantity: u64::from(run.wanted.sku.cpus_milli) * millis / 1000,
                subject: job.to_string(),
                started_at: run.since,
                ended_at: run.ends,
                allowance: None,
                estimated: None,
            }
        };
        for some in ended.chunks(USAGE_BATCH_MAX) {
            let batch = UsageBatch { events: some.iter().map(event).collect() };
            let receipt: UsageReceipt = self.client.call("site_usage", &[]).body(&batch).send().await.unwrap();
            assert!(receipt.refused.is_empty(), "{:?}", receipt.refused);
        }
    }
}

fn seen((job, attempt): (JobId, u32), run: &Run, has_ended: bool) -> ObservedAttempt {
    let phase = if has_ended {
        AttemptPhase::Ended {
            since: Some(run.since),
            at: run.ends,
            end: JobEnd { code: Some(0), reason: "finished".into(), hint: None },
            succeeded: true,
            cancelled: false,
            product: None,
            heldout: None,
            billed: Billed {
                ms: u64::try_from(run.ends.millis_since(run.since)).unwrap(),
                until: Some(run.ends),
                energy_mj: 0,
            },
        }
    } else {
        AttemptPhase::Running { since: run.since }
    };
    ObservedAttempt { job, attempt, phase, progress: Vec::new() }
}

async fn passes_so_far(store: &Store) -> u64 {
    store.schedule_pass_newest().await.unwrap().map_or(0, |place| place.sequence)
}

/// Looks at every recorded pass: who had more than its quota, or all together more than there is; and whether the passes come
/// out the same, and the books balance.
async fn checked(store: &Store, owners: &[Queue], before: u64, units: u32) -> Value {
    let newest = passes_so_far(store).await;
    let (mut violations, mut most, mut again, mut sequence) = (0, 0, 0, before + 1);
    while sequence <= newest {
        // The longest chain that begins here: the last of its records proves them all.
        let mut chain = store.schedule_pass_chain(sequence).await.unwrap();
        assert!(chain.len() == 1, "a chain begins with pass {sequence}");
        for last in (sequence + 1..=newest).take(CHAIN_MAX - 1) {
            let longer = store.schedule_pass_chain(last).await.unwrap();
            if longer.len() == 1 {
                break;
            }
            chain = longer;
        }
        assert!(replay(&chain).unwrap().same, "pass {sequence} and after do not come out the same");
        let mut snapshot = Snapshot::default();
        for record in &chain {
            match &record.inputs {
                Inputs::Whole(whole) => snapshot = whole.clone(),
                Inputs::Since(change) => change.apply(&mut snapshot),
                Inputs::Other(_) => panic!("other rules"),
            }
            let (over, all) = used(&snapshot, &schedule_saying(&snapshot, record.at, &|_, _, _| false));
            most = most.max(all);
            violations += usize::from(all > units) + over;
        }
        again += chain.len();
        sequence += chain.len() as u64;
    }
    for owner in owners {
        let balances = store.balances_get(owner.organisation).await.unwrap();
        assert_eq!(balances, store.balances_recomputed(owner.organisation).await.unwrap());
        assert_eq!(balances.sum(), 0);
    }
    assert!(store.holds_open().await.unwrap().is_empty(), "every hold is settled");
    assert_eq!(violations, 0, "a limit was passed");
    json!({ "passes": newest - before, "replayed_same": again, "limits_passed": violations, "units_used_most": most })
}

/// How many queues have more than they may after a pass, and the units all have.
fn used(snapshot: &Snapshot, decisions: &[Decision]) -> (usize, u32) {
    let mut units: BTreeMap<OrganisationId, u32> = BTreeMap::new();
    for bound in snapshot.rooms.iter().flat_map(|room| &room.bound) {
        *units.entry(bound.item.organisation).or_default() += bound.item.units();
    }
    let waiting: BTreeMap<JobId, _> = snapshot.waiting.iter().map(|one| (one.job, &one.item)).collect();
    for decision in decisions {
        if let Decision::Start { job, .. } = decision {
            *units.entry(waiting[job].organisation).or_default() += waiting[job].units();
        }
    }
    (units.values().filter(|units| **units > QUOTA + BORROW).count(), units.values().sum())
}
