"""The walls of one guest, put up by the guest itself right after the fork, in a fixed order; seccomp comes last.

Promises: `enter` returns only when every wall named in the plan stands; otherwise it raises Refused and nothing of the
caller's has run. Covered: namespaces, own mounts, own /proc, unprivileged ids, rlimits, capabilities, no_new_privs,
Landlock, seccomp. Not covered: cgroups (the host puts the guest into one before it says go).
"""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from . import kernel as k
from .frames import write_frame
from .launch import Refused

DATA = "/mnt/data"
OWN_NAMESPACES = k.CLONE_NEWNS | k.CLONE_NEWNET | k.CLONE_NEWIPC | k.CLONE_NEWUTS | k.CLONE_NEWCGROUP
GUEST_ID = 1000
# What a guest without a /proc of its own may read of itself there. Not net, mounts or task: they show the host.
OWN_PROCESS = (
    "status",
    "stat",
    "statm",
    "maps",
    "smaps",
    "smaps_rollup",
    "mem",
    "oom_score_adj",
    "cmdline",
    "comm",
    "environ",
    "fd",
    "limits",
    "io",
)
NO_PROGRAMS = k.MS_NOSUID | k.MS_NODEV | k.MS_NOEXEC
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
# Rights that make sense for something that is no folder; the kernel refuses others (landlock_add_rule(2), EINVAL).
FILE_RIGHTS = sum(k.LANDLOCK_FS[name] for name in ("execute", "write_file", "read_file", "truncate", "ioctl_dev"))

__all__ = ["DATA", "Refused", "enter", "make_scratch", "open_rules"]


@dataclass(kw_only=True)
class Entry:
    """What the steps of one entry share."""

    spec: dict[str, Any]
    request: dict[str, Any]
    rules: list[tuple[int, int]]
    keep: int
    folder: str = DATA
    opened: list[int] = field(default_factory=list)


def enter(spec: dict[str, Any], request: dict[str, Any], rules: list[tuple[int, int]], keep: int) -> None:
    """Put up every wall of `spec["walls"]`. Raises Refused.

    `rules` are Landlock rules opened in advance; descriptors above `keep` are closed.
    """
    entry = Entry(spec=spec, request=request, rules=rules, keep=keep)
    for name in spec["walls"]:
        try:
            WALLS[name](entry)
        except (OSError, ValueError) as error:
            raise Refused(name, error) from None


def make_scratch(spec: dict[str, Any]) -> None:
    """The zygote's own writable folders, at the places where its guests will have theirs. Raises OSError."""
    if spec["profile"] == "full":
        _mount_folders(spec, {"files_bytes": 8 << 20, "files_inodes": 256}, 0)
    else:
        _make_folders(spec, spec["scratch"])


def open_rules(spec: dict[str, Any]) -> list[tuple[int, int]]:
    """Descriptors and rights of the places that are the same for every guest. Raises OSError."""
    return [_open_rule(path, rights) for path, rights in spec["landlock"]["shared"] if os.path.exists(path)]


def _open_rule(path: str, rights: int) -> tuple[int, int]:
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    return fd, rights if os.path.isdir(path) else rights & FILE_RIGHTS


def _namespaces(entry: Entry) -> None:
    k.unshare(OWN_NAMESPACES)


def _loopback(entry: Entry) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sh22x", b"lo", 0)
        flags = struct.unpack("16sh22x", fcntl.ioctl(sock, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", flags | IFF_UP))


def _mounts(entry: Entry) -> None:
    k.mount("proc", "/proc", "proc", NO_PROGRAMS, "subset=pid,hidepid=invisible")
    _mount_folders(entry.spec, entry.request, entry.request["uid"])
    entry.opened.append(os.open(DATA, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))


def _mount_folders(spec: dict[str, Any], limits: dict[str, Any], owner: int) -> None:
    """One size-limited tmpfs for all that a guest can write: its data, /tmp and /dev/shm."""
    size = f"size={limits['files_bytes']},nr_inodes={limits['files_inodes']}"
    k.mount("tmpfs", "/mnt", "tmpfs", NO_PROGRAMS, f"{size},mode=755,uid={owner},gid={owner}")
    for name in ("data", "tmp", "shm"):
        os.mkdir(f"/mnt/{name}", 0o700)
        os.chown(f"/mnt/{name}", owner, owner)
    k.mount("/mnt/tmp", "/tmp", None, k.MS_BIND)
    k.mount("/mnt/shm", "/dev/shm", None, k.MS_BIND)
    link_font_cache(spec, "/tmp/matplotlib", owner)


def _make_folders(spec: dict[str, Any], base: str) -> None:
    """The same in a folder of the host's: base/data and base/tmp, and the environment that points there."""
    for name in ("data", "tmp"):
        os.makedirs(f"{base}/{name}", mode=0o700, exist_ok=True)
    fonts = f"{base}/tmp/matplotlib"
    os.environ.update(HOME=f"{base}/data", TMPDIR=f"{base}/tmp", MPLCONFIGDIR=fonts, IPYTHONDIR=f"{base}/tmp/ipython")
    link_font_cache(spec, fonts, -1)


def link_font_cache(spec: dict[str, Any], path: str, owner: int) -> None:
    """Matplotlib wants a writable folder, and spends a second if it finds no list of fonts there."""
    os.makedirs(path, 0o700, exist_ok=True)
    os.chown(path, owner, owner)
    for source in spec["font_caches"]:
        target = f"{path}/{os.path.basename(source)}"
        if not os.path.lexists(target):
            os.symlink(source, target)


def _work_folder(entry: Entry) -> None:
    """Without a mount namespace: a folder that the host has made for this guest alone."""
    base = entry.request["workdir"]
    os.umask(0o077)
    _make_folders(entry.spec, base)
    entry.folder = f"{base}/data"
    entry.opened.append(os.open(entry.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))


def _ids(entry: Entry) -> None:
    """An id of its own where the host is root; in the full profile a user namespace around it, too."""
    uid = entry.request["uid"]
    if entry.spec["ids"]["count"] > 1:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        k.prctl(k.PR_SET_DUMPABLE, 1)  # setuid made /proc/self the property of root
    if entry.spec["profile"] == "full":
        k.unshare(k.CLONE_NEWUSER)
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{GUEST_ID} {uid} 1"),
            ("gid_map", f"{GUEST_ID} {uid} 1"),
        ):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)


def _oom_score(entry: Entry) -> None:
    """When the host as a whole runs out of memory, guests go first."""
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")


def _rlimits(entry: Entry) -> None:
    for name, value in entry.request["rlimits"].items():
        number = getattr(resource, name)
        hard = resource.getrlimit(number)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(number, (value, value))


def _capabilities(entry: Entry) -> None:
    k.drop_capabilities()


def _no_new_privs(entry: Entry) -> None:
    k.prctl(k.PR_SET_NO_NEW_PRIVS, 1)
    k.prctl(k.PR_SET_PDEATHSIG, signal.SIGKILL)  # after the last change of ids, which clears it
    if entry.spec["profile"] != "full":
        k.prctl(k.PR_SET_CHILD_SUBREAPER, 1)  # orphans stay below this process, where the host finds and ends them
    if os.getppid() != entry.spec["parent"]:
        os._exit(1)  # the zygote died before we asked


def _landlock(entry: Entry) -> None:
    plan = entry.spec["landlock"]
    files, network, scopes = plan["handled"]
    ruleset = k.landlock_ruleset(files, network, scopes)
    own = [_open_rule(path, rights) for path, rights in plan["own"]]
    if entry.spec["profile"] != "full":
        base = entry.request["workdir"]
        own += [_open_rule(f"{base}/{name}", plan["writable"]) for name in ("data", "tmp")]
        process = f"/proc/{os.getpid()}"
        own += [_open_rule(f"{process}/{name}", plan["readable"]) for name in OWN_PROCESS]
    for fd, rights in entry.rules + own:
        k.landlock_allow(ruleset, fd, rights & files)
    k.landlock_restrict_self(ruleset)


def _descriptors(entry: Entry) -> None:
    """Nothing of the zygote's stays open: only standard streams and the session's socket."""
    os.closerange(entry.keep + 1, 1 << 16)


def _hand_over(entry: Entry) -> None:
    """Give the host the working folder, before the limit on descriptors: those in flight count against it by user."""
    with socket.socket(fileno=os.dup(entry.keep)) as session:
        socket.send_fds(session, [write_frame({"op": "folder"})], [entry.opened[0]])


def _seccomp(entry: Entry) -> None:
    os.chdir(entry.folder)
    k.load_seccomp(entry.spec["seccomp"])


WALLS: dict[str, Callable[[Entry], None]] = {
    "namespaces": _namespaces,
    "loopback": _loopback,
    "mounts": _mounts,
    "work folder": _work_folder,
    "hand over": _hand_over,
    "ids": _ids,
    "oom score": _oom_score,
    "rlimits": _rlimits,
    "capabilities": _capabilities,
    "no_new_privs": _no_new_privs,
    "landlock": _landlock,
    "descriptors": _descriptors,
    "seccomp": _seccomp,
}
