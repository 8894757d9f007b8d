//! What the engine and the two stages say to each other: one JSON document a line, over pipes.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cgroup::Group;
use crate::{Mount, Workload};

/// Everything a stage must know. It travels through a pipe and is never written to disk: environments hold secrets.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub workload: Workload,
    /// The engine's own folder for this workload.
    pub entry: PathBuf,
    /// Which protections must hold. A stage that cannot give one ends; it never goes on with less.
    pub guard: Guard,
    /// The cgroups to make, or none where limits are by rlimits.
    pub group: Option<Group>,
    /// Folders and files of the machine that every workload sees, read-only, at the same place.
    pub visible: Vec<PathBuf>,
    /// What it is given of the machine's GPUs.
    pub gpus: GpuAccess,
    /// The user and group it is on the machine's side, if not the engine's own.
    pub run_as: Option<(u32, u32)>,
    /// Put everything up, look whether it holds, run nothing.
    pub rehearsal: bool,
}

/// All that a grant of GPUs opens to a workload; empty for one that was granted none.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct GpuAccess {
    /// UUIDs of the GPUs.
    pub uuids: Vec<String>,
    /// Their device files, and those that CUDA shares among all.
    pub devices: Vec<Shown>,
    /// What the kernel tells of the driver's modules.
    pub modules: Vec<Shown>,
    /// The folder of the driver's libraries, where the loader must be told of it.
    pub libraries: Option<PathBuf>,
}

impl GpuAccess {
    /// Whether no GPU was granted.
    pub(crate) fn is_none(&self) -> bool {
        self.uuids.is_empty()
    }
}

/// A file of the machine that the workload sees, perhaps elsewhere.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Shown {
    pub source: PathBuf,
    /// Where it sees it.
    pub inside: PathBuf,
}

/// Which protections must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Guard {
    pub namespaces: bool,
    pub landlock: bool,
    pub seccomp: bool,
}

/// What stage 2 tells stage 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub(crate) enum Report {
    /// A rehearsal went well.
    Held,
    /// The program began.
    Running,
    /// What it uses, as far as stage 2 can see.
    Usage { cpu_ms: u64, memory_bytes: u64 },
    /// It is over a limit that stage 2 watches, and was ended for it.
    OverMemory,
    /// The same for processes and threads.
    OverProcesses,
    /// The program ended.
    Ended { code: Option<i32>, signal: Option<i32> },
    /// A protection could not be put up, or the program could not begin.
    Failed { step: String, why: String },
}

/// What travels down the lifelines, after the order: words, one a line.
pub(crate) mod word {
    /// Ask all processes to end (stage 1 to 2). To end them, stage 1 ends stage 2.
    pub(crate) const TERM: &str = "term";
    /// Stop, followed by the grace in milliseconds (engine to stage 1).
    pub(crate) const STOP: &str = "stop";
    /// The order was taken and its folder is locked (stage 1 to engine).
    pub(crate) const READY: &str = "ready";
}

impl Order {
    /// Where the private file tree is put together.
    pub(crate) fn root(&self) -> PathBuf {
        self.entry.join("root")
    }

    /// The workload's private temporary folder, as it sees it.
    pub(crate) fn tmp(&self) -> PathBuf {
        if self.guard.namespaces { PathBuf::from("/tmp") } else { self.entry.join("tmp") }
    }

    /// Rewrites what the workload would find at a mount's target to where it really lies. Only used where the machine
    /// has no mount namespaces: there a mount is just a permission, so paths on the command line must be the real ones.
    pub(crate) fn translated(&self) -> Workload {
        let mut workload = self.workload.clone();
        if self.guard.namespaces {
            return workload;
        }
        let mounts = &self.workload.mounts;
        for text in workload.argv.iter_mut().chain(workload.env.values_mut()) {
            *text = translate(text, mounts);
        }
        let dir = workload.workdir.as_ref().and_then(|dir| relocated(dir, mounts));
        workload.workdir = dir.or(workload.workdir);
        workload
    }
}

/// `/data/x`, `--in=/data/x` and `A=/data/x`, with `/data` relocated.
fn translate(text: &str, mounts: &[Mount]) -> String {
    let (head, path) = match text.split_once('=') {
        Some((head, path)) if !head.contains('/') => (Some(head), path),
        _ => (None, text),
    };
    match (head, relocated(Path::new(path), mounts)) {
        (_, None) => text.to_owned(),
        (None, Some(real)) => real.to_string_lossy().into_owned(),
        (Some(head), Some(real)) => format!("{head}={}", real.to_string_lossy()),
    }
}

fn relocated(path: &Path, mounts: &[Mount]) -> Option<PathBuf> {
    mounts.iter().find_map(|mount| {
        let rest = path.strip_prefix(&mount.target).ok()?;
        Some(if rest.as_os_str().is_empty() { mount.source.clone() } else { mount.source.join(rest) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_at_a_mount_s_target_are_relocated_and_nothing_else() {
        let mounts = [Mount::read_only("/srv/a", "/data"), Mount::writable("/srv/b", "/out")];
        for (text, real) in [
            ("/data", "/srv/a"),
            ("/data/x.jsonl", "/srv/a/x.jsonl"),
            ("--out=/out/model", "--out=/srv/b/model"),
            ("/database", "/database"),
            ("--steps=10", "--steps=10"),
            ("see /data", "see /data"),
            ("http://x/?a=/data", "http://x/?a=/data"),
        ] {
            assert_eq!(translate(text, &mounts), real);
        }
    }
}
