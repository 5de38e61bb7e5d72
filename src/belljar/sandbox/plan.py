"""The plan of a zygote: every wall's policy as data, with its reason, for the launcher and the guests to carry out.

Pure but for looking at which system folders this host has. The same tables are shown by `belljar check` and the docs.
"""

from __future__ import annotations

import base64
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import belljar.guest
from belljar.guest.kernel import LANDLOCK_FS, LANDLOCK_NET, LANDLOCK_SCOPE
from belljar.sandbox.base import Limits
from belljar.sandbox.image import Image
from belljar.sandbox.seccomp import build_filter

GUEST_CODE = Path(belljar.guest.__file__).parent
INNER_GUEST, INNER_LIBRARIES, INNER_IMAGE, INNER_PYTHON = "/belljar/guest", "/belljar/lib", "/image", "/python"
# Host ids of a sandbox started by root: a range that no distribution assigns (systemd's containers end below it).
ROOT_ID_BASE, ROOT_ID_COUNT = 0x7000_0000, 65536

# The walls of each profile, in the order in which a guest puts them up (guest/walls.py has one function for each).
WALLS = {
    "full": (
        "namespaces",
        "loopback",
        "mounts",
        "hand over",
        "ids",
        "oom score",
        "capabilities",
        "no_new_privs",
        "landlock",
        "descriptors",
        "rlimits",
        "seccomp",
    ),
    "container": (
        "ids",
        "work folder",
        "hand over",
        "oom score",
        "capabilities",
        "no_new_privs",
        "landlock",
        "descriptors",
        "rlimits",
        "seccomp",
    ),
    "gvisor": (
        "sandbox namespaces",
        "sandbox mounts",
        "ids",
        "user namespace",
        "sandbox root",
        "rlimits",
        "address space",
        "sandbox capabilities",
        "no_new_privs",
        "descriptors",
        "seccomp",
    ),
}
# What a profile needs of Landlock: files since ABI 3 (truncate); without a pid namespace signals must be scoped, ABI 6.
LANDLOCK_MINIMUM = {"full": 3, "container": 6, "gvisor": 0}

# System folders a guest sees, read-only. Everything else of the host is not there at all.
SYSTEM_FOLDERS = (
    ("/usr/bin", "sh, ls and the other programs that code starts"),
    ("/usr/lib", "shared libraries"),
    ("/usr/lib32", "shared libraries"),
    ("/usr/lib64", "shared libraries"),
    ("/usr/share/zoneinfo", "time zones"),
    ("/usr/share/fonts", "fonts for plots"),
    ("/etc/alternatives", "what awk and others in /usr/bin point to"),
    ("/etc/ld.so.cache", "where the dynamic loader finds libraries"),
    ("/nix/store", "interpreter and libraries on NixOS"),
)
TOP_FOLDERS = ("/bin", "/sbin", "/lib", "/lib32", "/lib64")  # links into /usr on merged systems, folders on others
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
ETC_FILES = {
    "/etc/passwd": "root:x:0:0::/:/bin/false\nuser:x:1000:1000::/home/user:/bin/sh\n",
    "/etc/group": "root:x:0:\nuser:x:1000:\n",
    "/etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",  # no DNS: a look-up fails at once
    "/etc/resolv.conf": "",
    "/etc/hostname": "belljar\n",
}
ENVIRONMENT = {
    "HOME": "/home/user",
    "USER": "user",
    "LOGNAME": "user",
    "LANG": "C.UTF-8",
    "TZ": "UTC",
    "TERM": "dumb",
    "SHELL": "/bin/sh",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",
    "TMPDIR": "/tmp",
    "IPYTHONDIR": "/tmp/ipython",
    "MPLCONFIGDIR": "/tmp/matplotlib",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "PLOTLY_RENDERER": "plotly_mimetype",
    # One thread each: the zygote must have no other thread, and a sandbox has about one processor's time.
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMEXPR_MAX_THREADS": "1",
    "LOKY_MAX_CPU_COUNT": "2",
}

# Run in the zygote after its imports, so that lazy imports and caches are there in every guest.
REHEARSAL = (
    "1 + 1",
    "raise ValueError('rehearsal')",
    "!true",
)
LIBRARY_REHEARSAL = {
    "pandas": "import pandas\ndisplay(pandas.DataFrame({'a': [1, 2, 3.5], 'b': list('xyz')}).describe())",
    "matplotlib.pyplot": (
        "import matplotlib.pyplot\n_, axes = matplotlib.pyplot.subplots()\naxes.plot([1, 2, 3], label='x')\n"
        "axes.set_title('$x^2$ y')\naxes.legend()\nmatplotlib.pyplot.show()"
    ),
    "sympy": "import sympy\nsympy.simplify(sympy.Symbol('x') ** 2 + 1)",
}

_FS = LANDLOCK_FS
READ = _FS["read_file"] | _FS["read_dir"]
READ_RUN = READ | _FS["execute"]
WRITE = sum(_FS.values()) & ~(_FS["execute"] | _FS["make_char"] | _FS["make_block"] | _FS["ioctl_dev"])
DEVICE = _FS["read_file"] | _FS["write_file"] | _FS["ioctl_dev"]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where things are for a guest of one profile."""

    python: str
    guest: str
    root: dict[str, Any]
    landlock_shared: tuple[tuple[str, int], ...]
    landlock_own: tuple[tuple[str, int], ...]
    font_caches: tuple[str, ...]
    package_folders: tuple[str, ...]
    environment: dict[str, str]


def landlock_handled(abi: int, profile: str) -> tuple[int, int, int]:
    """Rights that the ruleset handles: files, network, scopes. Source: the table of ABIs in landlock(7)."""
    known = {1: 13, 2: 14, 3: 15, 4: 15}.get(abi, 16)
    files = (1 << known) - 1
    network = sum(LANDLOCK_NET.values()) if abi >= 4 and profile == "container" else 0
    return files, network, sum(LANDLOCK_SCOPE.values()) if abi >= 6 else 0


def rlimits(limits: Limits, *, memory_by_kernel: bool) -> dict[str, int]:
    """Resource limits of a guest. With no cgroup the data segment is bounded too: what is left to the watchdog is
    less.
    """
    table = {
        "RLIMIT_CORE": 1,  # not 0: that does not keep a crash from a core_pattern that is a pipe (core(5))
        "RLIMIT_NOFILE": limits.descriptors,
        "RLIMIT_NPROC": limits.processes,
        "RLIMIT_FSIZE": limits.files_bytes,
        "RLIMIT_MEMLOCK": 1 << 16,
        "RLIMIT_MSGQUEUE": 0,
        "RLIMIT_SIGPENDING": 1024,
        "RLIMIT_NICE": 0,
        "RLIMIT_RTPRIO": 0,
    }
    return table if memory_by_kernel else table | {"RLIMIT_DATA": limits.memory}


def full_layout(image: Image) -> Layout:
    """The zygote's own root: image, interpreter and system libraries at fixed places."""
    executable = os.path.realpath(image.python)
    base = os.path.realpath(image.base_prefix)
    in_usr = base == "/usr"
    inner = executable if in_usr else INNER_PYTHON + executable.removeprefix(base)
    version = image.python_version
    lib = f"python{'.'.join(version.split('.')[:2])}"
    binds = [(str(image.path / "venv/lib"), f"{INNER_IMAGE}/lib")]
    binds += [] if in_usr else [(base, INNER_PYTHON)]
    if image.cache.is_dir():
        binds.append((str(image.cache), f"{INNER_IMAGE}/cache"))
    links = [(f"{INNER_IMAGE}/bin/{name}", inner) for name in ("python", "python3")]
    links += [
        ("/home/user", "/mnt/data"),
        (f"{INNER_IMAGE}/lib64", "lib"),
        ("/etc/localtime", "/usr/share/zoneinfo/UTC"),
    ]
    libraries = [] if in_usr else sorted(Path(base, "lib").glob("libpython*.so*"))
    links += [(f"{INNER_LIBRARIES}/{path.name}", f"{INNER_PYTHON}/lib/{path.name}") for path in libraries]
    links += [(f"/dev/{name}", f"/proc/self/fd{end}") for name, end in DEVICE_LINKS.items()]
    for top in TOP_FOLDERS:
        if os.path.islink(top):
            links.append((top, os.readlink(top)))
        elif os.path.isdir(top):
            binds.append((top, top))
    binds += [(os.path.realpath(path), path) for path, _ in SYSTEM_FOLDERS if os.path.exists(path)]
    config = f"home = {os.path.dirname(inner)}\ninclude-system-site-packages = false\nversion = {version}\n"
    files = [(f"{INNER_IMAGE}/pyvenv.cfg", config), *ETC_FILES.items(), *((device, "") for device in DEVICES)]
    return Layout(
        python=f"{INNER_IMAGE}/bin/python",
        guest=INNER_GUEST,
        root={
            "folders": [[path] for path in ("/proc", "/tmp", "/mnt", "/dev/shm", "/home")],
            "files": files,
            "links": links,
            "copies": [(str(GUEST_CODE), INNER_GUEST)],
            "binds": binds,
            "devices": list(DEVICES),
        },
        landlock_shared=(
            *((path, READ_RUN) for path in _roots(("/usr", INNER_IMAGE, INNER_PYTHON, "/nix", *TOP_FOLDERS))),
            ("/etc", READ),
            ("/dev", DEVICE | READ),
            ("/", _FS["read_dir"]),
        ),
        landlock_own=(*((f"/mnt/{name}", WRITE) for name in ("data", "tmp", "shm")), ("/proc", READ)),
        font_caches=_font_caches(image, f"{INNER_IMAGE}/cache"),
        package_folders=(
            f"{INNER_IMAGE}/lib/{lib}/site-packages/",
            f"{base if in_usr else INNER_PYTHON}/lib/{lib}/",
            "/belljar/",
        ),
        environment=ENVIRONMENT
        | {"PATH": f"{INNER_IMAGE}/bin:/usr/bin:/bin"}
        # An interpreter built with a shared library looks for it where it was on the host, then finds the system's.
        | ({"LD_LIBRARY_PATH": INNER_LIBRARIES} if libraries else {}),
    )


DEVICE_LINKS = {"fd": "", "stdin": "/0", "stdout": "/1", "stderr": "/2"}


def container_layout(image: Image, scratch: str) -> Layout:
    """No root of its own: the host's paths, of which Landlock opens few."""
    base = os.path.realpath(image.base_prefix)
    lib = f"python{'.'.join(image.python_version.split('.')[:2])}"
    folders = [path for path, _ in SYSTEM_FOLDERS] + list(TOP_FOLDERS)
    interpreter = [] if base == "/usr" else [f"{base}/bin", f"{base}/lib"]
    opened = [*folders, *interpreter, str(image.path), str(GUEST_CODE)]
    readable = ("/etc/nsswitch.conf", "/etc/localtime", "/etc/fonts", "/etc/mime.types", "/etc/hosts")
    places = {"HOME": f"{scratch}/data", "TMPDIR": f"{scratch}/tmp"}
    return Layout(
        python=str(image.python),
        guest=str(GUEST_CODE),
        root={},
        landlock_shared=(
            *((path, READ_RUN) for path in _roots(opened)),
            *((path, READ) for path in readable),
            *((path, DEVICE) for path in DEVICES),
        ),
        landlock_own=(),
        font_caches=_font_caches(image, str(image.cache)),
        package_folders=(f"{image.site_packages}/", f"{base}/lib/{lib}/", f"{GUEST_CODE}/"),
        environment=ENVIRONMENT | places | {"PATH": f"{image.path}/venv/bin:/usr/bin:/bin"},
    )


def zygote_spec(
    image: Image,
    profile: str,
    *,
    preload: Sequence[str],
    landlock_abi: int,
    is_root: bool,
    cgroups: Sequence[str] = (),
    scratch: str = "",
) -> dict[str, Any]:
    """The whole plan, as JSON-able data. Raises IsolationUnavailable for an architecture without a seccomp table."""
    layout = full_layout(image) if profile == "full" else container_layout(image, scratch)
    return {
        "profile": profile,
        "walls": list(WALLS[profile]),
        "python": layout.python,
        "python_version": image.python_version,
        "guest": layout.guest,
        "environment": layout.environment,
        "root": layout.root,
        "scratch": scratch,
        "ids": {"base": ROOT_ID_BASE, "count": ROOT_ID_COUNT} if is_root else {"base": 0, "count": 1},
        "landlock": {
            "handled": landlock_handled(landlock_abi, profile),
            "shared": layout.landlock_shared,
            "own": layout.landlock_own,
            "writable": WRITE,
            "readable": READ,
        },
        "seccomp": base64.b64encode(build_filter(profile, platform.machine())).decode(),
        "preload": list(preload),
        "rehearsal": [*REHEARSAL, *(code for name, code in LIBRARY_REHEARSAL.items() if name in preload)],
        "font_caches": layout.font_caches,
        "library_folders": layout.package_folders,
        "tidy_heap": bool(preload),
        "cgroups": list(cgroups),
        "folders": [os.path.dirname(scratch)]
        if scratch
        else [],  # the keeper removes these and the groups if the host dies
    }


def _font_caches(image: Image, inner: str) -> tuple[str, ...]:
    folder = image.cache / "matplotlib"
    return tuple(f"{inner}/matplotlib/{path.name}" for path in sorted(folder.glob("fontlist-*.json")))


def _roots(paths: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(paths))
