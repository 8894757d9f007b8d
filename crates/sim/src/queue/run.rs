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
    absence::Absences,
    course::{Course, Moment},
    report::{Fairness, Report},
    trace::{Trace, TraceJob},
    witness::Witness,
};
use crate::{Absence, NodeKind, Spread, Watch};

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
    /// The nodes. A job without a model takes those of the only kind; a job with one takes those of that model, or of the only
    /// kind if that has no name.
    pub kinds: Vec<NodeKind>,
    /// The policy's name, for the report.
    pub policy_name: String,
    /// The policy.
    pub policy: Policy,
    /// What the scheduler is told.
    pub limits: Limits,
    /// How often it is asked while somebody waits, where time alone changes what may be stopped.
    pub tick_ms: u64,
    /// Nodes that leave and come back.
    pub absences: Vec<Absence>,
}

impl Options {
    /// Nodes and a policy by its name. The reference policies are told the exact run times, as where they were published.
    pub fn named(policy: &str, kinds: Vec<NodeKind>) -> Option<Self> {
        let limits = if policy.starts_with("fifo") { Limits::Exact } else { Limits::Stated };
        let (policy_name, policy) = (policy.to_owned(), Policy::named(policy)?);
        Some(Self { kinds, policy_name, policy, limits, tick_ms: 300_000, absences: Vec::new() })
    }

    /// Accelerators of all nodes.
    fn gpus(&self) -> u64 {
        self.kinds.iter().map(NodeKind::gpus).sum()
    }
}

/// Why a replay cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// The machines make no queue.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A job asks for a model that no node has, or for none where there are several.
    #[error("line {line}: `model` is none of: {known}")]
    Model {
        /// Its line in the file, from 1.
        line: usize,
        /// The models there are.
        known: String,
    },
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
pub(super) struct Fate {
    /// Counts the runs, so that an event of an earlier one is known as stale.
    pub(super) run: u32,
    pub(super) restart_ms: u64,
    pub(super) since_ms: u64,
    pub(super) waiting_since_ms: u64,
    pub(super) worked_ms: u64,
    stops: u32,
    first_start_ms: Option<u64>,
    promised_ms: Option<u64>,
    end_ms: Option<u64>,
}

/// A replay and everything it came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Replayed {
    /// The figures.
    pub report: Report,
    /// How full the machines were and how many waited.
    pub course: Course,
    /// How long each job of the trace made no progress, in milliseconds; none for one that did not end.
    pub waits_ms: Vec<Option<u64>>,
}

pub(super) struct Replay<'a> {
    trace: &'a Trace,
    pub(super) queue: Queue,
    pub(super) witness: Witness,
    shares: Vec<ShareId>,
    /// Which kind of node each job takes.
    skus: Vec<u16>,
    pub(super) places: BTreeMap<JobId, usize>,
    pub(super) fates: Vec<Fate>,
    events: BinaryHeap<Reverse<(u64, Event, usize, u32)>>,
    pub(super) absences: Absences,
    course: Course,
    digest: Sha256,
    /// Accelerators that jobs hold.
    pub(super) taken: u64,
    /// What saving work takes.
    pub(super) checkpoint_ms: u64,
    refused: usize,
    single_wait_ms_max: u64,
    pub(super) overhead_gpu_ms: u64,
    pub(super) lost_gpu_ms: u64,
    pub(super) interruptions: u64,
    preemptions: u64,
    promises: u64,
    late_promises: u64,
    passes_us: Vec<u64>,
}

/// Replays a trace. The clock is only read to say how long passes took.
pub fn replay(trace: &Trace, options: &Options, watch: &mut dyn Watch) -> Result<Replayed, ReplayError> {
    let shares = (1..).map(ShareId).take(trace.queues.len()).collect();
    replay_on(trace, options, config(trace, options), shares, watch)
}

/// Replays a trace on shares of its own: `shares` says whose each queue of the trace is.
pub(super) fn replay_on(
    trace: &Trace,
    options: &Options,
    config: Config,
    shares: Vec<ShareId>,
    watch: &mut dyn Watch,
) -> Result<Replayed, ReplayError> {
    let mut replay = Replay {
        trace,
        witness: Witness::new(&config),
        queue: Queue::new(config)?,
        shares,
        skus: skus(trace, &options.kinds)?,
        places: (0..trace.jobs.len()).map(|index| (id(index), index)).collect(),
        fates: vec![Fate::default(); trace.jobs.len()],
        events: BinaryHeap::new(),
        absences: Absences::new(&options.absences),
        course: Course { gpus: options.gpus(), moments: Vec::new() },
        digest: Sha256::new(),
        taken: 0,
        checkpoint_ms: options.policy.preemption.as_ref().map_or(0, |preemption| preemption.checkpoint_ms),
        refused: 0,
        single_wait_ms_max: 0,
        overhead_gpu_ms: 0,
        lost_gpu_ms: 0,
        interruptions: 0,
        preemptions: 0,
        promises: 0,
        late_promises: 0,
        passes_us: Vec::new(),
    };
    let (mut next, mut now_ms, mut ended) = (0, 0_u64, 0_u64);
    loop {
        let arrival = trace.jobs.get(next).map(|job| job.submit_ms);
        let event = replay.events.peek().map(|Reverse((at, ..))| *at);
        // Nodes that leave or return when all is over change nothing.
        let busy = arrival.is_some() || event.is_some() || replay.queue.waiting() > 0;
        let node = replay.absences.next_ms().filter(|_| busy);
        let Some(mut at_ms) = arrival.into_iter().chain(event).chain(node).min() else { break };
        if options.policy.preemption.is_some() && replay.queue.waiting() > 0 {
            at_ms = at_ms.min(now_ms + options.tick_ms.max(1));
        }
        now_ms = at_ms;
        ended += replay.happen(now_ms)?;
        replay.nodes_leave_and_return(now_ms)?;
        while trace.jobs.get(next).is_some_and(|job| job.submit_ms <= now_ms) {
            replay.submit(next, now_ms, options.limits)?;
            next += 1;
        }
        let before = watch.nanos();
        let decisions = replay.queue.pass(now_ms);
        replay.passes_us.push(watch.nanos().saturating_sub(before) / 1000);
        replay.carry_out(&decisions, now_ms, options);
        let (taken, away, waiting) = (replay.taken, replay.absences.gpus, replay.queue.waiting() as u64);
        replay.course.note(Moment { at_ms: now_ms, taken, away, waiting });
        watch.progress(ended + replay.refused as u64, trace.jobs.len() as u64);
    }
    let waits = trace.jobs.iter().zip(&replay.fates).map(|(job, fate)| Some(fate.end_ms? - job.submit_ms - job.run_ms));
    let waits_ms = waits.collect();
    let course = std::mem::take(&mut replay.course);
    Ok(Replayed { report: replay.report(options, &course), course, waits_ms })
}

/// Which kind of node every job takes.
fn skus(trace: &Trace, kinds: &[NodeKind]) -> Result<Vec<u16>, ReplayError> {
    let place = |wanted: Option<&String>| match (wanted, kinds) {
        (None, [_]) | (Some(_), [NodeKind { model: None, .. }]) => Some(0),
        _ => kinds.iter().position(|kind| kind.model.as_ref() == wanted),
    };
    let known = || kinds.iter().map(|kind| kind.model.as_deref().unwrap_or("(no name)")).collect::<Vec<_>>().join(", ");
    let of_job = |job: &TraceJob| {
        let wanted = job.model.and_then(|model| trace.models.get(usize::from(model)));
        let place = place(wanted).and_then(|place| u16::try_from(place).ok());
        place.ok_or_else(|| ReplayError::Model { line: job.line, known: known() })
    };
    trace.jobs.iter().map(of_job).collect()
}

/// Every queue of the trace is a share without a guarantee that borrows freely from what there is.
fn config(trace: &Trace, options: &Options) -> Config {
    let quota = |guarantee| Quota { guarantee, borrow_max: None, lend_max: None };
    let all = |kind: &NodeKind| quota(u32::try_from(kind.gpus()).unwrap_or(u32::MAX));
    let mut shares = vec![Share { parent: None, weight: 1, quotas: options.kinds.iter().map(all).collect() }];
    let borrows = Share { parent: Some(ShareId(0)), weight: 1, quotas: vec![quota(0); options.kinds.len()] };
    shares.extend(trace.queues.iter().map(|_| borrows.clone()));
    let sku = |kind: &NodeKind| Sku { nodes: kind.nodes, gpus_per_node: kind.gpus_per_node };
    Config { ground: Ground::Uniform(options.kinds.iter().map(sku).collect()), shares, policy: options.policy.clone() }
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
            sku: self.skus[index],
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

    /// What ends or is saved by now; says how many jobs ended.
    fn happen(&mut self, now_ms: u64) -> Result<u64, ReplayError> {
        let mut ended = 0;
        while let Some(Reverse((at_ms, event, index, run))) =
            self.events.peek().copied().filter(|next| next.0.0 <= now_ms)
        {
            self.events.pop();
            if self.fates[index].run != run {
                continue;
            }
            let refused = |refusal| ReplayError::Refused { job: index, at_ms, refusal };
            let fate = &mut self.fates[index];
            self.taken = self.taken.saturating_sub(u64::from(self.trace.jobs[index].gpus));
            match event {
                Event::End => {
                    fate.end_ms = Some(at_ms);
                    ended += 1;
                    let record = self.queue.finish(id(index), at_ms).map_err(refused)?;
                    self.witness.gives_back(record.ask.share, record.ask.sku, record.slots());
                }
                Event::Saved => {
                    fate.waiting_since_ms = at_ms;
                    if let Some(record) = self.queue.record(id(index)) {
                        self.witness.gives_back(record.ask.share, record.ask.sku, record.slots());
                    }
                    self.queue.stopped(id(index), fate.worked_ms, at_ms).map_err(refused)?;
                }
            }
        }
        Ok(ended)
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
                    self.witness.takes(self.shares[job.queue as usize], self.skus[index], slots, job.gpus);
                    self.taken += u64::from(job.gpus);
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
                    let checkpoint = self.checkpoint_ms;
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

    pub(super) fn note(&mut self, what: &[u8], index: usize, now_ms: u64) {
        self.digest.update(what);
        self.digest.update((index as u64).to_be_bytes());
        self.digest.update(now_ms.to_be_bytes());
    }

    fn report(self, options: &Options, course: &Course) -> Report {
        let ended = || {
            let both = self.trace.jobs.iter().zip(&self.fates);
            both.filter_map(|(job, fate)| fate.end_ms.map(|end| (job, fate, end - job.submit_ms)))
        };
        let makespan_ms = self.fates.iter().filter_map(|fate| fate.end_ms).max().unwrap_or(0);
        let work: u128 = ended().map(|(job, ..)| u128::from(job.run_ms) * u128::from(job.gpus)).sum();
        let room = (u128::from(course.gpus) * u128::from(makespan_ms)).saturating_sub(course.away_gpu_ms(makespan_ms));
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
            interruptions: self.interruptions,
            lost_gpu_s: self.lost_gpu_ms / 1000,
            promises: self.promises,
            late_promises: self.late_promises,
            overdue_after_s: options.policy.overdue_after_ms.map(|after| after / 1000),
            fairness: Fairness::of(&ended().map(|(job, _, jct)| (jct, job.run_ms)).collect::<Vec<_>>(), course.gpus),
            violations: self.witness.violations,
            passes: self.passes_us.len() as u64,
            decision_us: Spread::of(self.passes_us),
            digest: hex::encode(self.digest.finalize()),
        }
    }
}
