//! A local engine in a folder of its own, and the things tests say to it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gregal_engine::local::{Local, LocalOptions};
use gregal_engine::{Engine, Observation, State, Workload, WorkloadId};
use tempfile::TempDir;

pub(crate) const HELPER: &str = env!("CARGO_BIN_EXE_engine-helper");

pub(crate) struct Bench {
    pub dir: TempDir,
    pub engine: Local,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut LocalOptions)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut options = LocalOptions::new(HELPER, dir.path().join("state"));
        change(&mut options);
        Self { engine: Local::open(options).unwrap(), dir }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A folder of the machine that a workload may be given.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    pub(crate) fn workload(&self, name: &str, argv: &[&str]) -> Workload {
        workload(name, argv, &self.path(&format!("{name}.log")))
    }

    pub(crate) fn shell(&self, name: &str, script: &str) -> Workload {
        self.workload(name, &["/bin/sh", "-c", script])
    }

    /// Starts it, and waits for its end.
    pub(crate) async fn run(&self, workload: &Workload) -> Observation {
        self.engine.start(workload.clone()).await.unwrap();
        self.until(&workload.id, |seen| seen.exit().is_some()).await
    }

    /// Starts it, and waits until it said a word.
    pub(crate) async fn run_until_said(&self, workload: &Workload, word: &str) {
        self.engine.start(workload.clone()).await.unwrap();
        let said = || log(workload).contains(word);
        self.until(&workload.id, |seen| said() || seen.exit().is_some()).await;
        assert!(said(), "it ended with `{}`: {:?}", log(workload), self.engine.observe(&workload.id).await);
    }

    pub(crate) async fn until(&self, id: &WorkloadId, reached: impl Fn(&Observation) -> bool) -> Observation {
        let deadline = Instant::now() + Duration::from_mins(1);
        loop {
            let seen = self.engine.observe(id).await.unwrap();
            if reached(&seen) {
                return seen;
            }
            assert!(Instant::now() < deadline, "still {:?}", seen.state);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

pub(crate) fn workload(name: &str, argv: &[&str], log: &Path) -> Workload {
    let mut workload = Workload::new(WorkloadId::new(name).unwrap(), argv.iter().copied(), log);
    workload.resources.memory_bytes = 256 << 20;
    workload.resources.pids_max = 64;
    workload.grace_ms = 200;
    workload
}

/// Waits for something that no engine is asked about.
pub(crate) fn eventually(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Processes of the machine whose command line holds a word. Workloads carry one to be found by.
pub(crate) fn processes_with(word: &str) -> Vec<i32> {
    let pids = fs::read_dir("/proc").unwrap().filter_map(|e| e.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let carries = |pid: &i32| {
        fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| String::from_utf8_lossy(&line).contains(word))
    };
    pids.filter(|pid| *pid != i32::try_from(std::process::id()).unwrap()).filter(carries).collect()
}

/// The parent of a process; none above the first.
pub(crate) fn parent_of(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
    (parent > 1).then_some(parent)
}

pub(crate) fn world_readable(path: &Path) {
    let mode = if path.is_dir() { 0o755 } else { 0o644 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

pub(crate) fn is_running(seen: &Observation) -> bool {
    matches!(seen.state, State::Running { .. })
}

/// What a workload has said so far.
pub(crate) fn log(workload: &Workload) -> String {
    fs::read_to_string(&workload.stdout).unwrap_or_default()
}
