//! seccomp: which system calls a workload may make.
//!
//! Two filters, and a call must pass both. The first lists what programs need; all else, and every call
//! a newer kernel may bring, answers "no such call" (`ENOSYS`), which C libraries take as a reason to use an older one.
//! The second looks at arguments, which no list can, and answers "not permitted" (`EPERM`).
//!
//! A list of what is allowed, not of what is forbidden: `io_uring`, the 32-bit and x32 doors into the kernel, and what
//! is invented tomorrow are closed without being named. It follows the list container engines have used for years,
//! less what only an administrator needs.

use std::collections::BTreeMap;

use nix::libc as c;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter,
};

/// Puts both filters on this thread and all that it starts. `no_new_privs` must be set.
pub(super) fn apply(network: bool) -> Result<(), String> {
    let arch = std::env::consts::ARCH.try_into().map_err(|e: seccompiler::BackendError| e.to_string())?;
    let errno = |code: i32| SeccompAction::Errno(code.unsigned_abs());
    let arguments = refused_arguments(network).map_err(|e| e.to_string())?;
    let list = ALLOWED.iter().chain(ALLOWED_ON_ARCH).map(|call| (*call, Vec::new())).collect();
    // Where both refuse, the kernel gives the answer of the newer one.
    let filters = [
        SeccompFilter::new(list, errno(c::ENOSYS), SeccompAction::Allow, arch),
        SeccompFilter::new(arguments, SeccompAction::Allow, errno(c::EPERM), arch),
    ];
    for filter in filters {
        let program: BpfProgram = filter.and_then(TryInto::try_into).map_err(|e| e.to_string())?;
        apply_filter(&program).map_err(|e| e.to_string())?;
    }
    Ok(())
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn refused_arguments(network: bool) -> Result<Rules, seccompiler::BackendError> {
    let mut rules = Rules::new();
    // Named again, though the list lacks them, for the sake of a message that fits: programs try these.
    for call in [c::SYS_mount, c::SYS_umount2, c::SYS_ptrace, c::SYS_unshare, c::SYS_setns, c::SYS_bpf, c::SYS_keyctl] {
        rules.insert(call, Vec::new());
    }
    let has =
        |arg: u8, bits: u64| SeccompCondition::new(arg, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(bits), bits);
    let is = |arg: u8, value: u64| SeccompCondition::new(arg, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value);
    let not = |arg: u8, value: u64| SeccompCondition::new(arg, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, value);

    // No namespaces of its own: they open kernel code that needs privileges otherwise.
    let spaces = [
        c::CLONE_NEWUSER,
        c::CLONE_NEWNS,
        c::CLONE_NEWPID,
        c::CLONE_NEWNET,
        c::CLONE_NEWIPC,
        c::CLONE_NEWUTS,
        c::CLONE_NEWCGROUP,
    ];
    for flag in spaces {
        add(&mut rules, c::SYS_clone, vec![has(0, u64::from(flag.unsigned_abs()))?])?;
    }
    // Unix sockets only, or the internet's too: never packets, virtual machines' doors, kernel crypto.
    let mut families = vec![not(0, constant(c::AF_UNIX))?];
    if network {
        families.extend([
            not(0, constant(c::AF_INET))?,
            not(0, constant(c::AF_INET6))?,
            not(0, constant(c::AF_NETLINK))?,
        ]);
    }
    add(&mut rules, c::SYS_socket, families)?;
    // No pushing of keys into somebody's terminal.
    for request in [c::TIOCSTI, c::TIOCLINUX] {
        add(&mut rules, c::SYS_ioctl, vec![is(1, request)?])?;
    }
    // No file that lends its owner's identity: the owner is a user of the machine, and the file may outlive the sandbox.
    for bit in [c::S_ISUID, c::S_ISGID].map(u64::from) {
        for (call, mode) in MODE_CALLS.iter().chain(MODE_CALLS_ON_ARCH) {
            add(&mut rules, *call, vec![has(*mode, bit)?])?;
        }
        for (call, flags) in OPEN_CALLS.iter().chain(OPEN_CALLS_ON_ARCH) {
            for creates in [constant(c::O_CREAT), constant(c::O_TMPFILE & !c::O_DIRECTORY)] {
                add(&mut rules, *call, vec![has(*flags, creates)?, has(flags + 1, bit)?])?;
            }
        }
    }
    Ok(rules)
}

fn constant(value: i32) -> u64 {
    u64::from(value.unsigned_abs())
}

fn add(rules: &mut Rules, call: i64, all_of: Vec<SeccompCondition>) -> Result<(), seccompiler::BackendError> {
    rules.entry(call).or_default().push(SeccompRule::new(all_of)?);
    Ok(())
}

/// Calls that set a file's mode, with the place of the mode among their arguments.
const MODE_CALLS: &[(i64, u8)] = &[(c::SYS_fchmod, 1), (c::SYS_fchmodat, 2), (c::SYS_mknodat, 2)];
/// Calls that may make a file, with the place of their flags; the mode comes next.
const OPEN_CALLS: &[(i64, u8)] = &[(c::SYS_openat, 2)];

#[cfg(target_arch = "x86_64")]
const MODE_CALLS_ON_ARCH: &[(i64, u8)] = &[(c::SYS_chmod, 1), (c::SYS_creat, 1), (c::SYS_mknod, 1)];
#[cfg(not(target_arch = "x86_64"))]
const MODE_CALLS_ON_ARCH: &[(i64, u8)] = &[];
#[cfg(target_arch = "x86_64")]
const OPEN_CALLS_ON_ARCH: &[(i64, u8)] = &[(c::SYS_open, 1)];
#[cfg(not(target_arch = "x86_64"))]
const OPEN_CALLS_ON_ARCH: &[(i64, u8)] = &[];

/// What programs need, on every architecture.
const ALLOWED: &[i64] = &[
    c::SYS_accept,
    c::SYS_accept4,
    c::SYS_bind,
    c::SYS_brk,
    c::SYS_capget,
    c::SYS_capset,
    c::SYS_chdir,
    c::SYS_clock_getres,
    c::SYS_clock_gettime,
    c::SYS_clock_nanosleep,
    c::SYS_clone,
    c::SYS_close,
    c::SYS_close_range,
    c::SYS_connect,
    c::SYS_copy_file_range,
    c::SYS_dup,
    c::SYS_dup3,
    c::SYS_epoll_create1,
    c::SYS_epoll_ctl,
    c::SYS_epoll_pwait,
    c::SYS_epoll_pwait2,
    c::SYS_eventfd2,
    c::SYS_execve,
    c::SYS_execveat,
    c::SYS_exit,
    c::SYS_exit_group,
    c::SYS_faccessat,
    c::SYS_faccessat2,
    c::SYS_fadvise64,
    c::SYS_fallocate,
    c::SYS_fchdir,
    c::SYS_fchmod,
    c::SYS_fchmodat,
    c::SYS_fchown,
    c::SYS_fchownat,
    c::SYS_fcntl,
    c::SYS_fdatasync,
    c::SYS_fgetxattr,
    c::SYS_flistxattr,
    c::SYS_flock,
    c::SYS_fremovexattr,
    c::SYS_fsetxattr,
    c::SYS_fstat,
    c::SYS_fstatfs,
    c::SYS_fsync,
    c::SYS_ftruncate,
    c::SYS_futex,
    c::SYS_futex_waitv,
    c::SYS_get_mempolicy,
    c::SYS_get_robust_list,
    c::SYS_getcpu,
    c::SYS_getcwd,
    c::SYS_getdents64,
    c::SYS_getegid,
    c::SYS_geteuid,
    c::SYS_getgid,
    c::SYS_getgroups,
    c::SYS_getitimer,
    c::SYS_getpeername,
    c::SYS_getpgid,
    c::SYS_getpid,
    c::SYS_getppid,
    c::SYS_getpriority,
    c::SYS_getrandom,
    c::SYS_getresgid,
    c::SYS_getresuid,
    c::SYS_getrusage,
    c::SYS_getsid,
    c::SYS_getsockname,
    c::SYS_getsockopt,
    c::SYS_gettid,
    c::SYS_gettimeofday,
    c::SYS_getuid,
    c::SYS_getxattr,
    c::SYS_inotify_add_watch,
    c::SYS_inotify_init1,
    c::SYS_inotify_rm_watch,
    c::SYS_ioctl,
    c::SYS_ioprio_get,
    c::SYS_ioprio_set,
    c::SYS_kcmp,
    c::SYS_kill,
    c::SYS_landlock_add_rule,
    c::SYS_landlock_create_ruleset,
    c::SYS_landlock_restrict_self,
    c::SYS_lgetxattr,
    c::SYS_linkat,
    c::SYS_listen,
    c::SYS_listxattr,
    c::SYS_llistxattr,
    c::SYS_lremovexattr,
    c::SYS_lseek,
    c::SYS_lsetxattr,
    c::SYS_madvise,
    c::SYS_mbind,
    c::SYS_membarrier,
    c::SYS_memfd_create,
    c::SYS_mincore,
    c::SYS_mkdirat,
    c::SYS_mknodat,
    c::SYS_mlock,
    c::SYS_mlock2,
    c::SYS_mlockall,
    c::SYS_mmap,
    c::SYS_mprotect,
    c::SYS_mq_getsetattr,
    c::SYS_mq_notify,
    c::SYS_mq_open,
    c::SYS_mq_timedreceive,
    c::SYS_mq_timedsend,
    c::SYS_mq_unlink,
    c::SYS_mremap,
    c::SYS_msgctl,
    c::SYS_msgget,
    c::SYS_msgrcv,
    c::SYS_msgsnd,
    c::SYS_msync,
    c::SYS_munlock,
    c::SYS_munlockall,
    c::SYS_munmap,
    c::SYS_nanosleep,
    c::SYS_newfstatat,
    c::SYS_openat,
    c::SYS_pidfd_open,
    c::SYS_pidfd_send_signal,
    c::SYS_pipe2,
    c::SYS_pkey_alloc,
    c::SYS_pkey_free,
    c::SYS_pkey_mprotect,
    c::SYS_ppoll,
    c::SYS_prctl,
    c::SYS_pread64,
    c::SYS_preadv,
    c::SYS_preadv2,
    c::SYS_prlimit64,
    c::SYS_pselect6,
    c::SYS_pwrite64,
    c::SYS_pwritev,
    c::SYS_pwritev2,
    c::SYS_read,
    c::SYS_readahead,
    c::SYS_readlinkat,
    c::SYS_readv,
    c::SYS_recvfrom,
    c::SYS_recvmmsg,
    c::SYS_recvmsg,
    c::SYS_removexattr,
    c::SYS_renameat2,
    c::SYS_restart_syscall,
    c::SYS_rseq,
    c::SYS_rt_sigaction,
    c::SYS_rt_sigpending,
    c::SYS_rt_sigprocmask,
    c::SYS_rt_sigqueueinfo,
    c::SYS_rt_sigreturn,
    c::SYS_rt_sigsuspend,
    c::SYS_rt_sigtimedwait,
    c::SYS_rt_tgsigqueueinfo,
    c::SYS_sched_get_priority_max,
    c::SYS_sched_get_priority_min,
    c::SYS_sched_getaffinity,
    c::SYS_sched_getattr,
    c::SYS_sched_getparam,
    c::SYS_sched_getscheduler,
    c::SYS_sched_rr_get_interval,
    c::SYS_sched_setaffinity,
    c::SYS_sched_setattr,
    c::SYS_sched_setparam,
    c::SYS_sched_setscheduler,
    c::SYS_sched_yield,
    c::SYS_seccomp,
    c::SYS_semctl,
    c::SYS_semget,
    c::SYS_semop,
    c::SYS_semtimedop,
    c::SYS_sendfile,
    c::SYS_sendmmsg,
    c::SYS_sendmsg,
    c::SYS_sendto,
    c::SYS_set_mempolicy,
    c::SYS_set_robust_list,
    c::SYS_set_tid_address,
    c::SYS_setfsgid,
    c::SYS_setfsuid,
    c::SYS_setgid,
    c::SYS_setgroups,
    c::SYS_setitimer,
    c::SYS_setpgid,
    c::SYS_setpriority,
    c::SYS_setregid,
    c::SYS_setresgid,
    c::SYS_setresuid,
    c::SYS_setreuid,
    c::SYS_setsid,
    c::SYS_setsockopt,
    c::SYS_setuid,
    c::SYS_setxattr,
    c::SYS_shmat,
    c::SYS_shmctl,
    c::SYS_shmdt,
    c::SYS_shmget,
    c::SYS_shutdown,
    c::SYS_sigaltstack,
    c::SYS_signalfd4,
    c::SYS_socket,
    c::SYS_socketpair,
    c::SYS_splice,
    c::SYS_statfs,
    c::SYS_statx,
    c::SYS_symlinkat,
    c::SYS_sync,
    c::SYS_syncfs,
    c::SYS_sysinfo,
    c::SYS_tee,
    c::SYS_tgkill,
    c::SYS_timer_create,
    c::SYS_timer_delete,
    c::SYS_timer_getoverrun,
    c::SYS_timer_gettime,
    c::SYS_timer_settime,
    c::SYS_timerfd_create,
    c::SYS_timerfd_gettime,
    c::SYS_timerfd_settime,
    c::SYS_times,
    c::SYS_tkill,
    c::SYS_truncate,
    c::SYS_umask,
    c::SYS_uname,
    c::SYS_unlinkat,
    c::SYS_utimensat,
    c::SYS_vmsplice,
    c::SYS_wait4,
    c::SYS_waitid,
    c::SYS_write,
    c::SYS_writev,
];
/// The older names of some of these.
#[cfg(target_arch = "x86_64")]
const ALLOWED_ON_ARCH: &[i64] = &[
    c::SYS_access,
    c::SYS_alarm,
    c::SYS_arch_prctl,
    c::SYS_chmod,
    c::SYS_chown,
    c::SYS_creat,
    c::SYS_dup2,
    c::SYS_epoll_create,
    c::SYS_epoll_wait,
    c::SYS_eventfd,
    c::SYS_fork,
    c::SYS_futimesat,
    c::SYS_getdents,
    c::SYS_getpgrp,
    c::SYS_getrlimit,
    c::SYS_inotify_init,
    c::SYS_lchown,
    c::SYS_link,
    c::SYS_lstat,
    c::SYS_mkdir,
    c::SYS_mknod,
    c::SYS_open,
    c::SYS_pause,
    c::SYS_pipe,
    c::SYS_poll,
    c::SYS_readlink,
    c::SYS_rename,
    c::SYS_renameat,
    c::SYS_rmdir,
    c::SYS_select,
    c::SYS_setrlimit,
    c::SYS_signalfd,
    c::SYS_stat,
    c::SYS_symlink,
    c::SYS_sync_file_range,
    c::SYS_time,
    c::SYS_unlink,
    c::SYS_utime,
    c::SYS_utimes,
    c::SYS_vfork,
];
/// `renameat`, `sync_file_range`, `getrlimit`, `setrlimit`: the generic table's numbers, which `libc` does not name here.
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_ON_ARCH: &[i64] = &[38, 84, 163, 164];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_an_administrator_or_an_intruder_needs_is_not_on_the_list() {
        let dangerous = [
            c::SYS_ptrace,
            c::SYS_process_vm_readv,
            c::SYS_process_vm_writev,
            c::SYS_mount,
            c::SYS_umount2,
            c::SYS_pivot_root,
            c::SYS_chroot,
            c::SYS_open_tree,
            c::SYS_move_mount,
            c::SYS_fsopen,
            c::SYS_unshare,
            c::SYS_setns,
            c::SYS_clone3,
            c::SYS_keyctl,
            c::SYS_add_key,
            c::SYS_request_key,
            c::SYS_bpf,
            c::SYS_perf_event_open,
            c::SYS_userfaultfd,
            c::SYS_io_uring_setup,
            c::SYS_io_uring_enter,
            c::SYS_kexec_load,
            c::SYS_init_module,
            c::SYS_finit_module,
            c::SYS_delete_module,
            c::SYS_open_by_handle_at,
            c::SYS_reboot,
            c::SYS_swapon,
            c::SYS_syslog,
            c::SYS_clock_settime,
            c::SYS_pidfd_getfd,
            c::SYS_openat2,
        ];
        for call in dangerous {
            assert!(!ALLOWED.contains(&call) && !ALLOWED_ON_ARCH.contains(&call), "call {call} is allowed");
        }
    }

    #[test]
    fn a_network_opens_the_internet_s_sockets_and_no_others() {
        let conditions = |network| refused_arguments(network).unwrap()[&c::SYS_socket].clone();
        assert_ne!(conditions(false), conditions(true));
        assert_eq!(
            conditions(true).len(),
            1,
            "all families are excluded by one rule, so that none is let in by another"
        );
    }
}
