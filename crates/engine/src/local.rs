//! The adapter for one machine: each workload in a sandbox of its own, no daemon, no container image.
//!
//! The engine's process holds a pipe to each sandbox. When that process ends, by whatever death, so do they: there is
//! no orphan to find later, and what a restarted engine finds on disk is the truth. See [`crate::sandbox`] for the
//! inside and `docs/concepts/isolation.md` for what is and is not defended.

mod gpus;
mod probe;
pub(crate) mod record;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use sha2::{Digest, Sha256};

use crate::cgroup::Base;
use crate::energy::{self, GpuCounters};
use crate::inventory::{Driver, Gpus, Inventory};
use crate::sandbox::wire::{Guard, Order, word};
use crate::{
    Capabilities, CpuPower, Energy, Engine, EngineError, Exit, Observation, Protection, Reason, State, Usage, Workload,
    WorkloadId,
};
use record::{Counted, Granted, Record, Spec, now_ms};

/// What a local engine is built from.
#[derive(Clone, Debug)]
pub struct LocalOptions {
    /// The executable that calls [`crate::sandbox::run_if_asked`] first in `main`; usually `std::env::current_exe()`.
    pub helper: PathBuf,
    /// The engine's own folder. One engine at a time; keep it on a disk that survives a restart.
    pub state_dir: PathBuf,
    /// Whether to run tenants' code where a required protection is missing.
    pub allow_weaker: bool,
    /// Protections to do without though the machine has them: for tests, and for hosts where one does harm.
    pub without: BTreeSet<Protection>,
    /// Folders and files that every workload sees read-only at the same place, such as `/opt/venv`.
    pub visible: Vec<PathBuf>,
    /// User and group that workloads are on the machine's side, if this process is root. They must be able to reach
    /// what is mounted. None: they are this process's own user, without any of its privileges.
    pub run_as: Option<(u32, u32)>,
    /// What a busy core draws, for estimates of energy.
    pub cpu_power: CpuPower,
    /// Where the NVIDIA driver lies.
    pub driver: Driver,
}

impl LocalOptions {
    /// The safe defaults.
    pub fn new(helper: impl Into<PathBuf>, state_dir: impl Into<PathBuf>) -> Self {
        Self {
            helper: helper.into(),
            state_dir: state_dir.into(),
            allow_weaker: false,
            without: BTreeSet::new(),
            visible: Vec::new(),
            run_as: None,
            cpu_power: CpuPower::default(),
            driver: Driver::default(),
        }
    }
}

/// Runs workloads on this machine. Cheap to clone; the last clone's end is the end of what it runs.
#[derive(Clone)]
pub struct Local(Arc<Inner>);

struct Inner {
    options: LocalOptions,
    base: Option<Base>,
    guard: Guard,
    capabilities: Capabilities,
    gpus: Gpus,
    /// The folder of the driver's libraries, where the loader must be told of it.
    libraries: Option<PathBuf>,
    inventory: Inventory,
    live: Mutex<BTreeMap<WorkloadId, Live>>,
    _lock: File,
}

/// A workload whose stage 1 this process started and has not seen end.
struct Live {
    lifeline: ChildStdin,
    gpus: Vec<String>,
    /// As they stood before anything of it ran.
    counters: GpuCounters,
}

impl Local {
    /// Opens the engine: finds out by trying what the machine can protect, and settles what an earlier engine left.
    ///
    /// Blocks for some tens of milliseconds. Fails if the folder cannot be used or another engine uses it.
    pub fn open(mut options: LocalOptions) -> Result<Self, EngineError> {
        let doing = || format!("opening {}", options.state_dir.display());
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&options.state_dir)
            .map_err(EngineError::io(doing()))?;
        let state_dir = fs::canonicalize(&options.state_dir).map_err(EngineError::io(doing()))?;
        let lock = File::create(state_dir.join("engine.lock")).map_err(EngineError::io(doing()))?;
        lock.try_lock().map_err(|_| EngineError::Refused {
            why: format!("another engine uses {}", state_dir.display()),
            hint: "stop it first, or choose another folder".to_owned(),
        })?;
        options.state_dir = state_dir;
        fs::create_dir_all(options.workloads()).map_err(EngineError::io("making the folder for workloads"))?;
        let gpus = Gpus::open(&options.driver);
        gpus.make_files();
        let mut inventory = gpus.inventory();
        let probed = probe::run(&options, &mut inventory)?;
        for gpu in inventory.gpus.iter().filter(|gpu| !gpu.health.concerns.is_empty()) {
            let why = gpu.health.concerns.join("; ");
            tracing::warn!(gpu.index = gpu.index, gpu.uuid, why, "a GPU is not offered");
        }
        let inner = Inner {
            base: probed.base,
            guard: probed.guard,
            capabilities: probed.capabilities,
            options,
            libraries: gpus.libraries(),
            gpus,
            inventory,
            live: Mutex::default(),
            _lock: lock,
        };
        inner.settle_all()?;
        Ok(Self(Arc::new(inner)))
    }

    /// What the machine has, as found when the engine was opened.
    pub fn inventory(&self) -> &Inventory {
        &self.0.inventory
    }

    /// Files and processes are waited for off the async threads.
    async fn blocking<T, F>(&self, act: F) -> Result<T, EngineError>
    where
        T: Send + 'static,
        F: FnOnce(&Arc<Inner>) -> Result<T, EngineError> + Send + 'static,
    {
        let inner = Arc::clone(&self.0);
        let joined = tokio::task::spawn_blocking(move || act(&inner)).await;
        joined.map_err(|e| EngineError::Unavailable(e.to_string()))?
    }
}

#[async_trait]
impl Engine for Local {
    async fn start(&self, workload: Workload) -> Result<(), EngineError> {
        self.blocking(|inner| inner.start(workload)).await
    }

    async fn observe(&self, id: &WorkloadId) -> Result<Observation, EngineError> {
        let id = id.clone();
        self.blocking(move |inner| inner.observe(&id)).await
    }

    async fn list(&self) -> Result<Vec<Observation>, EngineError> {
        self.blocking(|inner| inner.list()).await
    }

    async fn stop(&self, id: &WorkloadId, grace_ms: u64) -> Result<(), EngineError> {
        let id = id.clone();
        self.blocking(move |inner| inner.stop(&id, grace_ms)).await
    }

    async fn remove(&self, id: &WorkloadId) -> Result<(), EngineError> {
        let id = id.clone();
        self.blocking(move |inner| inner.remove(&id)).await
    }

    async fn capabilities(&self) -> Result<Capabilities, EngineError> {
        Ok(self.0.capabilities.clone())
    }
}

/// How long a killed sandbox may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(30);

impl Inner {
    fn start(self: &Arc<Self>, workload: Workload) -> Result<(), EngineError> {
        workload.validate()?;
        self.spare_the_helper(&workload)?;
        let json = serde_json::to_vec(&workload).map_err(|e| EngineError::invalid("workload", e.to_string()))?;
        let digest = hex::encode(Sha256::digest(json));
        let mut live = self.live();
        let record = self.record(&workload.id);
        let known = record.spec().map_err(EngineError::io("reading what is known"))?;
        match known {
            Some(spec) if spec.digest == digest => return Ok(()),
            Some(_) => return Err(EngineError::Conflict(workload.id)),
            // A folder without a spec is a start that was cut short before anything ran.
            None => clear(record.dir())?,
        }
        self.capabilities.admit(&workload, self.options.allow_weaker)?;
        let wanted = &workload.resources.gpus;
        let held = if wanted.is_empty() { gpus::Held::new() } else { self.held_gpus(&live)? };
        let granted = gpus::grant(&self.inventory, wanted, &held)?;
        let access = gpus::access(&self.options.driver, self.libraries.as_ref(), &granted)?;
        let gpus = access.uuids.clone();
        let granted = granted.iter().map(|gpu| Granted { uuid: gpu.uuid.clone(), limit_mw: gpu.power_limit_mw });
        let group = self.base.as_ref().map(|base| base.group(&self.group_name(&workload.id)));
        let order = Order {
            entry: record.dir().to_owned(),
            guard: self.guard,
            group: group.clone(),
            visible: self.options.visible.clone(),
            gpus: access,
            run_as: self.options.run_as,
            rehearsal: false,
            workload,
        };
        fs::create_dir(record.dir()).map_err(EngineError::io("making the workload's folder"))?;
        let spec = Spec { digest, accepted_ms: now_ms(), group, gpus: granted.collect() };
        let counters = self.gpus.energy(&gpus);
        let begun = record
            .write_spec(&spec)
            .map_err(EngineError::io("writing down the workload"))
            .and_then(|()| begin(&self.options.helper, &order));
        let (child, lifeline) = match begun {
            Ok(begun) => begun,
            Err(error) => {
                clear(record.dir())?;
                return Err(error);
            }
        };
        let id = order.workload.id.clone();
        live.insert(id.clone(), Live { lifeline, gpus, counters });
        drop(live);
        let engine = Arc::downgrade(self);
        std::thread::spawn(move || accompany(&engine, child, &id, &record));
        Ok(())
    }

    fn observe(&self, id: &WorkloadId) -> Result<Observation, EngineError> {
        let record = self.record(id);
        let read = || format!("reading what is known of `{id}`");
        let spec = record.spec().map_err(EngineError::io(read()))?.ok_or_else(|| EngineError::NotFound(id.clone()))?;
        let gpu_live = self.live().get(id).map(|live| (live.gpus.clone(), live.counters.clone()));
        let began = record.began().map_err(EngineError::io(read()))?;
        let counted = record.counted().map_err(EngineError::io(read()))?.unwrap_or_default();
        let exit = match &gpu_live {
            // Its last figures are still being taken.
            Some(_) => None,
            None => ended(&record, &spec)?,
        };
        let end = exit.as_ref().map_or_else(now_ms, |exit| exit.at_ms);
        let wall_ms = began.map_or(0, |began| end.saturating_sub(began));
        let cpu = self.options.cpu_power.estimate(counted.cpu_ms);
        let limits_mw: Vec<_> = spec.gpus.iter().map(|gpu| gpu.limit_mw).collect();
        let estimate = || energy::gpu_estimate(&limits_mw, wall_ms);
        let gpu = match gpu_live {
            // While it runs, a counter that is silent for a moment is waited for: the most it can be is much more.
            Some((gpus, before)) if before.len() == gpus.len() => {
                energy::gpu_part(&gpus, &before, &self.gpus.energy(&gpus), wall_ms)
            }
            Some(_) => estimate(),
            None => record.gpu_energy().map_err(EngineError::io(read()))?.or_else(estimate),
        };
        let state = match (exit, began) {
            (Some(exit), _) => State::Exited(exit),
            (None, Some(since_ms)) => State::Running { since_ms },
            (None, None) => State::Starting,
        };
        let energy = Energy { parts: std::iter::once(cpu).chain(gpu).collect() };
        let usage = Usage { cpu_ms: counted.cpu_ms, wall_ms, memory_peak_bytes: counted.memory_peak_bytes, energy };
        Ok(Observation { id: id.clone(), state, usage })
    }

    fn list(&self) -> Result<Vec<Observation>, EngineError> {
        let mut all = Vec::new();
        for id in self.known()? {
            match self.observe(&id) {
                Ok(observation) => all.push(observation),
                // Removed since, or never quite accepted.
                Err(EngineError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }

    fn stop(&self, id: &WorkloadId, grace_ms: u64) -> Result<(), EngineError> {
        if let Some(live) = self.live().get_mut(id) {
            // A pipe that nobody reads any more means that its end is being written down.
            writeln!(live.lifeline, "{} {grace_ms}", word::STOP).ok();
            return Ok(());
        }
        let known = self.record(id).spec().map_err(EngineError::io("reading what is known"))?;
        known.map(|_| ()).ok_or_else(|| EngineError::NotFound(id.clone()))
    }

    fn remove(&self, id: &WorkloadId) -> Result<(), EngineError> {
        match self.stop(id, 0) {
            Err(EngineError::NotFound(_)) => return clear(self.record(id).dir()),
            other => other?,
        }
        let record = self.record(id);
        let deadline = Instant::now() + GONE_WITHIN;
        let look = |e| EngineError::Io { doing: format!("ending `{id}`"), error: e };
        while self.live().contains_key(id) || record.is_alive().map_err(look)? {
            if Instant::now() >= deadline {
                return Err(EngineError::Unavailable(format!("`{id}` did not end; it is kept, ask again")));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        if let Some(group) = record.spec().map_err(look)?.and_then(|spec| spec.group) {
            group.end_all(GONE_WITHIN);
            group.remove().map_err(look)?;
        }
        clear(record.dir())
    }

    /// Brings order into what an earlier process left: ends are written down, unfinished starts are cleared away.
    fn settle_all(&self) -> Result<(), EngineError> {
        for id in self.known()? {
            let record = self.record(&id);
            let deadline = Instant::now() + GONE_WITHIN;
            let look = |e| EngineError::Io { doing: format!("settling `{id}`"), error: e };
            // Its lifeline broke with that process, so it is ending now.
            while record.is_alive().map_err(look)? && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(2));
            }
            match record.spec().map_err(look)? {
                Some(spec) => drop(ended(&record, &spec)?),
                None => clear(record.dir())?,
            }
        }
        Ok(())
    }

    /// The executable is seen inside at its own place; a mount above that would hide it, and nothing could begin.
    fn spare_the_helper(&self, workload: &Workload) -> Result<(), EngineError> {
        let hides = |mount: &&crate::Mount| self.options.helper.starts_with(&mount.target);
        match workload.mounts.iter().find(hides) {
            None => Ok(()),
            Some(mount) => Err(EngineError::Refused {
                why: format!(
                    "a mount at `{}` would hide the executable `{}`",
                    mount.target.display(),
                    self.options.helper.display()
                ),
                hint: "install the executable elsewhere, such as /usr/local/bin".to_owned(),
            }),
        }
    }

    fn known(&self) -> Result<BTreeSet<WorkloadId>, EngineError> {
        let entries = fs::read_dir(self.options.workloads()).map_err(EngineError::io("listing workloads"))?;
        let ids = entries.filter_map(|entry| WorkloadId::new(entry.ok()?.file_name().into_string().ok()?).ok());
        Ok(ids.collect())
    }

    /// The GPUs of all that lives, with what outlived an earlier engine because the kernel could not end it.
    fn held_gpus(&self, live: &BTreeMap<WorkloadId, Live>) -> Result<gpus::Held, EngineError> {
        let look = |e| EngineError::Io { doing: "looking who holds which GPU".to_owned(), error: e };
        let mut held = gpus::Held::new();
        for id in self.known()? {
            let record = self.record(&id);
            let Some(spec) = record.spec().map_err(look)? else { continue };
            if !spec.gpus.is_empty() && (live.contains_key(&id) || record.is_alive().map_err(look)?) {
                held.extend(spec.gpus.into_iter().map(|gpu| (gpu.uuid, id.clone())));
            }
        }
        Ok(held)
    }

    /// Two engines on one machine must not meet in the cgroup tree.
    fn group_name(&self, id: &WorkloadId) -> String {
        let own = hex::encode(Sha256::digest(self.options.state_dir.as_os_str().as_encoded_bytes()));
        format!("gregal-{}-{id}", &own[..8])
    }

    fn record(&self, id: &WorkloadId) -> Record {
        Record::at(&self.options.workloads().join(id.as_str()))
    }

    fn live(&self) -> MutexGuard<'_, BTreeMap<WorkloadId, Live>> {
        // The map is whole between statements, so a panic elsewhere does not spoil it.
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LocalOptions {
    fn workloads(&self) -> PathBuf {
        self.state_dir.join("workloads")
    }
}

/// How a workload that this process does not hold ended. None while its stage 1 lives on.
fn ended(record: &Record, spec: &Spec) -> Result<Option<Exit>, EngineError> {
    let read = |e| EngineError::Io { doing: format!("reading {}", record.dir().display()), error: e };
    if let Some(exit) = record.exit().map_err(read)? {
        return Ok(Some(exit));
    }
    if record.is_alive().map_err(read)? {
        return Ok(None);
    }
    // It may have written its end down between the two looks.
    if let Some(exit) = record.exit().map_err(read)? {
        return Ok(Some(exit));
    }
    if let Some(group) = &spec.group {
        group.end_all(GONE_WITHIN);
        group.remove().map_err(read)?;
    }
    let counted = record.counted().map_err(read)?.map_or(0, |c: Counted| c.at_ms);
    let began_ms = record.began().map_err(read)?;
    let exit = Exit {
        reason: Reason::Lost,
        code: None,
        signal: None,
        message: Some("its sandbox is gone and left no word".to_owned()),
        began_ms,
        at_ms: counted.max(began_ms.unwrap_or(0)).max(spec.accepted_ms),
    };
    record.write_exit(&exit).map_err(read)?;
    Ok(Some(exit))
}

/// Starts stage 1 and waits until it has taken the order, which is before the program begins.
fn begin(helper: &Path, order: &Order) -> Result<(Child, ChildStdin), EngineError> {
    let doing = || format!("starting the sandbox with {}", helper.display());
    let complaints = Record::at(&order.entry).complaints();
    let log = File::create(&complaints).map_err(EngineError::io(doing()))?;
    let mut child = Command::new(helper)
        .args([crate::sandbox::VERB, "enter"])
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log)
        // A Ctrl-C in a terminal is for this process, which drains.
        .process_group(0)
        .spawn()
        .map_err(EngineError::io(doing()))?;
    let mut take = || {
        let mut lifeline = child.stdin.take().ok_or_else(|| io::Error::other("no pipe to it"))?;
        writeln!(lifeline, "{}", serde_json::to_string(order)?)?;
        let output = child.stdout.take().ok_or_else(|| io::Error::other("no pipe from it"))?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        if line.trim_end() == word::READY { Ok(lifeline) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    };
    match take() {
        Ok(lifeline) => Ok((child, lifeline)),
        Err(error) => {
            child.kill().and_then(|()| child.wait()).map_err(EngineError::io("ending a sandbox that did not start"))?;
            let said = fs::read_to_string(&complaints).unwrap_or_default();
            let error = if said.is_empty() { error } else { io::Error::other(said.trim().to_owned()) };
            Err(EngineError::Io { doing: doing(), error })
        }
    }
}

/// Sees stage 1 to its end, reads the GPUs' counters, and lets go of the workload.
fn accompany(engine: &Weak<Inner>, mut child: Child, id: &WorkloadId, record: &Record) {
    let waited = child.wait();
    let Some(inner) = engine.upgrade() else { return };
    if let Err(error) = waited {
        tracing::warn!(workload.id = %id, %error, "waiting for a sandbox failed");
    }
    // It may have been killed and have left processes behind, whose GPUs are not free before they are gone.
    let settled = record.spec().map_err(EngineError::io("reading what is known"));
    if let Err(error) = settled.and_then(|spec| spec.map_or(Ok(None), |spec| ended(record, &spec))) {
        tracing::warn!(workload.id = %id, %error, "how a sandbox ended could not be written down");
    }
    let before = inner.live().get(id).map(|live| (live.gpus.clone(), live.counters.clone()));
    if let Some((gpus, counters)) = before {
        let wall_ms = record.began().ok().flatten().map_or(0, |began| now_ms().saturating_sub(began));
        let part = energy::gpu_part(&gpus, &counters, &inner.gpus.energy(&gpus), wall_ms);
        if let Some(Err(error)) = part.map(|part| record.write_gpu_energy(&part)) {
            tracing::warn!(workload.id = %id, %error, "a workload's measured energy could not be kept");
        }
    }
    inner.live().remove(id);
}

fn clear(dir: &Path) -> Result<(), EngineError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(EngineError::Io { doing: format!("clearing {}", dir.display()), error })
        }
        _ => Ok(()),
    }
}
