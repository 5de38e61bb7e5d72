"""Building images: a venv of the Python that runs Belljar, locked packages, bytecode, a font cache, a manifest.

The manifest comes last, by rename: whatever ends a build early leaves the image that was there as it was, and a folder
that the next build removes. One build of a name runs at a time. The layout is described in `image`.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import sys
import sysconfig
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from belljar.errors import ImageError
from belljar.sandbox import image as layout
from belljar.sandbox.image import DEFAULT, BrokenImage, Image
from belljar.sandbox.image_check import INVENTORY, inventory, probe
from belljar.sandbox.image_install import QUICK, Installer, InstallFailed, Refused, install, installers, resolve, run

BUILDER = 1  # raise when the same inputs give another image
DEFINITIONS = Path(__file__).parent / "images"
LOCK_TIMEOUT = 3600.0  # seconds to wait for another build of the same name
COMPILE_TIMEOUT = 900.0
ENVIRONMENT_FILE = "belljar_image.pth"
Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that decides what an image will be. `lock` is None when the additions must be resolved first."""

    name: str
    source: Path  # the requirements of the set it starts from; .lock and .toml lie beside it
    additions: tuple[str, ...]  # requirements, one each
    preload: tuple[str, ...]
    environment: Mapping[str, str]
    python: Path  # the base interpreter, links resolved
    key: str

    @property
    def lock(self) -> Path:
        """The lock of the set that the image starts from."""
        return self.source.with_suffix(".lock")


class Steps:
    """Tells progress, one line a step with the seconds since the start.

    A line that begins with a carriage return is a counter, meant to be replaced by the next line.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress, self._start = progress, time.monotonic()

    def say(self, text: str) -> None:
        """Tell a step."""
        self._progress(f"[{time.monotonic() - self._start:5.1f} s] {text}")

    def count(self, text: str) -> None:
        """Tell how far a step is."""
        self._progress(f"\r[{time.monotonic() - self._start:5.1f} s] {text}")


def build_image(
    name: str = DEFAULT,
    *,
    with_: Sequence[str] = (),
    requirements: Path | None = None,
    force: bool = False,
    progress: Progress,
) -> Image:
    """Build the image `name`, or return it as it is when it is up to date and `force` is not set.

    `with_` and the file `requirements` add packages to the set. Raises ImageError: a package that cannot be had, no
    network, no space, an import that fails.
    """
    steps = Steps(progress)
    plan = make_plan(name, with_, requirements)
    folder = layout.home() / "images"
    if not force and (current := _current(folder, plan)):
        steps.say(f"image {name} is up to date: {current.path}")
        return current
    try:
        make_folder(folder)
        with _only_builder(folder, name, steps):
            if not force and (current := _current(folder, plan)):  # the build that we waited for made it
                steps.say(f"image {name} is up to date: {current.path}")
                return current
            _remove_unused(folder, name, steps)
            image = _build(folder, plan, steps)
            _remove_unused(folder, name, steps)
    except OSError as error:
        raise ImageError(f"image {name!r} cannot be built: {error}") from error
    steps.say(f"image {name} is ready: {image.path}")
    return image


def remove_image(name: str) -> list[Path]:
    """Remove an image and everything left of its builds; return the folders that are kept because they are in use.

    Raises ImageError when there is nothing of that name, or it cannot be removed.
    """
    folder = layout.home() / "images"
    manifest = folder / f"{name}.json"
    if not layout.NAME.fullmatch(name) or not (manifest.exists() or layout.folders_of(folder, name)):
        raise ImageError(f"there is no image {name!r} in {folder}")
    try:
        with _only_builder(folder, name, Steps(lambda line: None)):
            manifest.unlink(missing_ok=True)
            return [path for path in layout.folders_of(folder, name) if not _remove_folder(path)]
    except OSError as error:
        raise ImageError(f"image {name!r} cannot be removed: {error}") from error


# --- what to build ----------------------------------------------------------------------------------------------------


def make_plan(name: str, with_: Sequence[str] = (), requirements: Path | None = None) -> Plan:
    """Work out what an image is made from, asking no network. Raises ImageError."""
    if not layout.NAME.fullmatch(name):
        raise ImageError(f"{name!r} is no name for an image: it must match {layout.NAME.pattern}")
    _refuse_python()
    source = DEFINITIONS / f"{name}.in"
    if not source.exists():
        source = DEFINITIONS / f"{DEFAULT}.in"
    additions = (*map(_one_requirement, with_), *_read_requirements(requirements))
    settings = tomllib.loads(source.with_suffix(".toml").read_text(encoding="utf-8"))
    python = Path(os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable))
    parts = [str(BUILDER), platform.python_version(), str(python), platform.machine(), *additions]
    contents = [source.with_suffix(suffix).read_text(encoding="utf-8") for suffix in (".lock", ".toml")]
    return Plan(
        name=name,
        source=source,
        additions=additions,
        preload=tuple(settings["preload"]),
        environment=dict(settings.get("environment", {})),
        python=python,
        key=hashlib.sha256(json.dumps([*parts, *contents]).encode()).hexdigest(),
    )


def _refuse_python() -> None:
    """Raise ImageError when the running Python is one that the locks have no wheels for."""
    if sys.implementation.name != "cpython" or sysconfig.get_config_var("Py_GIL_DISABLED"):
        raise ImageError(f"images need CPython with the GIL; this is {platform.python_implementation()} {sys.version}")


def _one_requirement(text: str) -> str:
    if text.startswith("-") or not text.strip() or "\n" in text:
        raise ImageError(f"{text!r} is no requirement; --with takes a package, such as polars or 'duckdb>=1'")
    return text.strip()


def _read_requirements(path: Path | None) -> tuple[str, ...]:
    """Return a file's requirements without comments; options are refused: they belong to the installer's settings."""
    if path is None:
        return ()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ImageError(f"requirements cannot be read: {error}") from error
    stripped = (re.sub(r"(^|\s)#.*", "", line).strip() for line in lines)
    return tuple(_one_requirement(line) for line in stripped if line)


def _current(folder: Path, plan: Plan) -> Image | None:
    """Return the image of that name when it is whole and made from the same things."""
    found = next((image for image in layout.list_images() if image.name == plan.name), None)
    return found if isinstance(found, Image) and found.key == plan.key else None


# --- one build at a time; folders in use stay -------------------------------------------------------------------------


def make_folder(path: Path) -> None:
    """Make a folder and its parents, each open to read for all whatever the umask: sandboxes run as another user."""
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(exist_ok=True)
    path.chmod(0o755)


@contextmanager
def _only_builder(folder: Path, name: str, steps: Steps) -> Iterator[None]:
    """Hold the name's build lock. Raises ImageError when another build keeps it for too long."""
    descriptor = os.open(layout.build_lock(folder, name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    deadline = time.monotonic() + LOCK_TIMEOUT
    told = False
    try:
        if os.fstat(descriptor).st_uid == os.geteuid():  # others may look whether a build is going on
            os.fchmod(descriptor, 0o644)
        while not _lock(descriptor):
            if time.monotonic() > deadline:
                raise ImageError(f"another build of image {name!r} has run for {LOCK_TIMEOUT:.0f} s")
            if not told:
                steps.say(f"waiting for another build of image {name}")
            told = True
            time.sleep(0.1)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remove_unused(folder: Path, name: str, steps: Steps) -> None:
    """Remove what half-built and superseded builds left, but for folders in use. Call with the build lock held."""
    try:
        current = layout.read_manifest(folder, name).get("folder")
    except (OSError, ValueError):
        current = None
    for path in layout.folders_of(folder, name):
        if path.name != current:
            removed = _remove_folder(path)
            steps.say(f"removed {path.name}" if removed else f"kept {path.name}: a running server uses it")


def _remove_folder(path: Path) -> bool:
    """Remove a folder unless a process holds it; tell whether it is gone. Raises OSError."""
    try:
        descriptor = os.open(path / ".in-use", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        shutil.rmtree(path)
        return True
    try:
        if not _lock(descriptor):
            return False
        shutil.rmtree(path)
    finally:
        os.close(descriptor)
    return True


# --- the build --------------------------------------------------------------------------------------------------------


def _build(folder: Path, plan: Plan, steps: Steps) -> Image:
    """Build into a new folder and publish it. A failure removes the folder; a kill leaves it to the next build."""
    path = _new_folder(folder, plan)
    try:
        python = _make_venv(path, plan, steps)
        lock = path / "requirements.lock"
        packages = _fill(path, plan, python, lock, steps)
        _compile(path, python, steps)
        preload, measured = _warm(path, plan, python, steps)
        publish(folder, plan, path, {"packages": packages, "preload": preload, "measured": measured}, steps)
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise
    found = next(image for image in layout.list_images() if image.name == plan.name)
    if isinstance(found, BrokenImage):
        raise ImageError(f"image {plan.name!r} was built and {found.reason}")
    return found


def _new_folder(folder: Path, plan: Plan) -> Path:
    """Make the folder of a build. Its name follows from the inputs, and a number where that one is still in use."""
    for number in range(1000):
        digest = hashlib.sha256(f"{plan.key} {number}".encode()).hexdigest()[:12]
        path = folder / f"{plan.name}-{digest}"
        if not path.exists():
            break
    else:
        raise ImageError(f"too many builds of image {plan.name!r} are in use")
    for made in (path, path / "cache", path / "cache/matplotlib"):
        make_folder(made)
    (path / ".in-use").touch()
    (path / ".in-use").chmod(0o644)
    return path


def _make_venv(path: Path, plan: Plan, steps: Steps) -> Path:
    steps.say(f"making a venv of {plan.python} (Python {platform.python_version()})")
    run([str(plan.python), "-I", "-m", "venv", "--without-pip", "--symlinks", str(path / "venv")], timeout=QUICK)
    return path / "venv/bin/python"


def _fill(path: Path, plan: Plan, python: Path, lock: Path, steps: Steps) -> dict[str, str]:
    """Install the set and the additions with the first installer that can; return name -> version of what is there."""
    failures = ["packages could not be installed"]
    for installer in installers(path / "tools", plan.python):
        try:
            _write_lock(installer, plan, python, lock, steps)
            _install(installer, path, python, lock, steps)
            break
        except InstallFailed as error:
            failures.append(f"{installer.kind}: {error}")
            steps.say(f"{installer.kind} failed: {str(error).splitlines()[0]}")
            if isinstance(error, Refused):
                raise ImageError("\n".join(failures)) from error
    else:
        raise ImageError("\n".join(failures if failures[1:] else [*failures, "neither uv nor pip >= 22.3 works here"]))
    shutil.rmtree(path / "tools", ignore_errors=True)
    site = _site_packages(path)
    lines = [f"import os; os.environ.setdefault({name!r}, {value!r})" for name, value in plan.environment.items()]
    (site / ENVIRONMENT_FILE).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return _packages(site)


def _install(installer: Installer, path: Path, python: Path, lock: Path, steps: Steps) -> None:
    """Install from the lock, counting packages as they appear."""
    wanted = len(re.findall(r"^[^\s#][^\n]*==", lock.read_text(encoding="utf-8"), re.MULTILINE))
    steps.say(f"installing {wanted} packages with {installer.version}")
    site = _site_packages(path)
    install(installer, python, lock, lambda: steps.count(f"{_installed(site)} of {wanted} packages installed"))


def _write_lock(installer: Installer, plan: Plan, python: Path, lock: Path, steps: Steps) -> None:
    """Put the lock to install from into the image: the set's own, or one that is resolved with the additions."""
    text = plan.lock.read_text(encoding="utf-8")
    if not plan.additions:
        lock.write_text(text, encoding="utf-8")
        return
    steps.say(f"resolving {', '.join(plan.additions)} with {installer.version}")
    constraints, additions = lock.with_name("constraints.txt"), lock.with_name("additions.in")
    pins = re.findall(r"^[^\s#].*?(?=\s+(?:--hash|\\)|$)", text, re.MULTILINE)  # pip takes no hashes in constraints
    constraints.write_text("".join(f"{pin}\n" for pin in pins), encoding="utf-8")
    additions.write_text("".join(f"{line}\n" for line in plan.additions), encoding="utf-8")
    resolve(installer, python, (plan.source, additions), constraints, lock)


def _site_packages(path: Path) -> Path:
    return path / f"venv/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"


def _installed(site: Path) -> int:
    return sum(name.endswith(".dist-info") for name in os.listdir(site))


def _packages(site: Path) -> dict[str, str]:
    """Return name -> version of what is installed, from the dist-info folders' names (PyPA: name-version.dist-info)."""
    names = (path.name.removesuffix(".dist-info").rpartition("-") for path in site.glob("*.dist-info"))
    return {name.replace("_", "-").lower(): version for name, _, version in sorted(names)}


def _compile(path: Path, python: Path, steps: Steps) -> None:
    """Compile everything but packages' tests; unchecked, so that a read-only root is never asked for a source's time.

    The exit status is no help: some packages hold files that are not meant to compile. `_warm` tells what is missing.
    """
    steps.say("compiling bytecode")
    site = _site_packages(path)
    tests = re.escape(f"{site}/") + r".*/tests/"
    options = ["-q", "-q", "-f", "-j", "0", "--invalidation-mode", "unchecked-hash", "-x", tests]
    try:
        run([str(python), "-I", "-m", "compileall", *options, str(site)], timeout=COMPILE_TIMEOUT)
    except InstallFailed as error:
        steps.say(f"some files do not compile: {str(error).splitlines()[-1]}")


def _warm(path: Path, plan: Plan, python: Path, steps: Steps) -> tuple[list[str], dict[str, Any]]:
    """Import the preload to make caches, and again to measure; leave out what starts a thread. Raises ImageError."""
    steps.say(f"importing {len(plan.preload)} modules")
    preload = list(plan.preload)
    cold = probe(python, path / "cache", preload)
    while cold["threads"]:
        guilty = next(iter(cold["threads"]))
        steps.say(f"{guilty} starts a thread and will not be imported before forking")
        preload.remove(guilty)
        cold = probe(python, path / "cache", preload)
    if cold["failed"]:
        failed = [f"{module} ({error})" for module, error in cold["failed"].items()]
        raise ImageError(f"cannot import {'; '.join(failed)}")
    if cold["uncompiled"]:
        first = cold["uncompiled"][0]
        steps.say(f"{len(cold['uncompiled'])} modules have no bytecode, such as {first}: starts will be slower")
    return preload, probe(python, path / "cache", preload)


def publish(folder: Path, plan: Plan, path: Path, made: Mapping[str, Any], steps: Steps) -> None:
    """Record every file, then write the manifest, which makes the folder an image. Raises OSError.

    `made` holds `packages` (name -> version), `preload`, and `measured`: what the probe said of importing it.
    """
    steps.say("recording files")
    _open_to_all(path)
    recorded = inventory(path)
    _write(path / INVENTORY, recorded)
    site = _site_packages(path)
    times = made["measured"]["ms"]
    manifest = {
        "schema": layout.SCHEMA,
        "name": plan.name,
        "folder": path.name,
        "key": plan.key,
        "requirements": plan.additions,
        "lock_sha256": hashlib.sha256((path / "requirements.lock").read_bytes()).hexdigest(),
        "base_prefix": sys.base_prefix,
        "python": {
            "implementation": sys.implementation.name,
            "version": platform.python_version(),
            "executable": str(plan.python),
            "fingerprint": layout.fingerprint(plan.python),
            "stdlib": sysconfig.get_path("stdlib"),
        },
        "site_packages": str(site.relative_to(path)),
        "site_entries": sorted(entry.name for entry in site.iterdir()),
        "packages": made["packages"],
        "preload": made["preload"],
        "left_out": sorted(set(plan.preload) - set(made["preload"])),
        "import_ms": times,
        "import_total_ms": round(sum(times.values()), 1),
        "built": datetime.now(UTC).isoformat(timespec="seconds"),
        "size": sum(size for _, size in recorded.values()),
    }
    _write(folder / f"{plan.name}.json", manifest)
    total = manifest["import_total_ms"]
    steps.say(f"{len(made['packages'])} packages, {_megabytes(recorded.values())} MB, imported in {total} ms")


def _megabytes(entries: Iterable[Sequence[Any]]) -> int:
    return round(sum(int(size) for _, size in entries) / 1e6)


def _write(path: Path, value: object) -> None:
    """Write JSON so that a reader finds the old file or all of the new one, even after a power cut. Raises OSError."""
    partial = path.with_name(f".{path.name}.new")
    with partial.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    partial.chmod(0o644)
    partial.replace(path)


def _open_to_all(path: Path) -> None:
    """Let everyone read what the builder can read, and nobody but the owner write."""
    for root, folders, names in os.walk(path):
        for entry in (Path(root), *(Path(root) / name for name in (*names, *folders))):
            if not entry.is_symlink():
                mode = entry.stat().st_mode & 0o777
                wanted = 0o755 if mode & 0o100 else 0o644
                if mode != wanted:
                    entry.chmod(wanted)
