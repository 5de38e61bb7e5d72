"""Inside a gVisor sandbox: the first process, which is the zygote, and the walls between its guests.

gVisor (`runsc`, release 20221219) is a kernel of its own, with gaps; the walls here are those that hold in it, each
tried: pid, net, ipc, uts and user namespaces, a root of the guest's own by chroot, a uid of its own, rlimits,
capabilities, seccomp. Missing there: Landlock, pidfds, openat2, `setns`, inode limits of tmpfs, and mount namespaces,
which are accepted and separate nothing: what is mounted for a guest, below a folder of its own, the whole sandbox has,
and the zygote undoes it. Descriptors come in over the control socket and never go out: files are served by a process of
their own (`gvisor_files`).
Control messages beyond those of `zygote`: host to zygote `signal` (id, number) and `release` (id).
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import stat
from collections.abc import Callable
from typing import Any

from . import gvisor_files, walls
from . import kernel as k
from .launch import CONTROL_FD, tell_host
from .zygote import FDS_A_FORK, Zygote, describe_failure

ROOTS = "/belljar/guests"  # a tmpfs: one folder for each guest, its root, and the devices that all of them bind
DEVICES = f"{ROOTS}/dev"
PACKET = 1 << 16
# Not NEWNS: it would separate nothing in this release, and in one where it does the zygote could not undo the mounts.
OWN_NAMESPACES = k.CLONE_NEWNET | k.CLONE_NEWIPC | k.CLONE_NEWUTS
DEVICE_NUMBERS = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9)}  # devices.txt


def main() -> None:
    """Entry point of the sandbox's first process: standard input is the control socket."""
    os.dup2(0, CONTROL_FD, inheritable=False)
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
    spec, channel = _receive_plan()
    _make_devices(spec["gvisor"])
    if (files := os.fork()) == 0:
        os.close(CONTROL_FD)
        gvisor_files.serve(channel, ROOTS)
    os.close(channel)
    walls.WALLS.update(WALLS)
    try:
        zygote = SandboxZygote(spec, files)
    except Exception as error:
        tell_host({"op": "broken", "reason": describe_failure(error)})
        raise SystemExit(1) from None
    zygote.serve()


def root_of(number: int) -> str:
    """The root folder of a guest, as the zygote sees it."""
    return f"{ROOTS}/{number}"


def _receive_plan() -> tuple[dict[str, Any], int]:
    """The plan and the channel of the file server, from the first message."""
    with socket.socket(fileno=os.dup(CONTROL_FD)) as control:
        _, (plan, channel), _, _ = socket.recv_fds(control, PACKET, 2)
    spec: dict[str, Any] = json.loads(os.pread(plan, os.fstat(plan).st_size, 0))
    os.close(plan)
    return spec, channel


def _make_devices(plan: dict[str, Any]) -> None:
    os.umask(0o022)
    os.makedirs(f"{DEVICES}/shm")
    for path in plan["devices"]:
        name = os.path.basename(path)
        os.mknod(f"{DEVICES}/{name}", stat.S_IFCHR, os.makedev(*DEVICE_NUMBERS[name]))
        os.chmod(f"{DEVICES}/{name}", 0o666)
    for path, target in plan["device_links"]:
        os.symlink(target, f"{DEVICES}/{os.path.basename(path)}")


class SandboxZygote(Zygote):
    """The fork server, by the means of gVisor; the sandbox ends with it, and it ends with its file server."""

    def __init__(self, spec: dict[str, Any], files: int) -> None:
        self._files = files
        self._released: set[int] = set()
        super().__init__(spec)
        spec["parent"] = 0  # as a guest sees it, from its own pid namespace

    def _make_scratch(self) -> None:
        os.makedirs(walls.DATA, exist_ok=True)
        walls.link_font_cache(self._spec, "/tmp/matplotlib", 0)

    def _serve_one(self) -> bool:
        try:
            data, fds, _, _ = socket.recv_fds(self._control, PACKET, FDS_A_FORK)
        except ConnectionError:
            return False
        if not data:
            return False
        request = json.loads(data)
        try:
            OPERATIONS[request["op"]](self, request, fds)
        except OSError as error:
            tell_host({"op": "fork_failed", "id": request["id"], "reason": str(error)})
        finally:
            for fd in fds:
                os.close(fd)
        return True

    def _fork(self, request: dict[str, Any], fds: list[int]) -> None:
        """gVisor makes a new pid namespace below ours at every call; Linux would ask for a way back first."""
        k.unshare(k.CLONE_NEWPID)
        super()._fork(request, fds)

    def _signal(self, request: dict[str, Any], _: list[int]) -> None:
        """A pid is a guest's until we have reaped it, so no other process can be meant."""
        for pid, number in self._pids.items():
            if number == request["id"]:
                os.kill(pid, request["number"])

    def _release(self, request: dict[str, Any], _: list[int]) -> None:
        """The host needs the guest's files no more: end what is left of it, then undo its mounts."""
        number = request["id"]
        if number in self._pids.values():
            self._released.add(number)
            self._signal({"id": number, "number": signal.SIGKILL}, [])
        else:
            _undo_root(number)

    def _on_gone(self, pid: int, number: int, status: int) -> None:
        if pid == self._files:
            os._exit(1)
        super()._on_gone(pid, number, status)
        if number in self._released:
            self._released.discard(number)
            _undo_root(number)


OPERATIONS: dict[str, Callable[[SandboxZygote, dict[str, Any], list[int]], None]] = {
    "fork": SandboxZygote._fork,
    "signal": SandboxZygote._signal,
    "release": SandboxZygote._release,
}


def _undo_root(number: int) -> None:
    """Unmount all that was mounted below a guest's root; its files are freed with it."""
    with contextlib.suppress(OSError):
        k.unmount(root_of(number))
    with contextlib.suppress(OSError):
        os.rmdir(root_of(number))


def _namespaces(entry: walls.Entry) -> None:
    k.unshare(OWN_NAMESPACES)


def _mounts(entry: walls.Entry) -> None:
    """Image and system folders, read-only, a /proc of the own pid namespace, one tmpfs for all that can be written."""
    base, request = root_of(entry.request["id"]), entry.request
    os.mkdir(base, 0o755)
    for path in ("/", *entry.spec["gvisor"]["binds"]):
        k.mount(path, base + path, None, k.MS_BIND)
    k.mount(DEVICES, f"{base}/dev", None, k.MS_BIND)
    k.mount("proc", f"{base}/proc", "proc", walls.NO_PROGRAMS)
    k.mount("tmpfs", f"{base}/mnt", "tmpfs", walls.NO_PROGRAMS, f"size={request['files_bytes']},mode=755")
    for name, place in (("data", ""), ("tmp", "/tmp"), ("shm", "/dev/shm")):
        os.mkdir(f"{base}/mnt/{name}", 0o700)
        os.chown(f"{base}/mnt/{name}", request["uid"], request["uid"])
        if place:
            k.mount(f"{base}/mnt/{name}", base + place, None, k.MS_BIND)


def _user_namespace(entry: walls.Entry) -> None:
    """So that the guest sees itself as `user`; refused after a chroot. There is no setgroups file to deny groups in."""
    k.unshare(k.CLONE_NEWUSER)
    for name in ("uid_map", "gid_map"):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(f"{walls.GUEST_ID} {entry.request['uid']} 1")


def _root(entry: walls.Entry) -> None:
    os.chroot(root_of(entry.request["id"]))
    os.chdir("/")
    walls.link_font_cache(entry.spec, "/tmp/matplotlib", -1)
    entry.opened.append(os.open(walls.DATA, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))


def _address_space(entry: walls.Entry) -> None:
    """One allocation past the limit fails at once; counted from what is there. RLIMIT_DATA holds no mapping here."""
    with open("/proc/self/statm") as statm:
        used = int(statm.read().split()[0]) * resource.getpagesize()
    limit = used + entry.request["memory"]
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _capabilities(entry: walls.Entry) -> None:
    """gVisor knows no ambient set, and so no call that empties it."""
    with contextlib.suppress(OSError):  # EINVAL: past the last capability
        for capability in range(64):
            k.prctl(k.PR_CAPBSET_DROP, capability)
    k.clear_capabilities()


# Beside those of `walls`; the order is plan.WALLS["gvisor"].
WALLS: dict[str, Callable[[walls.Entry], None]] = {
    "sandbox namespaces": _namespaces,
    "sandbox mounts": _mounts,
    "user namespace": _user_namespace,
    "sandbox root": _root,
    "address space": _address_space,
    "sandbox capabilities": _capabilities,
}
