//! What an engine is asked to run: one attempt, with everything it may touch spelled out.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::EngineError;

/// The name of one attempt, such as `job_x.3`. Never used twice, which is what fences a late start of an old attempt.
///
/// 1 to 128 characters of `A-Z a-z 0-9 . _ -`, not starting with a dot: it becomes file, cgroup and cluster job names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WorkloadId(String);

impl WorkloadId {
    /// Reads an id; [`EngineError::Invalid`] says which characters are allowed.
    pub fn new(id: impl Into<String>) -> Result<Self, EngineError> {
        let id = id.into();
        let fits = !id.is_empty() && id.len() <= 128 && !id.starts_with('.');
        let clean = id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if fits && clean {
            Ok(Self(id))
        } else {
            Err(EngineError::invalid("id", "1 to 128 of A-Z a-z 0-9 . _ -, not starting with a dot"))
        }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for WorkloadId {
    type Error = EngineError;

    fn try_from(id: String) -> Result<Self, EngineError> {
        Self::new(id)
    }
}

impl From<WorkloadId> for String {
    fn from(id: WorkloadId) -> Self {
        id.0
    }
}

impl fmt::Display for WorkloadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One folder or file of the machine that the workload sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where it lies on the machine. It must exist when the workload starts.
    pub source: PathBuf,
    /// Where the workload sees it: an absolute path outside the system's own folders, not inside another mount.
    pub target: PathBuf,
    /// Whether writing is refused.
    pub read_only: bool,
}

impl Mount {
    /// A mount that can be read but not written.
    pub fn read_only(source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        Self { source: source.into(), target: target.into(), read_only: true }
    }

    /// A mount that can be read and written.
    pub fn writable(source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        Self { source: source.into(), target: target.into(), read_only: false }
    }
}

/// What a workload may use at most. Everything has a bound; zero is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Processor time, in thousandths of one core.
    pub cpus_milli: u64,
    /// Memory in bytes, the private `/tmp` included.
    pub memory_bytes: u64,
    /// Processes and threads together.
    pub pids_max: u64,
    /// The largest file it may write, in bytes.
    pub file_bytes_max: u64,
    /// Whole GPUs granted, by NVML UUID (`GPU-…`) or by index as text (`0`). Others are not visible.
    pub gpus: Vec<String>,
}

impl Default for Resources {
    /// One core, 1 GiB of memory, 256 processes, files up to 16 GiB, no GPU.
    fn default() -> Self {
        Self { cpus_milli: 1000, memory_bytes: 1 << 30, pids_max: 256, file_bytes_max: 16 << 30, gpus: Vec::new() }
    }
}

/// Which network a workload reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// None at all, not even its own loopback. Unix sockets in a mounted folder still work.
    #[default]
    None,
    /// The machine's own network, as an ordinary program would have it.
    Host,
}

/// Whose code it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trust {
    /// A tenant's code: it starts only where every protection holds.
    #[default]
    Untrusted,
    /// The operator's own program (the embedded trainer, say) on a tenant's data.
    Trusted,
}

/// One attempt to run one program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// Names this attempt.
    pub id: WorkloadId,
    /// Program and arguments. A program without a slash is looked up in `/usr/local/bin:/usr/bin:/bin`.
    pub argv: Vec<String>,
    /// The whole environment, besides what it may override: `PATH`, `HOME` and `TMPDIR`, `OMP_NUM_THREADS` and
    /// `OPENBLAS_NUM_THREADS` (its cores, rounded up), and `LD_LIBRARY_PATH` where CUDA is not found without it; and besides
    /// `CUDA_VISIBLE_DEVICES`, which names the GPUs it was granted.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// What it sees of the machine's files, besides the system's read-only folders.
    #[serde(default)]
    pub mounts: Vec<Mount>,
    /// Where it starts, as the workload sees it. Its private `/tmp` when none is given.
    #[serde(default)]
    pub workdir: Option<PathBuf>,
    /// What it may use at most.
    #[serde(default)]
    pub resources: Resources,
    /// How long it may run, in milliseconds, counted from when the program began. None: until it is stopped.
    #[serde(default)]
    pub time_limit_ms: Option<u64>,
    /// Which network it reaches.
    #[serde(default)]
    pub network: Network,
    /// Whose code it is.
    #[serde(default)]
    pub trust: Trust,
    /// The machine's file that standard output is appended to. It is made if absent, its folder is not.
    pub stdout: PathBuf,
    /// The same for standard error; may be the same file.
    pub stderr: PathBuf,
    /// Time between the polite and the final signal at a time limit, in milliseconds.
    #[serde(default = "grace_ms_default")]
    pub grace_ms: u64,
}

fn grace_ms_default() -> u64 {
    5_000
}

impl Workload {
    /// A workload with default limits, no network, no mounts, and both outputs in `log`.
    pub fn new<A: Into<String>>(id: WorkloadId, argv: impl IntoIterator<Item = A>, log: impl Into<PathBuf>) -> Self {
        let log = log.into();
        Self {
            id,
            argv: argv.into_iter().map(Into::into).collect(),
            env: BTreeMap::new(),
            mounts: Vec::new(),
            workdir: None,
            resources: Resources::default(),
            time_limit_ms: None,
            network: Network::None,
            trust: Trust::Untrusted,
            stdout: log.clone(),
            stderr: log,
            grace_ms: grace_ms_default(),
        }
    }

    /// Says what makes this workload impossible on any engine, before anything is touched.
    pub fn validate(&self) -> Result<(), EngineError> {
        if self.argv.first().is_none_or(String::is_empty) {
            return Err(EngineError::invalid("argv", "a program, then its arguments"));
        }
        if self.argv.iter().any(|a| a.contains('\0')) {
            return Err(EngineError::invalid("argv", "no NUL byte"));
        }
        for (name, value) in &self.env {
            if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                return Err(EngineError::invalid("env", "names without `=`, no NUL byte"));
            }
        }
        let limits = &self.resources;
        for (field, value) in [
            ("resources.cpus_milli", limits.cpus_milli),
            ("resources.memory_bytes", limits.memory_bytes),
            ("resources.pids_max", limits.pids_max),
            ("resources.file_bytes_max", limits.file_bytes_max),
        ] {
            if value == 0 {
                return Err(EngineError::invalid(field, "more than zero: everything has a bound"));
            }
        }
        if self.time_limit_ms == Some(0) {
            return Err(EngineError::invalid("time_limit_ms", "more than zero, or none"));
        }
        for path in [&self.stdout, &self.stderr] {
            if !path.is_absolute() {
                return Err(EngineError::invalid("stdout, stderr", "absolute paths"));
            }
        }
        if self.workdir.as_ref().is_some_and(|dir| !is_plain(dir)) {
            return Err(EngineError::invalid("workdir", "an absolute path without `..`"));
        }
        self.validate_mounts()
    }

    fn validate_mounts(&self) -> Result<(), EngineError> {
        for (at, mount) in self.mounts.iter().enumerate() {
            if !is_plain(&mount.source) || !is_plain(&mount.target) {
                return Err(EngineError::invalid("mounts", "absolute paths without `..`"));
            }
            if is_reserved(&mount.target) {
                return Err(EngineError::invalid("mounts", "a target outside the system's own folders"));
            }
            // A target inside another mount would be made through whatever links somebody left there.
            let nested = |other: &Mount| mount.target.starts_with(&other.target);
            if self.mounts.iter().enumerate().any(|(i, other)| i != at && nested(other)) {
                return Err(EngineError::invalid("mounts", "targets that do not lie inside one another"));
            }
        }
        Ok(())
    }
}

/// Folders of the sandbox's own tree, which no mount may cover.
const RESERVED: [&str; 11] =
    ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/proc", "/dev", "/sys"];

fn is_reserved(target: &Path) -> bool {
    target == Path::new("/") || target == Path::new("/tmp") || RESERVED.iter().any(|r| target.starts_with(r))
}

fn is_plain(path: &Path) -> bool {
    path.is_absolute() && path.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload() -> Workload {
        Workload::new(WorkloadId::new("job_x.1").unwrap(), ["true"], "/tmp/log")
    }

    #[test]
    fn an_id_that_could_leave_its_folder_is_refused() {
        for id in ["", ".", "..", ".hidden", "a/b", "a b", "ä", &"x".repeat(129)] {
            assert!(WorkloadId::new(id).is_err(), "{id:?} was accepted");
        }
        assert_eq!(WorkloadId::new("job_01J-x.3").unwrap().as_str(), "job_01J-x.3");
        assert!(serde_json::from_str::<WorkloadId>("\"../x\"").is_err(), "reading an id checks it as well");
    }

    #[test]
    fn a_workload_without_bounds_or_program_is_refused() {
        assert!(workload().validate().is_ok());
        let broken: [fn(&mut Workload); 7] = [
            |w| w.argv.clear(),
            |w| w.argv[0].clear(),
            |w| w.resources.memory_bytes = 0,
            |w| w.resources.pids_max = 0,
            |w| w.time_limit_ms = Some(0),
            |w| w.stdout = "relative".into(),
            |w| drop(w.env.insert("A=B".into(), "c".into())),
        ];
        for (at, damage) in broken.iter().enumerate() {
            let mut w = workload();
            damage(&mut w);
            assert!(w.validate().is_err(), "damage {at} went through");
        }
    }

    #[test]
    fn a_mount_may_not_cover_the_system_or_lie_in_another_mount() {
        for target in ["/", "/usr/lib", "/etc", "/proc/sys", "/dev/null", "/tmp", "data", "/data/../etc"] {
            let mut w = workload();
            w.mounts = vec![Mount::read_only("/srv", target)];
            assert!(w.validate().is_err(), "{target} was accepted");
        }
        let mut w = workload();
        w.mounts = vec![Mount::read_only("/srv", "/data"), Mount::writable("/srv", "/data/out")];
        assert!(w.validate().is_err());
        w.mounts = vec![Mount::read_only("/srv", "/data"), Mount::writable("/srv", "/database")];
        assert!(w.validate().is_ok());
    }
}
