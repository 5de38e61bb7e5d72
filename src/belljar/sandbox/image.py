"""Images: the Python environments of sandboxes, as they lie on disk. Finds them, lists them, holds those in use.

An image is `images/<name>-<digest>/` under `home()`, with a manifest `images/<name>.json` that names the folder. The
manifest is written last and by rename, so a folder without one is half-built and never used. Finding an image makes
sure, in about a millisecond, that it is whole: its interpreter is the one it was built with, and nothing that lay in
its site-packages is gone. Not covered here: the content of files (`image_check` reads them all).

Standard library only, fast to import; a subprocess is started only when the base interpreter's file has changed.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from belljar.errors import ImageError

SCHEMA = 1
DEFAULT = "default"
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,40}")
_FOLDER = re.compile(rf"({NAME.pattern})-[0-9a-f]{{12}}")
_ASK_TIMEOUT = 10.0  # seconds for an interpreter to say its version


@dataclass(frozen=True, kw_only=True)
class Image:
    """A whole image. `preload` is what to import before forking; `size` is bytes, `built` an ISO time in UTC."""

    name: str
    path: Path
    python: Path
    base_prefix: Path
    site_packages: Path
    python_version: str
    preload: tuple[str, ...]
    packages: Mapping[str, str]
    cache: Path
    key: str = ""
    requirements: tuple[str, ...] = ()
    import_ms: Mapping[str, float] = field(default_factory=dict)
    size: int = 0
    built: str = ""


@dataclass(frozen=True, kw_only=True)
class BrokenImage:
    """An image that must not be used: `reason` says what is wrong with what lies at `path`, and what mends it."""

    name: str
    path: Path
    reason: str


def home() -> Path:
    """Return where Belljar keeps things: $BELLJAR_HOME, $XDG_DATA_HOME/belljar, else /var/lib/belljar for root (whose
    home is closed to the ids that sandboxes run under) and ~/.local/share/belljar for others.

    Raises ImageError when none of them can be told (no HOME and no such user).
    """
    if chosen := os.environ.get("BELLJAR_HOME"):
        return Path(chosen).absolute()
    xdg = os.environ.get("XDG_DATA_HOME", "")
    if xdg.startswith("/"):  # the specification: relative paths are ignored
        return Path(xdg) / "belljar"
    if os.geteuid() == 0:
        return Path("/var/lib/belljar")
    try:
        return Path.home() / ".local/share/belljar"
    except RuntimeError as error:
        raise ImageError(f"no home folder ({error}); set BELLJAR_HOME") from error


def find_image(name: str = DEFAULT) -> Image:
    """Return the image called `name` after the quick check. Raises ImageError: what is wrong with it, and the cure."""
    return _find(home() / "images", name)


def list_images() -> list[Image | BrokenImage]:
    """Return all images, whole and broken, by name. A folder without a manifest is a broken (half-built) one."""
    folder = home() / "images"
    names = {path.stem for path in _entries(folder) if path.suffix == ".json" and NAME.fullmatch(path.stem)}
    names |= {match[1] for path in _entries(folder) if (match := _FOLDER.fullmatch(path.name))}
    return [_load(folder, name) for name in sorted(names)]


@contextmanager
def hold(image: Image) -> Iterator[Image]:
    """Keep an image's folder from being removed (a shared flock) for as long as the context lasts, forks included.

    Yields the image held: a newer build of the same name if the given one was replaced in between. Raises ImageError
    when there is none any more, or its folder cannot be read.
    """
    descriptor = _share(image.path)
    if descriptor is None:
        image = _find(image.path.parent, image.name)
        descriptor = _share(image.path)
    if descriptor is None:
        raise ImageError(f"image {image.name!r} is being removed: {image.path}")
    try:
        yield image
    finally:
        os.close(descriptor)


def read_manifest(folder: Path, name: str) -> dict[str, Any]:
    """Return the manifest of `name` in the images folder as it is; FileNotFoundError, or ValueError when it is none."""
    manifest = json.loads((folder / f"{name}.json").read_bytes())
    if not isinstance(manifest, dict):
        raise ValueError("not an object")
    return manifest


def folders_of(folder: Path, name: str) -> list[Path]:
    """Return all folders of builds of `name`: the current one, superseded ones, half-built ones."""
    matches = ((path, _FOLDER.fullmatch(path.name)) for path in _entries(folder))
    return [path for path, match in matches if match and match[1] == name]


def build_lock(folder: Path, name: str) -> Path:
    """Return the file that the one builder of `name` holds an exclusive flock on."""
    return folder / f".{name}.lock"


def build_command(name: str, requirements: tuple[str, ...] = (), *, force: bool = False) -> str:
    """Return the command that builds an image anew, for messages."""
    words = ["belljar image build", name, *(f"--with '{requirement}'" for requirement in requirements)]
    return " ".join([*words, "--force"] if force else words)


# --- reading ----------------------------------------------------------------------------------------------------------


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except PermissionError as error:
        raise ImageError(f"the images folder cannot be read: {error}") from error


def _find(folder: Path, name: str) -> Image:
    found = _load(folder, name)
    if isinstance(found, BrokenImage):
        raise ImageError(f"image {name!r} {found.reason}")
    return found


def _load(folder: Path, name: str) -> Image | BrokenImage:
    """Read and check one image; the reason of a broken one begins with its predicate: `is ...`, `has ...`."""
    if not NAME.fullmatch(name):
        return BrokenImage(name=name, path=folder, reason=f"has no valid name: it must match {NAME.pattern}")
    requirements: tuple[str, ...] = ()
    try:
        manifest = read_manifest(folder, name)
        if manifest.get("schema") != SCHEMA:
            raise _Broken(f"was built by another version of Belljar (schema {manifest.get('schema')!r}, not {SCHEMA})")
        requirements = tuple(manifest["requirements"])
        image = _image(folder, manifest)
        for check in CHECKS:
            check(image, manifest)
    except FileNotFoundError:
        return _absent(folder, name)
    except _Broken as broken:
        reason = str(broken)
    except OSError as error:
        reason = f"cannot be read: {error.strerror}: {error.filename}"
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"has an unreadable manifest ({type(error).__name__}: {error})"
    else:
        return image
    path = folder / f"{name}.json"
    return BrokenImage(name=name, path=path, reason=f"{reason}; run: {build_command(name, requirements)}")


class _Broken(Exception):
    """What a check found."""


def _absent(folder: Path, name: str) -> BrokenImage:
    """Tell what it means that there is no manifest."""
    leftovers = folders_of(folder, name)
    if _locked(build_lock(folder, name)):
        reason = "is being built right now; wait for it to end"
    elif leftovers:
        reason = f"is half-built (no manifest for {leftovers[0].name}); run: {build_command(name)}"
    else:
        reason = f"does not exist in {folder}; run: {build_command(name)}"
    return BrokenImage(name=name, path=leftovers[0] if leftovers else folder, reason=reason)


def _locked(path: Path) -> bool:
    """Tell whether some process holds an exclusive flock on a file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _image(folder: Path, manifest: Mapping[str, Any]) -> Image:
    match = _FOLDER.fullmatch(manifest["folder"])
    if not match or match[1] != manifest["name"]:
        raise ValueError(f"folder {manifest['folder']!r}")
    path = folder / manifest["folder"]
    return Image(
        name=manifest["name"],
        path=path,
        python=path / "venv/bin/python",
        base_prefix=Path(manifest["base_prefix"]),
        site_packages=path / manifest["site_packages"],
        python_version=manifest["python"]["version"],
        preload=tuple(manifest["preload"]),
        packages=dict(manifest["packages"]),
        cache=path / "cache",
        key=manifest["key"],
        requirements=tuple(manifest["requirements"]),
        import_ms=dict(manifest["import_ms"]),
        size=int(manifest["size"]),
        built=manifest["built"],
    )


# --- the quick check --------------------------------------------------------------------------------------------------


def _check_folder(image: Image, manifest: Mapping[str, Any]) -> None:
    for path in (image.path, image.path / ".in-use", image.path / "venv/pyvenv.cfg", image.cache):
        if not path.exists():
            raise _Broken(f"is broken: {path} is gone")


def _check_interpreter(image: Image, manifest: Mapping[str, Any]) -> None:
    """The venv's python must still lead to the file that it was built with; a changed file is asked for its version."""
    python = manifest["python"]
    real = Path(os.path.realpath(image.python))
    try:
        now = fingerprint(real)
    except FileNotFoundError:
        raise _Broken(f"is broken: its interpreter {real} is gone") from None
    if str(real) != python["executable"]:
        raise _Broken(f"is broken: its interpreter is now {real}, not {python['executable']}")
    if not Path(python["stdlib"], "os.py").exists():
        raise _Broken(f"is broken: its standard library {python['stdlib']} is gone")
    if now != python["fingerprint"] and (found := _ask_version(image.python)) != _minor(python):
        raise _Broken(f"was built for {_minor(python)} and its interpreter {real} is now {found}")


def _check_site_packages(image: Image, manifest: Mapping[str, Any]) -> None:
    try:
        present = set(os.listdir(image.site_packages))
    except FileNotFoundError:
        raise _Broken(f"is broken: {image.site_packages} is gone") from None
    if missing := sorted(set(manifest["site_entries"]) - present):
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise _Broken(f"is broken: its site-packages lacks {', '.join(missing[:3])}{more}")


Check = Callable[[Image, Mapping[str, Any]], None]
CHECKS: tuple[Check, ...] = (_check_folder, _check_interpreter, _check_site_packages)


def fingerprint(path: Path) -> list[int]:
    """Return what changes when a file is replaced: its size (bytes) and its time of change (ns). Raises OSError."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _minor(python: Mapping[str, Any]) -> str:
    return f"{python['implementation']} {'.'.join(python['version'].split('.')[:2])}"


def _ask_version(python: Path) -> str:
    """Return what an interpreter says that it is, such as `cpython 3.11`; bytecode and extensions depend on no more."""
    code = "import sys; print(sys.implementation.name, '%d.%d' % sys.version_info[:2])"
    try:
        command = [str(python), "-I", "-S", "-c", code]
        asked = subprocess.run(command, capture_output=True, text=True, timeout=_ASK_TIMEOUT, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return f"unable to start ({error})"
    return asked.stdout.strip()


# --- in use -----------------------------------------------------------------------------------------------------------


def _share(path: Path) -> int | None:
    """Take the shared lock of an image's folder; None when the folder is gone or going. Raises ImageError."""
    try:
        descriptor = os.open(path / ".in-use", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ImageError(f"cannot hold {path}: {error}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_nlink:
            return descriptor
    except BlockingIOError:
        pass
    os.close(descriptor)
    return None
