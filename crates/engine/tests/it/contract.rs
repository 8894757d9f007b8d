//! Every adapter keeps the contract.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use gregal_engine::contract::{self, Script, World};
use gregal_engine::local::{Local, LocalOptions};
use gregal_engine::sim::{Clock, ManualClock, Sim, SimOptions};
use gregal_engine::{Capabilities, Engine, EngineError, Observation, Protection, Trust, Workload, WorkloadId};
use tempfile::TempDir;

use crate::support::{HELPER, workload};

struct LocalWorld {
    dir: TempDir,
    without: BTreeSet<Protection>,
    local: Option<Local>,
}

impl LocalWorld {
    fn new(without: &[Protection]) -> Self {
        let mut world =
            Self { dir: tempfile::tempdir().unwrap(), without: without.iter().copied().collect(), local: None };
        world.open();
        world
    }

    fn open(&mut self) {
        // What the last engine's threads still hold is let go within moments.
        let deadline = Instant::now() + Duration::from_secs(10);
        self.local = loop {
            let mut options = LocalOptions::new(HELPER, self.dir.path().join("state"));
            options.without.clone_from(&self.without);
            match Local::open(options) {
                Ok(local) => break Some(local),
                Err(EngineError::Refused { .. }) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(error) => panic!("{error}"),
            }
        };
    }
}

#[async_trait]
impl World for LocalWorld {
    fn engine(&self) -> Arc<dyn Engine> {
        Arc::new(self.local.clone().unwrap())
    }

    fn workload(&self, id: &WorkloadId, script: Script) -> Workload {
        let script = match script {
            Script::Succeeds => "echo begun".to_owned(),
            Script::Exits(code) => format!("echo begun; exit {code}"),
            Script::Endless => "echo begun; sleep 1000".to_owned(),
            Script::Stubborn => "trap '' TERM; echo begun; while :; do sleep 0.05; done".to_owned(),
            Script::CannotBegin => String::new(),
        };
        let argv = ["/bin/sh", "-c", &script];
        let argv: &[&str] = if script.is_empty() { &["/no/such/program"] } else { &argv };
        let mut workload = workload(id.as_str(), argv, &self.dir.path().join(id.as_str()));
        // The contract holds on machines that can protect less as well.
        workload.trust = if self.without.is_empty() { Trust::Untrusted } else { Trust::Trusted };
        workload
    }

    async fn pass(&self, ms: u64) {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }

    async fn restart(&mut self) {
        self.local = None;
        self.open();
    }

    async fn begun(&self, id: &WorkloadId) -> Option<usize> {
        let log = std::fs::read_to_string(self.dir.path().join(id.as_str())).unwrap_or_default();
        Some(log.lines().filter(|line| *line == "begun").count())
    }
}

struct SimWorld {
    clock: Arc<ManualClock>,
    sim: Arc<dyn Engine>,
    again: Sim,
}

impl SimWorld {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::at(1_700_000_000_000));
        let again = Sim::new(SimOptions::new(42, Arc::clone(&clock) as Arc<dyn Clock>));
        Self { clock, sim: Arc::new(again.clone()), again }
    }
}

#[async_trait]
impl World for SimWorld {
    fn engine(&self) -> Arc<dyn Engine> {
        Arc::clone(&self.sim)
    }

    fn workload(&self, id: &WorkloadId, script: Script) -> Workload {
        let exit = |code| vec!["sim:run_ms=30".to_owned(), format!("sim:exit={code}")];
        let argv = match script {
            Script::Succeeds => exit(0),
            Script::Exits(code) => exit(code),
            Script::Endless => vec!["sim:endless".to_owned()],
            Script::Stubborn => vec!["sim:endless".to_owned(), "sim:stubborn".to_owned()],
            Script::CannotBegin => vec!["sim:cannot-begin".to_owned()],
        };
        let argv: Vec<&str> = std::iter::once("train").chain(argv.iter().map(String::as_str)).collect();
        workload(id.as_str(), &argv, "/tmp/sim.log".as_ref())
    }

    async fn pass(&self, ms: u64) {
        self.clock.advance(ms);
    }

    async fn restart(&mut self) {
        self.sim = Arc::new(self.again.clone());
    }

    async fn begun(&self, _id: &WorkloadId) -> Option<usize> {
        None
    }
}

#[tokio::test]
async fn sim_keeps_the_contract() {
    let held = contract::check(|| async { Box::new(SimWorld::new()) as Box<dyn World> }).await.unwrap();
    assert!(held.len() >= 16, "{held:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn local_keeps_the_contract_with_all_that_this_machine_protects() {
    contract::check(|| async { Box::new(LocalWorld::new(&[])) as Box<dyn World> }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn local_keeps_the_contract_with_rlimits_only() {
    contract::check(|| async { Box::new(LocalWorld::new(&[Protection::Limits])) as Box<dyn World> }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn local_keeps_the_contract_for_trusted_work_on_a_machine_without_namespaces() {
    let less = [Protection::Processes, Protection::Limits];
    contract::check(|| async { Box::new(LocalWorld::new(&less)) as Box<dyn World> }).await.unwrap();
}

/// An engine with a fault in it: the kit must see each.
struct Faulty {
    sim: Sim,
    fault: Fault,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Forgets,
    AcceptsConflicts,
    TellsNotFoundAsUnavailable,
    IgnoresStops,
}

#[async_trait]
impl Engine for Faulty {
    async fn start(&self, workload: Workload) -> Result<(), EngineError> {
        match self.sim.start(workload).await {
            Err(EngineError::Conflict(_)) if self.fault == Fault::AcceptsConflicts => Ok(()),
            other => other,
        }
    }

    async fn observe(&self, id: &WorkloadId) -> Result<Observation, EngineError> {
        match self.sim.observe(id).await {
            Err(EngineError::NotFound(_)) if self.fault == Fault::TellsNotFoundAsUnavailable => {
                Err(EngineError::Unavailable("?".to_owned()))
            }
            other => other,
        }
    }

    async fn list(&self) -> Result<Vec<Observation>, EngineError> {
        let mut all = self.sim.list().await?;
        if self.fault == Fault::Forgets {
            all.pop();
        }
        Ok(all)
    }

    async fn stop(&self, id: &WorkloadId, grace_ms: u64) -> Result<(), EngineError> {
        if self.fault == Fault::IgnoresStops { Ok(()) } else { self.sim.stop(id, grace_ms).await }
    }

    async fn remove(&self, id: &WorkloadId) -> Result<(), EngineError> {
        self.sim.remove(id).await
    }

    async fn capabilities(&self) -> Result<Capabilities, EngineError> {
        self.sim.capabilities().await
    }
}

#[tokio::test]
async fn the_kit_sees_an_engine_that_breaks_the_contract() {
    for fault in [Fault::Forgets, Fault::AcceptsConflicts, Fault::TellsNotFoundAsUnavailable, Fault::IgnoresStops] {
        let make = || async move {
            let mut world = SimWorld::new();
            world.sim = Arc::new(Faulty { sim: world.again.clone(), fault });
            Box::new(world) as Box<dyn World>
        };
        assert!(contract::check(make).await.is_err(), "{fault:?} went unseen");
    }
}
