"""The zygote: imports an image's packages once, then forks a guest for every request.

Promises: one thread, no secret, no request served before every import is done. Each guest is pid 1 of a pid namespace
of its own (full profile), made with one fork. When the control socket closes the zygote ends, and with it all its
guests. Control messages (JSON, one a packet): host to zygote `fork` with three descriptors (session socket, stdout,
stderr); zygote to host `ready`, `broken`, `gone` (a guest's wait status), `fork_failed`.
"""

from __future__ import annotations

import base64
import functools
import gc
import importlib
import json
import os
import platform
import select
import signal
import socket
import time
import traceback
from typing import Any, NoReturn

from . import heap, runner, walls
from . import kernel as k
from .launch import CONTROL_FD, SPEC_FD, read_spec, tell_host
from .reseed import Reseeder

FDS_A_FORK = 3
FAILURE = 70  # EX_SOFTWARE, sysexits.h


def main() -> None:
    """Entry point of the process that the launcher execs."""
    spec = read_spec()
    os.close(SPEC_FD)
    os.set_inheritable(CONTROL_FD, False)
    try:
        zygote = Zygote(spec)
    except Exception as error:
        tell_host({"op": "broken", "reason": describe_failure(error)})
        raise SystemExit(1) from None
    zygote.serve()


def describe_failure(error: Exception) -> str:
    """What went wrong at the start, in a line or two."""
    return "".join(traceback.format_exception_only(error)).strip()


def import_all(names: list[str]) -> dict[str, float]:
    """Import the modules; how long each took, in milliseconds. Raises ImportError that names the module."""
    took = {}
    for name in names:
        start = time.perf_counter()
        try:
            importlib.import_module(name)
        except Exception as error:
            raise ImportError(f"importing {name} failed: {type(error).__name__}: {error}") from error
        took[name] = round((time.perf_counter() - start) * 1000, 1)
    return took


def close_cached_files() -> list[str]:
    """Let go of files that caches hold open (Matplotlib's fonts); those that stay open all the same, by path.

    A guest keeps no descriptor of the zygote's: guests would share its position in the file. A cache that still held
    one would fail in the guest.
    """
    for thing in gc.get_objects():
        if isinstance(thing, functools._lru_cache_wrapper) and str(thing.__module__).startswith("matplotlib"):
            thing.cache_clear()
    gc.collect()
    links = (_link_of(name) for name in os.listdir("/proc/self/fd"))
    return sorted(path for path in links if path.startswith("/") and os.path.isfile(path))


def _link_of(descriptor: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return ""


class Zygote:
    """The imported image and the fork server over it."""

    def __init__(self, spec: dict[str, Any]) -> None:
        if (version := platform.python_version()) != spec["python_version"]:
            raise RuntimeError(f"its interpreter is {version} in the sandbox, {spec['python_version']} outside")
        self._spec = spec
        self._spec["seccomp"] = base64.b64decode(spec["seccomp"])
        self._control = socket.socket(fileno=CONTROL_FD)
        self._full = spec["profile"] == "full"
        self._pid_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY) if self._full else -1
        self._pids: dict[int, int] = {}
        spec["parent"] = 0 if self._full else os.getpid()  # as a guest sees the zygote
        self._make_scratch()
        self._guest = runner.Guest(spec)  # before the imports: Matplotlib's backend looks for a shell when it is loaded
        took = import_all(spec["preload"])
        self._guest.rehearse(spec["rehearsal"])
        open_files = close_cached_files()
        self._reseeder = Reseeder()
        if (threads := len(os.listdir("/proc/self/task"))) != 1:
            raise RuntimeError(f"the zygote has {threads} threads; an import of {', '.join(took)} starts one")
        self._rules = walls.open_rules(spec)
        gc.collect()
        self._filler = heap.fill_holes() if spec["tidy_heap"] else []
        gc.freeze()
        collapsed = heap.collapse() if spec["tidy_heap"] else 0
        tell_host({"op": "ready", "imports": took, "huge_pages": collapsed, "pid": os.getpid(), "open": open_files})

    def _make_scratch(self) -> None:
        walls.make_scratch(self._spec)

    def serve(self) -> None:
        """Fork on request, report guests that end, until the host goes away."""
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(wake_read, select.POLLIN)
        while True:
            for fd, _ in poll.poll():
                if fd == wake_read:
                    os.read(wake_read, 4096)
                    self._reap()
                elif not self._serve_one():
                    return

    def _serve_one(self) -> bool:
        """One control message; False when the host has closed the socket."""
        try:
            data, fds, _, _ = socket.recv_fds(self._control, 65536, FDS_A_FORK)
        except ConnectionError:
            return False
        if not data:
            return False
        request = json.loads(data)
        try:
            if len(fds) == FDS_A_FORK:
                self._fork(request, fds)
        except OSError as error:
            tell_host({"op": "fork_failed", "id": request["id"], "reason": str(error)})
        finally:
            for fd in fds:
                os.close(fd)
        return True

    def _fork(self, request: dict[str, Any], fds: list[int]) -> None:
        if self._full:
            k.unshare(k.CLONE_NEWPID)
        pid = -1
        try:
            pid = k.fork()
        finally:
            if pid != 0 and self._full:
                k.setns(self._pid_namespace, k.CLONE_NEWPID)
        if pid == 0:
            self._become_guest(request, fds)
        self._pids[pid] = request["id"]

    def _become_guest(self, request: dict[str, Any], fds: list[int]) -> NoReturn:
        """In the child: never returns, and lets no exception of a wall pass."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        session = runner.take_descriptors(fds)
        try:
            runner.send(session, {"op": "born"})
            if runner.receive_one(session)[0].get("op") != "go":
                os._exit(0)
            walls.enter(self._spec, request, self._rules, runner.SESSION_FD)
            self._reseeder.reseed()
            self._guest.serve(session, request)
        except walls.Refused as refused:
            runner.send(session, {"op": "refused", "wall": refused.wall, "reason": refused.reason})
        except ConnectionError:
            os._exit(0)  # the host has gone
        finally:
            os._exit(FAILURE)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            self._on_gone(pid, self._pids.pop(pid, 0), status)

    def _on_gone(self, pid: int, number: int, status: int) -> None:
        tell_host({"op": "gone", "id": number, "status": status})
