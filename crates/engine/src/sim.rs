//! The adapter without processes: workloads that begin, run, fail and get lost by a seed and a clock.
//!
//! For tests of everything above an engine, and for planning. The same seed, ids and clock give the same history. What
//! a workload does can be said in its arguments: `sim:run_ms=500`, `sim:exit=3`, `sim:endless`, `sim:stubborn` (waits
//! the grace out), `sim:cannot-begin`, `sim:lost`, `sim:start_ms=10`.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use sha2::{Digest, Sha256};

use crate::local::record::now_ms;
use crate::{
    Availability, Capabilities, Capacity, CpuPower, Energy, Engine, EngineError, Exit, LimitsBy, Observation,
    Protection, Reason, State, Usage, Workload, WorkloadId,
};

/// Where a simulated engine takes the time from.
pub trait Clock: Send + Sync {
    /// The time in Unix milliseconds. Never runs backwards.
    fn now_ms(&self) -> u64;
}

/// The machine's own clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        now_ms()
    }
}

/// A clock that stands still until it is told to go on.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// A clock that shows this time, in Unix milliseconds.
    pub fn at(now_ms: u64) -> Self {
        Self(AtomicU64::new(now_ms))
    }

    /// Lets so many milliseconds pass.
    pub fn advance(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// What a simulated engine is built from.
#[derive(Clone)]
pub struct SimOptions {
    /// The same seed gives the same history.
    pub seed: u64,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// From accepted to begun, in milliseconds.
    pub start_delay_ms: RangeInclusive<u64>,
    /// From begun to ended, in milliseconds.
    pub run_ms: RangeInclusive<u64>,
    /// Of a thousand workloads, how many fail.
    pub fail_per_mille: u64,
    /// Of a thousand workloads, how many get lost.
    pub lose_per_mille: u64,
    /// What there is in all.
    pub capacity: Capacity,
}

impl SimOptions {
    /// Starts within 50 ms, runs one to two seconds, never fails; 64 cores and 256 GiB.
    pub fn new(seed: u64, clock: Arc<dyn Clock>) -> Self {
        Self {
            seed,
            clock,
            start_delay_ms: 5..=50,
            run_ms: 1000..=2000,
            fail_per_mille: 0,
            lose_per_mille: 0,
            capacity: Capacity { cpus_milli: 64_000, memory_bytes: 256 << 30, gpus: Vec::new() },
        }
    }
}

/// A simulated engine. Clones are other doors to the same simulated machines, as a restarted process would open.
#[derive(Clone)]
pub struct Sim(Arc<World>);

struct World {
    options: SimOptions,
    entries: Mutex<BTreeMap<WorkloadId, Entry>>,
    unreachable: AtomicBool,
}

struct Entry {
    workload: Workload,
    plan: Plan,
    accepted_ms: u64,
    stop: Option<Stop>,
}

#[derive(Clone, Copy)]
struct Stop {
    asked_ms: u64,
    kill_ms: u64,
}

/// What a workload would do if it were left alone.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Plan {
    start_delay_ms: u64,
    /// None: it never ends by itself.
    run_ms: Option<u64>,
    end: End,
    stubborn: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Code(i32),
    CannotBegin,
    Lost,
}

impl Sim {
    /// An empty simulated machine.
    pub fn new(options: SimOptions) -> Self {
        Self(Arc::new(World { options, entries: Mutex::default(), unreachable: AtomicBool::new(false) }))
    }

    /// From now on the engine cannot be asked (or can again). What runs goes on running.
    pub fn set_unreachable(&self, unreachable: bool) {
        self.0.unreachable.store(unreachable, Ordering::SeqCst);
    }

    fn entries(&self) -> Result<MutexGuard<'_, BTreeMap<WorkloadId, Entry>>, EngineError> {
        if self.0.unreachable.load(Ordering::SeqCst) {
            return Err(EngineError::Unavailable("the simulated machine is out of reach".to_owned()));
        }
        Ok(self.0.entries.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn now_ms(&self) -> u64 {
        self.0.options.clock.now_ms()
    }
}

#[async_trait]
impl Engine for Sim {
    async fn start(&self, workload: Workload) -> Result<(), EngineError> {
        workload.validate()?;
        let mut entries = self.entries()?;
        if let Some(known) = entries.get(&workload.id) {
            return if known.workload == workload { Ok(()) } else { Err(EngineError::Conflict(workload.id)) };
        }
        capabilities(&self.0.options).admit(&workload, false)?;
        let now = self.now_ms();
        for wanted in &workload.resources.gpus {
            let held = |e: &Entry| e.workload.resources.gpus.contains(wanted) && e.observe(now).exit().is_none();
            let why = if !self.0.options.capacity.gpus.contains(wanted) {
                "it is not on this machine".to_owned()
            } else if let Some((id, _)) = entries.iter().find(|(_, e)| held(e)) {
                format!("it is held by `{id}`")
            } else {
                continue;
            };
            return Err(EngineError::Refused {
                why: format!("GPU `{wanted}`: {why}"),
                hint: "ask for another".to_owned(),
            });
        }
        let entry = Entry { plan: plan(&self.0.options, &workload), accepted_ms: now, stop: None, workload };
        entries.insert(entry.workload.id.clone(), entry);
        Ok(())
    }

    async fn observe(&self, id: &WorkloadId) -> Result<Observation, EngineError> {
        let entries = self.entries()?;
        let entry = entries.get(id).ok_or_else(|| EngineError::NotFound(id.clone()))?;
        Ok(entry.observe(self.now_ms()))
    }

    async fn list(&self) -> Result<Vec<Observation>, EngineError> {
        let now = self.now_ms();
        Ok(self.entries()?.values().map(|entry| entry.observe(now)).collect())
    }

    async fn stop(&self, id: &WorkloadId, grace_ms: u64) -> Result<(), EngineError> {
        let now = self.now_ms();
        let mut entries = self.entries()?;
        let entry = entries.get_mut(id).ok_or_else(|| EngineError::NotFound(id.clone()))?;
        if entry.observe(now).exit().is_none() {
            let kill_ms = now.saturating_add(grace_ms);
            entry.stop = Some(match entry.stop {
                None => Stop { asked_ms: now, kill_ms },
                Some(stop) => Stop { kill_ms: stop.kill_ms.min(kill_ms), ..stop },
            });
        }
        Ok(())
    }

    async fn remove(&self, id: &WorkloadId) -> Result<(), EngineError> {
        self.entries()?.remove(id);
        Ok(())
    }

    async fn capabilities(&self) -> Result<Capabilities, EngineError> {
        drop(self.entries()?);
        Ok(capabilities(&self.0.options))
    }
}

fn capabilities(options: &SimOptions) -> Capabilities {
    Capabilities {
        engine: "sim".to_owned(),
        // Nothing really runs, so nothing can break out.
        protections: Protection::ALL.into_iter().map(|p| (p, Availability::Available)).collect(),
        limits_by: LimitsBy::Simulated,
        capacity: options.capacity.clone(),
    }
}

impl Entry {
    /// Where it stands at a time: decided from facts alone, so the past never changes.
    fn observe(&self, now: u64) -> Observation {
        let begins = self.accepted_ms.saturating_add(self.plan.start_delay_ms);
        let exit = self.exit(begins).filter(|exit| exit.at_ms <= now);
        let began = match &exit {
            Some(exit) => exit.began_ms,
            None => (begins <= now).then_some(begins),
        };
        let until = exit.as_ref().map_or(now, |exit| exit.at_ms);
        let wall_ms = began.map_or(0, |began| until.saturating_sub(began));
        let cpu_ms = wall_ms.saturating_mul(self.workload.resources.cpus_milli) / 1000;
        let usage = Usage {
            cpu_ms,
            wall_ms,
            memory_peak_bytes: if wall_ms > 0 { self.workload.resources.memory_bytes / 2 } else { 0 },
            energy: Energy { parts: vec![CpuPower::default().estimate(cpu_ms)] },
        };
        let state = match (exit, began) {
            (Some(exit), _) => State::Exited(exit),
            (None, Some(since_ms)) => State::Running { since_ms },
            (None, None) => State::Starting,
        };
        Observation { id: self.workload.id.clone(), state, usage }
    }

    /// How and when it ends, if nothing else is asked: whatever comes first.
    fn exit(&self, begins: u64) -> Option<Exit> {
        let patience = |grace: u64| if self.plan.stubborn { grace } else { 0 };
        let signal = if self.plan.stubborn { 9 } else { 15 };
        let ended = |reason, code, signal, message: Option<&str>, began: bool, at_ms| Exit {
            reason,
            code,
            signal,
            message: message.map(str::to_owned),
            began_ms: began.then_some(begins),
            at_ms,
        };
        let own = match self.plan.end {
            End::CannotBegin => Some(ended(Reason::Failed, None, None, Some("program: cannot begin"), false, begins)),
            end => self.plan.run_ms.map(|run| begins.saturating_add(run)).map(|at| match end {
                End::Code(0) => ended(Reason::Finished, Some(0), None, None, true, at),
                End::Code(code) => ended(Reason::Failed, Some(code), None, None, true, at),
                End::Lost | End::CannotBegin => ended(Reason::Lost, None, None, Some("the machine is gone"), true, at),
            }),
        };
        let late = self.workload.time_limit_ms.map(|limit| {
            let at = begins.saturating_add(limit).saturating_add(patience(self.workload.grace_ms));
            ended(Reason::TimedOut, None, Some(signal), None, true, at)
        });
        let stopped = self.stop.map(|stop| {
            let at = if self.plan.stubborn { stop.kill_ms } else { stop.asked_ms };
            ended(Reason::Stopped, None, Some(signal), None, begins <= at, at)
        });
        // `min_by_key` keeps the first of equals: what it did itself.
        [own, late, stopped].into_iter().flatten().min_by_key(|exit| exit.at_ms)
    }
}

/// What a workload will do: drawn from the seed and its id, unless its arguments say.
fn plan(options: &SimOptions, workload: &Workload) -> Plan {
    let mut draws = Draws::new(options.seed, &workload.id);
    let mut plan = Plan {
        start_delay_ms: draws.within(&options.start_delay_ms),
        run_ms: Some(draws.within(&options.run_ms)),
        end: match draws.within(&(0..=999)) {
            n if n < options.lose_per_mille => End::Lost,
            n if n < options.lose_per_mille.saturating_add(options.fail_per_mille) => End::Code(1),
            _ => End::Code(0),
        },
        stubborn: false,
    };
    for word in workload.argv.iter().filter_map(|arg| arg.strip_prefix("sim:")) {
        match word.split_once('=').unwrap_or((word, "")) {
            ("start_ms", ms) => plan.start_delay_ms = ms.parse().unwrap_or(plan.start_delay_ms),
            ("run_ms", ms) => plan.run_ms = ms.parse().ok().or(plan.run_ms),
            ("exit", code) => plan.end = code.parse().map_or(plan.end, End::Code),
            ("endless", _) => plan.run_ms = None,
            ("stubborn", _) => plan.stubborn = true,
            ("cannot-begin", _) => plan.end = End::CannotBegin,
            ("lost", _) => plan.end = End::Lost,
            // Words of a newer simulation mean nothing here.
            _ => {}
        }
    }
    plan
}

/// Numbers that depend on seed and id alone, whatever the order of starts.
struct Draws {
    bytes: [u8; 32],
    at: usize,
}

impl Draws {
    fn new(seed: u64, id: &WorkloadId) -> Self {
        let digest = Sha256::new().chain_update(seed.to_le_bytes()).chain_update(id.as_str()).finalize();
        Self { bytes: digest.into(), at: 0 }
    }

    fn within(&mut self, range: &RangeInclusive<u64>) -> u64 {
        let word = self.bytes[self.at..self.at + 8].iter().fold(0_u64, |n, b| n << 8 | u64::from(*b));
        self.at = (self.at + 8) % 32;
        let span = range.end().saturating_sub(*range.start()).saturating_add(1);
        range.start().saturating_add(word % span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(id: &str, words: &[&str]) -> Workload {
        let argv = std::iter::once("train").chain(words.iter().copied());
        Workload::new(WorkloadId::new(id).unwrap(), argv, "/tmp/log")
    }

    fn sim(seed: u64) -> (Arc<ManualClock>, Sim) {
        let clock = Arc::new(ManualClock::at(1_000_000));
        (
            Arc::clone(&clock),
            Sim::new(SimOptions { fail_per_mille: 300, lose_per_mille: 100, ..SimOptions::new(seed, clock) }),
        )
    }

    async fn history(seed: u64, order: impl Iterator<Item = u32>) -> Vec<Observation> {
        let (clock, sim) = sim(seed);
        for n in order {
            sim.start(workload(&format!("job_{n}.1"), &[])).await.unwrap();
        }
        clock.advance(10_000);
        sim.list().await.unwrap()
    }

    #[tokio::test]
    async fn the_same_seed_gives_the_same_history_in_any_order_and_another_seed_another() {
        let first = history(7, 0..200).await;
        assert_eq!(first, history(7, (0..200).rev()).await);
        assert_ne!(first, history(8, 0..200).await);
        let count = |reason| first.iter().filter(|o| o.exit().unwrap().reason == reason).count();
        assert!((30..90).contains(&count(Reason::Failed)), "{}", count(Reason::Failed));
        assert!((5..45).contains(&count(Reason::Lost)), "{}", count(Reason::Lost));
    }

    #[tokio::test]
    async fn a_workload_that_was_stopped_before_it_began_never_began_and_used_nothing() {
        let (clock, sim) = sim(1);
        let w = workload("job_x.1", &["sim:start_ms=1000", "sim:endless"]);
        sim.start(w.clone()).await.unwrap();
        clock.advance(10);
        sim.stop(&w.id, 0).await.unwrap();
        clock.advance(5000);
        let seen = sim.observe(&w.id).await.unwrap();
        let exit = seen.exit().unwrap();
        assert_eq!((exit.reason, exit.began_ms, exit.at_ms), (Reason::Stopped, None, 1_000_010));
        assert_eq!((seen.usage.wall_ms, seen.usage.cpu_ms), (0, 0));
    }

    #[tokio::test]
    async fn what_cannot_be_asked_says_so_and_goes_on_running() {
        let (clock, sim) = sim(1);
        let w = workload("job_x.1", &["sim:run_ms=100", "sim:exit=0"]);
        sim.start(w.clone()).await.unwrap();
        sim.set_unreachable(true);
        clock.advance(1000);
        assert!(matches!(sim.observe(&w.id).await, Err(EngineError::Unavailable(_))));
        sim.set_unreachable(false);
        assert_eq!(sim.observe(&w.id).await.unwrap().exit().unwrap().reason, Reason::Finished);
    }

    #[tokio::test]
    async fn a_gpu_is_held_by_one_workload_at_a_time() {
        let clock = Arc::new(ManualClock::at(0));
        let mut options = SimOptions::new(1, Arc::clone(&clock) as Arc<dyn Clock>);
        options.capacity.gpus = vec!["GPU-a".to_owned()];
        let sim = Sim::new(options);
        let mut first = workload("job_a.1", &["sim:run_ms=100", "sim:exit=0"]);
        first.resources.gpus = vec!["GPU-a".to_owned()];
        let second = Workload { id: WorkloadId::new("job_b.1").unwrap(), ..first.clone() };
        sim.start(first).await.unwrap();
        assert!(sim.start(second.clone()).await.unwrap_err().to_string().contains("held by `job_a.1`"));
        clock.advance(1000);
        sim.start(second).await.unwrap();
    }
}
