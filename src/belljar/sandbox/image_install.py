"""Installing into an image's venv, by uv where it works, else by pip: resolve into a hash lock, install from it.

Wheels only, every one with its hash: no package's code runs here. Where packages come from (index, proxy, certificates)
is what the user's own uv or pip is set up for; nothing of the kind is written into an image.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from belljar.errors import ImageError

QUICK = 60.0  # seconds for what asks no network
SLOW = 1800.0  # seconds for downloads
TICK = 0.5  # seconds between two looks at a running command
TAIL = 12  # lines of a failed command's output that are shown
PIP_OLDEST = (22, 3)  # the first with --python and --report

# Would send packages or options elsewhere, or start code of the caller's in the image's interpreter.
_DROPPED = (
    *("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "PYTHONOPTIMIZE", "PYTHONWARNINGS", "VIRTUAL_ENV", "CONDA_PREFIX"),
    *("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER", "PIP_REQUIRE_VIRTUALENV", "PIP_PYTHON", "PIP_CONSTRAINT"),
    *("PIP_REQUIREMENT", "PIP_NO_BINARY", "UV_PYTHON", "UV_CONSTRAINT", "UV_OVERRIDE", "UV_TARGET", "UV_PREFIX"),
    *("UV_NO_BINARY", "UV_NO_BINARY_PACKAGE", "UV_SYSTEM_PYTHON"),
)
# The system's certificates, under uv's new name and its old one; pip asks them itself.
_ADDED = {"UV_SYSTEM_CERTS": "1", "UV_NO_PROGRESS": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}


@dataclass(frozen=True, kw_only=True)
class Installer:
    """A way to run uv or pip: `kind` is "uv" or "pip", `command` the words before the subcommand."""

    kind: str
    command: tuple[str, ...]
    version: str


class InstallFailed(ImageError):
    """One installer failed; the message says why and shows the end of its output."""


class Refused(InstallFailed):
    """An installer failed for a reason that every other would find too."""


# What a failed installer's output means: (any of these, in lower case), meaning, error. The first that fits is raised.
FAULTS: tuple[tuple[tuple[str, ...], str, type[InstallFailed]], ...] = (
    (("no space left",), "the disk is full", Refused),
    (
        ("hash mismatch", "do not match the hashes"),
        "a package is not the one that was locked: its hash differs",
        Refused,
    ),
    (
        ("certificate", "unknownissuer"),
        "the index's certificate is not trusted: set SSL_CERT_FILE to your CA bundle",
        InstallFailed,
    ),
    (
        (
            *("name resolution", "dns error", "name or service not known", "connection refused", "connect error"),
            *("timed out", "network is unreachable", "tunnel", "error sending request", "newconnectionerror"),
            *("failed to fetch", "connection reset"),
        ),
        "the package index could not be reached: check the network, the proxy (HTTPS_PROXY) and the index's setting",
        InstallFailed,
    ),
    (
        ("no matching distribution", "no wheels", "has no usable wheels", "not found in the package registry"),
        "a package has no wheel for this Python and CPU, or does not exist",
        InstallFailed,
    ),
    (("no solution found", "resolutionimpossible"), "these packages cannot be installed together", Refused),
)


def installers(folder: Path, base: Path) -> Iterator[Installer]:
    """Yield what works here, best first: uv, the running Python's pip, the base's, and a pip put into `folder`."""
    beside = Path(sys.executable).parent / "uv"
    for path in (shutil.which("uv"), str(beside)):
        if path and (version := _answer([path, "--version"])):
            yield Installer(kind="uv", command=(path,), version=_two_words(version))
            break
    for python in dict.fromkeys((sys.executable, str(base))):
        if installer := _pip(python):
            yield installer
            return
    run([str(base), "-I", "-m", "venv", str(folder)], timeout=QUICK)
    if installer := _pip(str(folder / "bin/python")):
        yield installer


def _pip(python: str) -> Installer | None:
    command = (python, "-I", "-m", "pip")
    version = _answer([*command, "--version"]) or ""  # pip 23.0.1 from ...
    try:
        number = tuple(int(part) for part in version.split()[1].split(".")[:2])
    except (IndexError, ValueError):
        return None
    if number < PIP_OLDEST:
        return None
    return Installer(kind="pip", command=command, version=_two_words(version))


def _two_words(text: str) -> str:
    return " ".join(text.split()[:2])


def install(installer: Installer, python: Path, lock: Path, tick: Callable[[], None]) -> None:
    """Install exactly what `lock` says into `python`'s venv. Raises InstallFailed."""
    arguments = {
        "uv": ["pip", "install", "--python", str(python), "--link-mode", "copy", "--no-compile-bytecode"],
        "pip": ["--python", str(python), "install", "--no-user", "--no-compile", "--progress-bar", "off",
                "--no-warn-script-location"],
    }[installer.kind]  # fmt: skip
    wanted = ["--require-hashes", "--no-deps", "--only-binary", ":all:", "-r", str(lock)]
    run([*installer.command, *arguments, *wanted], timeout=SLOW, tick=tick)


def resolve(installer: Installer, python: Path, inputs: Sequence[Path], constraints: Path, lock: Path) -> None:
    """Write the hash lock of everything in `inputs` under `constraints`. Raises InstallFailed."""
    {"uv": _resolve_uv, "pip": _resolve_pip}[installer.kind](installer, python, inputs, constraints, lock)


def _resolve_uv(installer: Installer, python: Path, inputs: Sequence[Path], constraints: Path, lock: Path) -> None:
    options = ["--python", str(python), "--generate-hashes", "--no-header", "--no-annotate", "--only-binary", ":all:"]
    command = [*installer.command, "pip", "compile", "--quiet", *options, "-c", str(constraints), "-o", str(lock)]
    run([*command, *map(str, inputs)], timeout=SLOW)


def _resolve_pip(installer: Installer, python: Path, inputs: Sequence[Path], constraints: Path, lock: Path) -> None:
    report = lock.with_suffix(".report")
    options = ["--dry-run", "--ignore-installed", "--quiet", "--only-binary", ":all:", "--report", str(report)]
    wanted = ["-c", str(constraints), *(word for path in inputs for word in ("-r", str(path)))]
    run([*installer.command, "--python", str(python), "install", *options, *wanted], timeout=SLOW)
    lock.write_text(pip_lock(json.loads(report.read_bytes())), encoding="utf-8")
    report.unlink()


def pip_lock(report: Mapping[str, Any]) -> str:
    """Turn pip's installation report (pip.pypa.io/en/stable/reference/installation-report) into a hash lock.

    Raises InstallFailed for what has no hash, such as a package from version control.
    """
    lines = []
    for item in report["install"]:
        metadata, source = item["metadata"], item["download_info"]
        digest = source.get("archive_info", {}).get("hashes", {}).get("sha256") or _hash_file(source["url"])
        if digest is None:
            raise InstallFailed(f"{metadata['name']} has no hash: only wheels can be locked, not {source['url']}")
        lines.append(f"{metadata['name']}=={metadata['version']} --hash=sha256:{digest}\n")
    return "".join(sorted(lines, key=str.lower))


def _hash_file(url: str) -> str | None:
    """Return the sha256 of a wheel on this machine (older pips do not report it), None of anything else."""
    parts = urlsplit(url)
    path = Path(unquote(parts.path))
    if parts.scheme != "file" or path.suffix != ".whl":
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- commands ---------------------------------------------------------------------------------------------------------


def run(
    command: Sequence[str],
    *,
    timeout: float,
    tick: Callable[[], None] | None = None,
    env: Mapping[str, str] | None = None,
) -> str:
    """Run a command without input, in a process group of its own, and return its standard output.

    `timeout` is in seconds; `tick` is called twice a second; `env` is the caller's, cleaned, unless given. Raises
    InstallFailed with what the output means, and its end.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, umask=0o022, start_new_session=True,
                env=host_environment() if env is None else env,
            )  # fmt: skip
        except OSError as error:
            raise InstallFailed(f"cannot start {command[0]}: {error}") from error
        try:
            status = _wait(process, timeout, tick)
        except BaseException:
            _kill(process)
            raise
        output.seek(0)
        errors.seek(0)
        said = output.read().decode(errors="replace")
        if status:
            raise failure(command, status, said + errors.read().decode(errors="replace"))
        return said


def host_environment() -> dict[str, str]:
    """Return the caller's environment (proxy, certificates, index) less what would send an installation elsewhere."""
    return {name: value for name, value in os.environ.items() if name not in _DROPPED} | _ADDED


def failure(command: Sequence[str], status: int, output: str) -> InstallFailed:
    """Return the error for a failed command: what its output means, and its last lines that are no warnings."""
    lower = output.lower()
    ending = f"ended with status {status}" if status > 0 else f"was killed by signal {-status}"
    unknown = (f"{' '.join(command[:4])} {ending}", InstallFailed)
    known = ((meaning, error) for signs, meaning, error in FAULTS if any(sign in lower for sign in signs))
    meaning, error = next(known, unknown)
    lines = [line for line in output.splitlines() if line.strip() and not line.lstrip().startswith("WARNING")]
    return error("\n    ".join([meaning, *lines[-TAIL:]]))


def _wait(process: subprocess.Popen[bytes], timeout: float, tick: Callable[[], None] | None) -> int:
    deadline = time.monotonic() + timeout
    while True:
        try:
            return process.wait(TICK)
        except subprocess.TimeoutExpired:
            if time.monotonic() > deadline:
                raise InstallFailed(f"no end after {timeout:.0f} s, stopped") from None
        if tick:
            tick()


def _kill(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def _answer(command: Sequence[str]) -> str | None:
    """Return what a command says, or None when it cannot be run."""
    try:
        return run(command, timeout=QUICK).strip()
    except InstallFailed:
        return None
