"""Other sandboxes: their files, processes, memory, sockets, and what two sandboxes could tell each other."""
# ruff: noqa: E501 -- guest code stands as it is run, a case a line

from __future__ import annotations

import json
from collections.abc import Callable

from attacks.model import Attack
from attacks.scene import Scene


def _with_neighbour(code: str) -> Callable[[Scene], str]:
    """Run the code beside a neighbour that lives; `@other@` is the neighbour's folder, `@other_pid@` its first process."""

    def drive(scene: Scene) -> str:
        assert scene.neighbour.alive
        with scene.attacked(code) as (_, execution):
            return execution.stdout + (execution.error.traceback if execution.error else "")

    return drive


def _leftover_memory(scene: Scene) -> str:
    """A sandbox is told a secret and ends; the next one searches its memory, files and environment for it."""
    with scene.sandbox() as first:
        first.run(
            f"kept = [{scene.neighbour_secret!r} * 50 for _ in range(1000)]\nopen('/tmp/left', 'w').write(kept[0])"
        )
    halves = scene.neighbour_secret[:16], scene.neighbour_secret[16:]
    code = f"""
import re
mark = bytes.fromhex({halves[0].encode().hex()!r}) + bytes.fromhex({halves[1].encode().hex()!r})
repeated, found = re.compile(b"(?:" + mark + b"){{{{10}}}}"), 0
with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
    for line in maps:
        start, end = (int(word, 16) for word in line.split()[0].split("-"))
        if line.split()[1][0] == "r" and end < 1 << 47:
            try:
                memory.seek(start)
                found += len(repeated.findall(memory.read(end - start)))
            except OSError:
                continue
print(found, os.path.exists("/tmp/left"), [n for n in os.listdir(os.environ["TMPDIR"]) if n == "left"])
""".replace("{{", "{").replace("}}", "}")
    with scene.sandbox() as second:
        seen = scene.run(second, code).stdout
        scene.seen = None  # the code itself holds the two halves
        return seen


def _identities(scene: Scene) -> str:
    """What the kernel keeps by user: two sandboxes started by root have different ids on the host."""
    with scene.sandbox() as one, scene.sandbox() as other:
        first, second = (
            json.loads(s.run("import os\nprint([os.getuid(), os.getgid(), os.getgroups()])").stdout)
            for s in (one, other)
        )
    return (
        f"{first} {second}"
        if scene.profile != "container"
        else ("not root" if 0 not in (first[0], second[0]) else "root")
    )


FILES = """
folder = "@other@"
paths = [folder + "/neighbour", folder + "/../tmp/neighbour", "/proc/@other_pid@/root" + folder + "/neighbour", "/proc/@other_pid@/cwd/neighbour"]
print(several(*map(read, paths), *(tried(open, path, "r+") for path in paths), *(tried(os.unlink, path) for path in paths)))
"""

ATTACKS = (
    Attack(
        name="read_neighbour_files",
        action="read and write another sandbox's working folder and temporary files",
        wall="mount namespace; Landlock; a user id each where the host is root",
        drive=_with_neighbour(FILES),
        sees={"full": "ENOENT", "container": "EACCES"},
    ),
    Attack(
        name="read_neighbour_shared_memory",
        action="read and write another sandbox's files in /dev/shm and /tmp",
        wall="mount namespace; Landlock",
        drive=_with_neighbour(
            'print(several(read("/dev/shm/neighbour"), read("/tmp/neighbour"), read("@shm@"), tried(open, "@shm@", "r+")))'
        ),
        sees={"full": "ENOENT", "container": "EACCES|EACCES ENOENT"},
    ),
    Attack(
        name="signal_neighbour",
        action="kill another sandbox's processes",
        wall="pid namespace; Landlock (scope)",
        drive=_with_neighbour(
            "print(several(*(tried(os.kill, pid, n) for pid in range(@other_pid@, @other_pid@ + 3) for n in (9, 15, 19, 2) if pid != os.getpid())))"
        ),
        sees={"full": "ESRCH", "container": "EPERM|EPERM ESRCH"},
    ),
    Attack(
        name="look_into_neighbour_process",
        action="read memory, environment, command line, descriptors of another sandbox's processes",
        wall="pid namespace; Landlock",
        drive=_with_neighbour(
            """
base = "/proc/@other_pid@/"
buffer = ctypes.create_string_buffer(64)
vector = struct.pack("QQ", ctypes.addressof(buffer), 64)
print(several(*(read(base + n) for n in ("mem", "environ", "maps", "cmdline")), *(tried(os.readlink, base + n) for n in ("cwd", "fd/3"))),
    call("process_vm_readv", @other_pid@, vector, 1, vector, 1, 0))
"""
        ),
        sees={"full": "ENOENT EPERM", "container": "EACCES EPERM"},
    ),
    Attack(
        name="connect_to_neighbour",
        action="connect to another sandbox's servers: an abstract Unix socket, TCP on loopback",
        wall="network namespace; seccomp",
        drive=_with_neighbour(
            """
import socket
print(several(tried(lambda: socket.socket(socket.AF_UNIX).connect("\\0belljar-neighbour")),
    tried(lambda: socket.create_connection(("127.0.0.1", 42424), 1))))
"""
        ),
        sees={"full": "ECONNREFUSED", "container": "EPERM"},
    ),
    Attack(
        name="find_dead_neighbour",
        action="search memory and files for what an earlier sandbox of the same zygote has left",
        wall="every sandbox is a fresh fork of a zygote that runs no guest's code",
        drive=_leftover_memory,
        sees=r"0 False \[\]",
    ),
    Attack(
        name="share_identity",
        action="compare the ids of two sandboxes",
        wall="user namespace; a user id each where the host is root",
        drive=_identities,
        sees={"full": r"\[1000, 1000, \[[0-9, ]*\]\] \[1000, 1000, \[[0-9, ]*\]\]", "container": "not root"},
    ),
)
