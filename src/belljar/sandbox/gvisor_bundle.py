"""The bundle of a gVisor sandbox: an OCI configuration and an almost empty root in a temporary folder, and its command.

Promises: the root is the one of the full profile (`plan.full_layout`), read-only; there is no network and no socket of
the host's. Bundles that a dead host has left are swept away. Source: the OCI runtime specification 1.0.2, config.md and
config-linux.md.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from belljar.sandbox.cgroup import process_mark
from belljar.sandbox.plan import ETC_FILES

PREFIX = "belljar-gvisor-"
# What the zygote needs inside gVisor; none of these is a capability on the host.
CAPABILITIES = (
    ("CAP_SYS_ADMIN", "mounts and namespaces of guests"),
    ("CAP_SYS_CHROOT", "a root of its own for each guest"),
    ("CAP_SETUID", "a uid of its own for each guest"),
    ("CAP_SETGID", "the same for groups"),
    ("CAP_SETPCAP", "empty the bounding set"),
    ("CAP_CHOWN", "give files to guests"),
    ("CAP_DAC_OVERRIDE", "reach files of guests"),
    ("CAP_FOWNER", "remove files of guests"),
    ("CAP_KILL", "end guests"),
    ("CAP_MKNOD", "/dev/null and its like"),
    ("CAP_SYS_PTRACE", "look at guests' memory use in /proc"),
)
# Writable folders of the sandbox, in its own memory: the first holds the guests' roots, the others are the zygote's.
SCRATCH = ("/belljar/guests", "/mnt", "/tmp")
FLAGS = (
    ("--network=none", "no network but a loopback"),
    ("--ignore-cgroups", "the keeper is in a group of ours when it starts runsc"),
    ("--host-uds=none", "no Unix socket of the host's can be opened"),
    ("--overlay2=none", "the root is read-only, nothing is laid over it"),
    ("--file-access-mounts=exclusive", "image and system libraries do not change under a sandbox: they may be cached"),
    ("--net-raw=false", "no raw sockets"),
)
DESCRIPTORS = 65536


def make(spec: dict[str, Any]) -> str:
    """Write a bundle for this plan; its folder. Raises OSError."""
    folder = tempfile.mkdtemp(prefix=f"{PREFIX}{process_mark(os.getpid())}-")
    try:
        Path(folder, "state").mkdir(0o700)
        _make_root(Path(folder, "root"), spec["root"])
        Path(f"{folder}/config.json").write_text(json.dumps(config(spec)))
    except BaseException:
        remove(folder)
        raise
    return folder


def remove(folder: str) -> None:
    """Remove a bundle. Never raises."""
    shutil.rmtree(folder, ignore_errors=True)


def sweep() -> None:
    """Remove the bundles of this user's hosts that no longer live."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*-*"):
        mark = "-".join(folder.name.removeprefix(PREFIX).split("-")[:2])
        with contextlib.suppress(OSError, ValueError):
            if folder.lstat().st_uid == os.geteuid() and not _is_alive(mark):
                remove(str(folder))


def command(runsc: str, folder: str, *, rootless: bool) -> list[str]:
    """What starts the sandbox of a bundle. Its name is the folder's: runsc makes an abstract socket of that name."""
    flags = [flag for flag, _ in FLAGS] + (["--rootless"] if rootless else [])
    return [runsc, f"--root={folder}/state", *flags, "run", f"--bundle={folder}", name(folder)]


def name(folder: str) -> str:
    """The name of a bundle's container, unlike any other's on this machine."""
    return Path(folder).name


def config(spec: dict[str, Any]) -> dict[str, Any]:
    """The bundle's config.json, as data."""
    names = [capability for capability, _ in CAPABILITIES]
    environment = [f"{key}={value}" for key, value in spec["environment"].items()]
    read_only = [
        {"destination": path, "type": "bind", "source": source, "options": ["bind", "ro", "nosuid", "nodev"]}
        for source, path in spec["root"]["binds"]
    ]
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": [spec["python"], "-I", "-B", spec["guest"], "gvisor"],
            "env": environment,
            "cwd": "/",
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), names),
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": DESCRIPTORS, "soft": DESCRIPTORS}],
            "noNewPrivileges": True,
        },
        "root": {"path": "root", "readonly": True},
        "hostname": ETC_FILES["/etc/hostname"].strip(),
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            *({"destination": path, "type": "tmpfs", "source": "tmpfs", "options": ["nosuid"]} for path in SCRATCH),
            *read_only,
        ],
        "linux": {"namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")]},
    }


def _make_root(root: Path, plan: dict[str, Any]) -> None:
    """Everything of the plan's tree but the binds themselves, of which only the places are made."""
    old_mask = os.umask(0o022)
    try:
        for path in [*SCRATCH, *(path for (path,) in plan["folders"])]:
            _below(root, path).mkdir(parents=True, exist_ok=True)
        for path, text in plan["files"]:
            _write(_below(root, path), text)
        for path, target in plan["links"]:
            link = _below(root, path)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(target)
        for source, path in plan["copies"]:
            shutil.copytree(source, _below(root, path))
        for source, path in plan["binds"]:
            if Path(source).is_dir():
                _below(root, path).mkdir(parents=True, exist_ok=True)
            else:
                _write(_below(root, path), "")
    finally:
        os.umask(old_mask)


def _below(root: Path, path: str) -> Path:
    return root / path.lstrip("/")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _is_alive(mark: str) -> bool:
    try:
        return process_mark(int(mark.partition("-")[0])) == mark
    except OSError:
        return False
