"""The seccomp filters in the kernel: each test loads one into a process of its own, and asks there."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from belljar.errors import ImageError
from belljar.sandbox import seccomp, seccomp_policy, seccomp_verdicts
from belljar.sandbox.image import find_image
from belljar.sandbox.seccomp_verdicts import Action, Profile
from belljar.sandbox.syscalls import read_numbers

PROFILES = seccomp_verdicts.PROFILES
ARCH = platform.machine()
pytestmark = pytest.mark.skipif(ARCH not in seccomp.AUDIT_ARCHES, reason=f"no policy for {ARCH}")

# Loads the filter of standard input's plan, as the guest does: `plan`, `call` and `refused` are for the bodies below.
PROLOGUE = """
import ctypes, errno, json, os, sys
plan = json.loads(sys.stdin.read())
program = bytes.fromhex(plan["filter"])
libc = ctypes.CDLL(None, use_errno=True)
class Header(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_char_p)]
def call(number, *args):
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *(ctypes.c_long(a) for a in (*args, *[0] * (6 - len(args)))))
    return errno.errorcode[ctypes.get_errno()] if result == -1 else result
def refused(error, function, *args, **more):
    try:
        function(*args, **more)
    except OSError as caught:
        assert caught.errno == error, caught
    else:
        raise AssertionError(f"{function} {args} was allowed")
def enter():
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    header = Header(len(program) // 8, program)
    number = plan["numbers"]["seccomp"]
    assert libc.syscall(ctypes.c_long(number), 1, 0, ctypes.byref(header)) == 0, os.strerror(ctypes.get_errno())
"""


def run_inside(body: str, profile: Profile, cwd: Path, *, python: Path | None = None, **more: object) -> str:
    """Run `body` after PROLOGUE in a fresh interpreter; its output. Fails the test if it fails."""
    done = start_inside(body, profile, cwd, python=python, **more)
    assert done.returncode == 0, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def start_inside(
    body: str, profile: Profile, cwd: Path, *, python: Path | None = None, **more: object
) -> subprocess.CompletedProcess[str]:
    program = seccomp.build_filter(profile, ARCH)
    plan = {"filter": program.hex(), "profile": profile, "numbers": read_numbers()[ARCH], **more}
    command = [str(python or sys.executable), "-I", "-c", PROLOGUE + body]
    environment = {"PATH": os.defpath + ":/usr/bin:/bin", "TMPDIR": str(cwd), "HOME": str(cwd), "MPLBACKEND": "agg"}
    return subprocess.run(
        command, input=json.dumps(plan), capture_output=True, text=True, cwd=cwd, env=environment, timeout=100
    )


@pytest.mark.parametrize("profile", PROFILES)
def test_every_plain_refusal_is_what_the_kernel_answers(profile: Profile, tmp_path: Path) -> None:
    """All calls whose verdict is an errno, and all numbers up to 600 that are in no table; without any arguments."""
    table = seccomp.verdict_by_number(profile, ARCH)
    expected: dict[int, str | int] = {}
    for number in range(601):
        verdict = table.get(number, seccomp_policy.UNKNOWN)
        if isinstance(verdict, Action) and verdict.text != "allow":
            expected[number] = 0 if verdict.text == "pretend" else verdict.text
    for name in ("uretprobe", "uprobe"):  # Linux 6.14 shows them to no filter; they end a process that is not probed
        expected.pop(read_numbers()[ARCH].get(name, -1), None)
    body = """
assert call(plan["numbers"]["unshare"]) == 0
enter()
assert call(plan["numbers"]["unshare"]) == "EPERM", "there is no filter"
print(json.dumps([[number, call(number)] for number in plan["ask"]]))
"""
    answers = dict(json.loads(run_inside(body, profile, tmp_path, ask=list(expected))))
    assert answers == expected


REFUSED = """
import fcntl, mmap, resource, signal, socket
enter()
n, full = plan["numbers"], plan["profile"] == "full"
for name in "unshare ptrace bpf io_uring_setup keyctl setns mount userfaultfd perf_event_open process_vm_readv".split():
    assert call(n[name], 0x10000000) == "EPERM", name
assert call(n["clone3"], 0, 88) == "ENOSYS"
assert call(n["clone"], 0x10000011) == "EPERM"
assert call(n["clone"], 0x00008011) == "EPERM"
assert call(n["prctl"], 1, 0) == "EPERM"
assert call(n["prctl"], 22, 2, 0) == "EPERM"
refused(errno.EPERM, os.memfd_create, "x")
for family, kind, protocol in [(16, 3, 0), (17, 3, 0), (38, 5, 0), (40, 1, 0), (2, 3, 1), (2, 2, 1), (2, 1, 262)]:
    refused(errno.EPERM, socket.socket, family, kind, protocol)
refused(errno.ENOTTY, fcntl.ioctl, 0, 0x5412, b"x")
refused(errno.ENOTTY, fcntl.ioctl, 0, 0x541C, b"x")
refused(errno.EPERM, resource.prlimit, os.getppid(), resource.RLIMIT_CORE, (0, 0))
assert call(n["inotify_init1"]) == "EPERM"
assert call(n["prlimit64"], 0, resource.RLIMIT_CORE, 1) == "EPERM"
refused(errno.EPERM, os.mknod, "device", 0o020600, 0x0103)
refused(errno.EPERM, os.open, "program", os.O_CREAT | os.O_WRONLY, 0o4755)
refused(errno.EPERM, os.setresuid, os.getuid(), os.getuid(), os.getuid())
refused(errno.EINVAL, mmap.mmap(-1, 4096).madvise, mmap.MADV_MERGEABLE)
os.mkfifo("fifo")
assert call(n["personality"], 0xFFFFFFFF) == 0 and call(n["personality"], 0x0040000) == "EPERM"
if full:
    os.chmod("fifo", 0o640)
    assert os.stat("fifo").st_mode & 0o777 == 0o640
    refused(errno.EPERM, os.chmod, "fifo", 0o4755)
    os.setpriority(os.PRIO_PROCESS, os.getpid(), os.getpriority(os.PRIO_PGRP, 0))
else:
    before = os.stat("fifo")
    os.chmod("fifo", 0o4777)
    os.utime("fifo", (1, 1))
    assert (os.stat("fifo").st_mode, os.stat("fifo").st_mtime) == (before.st_mode, before.st_mtime)
    refused(errno.EPERM, os.chown, "fifo", -1, -1)
    refused(errno.EOPNOTSUPP, os.setxattr, "fifo", "user.x", b"x")
    refused(errno.EPERM, socket.socket, socket.AF_UNIX)
    refused(errno.EPERM, socket.socketpair, socket.AF_UNIX, socket.SOCK_DGRAM)
    ours, theirs = socket.socketpair()
    refused(errno.EISCONN, ours.sendto, b"x", "/run/docker.sock")
    refused(errno.EISCONN, ours.sendmsg, [b"x"], [], 0, "/run/docker.sock")
    refused(errno.EPERM, ours.connect, "/run/docker.sock")
    refused(errno.EPERM, fcntl.fcntl, ours, fcntl.F_SETOWN, os.getppid())
    refused(errno.EPERM, fcntl.fcntl, ours, fcntl.F_NOTIFY, 1)
    refused(errno.EPERM, os.getpriority, os.PRIO_USER, 0)
    refused(errno.EPERM, os.sched_setaffinity, os.getppid(), {0})
print("ok")
"""

WORKS = """
import asyncio, concurrent.futures, fcntl, mmap, multiprocessing, os, queue, resource, shutil, signal, socket, sqlite3
import subprocess, tempfile, threading, time
full = plan["profile"] == "full"
enter()

shell = "echo hi | tr a-z A-Z && ls -la / >/dev/null && touch one && cp -a one two && mv two three && rm three && sync"
assert subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=True).stdout == "HI\\n"
assert os.system("exit 3") == 3 << 8

done = queue.Queue()
threads = [threading.Thread(target=done.put, args=(i,)) for i in range(8)]
[t.start() for t in threads], [t.join() for t in threads]
assert sorted(done.get() for _ in range(8)) == list(range(8))

async def main():
    process = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
    out, _ = await process.communicate(b"data")
    assert out == b"data" and await asyncio.to_thread(lambda: 7) == 7
    if full:
        async def serve(reader, writer):
            writer.write((await reader.readline()).upper())
            writer.close()
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"hello\\n")
        assert await reader.read() == b"HELLO\\n"
        writer.close()
        server.close()
asyncio.run(main())

fork = multiprocessing.get_context("fork")
with fork.Pool(2) as pool:
    assert pool.map(abs, [-1, -2, -3]) == [1, 2, 3]
with concurrent.futures.ProcessPoolExecutor(2, mp_context=fork) as pool:
    assert list(pool.map(abs, [-1, -2])) == [1, 2]
if full:
    with multiprocessing.Manager() as manager:
        assert manager.dict(a=1).copy() == {"a": 1}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        udp.sendto(b"x", udp.getsockname())
        assert udp.recv(9) == b"x"

code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
assert ctypes.CFUNCTYPE(ctypes.c_int)(lambda: 42)() == 42

with tempfile.TemporaryDirectory(dir=".") as folder:
    base = sqlite3.connect(folder + "/base.db")
    base.execute("pragma journal_mode=wal"), base.execute("create table t (x)")
    base.execute("insert into t values (1)"), base.commit(), base.close()
    shutil.copy2(folder + "/base.db", folder + "/copy.db")
    shutil.copytree(folder, folder + "/tree")
    with open(folder + "/copy.db", "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX), fcntl.lockf(file, fcntl.LOCK_EX), os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    os.link(folder + "/copy.db", folder + "/link"), os.symlink("link", folder + "/soft"), os.listdir(folder)

ticks = []
signal.signal(signal.SIGALRM, lambda *_: ticks.append(1))
signal.setitimer(signal.ITIMER_REAL, 0.01)
time.sleep(0.05)
assert ticks
os.kill(os.getpid(), 0)
assert os.waitid(os.P_PIDFD, os.pidfd_open(os.spawnlp(os.P_NOWAIT, "true", "true")), os.WEXITED).si_status == 0
time.process_time(), time.thread_time(), time.monotonic(), time.clock_getres(time.CLOCK_MONOTONIC)
resource.setrlimit(resource.RLIMIT_NICE, resource.getrlimit(resource.RLIMIT_NICE))
resource.getrusage(resource.RUSAGE_CHILDREN)
os.nice(0), os.getpriority(os.PRIO_PROCESS, 0), os.sched_setaffinity(0, os.sched_getaffinity(0))
os.getloadavg(), os.uname(), os.urandom(8), os.cpu_count()
pair = socket.socketpair()
socket.socket(fileno=os.dup(pair[0].fileno())).settimeout(1)
print("ok")
"""


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("body", [REFUSED, WORKS], ids=["refused", "works"])
def test_python(profile: Profile, body: str, tmp_path: Path) -> None:
    assert run_inside(body, profile, tmp_path) == "ok\n"


IMAGE = """
import importlib
enter()
for name in plan["preload"]:
    importlib.import_module(name)
if "numpy" in plan["preload"]:
    import numpy
    assert (numpy.ones((300, 300)) @ numpy.ones((300, 300)))[0, 0] == 300
if "pandas" in plan["preload"]:
    import pandas
    table = pandas.DataFrame({"a": [1, 2, 3]})
    table.to_csv("t.csv")
    assert "mean" in table.describe().index and len(pandas.read_csv("t.csv")) == 3
if "matplotlib.pyplot" in plan["preload"]:
    import matplotlib.pyplot
    matplotlib.pyplot.plot([1, 2]), matplotlib.pyplot.savefig("plot.png")
print("ok")
"""


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("body", [WORKS, IMAGE], ids=["works", "libraries"])
def test_image(profile: Profile, body: str, tmp_path: Path) -> None:
    try:
        image = find_image()
    except ImageError as error:
        pytest.skip(str(error))
    assert run_inside(body, profile, tmp_path, python=image.python, preload=image.preload).endswith("ok\n")


FOREIGN = {
    "x32": "enter(); call(0x40000000 | plan['numbers']['getpid'])",
    # mov eax, 20 (getpid of i386); int 0x80; ret
    "i386": """
import mmap
code = mmap.mmap(-1, 4096, prot=7)
code.write(bytes.fromhex("b814000000cd80c3"))
function = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
enter() if plan["enter"] else None
function()
""",
}


@pytest.mark.skipif(ARCH != "x86_64", reason="only x86_64 has these")
@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("kind", FOREIGN)
def test_foreign_calls_are_killed(kind: str, profile: Profile, tmp_path: Path) -> None:
    if kind == "i386" and start_inside(FOREIGN[kind], profile, tmp_path, enter=False).returncode:
        pytest.skip("this kernel has no 32-bit calls")
    assert start_inside(FOREIGN[kind], profile, tmp_path, enter=True).returncode == -signal.SIGSYS
