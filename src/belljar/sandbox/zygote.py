"""The host's side of a zygote: starts it, asks it for forks, notices its end.

Promises: a zygote that cannot put up its walls or import its image raises at `start` with the reason; once it is
closed or dead, every guest of it is dead or dying. The zygote gets no environment and no descriptor but its socket and
its plan.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import os
import socket
import subprocess
import tempfile
from typing import IO, Any

from belljar.errors import ImageError, IsolationUnavailable, SandboxFailed
from belljar.sandbox.image import Image
from belljar.sandbox.plan import GUEST_CODE
from belljar.sandbox.threads import in_thread

log = logging.getLogger(__name__)
START_SECONDS = 120.0
END_SECONDS = 5.0
PACKET = 1 << 16


class Zygote:
    """One running zygote."""

    def __init__(self, image: Image, spec: dict[str, Any]) -> None:
        self._image = image
        self._spec = spec
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[dict[str, Any]] = self._loop.create_future()
        self._ended = asyncio.Event()
        self._statuses: dict[int, asyncio.Future[int]] = {}
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None
        self.imports: dict[str, float] = {}
        self.own_pid = 0  # as the zygote sees itself: the host's view only where they share a pid namespace

    @property
    def alive(self) -> bool:
        """Whether it can fork."""
        return self._control is not None and not self._ended.is_set()

    @property
    def pid(self) -> int:
        """The launcher's pid on the host; the zygote is below it."""
        return self._process.pid if self._process else 0

    async def start(self) -> None:
        """Start and wait for its imports. Raises IsolationUnavailable, ImageError, SandboxFailed."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control = ours
        ours.setblocking(False)
        try:
            await in_thread(self._spawn, theirs)
        finally:
            theirs.close()
        self._loop.add_reader(ours, self._on_message)
        try:
            async with asyncio.timeout(START_SECONDS):
                ready = await self._ready
            self.imports, self.own_pid = ready["imports"], ready["pid"]
            if ready["open"]:
                log.warning("image %r keeps files open, which guests cannot use: %s", self._image.name, ready["open"])
        except TimeoutError:
            await self.close()
            raise SandboxFailed(
                f"the zygote of image {self._image.name} was not ready in {START_SECONDS:.0f} s"
            ) from None
        except BaseException:
            await self.close()
            raise

    def _spawn(self, theirs: socket.socket) -> None:
        plan = os.memfd_create("belljar-plan")
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        try:
            os.write(plan, json.dumps(self._spec).encode())
            self._process = subprocess.Popen(
                _command(self._image, theirs.fileno(), plan),
                env={},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                pass_fds=(theirs.fileno(), plan),
                start_new_session=True,
            )
        finally:
            os.close(plan)

    def fork(self, request: dict[str, Any], fds: list[int]) -> asyncio.Future[int]:
        """Ask for a guest that gets these three descriptors; a future of its wait status. Raises SandboxFailed."""
        if self._control is None or not self.alive:
            raise SandboxFailed("the zygote has ended")
        try:
            socket.send_fds(self._control, [json.dumps({"op": "fork", **request}).encode()], fds)
        except (OSError, BlockingIOError) as error:
            raise SandboxFailed(f"the zygote does not take requests: {error}") from None
        future = self._statuses[request["id"]] = self._loop.create_future()
        return future

    async def close(self) -> None:
        """End it and all its guests; returns when they are gone, or after END_SECONDS."""
        if self._control is not None:
            self._loop.remove_reader(self._control)
            self._control.close()
            self._control = None
        if self._process is not None:
            await in_thread(self._wait_for_process)
        self._on_end()
        if self._log is not None:
            self._log.close()
            self._log = None

    def _wait_for_process(self) -> None:
        assert self._process is not None
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()  # pdeathsig takes the zygote with it
            self._process.wait()

    def _on_message(self) -> None:
        assert self._control is not None
        for _ in range(64):
            try:
                data = self._control.recv(PACKET)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._loop.remove_reader(self._control)
                self._on_end()
                return
            message = json.loads(data)
            HANDLERS[message["op"]](self, message)

    def _on_ready(self, message: dict[str, Any]) -> None:
        if not self._ready.done():
            self._ready.set_result(message)

    def _on_refused(self, message: dict[str, Any]) -> None:
        self._fail(IsolationUnavailable(f"wall {message['wall']!r} cannot be put up here: {message['reason']}"))

    def _on_broken(self, message: dict[str, Any]) -> None:
        name = self._image.name
        self._fail(
            ImageError(f"image {name!r} does not work: {message['reason']}; try: belljar image build {name} --force")
        )

    def _on_gone(self, message: dict[str, Any]) -> None:
        future = self._statuses.pop(message["id"], None)
        if future is not None and not future.done():
            future.set_result(message["status"])

    def _on_fork_failed(self, message: dict[str, Any]) -> None:
        future = self._statuses.pop(message["id"], None)
        if future is not None and not future.done():
            future.set_exception(SandboxFailed(f"the zygote could not fork: {message['reason']}"))

    def _on_end(self) -> None:
        self._ended.set()
        self._fail(SandboxFailed(f"the zygote of image {self._image.name!r} ended at its start{self._last_words()}"))
        for future in self._statuses.values():
            if not future.done():
                future.set_result(9)
        self._statuses.clear()

    def _fail(self, error: Exception) -> None:
        if not self._ready.done():
            self._ready.set_exception(error)
            self._ready.exception()  # looked at, also where nobody waits any more

    def _last_words(self) -> str:
        if self._log is None:
            return ""
        with contextlib.suppress(OSError, ValueError):
            self._log.seek(0)
            text = self._log.read(1 << 16).decode(errors="replace").strip()
            return f": {text[-500:]}" if text else ""
        return ""

    async def wait_ended(self) -> None:
        """Return when it has ended, however that came."""
        await self._ended.wait()


HANDLERS = {
    "ready": Zygote._on_ready,
    "refused": Zygote._on_refused,
    "broken": Zygote._on_broken,
    "gone": Zygote._on_gone,
    "fork_failed": Zygote._on_fork_failed,
}

_ids = itertools.count(1)


def next_id() -> int:
    """A number for a guest, not used before in this process."""
    return next(_ids)


def _command(image: Image, control: int, plan: int) -> list[str]:
    return [str(image.python), "-I", "-S", "-B", str(GUEST_CODE), "launch", str(control), str(plan), str(os.getpid())]
