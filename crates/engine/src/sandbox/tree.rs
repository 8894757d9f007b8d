//! The private file tree: an empty root, the system's programs read-only, a few harmless devices, the workload's mounts.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::pivot_root;

use super::wire::Order;
use crate::Network;

/// Folders of programs and libraries. A link (as on merged systems) stays a link.
const SYSTEM: [&str; 8] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store", "/gnu/store"];

/// What programs look for in `/etc`, and that holds no secret. Not `/etc/ssl` as a whole: it has a folder for keys.
const ETC: [&str; 12] = [
    "alternatives",
    "ca-certificates",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "magic",
    "mime.types",
    "pki/tls/certs",
    "ssl/certs",
    "ssl/openssl.cnf",
    "terminfo",
];

/// Needed to find names and hosts, only useful with a network.
const ETC_NETWORK: [&str; 6] = ["gai.conf", "hosts", "nsswitch.conf", "protocols", "resolv.conf", "services"];

const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];

/// Parts of `/proc` through which even an unprivileged owner could learn about the machine.
const PROC_HIDDEN: [&str; 8] =
    ["kcore", "keys", "key-users", "kmsg", "timer_list", "sched_debug", "latency_stats", "kpagecount"];

/// Builds the tree and makes it the root of this process's mount namespace. The old root is gone afterwards.
///
/// It runs in a mount, process and network namespace of its own, with the privilege to mount there.
pub(super) fn build(order: &Order) -> Result<(), String> {
    let none = None::<&str>;
    let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(none, "/", none, flags, none).map_err(|e| format!("keeping mounts private: {e}"))?;
    let tree = Tree { root: order.root() };
    tree.tmpfs("/", "size=4m,nr_inodes=4k,mode=755")?;
    tree.system(order)?;
    tree.proc()?;
    tree.dev(order)?;
    let size = order.workload.resources.memory_bytes;
    for dir in ["/tmp", "/dev/shm"] {
        tree.tmpfs(dir, &format!("size={size},mode=1777"))?;
    }
    tree.link("/tmp", "/var/tmp")?;
    tree.visible(order)?;
    for wanted in &order.workload.mounts {
        let source = fs::canonicalize(&wanted.source).map_err(|e| format!("mount {}: {e}", wanted.source.display()))?;
        tree.bind(&source, &wanted.target, wanted.read_only, MsFlags::MS_NODEV)?;
    }
    tree.enter()
}

/// Besides the order's own list: the executable itself, so that it can be the workload (`gregal lm train`).
fn visible(order: &Order) -> BTreeSet<PathBuf> {
    let exe = std::env::current_exe().ok();
    let wanted = order.visible.iter().chain(&order.gpus.libraries).cloned().chain(exe);
    wanted.filter(|path| !SYSTEM.iter().any(|dir| path.starts_with(dir))).collect()
}

/// What Landlock lets a workload write, besides its mounts.
pub(super) const WRITABLE: [&str; 2] = ["/tmp", "/dev"];

struct Tree {
    root: PathBuf,
}

impl Tree {
    fn at(&self, inside: impl AsRef<Path>) -> PathBuf {
        let inside = inside.as_ref();
        self.root.join(inside.strip_prefix("/").unwrap_or(inside))
    }

    fn system(&self, order: &Order) -> Result<(), String> {
        for dir in SYSTEM.map(Path::new) {
            match fs::read_link(dir) {
                Ok(target) => self.link(target, dir)?,
                Err(_) if dir.is_dir() => self.bind(dir, dir, true, MsFlags::MS_NODEV)?,
                Err(_) => {}
            }
        }
        let host = order.workload.network == Network::Host;
        let etc = ETC.iter().chain(if host { ETC_NETWORK.as_slice() } else { &[] });
        for path in etc.map(|name| Path::new("/etc").join(name)).filter(|path| path.exists()) {
            let source = fs::canonicalize(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            self.bind(&source, &path, true, MsFlags::MS_NODEV)?;
        }
        let (uid, gid) = super::init::IDS_INSIDE;
        self.file(
            "/etc/passwd",
            &format!("job:x:{uid}:{gid}:job:/tmp:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"),
        )?;
        self.file("/etc/group", &format!("job:x:{gid}:\nnogroup:x:65534:\n"))?;
        if !host {
            self.file("/etc/hosts", "127.0.0.1 localhost\n")?;
        }
        // Numbers and topology of the processors, which libraries size their thread pools by.
        let cpus = Path::new("/sys/devices/system");
        let inert = MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        if cpus.is_dir() {
            self.bind(cpus, cpus, true, inert)?;
        }
        order.gpus.modules.iter().try_for_each(|file| self.bind(&file.source, &file.inside, true, inert))
    }

    fn proc(&self) -> Result<(), String> {
        let proc = self.dir("/proc")?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("proc"), &proc, Some("proc"), flags, None::<&str>)
            .map_err(|e| format!("a /proc of its own: {e}"))?;
        // What is not about a process is the machine's: every `/proc` shows the same. As a user who owns it outside, a
        // workload could write to it or change its modes, for all that run on the machine.
        let entries = fs::read_dir(&proc).map_err(|e| format!("listing /proc: {e}"))?;
        for entry in entries {
            let entry = entry.map_err(|e| format!("listing /proc: {e}"))?;
            let (path, name) = (entry.path(), entry.file_name());
            let of_a_process = name.as_encoded_bytes().iter().all(u8::is_ascii_digit);
            if of_a_process || path.is_symlink() {
                continue;
            }
            let hidden = PROC_HIDDEN.iter().any(|hidden| name == *hidden);
            let source = if hidden { Path::new("/dev/null") } else { &path };
            bind_one(source, &path)
                .and_then(|()| restrict(&path, flags | MsFlags::MS_RDONLY))
                .map_err(|e| format!("closing {}: {e}", path.display()))?;
        }
        Ok(())
    }

    fn dev(&self, order: &Order) -> Result<(), String> {
        self.tmpfs("/dev", "size=64k,mode=755")?;
        let dev = Path::new("/dev");
        let harmless = DEVICES.iter().map(|name| (dev.join(name), dev.join(name)));
        let granted = order.gpus.devices.iter().map(|device| (device.source.clone(), device.inside.clone()));
        for (source, inside) in harmless.chain(granted) {
            let target = self.empty_file(&inside)?;
            // A device can be written to on a read-only mount; its mode, which is the machine's, cannot be changed.
            let closed = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
            bind_one(&source, &target)
                .and_then(|()| restrict(&target, closed))
                .map_err(|e| format!("device {}: {e}", source.display()))?;
        }
        for (name, target) in [("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")] {
            self.link(format!("/proc/self/fd{target}"), Path::new("/dev").join(name))?;
        }
        Ok(())
    }

    /// What is asked for through a link is shown where it leads, for other links may lead there, and then at its own place,
    /// unless a folder around it shows the link already.
    fn visible(&self, order: &Order) -> Result<(), String> {
        let found = visible(order).into_iter().filter_map(|path| Some((fs::canonicalize(&path).ok()?, path)));
        let (real, links): (Vec<_>, Vec<_>) = found.partition(|(source, path)| source == path);
        let real: BTreeSet<_> = real.into_iter().chain(links.iter().cloned()).map(|(source, _)| source).collect();
        for source in real.iter().filter(|path| !SYSTEM.iter().any(|dir| path.starts_with(dir))) {
            self.bind(source, source, true, MsFlags::MS_NODEV)?;
        }
        for (source, path) in links.iter().filter(|(_, path)| fs::symlink_metadata(self.at(path)).is_err()) {
            self.bind(source, path, true, MsFlags::MS_NODEV)?;
        }
        Ok(())
    }

    fn tmpfs(&self, inside: &str, options: &str) -> Result<(), String> {
        let dir = self.dir(inside)?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("tmpfs"), &dir, Some("tmpfs"), flags, Some(options)).map_err(|e| format!("an empty {inside}: {e}"))
    }

    /// Shows `source` of the machine at `inside`, with all that is mounted below it, never with more rights than asked.
    fn bind(&self, source: &Path, inside: &Path, read_only: bool, extra: MsFlags) -> Result<(), String> {
        let fail = |e: io::Error| format!("mount {} at {}: {e}", source.display(), inside.display());
        let target = if source.is_dir() { self.dir(inside)? } else { self.empty_file(inside)? };
        let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
        mount(Some(source), &target, None::<&str>, flags, None::<&str>).map_err(|e| fail(e.into()))?;
        let mut flags = extra | MsFlags::MS_NOSUID;
        flags.set(MsFlags::MS_RDONLY, read_only);
        for point in mounts_below(&target).map_err(fail)? {
            restrict(&point, flags).map_err(|e| fail(e.into()))?;
        }
        Ok(())
    }

    fn dir(&self, inside: impl AsRef<Path>) -> Result<PathBuf, String> {
        let dir = self.at(inside);
        fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        Ok(dir)
    }

    fn empty_file(&self, inside: &Path) -> Result<PathBuf, String> {
        let path = self.at(inside);
        if let Some(parent) = inside.parent() {
            self.dir(parent)?;
        }
        if !path.exists() {
            fs::write(&path, "").map_err(|e| format!("{}: {e}", path.display()))?;
        }
        Ok(path)
    }

    fn file(&self, inside: &str, text: &str) -> Result<(), String> {
        let path = self.empty_file(Path::new(inside))?;
        fs::write(&path, text)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o644)))
            .map_err(|e| format!("{inside}: {e}"))
    }

    fn link(&self, target: impl AsRef<Path>, inside: impl AsRef<Path>) -> Result<(), String> {
        let inside = inside.as_ref();
        if let Some(parent) = inside.parent() {
            self.dir(parent)?;
        }
        symlink(target, self.at(inside)).map_err(|e| format!("link {}: {e}", inside.display()))
    }

    /// Makes the tree the root, lets the old one go, and closes the tree for writing.
    fn enter(&self) -> Result<(), String> {
        let fail = |e: nix::Error| format!("entering the private file tree: {e}");
        nix::unistd::chdir(&self.root).map_err(fail)?;
        // The old root lands on top of the new one, and is taken away: no folder is needed to put it in.
        pivot_root(".", ".").map_err(fail)?;
        umount2(".", MntFlags::MNT_DETACH).map_err(fail)?;
        nix::unistd::chdir("/").map_err(fail)?;
        let closed = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        restrict(Path::new("/"), closed).map_err(fail)
    }
}

fn bind_one(source: &Path, target: &Path) -> nix::Result<()> {
    mount(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
}

/// Takes rights off one mount. Those it lacks already stay lacking: the kernel insists on it for mounts that came from
/// a more privileged namespace.
fn restrict(point: &Path, flags: MsFlags) -> nix::Result<()> {
    let has = statvfs(point)?.flags();
    let kept = [
        (FsFlags::ST_RDONLY, MsFlags::MS_RDONLY),
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
        (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
        (FsFlags::ST_RELATIME, MsFlags::MS_RELATIME),
    ];
    let kept =
        kept.iter().filter(|(theirs, _)| has.contains(*theirs)).fold(MsFlags::empty(), |all, (_, ours)| all | *ours);
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | flags | kept;
    mount(None::<&str>, point, None::<&str>, flags, None::<&str>)
}

/// The mount at `target` and those below it, as the kernel lists them.
fn mounts_below(target: &Path) -> io::Result<Vec<PathBuf>> {
    let text = fs::read_to_string("/proc/self/mountinfo")?;
    let points = text.lines().filter_map(|line| Some(unescaped(line.split(' ').nth(4)?)));
    Ok(points.filter(|point| point.starts_with(target)).collect::<BTreeSet<_>>().into_iter().collect())
}

/// The kernel writes space, tab, newline and backslash of a path as three octal digits.
fn unescaped(path: &str) -> PathBuf {
    let escapes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    PathBuf::from(escapes.iter().fold(path.to_owned(), |path, (code, char)| path.replace(code, char)))
}
