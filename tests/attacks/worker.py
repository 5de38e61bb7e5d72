"""A worker: the process that is the host of one lane (a kind of user, a profile), and carries out attacks on request.

Talks JSON lines: first what it is, or why it cannot be; then for each name of an attack the finding; for "finish" what
was left behind once Belljar has been closed. Standard library and belljar only.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import IO, Any

from attacks import confine
from attacks.catalogue import ATTACKS
from attacks.model import Attack, Finding
from attacks.scene import LIMITS, Scene
from belljar import IsolationUnavailable, Sandbox
from belljar.guest import kernel
from belljar.guest.launch import descendants
from belljar.sandbox import cgroup, sync
from belljar.sandbox.image import home

BY_NAME = {attack.name: attack for attack in ATTACKS}


def main(user: str, profile: str, folder: str) -> None:
    """Serve until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    try:
        _become(user, Path(folder))
    except OSError as error:
        _say(answers, {"skipped": f"cannot become {user}: {error}"})
        return
    _serve(answers, profile, Path(folder))


def _become(user: str, folder: Path) -> None:
    images = home()  # before HOME is another one, as an ordinary user's images are in it
    os.environ["HOME"], os.environ["TMPDIR"] = str(folder / "home"), str(folder / "tmp")
    os.environ["BELLJAR_HOME"] = str(images)
    if user == "user" and os.geteuid() == 0:
        os.environ["BELLJAR_HOME"] = str(folder / "images")
        confine.become_user(images, folder / "images")
    if user == "docker":
        confine.become_container()
        confine.keep_capabilities()


def _serve(answers: IO[str], profile: str, folder: Path) -> None:
    mounts = Path("/proc/self/mountinfo").read_text()
    try:
        with Sandbox(profile=profile, limits=LIMITS) as sandbox:
            limiter = sandbox._runtime._pools[next(iter(sandbox._runtime._pools))].result().facts["limiter"]
    except IsolationUnavailable as error:
        _say(answers, {"skipped": str(error), "refused": True})
        return
    except Exception as error:
        _say(answers, {"broken": f"{type(error).__name__}: {error}"})
        return
    scene = Scene(profile, folder)
    tags = ["cgroups" if str(limiter).startswith("version") else "no-cgroups"]
    _say(answers, {"tags": tags, "limiter": limiter})
    for line in sys.stdin:
        name = line.strip()
        if name == "finish":
            _say(answers, {"left": _leftovers(scene, folder, mounts)})
            return
        _say(answers, dataclasses.asdict(carry_out(scene, BY_NAME[name])))
    scene.close()


def _say(answers: IO[str], message: dict[str, Any]) -> None:
    answers.write(json.dumps(message) + "\n")


def carry_out(scene: Scene, attack: Attack) -> Finding:
    """One attack, and a look at the host behind it."""
    started = time.monotonic()
    scene.seen = None
    faults: list[str] = []
    try:
        seen, outcome = _attempt(scene, attack)
        faults += _judge(scene, attack, seen, outcome)
    except Exception as error:
        seen, outcome = "", ""
        faults.append(f"the host's side raised {type(error).__name__}: {error}")
    if attack.after is not None and (fault := attack.after(scene)):
        faults.append(fault)
    faults += scene.faults()
    seconds = round(time.monotonic() - started, 3)
    return Finding(attack=attack.name, seen=seen[:2000], outcome=outcome, faults=tuple(faults), seconds=seconds)


def _attempt(scene: Scene, attack: Attack) -> tuple[str, str]:
    if attack.drive is not None:
        return attack.drive(scene).strip(), ""
    with scene.attacked(attack.code, attack.timeout) as (_, execution):
        return execution.stdout.strip(), str(execution.outcome)


def _judge(scene: Scene, attack: Attack, seen: str, outcome: str) -> list[str]:
    faults = []
    if outcome and outcome not in attack.outcomes:
        error = scene.seen.error if scene.seen else None
        faults.append(f"outcome {outcome}, not {' or '.join(attack.outcomes)}: {error.traceback if error else ''}")
    expected = attack.expected(scene.profile)
    if not re.fullmatch(expected, seen, re.DOTALL):
        faults.append(f"seen {seen[:600]!r}, expected {expected!r}")
    shown = seen + _shown(scene)
    if scene.secret in shown or scene.neighbour_secret in shown:
        faults.append("a secret was stolen")
    return faults


def _shown(scene: Scene) -> str:
    """All that the last execution has shown. Results may be nested too deep for repr."""
    execution = scene.seen
    if execution is None:
        return ""
    shown = [execution.stdout, execution.stderr, str(execution.error), str(execution.files)]
    shown += [
        str(value) for result in execution.results for value in result.data.values() if isinstance(value, str | bytes)
    ]
    return "".join(shown)


def _leftovers(scene: Scene, folder: Path, mounts: str) -> list[str]:
    """Processes, groups, files and mounts that are still there after Belljar was closed."""
    scene.close()
    sync._the_runtime().close()
    deadline = time.monotonic() + 3
    while (processes := _living(descendants(os.getpid()))) and time.monotonic() < deadline:
        time.sleep(0.02)
    left = [f"process {pid}: {_command(pid)}" for pid in sorted(processes)]
    mark = cgroup.PREFIX + cgroup.process_mark(os.getpid())
    left += [
        f"cgroup {path}/{name}"
        for path, names, _ in os.walk("/sys/fs/cgroup")
        for name in names
        if name.startswith(mark)
    ]
    left += [f"file {path.name}" for path in (folder / "tmp").iterdir()]
    if Path("/proc/self/mountinfo").read_text() != mounts:
        left.append("the mounts have changed")
    return left


def _living(pids: set[int]) -> set[int]:
    """Without zombies, which are ours to reap: this process adopts orphans."""
    alive = set()
    for pid in pids:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                alive.add(pid)
        except OSError:
            continue
    return alive


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
    except OSError:
        return "gone"
