"""What this host gives: each facility that a wall stands on, really tried where trying is possible.

Promises: a finding says how it is known (`tried`, `read` from the kernel, or `not tried`), and nothing is claimed without.
Every trial is made in a forked child in a session of its own, with a deadline, and leaves no process, mount or group.
Not covered: whether all of it together makes a sandbox; `try_profile` makes one to see.
Call it from a process with one thread, as it forks. Sources: the manual page of each call, landlock(7), sysctl/user.rst.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import errno
import os
import platform
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from belljar.errors import BelljarError
from belljar.guest import kernel as k
from belljar.sandbox import cgroup, image, plan, pool
from belljar.sandbox.base import MIB, Limits
from belljar.sandbox.seccomp import build_filter

TRIAL_SECONDS = 5.0
RUN_SECONDS = 60.0
ANSWER_BYTES = 4096
NOBODY = 65534  # an ordinary user to try as, where we are root
FULL, BOTH, NONE = ("full",), ("full", "container"), ()

# Landlock's ABIs and what each adds (landlock(7), Documentation/userspace-api/landlock.rst).
LANDLOCK_ABIS = {
    1: ("5.13", "files and folders"),
    2: ("5.19", "moving files between folders"),
    3: ("6.2", "truncating files"),
    4: ("6.7", "TCP ports"),
    5: ("6.10", "ioctl on devices"),
    6: ("6.12", "signals and abstract sockets kept in"),
    7: ("6.15", "audit of refusals"),
}


class State(enum.StrEnum):
    """What was found."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


class Basis(enum.StrEnum):
    """How it is known."""

    TRIED = "tried"
    READ = "read"
    NOT_TRIED = "not tried"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One facility of this host. `remedy` is the command or setting that would give it; `needed_by` are profiles."""

    name: str
    state: State
    basis: Basis
    detail: str = ""
    remedy: str = ""
    needed_by: tuple[str, ...] = NONE


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One sandbox in one profile: `seconds` from nothing to the end of `print(1)`; `reason` where there was none."""

    profile: str
    available: bool
    seconds: float | None = None
    limiter: str = ""
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """Something to try in a child: it raises OSError where the host refuses, and answers with a detail."""

    name: str
    action: Callable[[], str]
    needed_by: tuple[str, ...] = FULL
    remedy: Callable[[OSError], str] = lambda error: ""


# --- trying in a child ------------------------------------------------------------------------------------------------


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
        os.write(writer, text.encode()[:ANSWER_BYTES])
        os._exit(0)


def _find(trial: Attempt) -> Finding:
    try:
        return Finding(
            name=trial.name, state=State.YES, basis=Basis.TRIED, detail=attempt(trial.action), needed_by=trial.needed_by
        )
    except OSError as error:
        detail = error.strerror or str(error)
        state = State.UNKNOWN if isinstance(error, TimeoutError) else State.NO
        remedy = trial.remedy(error) if state is State.NO else ""
        return Finding(
            name=trial.name, state=state, basis=Basis.TRIED, detail=detail, remedy=remedy, needed_by=trial.needed_by
        )


# --- namespaces and mounts --------------------------------------------------------------------------------------------


def _enter_user_namespace() -> str:
    """A user namespace in which this process is root, with its capabilities. Raises OSError."""
    user, group = os.geteuid(), os.getegid()
    k.unshare(k.CLONE_NEWUSER)
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
        Path(f"/proc/self/{name}").write_text(text, encoding="ascii")
    k.unshare(k.CLONE_NEWUTS)  # AppArmor gives the namespace, and takes the capabilities away
    return f"as uid {user}"


def _as_ordinary_user() -> str:
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        k.prctl(k.PR_SET_DUMPABLE, 1)  # setuid made /proc/self the property of root
    return _enter_user_namespace()


def _enter(flags: int) -> None:
    """Enter namespaces in the way in which a zygote would: root directly, others in a user namespace of their own."""
    if os.geteuid() != 0:
        _enter_user_namespace()
    k.unshare(flags)


def _namespace(flag: int) -> Callable[[], str]:
    def action() -> str:
        _enter(flag)
        return ""

    return action


def _private_mounts() -> None:
    _enter(k.CLONE_NEWNS)
    k.mount(None, "/", None, k.MS_REC | k.MS_PRIVATE)


def _mount_tmpfs() -> str:
    _private_mounts()
    k.mount("tmpfs", "/tmp", "tmpfs", k.MS_NOSUID | k.MS_NODEV, "size=1m")  # noqa: S108
    return ""


def _mount_proc() -> str:
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


def _pivot_root() -> str:
    _mount_tmpfs()
    os.mkdir("/tmp/old")  # noqa: S108, PTH102 -- inside the tmpfs of our own
    k.pivot_root("/tmp", "/tmp/old")  # noqa: S108
    return ""


def _mount_setattr() -> str:
    _mount_tmpfs()
    k.mount_setattr("/tmp", k.MOUNT_ATTR_RDONLY)  # noqa: S108
    try:
        os.mkdir("/tmp/probe")  # noqa: S108, PTH102
    except OSError as error:
        if error.errno == errno.EROFS:
            return "read-only holds"
    raise OSError(errno.EIO, "a read-only mount could be written to")


# --- walls without namespaces -----------------------------------------------------------------------------------------


def _no_new_privs() -> str:
    k.prctl(k.PR_SET_NO_NEW_PRIVS, 1)
    if "NoNewPrivs:\t1" not in Path("/proc/self/status").read_text(encoding="ascii"):
        raise OSError(errno.EIO, "the kernel does not say that it is set")
    return ""


def _seccomp() -> str:
    """The filter of the stricter profile is loaded, and a call that it forbids is made."""
    program = build_filter("container", platform.machine())
    k.prctl(k.PR_SET_NO_NEW_PRIVS, 1)
    k.load_seccomp(program)
    try:
        k.unshare(0)
    except OSError as error:
        if error.errno in (errno.EPERM, errno.ENOSYS):
            return f"a filter of {len(program) // 8} instructions holds"
    raise OSError(errno.EIO, "the filter does not hold")


def _landlock() -> str:
    """A ruleset without rules: no file can be opened any more."""
    k.prctl(k.PR_SET_NO_NEW_PRIVS, 1)
    ruleset = k.landlock_ruleset(k.LANDLOCK_FS["read_file"] | k.LANDLOCK_FS["read_dir"], 0, 0)
    k.landlock_restrict_self(ruleset)
    try:
        os.listdir("/")  # noqa: PTH208
    except PermissionError:
        return f"ABI {k.landlock_abi()}"
    raise OSError(errno.EIO, "a folder could be read in spite of it")


def _openat2() -> str:
    os.close(k.openat2(k.AT_FDCWD, "/", os.O_RDONLY | os.O_DIRECTORY, 0, 0))
    root = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    try:
        k.openat2(root, "..", os.O_RDONLY | os.O_DIRECTORY, 0, k.RESOLVE_BENEATH)
    except OSError as error:
        if error.errno == errno.EXDEV:
            return "RESOLVE_BENEATH holds"
        raise
    raise OSError(errno.EIO, "RESOLVE_BENEATH does not hold")


def _pidfd() -> str:
    k.pidfd_send_signal(k.pidfd_open(os.getpid()), 0)
    return ""


# --- remedies ---------------------------------------------------------------------------------------------------------

# A setting, whether its value forbids user namespaces to ordinary users, and what would allow them.
USER_NAMESPACE_SETTINGS = (
    ("user/max_user_namespaces", "0", "sysctl -w user.max_user_namespaces=10000"),
    ("kernel/unprivileged_userns_clone", "0", "sysctl -w kernel.unprivileged_userns_clone=1"),
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"),
)
CONTAINER_REMEDY = (
    "in a container: `docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined "
    "--security-opt systempaths=unconfined ...`, or use --profile container"
)
LANDLOCK_REMEDIES = {
    errno.ENOSYS: "a kernel with CONFIG_SECURITY_LANDLOCK=y",
    errno.EOPNOTSUPP: "boot with landlock in the list of lsm=..., see /sys/kernel/security/lsm",
}
CGROUP_REMEDY = "start it as: systemd-run --user --scope -p Delegate=yes belljar ..."


def _setting(name: str) -> str | None:
    """A value below /proc/sys; None where this kernel has none of that name."""
    try:
        return Path("/proc/sys", name).read_text(encoding="ascii").strip()
    except OSError:
        return None


def _namespace_remedy(error: OSError) -> str:
    """The first setting that forbids user namespaces; else it is a container's filter, as far as can be told."""
    for name, forbidding, remedy in USER_NAMESPACE_SETTINGS:
        if _setting(name) == forbidding:
            return remedy
    return CONTAINER_REMEDY if error.errno in (errno.EPERM, errno.EACCES) or _filtered() else ""


def _filtered() -> bool:
    """Whether this process is already under somebody's seccomp filter, as a container's processes are."""
    with contextlib.suppress(OSError):
        return "Seccomp:\t2" in Path("/proc/self/status").read_text(encoding="ascii")
    return False


def _landlock_remedy(error: OSError) -> str:
    return LANDLOCK_REMEDIES.get(error.errno or 0, "")


def _kernel_remedy(version: str) -> Callable[[OSError], str]:
    return lambda error: f"Linux {version} or newer" if error.errno == errno.ENOSYS else CONTAINER_REMEDY


NAMESPACES = {
    "mount": k.CLONE_NEWNS,
    "pid": k.CLONE_NEWPID,
    "network": k.CLONE_NEWNET,
    "ipc": k.CLONE_NEWIPC,
    "uts": k.CLONE_NEWUTS,
    "cgroup": k.CLONE_NEWCGROUP,
}
ATTEMPTS = (
    *(
        Attempt(name=f"{name} namespace", action=_namespace(flag), remedy=_namespace_remedy)
        for name, flag in NAMESPACES.items()
    ),
    Attempt(name="mount tmpfs", action=_mount_tmpfs, remedy=_namespace_remedy),
    Attempt(name="mount proc", action=_mount_proc, remedy=_namespace_remedy),
    Attempt(name="pivot_root", action=_pivot_root, remedy=_namespace_remedy),
    Attempt(name="mount_setattr", action=_mount_setattr, remedy=_kernel_remedy("5.12")),
    Attempt(name="no_new_privs", action=_no_new_privs, needed_by=BOTH),
    Attempt(name="seccomp filter", action=_seccomp, needed_by=BOTH),
    Attempt(name="openat2", action=_openat2, needed_by=BOTH, remedy=_kernel_remedy("5.6")),
    Attempt(name="pidfd", action=_pidfd, needed_by=BOTH, remedy=_kernel_remedy("5.3")),
)


# --- findings ---------------------------------------------------------------------------------------------------------


def find_all() -> list[Finding]:
    """Everything that a sandbox stands on, in the order in which to read it. Never raises."""
    return [
        _kernel(),
        _architecture(),
        *_user_namespaces(),
        *map(_find, ATTEMPTS),
        *_landlocks(),
        _control_groups(),
        _memory(),
        *_images(),
        _runsc(),
    ]


def _kernel() -> Finding:
    return Finding(name="kernel", state=State.YES, basis=Basis.READ, detail=f"{platform.system()} {platform.release()}")


def _architecture() -> Finding:
    """Whether there is a table of system calls for it."""
    machine = platform.machine()
    try:
        build_filter("full", machine)
    except BelljarError as error:
        return Finding(
            name="architecture", state=State.NO, basis=Basis.TRIED, detail=str(error), remedy="x86_64 or aarch64", needed_by=BOTH
        )
    return Finding(name="architecture", state=State.YES, basis=Basis.TRIED, detail=machine, needed_by=BOTH)


def _user_namespaces() -> list[Finding]:
    """As who we are, and where that is root as an ordinary user, too: only the former is needed."""
    ordinary = Attempt(name="user namespace (ordinary user)", action=_as_ordinary_user, remedy=_namespace_remedy)
    if os.geteuid() != 0:
        return [_find(ordinary), *_settings()]
    found = [_find(Attempt(name="user namespace (root)", action=_enter_user_namespace, remedy=_namespace_remedy))]
    return [*found, replace(_find(ordinary), needed_by=NONE), *_settings()]


def _settings() -> list[Finding]:
    """The settings that decide about user namespaces; those this kernel does not have decide nothing."""
    found = []
    for name, forbidding, remedy in USER_NAMESPACE_SETTINGS:
        value = _setting(name)
        if value is not None:
            state = State.NO if value == forbidding else State.YES
            remedy = remedy if state is State.NO else ""
            found.append(Finding(name=name.replace("/", "."), state=state, basis=Basis.READ, detail=value, remedy=remedy))
    return found


def _landlocks() -> list[Finding]:
    """Landlock by itself, and for each profile the ABI that it needs."""
    base = _find(Attempt(name="Landlock", action=_landlock, needed_by=BOTH, remedy=_landlock_remedy))
    abi = k.landlock_abi() if base.state is State.YES else 0
    found = [base]
    for number, (version, adds) in LANDLOCK_ABIS.items():
        needed_by = tuple(profile for profile, needed in plan.LANDLOCK_MINIMUM.items() if needed == number)
        state = State.YES if abi >= number else State.NO if base.state is not State.UNKNOWN else State.UNKNOWN
        remedy = f"Linux {version} or newer" if state is State.NO and base.state is State.YES else ""
        found.append(
            Finding(
                name=f"Landlock ABI {number}",
                state=state,
                basis=Basis.READ if base.state is State.YES else Basis.NOT_TRIED,
                detail=adds,
                remedy=remedy,
                needed_by=needed_by,
            )
        )
    return found


def _control_groups() -> Finding:
    """A place for groups, and a group made there with a process in it. No profile needs it: other limits stand in."""
    name, instead = "control groups", "rlimits and a watchdog stand in"
    basis = Basis.READ
    try:
        place, detail = cgroup.find_place()
        if place is None:
            detail = f"{detail}; {instead}"
            return Finding(name=name, state=State.NO, basis=basis, detail=detail, remedy=CGROUP_REMEDY)
        basis = Basis.TRIED
        _try_group(place)
    except OSError as error:
        return Finding(name=name, state=State.NO, basis=basis, detail=f"{error}; {instead}", remedy=CGROUP_REMEDY)
    return Finding(name=name, state=State.YES, basis=basis, detail=detail)


def _try_group(place: cgroup.Place) -> None:
    """Put a child that does nothing into a group of the place. Raises OSError."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        os.close(writer)
        os.read(reader, 1)  # until the parent closes its end, or dies
        os._exit(0)
    try:
        cgroup.create(place)
        cgroup.attach(place, "probe", child, Limits())
    finally:
        os.close(writer)
        os.close(reader)
        os.waitpid(child, 0)
        cgroup.remove_place(place)


def _memory() -> Finding:
    try:
        free, most = cgroup.available_memory(), pool.default_max_sandboxes()
    except OSError as error:
        return Finding(name="memory", state=State.UNKNOWN, basis=Basis.READ, detail=str(error))
    detail = f"{free // MIB:,} MiB available, so at most {most:,} sandboxes at once"
    return Finding(name="memory", state=State.YES, basis=Basis.READ, detail=detail)


def _images() -> list[Finding]:
    """Every image, and the default one also where there is none."""
    try:
        images = image.list_images()
    except BelljarError as error:
        return [Finding(name="images", state=State.UNKNOWN, basis=Basis.READ, detail=str(error))]
    found = []
    for each in images:
        broken = isinstance(each, image.BrokenImage)
        detail = each.reason if isinstance(each, image.BrokenImage) else f"Python {each.python_version}, {len(each.packages)} packages"
        found.append(
            Finding(
                name=f"image {each.name}",
                state=State.NO if broken else State.YES,
                basis=Basis.READ,
                detail=detail,
                remedy=image.build_command(each.name) if broken else "",
            )
        )
    if image.DEFAULT not in {each.name for each in images}:
        remedy = image.build_command(image.DEFAULT)
        name = f"image {image.DEFAULT}"
        found.append(Finding(name=name, state=State.NO, basis=Basis.READ, detail="not built", remedy=remedy))
    return found


def _runsc() -> Finding:
    """gVisor's program; that it starts, not that it can make a sandbox here."""
    name, path = "runsc (gVisor)", shutil.which("runsc")
    if path is None:
        return Finding(name=name, state=State.NO, basis=Basis.READ, detail="not in PATH; no profile needs it")
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=TRIAL_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return Finding(name=name, state=State.UNKNOWN, basis=Basis.TRIED, detail=f"{path} --version: {error}")
    version = next(iter(done.stdout.splitlines()), "").removeprefix("runsc version ")
    return Finding(name=name, state=State.YES, basis=Basis.READ, detail=f"{version}; installed, not tried, not needed")


# --- the real thing ---------------------------------------------------------------------------------------------------


def try_profile(profile: str, name: str = image.DEFAULT, seconds: float = RUN_SECONDS) -> Trial:
    """Make one sandbox and run `print(1)` in it; what came of that. Never raises a BelljarError."""
    return asyncio.run(_try_profile(profile, name, seconds))


async def _try_profile(profile: str, name: str, seconds: float) -> Trial:
    started = time.monotonic()
    try:
        async with asyncio.timeout(seconds), pool.Pool(name, profile=profile, ready=0, zygotes=1, preload=()) as sandboxes:
            async with sandboxes.session() as session:
                execution = await session.run("print(1)")
            took = time.monotonic() - started
            limiter = str(sandboxes.facts["limiter"])
    except (BelljarError, OSError) as error:  # TimeoutError is an OSError
        reason = str(error) or f"no sandbox within {seconds:g} s"
        return Trial(profile=profile, available=False, reason=reason)
    if execution.stdout != "1\n":
        reason = f"print(1) ended with {execution.outcome}: {execution.error.value if execution.error else execution.stdout!r}"
        return Trial(profile=profile, available=False, limiter=limiter, reason=reason)
    return Trial(profile=profile, available=True, seconds=round(took, 3), limiter=limiter)
