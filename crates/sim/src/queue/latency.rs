//! How long passes take over a large cluster that is full, with a long queue.

use gregal_core::{
    id::JobId,
    queue::{Ask, Config, ConfigError, Decision, Ground, Policy, Queue, Quota, Share, ShareId, Sku},
};
use serde::{Deserialize, Serialize};

use crate::{Spread, Watch};

/// Shares the jobs belong to.
const SHARES: u32 = 50;
/// Sizes jobs have, and how often of 100.
const SIZES: [(u32, u64); 6] = [(1, 60), (2, 12), (4, 12), (8, 12), (16, 3), (64, 1)];
/// Milliseconds between two events.
const STEP_MS: u64 = 1000;

/// What to measure on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// Nodes.
    pub nodes: u32,
    /// Accelerators of each.
    pub gpus_per_node: u32,
    /// Jobs that wait while the cluster is full.
    pub queued: u32,
    /// Passes to measure of each kind.
    pub rounds: u32,
    /// Where the draws begin.
    pub seed: u64,
    /// The policy's name.
    pub policy: String,
}

/// How long passes took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// What was measured on.
    pub load: Load,
    /// Jobs that run.
    pub running: usize,
    /// Jobs that wait.
    pub waiting: usize,
    /// A pass over everything: the state is built from a snapshot, then decided on; microseconds.
    pub full_us: Spread,
    /// The part of it that decides; microseconds.
    pub full_decide_us: Spread,
    /// One job ends, another comes, and a pass over the state as it stands; microseconds.
    pub incremental_us: Spread,
    /// Bytes by which the process grew from an empty queue to this one, with all that runs and waits; none where that is not known.
    pub state_bytes: Option<u64>,
    /// The same for each job that runs or waits, rounded up.
    pub state_bytes_per_job: Option<u64>,
    /// Jobs placed a second in the passes that filled the empty cluster, over all of them.
    pub placements_per_s: u64,
}

/// Measures. None: there is no policy of that name.
pub fn latency(load: Load, watch: &mut dyn Watch) -> Result<Option<Latency>, ConfigError> {
    let Some(policy) = Policy::named(&load.policy) else { return Ok(None) };
    let empty_bytes = watch.memory_bytes();
    let gpus = load.nodes.saturating_mul(load.gpus_per_node);
    let share = |parent, guarantee| Share {
        parent,
        weight: 1,
        quotas: vec![Quota { guarantee, borrow_max: None, lend_max: None }],
    };
    let mut shares = vec![share(None, gpus % SHARES)];
    shares.extend((0..SHARES).map(|_| share(Some(ShareId(0)), gpus / SHARES)));
    let skus = vec![Sku { nodes: load.nodes, gpus_per_node: load.gpus_per_node }];
    let mut queue = Queue::new(Config { ground: Ground::Uniform(skus), shares, policy })?;
    let mut draws = Draws(load.seed);
    let (mut running, mut next, mut now_ms) = (Vec::new(), 0, 0);
    let (mut placed, mut placing_us) = (0_u64, 0_u64);
    while queue.waiting() < load.queued as usize {
        for _ in 0..load.queued.clamp(1, 10_000) {
            submit(&mut queue, &mut next, &mut draws, now_ms);
        }
        let before = micros(watch);
        let started = started(&queue.pass(now_ms));
        if !started.is_empty() {
            placing_us += micros(watch).saturating_sub(before);
        }
        placed += started.len() as u64;
        running.extend(started);
        now_ms += STEP_MS;
        watch.progress(queue.waiting().min(load.queued as usize) as u64, u64::from(load.queued));
    }
    let state_bytes = watch.memory_bytes().zip(empty_bytes).map(|(full, empty)| full.saturating_sub(empty));
    let jobs = (running.len() + queue.waiting()) as u64;
    let mut incremental = Vec::new();
    for _ in 0..load.rounds {
        now_ms += STEP_MS;
        let before = micros(watch);
        if !running.is_empty() {
            let ended = running.swap_remove(draws.below(running.len() as u64));
            drop(queue.finish(ended, now_ms));
        }
        submit(&mut queue, &mut next, &mut draws, now_ms);
        let decisions = queue.pass(now_ms);
        incremental.push(micros(watch).saturating_sub(before));
        running.extend(started(&decisions));
        for decision in &decisions {
            if let Decision::Stop { job, .. } = decision {
                drop(queue.stopped(*job, 0, now_ms));
                running.retain(|other| other != job);
            }
        }
    }
    let (mut full, mut decide) = (Vec::new(), Vec::new());
    for _ in 0..load.rounds.div_ceil(20) {
        let snapshot = queue.snapshot();
        now_ms += STEP_MS;
        let before = micros(watch);
        let mut again = Queue::of_snapshot(snapshot)?;
        let built = micros(watch);
        drop(again.pass(now_ms));
        let after = micros(watch);
        full.push(after.saturating_sub(before));
        decide.push(after.saturating_sub(built));
    }
    Ok(Some(Latency {
        load,
        state_bytes,
        state_bytes_per_job: state_bytes.map(|bytes| bytes.div_ceil(jobs.max(1))),
        running: running.len(),
        waiting: queue.waiting(),
        full_us: Spread::of(full),
        full_decide_us: Spread::of(decide),
        incremental_us: Spread::of(incremental),
        placements_per_s: (placed * 1_000_000).checked_div(placing_us).unwrap_or(0),
    }))
}

fn submit(queue: &mut Queue, next: &mut u128, draws: &mut Draws, now_ms: u64) {
    let mut draw = draws.below(100) as u64;
    let size = SIZES.iter().find(|(_, often)| {
        let found = draw < *often;
        draw = draw.saturating_sub(*often);
        found
    });
    let ask = Ask {
        job: JobId::from_u128(*next),
        share: ShareId(1 + u32::try_from(draws.below(u64::from(SHARES))).unwrap_or(0)),
        sku: 0,
        gpus: size.map_or(1, |(gpus, _)| *gpus),
        shape: 0,
        limit_ms: Some(60_000 << draws.below(12)),
        priority: 0,
        preemptible: true,
    };
    *next += 1;
    // Too large for a small cluster: left out.
    drop(queue.submit(ask, now_ms));
}

fn started(decisions: &[Decision]) -> Vec<JobId> {
    let start = |decision: &Decision| if let Decision::Start { job, .. } = decision { Some(*job) } else { None };
    decisions.iter().filter_map(start).collect()
}

fn micros(watch: &mut dyn Watch) -> u64 {
    watch.nanos() / 1000
}

/// Splitmix64 (Steele, Lea, Flood 2014): the same draws on every machine.
struct Draws(u64);

impl Draws {
    fn below(&mut self, end: u64) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((mixed ^ (mixed >> 31)) % end.max(1)).unwrap_or(0)
    }
}
