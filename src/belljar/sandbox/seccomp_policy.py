"""What a guest may ask of the kernel: one verdict for every system call in each profile, with the reason beside it.

Profiles. `full`: the guest has its own user, pid, mount, net, ipc and uts namespaces and a read-only root; seccomp's
work is a small kernel surface. `container`: it has none of them, Landlock (ABI 6 or newer) keeps its files and signals,
and everything else that reaches past the process is refused here.

The answers. EPERM: refused. ENOSYS: not offered, so that callers take the path they have for older kernels. "pretend":
success without doing anything, where refusing breaks programs and doing it would reach outside.

Not covered: what an allowed call does once it is allowed, and the budgets that one user id has on the whole host;
`VISIBLE` says what the container profile leaves open.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from belljar.sandbox import seccomp_verdicts as v
from belljar.sandbox.seccomp_verdicts import ALLOW, ENOSYS, ENOTSUP, EPERM, PRETEND, Profile, Verdict

UNKNOWN = ENOSYS  # a number that the table does not have: newer than it, so that glibc falls back


@dataclass(frozen=True, kw_only=True)
class Rule:
    """The verdicts on some calls, for one reason."""

    names: tuple[str, ...]
    reason: str
    full: Verdict
    container: Verdict


def _rule(names: str, reason: str, full: Verdict, container: Verdict | None = None) -> Rule:
    return Rule(names=tuple(names.split()), reason=reason, full=full, container=container or full)


def _allow(names: str, reason: str) -> Rule:
    return _rule(names, reason, ALLOW)


def _refuse(names: str, reason: str) -> Rule:
    return _rule(names, reason, EPERM)


def _omit(names: str, reason: str) -> Rule:
    return _rule(names, reason, ENOSYS)


DATA = (
    _allow("read write pread64 pwrite64 readv writev preadv pwritev preadv2 pwritev2 lseek close", "input and output"),
    _allow("sendfile copy_file_range splice tee", "copies between descriptors (shutil, os.splice, cat)"),
    _allow("dup dup2 dup3 pipe pipe2 close_range", "descriptors and pipes (subprocess, multiprocessing)"),
    _allow("poll ppoll select pselect6", "waiting for descriptors"),
    _allow("epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2", "asyncio's event loop"),
    _allow("eventfd eventfd2 signalfd signalfd4", "wake-ups between threads, signals as data; the own process only"),
    _allow("timerfd_create timerfd_settime timerfd_gettime", "timers as descriptors; the clocks are a fixed list"),
    _rule("fcntl", "descriptor flags and record locks; no signals to others", v.fcntl("full"), v.fcntl("container")),
    _allow("flock", "locks on files that the guest may open anyway (filelock, joblib)"),
    _rule("ioctl", "a list of harmless requests; never TIOCSTI, TIOCLINUX", v.ioctl("full"), v.ioctl("container")),
)

FILES = (
    _allow("stat fstat lstat newfstatat statx access faccessat faccessat2 statfs fstatfs", "looking at files"),
    _allow("getdents getdents64 readlink readlinkat getcwd chdir fchdir umask", "folders and the working folder"),
    _allow("mkdir mkdirat rmdir unlink unlinkat rename renameat renameat2", "changing folders: Landlock decides where"),
    _allow("link linkat symlink symlinkat", "links: Landlock decides where"),
    _allow("truncate ftruncate fallocate", "sizes of files that the guest may write"),
    _allow("fsync fdatasync sync_file_range", "sqlite waits for its own file"),
    _rule("sync syncfs", "would write back the whole host's files; a guest's data ends with it", PRETEND),
    _rule("open", "no set-id programs left behind for other users of the host", v.open_creating(1)),
    _rule("openat", "no set-id programs left behind for other users of the host", v.open_creating(2)),
    _rule("creat", "no set-id programs left behind for other users of the host", v.chmod(1)),
    _omit("openat2", "its flags and mode are in memory, where no filter sees them"),
    _rule("mknod", "no device nodes, no sockets", v.mknod(1)),
    _rule("mknodat", "no device nodes, no sockets", v.mknod(2)),
    _rule("chmod fchmod", "Landlock does not cover modes; copying a file must not fail", v.chmod(1), PRETEND),
    _rule("fchmodat fchmodat2", "Landlock does not cover modes; copying a file must not fail", v.chmod(2), PRETEND),
    _rule("utime utimes futimesat utimensat", "Landlock does not cover times; touch must not fail", ALLOW, PRETEND),
    _rule("chown fchown lchown fchownat", "one id in the user namespace; Landlock is no help", ALLOW, EPERM),
    _rule(
        "getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr setxattr lsetxattr fsetxattr "
        "removexattr lremovexattr fremovexattr",
        "shutil.copy2 takes them along; Landlock covers neither reading nor writing them",
        ALLOW,
        ENOTSUP,
    ),
    _rule("setxattrat getxattrat listxattrat removexattrat", "nothing uses them yet (6.13)", ENOSYS, ENOTSUP),
    _refuse(
        "inotify_init inotify_init1 inotify_add_watch inotify_rm_watch",
        "what is shared are the host's inodes: a watcher sees what other guests open; instances count by user",
    ),
    _allow("readahead", "reading ahead in an open file"),
    _rule("fadvise64", "advice on own reading; not throwing shared files out of the page cache", v.FADVISE),
    _refuse("cachestat mincore", "what others have read (page cache side channel)"),
    _refuse("fanotify_init fanotify_mark", "watches whole file systems"),
    _refuse("name_to_handle_at open_by_handle_at", "opens files past every path check"),
    _refuse("file_getattr file_setattr", "inode flags (immutable, quota project); like FS_IOC_FSSETXATTR"),
    _refuse("quotactl quotactl_fd ustat sysfs lookup_dcookie nfsservctl uselib", "administration, most of it dead"),
)

MEMORY = (
    _allow("mmap munmap mprotect mremap msync brk", "memory; with PROT_EXEC, which numba and libffi need"),
    _rule("madvise", "advice on own memory; not page merging or eviction, through which guests see others", v.MADVISE),
    _allow("mlock mlock2 munlock munlockall", "keys of crypto libraries; RLIMIT_MEMLOCK bounds it"),
    _refuse("mlockall", "would pin all that the guest will ever map"),
    _refuse("memfd_create memfd_secret", "programs that are in no file system; memory that the host cannot look into"),
    _refuse("mbind set_mempolicy get_mempolicy set_mempolicy_home_node", "NUMA placement of memory that may be shared"),
    _refuse("move_pages migrate_pages", "NUMA moving, of other processes' pages as well"),
    _refuse("userfaultfd", "stops the kernel in mid-copy: the tool of most heap exploits"),
    _refuse("remap_file_pages vmsplice", "history of kernel bugs, no users left"),
    _refuse("process_vm_readv process_vm_writev process_madvise process_mrelease", "other processes' memory"),
    _omit("pkey_mprotect pkey_alloc pkey_free mseal map_shadow_stack", "hardening of own memory, optional for all"),
)

PROCESSES = (
    _allow("fork vfork execve exit exit_group wait4 waitid", "processes (subprocess, multiprocessing)"),
    _rule("clone", "threads and processes, no namespaces", v.CLONE),
    _omit("clone3", "its flags are in memory, where no filter sees them; glibc falls back to clone"),
    _refuse("execveat", "would run what only a descriptor names"),
    _allow("getpid getppid gettid getpgid getpgrp getsid setsid setpgid pidfd_open", "processes, groups and sessions"),
    _allow("getuid geteuid getgid getegid getresuid getresgid getgroups capget", "reading the own ids"),
    _refuse(
        "setuid setgid setreuid setregid setresuid setresgid setfsuid setfsgid setgroups capset",
        "ids and capabilities stay what the walls made them",
    ),
    _allow("set_tid_address set_robust_list futex rseq sched_yield restart_syscall", "threads and locks"),
    _omit("futex_waitv futex_wake futex_wait futex_requeue", "no library needs them (5.16, 6.7)"),
    _refuse("get_robust_list", "pointers in other processes"),
    _rule("membarrier", "ordering of memory between own threads", v.MEMBARRIER),
    _rule("arch_prctl", "thread-local storage and register state", v.ARCH_PRCTL),
    _rule("prctl", "names and reading; not PR_SET_PDEATHSIG: walls rely on it", v.prctl("full"), v.prctl("container")),
    _rule("personality", "no switching off of address randomisation", v.PERSONALITY),
    _allow("getrlimit getrusage times sysinfo uname getcpu getrandom", "own limits and account; the machine"),
    _rule("setrlimit", "own limits, but for the core dump's, which keeps the host's handler away", v.NO_CORE_LIMIT),
    _rule("prlimit64", "limits of the own process, but for setting the core dump's; glibc's getrlimit", v.OWN_LIMITS),
    _rule("setpriority getpriority", "niceness; by user or group it would reach outside", ALLOW, v.SELF_PRIORITY),
    _rule("ioprio_set ioprio_get", "io priority; by user or group it would reach outside", ALLOW, v.SELF_IOPRIO),
    _rule("sched_setscheduler sched_setparam sched_setattr sched_setaffinity", "own scheduling", ALLOW, v.SELF),
    _allow(
        "sched_getscheduler sched_getparam sched_getattr sched_getaffinity sched_rr_get_interval "
        "sched_get_priority_max sched_get_priority_min",
        "glibc and OpenMP ask about threads by id",
    ),
    _refuse("ptrace kcmp pidfd_getfd", "looks into other processes; nothing to debug here"),
    _refuse("unshare setns chroot", "new or other namespaces and roots: the kernel's largest surface"),
)

SIGNALS_AND_TIME = (
    _allow(
        "rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigtimedwait rt_sigsuspend sigaltstack pause",
        "the own signals",
    ),
    _allow(
        "kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_send_signal",
        "signals; the pid namespace, or Landlock's signal scope (ABI 6), says to whom",
    ),
    _allow("nanosleep alarm getitimer setitimer time gettimeofday", "sleeping and reading the time"),
    _allow("timer_settime timer_gettime timer_getoverrun timer_delete", "the own timers"),
    _rule("clock_gettime clock_getres clock_nanosleep timer_create", "clocks", ALLOW, v.CLOCK),
    _refuse("settimeofday clock_settime adjtimex clock_adjtime", "the host's clock"),
)

SOCKETS = (
    _rule(
        "socket",
        "loopback in its own network namespace; without one a new socket could reach the host's",
        v.SOCKET,
        EPERM,
    ),
    _rule("socketpair", "asyncio; but a datagram socket can send to any path", v.SOCKETPAIR, v.STREAM_PAIR),
    _rule("bind listen accept accept4 connect", "loopback servers; without a namespace the host's", ALLOW, EPERM),
    _rule("sendmmsg recvmmsg", "glibc's resolver; of no use on a stream pair", ALLOW, EPERM),
    _allow("sendto sendmsg recvfrom recvmsg shutdown", "data; a connected stream refuses addresses (EISCONN)"),
    _allow("getsockname getpeername", "names of own sockets"),
    _rule(
        "setsockopt",
        "no filters, no upper-layer protocols, no netfilter",
        v.socket_option(v.SOCKET_OPTIONS, "full"),
        v.socket_option(v.SOCKET_OPTIONS, "container"),
    ),
    _rule(
        "getsockopt",
        "no descriptors of peers, no netfilter",
        v.socket_option(v.SOCKET_OPTIONS_READ, "full"),
        v.socket_option(v.SOCKET_OPTIONS_READ, "container"),
    ),
)

KERNEL = (
    _refuse("mount umount2 pivot_root swapon swapoff acct", "administration of file systems"),
    _refuse("open_tree move_mount fsopen fsconfig fsmount fspick mount_setattr open_tree_attr", "the new mount calls"),
    _refuse("statmount listmount", "shows mounts outside"),
    _refuse("bpf perf_event_open", "programs and counters in the kernel"),
    _refuse("io_uring_setup io_uring_enter io_uring_register", "does calls that no filter sees"),
    _refuse("io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents", "a budget shared by the whole host"),
    _refuse("add_key request_key keyctl", "keyrings are in no namespace of the guest's"),
    _refuse("shmget shmat shmctl shmdt semget semop semctl semtimedop msgget msgsnd msgrcv msgctl", "System V IPC"),
    _refuse("mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr", "POSIX message queues"),
    _refuse("seccomp", "a guest's filter could ask for a supervisor of its own"),
    _refuse("landlock_create_ruleset landlock_add_rule landlock_restrict_self", "walls are not the guest's to build"),
    _refuse("lsm_get_self_attr lsm_set_self_attr lsm_list_modules", "security modules of the host"),
    _refuse("kexec_load kexec_file_load reboot", "another kernel"),
    _refuse("init_module finit_module delete_module create_module query_module get_kernel_syms", "kernel modules"),
    _refuse("sethostname setdomainname vhangup syslog _sysctl", "administration of the host"),
    _refuse("iopl ioperm modify_ldt", "ports and segments of the machine"),
    _omit("afs_syscall getpmsg putpmsg security tuxcall vserver epoll_ctl_old epoll_wait_old", "never implemented"),
    _omit("set_thread_area get_thread_area", "not for 64-bit programs"),
    _omit("uretprobe uprobe", "the kernel's own, from its trampolines; Linux 6.14 shows them to no filter"),
)

SECTIONS: dict[str, tuple[Rule, ...]] = {
    "Data": DATA,
    "Files": FILES,
    "Memory": MEMORY,
    "Processes": PROCESSES,
    "Signals and time": SIGNALS_AND_TIME,
    "Sockets": SOCKETS,
    "The kernel": KERNEL,
}

# What the container profile leaves open, for docs/seccomp.md.
VISIBLE = (
    "Whether a process id exists, its scheduling and its session (kill with signal 0, sched_getscheduler, getsid).",
    "Names, sizes, owners and times of files, where the file system's own permissions allow it (stat, readlink).",
    "The host's name, load and memory (uname, sysinfo).",
    "Budgets of the user id, unless the guest has one of its own: pending signals, pipe pages, descriptors in flight, "
    "processes, locked memory. A guest can use them up for that id.",
    "Whatever descriptors it inherits: the host must hand over stream or seqpacket sockets only, as a datagram socket "
    "can send to any path.",
)

# What does not work for programs in the container profile, for docs/seccomp.md.
LOST = (
    "Every socket but socketpair: no servers or clients, not on loopback either. So no multiprocessing.Manager, "
    "Listener or forkserver (Python 3.14's default), which listen on Unix sockets; Pool, Queue and Pipe work with fork "
    "and spawn.",
    "Changing modes and times: chmod, and touch on a file that exists, succeed and change nothing.",
    "Extended attributes.",
    "Clocks of other threads (time.pthread_getcpuclockid), and pinning threads other than the caller to CPUs.",
)


@cache
def rules(profile: Profile) -> dict[str, Verdict]:
    """The verdict on each call, by name. Raises ValueError for a call that stands in two rules."""
    verdicts: dict[str, Verdict] = {}
    for rule in (rule for section in SECTIONS.values() for rule in section):
        for name in rule.names:
            if name in verdicts:
                raise ValueError(f"{name} has two rules")
            verdicts[name] = rule.full if profile == "full" else rule.container
    return verdicts
