"""Other ways to run the same Python here: the bare interpreter, bubblewrap, gVisor's `runsc do`, a Jupyter kernel.

Promises: a rival gets the same interpreter, packages, bytecode, font cache and thread counts as a sandbox of Belljar's
(a Jupyter kernel: the environment in which Belljar runs), and the same work; its answer is checked each time. One that
is not installed is named as such. Every process has a deadline.
Not covered: rivals kept warm; each call starts its process anew, as those who use them this way do.
"""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from belljar.sandbox.image import Image
from belljar.sandbox.plan import ENVIRONMENT
from belljar.sandbox.threads import in_thread

PROCESS_SECONDS = 60.0
OFTEN = 7  # calls a round of what takes milliseconds: 15 rounds give enough for a 99th percentile
PNG = b"\x89PNG\r\n\x1a\n"
BARE, BELLJAR = "python -c", "belljar"

_PANDAS = """import pandas as pd
frame = pd.DataFrame({"a": range(100), "b": [x * 0.5 for x in range(100)], "c": list("wxyz") * 25})
print(frame.describe())
"""
_LINE = """plt.plot(range(50), [x * x for x in range(50)])
plt.title("squares")
"""
_BARE_PLOT = f"""import io, sys, matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt
{_LINE}buffer = io.BytesIO()
plt.savefig(buffer, format="png")
sys.stdout.buffer.write(buffer.getvalue())
"""


@dataclass(frozen=True, kw_only=True)
class Task:
    """Work that contestants do: the code as a script, the code as a model would write it, and how its answer begins."""

    name: str
    label: str
    bare: str
    guest: str
    answer: bytes


TASKS = (
    Task(name="print", label="print(1)", bare="print(1)", guest="print(1)", answer=b"1\n"),
    Task(name="pandas", label="pandas describe, import included", bare=_PANDAS, guest=_PANDAS, answer=b"  "),
    Task(
        name="plot",
        label="matplotlib line plot to PNG, import included",
        bare=_BARE_PLOT,
        guest=f"import matplotlib.pyplot as plt\n{_LINE}plt.show()\n",
        answer=PNG,
    ),
)
IMPORT_PANDAS = Task(name="pandas", label="import pandas alone", bare="import pandas", guest="", answer=b"")


class RivalFailed(Exception):
    """A contestant did not do the work; the message says what it said."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One timed call, in seconds of wall time and, where it can be told, of CPU time."""

    seconds: float
    cpu: float | None = None


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """One way to do one task. `calls` a round, in the first `share` of all rounds. `missing` says why it cannot run."""

    name: str
    task: str
    label: str
    call: Callable[[], Awaitable[Sample]] | None = None
    calls: int = 1
    share: float = 1.0
    missing: str = ""


def rivals(image: Image, folder: Path) -> list[Contestant]:
    """All contestants but Belljar, installed or not. `folder` is an empty one for what they write."""
    fonts = folder / "matplotlib"
    fonts.mkdir()
    for path in sorted((image.cache / "matplotlib").glob("fontlist-*.json")):
        (fonts / path.name).symlink_to(path)
    threads = {name: value for name, value in ENVIRONMENT.items() if name.endswith("_NUM_THREADS")}
    environment = threads | {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "MPLCONFIGDIR": str(fonts),
        "PYTHONDONTWRITEBYTECODE": "1",  # the image must not change
    }
    python = str(image.python)

    def bare(task: Task, name: str = BARE, calls: int = 1) -> Contestant:
        call = _process([python, "-c", task.bare], task.answer, environment, folder)
        return Contestant(name=name, task=task.name, label=task.label, call=call, calls=calls)

    simple, pandas, plot = TASKS
    found = [
        bare(simple, calls=OFTEN),
        bare(pandas),
        bare(IMPORT_PANDAS, f"{BARE} 'import pandas'"),
        bare(plot),
    ]
    for name, wrapper, calls, share in (("bwrap", _bwrap(folder), OFTEN, 1.0), ("runsc do", _runsc(folder), 1, 0.5)):
        if shutil.which(wrapper[0]) is None:
            found.append(Contestant(name=name, task=simple.name, label=simple.label, missing="not installed"))
            continue
        call = _process([*wrapper, python, "-c", simple.bare], simple.answer, environment, folder)
        found.append(Contestant(name=name, task=simple.name, label=simple.label, call=call, calls=calls, share=share))
    return [*found, _jupyter(simple, folder)]


def belljar_run(image: str, profile: str) -> Contestant:
    """The whole process `belljar run`, from exec to exit."""
    command = [sys.executable, "-m", "belljar.cli.main", "run", "--profile", profile, "--image", image]
    call = _process([*command, "-c", "print(1)"], TASKS[0].answer, None, None)
    return Contestant(name="belljar run -c", task="run", label="print(1), no server", call=call, share=0.5)


def _bwrap(_folder: Path) -> list[str]:
    """Bubblewrap with namespaces of its own, the host's files read-only."""
    return ["bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--ro-bind", "/", "/",
            "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp"]  # fmt: skip


def _runsc(folder: Path) -> list[str]:
    """A command in gVisor, without network."""
    rootless = ["--rootless"] if os.geteuid() != 0 else []
    return ["runsc", f"--root={folder}/runsc", *rootless, "--network=none", "do"]


def _process(
    command: Sequence[str], answer: bytes, environment: Mapping[str, str] | None, folder: Path | None
) -> Callable[[], Awaitable[Sample]]:
    def call() -> Sample:
        return time_process(command, answer, environment, folder)

    return lambda: in_thread(call)


def time_process(
    command: Sequence[str], answer: bytes, environment: Mapping[str, str] | None = None, folder: Path | None = None
) -> Sample:
    """Run a process to its end, and time it; its output must begin with `answer`. Raises RivalFailed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    _output(command, answer, environment, folder)
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Sample(seconds=seconds, cpu=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def _output(command: Sequence[str], answer: bytes, environment: Mapping[str, str] | None, folder: Path | None) -> bytes:
    try:
        done = subprocess.run(
            command,
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PROCESS_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RivalFailed(str(error)) from None
    if done.returncode != 0 or not done.stdout.startswith(answer):
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise RivalFailed(said[-1][:200] if said else f"exit code {done.returncode}, and not the answer that was due")
    return done.stdout


# --- Jupyter ----------------------------------------------------------------------------------------------------------

# Run by the Python that runs Belljar. Prints how long it took from nothing to the first output of print(1), in seconds.
_KERNEL_DRIVER = """
import json, sys, time
from jupyter_client.manager import KernelManager

start = time.perf_counter()
manager = KernelManager(kernel_name="python3")
manager.start_kernel()
try:
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=30)
    texts = []
    client.execute_interactive(
        sys.argv[1], timeout=30, output_hook=lambda message: texts.append(message["content"].get("text", ""))
    )
    seconds = time.perf_counter() - start
    client.stop_channels()
finally:
    manager.shutdown_kernel(now=True)
print(json.dumps({"seconds": seconds, "text": "".join(texts)}))
"""


def _jupyter(task: Task, folder: Path) -> Contestant:
    name = "jupyter kernel"
    lacking = [module for module in ("ipykernel", "jupyter_client") if importlib.util.find_spec(module) is None]
    if lacking:
        missing = f"not installed ({' and '.join(lacking)} not in the environment that runs belljar)"
        return Contestant(name=name, task=task.name, label=task.label, missing=missing)
    names = ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
    environment = os.environ | {name: f"{folder}/{name.lower()}" for name in names}

    def call() -> Sample:
        said = _output([sys.executable, "-c", _KERNEL_DRIVER, task.bare], b"{", environment, None)
        answer = json.loads(said)
        if answer["text"].encode() != task.answer:
            raise RivalFailed(f"it answered {answer['text'][:40]!r}")
        return Sample(seconds=answer["seconds"])

    return Contestant(name=name, task=task.name, label=task.label, call=lambda: in_thread(call), share=0.25)
