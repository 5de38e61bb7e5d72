"""The host's side of one guest: runs code in it, reads what it shows, ends it.

Promises: nothing that a guest sends is believed before it is checked: frames have a size limit and a schema, output and
results have budgets, a breach ends the guest. Every wait has a deadline; the last resort is SIGKILL to the first
process of the guest's pid namespace, which ends all of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any, TypeVar

from belljar.errors import ClientError, FileError, SandboxFailed, SessionClosed
from belljar.execution import Event, Execution, FileInfo, GuestError, Outcome
from belljar.guest import kernel
from belljar.guest.frames import FrameError, FrameReader, read_head, write_frame
from belljar.sandbox import files
from belljar.sandbox.base import Limits
from belljar.sandbox.capture import Capture, read_error, read_result
from belljar.sandbox.handle import Guest, has_ended
from belljar.sandbox.threads import in_thread

CHUNK = 1 << 16
MEMORY_SECONDS = 0.25  # between looks at the group's count of out-of-memory kills
INTERRUPT_AGAIN = (0.05, 0.1, 0.2)  # seconds between an interrupt and its repetitions
GRACE_SECONDS = 1.0  # between the interrupt and the kill
DEATH_SECONDS = 2.0
QUIET_FILES = 200  # as many entries are listed in passing; more than that in a thread
FRAME_ROOM = 4 << 20
STRAY_COST = 1024
CODE_LIMIT = 8 << 20  # characters
STREAMS = ("stdout", "stderr")
T = TypeVar("T")
log = logging.getLogger(__name__)


class _Run:
    """One execution under way."""

    timer: asyncio.TimerHandle
    memory_timer: asyncio.TimerHandle

    def __init__(self, number: int, limits: Limits, timeout: float) -> None:
        self.number = number
        self.timeout = timeout
        self.started = time.monotonic()
        self.captures = {
            "stdout": Capture("stdout", limits.output_bytes),
            "stderr": Capture("stderr", limits.output_bytes),
        }
        self.results: list[Any] = []
        self.results_left = limits.results_bytes + FRAME_ROOM
        self.events: list[Event] = []
        self.wake = asyncio.Event()
        self.done: dict[str, Any] | None = None
        self.timed_out = False
        self.listening = False
        self.began = False
        self.interrupted = False

    def show(self, event: Event) -> None:
        self.events.append(event)
        self.wake.set()


class GuestSession:
    """A session over one guest. Make it inside a running event loop; use it from that loop only."""

    def __init__(self, guest: Guest, limits: Limits, on_close: Callable[[GuestSession], None]) -> None:
        self._guest = guest
        self._limits = limits
        self._on_close = [on_close]
        self._loop = asyncio.get_running_loop()
        self._reader = FrameReader(limits.results_bytes + FRAME_ROOM)
        self._run: _Run | None = None
        self._count = 0
        self._closed = False
        self._chores: set[asyncio.Task[None]] = set()
        self._ending: asyncio.Task[None] | None = None
        self._dead = False
        self._breach = ""
        self._oom_seen = 0
        self._strays_left = limits.results_bytes
        self._known: files.Snapshot = {}
        self._exceeded = ""
        guest.session.setblocking(False)
        self._loop.add_reader(guest.session, self._on_control)
        guest.status.add_done_callback(lambda _: self._on_status())
        for name in STREAMS:
            os.set_blocking(getattr(guest, name), False)

    @property
    def alive(self) -> bool:
        """Whether it can run another execution."""
        return not (self._closed or self._dead)

    @property
    def fit(self) -> bool:
        """Whether it is alive as far as the kernel knows now, before the event loop has heard of an end."""
        return self.alive and self._guest.zygote_lives() and not has_ended(self._guest.pidfd)

    @property
    def busy(self) -> bool:
        """Whether code is running."""
        return self._run is not None

    @property
    def used(self) -> bool:
        """Whether code has ever run here."""
        return self._count > 0

    @property
    def limits(self) -> Limits:
        """What it may use."""
        return self._limits

    @property
    def owner(self) -> int | None:
        """The guest's user where that is another than the host's."""
        return self._guest.uid

    def copy_folder(self) -> int:
        """A new descriptor of the working folder. Raises OSError when the session has been closed."""
        return os.dup(self._guest.folder)

    @property
    def pid(self) -> int:
        """The guest's first process, as the host counts."""
        return self._guest.pid

    @property
    def visible(self) -> bool:
        """Whether the host sees its processes, below `pid`."""
        return self._guest.pidfd >= 0

    def on_close(self, callback: Callable[[GuestSession], None]) -> None:
        """Call this, too, when the session has been closed."""
        self._on_close.append(callback)

    async def run(self, code: str, *, timeout: float | None = None) -> Execution:
        """Run code to its end. Raises SessionClosed."""
        events = [event async for event in self.stream(code, timeout=timeout)]
        assert isinstance(events[-1], Execution)
        return events[-1]

    async def stream(self, code: str, *, timeout: float | None = None) -> AsyncGenerator[Event, None]:
        """Run code; its output and results as they come, the Execution last. Leaving early ends the session.

        Raises SessionClosed where the session has ended before; later ends are outcomes. `timeout` in seconds.
        """
        if not self.alive:
            raise SessionClosed("the session has ended")
        if self._run is not None:
            raise SessionClosed("the session is running something else")
        if len(code) > CODE_LIMIT:
            raise ClientError(f"{len(code):,} characters of code, {CODE_LIMIT:,} are allowed")
        self._count += 1
        run = self._run = _Run(self._count, self._limits, self._limits.timeout if timeout is None else timeout)
        run.timer = self._loop.call_later(run.timeout, self._on_deadline, run)
        run.memory_timer = self._loop.call_later(MEMORY_SECONDS, self._look_at_memory, run)
        self._listen()
        run.listening = True
        try:
            await self._send({"op": "run", "id": run.number}, code.encode("utf-8", "surrogatepass"))
            async for event in self._events(run):
                yield event
            execution = await self._finish(run)
        finally:
            run.timer.cancel()
            run.memory_timer.cancel()
            self._run = None
            self._stop_listening()
            if run.done is None and not self._dead:  # the caller left in the middle
                await self.close()
        yield execution  # after the clean-up, so that a caller who takes it and goes leaves nothing open

    async def interrupt(self) -> None:
        """Raise KeyboardInterrupt in the code that runs; the session lives on where the code lets it."""
        if self._run is not None:
            self._interrupt(self._run)

    async def write_file(self, path: str, data: bytes) -> None:
        """Put a file below the working folder. Raises FileError, SessionClosed."""
        self._check_open()
        if len(data) > self._limits.files_bytes:
            raise FileError(f"{path}: over {self._limits.files_bytes:,} bytes")
        name = files.relative(path)
        await self._on_folder(files.write, name, data, self._guest.uid)
        self._known = await self._snapshot()

    async def remove_file(self, path: str) -> None:
        """Remove a file below the working folder, if it is there. Raises FileError, SessionClosed."""
        self._check_open()
        await self._on_folder(files.remove, files.relative(path), self._guest.uid)
        self._known = await self._snapshot()

    async def read_file(self, path: str) -> bytes:
        """A file below the working folder, also of an interpreter that has died. Raises FileError, SessionClosed."""
        self._check_open()
        return await self._on_folder(files.read, files.relative(path), self._limits.files_bytes + self._limits.memory)

    async def list_files(self) -> tuple[FileInfo, ...]:
        """All regular files below the working folder. Raises SessionClosed."""
        self._check_open()
        return await files.describe_many(await self._snapshot())

    async def close(self) -> None:
        """End the session and everything in it. Never raises; goes on when it is cancelled; may be called again."""
        if self._ending is None:
            self._closed = True
            self._unregister()
            self._kill()
            if self._run is not None:
                self._run.wake.set()
            self._ending = self._loop.create_task(self._end())
        await asyncio.shield(self._ending)

    async def _end(self) -> None:
        guest = self._guest
        try:
            if guest.end is not None:
                await in_thread(guest.end)
            if not guest.status.done():
                await asyncio.wait_for(asyncio.shield(guest.status), DEATH_SECONDS)
        except Exception as error:
            log.debug("the end of a guest was not seen: %s", error)
        finally:
            guest.session.close()
            for fd in (guest.stdout, guest.stderr, guest.pidfd, guest.folder):
                if fd >= 0:  # a guest in a kernel of its own has no pidfd and no folder here
                    os.close(fd)
            guest.stdout = guest.stderr = guest.pidfd = guest.folder = -1
            for callback in self._on_close:
                callback(self)

    def kill_for(self, limit: str) -> None:
        """The watchdog's verdict: over this limit ("memory", "processes" or "files")."""
        self._exceeded = limit
        self._kill()

    def _check_open(self) -> None:
        if self._closed:
            raise SessionClosed("the session has ended")

    async def _send(self, head: dict[str, Any], blob: bytes) -> None:
        frame = write_frame(head, blob)
        try:
            sent = self._guest.session.send(frame)
            if sent < len(frame):
                await self._loop.sock_sendall(self._guest.session, frame[sent:])
        except BlockingIOError:
            await self._loop.sock_sendall(self._guest.session, frame)
        except OSError:
            self._on_death()

    async def _events(self, run: _Run) -> AsyncIterator[Event]:
        while True:
            events, run.events = run.events, []
            for event in events:
                yield event
            if run.events:
                continue
            if run.done is not None or self._dead or self._closed:
                return
            run.wake.clear()
            await run.wake.wait()

    async def _finish(self, run: _Run) -> Execution:
        duration = time.monotonic() - run.started
        outcome, error = await self._verdict(run)
        before, self._known = self._known, await self._snapshot()
        out, err = run.captures["stdout"], run.captures["stderr"]
        return Execution(
            outcome=outcome,
            stdout=out.text(),
            stderr=err.text(),
            results=tuple(run.results),
            error=error,
            files=await files.describe_many(self._known, before),
            duration=duration,
            stdout_bytes=out.written,
            stderr_bytes=err.written,
        )

    async def _verdict(self, run: _Run) -> tuple[Outcome, GuestError | None]:
        """How it ended, from what the kernel and the host saw first, and only then from what the guest says."""
        if self._ran_out_of_memory():
            self._kill()
            note = f"the sandbox used more than its {self._limits.memory:,} bytes of memory"
            return Outcome.OUT_OF_MEMORY, _ended("MemoryError", note)
        if run.timed_out:
            return Outcome.TIMEOUT, _ended("TimeoutError", f"the code ran longer than {run.timeout:g} s")
        if run.done is None:
            return await self._death_verdict()
        error = read_error(run.done)
        if error is None:
            return Outcome.OK, None
        return (Outcome.OUT_OF_MEMORY if error.name == "MemoryError" else Outcome.ERROR), error

    async def _death_verdict(self) -> tuple[Outcome, GuestError]:
        if self._breach:
            return Outcome.KILLED, _ended("ProtocolError", self._breach)
        if self._exceeded:
            return Outcome.KILLED, _ended("LimitExceeded", f"the sandbox went over its limit of {self._exceeded}")
        try:
            async with asyncio.timeout(DEATH_SECONDS):  # wait_for can swallow a cancellation (Python 3.11)
                status = await asyncio.shield(self._guest.status)
        except (TimeoutError, SandboxFailed):
            status = 9
        if os.WIFEXITED(status):
            return Outcome.EXITED, _ended("SystemExit", f"the interpreter exited with {os.WEXITSTATUS(status)}")
        name = signal.Signals(os.WTERMSIG(status)).name
        return Outcome.KILLED, _ended("Killed", f"the interpreter was ended by {name}")

    def _ran_out_of_memory(self) -> bool:
        if self._exceeded == "memory":
            return True
        kills = self._guest.group.oom_kills() if self._guest.group else 0
        self._oom_seen, before = kills, self._oom_seen
        return kills > before

    async def _on_folder(self, work: Callable[..., T], *arguments: Any) -> T:
        """Run blocking work on the folder in a thread, with a descriptor of its own: ours may be closed meanwhile, and
        its number be another guest's.
        """
        folder = self.copy_folder()

        def with_copy() -> T:
            try:
                return work(folder, *arguments)
            finally:
                os.close(folder)

        return await in_thread(with_copy)

    async def _snapshot(self) -> files.Snapshot:
        if self._closed:
            return {}
        try:
            few = os.fstat(self._guest.folder).st_nlink <= 2 and len(os.listdir(self._guest.folder)) < QUIET_FILES
        except OSError:
            return {}
        if few:
            return files.snapshot(self._guest.folder)
        return await self._on_folder(files.snapshot)

    def _on_control(self) -> None:
        try:
            data = self._guest.session.recv(CHUNK * 4)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._on_death()
            return
        try:
            for text, blob in self._reader.feed_raw(data):
                self._on_frame(text, blob)
        except FrameError as error:
            self._breach = f"the guest broke the protocol: {error}"
            self._kill()
            self._on_death()

    def _on_status(self) -> None:
        """The first process has ended. What it sent is read first; children that hold its socket keep it no longer
        alive.
        """
        if not (self._dead or self._closed):
            self._on_control()
            self._on_death()

    def _on_frame(self, text: bytes, blob: bytes) -> None:
        run = self._run
        head = read_head(text) if run is not None and run.done is None else {}
        if run is None or head.get("id") != run.number:
            self._strays_left -= len(text) + len(blob) + STRAY_COST  # of an execution that is over; not without end
            if self._strays_left < 0:
                raise FrameError("frames without end")
            return
        if head.get("op") == "result":
            result, cost = read_result(head, blob)
            run.results_left -= cost + len(text)
            if run.results_left < 0:
                raise FrameError("more results than allowed")
            run.results.append(result)
            run.show(result)
        elif head.get("op") == "started":
            run.began = True
            if run.interrupted:
                self._signal_interrupt(run, INTERRUPT_AGAIN)
        elif head.get("op") == "done":
            read_error(head)  # its schema, before anything is believed
            for name in STREAMS:
                self._on_output(name)
            run.listening = False
            run.done = head
            run.wake.set()
        else:
            raise FrameError("a frame of no known kind")

    def _on_output(self, name: str) -> None:
        fd = getattr(self._guest, name)
        limit = self._limits.output_bytes + CHUNK
        while limit > 0:
            try:
                data = os.read(fd, CHUNK)
            except (BlockingIOError, OSError):
                return
            if not data:
                self._loop.remove_reader(fd)
                return
            limit -= len(data)
            if self._run is not None and self._run.listening:
                shown = self._run.captures[name].feed(data)
                if shown is not None:
                    self._run.show(shown)
            if len(data) < CHUNK:
                return

    def _on_deadline(self, run: _Run) -> None:
        if run.done is None and self._run is run:
            run.timed_out = True
            self._interrupt(run)
            run.timer = self._loop.call_later(GRACE_SECONDS, self._kill)

    def _look_at_memory(self, run: _Run) -> None:
        """Where a child process was killed for memory, all of the guest goes: it did use too much."""
        if self._run is run and run.done is None:
            if self._ran_out_of_memory():
                self.kill_for("memory")
            else:
                run.memory_timer = self._loop.call_later(MEMORY_SECONDS, self._look_at_memory, run)

    def _interrupt(self, run: _Run) -> None:
        """SIGINT, when the guest has begun with this code: before, it would not know what is meant."""
        run.interrupted = True
        if run.began:
            self._signal_interrupt(run, INTERRUPT_AGAIN)

    def _signal_interrupt(self, run: _Run, again: tuple[float, ...]) -> None:
        """SIGINT, and once more after each of these seconds: a signal that comes just before a system call that waits
        is seen by Python only when the call is over. The guest takes those of half a second for one.
        """
        if self._run is run and run.done is None:
            self._signal(signal.SIGINT)
            if again:
                self._loop.call_later(again[0], self._signal_interrupt, run, again[1:])

    def _on_death(self) -> None:
        if self._dead:
            return
        self._dead = True
        self._kill()  # it may only have closed its session; and without a pid namespace it has left children
        for name in STREAMS:
            self._on_output(name)
        self._unregister()
        if self._run is not None:
            self._run.wake.set()

    def _listen(self) -> None:
        """Read the streams while code runs, and only then: in between the session writes into full pipes."""
        for name in STREAMS:
            self._on_output(name)  # left over from before: goes nowhere
            self._loop.add_reader(getattr(self._guest, name), self._on_output, name)

    def _stop_listening(self) -> None:
        if not self._closed:
            for name in STREAMS:
                self._loop.remove_reader(getattr(self._guest, name))

    def _unregister(self) -> None:
        self._loop.remove_reader(self._guest.session)
        for name in STREAMS:
            self._loop.remove_reader(getattr(self._guest, name))

    def _signal(self, number: int) -> None:
        if self._guest.pidfd < 0:
            return  # closed: the number may be another's by now
        with contextlib.suppress(OSError):
            kernel.pidfd_send_signal(self._guest.pidfd, number)

    def _kill(self) -> None:
        """SIGKILL to the first process; in a pid namespace of its own nothing outlives that."""
        if self._guest.end is None or self._closed:
            self._signal(signal.SIGKILL)
        else:
            task = self._loop.create_task(in_thread(self._guest.end))
            self._chores.add(task)
            task.add_done_callback(self._chores.discard)


def _ended(name: str, value: str) -> GuestError:
    return GuestError(name=name, value=value, traceback=f"{name}: {value}")
