"""The zygote's file tree: a tmpfs that holds read-only binds of the image and the system libraries, and little else.

Covered: private mount propagation, the tree from a plan (data made by the host), pivot_root, the old root gone.
Not covered: what each guest mounts for itself (`walls`). Needs CAP_SYS_ADMIN over its mount namespace.
The two-step pivot (stage in a tmpfs with the old root beside it) lets binds come from any place of the old root.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from . import kernel as k

STAGE = "/tmp"
NEW, OLD = "/new", "/old"
QUIET = k.MS_NOSUID | k.MS_NODEV
# Read-only: a device can be written to all the same, but its node's times and mode cannot be changed.
DEVICE_ATTRIBUTES = k.MOUNT_ATTR_RDONLY | k.MOUNT_ATTR_NOSUID | k.MOUNT_ATTR_NOEXEC


def build(plan: dict[str, Any]) -> None:
    """Build the tree of `plan` at NEW, with the old root at OLD. Raises OSError."""
    os.umask(0o022)
    k.mount(None, "/", None, k.MS_REC | k.MS_PRIVATE)
    k.mount("tmpfs", STAGE, "tmpfs", QUIET, "mode=755")
    os.mkdir(STAGE + NEW)
    os.mkdir(STAGE + OLD)
    k.pivot_root(STAGE, STAGE + OLD)
    os.chdir("/")
    k.mount("tmpfs", NEW, "tmpfs", QUIET, "mode=755,size=32m")
    for key, step in STEPS.items():
        for entry in plan.get(key, ()):
            step(*entry)
    k.mount_setattr(NEW, k.MOUNT_ATTR_RDONLY | k.MOUNT_ATTR_NOSUID | k.MOUNT_ATTR_NODEV)
    for device in plan["devices"]:  # after the recursive nodev, which would make them useless
        k.mount(OLD + device, NEW + device, None, k.MS_BIND)
        k.mount_setattr(NEW + device, DEVICE_ATTRIBUTES)


def enter_tree() -> None:
    """Make NEW the root, with a /proc of this pid namespace, and let go of the old root. Raises OSError."""
    k.mount(NEW, NEW, None, k.MS_BIND | k.MS_REC)  # on top of a mount that a user namespace may have locked
    os.chdir(NEW)
    k.mount("proc", "proc", "proc", QUIET | k.MS_NOEXEC)
    k.pivot_root(".", ".")
    k.unmount(".", k.MNT_DETACH)
    os.chdir("/")


def _folder(path: str) -> None:
    os.makedirs(NEW + path, exist_ok=True)


def _file(path: str, text: str) -> None:
    _folder(os.path.dirname(path))
    with open(NEW + path, "w") as file:
        file.write(text)


def _link(path: str, target: str) -> None:
    _folder(os.path.dirname(path))
    os.symlink(target, NEW + path)


def _bind(source: str, path: str) -> None:
    if os.path.isdir(OLD + source):
        _folder(path)
    else:
        _file(path, "")
    k.mount(OLD + source, NEW + path, None, k.MS_BIND | k.MS_REC)


def _copy(source: str, path: str) -> None:
    """Copy a small tree of plain files with their times, so that compiled bytecode beside them stays valid."""
    _folder(path)
    with os.scandir(OLD + source) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                _copy(f"{source}/{entry.name}", f"{path}/{entry.name}")
            elif entry.is_file(follow_symlinks=False):
                with open(entry.path, "rb") as old, open(f"{NEW}{path}/{entry.name}", "wb") as new:
                    new.write(old.read())
                stat = entry.stat()
                os.utime(f"{NEW}{path}/{entry.name}", ns=(stat.st_atime_ns, stat.st_mtime_ns))


# Key of the plan -> what is done with each of its entries, in this order.
STEPS: dict[str, Callable[..., None]] = {
    "folders": _folder,
    "files": _file,
    "links": _link,
    "copies": _copy,
    "binds": _bind,
}
