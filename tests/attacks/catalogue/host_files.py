"""Files that the host reads and writes for its caller, in a folder where the guest can put anything."""
# ruff: noqa: E501 -- guest code stands as it is run, a case a line

from __future__ import annotations

import time
from collections.abc import Callable

from attacks.model import Attack
from attacks.scene import Scene
from belljar import FileError, Sandbox

OPENAT2 = "openat2 (beneath, no symbolic links, no other mounts), only regular files"


def _fetch(prepare: str, *paths: str) -> Callable[[Scene], str]:
    """The guest prepares; then the host reads these paths and lists the folder."""

    def drive(scene: Scene) -> str:
        with scene.attacked(prepare) as (sandbox, execution):
            assert execution.ok, execution.error
            seen = [_read(sandbox, path) for path in paths]
            listed = [info.path for info in sandbox.list_files()]
        return f"{' '.join(seen)} {listed}"

    return drive


def _read(sandbox: Sandbox, path: str) -> str:
    try:
        data = sandbox.read_file(path)
    except FileError:
        return "refused"
    return f"{data[:64]!r}"


def _put(prepare: str, *paths: str, then: str = "") -> Callable[[Scene], str]:
    """The guest prepares; then the host writes these paths."""

    def drive(scene: Scene) -> str:
        seen = []
        with scene.attacked(prepare) as (sandbox, execution):
            if not execution.ok:
                return str(execution.outcome)
            for path in paths:
                try:
                    sandbox.write_file(path, b"from the host")
                    seen.append("written")
                except FileError:
                    seen.append("refused")
            shown = scene.run(sandbox, then).stdout.strip() if then else ""
        return f"{' '.join(seen)} {shown}".strip()

    return drive


SWAP_TRIES = 3
SWAP = """
for i in range(3):
    open(f"own{i}", "w").write("own")
os.makedirs("real"), os.symlink("@folder@", "evil"), os.symlink("@canary@", "link")
open("real/secret", "w").write("own"), open("real/open to all", "w").write("own")
import subprocess
swapper = '''
import os, sys, time
end = time.monotonic() + 6
while time.monotonic() < end:
    os.symlink("@canary@", "t"); os.rename("t", "name")
    open("t", "w").write("own"); os.rename("t", "name")
    os.rename("real", "folder"); os.rename("folder", "real"); os.rename("evil", "folder"); os.rename("folder", "evil")
'''
subprocess.Popen([sys.executable, "-S", "-c", swapper])
time.sleep(0.15)
"""


def _race(use: Callable[[Sandbox], object]) -> Callable[[Scene], str]:
    """The guest swaps files and folders for links to the host's, while the host uses them for most of a second."""

    def drive(scene: Scene) -> str:
        for _ in range(SWAP_TRIES):
            with scene.attacked(SWAP) as (sandbox, execution):
                if execution.error is not None and execution.error.name == "LimitExceeded":
                    continue  # where files are counted by listing them, one that is swapped can count twice: once more
                assert execution.ok, execution.error
                return _use_for_a_while(sandbox, use)
        raise AssertionError("the watchdog ended the guest each time")

    return drive


def _use_for_a_while(sandbox: Sandbox, use: Callable[[Sandbox], object]) -> str:
    """All different things that were seen."""
    seen: set[str] = set()
    deadline = time.monotonic() + 0.7
    while time.monotonic() < deadline:
        try:
            seen.add(repr(use(sandbox)))
        except FileError:
            seen.add("refused")
    return " ".join(sorted(seen))


def _grow(scene: Scene) -> str:
    """The guest makes a file longer for as long as the host reads it."""
    code = """
import threading
def grow():
    with open("grows", "ab", 0) as file:
        while True:
            try:
                file.write(bytes(65536))
            except OSError:
                file.truncate(0)
threading.Thread(target=grow, daemon=True).start()
time.sleep(0.05)
"""
    with scene.attacked(code) as (sandbox, _):
        started = time.monotonic()
        sizes = []
        for _ in range(5):
            try:
                sizes.append(len(sandbox.read_file("grows")))
            except FileError:
                sizes.append(0)
        bounded = max(sizes) <= sandbox._limits.files_bytes + sandbox._limits.memory
        return f"bounded {bounded}, within 5 s {time.monotonic() - started < 5}"


def _dead(scene: Scene) -> str:
    """Files of an interpreter that has ended are read with the same care."""
    with scene.attacked('os.symlink("@canary@", "link"); open("own", "w").write("own"); os._exit(0)') as (
        sandbox,
        execution,
    ):
        return f"{execution.outcome} {_read(sandbox, 'link')} {_read(sandbox, 'own')}"


def _many(scene: Scene) -> str:
    """Listing a folder tree that is as large and as deep as the limits allow."""
    code = """
path = "."
for i in range(100):
    path += "/d"
    tried(os.mkdir, path)
for i in range(300):
    tried(lambda: open(f"f{i}", "w").close())
"""
    with scene.attacked(code) as (sandbox, execution):
        started = time.monotonic()
        count = len(sandbox.list_files())
        return f"{execution.outcome} listed {0 < count <= 20000} at once {time.monotonic() - started < 2}"


LINKS = 'os.symlink("@canary@", "link"); os.symlink("@folder@", "folder"); os.symlink("/", "root"); open("own", "w").write("own")'

ATTACKS = (
    Attack(
        name="fetch_symlink",
        action="make symbolic links to a file, a folder and the root of the host; the host reads through them",
        wall=OPENAT2,
        drive=_fetch(LINKS, "link", "folder/secret", "root/etc/shadow", "own"),
        sees=r"refused refused refused b'own' \['own'\]",
    ),
    Attack(
        name="fetch_outside_paths",
        action="the host's caller asks for paths with .., absolute paths, empty ones, NUL",
        wall="paths are checked",
        drive=_fetch(
            LINKS,
            "../secret",
            "/etc/shadow",
            "a/../../x",
            "/mnt/data/../../etc/shadow",
            "",
            ".",
            "own\0",
            "d/" * 99 + "x",
        ),
        sees=r"refused( refused){7} \['own'\]",
    ),
    Attack(
        name="fetch_proc_links",
        action="link to /proc/self/root, /proc/1/environ, /proc/self/fd/0: the host would follow them as itself",
        wall=OPENAT2,
        drive=_fetch(
            'os.symlink("/proc/self/environ", "environ"); os.symlink("/proc/self/root/etc/shadow", "root"); os.symlink("/dev/stdin", "fd")',
            "environ",
            "root",
            "fd",
        ),
        sees=r"refused refused refused \[\]",
    ),
    Attack(
        name="fetch_fifo",
        action="put a FIFO where the host reads: it must not wait",
        wall=OPENAT2,
        drive=_fetch('os.mkfifo("fifo")', "fifo"),
        sees=r"refused \[\]",
    ),
    Attack(
        name="fetch_socket",
        action="put a Unix socket where the host reads",
        wall=OPENAT2,
        drive=_fetch('import socket; tried(lambda: socket.socket(socket.AF_UNIX).bind("socket"))', "socket"),
        sees=r"refused \[\]",
    ),
    Attack(
        name="fetch_hard_link",
        action="put hard links to host files where the host reads",
        wall="own root; Landlock (refer)",
        drive=_fetch('tried(os.link, "@canary@", "link"); tried(os.link, "/etc/passwd", "passwd")', "link", "passwd"),
        sees=r"refused refused \[\]",
    ),
    Attack(
        name="fetch_while_swapping",
        action="swap a file for a link to a host file while the host reads it",
        wall=OPENAT2,
        drive=_race(lambda sandbox: sandbox.read_file("name")),
        sees="(b''|b'own'|refused| )+",
    ),
    Attack(
        name="fetch_while_swapping_folder",
        action="swap a folder for a link to a host folder while the host reads a file in it",
        wall=OPENAT2,
        drive=_race(lambda sandbox: sandbox.read_file("folder/secret")),
        sees="(b'own'|refused| )+",
    ),
    Attack(
        name="list_while_swapping",
        action="swap folders for links to host folders while the host lists them",
        wall=OPENAT2,
        drive=_race(
            lambda sandbox: any(
                "listener" in info.path or ("/open" in info.path and info.size > 3) for info in sandbox.list_files()
            )
        ),
        sees="False",
    ),
    Attack(
        name="put_while_swapping",
        action="swap a file and a folder for links to the host's while the host writes there",
        wall=OPENAT2 + ", new files only",
        drive=_race(lambda sandbox: (sandbox.write_file("folder/open to all", b"!"), sandbox.write_file("name", b"!"))),
        sees=r"(\(None, None\)|refused| )+",
    ),
    Attack(
        name="put_through_symlink",
        action="put links to host files and folders where the host writes",
        wall=OPENAT2 + ", new files only",
        drive=_put(
            LINKS,
            "link",
            "folder/secret",
            "folder/new",
            "root/tmp/new",
            then='print(os.path.islink("link"), open("link").read())',
        ),
        sees="written refused refused refused False from the host",
    ),
    Attack(
        name="put_over_odd_files",
        action="put a FIFO, a folder and a hard link to another file where the host writes",
        wall="new files only",
        drive=_put(
            'os.mkfifo("fifo"); os.makedirs("folder/x"); open("own", "w").write("own"); os.link("own", "twin")',
            "fifo",
            "folder",
            "twin",
            then='print(open("own").read())',
        ),
        sees="written refused written own",
    ),
    Attack(
        name="put_outside",
        action="the host's caller writes to paths outside the working folder",
        wall="paths are checked",
        drive=_put("", "../new", "/tmp/new", "/etc/passwd", "a/../../new", "/mnt/data/../new"),
        sees="refused refused refused refused refused",
    ),
    Attack(
        name="put_into_own_quota",
        action="fill the file quota, then let the host write",
        wall="one size-limited tmpfs for all that a guest writes",
        drive=_put("tried(lambda: [open(f'f{i}', 'wb').write(bytes(1 << 20)) for i in range(100)])", "more"),
        sees="refused|written|killed",
    ),
    Attack(
        name="list_odd_names",
        action="name files with line breaks, control characters, no UTF-8, 255 bytes, like URLs",
        wall="names are data",
        drive=_fetch(
            r"""
for name in (b"a\nb", b"\xff\xfe", b"\x1b[31m", b"x" * 255, b"data:,x", b"-rf", b"..."):
    open(name, "w").close()
""",
            "...",
        ),
        sees=r"b'' \[.*\]",
    ),
    Attack(
        name="list_deep_and_many",
        action="fill the folder to its limits and nest folders",
        wall="bounded walk",
        drive=_many,
        sees="ok listed True at once True",
    ),
    Attack(
        name="fetch_growing_file",
        action="append to a file without end while the host reads it",
        wall="read limit",
        drive=_grow,
        sees="bounded True, within 5 s True",
    ),
    Attack(
        name="fetch_after_death",
        action="leave links and end the interpreter; the host reads afterwards",
        wall=OPENAT2,
        drive=_dead,
        sees="exited refused b'own'",
    ),
)
