"""The launcher: puts up the zygote's own walls, execs it as pid 1 of its namespaces, and stays outside as its keeper.

Promises: a wall that cannot be put up is reported by name and nothing is run; when the host dies, however it dies, the
zygote, every guest and every cgroup of theirs are gone soon after.
Three processes: the keeper (outside, does nothing but wait), the stage (enters namespaces one by one), the zygote.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import sys
import time
from typing import Any, NoReturn

from . import kernel as k
from . import root
from .trees import remove_tree

CONTROL_FD, SPEC_FD = 3, 4
NAMESPACES = k.CLONE_NEWPID | k.CLONE_NEWNET | k.CLONE_NEWIPC | k.CLONE_NEWUTS | k.CLONE_NEWCGROUP
CLEAN_UP_SECONDS = 5.0


class Refused(Exception):
    """A wall could not be put up: its name, and why."""

    def __init__(self, wall: str, reason: object) -> None:
        super().__init__(wall, str(reason))
        self.wall, self.reason = wall, str(reason)


def read_spec() -> dict[str, Any]:
    """The host's plan, from the descriptor that it left open for us."""
    text = os.pread(SPEC_FD, os.fstat(SPEC_FD).st_size, 0)
    spec: dict[str, Any] = json.loads(text)
    return spec


def tell_host(message: dict[str, Any]) -> None:
    """One message on the control socket; a host that is gone is no error here."""
    with socket.socket(fileno=os.dup(CONTROL_FD)) as control, contextlib.suppress(OSError):
        control.send(json.dumps(message).encode())


def main() -> None:
    """Entry point of the first process that the host starts."""
    _place_descriptors(int(sys.argv[2]), int(sys.argv[3]))
    spec = read_spec()
    k.prctl(k.PR_SET_CHILD_SUBREAPER, 1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    ask, answer = socket.socketpair()
    keeper = os.getpid()
    host = int(sys.argv[4])
    stage = os.fork()
    if stage == 0:
        answer.close()
        _run_stage(spec, ask, keeper)
    ask.close()
    _follow_host(host, stage)
    with answer:
        if answer.recv(1):
            _map_ids(stage, spec["ids"])
            answer.send(b"k")
    _keep(stage, spec, host)


def _follow_host(host: int, stage: int) -> None:
    """End the stage, and with it the zygote, when the host has died: also where a child of its keeps our socket open.

    The signal comes when the thread that started us ends, too (prctl(2)), so the parent is looked at each time.
    """

    def end_if_alone(*_: object) -> None:
        if os.getppid() != host:
            os.kill(stage, signal.SIGKILL)

    signal.signal(signal.SIGUSR2, end_if_alone)
    k.prctl(k.PR_SET_PDEATHSIG, signal.SIGUSR2)
    end_if_alone()


def _place_descriptors(control: int, plan: int) -> None:
    """Put the two descriptors that the host has passed at their fixed places, and close all others."""
    copies = [fcntl.fcntl(fd, fcntl.F_DUPFD, SPEC_FD + 1) for fd in (control, plan)]
    for copy, place in zip(copies, (CONTROL_FD, SPEC_FD), strict=True):
        os.dup2(copy, place, inheritable=True)
    os.closerange(SPEC_FD + 1, 1 << 16)


def _run_stage(spec: dict[str, Any], keeper_socket: socket.socket, keeper: int) -> NoReturn:
    try:
        die_with_parent(keeper)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        if spec["profile"] == "full":
            _enter_namespaces(spec, keeper_socket)
        else:
            keeper_socket.close()
            _exec_zygote(spec)
    except Refused as refused:
        tell_host({"op": "refused", "wall": refused.wall, "reason": refused.reason})
    except Exception as error:
        tell_host({"op": "refused", "wall": "launcher", "reason": f"{type(error).__name__}: {error}"})
    finally:
        os._exit(1)


def _enter_namespaces(spec: dict[str, Any], keeper_socket: socket.socket) -> NoReturn:
    mapped = spec["ids"]["count"] > 1  # the host is root: ids of its own choice, mapped by the keeper
    if not mapped:
        user, group = os.geteuid(), os.getegid()
        _wall("user namespace", k.unshare, k.CLONE_NEWUSER)
        _wall("user namespace", _map_self, "self", user, group)
    _wall("mount namespace", k.unshare, k.CLONE_NEWNS)
    _wall("root", root.build, spec["root"])
    if mapped:
        _wall("namespaces", k.unshare, NAMESPACES | k.CLONE_NEWUSER | k.CLONE_NEWNS)
        keeper_socket.send(b"m")
        if not keeper_socket.recv(1):
            raise Refused("user namespace", "the id map could not be written")
        _wall("user namespace", _become_root)
    else:
        _wall("namespaces", k.unshare, NAMESPACES)
    keeper_socket.close()
    k.prctl(k.PR_SET_PDEATHSIG, signal.SIGKILL)  # changing credentials has cleared it
    if (zygote := os.fork()) == 0:
        _run_first(spec)
    os.close(CONTROL_FD)
    os.close(SPEC_FD)
    _, status = os.waitpid(zygote, 0)
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def _run_first(spec: dict[str, Any]) -> NoReturn:
    """The first process of the pid namespace: its tree, then exec."""
    try:
        die_with_parent(0)
        _wall("root", root.enter_tree)
        _wall("host name", socket.sethostname, "belljar")
        first = os.getpid()
        if (zygote := os.fork()) == 0:
            # Not pid 1, as its guests are: libraries that look at the pid to notice a fork (OpenSSL) must see another.
            k.prctl(k.PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() == first:
                _exec_zygote(spec)
            os._exit(1)
        os.close(CONTROL_FD)
        os.close(SPEC_FD)
        _wait_for(zygote)
    except Refused as refused:
        tell_host({"op": "refused", "wall": refused.wall, "reason": refused.reason})
    finally:
        os._exit(1)


def _wall(name: str, step: Any, *arguments: Any) -> None:
    try:
        step(*arguments)
    except OSError as error:
        raise Refused(name, error) from None


def die_with_parent(parent: int) -> None:
    """SIGKILL when the parent goes; `parent` is its pid as seen here, for the case that it is gone already."""
    k.prctl(k.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _map_self(process: str, user: int, group: int) -> None:
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
        with open(f"/proc/{process}/{name}", "w") as file:
            file.write(text)


def _map_ids(process: int, ids: dict[str, int]) -> None:
    for name in ("uid_map", "gid_map"):
        with open(f"/proc/{process}/{name}", "w") as file:
            file.write(f"0 {ids['base']} {ids['count']}")


def _become_root() -> None:
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def _exec_zygote(spec: dict[str, Any]) -> NoReturn:
    python = spec["python"]
    os.execve(python, [python, "-I", "-B", spec["guest"], "zygote"], spec["environment"])


def _keep(stage: int, spec: dict[str, Any], host: int) -> NoReturn:
    """Wait for the zygote; clean up behind it where the host is gone as well."""
    folders = []
    for path in spec["cgroups"]:
        with contextlib.suppress(OSError):
            folders.append((os.open(path, os.O_RDONLY | os.O_DIRECTORY), path))
    _wait_for(stage)
    end_descendants()
    if os.getppid() != host:  # not merely done with this zygote: gone, with nobody left to clean up
        for folder in spec["folders"]:
            remove_tree(folder)
        deadline = time.monotonic() + CLEAN_UP_SECONDS
        for folder, path in folders:
            while not remove_cgroups(folder, path) and time.monotonic() < deadline:
                time.sleep(0.05)
    os._exit(0)


def _wait_for(process: int) -> None:
    while True:
        pid, _ = os.waitpid(-1, 0)  # a subreaper: orphans of a zygote without pid namespace come here too
        if pid == process:
            return


def end_descendants() -> None:
    """Without a pid namespace guests can outlive the zygote; as their subreaper we see and end them all."""
    for _ in range(1000):
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        remaining = descendants(os.getpid())
        if not remaining:
            return
        for number in (signal.SIGSTOP, signal.SIGKILL):  # what is stopped starts nothing while the others are killed
            for pid in remaining:
                with contextlib.suppress(OSError):
                    os.kill(pid, number)
        time.sleep(0.01)


def parents() -> dict[int, int]:
    """Every process that /proc shows now, and its parent."""
    table: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                table[int(name)] = int(file.read().rpartition(b")")[2].split()[1])
    return table


def descendants(ancestor: int, table: dict[int, int] | None = None) -> set[int]:
    """The pids of all processes below `ancestor`, by a table of parents, or as /proc shows them now."""
    table = parents() if table is None else table
    found = {ancestor}
    while more := {pid for pid, parent in table.items() if parent in found} - found:
        found |= more
    return found - {ancestor}


def remove_cgroups(folder: int, path: str) -> bool:
    """Remove the cgroups below `folder` and itself; whether it is gone."""
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            with contextlib.suppress(OSError):
                os.rmdir(name, dir_fd=folder)
        os.rmdir(path)
    return not os.path.exists(path)
