"""What this host gives: each facility that a wall stands on, really tried where trying is possible.

Promises: a finding says how it is known: `tried`, `read` from the kernel, or `not tried`. Nothing is claimed without.
What is tried is in `trials`, and nothing of it is left behind. Whether all of it together makes a sandbox is another
matter: `try_profile` makes one to see.
Call it from a process with one thread, as it forks. Sources: the manual pages of the calls, landlock(7).
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import errno
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from belljar.errors import BelljarError
from belljar.guest import kernel as k
from belljar.sandbox import cgroup, image, plan, pool, trials
from belljar.sandbox.backends import BACKENDS
from belljar.sandbox.base import MIB, Limits
from belljar.sandbox.seccomp import build_filter

RUN_SECONDS = 60.0
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


def _find(trial: Attempt) -> Finding:
    state, remedy = State.YES, ""
    try:
        detail = trials.attempt(trial.action)
    except OSError as error:
        detail = error.strerror or str(error)
        state = State.UNKNOWN if isinstance(error, TimeoutError) else State.NO
        remedy = trial.remedy(error) if state is State.NO else ""
    return Finding(
        name=trial.name, state=state, basis=Basis.TRIED, detail=detail, remedy=remedy, needed_by=trial.needed_by
    )


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
DELEGATE = "start it as: systemd-run --user --scope -p Delegate=yes belljar ..."
DELEGATE_BY_HAND = "as root: give this user a group with the controllers memory and pids, and start it in there"


def _setting(name: str) -> str | None:
    """A value below /proc/sys; None where this kernel has none of that name."""
    try:
        return Path("/proc/sys", name).read_text(encoding="ascii").strip()
    except OSError:
        return None


def _ordinary_remedy(error: OSError) -> str:
    """The first setting that forbids user namespaces to ordinary users; else it is a container's filter."""
    for name, forbidding, remedy in USER_NAMESPACE_SETTINGS:
        if _setting(name) == forbidding:
            return remedy
    return CONTAINER_REMEDY if error.errno in (errno.EPERM, errno.EACCES) or _filtered() else ""


def _namespace_remedy(error: OSError) -> str:
    """The same for who we are: root needs no setting, but capabilities that a container's root does not have."""
    return _ordinary_remedy(error) if os.geteuid() != 0 else CONTAINER_REMEDY


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
        Attempt(name=f"{name} namespace", action=trials.namespace(flag), remedy=_namespace_remedy)
        for name, flag in NAMESPACES.items()
    ),
    Attempt(name="mount tmpfs", action=trials.mount_tmpfs, remedy=_namespace_remedy),
    Attempt(name="mount proc", action=trials.mount_proc, remedy=_namespace_remedy),
    Attempt(name="pivot_root", action=trials.make_pivot_root, remedy=_namespace_remedy),
    Attempt(name="mount_setattr", action=trials.make_read_only, remedy=_kernel_remedy("5.12")),
    Attempt(name="no_new_privs", action=trials.no_new_privs, needed_by=BOTH),
    Attempt(name="seccomp filter", action=trials.seccomp, needed_by=BOTH),
    Attempt(name="openat2", action=trials.openat2, needed_by=BOTH, remedy=_kernel_remedy("5.6")),
    Attempt(name="pidfd", action=trials.pidfd, needed_by=BOTH, remedy=_kernel_remedy("5.3")),
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
    state, detail, remedy = State.YES, platform.machine(), ""
    try:
        build_filter("full", detail)
    except BelljarError as error:
        state, detail, remedy = State.NO, str(error), "x86_64 or aarch64"
    return Finding(name="architecture", state=state, basis=Basis.TRIED, detail=detail, remedy=remedy, needed_by=BOTH)


def _user_namespaces() -> list[Finding]:
    """As who we are, and where that is root as an ordinary user, too: only the former is needed."""
    ordinary = Attempt(
        name="user namespace (ordinary user)", action=trials.ordinary_user_namespace, remedy=_namespace_remedy
    )
    if os.geteuid() != 0:
        return [_find(ordinary), *_settings()]
    found = [_find(Attempt(name="user namespace (root)", action=trials.user_namespace, remedy=_namespace_remedy))]
    return [*found, replace(_find(ordinary), needed_by=NONE), *_settings()]


def _settings() -> list[Finding]:
    """The settings that decide about user namespaces; those this kernel does not have decide nothing."""
    return [
        Finding(
            name=name.replace("/", "."),
            state=State.NO if value == forbidding else State.YES,
            basis=Basis.READ,
            detail=value,
            remedy=remedy if value == forbidding else "",
        )
        for name, forbidding, remedy in USER_NAMESPACE_SETTINGS
        if (value := _setting(name)) is not None
    ]


def _landlocks() -> list[Finding]:
    """Landlock by itself, and what the kernel's ABI of it holds."""
    base = _find(Attempt(name="Landlock", action=trials.landlock, needed_by=BOTH, remedy=_landlock_remedy))
    works = base.state is State.YES
    abi = k.landlock_abi() if works else 0
    return [base] + [
        Finding(
            name=f"Landlock ABI {number}",
            state=State.YES if abi >= number else State.NO if works else base.state,
            basis=Basis.READ if works else Basis.NOT_TRIED,
            detail=adds,
            remedy=f"Linux {version} or newer" if works and abi < number else "",
            needed_by=tuple(profile for profile, needed in plan.LANDLOCK_MINIMUM.items() if needed == number),
        )
        for number, (version, adds) in LANDLOCK_ABIS.items()
    ]


def _control_groups() -> Finding:
    """A place for groups, and a group made there with a process in it. No profile needs it: other limits stand in."""
    basis, found = Basis.READ, False
    try:
        place, detail = cgroup.find_place()
        if place is not None:
            basis = Basis.TRIED
            _try_group(place)
            found = True
    except OSError as error:
        detail = str(error)
    if found:
        return Finding(name="control groups", state=State.YES, basis=basis, detail=detail)
    return Finding(
        name="control groups",
        state=State.NO,
        basis=basis,
        detail=f"{detail}; rlimits and a watchdog stand in",
        remedy=DELEGATE if Path("/run/systemd/system").is_dir() else DELEGATE_BY_HAND,
    )


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
    details = {image.DEFAULT: "not built"} | {each.name: _image_detail(each) for each in images}
    whole = {each.name for each in images if isinstance(each, image.Image)}
    return [
        Finding(
            name=f"image {name}",
            state=State.YES if name in whole else State.NO,
            basis=Basis.READ,
            detail=detail,
            remedy="" if name in whole else image.build_command(name),
        )
        for name, detail in details.items()
    ]


def _image_detail(each: image.Image | image.BrokenImage) -> str:
    if isinstance(each, image.BrokenImage):
        return each.reason
    return f"Python {each.python_version}, {len(each.packages)} packages"


def _runsc() -> Finding:
    """gVisor's program: that it starts, not that it can make a sandbox here."""
    name, path, seconds = "runsc (gVisor)", shutil.which("runsc"), trials.TRIAL_SECONDS
    needed_by = tuple(profile for profile in BACKENDS if profile == "gvisor")
    if path is None:
        return Finding(name=name, state=State.NO, basis=Basis.READ, detail="not in PATH", needed_by=needed_by)
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=seconds, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        detail = f"{path} --version: {error}"
        return Finding(name=name, state=State.UNKNOWN, basis=Basis.TRIED, detail=detail, needed_by=needed_by)
    version = next(iter(done.stdout.splitlines()), "").removeprefix("runsc version ")
    return Finding(name=name, state=State.YES, basis=Basis.READ, detail=f"installed: {version}", needed_by=needed_by)


# --- the real thing ---------------------------------------------------------------------------------------------------


def try_profile(profile: str, name: str = image.DEFAULT, seconds: float = RUN_SECONDS) -> Trial:
    """Make one sandbox and run `print(1)` in it; what came of that. Never raises a BelljarError."""
    return asyncio.run(_try_profile(profile, name, seconds))


async def _try_profile(profile: str, name: str, seconds: float) -> Trial:
    started = time.monotonic()
    sandboxes = pool.Pool(name, profile=profile, ready=0, zygotes=1, preload=())
    try:
        async with asyncio.timeout(seconds), sandboxes:
            async with sandboxes.session() as session:
                execution = await session.run("print(1)")
            took = round(time.monotonic() - started, 3)
            limiter = str(sandboxes.facts["limiter"])
    except (BelljarError, OSError) as error:  # TimeoutError is an OSError
        reason = str(error) or f"there was no sandbox within {seconds:g} s"
        return Trial(profile=profile, available=False, reason=reason)
    if execution.stdout == "1\n":
        return Trial(profile=profile, available=True, seconds=took, limiter=limiter)
    said = execution.error.value if execution.error else repr(execution.stdout)
    return Trial(profile=profile, available=False, reason=f"print(1) ended with {execution.outcome}: {said}")
