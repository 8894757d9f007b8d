//! The simulated engine with a stage on it: what the embedded trainer would write is written, what the embedded server
//! would answer is answered. When workloads begin, end and get lost stays the simulated engine's business.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use gregal_engine::{
    Capabilities, Engine, EngineError, Observation, Workload, WorkloadId,
    sim::{Sim, SimOptions, SystemClock},
};
use serde_json::json;

use crate::replica::{self, Counts};

/// What the next training does.
#[derive(Debug, Clone, Default)]
pub struct Play {
    /// Arguments for the simulated engine: how long it runs and how it ends.
    pub sim: Vec<&'static str>,
    /// Whether it says that it is ready.
    pub ready: bool,
    /// Whether it writes a model.
    pub model: bool,
    /// Whether the machine cannot start it at all.
    pub broken: bool,
}

/// The engine with its stage. Clones are doors to the same one, as a restarted site would open.
#[derive(Clone)]
pub struct Stage {
    /// The simulated engine below.
    pub sim: Sim,
    /// What replicas were asked and made.
    pub counts: Arc<Counts>,
    plays: Arc<Mutex<Vec<Play>>>,
    replicas: Arc<Mutex<BTreeMap<WorkloadId, tokio::task::JoinHandle<()>>>>,
    removed: Arc<Mutex<BTreeMap<WorkloadId, u64>>>,
    /// Every workload that was started, in order.
    pub started: Arc<Mutex<Vec<Workload>>>,
}

impl Default for Stage {
    fn default() -> Self {
        Self::new()
    }
}

impl Stage {
    /// A stage on which every training waits to be told what to play.
    pub fn new() -> Self {
        Self {
            sim: Sim::new(SimOptions { start_delay_ms: 1..=2, ..SimOptions::new(1, Arc::new(SystemClock)) }),
            counts: Arc::default(),
            plays: Arc::default(),
            replicas: Arc::default(),
            removed: Arc::default(),
            started: Arc::default(),
        }
    }

    /// What trainings do, one after another; the last one is repeated.
    pub fn play(&self, plays: Vec<Play>) {
        let mut waiting = self.plays.lock().unwrap();
        *waiting = plays;
        waiting.reverse();
    }

    fn next_play(&self) -> Play {
        let mut plays = self.plays.lock().unwrap();
        if plays.len() > 1 { plays.pop().unwrap() } else { plays.last().cloned().unwrap_or_default() }
    }

    /// How long each workload really ran, by its name, in milliseconds; also of those that were removed.
    pub async fn ran_ms(&self) -> BTreeMap<String, u64> {
        let mut ran = self.removed.lock().unwrap().clone();
        ran.extend(self.sim.list().await.unwrap().into_iter().map(|seen| (seen.id, seen.usage.wall_ms)));
        ran.into_iter().map(|(id, ms)| (id.to_string(), ms)).collect()
    }

    /// Kills the replica behind the engine's back.
    pub fn kill_replicas(&self) {
        for replica in std::mem::take(&mut *self.replicas.lock().unwrap()).into_values() {
            replica.abort();
        }
    }

    fn train(workload: &mut Workload, play: &Play) {
        let mut progress = fs::OpenOptions::new().create(true).append(true).open(&workload.stdout).unwrap();
        let mut log = fs::OpenOptions::new().create(true).append(true).open(&workload.stderr).unwrap();
        let checkpoint = source(workload, "/gregal/work").join("checkpoints/1");
        let how = if checkpoint.exists() { "from its checkpoint" } else { "from the beginning" };
        writeln!(log, "training of {} {how}", workload.id).unwrap();
        let mut say = |line: serde_json::Value| writeln!(progress, "{line}").unwrap();
        if play.ready {
            fs::write(&checkpoint, "weights").unwrap();
            say(
                json!({"gregal": "start", "parameters": 1000, "parameters_learned": 1000, "steps": 2, "tokens_per_epoch": 9, "data": {"examples": 1, "tokens": 9, "too_long": 0}}),
            );
            say(
                json!({"gregal": "step", "step": 1, "steps": 2, "loss": 1.5, "learning_rate": 0.1, "tokens": 50, "tokens_per_s": 10.0, "elapsed_s": 0.1, "fraction": 0.5}),
            );
        }
        if play.model {
            let work = source(workload, "/gregal/work");
            let model = work.join("model");
            fs::create_dir_all(&model).unwrap();
            fs::write(model.join("config.json"), "{\"max_position_embeddings\": 128}").unwrap();
            fs::write(model.join("model.safetensors"), vec![5u8; 100_000]).unwrap();
            say(json!({"gregal": "heldout", "asked": 4, "exact": 3}));
            say(
                json!({"gregal": "done", "steps": 2, "tokens": 100, "seconds": 1.0, "flop": 600_000, "loss": 0.5, "parameters": 1000, "model_dir": "/gregal/work/model", "model_digest": "sha256:"}),
            );
        }
        workload.argv.extend(play.sim.iter().map(|word| (*word).to_owned()));
    }
}

fn source(workload: &Workload, target: &str) -> PathBuf {
    workload.mounts.iter().find(|mount| mount.target == Path::new(target)).unwrap().source.clone()
}

#[async_trait]
impl Engine for Stage {
    async fn start(&self, mut workload: Workload) -> Result<(), EngineError> {
        if self.sim.observe(&workload.id).await.is_ok() {
            return Ok(());
        }
        let says = |word: &str| workload.argv.iter().any(|argument| argument == word);
        let (trains, serves) = (says("train"), says("serve"));
        let play = if trains { self.next_play() } else { Play::default() };
        if play.broken {
            return Err(EngineError::Io {
                doing: "starting a broken machine".into(),
                error: std::io::Error::other("broken"),
            });
        }
        self.started.lock().unwrap().push(workload.clone());
        if trains {
            Self::train(&mut workload, &play);
        } else if serves {
            let socket = source(&workload, "/gregal/socket").join("lm.sock");
            let replica = replica::serve(&socket, Arc::clone(&self.counts));
            self.replicas.lock().unwrap().insert(workload.id.clone(), replica);
            workload.argv.push("sim:endless".into());
        }
        self.sim.start(workload).await
    }

    async fn observe(&self, id: &WorkloadId) -> Result<Observation, EngineError> {
        self.sim.observe(id).await
    }

    async fn list(&self) -> Result<Vec<Observation>, EngineError> {
        self.sim.list().await
    }

    async fn stop(&self, id: &WorkloadId, grace_ms: u64) -> Result<(), EngineError> {
        self.sim.stop(id, grace_ms).await
    }

    async fn remove(&self, id: &WorkloadId) -> Result<(), EngineError> {
        if let Some(replica) = self.replicas.lock().unwrap().remove(id) {
            replica.abort();
        }
        if let Ok(seen) = self.sim.observe(id).await {
            self.removed.lock().unwrap().insert(id.clone(), seen.usage.wall_ms);
        }
        self.sim.remove(id).await
    }

    async fn capabilities(&self) -> Result<Capabilities, EngineError> {
        self.sim.capabilities().await
    }
}
