"""What is tried on this host to learn what it gives: one small action for each facility, made in a child of its own.

Promises: `attempt` returns or raises within its deadline and leaves no process, mount or namespace. An action that
returns has seen the facility work: a filter is loaded and refuses what worked before, a read-only mount takes no file.
Call it from a process with one thread, as it forks. Sources: the manual pages of the calls, landlock(7).
"""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import select
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

from belljar.guest import kernel as k
from belljar.sandbox.seccomp import build_filter

TRIAL_SECONDS = 5.0
ANSWER_BYTES = 4096
NOBODY = 65534  # an ordinary user to try as, where we are root


def attempt(action: Callable[[], str], seconds: float = TRIAL_SECONDS) -> str:
    """Run `action` in a forked child; its answer. Raises the child's OSError, or TimeoutError. Leaves no process."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        _answer(action, writer)
    os.close(writer)
    deadline = time.monotonic() + seconds
    answer = b""
    try:
        while len(answer) < ANSWER_BYTES:
            if not select.select([reader], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError(errno.ETIMEDOUT, f"no answer within {seconds:g} s")
            if not (data := os.read(reader, ANSWER_BYTES)):
                break
            answer += data
    finally:
        os.close(reader)
        for kill in (os.kill, os.killpg):  # the group too: it is the child's own, unless it died before it made it
            with contextlib.suppress(OSError):
                kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    number, _, text = answer.decode(errors="replace").partition(" ")
    if number != "0":
        raise OSError(int(number or errno.ECHILD), text or "the child died")
    return text


def _answer(action: Callable[[], str], writer: int) -> None:
    """In the child: never returns. The answer is an errno (0 is good) and a text."""
    text = f"{errno.EIO} "
    try:
        os.setsid()
        k.prctl(k.PR_SET_PDEATHSIG, signal.SIGKILL)
        text = f"0 {action()}"
    except OSError as error:
        text = f"{error.errno or errno.EIO} {error.strerror or error}"
    except BaseException as error:
        text = f"{errno.EIO} {type(error).__name__}: {error}"
    finally:
        try:
            os.write(writer, text.encode()[:ANSWER_BYTES])
        finally:
            os._exit(0)


# --- namespaces and mounts --------------------------------------------------------------------------------------------


def user_namespace() -> str:
    """A user namespace in which this process is root, with its capabilities. Raises OSError."""
    user, group = os.geteuid(), os.getegid()
    k.unshare(k.CLONE_NEWUSER)
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
        Path(f"/proc/self/{name}").write_text(text, encoding="ascii")
    k.unshare(k.CLONE_NEWUTS)  # AppArmor gives the namespace, and takes the capabilities away
    return f"as uid {user}"


def ordinary_user_namespace() -> str:
    """The same as somebody who is not root. Raises OSError."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        k.prctl(k.PR_SET_DUMPABLE, 1)  # setuid made /proc/self the property of root
    return user_namespace()


def _enter(flags: int) -> None:
    """Enter namespaces in the way in which a zygote would: root directly, others in a user namespace of their own."""
    if os.geteuid() != 0:
        user_namespace()
    k.unshare(flags)


def namespace(flag: int) -> Callable[[], str]:
    """An action that enters a namespace of this kind."""

    def action() -> str:
        _enter(flag)
        return ""

    return action


def _private_mounts() -> None:
    _enter(k.CLONE_NEWNS)
    k.mount(None, "/", None, k.MS_REC | k.MS_PRIVATE)


def mount_tmpfs() -> str:
    """A tmpfs in a mount namespace of our own. Raises OSError."""
    _private_mounts()
    k.mount("tmpfs", "/tmp", "tmpfs", k.MS_NOSUID | k.MS_NODEV, "size=1m")
    return ""


def mount_proc() -> str:
    """A /proc of a new pid namespace: the kernel refuses where something is mounted over parts of the host's."""
    _private_mounts()
    k.unshare(k.CLONE_NEWPID)
    child = os.fork()
    if child == 0:
        code = 0
        try:
            k.prctl(k.PR_SET_PDEATHSIG, signal.SIGKILL)
            k.mount("proc", "/proc", "proc", k.MS_NOSUID | k.MS_NODEV | k.MS_NOEXEC, "subset=pid,hidepid=invisible")
        except OSError as error:
            code = error.errno or errno.EIO
        os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        raise OSError(abs(code), f"mount proc: {os.strerror(abs(code))}")
    return "of a pid namespace of its own"


def make_pivot_root() -> str:
    """A new root in a mount namespace of our own. Raises OSError."""
    mount_tmpfs()
    os.mkdir("/tmp/old")
    k.pivot_root("/tmp", "/tmp/old")
    return ""


def make_read_only() -> str:
    """A mount made read-only, and seen to be. Raises OSError."""
    mount_tmpfs()
    k.mount_setattr("/tmp", k.MOUNT_ATTR_RDONLY)
    try:
        os.mkdir("/tmp/probe")
    except OSError as error:
        if error.errno == errno.EROFS:
            return "read-only holds"
    raise OSError(errno.EIO, "a read-only mount could be written to")


# --- walls without namespaces -----------------------------------------------------------------------------------------


def no_new_privs() -> str:
    """Set, and read back from the kernel. Raises OSError."""
    k.prctl(k.PR_SET_NO_NEW_PRIVS, 1)
    if "NoNewPrivs:\t1" not in Path("/proc/self/status").read_text(encoding="ascii"):
        raise OSError(errno.EIO, "the kernel does not say that it is set")
    return ""


def seccomp() -> str:
    """The filter of the container profile is loaded, and refuses a socket that could be made before. Raises OSError."""
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()
    program = build_filter("container", platform.machine())
    k.prctl(k.PR_SET_NO_NEW_PRIVS, 1)
    k.load_seccomp(program)
    try:
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    except OSError:
        return f"a filter of {len(program) // 8} instructions holds"
    raise OSError(errno.EIO, "the filter does not hold")


def landlock() -> str:
    """Under a ruleset without rules a folder that could be read is closed. Raises OSError."""
    folder = str(Path(__file__).parent)
    os.listdir(folder)
    k.prctl(k.PR_SET_NO_NEW_PRIVS, 1)
    ruleset = k.landlock_ruleset(k.LANDLOCK_FS["read_file"] | k.LANDLOCK_FS["read_dir"], 0, 0)
    k.landlock_restrict_self(ruleset)
    try:
        os.listdir(folder)
    except PermissionError:
        return f"ABI {k.landlock_abi()}"
    raise OSError(errno.EIO, "a folder could be read in spite of it")


def openat2() -> str:
    """A path that leads outside is refused. Raises OSError."""
    os.close(k.openat2(k.AT_FDCWD, "/", os.O_RDONLY | os.O_DIRECTORY, 0, 0))
    root = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    try:
        k.openat2(root, "..", os.O_RDONLY | os.O_DIRECTORY, 0, k.RESOLVE_BENEATH)
    except OSError as error:
        if error.errno == errno.EXDEV:
            return "RESOLVE_BENEATH holds"
        raise
    raise OSError(errno.EIO, "RESOLVE_BENEATH does not hold")


def pidfd() -> str:
    """A process is named by a descriptor and sent a signal. Raises OSError."""
    k.pidfd_send_signal(k.pidfd_open(os.getpid()), 0)
    return ""
