//! Stage 1: outside the walls, trusted, one for each workload. It makes the limits, keeps the deadlines, holds the
//! lifeline to the engine, and writes down how it ended, so that an engine that was restarted can read it.
//!
//! One thread only: after a process namespace was unshared the kernel lets a process have no more.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::resource::{UsageWho, getrusage};
use nix::unistd::{Gid, Uid};

use super::init::map_ids;
use super::process;
use super::wire::{Order, Report, word};
use crate::local::record::{self, Counted, Record};
use crate::{Exit, Reason};

/// Runs stage 1. Its whole life is one order.
pub(super) fn enter() -> ExitCode {
    let opened = process::close_inherited().map_err(|e| format!("closing inherited files: {e}"));
    match opened.and_then(|()| Stage::open()) {
        Ok(stage) => stage.run(),
        Err(why) => {
            // The engine keeps this in the workload's folder and shows it.
            writeln!(io::stderr(), "{why}").ok();
            ExitCode::from(2)
        }
    }
}

struct Stage {
    order: Order,
    engine: Lines,
    record: Record,
    // Held until the very end: whoever can take it knows that this workload is over.
    _lock: File,
}

impl Stage {
    fn open() -> Result<Self, String> {
        let mut engine = Lines::new(io::stdin().as_fd()).map_err(|e| format!("standard input: {e}"))?;
        let line = engine.next_line().map_err(|e| format!("reading the order: {e}"))?;
        let order: Order = serde_json::from_str(&line).map_err(|e| format!("the order makes no sense: {e}"))?;
        let record = Record::at(&order.entry);
        let lock = record.lock().map_err(|e| format!("locking {}: {e}", order.entry.display()))?;
        fs::create_dir_all(order.root()).map_err(|e| format!("{}: {e}", order.root().display()))?;
        if let Some(group) = &order.group {
            group.create(&order.workload.resources).map_err(|e| format!("limits: {e}"))?;
        }
        let mut out = io::stdout().lock();
        writeln!(out, "{}", word::READY).and_then(|()| out.flush()).map_err(|e| format!("standard output: {e}"))?;
        Ok(Self { order, engine, record, _lock: lock })
    }

    fn run(mut self) -> ExitCode {
        let mut facts = Facts::default();
        match self.begin() {
            Ok(mut init) => {
                let counted = self.accompany(&mut init, &mut facts);
                self.clean_up(&mut facts);
                self.conclude(&facts, counted)
            }
            Err((step, why)) => {
                facts.failed = Some(format!("{step}: {why}"));
                self.clean_up(&mut facts);
                self.conclude(&facts, Counted::default())
            }
        }
    }

    /// Starts stage 2 in new namespaces and in its cgroup, and hands it the order.
    fn begin(&self) -> Result<Init, (&'static str, String)> {
        prctl::set_child_subreaper(true).map_err(|e| ("processes", e.to_string()))?;
        if self.order.guard.namespaces {
            separate().map_err(|why| ("namespaces", why))?;
        }
        let exe = std::env::current_exe().map_err(|e| ("executable", e.to_string()))?;
        let mut child = Command::new(exe)
            .args([super::VERB, "init"])
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| ("processes", format!("stage 2 did not start: {e}")))?;
        let joined = self.order.group.as_ref().map_or(Ok(()), |group| group.join(child.id()));
        let handed = joined.map_err(|e| ("limits", e.to_string())).and_then(|()| {
            let order = serde_json::to_string(&self.order).map_err(|e| ("order", e.to_string()))?;
            let mut input = child.stdin.take().ok_or_else(|| ("order", "no pipe to stage 2".to_owned()))?;
            writeln!(input, "{order}").map_err(|e| ("order", e.to_string()))?;
            let output = child.stdout.take().ok_or_else(|| ("order", "no pipe from stage 2".to_owned()))?;
            Ok((input, Lines::new(output.as_fd()).map_err(|e| ("order", e.to_string()))?))
        });
        match handed {
            Ok((input, reports)) => Ok(Init { child, input, reports }),
            Err(error) => {
                child.kill().and_then(|()| child.wait()).ok();
                Err(error)
            }
        }
    }

    /// From the program's beginning to the end of stage 2, which is the end of all.
    fn accompany(&mut self, init: &mut Init, facts: &mut Facts) -> Counted {
        let mut counted = Counted::default();
        let mut next_sample = Instant::now();
        while init.reports.open {
            let now = Instant::now();
            if now >= next_sample {
                self.sample(&mut counted, facts);
                next_sample = now + SAMPLE_EVERY;
            }
            if facts.time_is_up(now) {
                facts.end(Cause::TimedOut, now + Duration::from_millis(self.order.workload.grace_ms));
                init.say(word::TERM);
            }
            if facts.kill_at.is_some_and(|at| now >= at) {
                // In a process namespace the kernel ends everybody with the first process; elsewhere `clean_up` does.
                init.child.kill().ok();
                facts.kill_at = None;
            }
            let wait = facts.next_deadline().map_or(next_sample, |at| at.min(next_sample));
            let (engine, reports) = wait_for(&mut self.engine, &mut init.reports, wait.saturating_duration_since(now));
            for line in engine {
                obey(&line, init, facts);
            }
            if !self.engine.open {
                facts.end(Cause::EngineGone, now);
            }
            for line in reports {
                self.note(&line, facts, &mut counted);
            }
        }
        facts.init = init.child.wait().ok();
        self.sample(&mut counted, facts);
        let children = getrusage(UsageWho::RUSAGE_CHILDREN).ok();
        let time_ms = |t: nix::sys::time::TimeVal| u64::try_from(t.tv_sec() * 1000 + t.tv_usec() / 1000).unwrap_or(0);
        if let Some(used) = children {
            counted.cpu_ms = counted.cpu_ms.max(time_ms(used.user_time()) + time_ms(used.system_time()));
            if self.order.group.is_none() {
                let peak = u64::try_from(used.max_rss()).unwrap_or(0).saturating_mul(1024);
                counted.memory_peak_bytes = counted.memory_peak_bytes.max(peak);
            }
        }
        counted
    }

    fn note(&self, line: &str, facts: &mut Facts, counted: &mut Counted) {
        let now = Instant::now();
        match serde_json::from_str(line) {
            Ok(Report::Running) => {
                let began = record::now_ms();
                facts.began_ms = Some(began);
                // What the engine cannot read it will not show; the end is told all the same.
                self.record.write_began(began).ok();
                let limit = self.order.workload.time_limit_ms.map(Duration::from_millis);
                facts.deadline = limit.and_then(|limit| now.checked_add(limit));
            }
            Ok(Report::Usage { cpu_ms, memory_bytes }) => {
                counted.cpu_ms = counted.cpu_ms.max(cpu_ms);
                counted.memory_peak_bytes = counted.memory_peak_bytes.max(memory_bytes);
            }
            Ok(Report::OverMemory) => facts.end(Cause::OverMemory, now),
            Ok(Report::OverProcesses) => facts.end(Cause::OverProcesses, now),
            Ok(Report::Ended { code, signal }) => facts.ended = Some((code, signal)),
            Ok(Report::Failed { step, why }) => facts.failed = Some(format!("{step}: {why}")),
            Ok(Report::Held) => facts.held = true,
            Err(_) => facts.failed = Some(format!("stage 2 said something else: {line}")),
        }
    }

    fn sample(&self, counted: &mut Counted, facts: &mut Facts) {
        if let Some(group) = &self.order.group {
            let used = group.used();
            counted.cpu_ms = counted.cpu_ms.max(used.cpu_ms);
            counted.memory_peak_bytes = counted.memory_peak_bytes.max(used.memory_peak_bytes);
            facts.oom_kills = used.oom_kills;
        }
        counted.at_ms = record::now_ms();
        // A sample that could not be kept is followed by another.
        self.record.write_counted(counted).ok();
    }

    /// Nothing of it may be left when the end is written down.
    fn clean_up(&self, facts: &mut Facts) {
        let mut left = !process::end_descendants(CLEAN_UP_MAX);
        if let Some(group) = &self.order.group {
            left |= !group.end_all(CLEAN_UP_MAX);
            if let Err(error) = group.remove() {
                facts.notes.push(format!("its cgroup could not be removed: {error}"));
            }
        }
        if left {
            facts.notes.push("some of its processes could not be ended".to_owned());
        }
        fs::remove_dir(self.order.root()).ok();
        if !self.order.guard.namespaces {
            fs::remove_dir_all(self.order.tmp()).ok();
        }
    }

    fn conclude(self, facts: &Facts, mut counted: Counted) -> ExitCode {
        counted.at_ms = record::now_ms();
        let exit = facts.verdict(counted.at_ms);
        let kept = self.record.write_counted(&counted).and_then(|()| self.record.write_exit(&exit));
        match kept {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                writeln!(io::stderr(), "the end could not be written down: {error}").ok();
                ExitCode::FAILURE
            }
        }
    }
}

/// What the engine asked for.
fn obey(line: &str, init: &mut Init, facts: &mut Facts) {
    let Some(grace_ms) = line.strip_prefix(word::STOP).and_then(|ms| ms.trim().parse().ok()) else { return };
    let kill_at = Instant::now() + Duration::from_millis(grace_ms);
    facts.end(Cause::Stopped, kill_at);
    init.say(word::TERM);
}

const SAMPLE_EVERY: Duration = Duration::from_millis(500);
const CLEAN_UP_MAX: Duration = Duration::from_secs(10);

/// Puts what this process starts next into a process namespace of its own, as the machine's administrator or, for
/// anybody else, as the administrator of a user namespace made for it.
fn separate() -> Result<(), String> {
    if Uid::effective().is_root() && unshare(CloneFlags::CLONE_NEWPID).is_ok() {
        return Ok(());
    }
    let ids = (Uid::effective(), Gid::effective());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWPID).map_err(|e| {
        format!("user and process namespaces: {e} (user namespaces may be switched off: see `sysctl user.max_user_namespaces kernel.unprivileged_userns_clone kernel.apparmor_restrict_unprivileged_userns`, or the container's seccomp profile)")
    })?;
    map_ids((0, 0), ids)
}

struct Init {
    child: Child,
    input: std::process::ChildStdin,
    reports: Lines,
}

impl Init {
    /// A word down the lifeline. If nobody reads it any more, the end is already on its way up.
    fn say(&mut self, what: &str) {
        writeln!(self.input, "{what}").ok();
    }
}

/// Why this stage ends a workload that would have gone on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Stopped,
    TimedOut,
    OverMemory,
    OverProcesses,
    EngineGone,
}

/// All that is known about one run.
#[derive(Default)]
struct Facts {
    began_ms: Option<u64>,
    deadline: Option<Instant>,
    kill_at: Option<Instant>,
    cause: Option<Cause>,
    ended: Option<(Option<i32>, Option<i32>)>,
    failed: Option<String>,
    held: bool,
    init: Option<ExitStatus>,
    oom_kills: u64,
    notes: Vec<String>,
}

impl Facts {
    /// The first cause stays; a later wish may only bring the end nearer.
    fn end(&mut self, cause: Cause, kill_at: Instant) {
        self.kill_at = match (self.cause, self.kill_at) {
            (None, _) => Some(kill_at),
            (Some(_), at) => at.map(|at| at.min(kill_at)),
        };
        self.cause.get_or_insert(cause);
    }

    fn time_is_up(&self, now: Instant) -> bool {
        self.cause.is_none() && self.deadline.is_some_and(|at| now >= at)
    }

    fn next_deadline(&self) -> Option<Instant> {
        let deadline = if self.cause.is_none() { self.deadline } else { None };
        [deadline, self.kill_at].into_iter().flatten().min()
    }

    /// How it ended, from what is known.
    fn verdict(&self, at_ms: u64) -> Exit {
        let (code, signal) = self.ended.unwrap_or((None, None));
        let (reason, message) = match (self.cause, &self.failed) {
            (Some(Cause::Stopped), _) => (Reason::Stopped, None),
            (Some(Cause::TimedOut), _) => (Reason::TimedOut, None),
            (Some(Cause::OverMemory), _) => (Reason::OutOfMemory, None),
            (Some(Cause::OverProcesses), _) => {
                (Reason::Failed, Some("more processes and threads than granted".to_owned()))
            }
            (Some(Cause::EngineGone), _) => (Reason::Lost, Some("the engine's process ended".to_owned())),
            (None, Some(why)) => (Reason::Failed, Some(why.clone())),
            (None, None) => self.own_end(code),
        };
        let message =
            message.into_iter().chain(self.notes.iter().cloned()).reduce(|all, note| format!("{all}; {note}"));
        Exit { reason, code, signal, message, began_ms: self.began_ms, at_ms }
    }

    fn own_end(&self, code: Option<i32>) -> (Reason, Option<String>) {
        match (self.ended, code) {
            _ if self.held => (Reason::Finished, None),
            (Some(_), Some(0)) => (Reason::Finished, None),
            // The kernel ended one of its processes, perhaps not the first: the failure is of memory all the same.
            _ if self.oom_kills > 0 => (Reason::OutOfMemory, None),
            (Some(_), _) => (Reason::Failed, None),
            (None, _) => {
                let how = self.init.map_or_else(|| "without a status".to_owned(), |status| status.to_string());
                (Reason::Lost, Some(format!("the sandbox ended before its program told how ({how})")))
            }
        }
    }
}

/// Lines out of a pipe, read without a thread and without reading ahead of what is there.
struct Lines {
    pipe: File,
    pending: Vec<u8>,
    open: bool,
}

/// Orders and reports are small; whoever sends more without a line's end is not one of ours.
const LINE_BYTES_MAX: usize = 4 << 20;

impl Lines {
    fn new(fd: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self { pipe: File::from(fd.try_clone_to_owned()?), pending: Vec::new(), open: true })
    }

    /// Waits for the next line.
    fn next_line(&mut self) -> io::Result<String> {
        loop {
            if let Some(line) = self.take() {
                return Ok(line);
            }
            if !self.open {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.fill();
        }
    }

    fn fill(&mut self) {
        let mut chunk = [0; 16 << 10];
        match self.pipe.read(&mut chunk) {
            Ok(0) => self.open = false,
            Ok(n) => self.pending.extend_from_slice(&chunk[..n]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => self.open = false,
        }
        self.open &= self.pending.len() <= LINE_BYTES_MAX;
    }

    fn take(&mut self) -> Option<String> {
        let end = self.pending.iter().position(|b| *b == b'\n')?;
        let line: Vec<u8> = self.pending.drain(..=end).collect();
        Some(String::from_utf8_lossy(&line[..end]).into_owned())
    }
}

/// Waits until one of the two says something, or for so long, and takes what is there.
fn wait_for(engine: &mut Lines, reports: &mut Lines, wait: Duration) -> (Vec<String>, Vec<String>) {
    // Rounded up: waking just before a deadline would only wait again.
    let ms = i32::try_from(wait.as_millis().saturating_add(1)).unwrap_or(i32::MAX);
    let timeout = PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX);
    let ready = {
        let mut fds = vec![PollFd::new(reports.pipe.as_fd(), PollFlags::POLLIN)];
        if engine.open {
            fds.push(PollFd::new(engine.pipe.as_fd(), PollFlags::POLLIN));
        }
        // Interrupted or failed, nothing is ready, and the caller looks at its deadlines and comes back.
        poll(&mut fds, timeout).ok();
        let at = |i: usize| fds.get(i).and_then(PollFd::any).unwrap_or(false);
        [at(0), at(1)]
    };
    if ready[0] {
        reports.fill();
    }
    if ready[1] {
        engine.fill();
    }
    let drain = |lines: &mut Lines| std::iter::from_fn(|| lines.take()).collect();
    (drain(engine), drain(reports))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(code: Option<i32>, signal: Option<i32>) -> Facts {
        Facts { ended: Some((code, signal)), ..Facts::default() }
    }

    #[test]
    fn the_end_is_told_as_it_was() {
        assert_eq!(ended(Some(0), None).verdict(1).reason, Reason::Finished);
        assert_eq!(ended(Some(3), None).verdict(1).reason, Reason::Failed);
        assert_eq!(ended(None, Some(11)).verdict(1).reason, Reason::Failed);
        assert_eq!(Facts { oom_kills: 1, ..ended(None, Some(9)) }.verdict(1).reason, Reason::OutOfMemory);
        assert_eq!(Facts { oom_kills: 1, ..ended(Some(0), None) }.verdict(1).reason, Reason::Finished, "it coped");
        assert_eq!(Facts { oom_kills: 1, ..Facts::default() }.verdict(1).reason, Reason::OutOfMemory);
        assert_eq!(Facts::default().verdict(1).reason, Reason::Lost, "nobody saw how: nobody guesses");
        let failed = Facts { failed: Some("program: no such file".to_owned()), ..Facts::default() }.verdict(1);
        assert_eq!((failed.reason, failed.message.as_deref()), (Reason::Failed, Some("program: no such file")));
    }

    #[test]
    fn the_first_cause_stays_and_a_later_wish_only_shortens_the_grace() {
        let now = Instant::now();
        let mut facts = ended(Some(0), None);
        facts.end(Cause::Stopped, now + Duration::from_mins(1));
        facts.end(Cause::TimedOut, now + Duration::from_mins(2));
        assert_eq!(facts.kill_at, Some(now + Duration::from_mins(1)));
        facts.end(Cause::EngineGone, now);
        assert_eq!(facts.kill_at, Some(now));
        assert_eq!(facts.verdict(1).reason, Reason::Stopped, "though it ended well when asked");
    }
}
