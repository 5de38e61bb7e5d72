"""The host that is attacked: canaries of every kind, a neighbour in a sandbox of its own, and eyes on all of them.

Secrets are in the canaries' contents, in this process's environment and in the neighbour; never in a guest's code. So a
secret in what a guest shows has been stolen. Standard library and belljar only.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import secrets
import select
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import belljar
from attacks.guest import build
from belljar import Execution, Limits, Sandbox
from belljar.sandbox.syscalls import read_numbers

MIB = 1 << 20
NO_PID = (1 << 22) - 1  # where the host cannot know it: a number that hardly any process has
# One set of limits for all attacks, so that they share a zygote: small ones, which are soon reached.
LIMITS = Limits(
    timeout=8.0, memory=192 * MIB, processes=64, files_bytes=16 * MIB, files_count=400, output_bytes=64 * 1024
)
SECRET_MARK = "belljar-" + "secret-"
NEIGHBOUR = """
import os, socket, subprocess, threading
kept = "".join(["belljar", "-", "secret", "-", "%(secret)s"])
for folder in (os.getcwd(), os.environ["TMPDIR"], "/dev/shm"):
    try:
        with open(f"{folder}/neighbour", "w") as file:
            file.write(kept)
        os.chmod(f"{folder}/neighbour", 0o666)
    except OSError:
        pass
child = subprocess.Popen(["sleep", "10000"])
try:
    abstract, tcp = socket.socket(socket.AF_UNIX), socket.socket()
    abstract.bind("\\0belljar-neighbour")
    tcp.bind(("127.0.0.1", 42424))
    abstract.listen(), tcp.listen()
except OSError:
    pass
print(os.getcwd())
"""


class Scene:
    """Canaries and neighbour of one worker."""

    def __init__(self, profile: str, folder: Path) -> None:
        self.profile = profile
        self.folder = folder
        self.secret = SECRET_MARK + secrets.token_hex(16)
        self.neighbour_secret = secrets.token_hex(16)
        self.seen: Execution | None = None
        os.environ["BELLJAR_CANARY"] = self.secret
        self._place_files()
        self._place_sockets()
        self._place_process()
        self._baseline = self._look()
        self._neighbour: Sandbox | None = None
        self.places: dict[str, object] = {
            "canary": self.canary,
            "folder": self.canary.parent,
            "listener": self.canary.parent / "listener",
            "abstract": self._abstract,
            "port": self._tcp.getsockname()[1],
            "udp": self._udp.getsockname()[1],
            "canary_pid": self.process.pid,
            "host_pid": os.getpid(),
            "home": os.environ["HOME"],
            "code": Path(belljar.__file__).parent / "errors.py",
            "shm": self._shm,
        }

    # --- canaries -----------------------------------------------------------------------------------------------------

    def _place_files(self) -> None:
        folder = self.folder / "canary"
        folder.mkdir(mode=0o755)
        folder.chmod(0o755)
        self.canary = folder / "secret"
        self._other_files = (folder / "open to all", Path(os.environ["HOME"]) / "private")
        for path, mode in ((self.canary, 0o644), *zip(self._other_files, (0o666, 0o644), strict=True)):
            path.write_text(self.secret)
            path.chmod(mode)
            os.utime(path, (1e9, 1e9))
        self._shm = f"/dev/shm/{folder.parent.name}"
        try:
            Path(self._shm).write_text(self.secret)
            Path(self._shm).chmod(0o666)
        except OSError:
            self._shm = str(self.canary)

    def _place_sockets(self) -> None:
        self._abstract = f"belljar-canary-{secrets.token_hex(4)}"
        named, abstract = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
        named.bind(str(self.canary.parent / "listener"))
        (self.canary.parent / "listener").chmod(0o777)
        abstract.bind("\0" + self._abstract)
        self._tcp, self._udp = socket.socket(), socket.socket(type=socket.SOCK_DGRAM)
        for sock in (self._tcp, self._udp):
            sock.bind(("127.0.0.1", 0))
        for sock in (named, abstract, self._tcp):
            sock.listen()
        self._sockets = (named, abstract, self._tcp, self._udp)

    def _place_process(self) -> None:
        command = [sys.executable, "-I", "-S", "-c", "import sys; sys.stdin.read()"]  # ends when this process does
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)

    def _look(self) -> dict[str, object]:
        """The state of every canary: what an attack must not change."""
        facts: dict[str, object] = {"host name": os.uname().nodename}
        for path in (self.canary, *self._other_files):
            status = path.stat()
            facts[f"file {path.name}"] = (
                path.read_text(),
                stat.S_IMODE(status.st_mode),
                status.st_nlink,
                status.st_uid,
            )
            facts[f"times of {path.name}"] = status.st_mtime
        facts["folder"] = sorted(path.name for path in self.canary.parent.iterdir())
        pid = self.process.pid
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        facts["process"] = ("alive", fields[3], fields[16]) if fields[0] in "SR" else "stopped or dead"
        facts["affinity"], facts["policy"] = os.sched_getaffinity(pid), os.sched_getscheduler(pid)
        facts["oom_score_adj"] = Path(f"/proc/{pid}/oom_score_adj").read_text()
        facts["limits"] = Path(f"/proc/{pid}/limits").read_text()
        facts["mode of /dev/null"] = os.stat("/dev/null").st_mode  # noqa: PTH116
        return facts

    def faults(self) -> list[str]:
        """What an attack has changed on the host; the neighbour and a fresh sandbox are tried, too."""
        faults = []
        now, before = self._look(), self._baseline
        for name in now:
            if now[name] != before[name]:
                faults.append(f"changed on the host: {name}: {before[name]!r} -> {now[name]!r}")
        self._baseline = now
        if select.select(self._sockets, [], [], 0)[0]:
            faults.append("a listener of the host was reached")
            self._drain()
        faults += self._fault_of_neighbour()
        with contextlib.suppress(belljar.BelljarError):
            with self.sandbox() as fresh:
                execution = fresh.run("print(6 * 7)")
            if execution.stdout == "42\n":
                return faults
        return [*faults, "a fresh sandbox does not work"]

    def _drain(self) -> None:
        for sock in select.select(self._sockets, [], [], 0)[0]:
            if sock is self._udp:
                sock.recv(4096)
            else:
                sock.accept()[0].close()

    # --- sandboxes ----------------------------------------------------------------------------------------------------

    def sandbox(self, limits: Limits = LIMITS, preload: tuple[str, ...] = ()) -> Sandbox:
        """A fresh sandbox of the profile that is attacked."""
        return Sandbox(profile=self.profile, limits=limits, preload=preload)

    def run(self, sandbox: Sandbox, code: str, timeout: float | None = None) -> Execution:
        """Run attack code; the execution is remembered, so that it can be searched for secrets."""
        self.seen = sandbox.run(build(code, self.places), timeout=timeout)
        return self.seen

    @contextlib.contextmanager
    def attacked(self, code: str, timeout: float | None = None) -> Iterator[tuple[Sandbox, Execution]]:
        """A fresh sandbox in which the code has run, still alive."""
        with self.sandbox() as sandbox:
            yield sandbox, self.run(sandbox, code, timeout)

    @property
    def neighbour(self) -> Sandbox:
        """A sandbox of somebody else, with secrets in its files, memory and sockets; made when first asked for."""
        if self._neighbour is None or not self._neighbour.alive:
            self._neighbour = self.sandbox()
            folder = self._neighbour.run(NEIGHBOUR % {"secret": self.neighbour_secret}).stdout.strip()
            self.places |= {"other": folder, "other_pid": self._neighbour._session.pid or NO_PID}
        return self._neighbour

    def _fault_of_neighbour(self) -> list[str]:
        if self._neighbour is None:
            return []
        try:
            execution = self._neighbour.run("print(child.poll(), open('neighbour').read() == kept)")
            if execution.stdout == "None True\n":
                return []
            harm = f"{execution.outcome} {execution.stdout}{execution.error or ''}"
        except belljar.BelljarError as error:
            harm = str(error)
        self._neighbour.close()
        self._neighbour = None
        return [f"the neighbour was harmed: {harm}"]

    def close(self) -> None:
        """Take the canaries away."""
        if self._neighbour is not None:
            self._neighbour.close()
        self.process.kill()
        self.process.wait()
        for sock in self._sockets:
            sock.close()
        if self._shm.startswith("/dev/shm/"):
            Path(self._shm).unlink(missing_ok=True)

    # --- what drives ask the host -------------------------------------------------------------------------------------

    @staticmethod
    def call(name: str, *arguments: int) -> int:
        """A system call of the host's: its value, or minus its errno."""
        libc = ctypes.CDLL(None, use_errno=True)
        number = read_numbers()[platform.machine()][name]
        value = libc.syscall(ctypes.c_long(number), *(ctypes.c_long(a) for a in arguments))
        return int(value) if value >= 0 else -ctypes.get_errno()

    @staticmethod
    def processes_with(mark: str) -> list[int]:
        """Processes of the host whose command line has this mark."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mark.encode() in (folder / "cmdline").read_bytes():
                    found.append(int(folder.name))
        return found

    @staticmethod
    def end(pids: list[int]) -> None:
        """Kill processes that an attack has left behind."""
        for pid in pids:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
