"""Processes: those of the host, the zygote and the guest's own that are to outlive it."""
# ruff: noqa: E501 -- guest code stands as it is run, a case a line

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from pathlib import Path

from attacks.model import Attack
from attacks.scene import Scene

NONE = {"full": "ESRCH", "container": "EPERM"}  # no such process; there, and out of the scope of Landlock


def _outlive(shell: str) -> str:
    return f"""
import subprocess
print(subprocess.run(["/bin/sh", "-c", {shell!r}], stdin=subprocess.DEVNULL).returncode)
"""


def _daemon(scene: Scene) -> str:
    """A double-forked daemon in a session of its own that ignores signals; what is left of it when its session has ended."""
    mark = f"belljar-daemon-{secrets.token_hex(4)}"
    daemon = f"""(setsid sh -c 'trap "" INT TERM HUP QUIT; while :; do sleep 0.1; done' {mark} >/dev/null 2>&1 &) ; sleep 0.1"""
    with scene.attacked(_outlive(daemon)):
        running = len(scene.processes_with(mark))
    deadline = time.monotonic() + 1.5
    while (left := scene.processes_with(mark)) and time.monotonic() < deadline:
        time.sleep(0.05)
    scene.end(left)
    return f"running {running > 0}, left {len(left)}"


def _orphan(ending: str, *words: str) -> Callable[[Scene], str]:
    """The same when the guest kills its own interpreter, by `ending`."""

    def drive(scene: Scene) -> str:
        mark = f"belljar-orphan-{secrets.token_hex(4)}"
        code = f"""
import subprocess
child = subprocess.Popen(["sh", "-c", "trap '' INT TERM HUP; while :; do sleep 0.1; done", "{mark}", *{words!r}], start_new_session=True)
time.sleep(0.1)
{ending}
"""
        with scene.attacked(code) as (sandbox, execution):
            alive = sandbox.alive
        deadline = time.monotonic() + 1.5
        while (left := scene.processes_with(mark)) and time.monotonic() < deadline:
            time.sleep(0.05)
        scene.end(left)
        return f"{execution.outcome}, alive {alive}, left {len(left)}"

    return drive


def _forked(ending: str) -> Callable[[Scene], str]:
    """The same with a child that is a fork of the interpreter."""

    def drive(scene: Scene) -> str:
        code = f"""
if os.fork() == 0:
    os.setsid()
    while True:
        with open("alive", "a") as file:
            file.write("x")
        time.sleep(0.02)
time.sleep(0.2)
{ending}
"""
        with scene.attacked(code) as (sandbox, execution):
            time.sleep(0.2)
            before = len(sandbox.read_file("alive"))
            time.sleep(0.2)
            return f"{execution.outcome}, alive {sandbox.alive}, runs on {len(sandbox.read_file('alive')) > before}"

    return drive


def _core(scene: Scene) -> str:
    """No core file anywhere that a crash could put it."""
    found = [
        path
        for folder in (scene.folder / "tmp", Path.cwd(), Path("/"))
        for path in folder.glob("core*")
        if path.is_file()
    ]
    return f"core files: {found}" if found else ""


def _parent_pid(scene: Scene) -> str:
    """Signals to the zygote: the parent in the container profile."""
    code = """
parent = os.getppid()
print(parent if parent == 0 else several(*(tried(os.kill, parent, number) for number in (0, signal.SIGSTOP, signal.SIGKILL))),
    "alive")
"""
    with scene.attacked(code) as (_, execution):
        return execution.stdout


KILL = """
pids = [@canary_pid@, @host_pid@, -@canary_pid@]
print(several(*(tried(os.kill, pid, number) for pid in pids for number in (0, 9, 15, 19))))
"""

ATTACKS = (
    Attack(
        name="list_host_processes",
        action="list /proc for processes other than the own",
        wall="pid namespace, own /proc; Landlock",
        code="""
found = tried(os.listdir, "/proc")
print(found if isinstance(found, str) else [name for name in found if name.isdigit() and int(name) != os.getpid()])
""",
        sees={"full": r"\[\]", "container": "EACCES"},
    ),
    Attack(
        name="look_at_host_process",
        action="read environ, mem, maps, cmdline, status, fd, root, cwd, exe of a host process of the same user",
        wall="pid namespace; Landlock",
        code="""
base = "/proc/@canary_pid@/"
print(several(*(read(base + name) for name in ("environ", "mem", "maps", "cmdline", "status", "syscall", "stack")),
    *(tried(os.readlink, base + name) for name in ("exe", "cwd", "root", "fd/0", "ns/mnt")), tried(os.listdir, base + "fd")))
""",
        sees={"full": "ENOENT", "container": "EACCES"},
    ),
    Attack(
        name="look_at_zygote",
        action="read memory, environment and descriptors of the zygote",
        wall="pid namespace; Landlock",
        code="""
base = f"/proc/{os.getppid()}/"
print(several(*(read(base + name) for name in ("environ", "mem", "maps", "cmdline")), tried(os.listdir, base + "fd")))
""",
        sees={"full": "ENOENT", "container": "EACCES"},
    ),
    Attack(
        name="kill_host_process",
        action="send signals 0, KILL, TERM, STOP to host processes of the same user and to their group",
        wall="pid namespace; Landlock (scope)",
        code=KILL,
        sees=NONE,
    ),
    Attack(
        name="kill_everything",
        action="kill(-1, SIGKILL), kill(0, SIGKILL) from a child",
        wall="pid namespace; Landlock (scope)",
        code="print(in_child(lambda: (os.kill(-1, 9), time.sleep(1))), in_child(lambda: (os.kill(0, 9), time.sleep(1))))",
        sees="((0|SIGKILL|99) SIGKILL)?",
        outcomes=("ok", "killed"),
    ),
    Attack(
        name="kill_zygote",
        action="signal the parent process, which forks all sandboxes",
        wall="pid namespace; Landlock (scope)",
        drive=_parent_pid,
        sees={"full": "0 alive", "container": "EPERM alive"},
    ),
    Attack(
        name="kill_by_other_calls",
        action="tkill, tgkill, rt_sigqueueinfo, pidfd_send_signal at a host process",
        wall="pid namespace; Landlock (scope)",
        code="""
pid = @canary_pid@
info = struct.pack("iiiiiQ", 15, 0, -1, 0, os.getpid(), 0) + bytes(100)
fd = call("pidfd_open", pid, 0)
print(several(call("tkill", pid, 9), call("tgkill", pid, pid, 9), call("rt_sigqueueinfo", pid, 9, info),
    fd if isinstance(fd, str) else call("pidfd_send_signal", fd, 9, 0, 0)))
""",
        sees={"full": "ESRCH|EINVAL ESRCH", "container": "EPERM"},
    ),
    Attack(
        name="signal_through_descriptor",
        action="have the kernel send SIGIO or SIGURG to a host process (F_SETOWN, F_SETSIG)",
        wall="pid namespace; seccomp",
        code="""
import fcntl, socket
ours, theirs = socket.socketpair()
print(several(tried(fcntl.fcntl, ours, fcntl.F_SETOWN, @canary_pid@), tried(fcntl.fcntl, ours, 15, struct.pack("ii", 1, @canary_pid@))))
""",
        sees={"full": "ESRCH", "container": "EPERM"},
    ),
    Attack(
        name="trace_processes",
        action="ptrace a host process, the parent, the own child; be traced",
        wall="seccomp",
        code="""
pids = (@canary_pid@, @host_pid@, os.getppid() or 1, 1)
print(several(*(call("ptrace", request, pid, 0, 0) for request in (16, 0x4206) for pid in pids), call("ptrace", 0, 0, 0, 0)))
""",
        sees="EPERM",
    ),
    Attack(
        name="read_foreign_memory",
        action="process_vm_readv, process_vm_writev, process_madvise, pidfd_getfd, kcmp",
        wall="seccomp",
        code="""
buffer = ctypes.create_string_buffer(64)
vector = struct.pack("QQ", ctypes.addressof(buffer), 64)
pids = (@canary_pid@, @host_pid@, os.getppid() or 1)
print(several(*(call(name, pid, vector, 1, vector, 1, 0) for name in ("process_vm_readv", "process_vm_writev") for pid in pids),
    call("pidfd_getfd", 3, 0, 0), call("kcmp", os.getpid(), pids[0], 0, 0, 0), call("process_madvise", 3, vector, 1, 21, 0),
    call("process_mrelease", 3, 0), call("get_robust_list", pids[0], buffer, buffer)))
""",
        sees="EPERM",
    ),
    Attack(
        name="limit_host_process",
        action="prlimit: lower the limits of a host process of the same user",
        wall="pid namespace; seccomp",
        code="""
import resource
print(several(*(tried(resource.prlimit, pid, resource.RLIMIT_NOFILE, (1, 1)) for pid in (@canary_pid@, @host_pid@, os.getppid() or @host_pid@))))
""",
        sees="EPERM",
    ),
    Attack(
        name="schedule_host_process",
        action="affinity, policy, niceness and I/O priority of host processes, singly and by user",
        wall="pid namespace; seccomp",
        code="""
pid = @canary_pid@
uid = os.getuid()
print(several(tried(os.sched_setaffinity, pid, {0}), tried(os.sched_setscheduler, pid, os.SCHED_IDLE, os.sched_param(0)),
    tried(os.setpriority, os.PRIO_PROCESS, pid, 19), call("ioprio_set", 1, pid, 3 << 13)))
tried(os.setpriority, os.PRIO_USER, uid, 19), tried(os.setpriority, os.PRIO_PGRP, pid, 19), call("ioprio_set", 3, uid, 3 << 13)
""",
        sees={"full": "ESRCH", "container": "EPERM"},
    ),
    Attack(
        name="spare_host_process_memory",
        action="move pages of host processes, write their oom_score_adj",
        wall="pid namespace; seccomp; Landlock",
        code="""
print(several(call("move_pages", @canary_pid@, 0, 0, 0, 0, 0), call("migrate_pages", @canary_pid@, 0, 0, 0)),
    write("/proc/@canary_pid@/oom_score_adj", b"1000"))
""",
        sees={"full": "EPERM ENOENT", "container": "EPERM EACCES"},
    ),
    Attack(
        name="time_host_process",
        action="read the processor clock of a host process",
        wall="pid namespace; seccomp",
        code="print(tried(time.clock_gettime, (~@canary_pid@ << 3) | 2))",
        sees="EINVAL",
    ),
    Attack(
        name="join_host_process_group",
        action="move into the process group or session of a host process",
        wall="pid namespace; the kernel",
        code="print(several(tried(os.setpgid, 0, @canary_pid@), tried(os.setpgid, @canary_pid@, 0)))",
        sees="(EPERM|ESRCH| )+",
    ),
    Attack(
        name="outlive_session_as_daemon",
        action="leave a double-forked daemon that ignores signals, and end the session",
        wall="the pid namespace ends with its first process",
        drive=_daemon,
        sees="running True, left 0",
    ),
    Attack(
        name="outlive_session_by_exit",
        action="leave a child, and end the interpreter with os._exit",
        wall="the pid namespace ends with its first process",
        drive=_orphan("os._exit(3)"),
        sees="exited, alive False, left 0",
    ),
    Attack(
        name="outlive_session_by_fork",
        action="leave a forked child, whose command line is the zygote's, and end the interpreter",
        wall="the pid namespace ends with its first process",
        drive=_forked("os._exit(0)"),
        sees="exited, alive False, runs on False",
    ),
    Attack(
        name="outlive_session_disguised",
        action="leave a child with the zygote's command line, and end the interpreter",
        wall="the pid namespace ends with its first process",
        drive=_orphan("os._exit(3)", "zygote"),
        sees="exited, alive False, left 0",
    ),
    Attack(
        name="outlive_session_by_crash",
        action="leave a child, and crash the interpreter",
        wall="the pid namespace ends with its first process",
        drive=_orphan("ctypes.string_at(0)"),
        sees="killed, alive False, left 0",
    ),
    Attack(
        name="fork_out_of_the_tree",
        action="make a child of the zygote's (CLONE_PARENT)",
        wall="seccomp",
        code='print(call("clone", 0x8000 | signal.SIGCHLD, 0))',
        sees="EPERM",
    ),
    Attack(
        name="push_terminal_input",
        action="TIOCSTI and TIOCLINUX on every descriptor",
        wall="seccomp; no terminal",
        code="""
import fcntl
print(several(*(tried(fcntl.ioctl, fd, request, b"x") for fd in (0, 1, 2, 3) for request in (0x5412, 0x541c))), tried(os.open, "/dev/tty", 2))
""",
        sees={"full": "ENOTTY ENOENT", "container": "ENOTTY (EACCES|ENXIO)"},
    ),
    Attack(
        name="dump_core",
        action="crash a child: no core file",
        wall="rlimits",
        code="""
import resource
print(in_child(lambda: ctypes.string_at(0)), resource.getrlimit(resource.RLIMIT_CORE)[1] <= 1, [n for n in os.listdir() if "core" in n])
""",
        sees=r"SIGSEGV True \[\]",
        after=_core,
    ),
    Attack(
        name="crash_into_host_core_handler",
        action="crash: the host's core handler (a pipe in core_pattern) is run for the guest unless RLIMIT_CORE is 1 (core(5))",
        wall="rlimits",
        code="import resource\nprint(resource.getrlimit(resource.RLIMIT_CORE))",
        sees=r"\(1, 1\)",
    ),
)
