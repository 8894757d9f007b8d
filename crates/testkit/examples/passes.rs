//! What a pass over the live queue costs: a control plane over a real SQLite file, so many waiting jobs and sites, and passes
//! before each of which a few jobs came and a few ended. Beside it, in the same run, the first pass of a plane that has just
//! started, which has to read everything.
//!
//! `cargo run --release -p gregal-testkit --example passes -- --waiting 1000 --sites 50 --changed 5 --passes 50`
//!
//! Figures only; nothing here passes or fails by a time.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on says where")]

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use gregal_control::{Control, ControlOptions};
use gregal_core::{
    audit::AuditEntry,
    id::{HoldId, JobId, KeyId, OrganisationId, ProjectId, SiteId},
    job::{Billed, Job, JobEnd, JobState, PRIORITY_DEFAULT, Program},
    money::Nano,
    organisation::{FairShare, Organisation, Plan, Project},
    price,
    residency::ResidencyPolicy,
    schedule::{Snapshot, order, record::replay, schedule},
    site::{Capacity, Site, SiteOperator},
    time::Time,
    world::World as _,
};
use gregal_store::{Store, StoreOptions};
use gregal_testkit::SteppedWorld;
use serde_json::json;

/// Cores of a site, each of which runs a job.
const CORES: u32 = 8;
/// Organisations that share the queue.
const ORGANISATIONS: u128 = 30;
const BEGAN_MS: i64 = 1_795_000_000_000;

/// What is measured.
struct Asked {
    waiting: u64,
    sites: u64,
    changed: u64,
    passes: u64,
    argv_bytes: usize,
}

impl Asked {
    fn of_arguments() -> Self {
        let mut asked = Self { waiting: 1000, sites: 50, changed: 5, passes: 50, argv_bytes: 200 };
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            let value: u64 =
                arguments.next().and_then(|value| value.parse().ok()).expect("a number follows each option");
            match name.as_str() {
                "--waiting" => asked.waiting = value,
                "--sites" => asked.sites = value,
                "--changed" => asked.changed = value,
                "--passes" => asked.passes = value,
                "--argv-bytes" => asked.argv_bytes = usize::try_from(value).unwrap(),
                other => panic!("`{other}` is none of --waiting --sites --changed --passes --argv-bytes"),
            }
        }
        asked
    }
}

/// A cloud whose rows are written by hand: no request is measured here, only passes.
struct Bench {
    store: Store,
    world: Arc<SteppedWorld>,
    next: u128,
    argv_bytes: usize,
    bound: VecDeque<JobId>,
}

#[tokio::main]
async fn main() {
    let asked = Asked::of_arguments();
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(folder.path(), &asked).await;
    let control = bench.control().await;
    // Sites fill up, and every waiting job is told why it waits.
    let first = timed(&control).await;
    bench.started().await;
    let mut settled = Vec::new();
    for _ in 0..3 {
        settled.push(timed(&control).await);
    }
    let (mut warm, mut still) = (Vec::new(), Vec::new());
    let before = bench.written().await;
    for _ in 0..asked.passes {
        bench.change(asked.changed).await;
        warm.push(timed(&control).await);
        bench.started().await;
        still.push(timed(&control).await);
    }
    let after = bench.written().await;
    let mut cold = Vec::new();
    for _ in 0..asked.passes.min(10) {
        bench.change(asked.changed).await;
        let new = bench.control().await;
        cold.push(timed(&new).await);
        bench.started().await;
    }
    let (mut decide, mut look) = (Vec::new(), Vec::new());
    let snapshot = bench.snapshot().await;
    let now = bench.world.now();
    for _ in 0..asked.passes.min(10) {
        let watch = Instant::now();
        assert!(!schedule(&snapshot, now).is_empty());
        decide.push(watch.elapsed());
        let watch = Instant::now();
        assert!(!order(&snapshot, now).is_empty());
        look.push(watch.elapsed());
    }
    let figures = json!({
        "waiting": asked.waiting, "sites": asked.sites, "changed": asked.changed, "passes": asked.passes,
        "first_ms": millis(first),
        "warm_ms": spread(&mut warm),
        "warm_nothing_changed_ms": spread(&mut still),
        "just_started_ms": spread(&mut cold),
        "decide_alone_ms": spread(&mut decide),
        "order_alone_ms": spread(&mut look),
        "audit_entries_a_pass": (after - before) as f64 / asked.passes as f64 - 2.0,
        "build": if cfg!(debug_assertions) { "debug: compare ratios only" } else { "release" },
    });
    println!("{}", serde_json::to_string_pretty(&figures).unwrap());
}

async fn timed(control: &Control) -> Duration {
    let watch = Instant::now();
    control.schedule_pass().await.unwrap();
    watch.elapsed()
}

fn millis(took: Duration) -> f64 {
    took.as_secs_f64() * 1000.0
}

fn spread(took: &mut [Duration]) -> serde_json::Value {
    took.sort_unstable();
    let at = |percent: usize| millis(took[(took.len() - 1) * percent / 100]);
    json!({ "p50": at(50), "p99": at(99) })
}

impl Bench {
    async fn new(folder: &std::path::Path, asked: &Asked) -> Self {
        let url = folder.join("control.sqlite").display().to_string();
        let store = Store::open(StoreOptions::new(url)).await.unwrap();
        let world = Arc::new(SteppedWorld::at(Time::from_millis(BEGAN_MS)));
        let mut bench = Self { store, world, next: 1, argv_bytes: asked.argv_bytes, bound: VecDeque::new() };
        let tx = bench.store.begin().await.unwrap();
        for number in 1..=ORGANISATIONS {
            tx.organisation_insert(&organisation(number)).await.unwrap();
            tx.project_insert(&project(number)).await.unwrap();
        }
        for number in 0..u128::from(asked.sites) {
            tx.site_insert(&site(number + 1)).await.unwrap();
        }
        for _ in 0..asked.waiting + asked.sites * u64::from(CORES) {
            let job = bench.job();
            tx.job_insert(&job).await.unwrap();
        }
        tx.commit(&[bench.entry()]).await.unwrap();
        bench
    }

    async fn control(&self) -> Control {
        Control::open(ControlOptions {
            store: self.store.clone(),
            world: self.world.clone(),
            url: "http://127.0.0.1:1".into(),
            invoicing: None,
            seller: "FR".parse().unwrap(),
            first_prices: price::default_book(Time::from_millis(0)),
            origin: "audit.bench.example/gregal".into(),
            code_version: "bench".into(),
            clean_ms: gregal_core::reservation::CLEAN_MS_DEFAULT,
            identity: gregal_control::IdentityOptions::default(),
            access: gregal_control::AccessOptions::default(),
        })
        .await
        .unwrap()
    }

    fn entry(&self) -> AuditEntry {
        AuditEntry {
            at: self.world.now(),
            organisation: None,
            actor: "bench".into(),
            action: "bench:change".into(),
            object: "bench".into(),
            result: "done".into(),
            reason: None,
            policy: None,
            request: None,
            source: None,
            facts: serde_json::Map::new(),
            salt: None,
            view: None,
        }
    }

    fn job(&mut self) -> Job {
        let (id, whose) = (JobId::from_u128(self.next), 1 + self.next % ORGANISATIONS);
        self.next += 1;
        Job {
            id,
            organisation: OrganisationId::from_u128(whose),
            project: ProjectId::from_u128(whose),
            submitted_by: KeyId::from_u128(1),
            name: "bench".into(),
            program: Program::Command { argv: vec!["x".repeat(self.argv_bytes)], inputs: Vec::new(), network: false },
            sku: "cpu.1".into(),
            reservation: None,
            seconds_max: 3600,
            priority: PRIORITY_DEFAULT,
            preemptible: false,
            stops: 0,
            stopped_for: None,
            state: JobState::Queued,
            waits_for: None,
            waits_causes: Vec::new(),
            promised: None,
            site: None,
            attempt: 0,
            hold: HoldId::from_u128(self.next),
            told_at: None,
            stopped_at: None,
            ready_at: None,
            billed: Billed::default(),
            progress: None,
            heldout: None,
            end: None,
            model: None,
            created_at: self.world.now(),
            started_at: None,
            ended_at: None,
            version: 1,
        }
    }

    /// What a pass started is ready a moment later.
    async fn started(&mut self) {
        let starting = self.store.jobs_in_states(&[JobState::Starting]).await.unwrap();
        let tx = self.store.begin().await.unwrap();
        let now = self.world.now();
        for job in starting {
            let version = job.version + 1;
            let ready = Job { state: JobState::Running, ready_at: Some(now), started_at: Some(now), version, ..job };
            tx.job_update(&ready).await.unwrap();
            self.bound.push_back(ready.id);
        }
        tx.commit(&[self.entry()]).await.unwrap();
    }

    /// As many jobs end as come.
    async fn change(&mut self, jobs: u64) {
        self.world.pass_seconds(1);
        let tx = self.store.begin().await.unwrap();
        for _ in 0..jobs {
            let id = self.bound.pop_front().unwrap();
            let job = tx.job_get(id).await.unwrap().unwrap();
            let end = JobEnd { code: Some(0), reason: "finished".into(), hint: None };
            let (version, at) = (job.version + 1, Some(self.world.now()));
            let ended = Job { state: JobState::Succeeded, end: Some(end), ended_at: at, version, ..job };
            tx.job_update(&ended).await.unwrap();
            let job = self.job();
            tx.job_insert(&job).await.unwrap();
        }
        tx.commit(&[self.entry()]).await.unwrap();
    }

    /// What the newest recorded pass looked at.
    async fn snapshot(&self) -> Snapshot {
        let newest = self.store.schedule_pass_newest().await.unwrap().unwrap();
        let chain = self.store.schedule_pass_chain(newest.sequence).await.unwrap();
        replay(&chain).unwrap().snapshot
    }

    /// Entries of the audit log. Two of those between measured passes are the bench's own.
    async fn written(&self) -> u64 {
        self.store.audit_head().await.unwrap().0
    }
}

fn organisation(number: u128) -> Organisation {
    Organisation {
        id: OrganisationId::from_u128(number),
        name: format!("organisation-{number}"),
        country: "FR".parse().unwrap(),
        vat_id: None,
        billing: None,
        plan: Plan::SelfService,
        credit: Nano::ZERO,
        residency: ResidencyPolicy::eu(),
        share: FairShare::default(),
        policies: 0,
        support: gregal_core::support::SupportSetting::default(),
        created_at: Time::from_millis(BEGAN_MS),
        version: 1,
    }
}

fn project(number: u128) -> Project {
    Project {
        id: ProjectId::from_u128(number),
        organisation: OrganisationId::from_u128(number),
        name: "main".into(),
        created_at: Time::from_millis(BEGAN_MS),
        version: 1,
    }
}

fn site(number: u128) -> Site {
    let law = || "FR".parse().unwrap();
    Site {
        id: SiteId::from_u128(number),
        name: format!("site-{number}"),
        jurisdiction: law(),
        operator: SiteOperator { name: "Hoster".into(), jurisdiction: law(), parent_jurisdiction: law() },
        certifications: std::collections::BTreeSet::new(),
        url: None,
        secret_digest: format!("{number:064x}"),
        grid: None,
        capacity: Some(Capacity {
            cpus_milli: CORES * 1000,
            memory_bytes: u64::from(CORES) << 32,
            accelerators: Vec::new(),
            protections_missing: Vec::new(),
            engine: "sim".into(),
            shared: Vec::new(),
        }),
        lease_until: Some(Time::from_millis(BEGAN_MS).plus_seconds(86_400 * 365)),
        incarnation: None,
        created_at: Time::from_millis(BEGAN_MS),
        version: 1,
    }
}
