"""The processes of `belljar bench server`: upstream, relay, Belljar's server, the load; how they start, end and count.

Promises: each is in a session of its own, so that Ctrl-C reaches only the benchmark, which then ends them all; what a
server writes goes to a file, and its last lines into the error when it does not start. A server's CPU time is that of
its whole tree: every living process below it with its children that have ended and were waited for (/proc/PID/stat).
Not covered: CPU time of processes that nobody waits for, and the kernel's on nobody's account (taking down namespaces).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from belljar.bench import machine
from belljar.bench.server_load import Result, Work
from belljar.errors import HostError
from belljar.guest.launch import descendants

START_SECONDS = 60.0
END_SECONDS = 15.0
LOOK_SECONDS = 0.02
QUIET_SECONDS = 0.04
QUIET_MOST = 5.0
LAST_LINES = 5
RESULT_LIMIT = 256 << 20  # bytes of a line with all times of a load

_URL = re.compile(rb"http://127\.0\.0\.1:(\d+)")
_decode_result = msgspec.json.Decoder(Result).decode


class Server:
    """One process that serves HTTP on a port of loopback."""

    def __init__(self, name: str, process: Process, log: Path) -> None:
        self.name = name
        self.port = 0
        self._process = process
        self._log = log

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def pid(self) -> int:
        """Of the process itself."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.returncode is None

    def cpu_ms(self) -> float:
        """CPU time that it and everything below it have used, in milliseconds."""
        pid = self._process.pid
        return sum(sum(machine.cpu_ms(member)) for member in (pid, *descendants(pid)))

    def forget_log(self) -> None:
        """Drop what it has written so far."""
        os.truncate(self._log, 0)

    async def until_listening(self, strangers: Sequence[int]) -> None:
        """Wait until it has named its URL, which is none of the strangers' ports, and takes connections there.

        Raises HostError.
        """
        try:
            async with asyncio.timeout(START_SECONDS):
                while not self.port:
                    if not self.alive:
                        raise HostError(f"{self.name} did not start: {_last_words(self._log)}")
                    ports = [int(port) for port in _URL.findall(self._log.read_bytes())]
                    self.port = next((port for port in ports if port not in strangers), 0)
                    await asyncio.sleep(LOOK_SECONDS)
                while not await self._answers():  # noqa: ASYNC110 -- another process tells nobody
                    await asyncio.sleep(LOOK_SECONDS)
        except TimeoutError:
            raise HostError(f"{self.name} was not ready in {START_SECONDS:g} s: {_last_words(self._log)}") from None

    async def _answers(self) -> bool:
        """Whether GET /readyz has any answer but 503: upstream and relay know no such path."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                writer.write(b"GET /readyz HTTP/1.1\r\nhost: 127.0.0.1:%d\r\nconnection: close\r\n\r\n" % self.port)
                return (await reader.readexactly(12))[9:] != b"503"
            finally:
                writer.close()
        return False


class Load:
    """The process with the clients."""

    def __init__(self, process: Process, log: Path) -> None:
        self._process = process
        self._log = log

    async def run(self, work: Work) -> Result:
        """Let it do this. Raises HostError where it has died."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(msgspec.json.encode(work) + b"\n")
        line = await self._process.stdout.readline()
        if not line.endswith(b"\n"):
            raise HostError(f"the benchmark's own clients have died: {_last_words(self._log)}")
        return _decode_result(line)


@asynccontextmanager
async def serving(
    name: str, command: Sequence[str], folder: Path, strangers: Sequence[int] = ()
) -> AsyncIterator[Server]:
    """A server, started and listening; ended afterwards. Raises HostError."""
    log = folder / f"{name}.log"
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env=_environment(),
        )
    try:
        server = Server(name, process, log)
        await server.until_listening(strangers)
        yield server
    finally:
        await _end(process)


@asynccontextmanager
async def loading(folder: Path) -> AsyncIterator[Load]:
    """The clients' process; ended afterwards."""
    log = folder / "load.log"
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "belljar.bench.server_load",
            stdin=PIPE,
            stdout=PIPE,
            stderr=output,
            limit=RESULT_LIMIT,
            start_new_session=True,
        )
    try:
        yield Load(process, log)
    finally:
        await _end(process)


async def quiet(servers: Sequence[Server]) -> None:
    """Wait until none of them uses CPU time: what the work before left to do is done. Gives up after QUIET_MOST s."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(QUIET_MOST):
            before = -1.0
            while (used := sum(server.cpu_ms() for server in servers)) != before:
                before = used
                await asyncio.sleep(QUIET_SECONDS)


def _last_words(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return " | ".join(line.strip() for line in lines[-LAST_LINES:] if line.strip())


def _environment() -> dict[str, str]:
    """Ours, without what would set options of the server: it is measured as it is."""
    return {name: value for name, value in os.environ.items() if not name.startswith("BELLJAR_SERVE_")}


async def _end(process: Process) -> None:
    """Tell it to end, and see to it; also when we are cancelled meanwhile."""
    ending = asyncio.ensure_future(_terminate(process))
    try:
        await asyncio.shield(ending)
    except asyncio.CancelledError:
        await ending
        raise


async def _terminate(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), END_SECONDS)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
