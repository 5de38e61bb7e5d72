"""The deep check: every file of an image against what was recorded when it was built, and every preload imported.

Covers files changed, cut short, gone or added, bytecode included (Python trusts an image's bytecode without looking at
the source). Against accidents, not against an attacker who can write the image: he can write the record too.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from belljar.errors import ImageError
from belljar.sandbox.image import Image, build_command, find_image
from belljar.sandbox.image_install import run

INVENTORY = "inventory.json"
PROBE = Path(__file__).parent / "images/probe.py"
PROBE_TIMEOUT = 300.0
HASHED = ("venv", "cache")
_CHUNK = 1 << 20

# Importing must start no thread: a process with threads cannot be forked safely.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_MAX_THREADS"), "1")


def check_image(name: str) -> list[str]:
    """Return what is wrong with an image's files and imports. Raises ImageError when the quick check fails already."""
    image = find_image(name)
    try:
        recorded = json.loads((image.path / INVENTORY).read_bytes())
    except (OSError, ValueError) as error:
        return [f"{INVENTORY} cannot be read ({error}); run: {build_command(name, image.requirements, force=True)}"]
    actual = inventory(image.path)
    problems = [*differences(recorded, actual), *record_differences(image, actual)]
    imported = probe(image.python, image.cache, image.preload)
    problems += [f"import {module} fails: {error}" for module, error in imported["failed"].items()]
    problems += [f"import {module} starts a thread" for module in imported["threads"]]
    return problems


def probe(python: Path, cache: Path, modules: Sequence[str]) -> dict[str, Any]:
    """Import modules in an image, away from the host's environment; images/probe.py says what is returned."""
    with tempfile.TemporaryDirectory() as folder:
        env = {
            "PATH": "/usr/bin:/bin", "HOME": folder, "TMPDIR": folder, "LANG": "C.UTF-8", "IPYTHONDIR": folder,
            "MPLCONFIGDIR": str(cache / "matplotlib"), "MPL_IGNORE_SYSTEM_FONTS": "1", **ONE_THREAD,
        }  # fmt: skip
        if library_path := os.environ.get("LD_LIBRARY_PATH"):  # some Pythons find libpython by it
            env["LD_LIBRARY_PATH"] = library_path
        output = run([str(python), "-I", "-B", str(PROBE), *modules], timeout=PROBE_TIMEOUT, env=env)
    try:
        result: dict[str, Any] = json.loads(output.splitlines()[-1])
    except (IndexError, ValueError) as error:
        raise ImageError(f"{python} did not say what importing took: {output[-200:]!r}") from error
    return result


# --- files ------------------------------------------------------------------------------------------------------------


def files(folder: Path) -> Iterator[Path]:
    """Yield every file and link of an image that the inventory covers, in no order; folder links are not followed."""
    for top in HASHED:
        for root, folders, names in os.walk(folder / top):
            links = [name for name in folders if (Path(root) / name).is_symlink()]
            yield from (Path(root) / name for name in (*names, *links))


def inventory(folder: Path) -> dict[str, list[Any]]:
    """Return path -> [sha256 in hex or a link's target, bytes] of all files of an image. Raises OSError."""
    paths = list(files(folder))
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        return {str(path.relative_to(folder)): seen for path, seen in zip(paths, pool.map(_look, paths), strict=True)}


def _look(path: Path) -> list[Any]:
    if path.is_symlink():
        return [f"-> {path.readlink()}", 0]
    digest, size = hashlib.sha256(), 0
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return [digest.hexdigest(), size]


def differences(recorded: Mapping[str, list[Any]], actual: Mapping[str, list[Any]]) -> list[str]:
    """Say which files are gone, added, of another size or of another content, in words."""
    gone = [f"{path} is gone" for path in sorted(recorded.keys() - actual.keys())]
    added = [f"{path} does not belong to the image" for path in sorted(actual.keys() - recorded.keys())]
    both = sorted(path for path in recorded.keys() & actual.keys() if list(recorded[path]) != list(actual[path]))
    changed = [
        f"{path} has {actual[path][1]} bytes instead of {recorded[path][1]}"
        if actual[path][1] != recorded[path][1] else f"{path} has changed"
        for path in both
    ]  # fmt: skip
    return [*gone, *changed, *added]


def record_differences(image: Image, actual: Mapping[str, list[Any]]) -> list[str]:
    """Compare with what each package's own RECORD (PyPA: recording installed projects) says of its files."""
    problems = []
    for record in sorted(image.site_packages.glob("*.dist-info/RECORD")):
        for path, digest in _recorded(record):
            location = os.path.relpath(os.path.normpath(image.site_packages / path), image.path)
            found = actual.get(location)
            if found is None:
                problems.append(f"{location} is gone ({record.parent.name})")
            elif digest and not found[0].startswith("-> ") and found[0] != digest:
                problems.append(f"{location} is not what {record.parent.name} installed")
    return problems


def _recorded(record: Path) -> Iterator[tuple[str, str | None]]:
    """Yield (path, sha256 in hex or None) of a RECORD's rows."""
    with record.open(newline="", encoding="utf-8") as file:
        for row in csv.reader(file):
            method, _, value = row[1].partition("=") if len(row) > 1 else ("", "", "")
            known = method == "sha256"
            yield row[0], base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)).hex() if known else None
