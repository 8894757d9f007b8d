//! The state of a queue and the events that move it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use super::{
    ground::{Ground, GroundError},
    history::{Class, History, Usage},
    job::{Ask, End, Record, Stage},
    lane::Lanes,
    movers::Movers,
    policy::Policy,
    pool::Slot,
    quota::{Quotas, Share, ShareError, ShareId},
    space::Space,
};
use crate::id::JobId;

/// What a queue is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// What jobs run on.
    pub ground: Ground,
    /// The quota tree, parents first.
    pub shares: Vec<Share>,
    /// How to decide.
    pub policy: Policy,
}

/// Why a configuration makes no queue.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// There is nothing to run on, or it contradicts itself.
    #[error(transparent)]
    Ground(#[from] GroundError),
    /// The shares make no tree.
    #[error(transparent)]
    Shares(#[from] ShareError),
    /// A snapshot says something that cannot be.
    #[error("the snapshot contradicts itself at job {seq}: {what}")]
    Snapshot {
        /// The job's place in the order of submission.
        seq: u64,
        /// What cannot be.
        what: &'static str,
    },
}

/// What a pass decides. It is in force at once; the driver carries it out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "decision", rename_all = "snake_case")]
pub enum Decision {
    /// The job starts now.
    Start {
        /// Which job.
        job: JobId,
        /// Where.
        slots: Vec<Slot>,
    },
    /// The job saves its work and stops; the driver says `stopped` when it has.
    Stop {
        /// Which job.
        job: JobId,
        /// For whom.
        for_job: JobId,
    },
    /// The job starts no later than this.
    Promise {
        /// Which job.
        job: JobId,
        /// When, in milliseconds.
        at_ms: u64,
    },
}

/// Why a job is not taken. An answer, not a fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// A job of this id waits or runs.
    #[error("a job of this id waits or runs already")]
    Duplicate,
    /// There is no such share, kind or shape.
    #[error("there is no such share or kind of accelerator")]
    Unknown,
    /// It asks for nothing.
    #[error("asks for no accelerator: ask for at least 1")]
    Nothing,
    /// The machines would not do, with nothing else running.
    #[error("asks for {asked} accelerators, and there are {most} in all: ask for less, or for another kind")]
    TooBig {
        /// How many it asks for.
        asked: u32,
        /// How many there are.
        most: u64,
    },
    /// The quota would not do, with nothing else running.
    #[error(
        "asks for {asked} accelerators, and its quota allows {most} at most, borrowed ones included: ask for less, or for a larger quota"
    )]
    OverQuota {
        /// How many it asks for.
        asked: u32,
        /// How many it may ever use.
        most: u64,
    },
    /// There is no such job.
    #[error("no such job waits or runs")]
    NoSuchJob,
    /// The job does not stand where this could happen to it.
    #[error("the job does not stand where this can happen to it")]
    Stage,
}

/// Everything a queue is, to write down and to build it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// What it is made of.
    pub config: Config,
    /// The latest time it has seen.
    pub now_ms: u64,
    /// The place the next job gets.
    pub next_seq: u64,
    /// All that wait or run, by place.
    pub records: Vec<Record>,
    /// The last runs by class, in milliseconds.
    pub history: Vec<(Class, Vec<u64>)>,
    /// What families have used, by kind.
    pub usage: Vec<(ShareId, u16, Usage)>,
    /// Who holds a promise, by kind; on mixed ground by site.
    pub holders: Vec<Option<u64>>,
}

/// What concerns one pool, or the mixed ground.
#[derive(Debug, Clone)]
pub(super) struct Kind {
    pub(super) space: Space,
    pub(super) lanes: Lanes,
    /// Running jobs by when they end at the latest.
    pub(super) ends: BTreeSet<(u64, u64)>,
    /// Running jobs that will end, nobody knows when.
    pub(super) blind: BTreeSet<u64>,
    /// Running jobs by node.
    pub(super) on_node: Vec<Vec<u64>>,
    pub(super) stopping: BTreeSet<u64>,
    pub(super) movers: Movers,
    /// The waiting jobs that were promised a start: one a pool, one a site.
    pub(super) holders: Vec<Option<u64>>,
}

/// The queue.
#[derive(Debug, Clone)]
pub struct Queue {
    pub(super) config: Config,
    pub(super) now_ms: u64,
    pub(super) next_seq: u64,
    pub(super) records: BTreeMap<u64, Record>,
    /// Looked up, never walked: its order is nobody's.
    pub(super) seqs: HashMap<JobId, u64>,
    pub(super) kinds: Vec<Kind>,
    pub(super) quotas: Quotas,
    pub(super) history: History,
    pub(super) usage: BTreeMap<(ShareId, u16), Usage>,
}

impl Queue {
    /// An empty queue.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        config.ground.checked()?;
        let kinds = match &config.ground {
            Ground::Uniform(skus) => skus.iter().map(|sku| Kind::new(Space::pool(*sku), 1)).collect(),
            Ground::Mixed(mixed) => vec![Kind::new(Space::field(mixed), usize::from(mixed.sites))],
        };
        Ok(Self {
            kinds,
            quotas: Quotas::new(&config.shares, config.ground.skus())?,
            config,
            now_ms: 0,
            next_seq: 0,
            records: BTreeMap::new(),
            seqs: HashMap::new(),
            history: History::default(),
            usage: BTreeMap::new(),
        })
    }

    /// The queue a snapshot was taken of. A snapshot that contradicts itself is refused.
    pub fn of_snapshot(snapshot: Snapshot) -> Result<Self, ConfigError> {
        let mut queue = Self::new(snapshot.config)?;
        queue.now_ms = snapshot.now_ms;
        queue.next_seq = snapshot.next_seq;
        queue.history = History::of_records(snapshot.history);
        queue.usage = snapshot.usage.into_iter().map(|(share, sku, usage)| ((share, sku), usage)).collect();
        for record in snapshot.records {
            let seq = record.seq;
            queue.put_back(record).map_err(|what| ConfigError::Snapshot { seq, what })?;
        }
        let places: Vec<(usize, usize)> = queue.kinds.iter().enumerate().flat_map(Kind::places).collect();
        for (place, holder) in places.into_iter().zip(snapshot.holders) {
            let Some(seq) = holder else { continue };
            let what = "a promise to a job that does not wait there";
            queue.hold(place, seq).ok_or(ConfigError::Snapshot { seq, what })?;
        }
        Ok(queue)
    }

    /// Notes who holds the promise of a place.
    fn hold(&mut self, (field, place): (usize, usize), seq: u64) -> Option<()> {
        let record = self.records.get(&seq).filter(|record| matches!(record.stage, Stage::Waiting { .. }))?;
        let kind = self.kinds.get_mut(field).filter(|_| self.config.ground.field(&record.ask) == field)?;
        if !kind.space.places(&record.ask).contains(&place) || kind.holders.contains(&Some(seq)) {
            return None;
        }
        *kind.holders.get_mut(place)? = Some(seq);
        Some(())
    }

    fn put_back(&mut self, record: Record) -> Result<(), &'static str> {
        let (seq, ask) = (record.seq, record.ask);
        let fits = self.fits_ever(&ask);
        // A live ground and its quotas shrink while jobs wait and run.
        let mixed = matches!(self.config.ground, Ground::Mixed(_));
        let shrunk = mixed && matches!(fits, Err(Refusal::TooBig { .. } | Refusal::OverQuota { .. }));
        if fits.is_err() && !shrunk {
            return Err("asks for what is not there");
        }
        if seq >= self.next_seq || self.records.contains_key(&seq) || self.seqs.insert(ask.job, seq).is_some() {
            return Err("its id or its place is taken");
        }
        let (field, sku) = (self.config.ground.field(&ask), usize::from(ask.sku));
        let slots = record.slots();
        if slots.is_empty() {
            self.kinds[field].lanes.insert(&record, &self.config.policy);
        } else {
            let held: u64 = slots.iter().map(|slot| u64::from(slot.gpus)).sum();
            if held != u64::from(ask.gpus) || !self.kinds[field].space.put_back(slots, &ask) {
                return Err("holds what is not free");
            }
            if mixed {
                self.quotas.take_anyway(ask.share, sku, ask.gpus);
            } else if !self.quotas.take(ask.share, sku, ask.gpus) {
                return Err("runs beyond its quota");
            }
            self.kinds[field].settle_in(&record, &self.config.policy);
        }
        self.records.insert(seq, record);
        Ok(())
    }

    /// Writes down everything the queue is.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            config: self.config.clone(),
            now_ms: self.now_ms,
            next_seq: self.next_seq,
            records: self.records.values().cloned().collect(),
            history: self.history.records(),
            usage: self.usage.iter().map(|((share, sku), usage)| (*share, *sku, *usage)).collect(),
            holders: self.kinds.iter().flat_map(|kind| kind.holders.iter().copied()).collect(),
        }
    }

    /// A job comes in. What could never start is refused at once.
    pub fn submit(&mut self, ask: Ask, now_ms: u64) -> Result<(), Refusal> {
        self.tick(now_ms);
        if self.seqs.contains_key(&ask.job) {
            return Err(Refusal::Duplicate);
        }
        self.fits_ever(&ask)?;
        let seq = self.next_seq;
        self.next_seq += 1;
        let stage = Stage::Waiting { since_ms: self.now_ms };
        let record = Record {
            ask,
            seq,
            submitted_ms: self.now_ms,
            worked_ms: 0,
            stops: 0,
            promised_ms: None,
            end: End::Limit,
            stage,
        };
        self.kinds[self.config.ground.field(&ask)].lanes.insert(&record, &self.config.policy);
        self.seqs.insert(ask.job, seq);
        self.records.insert(seq, record);
        Ok(())
    }

    /// A running job has ended by itself. Returns what it was.
    pub fn finish(&mut self, job: JobId, now_ms: u64) -> Result<Record, Refusal> {
        self.tick(now_ms);
        let record = self.leave(job, |stage| !matches!(stage, Stage::Waiting { .. }))?;
        let run_ms = record.worked_ms_at(self.now_ms, &self.config.policy);
        self.history.ran(record.class(), run_ms, self.config.policy.history_runs);
        Ok(record)
    }

    /// A job is gone, waiting or running, and teaches nothing. Returns what it was.
    pub fn cancel(&mut self, job: JobId, now_ms: u64) -> Result<Record, Refusal> {
        self.tick(now_ms);
        self.leave(job, |_| true)
    }

    /// A job that was told to stop has stopped, with so much work saved in all; it waits again.
    pub fn stopped(&mut self, job: JobId, worked_ms: u64, now_ms: u64) -> Result<(), Refusal> {
        self.tick(now_ms);
        let mut record = self.leave(job, |stage| matches!(stage, Stage::Stopping { .. }))?;
        record.worked_ms = worked_ms;
        record.stops = record.stops.saturating_add(1);
        record.promised_ms = None;
        record.stage = Stage::Waiting { since_ms: self.now_ms };
        record.end = End::Limit;
        self.kinds[self.config.ground.field(&record.ask)].lanes.insert(&record, &self.config.policy);
        self.seqs.insert(job, record.seq);
        self.records.insert(record.seq, record);
        Ok(())
    }

    /// What is known of a job.
    pub fn record(&self, job: JobId) -> Option<&Record> {
        self.records.get(self.seqs.get(&job)?)
    }

    /// How many jobs wait.
    pub fn waiting(&self) -> usize {
        self.kinds.iter().map(|kind| kind.lanes.len()).sum()
    }

    /// The policy it decides by.
    pub fn policy(&self) -> &Policy {
        &self.config.policy
    }

    /// What a share uses and what it owns of one kind; a share or kind that is not there has neither.
    pub fn used_owned(&self, share: ShareId, sku: u16) -> (u64, u64) {
        let known = self.quotas.has(share) && usize::from(sku) < self.config.ground.skus();
        if known { self.quotas.used_owned(share, usize::from(sku)) } else { (0, 0) }
    }

    /// Accelerators of one pool that are free, and all; of mixed ground, none.
    pub fn gpus_free_total(&self, sku: u16) -> (u64, u64) {
        match self.kinds.get(usize::from(sku)).map(|kind| &kind.space) {
            Some(Space::Pool(pool)) => (pool.gpus_free(), pool.gpus_total()),
            _ => (0, 0),
        }
    }

    /// Time never goes back in here: an earlier clock counts as the latest one seen.
    pub(super) fn tick(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
    }

    fn fits_ever(&self, ask: &Ask) -> Result<(), Refusal> {
        let kind = self.kinds.get(self.config.ground.field(ask)).ok_or(Refusal::Unknown)?;
        if !self.quotas.has(ask.share) {
            return Err(Refusal::Unknown);
        }
        if ask.gpus == 0 {
            return Err(Refusal::Nothing);
        }
        let too_big = match &kind.space {
            Space::Pool(pool) => Some(pool.gpus_total()).filter(|most| u64::from(ask.gpus) > *most),
            Space::Field(field) if !field.has(ask) => return Err(Refusal::Unknown),
            Space::Field(field) => {
                let shape = field.shape(ask.shape);
                (!field.could_anywhere(shape)).then(|| field.units_total(ask.sku))
            }
        };
        if let Some(most) = too_big {
            return Err(Refusal::TooBig { asked: ask.gpus, most });
        }
        let most = self.quotas.ceiling(ask.share, usize::from(ask.sku));
        if u64::from(ask.gpus) > most { Err(Refusal::OverQuota { asked: ask.gpus, most }) } else { Ok(()) }
    }

    /// Takes a job out with all it holds.
    fn leave(&mut self, job: JobId, may: impl Fn(&Stage) -> bool) -> Result<Record, Refusal> {
        let seq = *self.seqs.get(&job).ok_or(Refusal::NoSuchJob)?;
        let record = self.records.get(&seq).ok_or(Refusal::NoSuchJob)?;
        if !may(&record.stage) {
            return Err(Refusal::Stage);
        }
        let record = self.records.remove(&seq).ok_or(Refusal::NoSuchJob)?;
        self.seqs.remove(&job);
        let (ask, sku) = (record.ask, usize::from(record.ask.sku));
        let kind = &mut self.kinds[self.config.ground.field(&ask)];
        if record.slots().is_empty() {
            kind.lanes.remove(&record, &self.config.policy);
            kind.let_go(seq);
        } else {
            kind.move_out(&record, &self.config.policy);
            kind.space.give_back(record.slots(), &ask);
            self.quotas.give_back(ask.share, sku, ask.gpus);
            self.count_usage(&ask, |gpus| gpus.saturating_sub(u64::from(ask.gpus)));
        }
        Ok(record)
    }

    pub(super) fn count_usage(&mut self, ask: &Ask, change: impl FnOnce(u64) -> u64) {
        let usage = self.usage.entry((self.quotas.family(ask.share), ask.sku)).or_default();
        *usage = usage.at(self.now_ms, self.config.policy.usage_half_life_ms);
        usage.gpus = change(usage.gpus);
    }
}

impl Kind {
    fn new(space: Space, places: usize) -> Self {
        Self {
            lanes: Lanes::default(),
            ends: BTreeSet::new(),
            blind: BTreeSet::new(),
            on_node: vec![Vec::new(); space.nodes()],
            stopping: BTreeSet::new(),
            movers: Movers::new(space.nodes()),
            holders: vec![None; places],
            space,
        }
    }

    /// Where promises are kept, as field and place.
    fn places((field, kind): (usize, &Self)) -> impl Iterator<Item = (usize, usize)> {
        (0..kind.holders.len()).map(move |place| (field, place))
    }

    /// Nothing is kept for this job any more. True: something was.
    pub(super) fn let_go(&mut self, seq: u64) -> bool {
        let kept = self.holders.iter_mut().find(|holder| **holder == Some(seq));
        kept.and_then(Option::take).is_some()
    }

    /// Whether a start is promised to this job.
    pub(super) fn holds(&self, seq: u64) -> bool {
        self.holders.contains(&Some(seq))
    }

    /// Notes a job that has accelerators.
    pub(super) fn settle_in(&mut self, record: &Record, policy: &Policy) {
        if let Some(ends_ms) = record.ends_ms_max(policy).filter(|_| self.space.ends_known(record)) {
            self.ends.insert((ends_ms, record.seq));
            self.movers.came(record, policy);
        } else if record.end != End::Never {
            self.blind.insert(record.seq);
        }
        self.space.settle_in(record, true);
        if matches!(record.stage, Stage::Stopping { .. }) {
            self.stopping.insert(record.seq);
        }
        for slot in record.slots() {
            let there = &mut self.on_node[slot.node as usize];
            // By place, so that a queue built from a snapshot looks at them in the same order.
            let at = there.partition_point(|seq| *seq < record.seq);
            // Several members of one job may share a node.
            if there.get(at) != Some(&record.seq) {
                there.insert(at, record.seq);
            }
        }
    }

    /// Forgets what `settle_in` noted.
    pub(super) fn move_out(&mut self, record: &Record, policy: &Policy) {
        if let Some(ends_ms) = record.ends_ms_max(policy) {
            self.ends.remove(&(ends_ms, record.seq));
        }
        self.blind.remove(&record.seq);
        self.space.settle_in(record, false);
        self.stopping.remove(&record.seq);
        self.movers.went(record);
        for slot in record.slots() {
            self.on_node[slot.node as usize].retain(|seq| *seq != record.seq);
        }
    }
}
