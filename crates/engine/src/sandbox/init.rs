//! Stage 2: the first process inside. It puts the walls up around itself, begins the program, reaps, and waits.

use std::fs;
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, unshare};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::sys::{prctl, statvfs::statvfs};
use nix::unistd::{Gid, Pid, Uid};

use super::process;
use super::rules::Rules;
use super::wire::{Order, Report, word};
use super::{filter, rules, tree};
use crate::{Network, Workload};

/// User and group of every workload, as it sees itself.
pub(super) const IDS_INSIDE: (u32, u32) = (1000, 1000);

/// Runs stage 2. Its whole life is one order.
pub(super) fn init() -> ExitCode {
    let mut line = String::new();
    let read = io::stdin().lock().read_line(&mut line);
    let Ok(order) = read.map_err(|_| ()).and_then(|_| serde_json::from_str::<Order>(&line).map_err(|_| ())) else {
        return ExitCode::from(2);
    };
    let outcome = run(&order).unwrap_or_else(|(step, why)| Report::Failed { step: step.to_owned(), why });
    report(&outcome);
    // Whatever is left dies with this process where it is the namespace's first; elsewhere it must be ended by hand.
    end_all(&order);
    ExitCode::SUCCESS
}

type Step<T = ()> = Result<T, (&'static str, String)>;

fn run(order: &Order) -> Step<Report> {
    let log = |path: &Path| {
        let opened = fs::OpenOptions::new().append(true).create(true).open(path);
        opened.map_err(|e| ("log", format!("{}: {e}", path.display())))
    };
    let logs = (log(&order.workload.stdout)?, log(&order.workload.stderr)?);
    if order.guard.namespaces {
        namespaces(order).map_err(|why| ("namespaces", why))?;
        tree::build(order).map_err(|why| ("files", why))?;
        own_user(order).map_err(|why| ("privileges", why))?;
    } else {
        prctl::set_child_subreaper(true).map_err(|e| ("processes", e.to_string()))?;
        fs::create_dir_all(order.tmp()).map_err(|e| ("files", format!("a folder for temporary files: {e}")))?;
    }
    limits(order).map_err(|e| ("limits", e.to_string()))?;
    prctl::set_no_new_privs().map_err(|e| ("privileges", e.to_string()))?;
    if order.guard.landlock {
        let mut allowed = landlock_rules(order);
        if order.rehearsal {
            // What could be written otherwise shall show that the rules refuse it.
            allowed.writable.clear();
        }
        rules::apply(&allowed).map_err(|why| ("landlock", why))?;
    }
    // Nobody inside may look into this process, which holds the lifelines.
    prctl::set_dumpable(false).map_err(|e| ("privileges", e.to_string()))?;
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(|e| ("processes", e.to_string()))?;
    if order.guard.seccomp {
        filter::apply(order.workload.network == Network::Host).map_err(|why| ("seccomp", why))?;
    }
    if order.rehearsal {
        return look(order).map(|()| Report::Held);
    }
    watch_lifeline(order);
    let child = begin(order, logs)?;
    report(&Report::Running);
    if order.group.is_none() {
        watch_limits(order);
    }
    Ok(reap(child))
}

fn namespaces(order: &Order) -> Result<(), String> {
    let mut flags = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS;
    flags.set(CloneFlags::CLONE_NEWNET, order.workload.network == Network::None);
    unshare(flags).map_err(|e| format!("unshare: {e}"))?;
    // Kernels before 4.6 and some hosts know none; it only hides a name.
    unshare(CloneFlags::CLONE_NEWCGROUP).ok();
    nix::unistd::sethostname("job").map_err(|e| format!("a host name of its own: {e}"))
}

/// Becomes a user who owns nothing inside, and has no capability left once the program begins.
fn own_user(order: &Order) -> Result<(), String> {
    // Only the machine's administrator has groups to give up and may be somebody else.
    let admin = Uid::effective().is_root() && nix::unistd::setgroups(&[]).is_ok();
    if let (true, Some((uid, gid))) = (admin, order.run_as) {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        nix::unistd::setresgid(gid, gid, gid).map_err(|e| format!("group {gid}: {e}"))?;
        nix::unistd::setresuid(uid, uid, uid).map_err(|e| format!("user {uid}: {e}"))?;
        // A change of user closes /proc/self to us, which the next lines write to.
        prctl::set_dumpable(true).map_err(|e| e.to_string())?;
    }
    let (uid, gid) = (Uid::effective(), Gid::effective());
    unshare(CloneFlags::CLONE_NEWUSER).map_err(|e| format!("a user namespace: {e}"))?;
    map_ids(IDS_INSIDE, (uid, gid))
}

/// Says that `inside` are `outside` in the user namespace just made.
pub(super) fn map_ids(inside: (u32, u32), outside: (Uid, Gid)) -> Result<(), String> {
    for (file, text) in [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("{} {} 1", inside.0, outside.0)),
        ("gid_map", format!("{} {} 1", inside.1, outside.1)),
    ] {
        fs::write(format!("/proc/self/{file}"), text).map_err(|e| format!("/proc/self/{file}: {e}"))?;
    }
    Ok(())
}

/// Room for this process and its threads, over what the workload may have.
const OWN_PIDS: u64 = 8;
const FILES_OPEN_MAX: u64 = 65_536;

fn limits(order: &Order) -> nix::Result<()> {
    let granted = &order.workload.resources;
    lower(Resource::RLIMIT_CORE, 0)?;
    lower(Resource::RLIMIT_NOFILE, FILES_OPEN_MAX)?;
    lower(Resource::RLIMIT_FSIZE, granted.file_bytes_max)?;
    if order.group.is_some() {
        return Ok(());
    }
    // A stop for what grows faster than `watch_limits` looks, so well above the grant: stacks count here before they are
    // used. Drivers of GPUs reserve more address space than there is memory, but not as private data: not RLIMIT_AS.
    lower(Resource::RLIMIT_DATA, granted.memory_bytes.saturating_mul(2).saturating_add(256 << 20))?;
    if let Some(cpu_s) = cpu_seconds_max(&order.workload) {
        lower(Resource::RLIMIT_CPU, cpu_s)?;
    }
    if order.guard.namespaces {
        // Counted for each user namespace since Linux 5.14. Before, it would count the user's other processes too.
        if kernel_at_least(5, 14) {
            lower(Resource::RLIMIT_NPROC, granted.pids_max.saturating_add(OWN_PIDS))?;
        }
    }
    pin(granted.cpus_milli.div_ceil(1000), &order.workload)
}

/// All cores granted, busy for the whole time limit.
fn cpu_seconds_max(workload: &Workload) -> Option<u64> {
    let seconds = workload.time_limit_ms?.saturating_add(workload.grace_ms).div_ceil(1000);
    Some(seconds.saturating_mul(workload.resources.cpus_milli.div_ceil(1000)).saturating_add(1))
}

fn lower(which: Resource, to: u64) -> nix::Result<()> {
    let (_, hard) = getrlimit(which)?;
    let to = to.min(hard);
    setrlimit(which, to, to)
}

fn kernel_at_least(major: u32, minor: u32) -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(['.', '-']).map_while(|n| n.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(major), Some(minor))
}

/// Without cgroups a share of a core cannot be given, but whole cores can.
fn pin(cores: u64, workload: &Workload) -> nix::Result<()> {
    let own = nix::sched::sched_getaffinity(Pid::from_raw(0))?;
    let usable: Vec<usize> = (0..CpuSet::count()).filter(|cpu| own.is_set(*cpu).unwrap_or(false)).collect();
    let wanted = usize::try_from(cores).unwrap_or(usize::MAX);
    if usable.is_empty() || wanted >= usable.len() {
        return Ok(());
    }
    // Neighbours start at different cores, by their names.
    let start = workload.id.as_str().bytes().fold(0_usize, |sum, b| sum.wrapping_mul(31).wrapping_add(usize::from(b)));
    let mut set = CpuSet::new();
    for at in 0..wanted {
        set.set(usable[(start % usable.len() + at) % usable.len()])?;
    }
    sched_setaffinity(Pid::from_raw(0), &set)
}

fn landlock_rules(order: &Order) -> Rules {
    let network = order.workload.network == Network::Host;
    if order.guard.namespaces {
        let own = tree::WRITABLE.iter().map(PathBuf::from);
        let mounts = order.workload.mounts.iter().filter(|m| !m.read_only).map(|m| m.target.clone());
        // CUDA names its threads through `/proc/self/task/*/comm` and gives up where it may not. A rule holds one process's
        // folder by its inode, so it must be all of `/proc`: what there is of the machine's is closed by `tree`.
        let existing = if order.gpus.is_none() { Vec::new() } else { vec!["/proc".into()] };
        return Rules { readable: vec!["/".into()], writable: own.chain(mounts).collect(), existing, network };
    }
    let system = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store", "/proc", "/sys/devices/system"];
    let etc =
        ["/etc/ld.so.cache", "/etc/ssl/certs", "/etc/localtime", "/etc/alternatives", "/etc/resolv.conf", "/etc/hosts"];
    let system = system.iter().chain(&etc).map(PathBuf::from);
    let exe = std::env::current_exe().ok();
    let (readable, writable): (Vec<_>, Vec<_>) = order.workload.mounts.iter().partition(|m| m.read_only);
    let sources = |mounts: Vec<&crate::Mount>| mounts.iter().map(|m| m.source.clone()).collect::<Vec<_>>();
    let devices = ["null", "zero", "full", "random", "urandom"].map(|d| Path::new("/dev").join(d));
    Rules {
        readable: system.chain(exe).chain(order.visible.iter().cloned()).chain(sources(readable)).collect(),
        writable: sources(writable).into_iter().chain([order.tmp()]).chain(devices).collect(),
        // Here `/proc` is the machine's own, which is one reason why no GPU is granted without namespaces.
        existing: Vec::new(),
        network,
    }
}

/// A rehearsal's last step: what was put up is tried, for a call that succeeds is not yet a wall that holds.
fn look(order: &Order) -> Step {
    // Unsharing nothing is allowed to everybody, so only the filter can refuse it.
    if order.guard.seccomp && unshare(CloneFlags::empty()) != Err(nix::Error::EPERM) {
        return Err(("seccomp", "a forbidden call was not refused".to_owned()));
    }
    if order.guard.landlock && fs::write(order.tmp().join("probe"), "x").is_ok() {
        return Err(("landlock", "a forbidden write was not refused".to_owned()));
    }
    if order.guard.namespaces {
        let devices = fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
        if let Some(name) = devices.lines().filter_map(|l| Some(l.split_once(':')?.0.trim())).find(|name| *name != "lo")
        {
            return Err(("network", format!("the interface `{name}` is visible")));
        }
        if std::process::id() != 1 || process::all().iter().any(|p| p.pid != 1) {
            return Err(("processes", "other processes are visible".to_owned()));
        }
        if order.entry.exists() {
            return Err(("files", "the machine's own files are visible".to_owned()));
        }
    }
    Ok(())
}

fn begin(order: &Order, (stdout, stderr): (fs::File, fs::File)) -> Step<i32> {
    let workload = order.translated();
    let tmp = order.tmp();
    let program = workload.argv.first().cloned().unwrap_or_default();
    let mut command = Command::new(&program);
    command
        .args(workload.argv.iter().skip(1))
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", &tmp)
        .env("TMPDIR", &tmp)
        .envs(thread_pools(&workload))
        .envs(order.gpus.libraries.iter().map(|folder| ("LD_LIBRARY_PATH", folder)))
        .envs(&workload.env)
        .current_dir(workload.workdir.as_ref().unwrap_or(&tmp))
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr);
    // Without a tree of its own the GPUs' files may be in reach of one that was granted none, and unset would mean all.
    if !order.gpus.is_none() || !order.guard.namespaces {
        command.env("CUDA_VISIBLE_DEVICES", order.gpus.uuids.join(","));
    }
    // The program is looked up by this process, so in the path that the workload will have.
    let child = command.spawn().map_err(|e| ("program", format!("cannot begin `{program}`: {e}")))?;
    i32::try_from(child.id()).map_err(|e| ("program", e.to_string()))
}

/// Numeric libraries make a thread for every core they see, which is the machine's, and several have a pool each: on a large
/// machine that is more than the processes a workload may have.
fn thread_pools(workload: &Workload) -> [(&'static str, String); 2] {
    let cores = workload.resources.cpus_milli.div_ceil(1000).to_string();
    [("OMP_NUM_THREADS", cores.clone()), ("OPENBLAS_NUM_THREADS", cores)]
}

/// Waits for every process that comes to an end, and for the program in particular.
fn reap(child: i32) -> Report {
    use nix::sys::wait::WaitStatus;
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, code)) if pid.as_raw() == child => {
                return Report::Ended { code: Some(code), signal: None };
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid.as_raw() == child => {
                return Report::Ended { code: None, signal: Some(signal as i32) };
            }
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(error) => {
                return Report::Failed { step: "program".to_owned(), why: format!("waiting for it: {error}") };
            }
        }
    }
}

/// Obeys stage 1, and ends everything when stage 1 is gone.
fn watch_lifeline(order: &Order) {
    let order = order.clone();
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            match line.as_deref() {
                Ok(word::TERM) => signal_all(&order, Signal::SIGTERM),
                Ok(_) => {}
                Err(_) => break,
            }
        }
        end_all(&order);
        std::process::exit(0);
    });
}

const WATCH_EVERY: Duration = Duration::from_millis(100);

/// Limits of the whole, where the kernel only limits each process. Between two looks a workload can exceed them.
fn watch_limits(order: &Order) {
    let order = order.clone();
    std::thread::spawn(move || {
        loop {
            let (mut threads, mut ticks, mut memory) = (0_u64, 0_u64, private_files_bytes(&order));
            for process in inside(&order) {
                threads = threads.saturating_add(process.threads);
                ticks = ticks.saturating_add(process.ticks);
                memory = memory.saturating_add(process.memory_bytes);
            }
            report(&Report::Usage { cpu_ms: process::ticks_ms(ticks), memory_bytes: memory });
            let granted = &order.workload.resources;
            if memory > granted.memory_bytes {
                report(&Report::OverMemory);
                end_all(&order);
            } else if threads > granted.pids_max {
                report(&Report::OverProcesses);
                end_all(&order);
            }
            std::thread::sleep(WATCH_EVERY);
        }
    });
}

/// Files in the private temporary folders are memory too.
fn private_files_bytes(order: &Order) -> u64 {
    if !order.guard.namespaces {
        return 0;
    }
    let used = |path: &str| {
        let fs = statvfs(path).ok()?;
        Some(fs.blocks().saturating_sub(fs.blocks_free()).saturating_mul(fs.fragment_size()))
    };
    ["/tmp", "/dev/shm"].into_iter().filter_map(used).fold(0, u64::saturating_add)
}

fn inside(order: &Order) -> Vec<process::Process> {
    let own = i32::try_from(std::process::id()).unwrap_or(1);
    if order.guard.namespaces {
        process::all().into_iter().filter(|p| p.pid != own).collect()
    } else {
        process::descendants(own)
    }
}

fn signal_all(order: &Order, signal: Signal) {
    if order.guard.namespaces {
        // Everybody in this process namespace but ourselves, at once. No process at all is an error, and fine.
        kill(Pid::from_raw(-1), signal).ok();
    } else {
        for process in inside(order) {
            kill(Pid::from_raw(process.pid), signal).ok();
        }
    }
}

fn end_all(order: &Order) {
    if order.guard.namespaces {
        signal_all(order, Signal::SIGKILL);
    } else {
        // Whoever reaps the program first, this or the reaping loop, is fine: why it ended was told before.
        process::end_descendants(Duration::from_secs(5));
    }
}

fn report(report: &Report) {
    let mut out = io::stdout().lock();
    // Stage 1 being gone is noticed at the lifeline, not here.
    if let Ok(line) = serde_json::to_string(report) {
        writeln!(out, "{line}").and_then(|()| out.flush()).ok();
    }
}
