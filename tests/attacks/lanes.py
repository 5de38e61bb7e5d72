"""The pytest side of workers: starts one for each lane (user, profile), hands it attacks, notices when one hangs."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import belljar
from attacks.confine import USER
from attacks.model import Finding
from belljar.guest.launch import descendants
from belljar.sandbox.image import find_image

# Who runs Belljar, in the words of the table.
USERS = {"root": "root", "user": "an ordinary user", "docker": "root in an ordinary container"}
START_SECONDS, ATTACK_SECONDS = 60.0, 30.0
HANGS = {"leave_folders_too_deep_to_remove": 12.0}  # known to hang somewhere (holes.py): no need to wait longer
START = "import sys; sys.path[:0] = sys.argv[1:2]; from attacks.worker import main; main(*sys.argv[2:])"


@dataclass(frozen=True)
class Lane:
    """Who runs Belljar, and with which profile."""

    user: str
    profile: str

    def __str__(self) -> str:
        return f"{self.profile}-{self.user}"


def possible_users() -> list[str]:
    """Who this process can be: root can become all of them."""
    return list(USERS) if os.geteuid() == 0 else ["user", "docker"]


def lanes(profiles: list[str]) -> list[Lane]:
    """All lanes of this run.

    An ordinary container gives no namespaces, so it has the container profile only. gVisor, whose own kernel stands
    between, is run as the present user: it takes as long as all others together.
    """
    first, *_ = possible_users()
    found = [Lane(user, profile) for profile in profiles for user in possible_users()]
    found = [lane for lane in found if lane.user != "docker" or lane.profile == "container"]
    return [lane for lane in found if lane.user == first or lane.profile != "gvisor"]


class Unavailable(Exception):
    """A lane that cannot be run here, and why; `refused` is set where Belljar itself said so."""

    def __init__(self, reason: str, refused: bool) -> None:
        super().__init__(reason)
        self.refused = refused


class Worker:
    """One running worker."""

    def __init__(self, lane: Lane) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="belljar-attacks-"))
        self.folder.chmod(0o755)
        self._log = (self.folder / "log").open("w+b")
        self._prepare(lane)
        command = [self._interpreter(), "-I", "-B", "-c", START, str(self.folder / "code")]
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "COV"))}
        self._process = subprocess.Popen(
            [*command, lane.user, lane.profile, str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd="/",
            env=environment,
            start_new_session=True,
        )
        hello = self._read(START_SECONDS)
        if reason := hello.get("skipped") or hello.get("broken"):
            self.end()
            raise Unavailable(str(reason), bool(hello.get("refused")))
        self.tags = (lane.profile, lane.user, *hello["tags"])
        self.limiter = hello["limiter"]

    def _prepare(self, lane: Lane) -> None:
        """A copy of the code, since an ordinary user may not be able to read the checkout, and folders of its own."""
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(Path(belljar.__file__).parent, self.folder / "code/belljar", ignore=ignored)
        shutil.copytree(Path(__file__).parent, self.folder / "code/attacks", ignore=ignored)
        for name in ("home", "tmp", "images"):
            (self.folder / name).mkdir()
        if lane.user == "user" and os.geteuid() == 0:
            for path in (self.folder, *(self.folder / name for name in ("home", "tmp"))):
                os.chown(path, USER, USER)

    @staticmethod
    def _interpreter() -> str:
        """The image's own, which every user can run who can have a sandbox at all. Raises ImageError."""
        return os.path.realpath(find_image("default").python)

    def carry_out(self, name: str) -> Finding:
        """One attack, to its end."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(name + "\n")
            self._process.stdin.flush()
        finding = self._read(HANGS.get(name, ATTACK_SECONDS))
        if "broken" in finding:
            return Finding(attack=name, faults=(str(finding["broken"]),), tags=self.tags)
        finding = {key: tuple(value) if isinstance(value, list) else value for key, value in finding.items()}
        return Finding(**finding | {"tags": self.tags})

    def finish(self) -> list[str]:
        """Close Belljar in the worker; what it has left behind."""
        assert self._process.stdin is not None
        self._process.stdin.write("finish\n")
        self._process.stdin.flush()
        answer = self._read(START_SECONDS)
        self.end()
        return list(answer.get("left", [str(answer)]))

    @property
    def alive(self) -> bool:
        """Whether it can carry out another attack."""
        return self._process.poll() is None

    def _read(self, seconds: float) -> dict[str, Any]:
        """One answer; where none comes in time, the worker's end."""
        assert self._process.stdout is not None
        timer = threading.Timer(seconds, self._process.kill)
        timer.start()
        try:
            line = self._process.stdout.readline()
        finally:
            timer.cancel()
        if line:
            return dict(json.loads(line))
        status = self._process.wait()
        self._end_tree()
        self._log.seek(0)
        words = self._log.read().decode(errors="replace").strip()[-2000:]
        return {"broken": f"the host's process hung or died (status {status}): {words}"}

    def _end_tree(self) -> None:
        """What a worker that was killed has left: its folder's name is random, so nothing else can run from there."""
        _end_guests(str(self.folder / "code/belljar/guest"))

    def end(self) -> None:
        """End it; its sandboxes end with it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._end_tree()
        self._process.stdout.close()
        self._log.close()
        subprocess.run(["rm", "-rf", str(self.folder)], check=False)  # an attack may have left it too deep for shutil


def _end_guests(code: str) -> None:
    """End what runs guest code from this very folder, and all below it. Frozen first: forks outrun a plain kill."""
    stopped: set[int] = set()
    while new := _guests(code) - stopped:
        _signal(new, signal.SIGSTOP)
        stopped |= new
    _signal(stopped, signal.SIGKILL)


def _guests(code: str) -> set[int]:
    """Launchers and zygotes have the folder of their code as an argument of its own."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.fsencode(code) in (folder / "cmdline").read_bytes().split(b"\0"):
                found.add(int(folder.name))
    return found | {below for pid in found for below in descendants(pid)} if len(found) < 50 else found


def _signal(pids: set[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, number)


class Workers:
    """The workers of a run, each started when its first attack comes; attacks planned ahead run side by side."""

    def __init__(self) -> None:
        self._lanes: dict[Lane, _Thread] = {}

    def plan(self, wanted: list[tuple[Lane, str]]) -> None:
        """Begin with these attacks now."""
        for lane, name in wanted:
            self._of(lane).ask(name)

    def finding(self, lane: Lane, name: str) -> Finding:
        """What came of an attack. Raises Unavailable where the lane cannot be run."""
        thread = self._of(lane)
        thread.ask(name)
        return thread.answer(name)

    def leftovers(self, lane: Lane) -> list[str]:
        """Close the lane's worker; what it has left behind. Raises Unavailable."""
        return self._of(lane).close()

    def close(self) -> dict[Lane, list[str]]:
        """Close all; what was left behind by those that were not closed before."""
        return {lane: left for lane, thread in self._lanes.items() for left in [thread.close()] if left}

    def _of(self, lane: Lane) -> _Thread:
        return self._lanes.setdefault(lane, _Thread(lane))


class _Thread:
    """One lane's worker, served by a thread so that lanes run side by side."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._names: list[str] = []
        self._asked: set[str] = set()
        self._findings: dict[str, Finding | Unavailable] = {}
        self._changed = threading.Condition()
        self._worker: Worker | None = None
        self._refusal: Unavailable | None = None
        self._thread: threading.Thread | None = None

    def ask(self, name: str) -> None:
        with self._changed:
            if name in self._asked:
                return
            self._asked.add(name)
            self._names.append(name)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._serve, name=str(self._lane), daemon=True)
                self._thread.start()

    def answer(self, name: str) -> Finding:
        with self._changed:
            self._changed.wait_for(lambda: name in self._findings)
            found = self._findings[name]
        if isinstance(found, Unavailable):
            raise found
        return found

    def close(self) -> list[str]:
        thread = self._thread
        if thread is not None:
            thread.join()
        worker, self._worker = self._worker, None
        if worker is None:
            return []
        if worker.alive:
            return worker.finish()
        worker.end()
        return ["the worker had died"]

    def _serve(self) -> None:
        while True:
            with self._changed:
                if not self._names:
                    self._thread = None
                    return
                name = self._names.pop(0)
            found = self._carry_out(name)
            with self._changed:
                self._findings[name] = found
                self._changed.notify_all()

    def _carry_out(self, name: str) -> Finding | Unavailable:
        try:
            if self._refusal is not None:
                return self._refusal
            if self._worker is not None and not self._worker.alive:
                self._worker.end()
                self._worker = None
            if self._worker is None:
                self._worker = Worker(self._lane)
            return self._worker.carry_out(name)
        except Unavailable as refusal:
            self._refusal = refusal
            return refusal
        except Exception as error:
            return Finding(attack=name, faults=(f"{type(error).__name__}: {error}",))
