"""The command line as its users have it: a process of its own, with an environment and folders of the test's own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

SRC = Path(__file__).resolve().parents[2] / "src"
START = (sys.executable, "-c", "import sys; from belljar.cli.main import main; sys.exit(main())")
SECONDS = 60.0

Run = Callable[..., subprocess.CompletedProcess[str]]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as shells start what runs in the background, and children, too
    signal.signal(signal.SIGINT, signal.default_int_handler)


def environment(folder: Path, **more: str) -> dict[str, str]:
    """The process's own, without what would change how `belljar` behaves; temporary folders are the test's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BELLJAR_", "XDG_CONFIG"))}
    own = {
        "PYTHONPATH": str(SRC),
        "TMPDIR": str(folder),
        "XDG_CONFIG_HOME": str(folder / "no-config"),
        "COLUMNS": "100",
        "BELLJAR_SERVE_DATA": str(folder / "kept"),
    }
    home = {"BELLJAR_HOME": os.environ["BELLJAR_HOME"]} if "BELLJAR_HOME" in os.environ else {}
    return kept | own | home | more


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder for temporary files that other users may pass through: pytest's own are closed to them."""
    with tempfile.TemporaryDirectory(prefix="cli-test-") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


@pytest.fixture
def belljar(tmp_path: Path, scratch: Path) -> Run:
    """Run a command line to its end. `env` adds to the environment, `under` is a launcher before it."""

    def run(
        *arguments: str, stdin: str = "", env: dict[str, str] | None = None, under: tuple[str, ...] = (), **options: Any
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*under, *START, *arguments],
            input=stdin,
            env=environment(scratch, **(env or {})),
            cwd=options.pop("cwd", tmp_path),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            **options,
        )

    return run


@pytest.fixture
def start(tmp_path: Path, scratch: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a command line and leave it running; ended with the test."""
    started: list[subprocess.Popen[str]] = []

    def begin(*arguments: str, **options: Any) -> subprocess.Popen[str]:
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        process = subprocess.Popen([*START, *arguments], env=environment(scratch), cwd=tmp_path, text=True, **pipes)
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.communicate(timeout=SECONDS)
