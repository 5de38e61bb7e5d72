"""Limits: each ends in an outcome of its own, with what was printed before; the host and the others go on."""
# ruff: noqa: E501 -- guest code stands as it is run, a case a line

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from attacks.model import Attack
from attacks.scene import LIMITS, MIB, Scene
from belljar import BelljarError, Pool, Sandbox
from belljar.guest.launch import descendants

FIRST = 'print("before", flush=True)\n'


def _ends(
    name: str,
    action: str,
    outcome: str | tuple[str, ...],
    code: str,
    wall: str,
    sees: str = "before",
    timeout: float | None = None,
    **more: str,
) -> Attack:
    outcomes = (outcome,) if isinstance(outcome, str) else outcome
    return Attack(name=name, action=action, wall=wall, code=FIRST + code, sees=sees, outcomes=outcomes, timeout=timeout)


DEADLINE = "deadline: interrupt, then kill"
MEMORY = "control group (memory); else rlimit and watchdog"
PROCESSES = "control group (pids); else rlimit"
TMPFS = "size-limited tmpfs"
QUOTA = TMPFS + "; else watchdog"

TIMEOUTS = (
    _ends("loop_for_ever", "an endless loop", "timeout", "while True: pass", DEADLINE, timeout=0.5),
    _ends("sleep_for_ever", "sleep", "timeout", "time.sleep(1000)", DEADLINE, timeout=0.5),
    _ends(
        "ignore_interrupts",
        "ignore SIGINT, SIGTERM and every exception",
        "timeout",
        """
for number in range(1, 65):
    tried(signal.signal, number, signal.SIG_IGN)
while True:
    try:
        while True: pass
    except BaseException: pass
""",
        DEADLINE,
        timeout=0.5,
    ),
    _ends(
        "block_signals",
        "block all signals",
        "timeout",
        "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\nwhile True: pass",
        DEADLINE,
        timeout=0.5,
    ),
    _ends("be_busy_in_c_sum", "sum over a huge range, in C", "timeout", "sum(range(10 ** 12))", DEADLINE, timeout=0.5),
    _ends(
        "be_busy_in_c_power",
        "10 ** 10 ** 8, in C",
        ("timeout", "out_of_memory"),
        "10 ** 10 ** 8",
        DEADLINE,
        timeout=0.5,
    ),
    _ends(
        "be_busy_in_c_regex",
        "a regular expression that backtracks without end",
        "timeout",
        'import re\nre.match(r"(a+)+$", "a" * 64 + "b")',
        DEADLINE,
        timeout=0.5,
    ),
    _ends(
        "stop_itself",
        "SIGSTOP to itself",
        ("timeout", "ok"),
        "os.kill(os.getpid(), signal.SIGSTOP)",
        DEADLINE,
        timeout=0.5,
    ),
    _ends("wait_for_input", "read from standard input", "error", "input()", "no standard input"),
    _ends(
        "outlast_deadline_in_children",
        "busy children that ignore signals",
        "timeout",
        'import subprocess\n[subprocess.Popen(["sh", "-c", "trap \'\' INT TERM; while :; do :; done"]) for _ in range(4)]\ntime.sleep(99)',
        DEADLINE,
        timeout=0.5,
    ),
)
DEATHS = (
    _ends("exit_interpreter", "os._exit(3)", "exited", "os._exit(3)", "the host sees the end"),
    _ends("exit_politely", "sys.exit(3): an error of the code", "error", "sys.exit(3)", "the session lives on"),
    _ends(
        "kill_own_runner",
        "os.kill(1, SIGKILL), os.kill(os.getpid(), SIGKILL)",
        ("ok", "killed"),
        "tried(os.kill, 1, 9), os.kill(os.getpid(), 9)",
        "the host sees the end",
    ),
    _ends("crash_in_c", "a segmentation fault in C", "killed", "ctypes.string_at(0)", "the host sees the end"),
    _ends("abort", "abort()", "killed", "os.abort()", "the host sees the end"),
    _ends(
        "overflow_stack",
        "recursion without end, in Python and in C",
        ("error", "killed", "out_of_memory", "timeout"),
        "sys.setrecursionlimit(10 ** 9)\ndef f(): return f()\nf()",
        "own stack",
        timeout=2,
    ),
)
MEMORIES = (
    _ends(
        "fill_memory",
        "a bytearray larger than the limit",
        "out_of_memory",
        f"block = bytearray({LIMITS.memory * 2})\nblock[::4096] = b'x' * len(block[::4096])",
        MEMORY,
    ),
    _ends(
        "fill_memory_slowly",
        "a list that grows without end",
        "out_of_memory",
        "kept = []\nwhile True: kept.append(bytearray(1 << 20))",
        MEMORY,
    ),
    _ends(
        "fill_memory_in_children",
        "many children, each below the limit",
        "out_of_memory",
        """
for _ in range(10):
    if os.fork() == 0:
        block = bytearray(60 << 20)
        block[::4096] = b"x" * len(block[::4096])
        time.sleep(20)
        os._exit(0)
time.sleep(20)
""",
        MEMORY,
        timeout=3,
    ),
    _ends(
        "fill_shared_memory",
        "shared anonymous memory beyond the limit",
        ("out_of_memory", "error"),
        f"import mmap\nblock = mmap.mmap(-1, {LIMITS.memory * 2})\nfor place in range(0, len(block), 4096): block[place] = 1\ntime.sleep(0.3)\nprint('after')",
        MEMORY,
    ),
    _ends(
        "fill_dev_shm",
        "files in /dev/shm",
        "error",
        "with open('/dev/shm/x', 'wb') as f:\n    while True: f.write(bytes(1 << 20))",
        TMPFS,
    ),
    _ends(
        "pin_memory",
        "mlock more than allowed, mlockall",
        "ok",
        "import mmap\nblock = mmap.mmap(-1, 1 << 20)\nprint(several(call('mlock', ctypes.addressof(ctypes.c_char.from_buffer(block)), 1 << 20).__str__(), call('mlockall', 3)))",
        "rlimits; seccomp",
        sees="before\n(ENOMEM|EPERM|ENOMEM EPERM|EAGAIN EPERM)",
    ),
)
# Bombs are bounded by themselves, in number and in time: a wall that fails must not cost the machine that tries it.
# Descendants add a byte to a file each; past MOST of them, or after SECONDS, every one of them exits.
MOST, SECONDS = 4 * LIMITS.processes, 4
FORK_BOMB = f"""
end = time.monotonic() + {SECONDS}
count = os.open("count", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
while time.monotonic() < end and os.fstat(count).st_size < {MOST}:
    try:
        if os.fork() == 0:
            os.write(count, b"x")
    except OSError:
        time.sleep(0.01)
if os.fstat(count).st_size >= {MOST}:
    print("the limit was passed", flush=True)
time.sleep(max(0, end - time.monotonic()))
if os.getpid() != own:
    os._exit(0)
time.sleep(20)
"""
COUNTS = (
    _ends(
        "fork_bomb_in_python",
        "fork without end",
        ("timeout", "killed"),
        "own = os.getpid()\n" + FORK_BOMB,
        PROCESSES,
        timeout=0.7,
    ),
    _ends(
        "fork_bomb_in_shell",
        "b() { b | b & }; b, seven generations deep",
        ("ok", "timeout", "error", "killed"),
        'os.system("b() { [ $1 -gt 7 ] && exec sleep 2; b $(($1 + 1)) | b $(($1 + 1)) & }; b 0 2>/dev/null; sleep 0.3")',
        PROCESSES,
        timeout=1,
    ),
    _ends(
        "thread_bomb",
        "threads without end",
        ("error", "killed"),
        "import threading\nwhile True: threading.Thread(target=time.sleep, args=(9,), daemon=True).start()",
        PROCESSES,
    ),
    _ends(
        "zombie_bomb",
        "children that nobody waits for",
        ("error", "killed", "timeout"),
        "while True:\n    if os.fork() == 0: os._exit(0)",
        PROCESSES,
    ),
    _ends(
        "descriptor_flood",
        "open files without end",
        "error",
        "kept = []\nwhile True: kept.append(open('/dev/null'))",
        "rlimits",
        sees="before",
    ),
    _ends(
        "pipe_flood",
        "pipes made as large as can be",
        "error",
        "import fcntl\nkept = []\nwhile True:\n    kept.append(os.pipe())\n    fcntl.fcntl(kept[-1][0], 1031, 1 << 20)",
        "rlimits; the kernel's budget by user",
    ),
    _ends(
        "socket_flood",
        "socket pairs, each filled",
        "error",
        "import socket\nkept = []\nwhile True:\n    kept.append(socket.socketpair())\n    kept[-1][0].setblocking(False)\n    tried(kept[-1][0].send, bytes(1 << 20))",
        "rlimits",
    ),
    _ends(
        "timer_flood",
        "POSIX timers without end",
        "ok",
        "n = 0\nevent = bytes(64)\nwhile n < 100000 and not isinstance(call('timer_create', 1, 0, ctypes.create_string_buffer(8)), str): n += 1\nprint(n < 5000)",
        "rlimits",
        sees="before\nTrue",
    ),
)
FILES = (
    _ends(
        "disk_flood",
        "a file without end",
        "error",
        "with open('x', 'wb') as f:\n    while True: f.write(bytes(1 << 20))",
        TMPFS,
    ),
    _ends(
        "disk_flood_in_many_files",
        "files without end, each below the size limit",
        ("error", "killed"),
        f"import itertools\nfor i in range({4 * LIMITS.files_bytes // MIB}):\n    open(f'f{{i}}', 'wb').write(bytes(1 << 20))\ntime.sleep(1)\nprint('after')",
        QUOTA,
    ),
    _ends(
        "inode_flood",
        "empty files without end",
        ("error", "killed"),
        f"for i in range({LIMITS.files_count * 3}): open(f'f{{i}}', 'w').close()\ntime.sleep(1)\nprint('after')",
        QUOTA,
    ),
    _ends(
        "folder_flood",
        "folders without end",
        ("error", "killed"),
        f"for i in range({LIMITS.files_count * 3}): os.mkdir(f'f{{i}}')\ntime.sleep(1)\nprint('after')",
        QUOTA,
    ),
    _ends(
        "sparse_file", "a sparse file of 1 TiB", "error", "with open('x', 'wb') as f: f.truncate(1 << 40)", "rlimits"
    ),
    _ends(
        "disk_flood_in_tmp",
        "files in the temporary folder",
        ("error", "killed"),
        f"import tempfile\nfor i in range({4 * LIMITS.files_bytes // MIB}):\n    tempfile.NamedTemporaryFile(delete=False).write(bytes(1 << 20))\ntime.sleep(1)\nprint('after')",
        QUOTA,
    ),
)
UNSEEN = (
    _ends(
        "disk_flood_in_unlinked_files",
        "files without end, each deleted while it is open",
        ("error", "killed"),
        f"""
kept = []
for i in range({4 * LIMITS.files_bytes // MIB}):
    kept.append(open("f", "wb", 0))
    os.unlink("f")
    kept[-1].write(bytes(1 << 20))
time.sleep(1.2)
print("after")
""",
        QUOTA,
        sees="before",
    ),
    _ends(
        "disk_flood_in_hidden_folder",
        "files without end in a folder that can be entered, but not listed (mode 0300)",
        ("error", "killed"),
        f"""
os.mkdir("hidden", 0o300)
for i in range({4 * LIMITS.files_bytes // MIB}):
    with open(f"hidden/{{i}}", "wb") as file:
        file.write(bytes(1 << 20))
time.sleep(1.2)
print("after")
""",
        QUOTA,
        sees="before",
    ),
)
CUT = r"before\n.*\n\[stdout cut: [\d,]+ more bytes\]"
OUTPUTS = (
    _ends(
        "stdout_flood",
        "standard output without end",
        ("timeout", "out_of_memory"),
        "while True: sys.stdout.write('x' * 65536)",
        "output is cut, with a note",
        sees=CUT,
        timeout=0.4,
    ),
    _ends(
        "stderr_flood",
        "standard error without end",
        ("timeout", "out_of_memory"),
        "while True: sys.stderr.write('x' * 65536)",
        "output is cut, with a note",
        timeout=0.4,
    ),
    _ends(
        "keep_all_that_is_printed",
        "print 50 MB: does the interpreter keep it?",
        "ok",
        """
def size():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
before = size()
for _ in range(800):
    sys.stdout.write("x" * 65536 + "\\n")
assert size() - before < 8 << 20, size() - before
""",
        "output is kept by the host only, to its limit",
        sees=CUT,
    ),
    _ends(
        "child_output_flood",
        "`yes`",
        "timeout",
        'import subprocess\nsubprocess.run(["yes"])',
        "output is cut, with a note",
        sees=CUT,
        timeout=0.4,
    ),
    _ends(
        "binary_output",
        "output that is no text, with terminal sequences",
        "ok",
        "os.write(1, os.urandom(1000) + b'\\x1b]0;x\\x07' + b'\\xff' * 100)",
        "decoded with replacements",
        sees="before\n.*",
    ),
    _ends("close_output", "close standard output and error", "ok", "os.close(1), os.close(2)", "its own loss"),
    _ends(
        "endless_traceback",
        "an error whose text is 30 MB",
        "error",
        "raise ValueError('x' * 30_000_000)",
        "errors are cut",
    ),
)


def _descriptors_in_flight(scene: Scene) -> str:
    """Descriptors sent and not received count by user: with all taken, can another sandbox still be born?"""
    code = """
import socket
kept, sent = [], 0
while True:
    kept.append(socket.socketpair())
    if isinstance(tried(socket.send_fds, kept[-1][0], [b"x"], [0] * 200), str): break
print("full")
"""
    with scene.attacked(code) as (_, execution):
        return f"{execution.stdout.strip()}, {asyncio.run(_birth(scene))}"


async def _birth(scene: Scene) -> str:
    try:
        async with (
            asyncio.timeout(20),
            Pool(profile=scene.profile, limits=LIMITS, ready=0, zygotes=1, preload=()) as pool,
            pool.session() as session,
        ):
            return str((await session.run("1")).outcome)
    except (BelljarError, TimeoutError) as error:
        return f"no other sandbox can be made: {error}"


def _inotify(scene: Scene) -> str:
    """Watchers count by user on the whole host: does one guest take them all?"""
    code = """
def take():
    while not isinstance(call("inotify_init1", 0), str): pass
take()
for _ in range(10):
    if os.fork() == 0:
        take()
        time.sleep(3)
        os._exit(0)
time.sleep(0.1)
"""
    with scene.attacked(code):
        fd = scene.call("inotify_init1", 0)
    return "the host can watch" if fd >= 0 else f"the host cannot watch: errno {-fd}"


def _in_background(scene: Scene) -> str:
    """Memory taken when the execution is over: by a child that had waited for that."""
    code = """
for _ in range(4):
    if os.fork() == 0:
        time.sleep(0.3)
        block = bytearray(150 << 20)
        block[::4096] = b"x" * len(block[::4096])
        time.sleep(5)
        os._exit(0)
"""
    before = _resident()
    with scene.attacked(code):
        most = 0
        deadline = time.monotonic() + 1.5
        while time.monotonic() < deadline:
            most = max(most, _resident() - before)
            time.sleep(0.02)
    return f"within twice the limit: {most < 2 * LIMITS.memory}"


def _resident() -> int:
    """Memory that no file backs of all processes below this one, in bytes (proc_pid_statm(5))."""
    total = 0
    for pid in descendants(os.getpid()):
        with contextlib.suppress(OSError, IndexError):
            words = Path(f"/proc/{pid}/statm").read_text().split()
            total += (int(words[1]) - int(words[2])) * os.sysconf("SC_PAGE_SIZE")
    return total


def _blind(scene: Scene) -> str:
    """Folders nested deeper than the host's code can follow; then the limits are tried."""
    code = """
try:
    for _ in range(3000):
        os.mkdir("d"), os.chdir("d")
except OSError:
    pass
time.sleep(1.2)
for _ in range(10):
    if os.fork() == 0:
        block = bytearray(60 << 20)
        block[::4096] = b"x" * len(block[::4096])
        time.sleep(20)
        os._exit(0)
time.sleep(2)
"""
    with _deep_allowed(scene) as sandbox:
        first = scene.run(sandbox, code)
    with _deep_allowed(scene) as sandbox:
        second = scene.run(sandbox, code.partition("time.sleep(1.2)")[2])
    _left_of_deep(scene)
    return f"{first.outcome} {second.outcome}"


def _too_deep(scene: Scene) -> str:
    """The session is closed: is what it has nested removed?"""
    with _deep_allowed(scene) as sandbox:
        scene.run(sandbox, "for _ in range(3000):\n    os.mkdir('d'), os.chdir('d')")
    return f"left {_left_of_deep(scene)}"


def _deep_allowed(scene: Scene) -> Sandbox:
    return scene.sandbox(replace(LIMITS, files_count=5000))


def _left_of_deep(scene: Scene) -> int:
    """Work folders whose session has ended: the zygotes' and the neighbour's are not. They are taken away."""
    deadline = time.monotonic() + 1.5
    while (left := _deep_folders(scene)) and time.monotonic() < deadline:
        time.sleep(0.05)
    for folder in left:
        subprocess.run(["rm", "-rf", str(folder)], check=False)
    return len(left)


def _deep_folders(scene: Scene) -> list[Path]:
    return [path for path in (scene.folder / "tmp").glob("belljar-*/*") if (path / "data/d/d").exists()]


def _next_run(code: str, then: str) -> Callable[[Scene], str]:
    """What a session can still do after a limit was reached."""

    def drive(scene: Scene) -> str:
        with scene.attacked(code, 1) as (sandbox, first):
            second = sandbox.run(then, timeout=3) if sandbox.alive else None
            return f"{first.outcome}, {second.outcome if second else 'closed'} {second.stdout.strip() if second else ''}".strip()

    return drive


SHARED = (
    Attack(
        name="exhaust_descriptors_in_flight",
        action="send descriptors to itself until the kernel's budget for the user is used up; then another sandbox is made",
        wall="nothing of a birth depends on that budget",
        drive=_descriptors_in_flight,
        sees="full, ok",
    ),
    Attack(
        name="exhaust_watchers",
        action="take all inotify instances that the kernel gives to the user who runs Belljar",
        wall="seccomp",
        drive=_inotify,
        sees="the host can watch",
    ),
    Attack(
        name="fill_memory_in_background",
        profiles=("full", "container"),
        action="take memory after the execution is over, in children",
        wall=MEMORY,
        drive=_in_background,
        sees="within twice the limit: True",
    ),
    Attack(
        name="blind_watchdog_by_depth",
        profiles=("full", "container"),
        action="nest 3,000 folders, then take too much memory: there, and in the next sandbox",
        wall=MEMORY,
        drive=_blind,
        sees="(out_of_memory|killed) out_of_memory",
    ),
    Attack(
        name="leave_folders_too_deep_to_remove",
        action="nest 3,000 folders, and end the session",
        wall="work folders are removed",
        drive=_too_deep,
        sees="left 0",
    ),
    Attack(
        name="keep_state_after_interrupt",
        action="run into the deadline in code that takes interrupts: the session and its state live on",
        wall=DEADLINE,
        drive=_next_run("kept = 42\ntime.sleep(99)", "print(kept)"),
        sees="timeout, ok 42",
    ),
    Attack(
        name="fill_files_then_go_on",
        action="fill the file quota, delete, go on",
        wall=QUOTA,
        drive=_next_run(
            "try:\n    [open(f'f{i}', 'wb').write(bytes(1 << 20)) for i in range(99)]\nexcept OSError: pass",
            "import os\n[os.unlink(n) for n in os.listdir()]\nprint(open('x', 'w').write('fine'))",
        ),
        sees={"full": "ok, ok 4", "container": "ok, ok 4|killed, closed"},
    ),
)
ATTACKS = (*TIMEOUTS, *DEATHS, *MEMORIES, *COUNTS, *FILES, *UNSEEN, *OUTPUTS, *SHARED)
