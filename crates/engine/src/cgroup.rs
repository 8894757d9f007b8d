//! Limits for a workload as a whole: cgroup v2 where this process was given a subtree, else v1, else none of them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::Resources;

/// One workload's cgroups: where they are to be, whether or not they exist yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "version")]
pub(crate) enum Group {
    V2 { dir: PathBuf },
    V1 { memory: PathBuf, pids: PathBuf, cpu: PathBuf, cpuacct: PathBuf },
}

/// What a group has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Used {
    pub cpu_ms: u64,
    pub memory_peak_bytes: u64,
    pub oom_kills: u64,
}

/// Where this process may make groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Base(Group);

impl Base {
    /// Finds a place for groups and tries it out by making one and removing it. The error says what stood in the way
    /// of each version.
    pub(crate) fn find() -> Result<Self, String> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let second = v2_base(&mounts, &own).and_then(|base| base.delegate().and_then(|()| base.tried()));
        second.or_else(|v2| {
            v1_base(&mounts, &own).and_then(Self::tried).map_err(|v1| format!("cgroup v2: {v2}; cgroup v1: {v1}"))
        })
    }

    fn tried(self) -> Result<Self, String> {
        let probe = self.group(&format!("gregal-probe-{}", std::process::id()));
        let tried = probe.create(&Resources::default());
        let removed = probe.remove();
        tried.and(removed).map_err(|e| e.to_string())?;
        Ok(self)
    }

    /// Lets children of a v2 base have limits. A group with processes of its own cannot (the kernel's "no internal
    /// processes"), so this process moves into a leaf first, the way a service with a delegated subtree does.
    fn delegate(&self) -> Result<(), String> {
        let Group::V2 { dir } = &self.0 else { return Ok(()) };
        let offered = read(&dir.join("cgroup.controllers")).map_err(|e| e.to_string())?;
        if let Some(lacking) = ["cpu", "memory", "pids"].iter().find(|c| !offered.split_whitespace().any(|o| o == **c))
        {
            return Err(format!("controller `{lacking}` is not offered in {}", dir.display()));
        }
        let control = dir.join("cgroup.subtree_control");
        let enable = || write(&control, "+cpu +memory +pids");
        match enable() {
            Err(error) if error.raw_os_error() == Some(nix::libc::EBUSY) => {
                let leaf = dir.join("gregal-engine");
                fs::create_dir_all(&leaf).and_then(|()| write(&leaf.join("cgroup.procs"), "0")).and_then(|()| enable())
            }
            other => other,
        }
        .map_err(|e| format!("{e} (run as a service with `Delegate=yes`)"))
    }

    pub(crate) fn group(&self, name: &str) -> Group {
        match &self.0 {
            Group::V2 { dir } => Group::V2 { dir: dir.join(name) },
            Group::V1 { memory, pids, cpu, cpuacct } => Group::V1 {
                memory: memory.join(name),
                pids: pids.join(name),
                cpu: cpu.join(name),
                cpuacct: cpuacct.join(name),
            },
        }
    }

    pub(crate) fn is_v2(&self) -> bool {
        matches!(self.0, Group::V2 { .. })
    }
}

/// Processes and threads of our own inside a group: stage 2 with its two threads.
const OWN_PIDS: u64 = 4;
/// Memory of our own inside a group, in bytes: stage 2.
const OWN_MEMORY_BYTES: u64 = 8 << 20;

impl Group {
    /// Makes the group with these limits. Making it again sets the limits again.
    pub(crate) fn create(&self, limits: &Resources) -> io::Result<()> {
        for dir in self.dirs() {
            fs::create_dir_all(dir).map_err(|e| at(dir, &e))?;
        }
        let memory = limits.memory_bytes.saturating_add(OWN_MEMORY_BYTES).to_string();
        let pids_max = limits.pids_max.saturating_add(OWN_PIDS).to_string();
        let quota_us = limits.cpus_milli.saturating_mul(100).max(1000);
        match self {
            Self::V2 { dir } => {
                write(&dir.join("memory.max"), &memory)?;
                // Machines without swap accounting have no such file, and no swap to fear.
                write_if_there(&dir.join("memory.swap.max"), "0")?;
                write_if_there(&dir.join("memory.oom.group"), "0")?;
                write(&dir.join("pids.max"), &pids_max)?;
                write(&dir.join("cpu.max"), &format!("{quota_us} 100000"))
            }
            Self::V1 { memory: dir, pids, cpu, .. } => {
                write(&dir.join("memory.limit_in_bytes"), &memory)?;
                write_if_there(&dir.join("memory.memsw.limit_in_bytes"), &memory)?;
                write(&pids.join("pids.max"), &pids_max)?;
                write(&cpu.join("cpu.cfs_period_us"), "100000")?;
                write(&cpu.join("cpu.cfs_quota_us"), &quota_us.to_string())
            }
        }
    }

    /// Puts a process in; what it starts later follows.
    pub(crate) fn join(&self, pid: u32) -> io::Result<()> {
        self.dirs().iter().try_for_each(|dir| write(&dir.join("cgroup.procs"), &pid.to_string()))
    }

    /// What it has used until now; zeros for a group that is not there.
    pub(crate) fn used(&self) -> Used {
        let number = |path: PathBuf| read(&path).ok().and_then(|text| text.trim().parse::<u64>().ok()).unwrap_or(0);
        let keyed = |path: PathBuf, key: &str| read(&path).ok().and_then(|text| value_of(&text, key)).unwrap_or(0);
        match self {
            Self::V2 { dir } => Used {
                cpu_ms: keyed(dir.join("cpu.stat"), "usage_usec") / 1000,
                // Kernels before 5.19 have no peak: the samples that stage 1 takes stand in for it.
                memory_peak_bytes: number(dir.join("memory.peak")).max(number(dir.join("memory.current"))),
                oom_kills: keyed(dir.join("memory.events"), "oom_kill"),
            },
            Self::V1 { memory, cpuacct, .. } => Used {
                cpu_ms: number(cpuacct.join("cpuacct.usage")) / 1_000_000,
                memory_peak_bytes: number(memory.join("memory.max_usage_in_bytes")),
                oom_kills: keyed(memory.join("memory.oom_control"), "oom_kill"),
            },
        }
    }

    /// Ends every process in the group, and says whether none was left in time.
    pub(crate) fn end_all(&self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        loop {
            let pids: Vec<i32> = self.dirs().iter().flat_map(|dir| procs(dir)).collect();
            if pids.is_empty() {
                return true;
            }
            for pid in pids {
                // A process that went by itself is what we want.
                kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
            }
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Removes the group; fine if it is not there.
    pub(crate) fn remove(&self) -> io::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(2);
        for dir in self.dirs() {
            loop {
                match fs::remove_dir(dir) {
                    Ok(()) => break,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                    // The kernel takes a moment to forget a process that just ended.
                    Err(error) if error.raw_os_error() == Some(nix::libc::EBUSY) && Instant::now() < deadline => {
                        std::thread::sleep(Duration::from_millis(2));
                    }
                    Err(error) => return Err(at(dir, &error)),
                }
            }
        }
        Ok(())
    }

    fn dirs(&self) -> Vec<&Path> {
        match self {
            Self::V2 { dir } => vec![dir],
            Self::V1 { memory, pids, cpu, cpuacct } if cpu == cpuacct => vec![memory, pids, cpu],
            Self::V1 { memory, pids, cpu, cpuacct } => vec![memory, pids, cpu, cpuacct],
        }
    }
}

fn procs(dir: &Path) -> Vec<i32> {
    let text = read(&dir.join("cgroup.procs")).unwrap_or_default();
    // A process of another namespace shows as 0, which as a target of kill would be ourselves.
    text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 1).collect()
}

fn value_of(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

fn v2_base(mounts: &str, own: &str) -> Result<Base, String> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::")).ok_or("not mounted")?;
    let dir = locate(mounts, path, |kind, _| kind == "cgroup2").ok_or("not mounted")?;
    Ok(Base(Group::V2 { dir }))
}

fn v1_base(mounts: &str, own: &str) -> Result<Base, String> {
    let find = |controller: &str| {
        let lacking = || format!("controller `{controller}` is not mounted");
        let path = own.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            fields.next()?.split(',').any(|c| c == controller).then(|| fields.next())?
        });
        let has = |kind: &str, options: &str| kind == "cgroup" && options.split(',').any(|o| o == controller);
        locate(mounts, path.ok_or_else(lacking)?, has).ok_or_else(lacking)
    };
    Ok(Base(Group::V1 { memory: find("memory")?, pids: find("pids")?, cpu: find("cpu")?, cpuacct: find("cpuacct")? }))
}

/// Where a cgroup path of this process shows in the file system: a container's mount shows a subtree only.
fn locate(mounts: &str, path: &str, wanted: impl Fn(&str, &str) -> bool) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (head, tail) = line.split_once(" - ")?;
        let mut tail = tail.split(' ');
        let (kind, options) = (tail.next()?, tail.nth(1)?);
        if !wanted(kind, options) {
            return None;
        }
        let mut head = head.split(' ').skip(3);
        let (root, point) = (head.next()?, head.next()?);
        let inside = Path::new(path).strip_prefix(root).unwrap_or_else(|_| Path::new(""));
        Some(if inside.as_os_str().is_empty() { PathBuf::from(point) } else { Path::new(point).join(inside) })
    })
}

fn read(path: &Path) -> io::Result<String> {
    fs::read_to_string(path).map_err(|e| at(path, &e))
}

/// Writes to a control file, which must be there: cgroup files are not made by writing.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).open(path).map_err(|e| at(path, &e))?;
    match io::Write::write_all(&mut file, text.as_bytes()) {
        // Its number is asked for by `delegate`, so it must survive.
        Err(error) if error.raw_os_error() == Some(nix::libc::EBUSY) => Err(error),
        other => other.map_err(|e| at(path, &e)),
    }
}

fn write_if_there(path: &Path, text: &str) -> io::Result<()> {
    if path.exists() { write(path, text) } else { Ok(()) }
}

fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_group_is_found_on_machines_with_either_version_and_inside_containers() {
        let unified = "30 1 0:27 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
        let base = v2_base(unified, "0::/system.slice/gregal.service\n").unwrap();
        assert_eq!(base, Base(Group::V2 { dir: "/sys/fs/cgroup/system.slice/gregal.service".into() }));

        let split = "31 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                     32 30 0:29 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
                     33 30 0:30 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n";
        let own = "4:memory:/a/b\n3:cpu,cpuacct:/\n2:pids:/p\n0::/\n";
        let Base(Group::V1 { memory, pids, cpu, cpuacct }) = v1_base(split, own).unwrap() else { panic!("not v1") };
        assert_eq!(memory, Path::new("/sys/fs/cgroup/memory/a/b"));
        assert_eq!(pids, Path::new("/sys/fs/cgroup/pids/p"));
        assert_eq!(cpu, cpuacct);

        let contained = "31 30 0:28 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        let dir = locate(contained, "/docker/abc/x", |kind, _| kind == "cgroup").unwrap();
        assert_eq!(dir, Path::new("/sys/fs/cgroup/memory/x"));
        assert!(v1_base(contained, own).unwrap_err().contains("pids"), "what lacks is named");
    }

    #[test]
    fn a_group_of_the_unified_hierarchy_gets_its_limits_and_tells_its_use() {
        let dir = tempfile::tempdir().unwrap();
        let group = Group::V2 { dir: dir.path().to_owned() };
        for file in ["memory.max", "memory.swap.max", "pids.max", "cpu.max"] {
            fs::write(dir.path().join(file), "").unwrap();
        }
        group
            .create(&Resources { cpus_milli: 1500, memory_bytes: 1 << 20, pids_max: 10, ..Default::default() })
            .unwrap();
        let text = |file: &str| fs::read_to_string(dir.path().join(file)).unwrap();
        assert_eq!(text("memory.max"), ((1 << 20) + OWN_MEMORY_BYTES).to_string());
        assert_eq!(text("memory.swap.max"), "0");
        assert_eq!(text("pids.max"), "14");
        assert_eq!(text("cpu.max"), "150000 100000");

        fs::write(dir.path().join("cpu.stat"), "usage_usec 2500000\nuser_usec 1\n").unwrap();
        fs::write(dir.path().join("memory.peak"), "4096\n").unwrap();
        fs::write(dir.path().join("memory.events"), "oom 3\noom_kill 2\n").unwrap();
        assert_eq!(group.used(), Used { cpu_ms: 2500, memory_peak_bytes: 4096, oom_kills: 2 });
    }
}
