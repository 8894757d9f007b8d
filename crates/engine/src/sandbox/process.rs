//! Looking at processes through `/proc`, and ending those that no namespace ends for us.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// One process, as its `/proc` entry tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub pid: i32,
    pub parent: i32,
    pub threads: u64,
    /// Of itself and of the children it waited for, in clock ticks.
    pub ticks: u64,
    /// Memory that is its own, in bytes.
    pub memory_bytes: u64,
}

/// Closes all files but standard input, output and error. Whoever started the engine may have left files open in it
/// that are passed on at every start of a program, and so into the sandbox. For a process that has opened none itself.
pub(crate) fn close_inherited() -> io::Result<()> {
    let open: Vec<i32> =
        fs::read_dir("/proc/self/fd")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    for fd in open.into_iter().filter(|fd| *fd > 2) {
        match nix::unistd::close(fd) {
            // The listing's own is among them, and closed by now.
            Ok(()) | Err(nix::Error::EBADF) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Every process that this `/proc` shows.
pub(crate) fn all() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    // One that ended between listing and reading is skipped.
    pids.filter_map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let statm = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
        parse(pid, &stat, &statm)
    })
    .collect()
}

/// All that descend from `root`, which is not among them.
pub(crate) fn descendants(root: i32) -> Vec<Process> {
    let all = all();
    let mut family = BTreeSet::from([root]);
    // Each round finds one more generation; there are fewer generations than processes.
    for _ in 0..all.len() {
        let before = family.len();
        family.extend(all.iter().filter(|p| family.contains(&p.parent)).map(|p| p.pid).collect::<Vec<_>>());
        if family.len() == before {
            break;
        }
    }
    all.into_iter().filter(|p| p.pid != root && family.contains(&p.pid)).collect()
}

/// Ends all descendants of this process, which must be a subreaper so that none can slip away, and reaps them.
pub(crate) fn end_descendants(within: Duration) -> bool {
    let own = i32::try_from(std::process::id()).unwrap_or(i32::MAX);
    let deadline = Instant::now() + within;
    loop {
        let left = descendants(own);
        for process in &left {
            // One that went by itself is what we want.
            kill(Pid::from_raw(process.pid), Signal::SIGKILL).ok();
        }
        while matches!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Ok(status) if status != WaitStatus::StillAlive) {}
        if left.is_empty() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Page size assumed for `/proc/*/statm` where the system does not tell; the right one on `x86_64`.
const PAGE_BYTES: u64 = 4096;

fn page_bytes() -> u64 {
    let told = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
    told.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(PAGE_BYTES)
}

/// Clock ticks as milliseconds.
pub(crate) fn ticks_ms(ticks: u64) -> u64 {
    let told = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten();
    ticks.saturating_mul(1000) / told.and_then(|hz| u64::try_from(hz).ok()).filter(|hz| *hz > 0).unwrap_or(100)
}

fn parse(pid: i32, stat: &str, statm: &str) -> Option<Process> {
    // The name in brackets may hold anything, brackets and spaces too: what counts comes after the last one.
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |at: usize| fields.get(at).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
    let mut pages = statm.split_whitespace().skip(1).map(|n| n.parse::<u64>().unwrap_or(0));
    let (resident, shared) = (pages.next().unwrap_or(0), pages.next().unwrap_or(0));
    Some(Process {
        pid,
        parent: fields.get(1)?.parse().ok()?,
        threads: number(17),
        ticks: (11..=14).map(number).sum(),
        memory_bytes: resident.saturating_sub(shared).saturating_mul(page_bytes()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_even_if_its_name_tries_to_look_like_fields() {
        let stat = "7 (a) R 1 (b) S 3 7 7 0 -1 4194560 100 0 0 0 10 20 30 40 20 0 5 0 9 1 2";
        let process = parse(7, stat, "1000 300 100 1 0 1 0").unwrap();
        assert_eq!((process.parent, process.threads, process.ticks), (3, 5, 100));
        assert_eq!(process.memory_bytes, 200 * page_bytes());
        assert_eq!(parse(7, "7 nonsense", ""), None);
    }

    #[test]
    fn this_process_is_found_with_its_threads_and_memory() {
        let own = i32::try_from(std::process::id()).unwrap();
        let found = all().into_iter().find(|p| p.pid == own).unwrap();
        assert!(found.threads >= 1 && found.memory_bytes > 0, "{found:?}");
    }
}
