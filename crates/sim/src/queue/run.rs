//! The replay: events in order of time, a pass at each.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

use gregal_core::{
    id::JobId,
    queue::{Ask, Config, ConfigError, Decision, Ground, Policy, Queue, Quota, Refusal, Share, ShareId, Sku},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    report::{Fairness, Report, Spread},
    trace::Trace,
    witness::Witness,
};

/// What the scheduler is told of how long a job may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limits {
    /// What the trace states; the platform's limit for a job that states none.
    Stated,
    /// The exact run time: an oracle, to compare with published replays that had one.
    Exact,
}

/// What to replay on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// How many nodes.
    pub nodes: u32,
    /// How many accelerators each has.
    pub gpus_per_node: u32,
    /// The policy's name, for the report.
    pub policy_name: String,
    /// The policy.
    pub policy: Policy,
    /// What the scheduler is told.
    pub limits: Limits,
    /// How often it is asked while somebody waits, where time alone changes what may be stopped.
    pub tick_ms: u64,
}

impl Options {
    /// Nodes and a policy by its name. The reference policies are told the exact run times, as where they were published.
    pub fn named(policy: &str, nodes: u32, gpus_per_node: u32) -> Option<Self> {
        let limits = if policy.starts_with("fifo") { Limits::Exact } else { Limits::Stated };
        let (policy_name, policy) = (policy.to_owned(), Policy::named(policy)?);
        Some(Self { nodes, gpus_per_node, policy_name, policy, limits, tick_ms: 300_000 })
    }
}

/// Why a replay cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// The machines make no queue.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The queue refused what the replay knows to be true: a fault in one of them.
    #[error("job {job} at {at_ms} ms: {refusal}")]
    Refused {
        /// Which job, by its place in the trace.
        job: usize,
        /// When.
        at_ms: u64,
        /// What it said.
        refusal: Refusal,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A run ends by itself.
    End,
    /// A job's work is saved.
    Saved,
}

/// What the replay knows of a job.
#[derive(Debug, Clone, Copy, Default)]
struct Fate {
    /// Counts the runs, so that an event of an earlier one is known as stale.
    run: u32,
    restart_ms: u64,
    since_ms: u64,
    waiting_since_ms: u64,
    worked_ms: u64,
    stops: u32,
    first_start_ms: Option<u64>,
    promised_ms: Option<u64>,
    end_ms: Option<u64>,
}

struct Replay<'a> {
    trace: &'a Trace,
    queue: Queue,
    witness: Witness,
    shares: Vec<ShareId>,
    places: BTreeMap<JobId, usize>,
    fates: Vec<Fate>,
    events: BinaryHeap<Reverse<(u64, Event, usize, u32)>>,
    digest: Sha256,
    refused: usize,
    single_wait_ms_max: u64,
    overhead_gpu_ms: u64,
    preemptions: u64,
    promises: u64,
    late_promises: u64,
    passes_us: Vec<u64>,
}

/// Replays a trace. `steady_us` is a clock that never goes back, in microseconds; it is only read to say how long passes took.
pub fn replay(trace: &Trace, options: &Options, steady_us: &mut dyn FnMut() -> u64) -> Result<Report, ReplayError> {
    let gpus = options.nodes.saturating_mul(options.gpus_per_node);
    let config = config(trace, options, gpus);
    let shares = (1..).map(ShareId).take(trace.queues.len()).collect();
    Ok(replay_on(trace, options, config, shares, steady_us)?.0)
}

/// Replays a trace on shares of its own: `shares` says whose each queue of the trace is. Beside the
/// report stands how long every job that ended made no progress, in milliseconds.
pub(super) fn replay_on(
    trace: &Trace,
    options: &Options,
    config: Config,
    shares: Vec<ShareId>,
    steady_us: &mut dyn FnMut() -> u64,
) -> Result<(Report, Vec<Option<u64>>), ReplayError> {
    let gpus = options.nodes.saturating_mul(options.gpus_per_node);
    let mut replay = Replay {
        trace,
        witness: Witness::new(&config),
        queue: Queue::new(config)?,
        shares,
        places: (0..trace.jobs.len()).map(|index| (id(index), index)).collect(),
        fates: vec![Fate::default(); trace.jobs.len()],
        events: BinaryHeap::new(),
        digest: Sha256::new(),
        refused: 0,
        single_wait_ms_max: 0,
        overhead_gpu_ms: 0,
        preemptions: 0,
        promises: 0,
        late_promises: 0,
        passes_us: Vec::new(),
    };
    let (mut next, mut now_ms) = (0, 0_u64);
    loop {
        let arrival = trace.jobs.get(next).map(|job| job.submit_ms);
        let event = replay.events.peek().map(|Reverse((at, ..))| *at);
        let Some(mut at_ms) = arrival.into_iter().chain(event).min() else { break };
        if options.policy.preemption.is_some() && replay.queue.waiting() > 0 {
            at_ms = at_ms.min(now_ms + options.tick_ms.max(1));
        }
        now_ms = at_ms;
        replay.happen(now_ms)?;
        while trace.jobs.get(next).is_some_and(|job| job.submit_ms <= now_ms) {
            replay.submit(next, now_ms, options.limits)?;
            next += 1;
        }
        let before = steady_us();
        let decisions = replay.queue.pass(now_ms);
        replay.passes_us.push(steady_us().saturating_sub(before));
        replay.carry_out(&decisions, now_ms, options);
    }
    let waits = trace.jobs.iter().zip(&replay.fates).map(|(job, fate)| Some(fate.end_ms? - job.submit_ms - job.run_ms));
    let waits = waits.collect();
    Ok((replay.report(options, gpus), waits))
}

/// One pool; every queue of the trace is a share without a guarantee that borrows freely.
fn config(trace: &Trace, options: &Options, gpus: u32) -> Config {
    let quota = |guarantee| vec![Quota { guarantee, borrow_max: None, lend_max: None }];
    let mut shares = vec![Share { parent: None, weight: 1, quotas: quota(gpus) }];
    shares.extend(trace.queues.iter().map(|_| Share { parent: Some(ShareId(0)), weight: 1, quotas: quota(0) }));
    let skus = vec![Sku { nodes: options.nodes, gpus_per_node: options.gpus_per_node }];
    Config { ground: Ground::Uniform(skus), shares, policy: options.policy.clone() }
}

fn id(index: usize) -> JobId {
    JobId::from_u128(index as u128)
}

impl Replay<'_> {
    fn submit(&mut self, index: usize, now_ms: u64, limits: Limits) -> Result<(), ReplayError> {
        let job = self.trace.jobs[index];
        let limit_ms = match limits {
            Limits::Stated => job.limit_ms,
            Limits::Exact => Some(job.run_ms),
        };
        let ask = Ask {
            job: id(index),
            share: self.shares[job.queue as usize],
            sku: 0,
            gpus: job.gpus,
            shape: 0,
            limit_ms,
            priority: job.priority,
            preemptible: true,
        };
        let fate = &mut self.fates[index];
        fate.waiting_since_ms = now_ms;
        match self.queue.submit(ask, now_ms) {
            Ok(()) => Ok(()),
            Err(Refusal::TooBig { .. } | Refusal::OverQuota { .. }) => {
                self.refused += 1;
                Ok(())
            }
            Err(refusal) => Err(ReplayError::Refused { job: index, at_ms: now_ms, refusal }),
        }
    }

    /// What ends or is saved by now.
    fn happen(&mut self, now_ms: u64) -> Result<(), ReplayError> {
        while let Some(Reverse((at_ms, event, index, run))) =
            self.events.peek().copied().filter(|next| next.0.0 <= now_ms)
        {
            self.events.pop();
            if self.fates[index].run != run {
                continue;
            }
            let refused = |refusal| ReplayError::Refused { job: index, at_ms, refusal };
            let fate = &mut self.fates[index];
            match event {
                Event::End => {
                    fate.end_ms = Some(at_ms);
                    let record = self.queue.finish(id(index), at_ms).map_err(refused)?;
                    self.witness.gives_back(record.ask.share, record.slots());
                }
                Event::Saved => {
                    fate.waiting_since_ms = at_ms;
                    if let Some(record) = self.queue.record(id(index)) {
                        self.witness.gives_back(record.ask.share, record.slots());
                    }
                    self.queue.stopped(id(index), fate.worked_ms, at_ms).map_err(refused)?;
                }
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, decisions: &[Decision], now_ms: u64, options: &Options) {
        let preemption = options.policy.preemption.as_ref();
        for decision in decisions {
            match decision {
                Decision::Start { job, slots } => {
                    let index = self.places[job];
                    self.note(b"start", index, now_ms);
                    for slot in slots {
                        self.digest.update(slot.node.to_be_bytes());
                        self.digest.update(slot.gpus.to_be_bytes());
                    }
                    let job = self.trace.jobs[index];
                    self.witness.takes(self.shares[job.queue as usize], slots, job.gpus);
                    let fate = &mut self.fates[index];
                    let restart = preemption.filter(|_| fate.worked_ms > 0).map_or(0, |paid| paid.restart_ms);
                    fate.run += 1;
                    (fate.restart_ms, fate.since_ms) = (restart, now_ms);
                    fate.first_start_ms.get_or_insert(now_ms);
                    self.late_promises += u64::from(fate.promised_ms.take().is_some_and(|promised| now_ms > promised));
                    self.single_wait_ms_max = self.single_wait_ms_max.max(now_ms - fate.waiting_since_ms);
                    self.overhead_gpu_ms += restart * u64::from(job.gpus);
                    let end = now_ms + restart + job.run_ms.saturating_sub(fate.worked_ms);
                    self.events.push(Reverse((end, Event::End, index, fate.run)));
                }
                Decision::Stop { job, for_job } => {
                    let index = self.places[job];
                    self.note(b"stop", index, now_ms);
                    self.digest.update((self.places[for_job] as u64).to_be_bytes());
                    let fate = &mut self.fates[index];
                    fate.worked_ms += (now_ms - fate.since_ms).saturating_sub(fate.restart_ms);
                    fate.run += 1;
                    fate.stops += 1;
                    let checkpoint = preemption.map_or(0, |paid| paid.checkpoint_ms);
                    self.overhead_gpu_ms += checkpoint * u64::from(self.trace.jobs[index].gpus);
                    self.preemptions += 1;
                    self.events.push(Reverse((now_ms + checkpoint, Event::Saved, index, fate.run)));
                }
                Decision::Promise { job, at_ms } => {
                    let index = self.places[job];
                    self.note(b"promise", index, now_ms);
                    self.digest.update(at_ms.to_be_bytes());
                    self.promises += 1;
                    self.fates[index].promised_ms = Some(*at_ms);
                }
            }
        }
    }

    fn note(&mut self, what: &[u8], index: usize, now_ms: u64) {
        self.digest.update(what);
        self.digest.update((index as u64).to_be_bytes());
        self.digest.update(now_ms.to_be_bytes());
    }

    fn report(self, options: &Options, gpus: u32) -> Report {
        let ended = || {
            let both = self.trace.jobs.iter().zip(&self.fates);
            both.filter_map(|(job, fate)| fate.end_ms.map(|end| (job, fate, end - job.submit_ms)))
        };
        let makespan_ms = self.fates.iter().filter_map(|fate| fate.end_ms).max().unwrap_or(0);
        let work: u128 = ended().map(|(job, ..)| u128::from(job.run_ms) * u128::from(job.gpus)).sum();
        let room = u128::from(gpus) * u128::from(makespan_ms);
        let first = ended().filter_map(|(job, fate, _)| fate.first_start_ms.map(|at| (at - job.submit_ms) / 1000));
        Report {
            policy: options.policy_name.clone(),
            ties: "order of submission".into(),
            finished: ended().count(),
            refused: self.refused,
            wait_s: Spread::of(ended().map(|(job, _, jct)| jct.saturating_sub(job.run_ms) / 1000).collect()),
            first_start_s: Spread::of(first.collect()),
            single_wait_s_max: self.single_wait_ms_max / 1000,
            jct_s: Spread::of(ended().map(|(_, _, jct)| jct / 1000).collect()),
            makespan_s: makespan_ms / 1000,
            makespan_ms,
            utilisation: if room == 0 { 0.0 } else { work as f64 / room as f64 },
            overhead_gpu_s: self.overhead_gpu_ms / 1000,
            preemptions: self.preemptions,
            preemptions_of_one_max: self.fates.iter().map(|fate| fate.stops).max().unwrap_or(0),
            promises: self.promises,
            late_promises: self.late_promises,
            overdue_after_s: options.policy.overdue_after_ms.map(|after| after / 1000),
            fairness: Fairness::of(&ended().map(|(job, _, jct)| (jct, job.run_ms)).collect::<Vec<_>>(), gpus),
            violations: self.witness.violations,
            passes: self.passes_us.len() as u64,
            decision_us: Spread::of(self.passes_us),
            digest: hex::encode(self.digest.finalize()),
        }
    }
}
