"""The gvisor profile: a zygote and all its guests inside one gVisor sandbox, whose kernel stands before the host's.

Covered: the outer wall (runsc), inner walls between the guests, sessions like those of other profiles, ends, clean-up.
Not covered: a guest's own share of processor time. Memory and the number of files are bounded for each guest by a
watchdog that looks from inside, and memory by the kernel for the sandbox as a whole where there are cgroups.
docs/gvisor.md says more.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import fcntl
import itertools
import json
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from belljar.errors import BelljarError, FileError, IsolationUnavailable, SandboxFailed
from belljar.execution import GuestError, Outcome
from belljar.guest.frames import write_frame
from belljar.sandbox import cgroup, files, gvisor_bundle, plan
from belljar.sandbox.base import Limits, host_cpus
from belljar.sandbox.birth import Hello
from belljar.sandbox.forkserver import SPAWN_SECONDS, ForkServer, Options
from belljar.sandbox.gvisor_files import RemoteFiles
from belljar.sandbox.handle import Guest
from belljar.sandbox.image import Image
from belljar.sandbox.session import GuestSession
from belljar.sandbox.threads import in_thread
from belljar.sandbox.watchdog import INTERVAL_SECONDS
from belljar.sandbox.zygote import HANDLERS, PACKET, Zygote, next_id

PROCESSES = 16384  # on the host: threads of gVisor's own and, with its ptrace platform, two for each of a guest's
TICKS_A_LOOK = 4  # at sessions in which nothing is running
TICKS_A_COUNT = 20  # files are counted once in so many looks of the watchdog: that means reading every folder
ALLOWANCE = 16  # names that are there from the start
# The resource limits that gVisor lets be set (pkg/sentry/limits); the others stand for facilities that it has not.
RLIMITS = ("RLIMIT_CORE", "RLIMIT_NOFILE", "RLIMIT_NPROC", "RLIMIT_FSIZE", "RLIMIT_MEMLOCK")
PLAN_PACKET = b'{"op":"plan"}'
# Messages of a sandbox and the types of their fields: other than a zygote of the full profile, it is not believed.
FIELDS: dict[str, dict[str, type]] = {
    "ready": {"imports": dict, "pid": int},
    "refused": {"wall": str, "reason": str},
    "broken": {"reason": str},
    "gone": {"id": int, "status": int},
    "fork_failed": {"id": int, "reason": str},
}


class Gvisor(ForkServer):
    """Needs `runsc` in the search path; for an ordinary user also user namespaces, which its `--rootless` uses."""

    profile = "gvisor"

    def __init__(self, image: Image, options: Options) -> None:
        super().__init__(image, replace(options, zygotes=options.zygotes or 1))
        self._runsc = ""
        self._dog: asyncio.Task[None] | None = None

    def _prepare(self) -> None:
        self._runsc = shutil.which("runsc") or ""
        if not self._runsc:
            raise IsolationUnavailable("profile 'gvisor' needs runsc (gVisor), and there is none in the search path")
        gvisor_bundle.sweep()
        self._place, self.limiter = cgroup.find_place()
        if self._place is not None:
            cgroup.sweep(self._place)
            cgroup.create(self._place)
        self.limiter = f"a watchdog in the sandbox; around it: {self.limiter}"
        preload = self._image.preload if self._options.preload is None else self._options.preload
        self._spec = sandbox_spec(self._image, preload, self._place)

    def _make_zygote(self) -> SandboxZygote:
        return SandboxZygote(self._image, self._spec, self._runsc, self._place)

    async def session(self, memory: int | None = None) -> GuestSession:
        """A fresh session, ready to run; `memory` in bytes, None for that of all. Raises IsolationUnavailable,
        SandboxFailed.
        """
        number = next_id()
        limits = self._limits_with(memory)
        zygote = self._living_zygote()
        assert isinstance(zygote, SandboxZygote)
        uid = 1 + number % (plan.ROOT_ID_COUNT - 1)
        request = self._sandbox_request(number, uid, limits)
        try:
            async with asyncio.timeout(SPAWN_SECONDS):
                guest = await _bear(zygote, request)
        except TimeoutError:
            raise SandboxFailed(f"a sandbox was not ready in {SPAWN_SECONDS:.0f} s") from None
        session = SandboxSession(guest, limits, self._forget_session, zygote, number, uid)
        self._sessions.add(session)
        if self._dog is None:
            self._dog = asyncio.create_task(self._watch())
        return session

    def _sandbox_request(self, number: int, uid: int, limits: Limits) -> dict[str, Any]:
        request = self._request(number, uid, "", limits)
        rlimits = {name: value for name, value in request["rlimits"].items() if name in RLIMITS}
        rlimits["RLIMIT_NPROC"] -= 1  # gVisor counts those that a process may start
        return request | {"rlimits": rlimits, "memory": limits.memory}

    async def close(self) -> None:
        """End every session and sandbox. Never raises."""
        if self._dog is not None:
            self._dog.cancel()
        await super().close()

    def _forget_session(self, session: GuestSession) -> None:
        self._sessions.discard(session)

    async def _watch(self) -> None:
        """Memory and files of the sessions in use, asked of their sandbox: often where code runs, else now and then."""
        for tick in itertools.count():
            await asyncio.sleep(INTERVAL_SECONDS)
            by_zygote: dict[SandboxZygote, list[SandboxSession]] = collections.defaultdict(list)
            for session in self._sessions:
                if isinstance(session, SandboxSession) and session.is_due(tick):
                    by_zygote[session.zygote].append(session)
            entries = 0 if tick % TICKS_A_COUNT else self._limits.files_count + ALLOWANCE + 1
            for zygote, due in by_zygote.items():
                with contextlib.suppress(BelljarError):
                    await measure(zygote, due, entries)


async def measure(zygote: SandboxZygote, sessions: Sequence[SandboxSession], entries: int) -> None:
    """Ask what these guests hold, and end those that hold too much. Raises SandboxFailed."""
    found = await zygote.files.usage([s.number for s in sessions], [s.uid for s in sessions], entries)
    for session, (size, count) in zip(sessions, found, strict=True):
        session.judge(size, count)


def sandbox_spec(image: Image, preload: Any, place: cgroup.Place | None) -> dict[str, Any]:
    """The plan of a sandbox: the full profile's tree and seccomp filter, this profile's walls, and mounts inside."""
    groups = [str(folder) for folder in place.distinct] if place else []
    spec = plan.zygote_spec(image, "full", preload=preload, landlock_abi=0, is_root=True, cgroups=groups)
    links = spec["root"]["links"]
    return spec | {
        "profile": "gvisor",
        "walls": list(plan.WALLS["gvisor"]),
        "landlock": {"shared": []},
        "tidy_heap": bool(preload),
        "gvisor": {
            "binds": [path for _, path in spec["root"]["binds"]],
            "devices": spec["root"]["devices"],
            "device_links": [[path, target] for path, target in links if path.startswith("/dev/")],
        },
    }


class SandboxZygote(Zygote):
    """A zygote that is the first process of a gVisor sandbox."""

    def __init__(self, image: Image, spec: dict[str, Any], runsc: str, place: cgroup.Place | None) -> None:
        super().__init__(image, spec)
        self._runsc = runsc
        self._place = place
        self._group: cgroup.Group | None = None
        self._folder = ""
        self._unsent: collections.deque[bytes] = collections.deque()
        self._life, self._their_life = socket.socketpair()
        ours, self._their_files = socket.socketpair()
        self.files = RemoteFiles(ours, self.kill)

    def _spawn(self, theirs: socket.socket) -> None:
        self._folder = gvisor_bundle.make(self._spec)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        fcntl.fcntl(self._log, fcntl.F_SETFL, fcntl.fcntl(self._log, fcntl.F_GETFL) | os.O_APPEND)
        keeping = {
            "command": gvisor_bundle.command(self._runsc, self._folder, rootless=os.geteuid() != 0),
            "folder": self._folder,
            "cgroups": self._spec["cgroups"],
        }
        ends = (self._their_life.fileno(), theirs.fileno())
        python, code = str(self._image.python), str(plan.GUEST_CODE)
        self._process = subprocess.Popen(
            [python, "-I", "-S", "-B", code, "gvisor-keeper", *map(str, ends), json.dumps(keeping)],
            env={},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            pass_fds=ends,
            start_new_session=True,
        )
        self._their_life.close()
        runsc = int(self._life.recv(32) or 0)
        if self._place is not None and runsc:
            memory = int(cgroup.available_memory() * cgroup.HOST_SHARE)
            limits = Limits(memory=memory, processes=PROCESSES, cpus=host_cpus())
            self._group = cgroup.attach(self._place, f"gvisor{next_id()}", runsc, limits)
        self._send_plan()
        self._life.send(b"g")

    def _send_plan(self) -> None:
        assert self._control is not None
        fd = os.memfd_create("belljar-plan")
        try:
            os.write(fd, json.dumps(self._spec).encode())
            socket.send_fds(self._control, [PLAN_PACKET], [fd, self._their_files.fileno()])
        finally:
            os.close(fd)
            self._their_files.close()

    def kill(self) -> None:
        """End the sandbox: the keeper sees this socket close. May be called again."""
        with contextlib.suppress(OSError):
            self._life.send(b"b")  # we live, and clean up ourselves
        self._life.close()

    async def close(self) -> None:
        """End it and all its guests; returns when they are gone, or after END_SECONDS."""
        self.kill()
        self.files.close()
        if self._control is not None:
            self._loop.remove_writer(self._control)
        await super().close()
        for sock in (self._their_life, self._their_files):
            sock.close()
        if self._folder:
            await in_thread(gvisor_bundle.remove, self._folder)
        if self._group is not None:
            await in_thread(self._group.remove)

    def signal(self, number: int, value: int) -> None:
        """Send a signal to the first process of a guest."""
        self._tell({"op": "signal", "id": number, "number": value})

    def release(self, number: int) -> None:
        """A guest's files are needed no more."""
        self._tell({"op": "release", "id": number})

    def _tell(self, message: dict[str, Any]) -> None:
        """Queue a message and send what can be sent: it must not be lost where the zygote is busy forking."""
        if self._control is not None and self.alive:
            self._unsent.append(json.dumps(message).encode())
            self._flush()

    def _flush(self) -> None:
        assert self._control is not None
        try:
            while self._unsent:
                self._control.send(self._unsent[0])
                self._unsent.popleft()
        except BlockingIOError:
            self._loop.add_writer(self._control, self._flush)
            return
        except OSError:
            self._unsent.clear()
        self._loop.remove_writer(self._control)

    def _on_message(self) -> None:
        assert self._control is not None
        try:
            data = self._control.recv(PACKET)
            message = _read_message(data) if data else None
        except BlockingIOError:
            return
        except (OSError, ValueError):
            message = None
        if message is None:  # it has ended, or says what no zygote says
            self.kill()
            self._loop.remove_reader(self._control)
            self._loop.remove_writer(self._control)
            self.files.close()
            self._on_end()
            return
        HANDLERS[message["op"]](self, message)


def _read_message(data: bytes) -> dict[str, Any]:
    """Raises ValueError for what is no message of FIELDS."""
    message = json.loads(data)
    fields = FIELDS.get(str(message.get("op"))) if isinstance(message, dict) else None
    if fields is None or any(type(message.get(name)) is not kind for name, kind in fields.items()):
        raise ValueError("a message of no known shape")
    return dict(message)


async def _bear(zygote: SandboxZygote, request: dict[str, Any]) -> Guest:
    """A guest that stands behind its walls and waits for code; no group and no pid of its own, but its keeper's."""
    with contextlib.ExitStack() as stack:
        ours, theirs = socket.socketpair()
        stack.callback(ours.close)
        ends = [os.pipe2(os.O_CLOEXEC) for _ in range(2)]
        for end, _ in ends:
            stack.callback(os.close, end)
        try:
            status = zygote.fork(request, [theirs.fileno(), *(end for _, end in ends)])
        finally:
            theirs.close()
            for _, end in ends:
                os.close(end)
        stack.callback(zygote.release, request["id"])
        hello = Hello(ours)
        await hello.expect("born", status)
        ours.send(write_frame({"op": "go"}))
        await hello.expect("ready", status)
        stack.pop_all()
        return Guest(
            session=ours, stdout=ends[0][0], stderr=ends[1][0], pid=zygote.pid, pidfd=-1, folder=-1, status=status
        )


class SandboxSession(GuestSession):
    """A session whose guest is in a gVisor sandbox: signals go through its zygote, files through its file server."""

    def __init__(
        self,
        guest: Guest,
        limits: Limits,
        on_close: Callable[[GuestSession], None],
        zygote: SandboxZygote,
        number: int,
        uid: int,
    ) -> None:
        super().__init__(guest, limits, on_close)
        self.zygote = zygote
        self.number = number
        self.uid = uid
        self._draining = False

    async def write_file(self, path: str, data: bytes) -> None:
        """Put a file below the working folder. Raises FileError, SessionClosed."""
        self._check_open()
        if len(data) > self._limits.files_bytes:
            raise FileError(f"{path}: over {self._limits.files_bytes:,} bytes")
        await self.zygote.files.write(self.number, files.relative(path), data)
        self._known = await self._snapshot()

    async def read_file(self, path: str) -> bytes:
        """A file below the working folder, also when the interpreter has died. Raises FileError, SessionClosed."""
        self._check_open()
        return await self.zygote.files.read(self.number, files.relative(path), self._limits.files_bytes)

    async def remove_file(self, path: str) -> None:
        """Remove a file below the working folder, if it is there. Raises FileError, SessionClosed."""
        self._check_open()
        await self.zygote.files.remove(self.number, files.relative(path))
        self._known = await self._snapshot()

    async def close(self) -> None:
        """End the session and everything in it. Never raises; may be called again."""
        was_open = not self._closed
        await super().close()
        if was_open:
            self.zygote.release(self.number)

    async def _snapshot(self) -> files.Snapshot:
        try:
            return await self.zygote.files.snapshot(self.number)
        except (SandboxFailed, FileError):
            return {}

    def is_due(self, tick: int) -> bool:
        """Whether the watchdog is to look at it now. Before its first execution a guest does nothing."""
        return self.alive and self._count > 0 and (self.busy or tick % TICKS_A_LOOK == 0)

    def judge(self, size: int, count: int) -> None:
        """End it where it holds more memory (bytes) or more files than it may."""
        if size > self._limits.memory:
            self.kill_for("memory")
        elif count > self._limits.files_count + ALLOWANCE:
            self.kill_for("files")

    async def _verdict(self, run: Any) -> tuple[Outcome, GuestError | None]:
        """What it has made since the last look counts, too."""
        if run.done is not None:
            with contextlib.suppress(BelljarError):
                await measure(self.zygote, [self], self._limits.files_count + ALLOWANCE + 1)
        if self._exceeded == "files":
            return await self._death_verdict()
        return await super()._verdict(run)

    def _on_death(self) -> None:
        """A guest that has closed its session's socket and runs on is ended, too."""
        super()._on_death()
        self._kill()

    def _signal(self, number: int) -> None:
        if not self._guest.status.done():
            self.zygote.signal(self.number, number)

    def _on_control(self) -> None:
        self._draining = True
        try:
            super()._on_control()
        finally:
            self._draining = False

    def _on_output(self, name: str) -> None:
        """Results first: the guest waits until its pipes have been read before it sends one, but cannot see whether
        this socket has been read (gVisor has no SIOCOUTQ for a host's socket).
        """
        if not self._draining:
            self._on_control()
        super()._on_output(name)
