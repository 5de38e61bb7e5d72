"""The gvisor profile: sessions like those of other profiles, guests apart from each other, and nothing left behind.

Skipped, with the reason, where there is no `runsc` or it cannot start here.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from belljar.errors import BelljarError, FileError, ImageError, SandboxFailed, SessionClosed
from belljar.execution import Outcome, Output, Result
from belljar.guest.launch import descendants
from belljar.sandbox import gvisor_bundle, plan
from belljar.sandbox.backends import gvisor
from belljar.sandbox.backends.gvisor import Gvisor, SandboxSession
from belljar.sandbox.base import MIB, Limits
from belljar.sandbox.forkserver import Options
from belljar.sandbox.gvisor_files import RemoteFiles
from belljar.sandbox.image import find_image


def why_not() -> str:
    """Why these tests cannot run here, or nothing."""
    if shutil.which("runsc") is None:
        return "runsc is not installed: the gvisor profile is NOT tested here"
    try:
        find_image()
    except ImageError as error:
        return f"no default image: the gvisor profile is NOT tested here ({error})"
    flags = ["--network=none", "--ignore-cgroups", *(["--rootless"] if os.geteuid() else [])]
    with tempfile.TemporaryDirectory() as state:
        done = subprocess.run(
            ["runsc", f"--root={state}", *flags, "do", "/bin/true"], capture_output=True, text=True, timeout=30, cwd="/"
        )
    return (
        ""
        if done.returncode == 0
        else f"runsc does not start here, the gvisor profile is NOT tested: {done.stderr[-300:]}"
    )


REASON = why_not()
pytestmark = [
    pytest.mark.skipif(bool(REASON), reason=REASON),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("gvisor"),
]

LIMITS = Limits(timeout=10, memory=256 * MIB, files_bytes=16 * MIB, files_count=2000, output_bytes=20_000, processes=16)
OPTIONS = Options(limits=LIMITS, preload=())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def backend() -> AsyncIterator[Gvisor]:
    made = Gvisor(find_image(), OPTIONS)
    await made.start()
    yield made
    await made.close()


@pytest_asyncio.fixture(loop_scope="module")
async def session(backend: Gvisor) -> AsyncIterator[SandboxSession]:
    made = await backend.session()
    assert isinstance(made, SandboxSession)
    yield made
    await made.close()


async def value(session: Any, code: str) -> Any:
    """What the code's last expression is, by way of JSON."""
    execution = await session.run(f"import json\n{code}\nprint(json.dumps(RESULT))")
    assert execution.ok, execution
    return json.loads(execution.stdout)


# --- sessions ---------------------------------------------------------------------------------------------------------


async def test_state_stays_and_the_last_value_is_shown(session: SandboxSession) -> None:
    assert (await session.run("x = 20")).outcome is Outcome.OK
    execution = await session.run("print('out'); import sys; print('err', file=sys.stderr); x + 1")
    assert (execution.text, execution.stdout, execution.stderr) == ("21", "out\n", "err\n")


async def test_an_exception_is_an_error_and_the_session_lives(session: SandboxSession) -> None:
    execution = await session.run("1 / 0")
    assert execution.outcome is Outcome.ERROR
    assert execution.error is not None
    assert execution.error.name == "ZeroDivisionError"
    assert (await session.run("2")).text == "2"


async def test_output_comes_while_code_runs(session: SandboxSession) -> None:
    times: dict[str, float] = {}
    async for event in session.stream("import time\nprint('a')\ntime.sleep(0.6)\nprint('b')"):
        if isinstance(event, Output):
            times.setdefault(event.text.strip(), time.monotonic())
    assert times["b"] - times["a"] > 0.4


async def test_output_and_results_keep_their_order(session: SandboxSession) -> None:
    code = "for n in range(30):\n    print('before', n)\n    display(n)\n    print('after', n)"
    shown = ""
    async for event in session.stream(code):
        if isinstance(event, Output):
            shown += event.text
        elif isinstance(event, Result):
            shown += f"result {event.text}\n"
    assert shown == "".join(f"before {n}\nresult {n}\nafter {n}\n" for n in range(30))


async def test_output_of_child_processes_is_taken(session: SandboxSession) -> None:
    execution = await session.run(
        "import subprocess\nsubprocess.run(['/bin/sh', '-c', 'echo child; echo bad >&2'])\n!echo shell"
    )
    assert (execution.stdout, execution.stderr) == ("child\nshell\n", "bad\n")


async def test_output_is_cut_and_counted(session: SandboxSession) -> None:
    execution = await session.run("print('x' * 1_000_000)")
    assert execution.stdout_bytes == 1_000_001
    assert len(execution.stdout) < 21_000
    assert "cut" in execution.stdout


async def test_an_image_is_a_result(session: SandboxSession) -> None:
    execution = await session.run("import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()", timeout=60)
    assert [r.png[:4] for r in execution.results if r.png] == [b"\x89PNG"], execution


async def test_a_timeout_interrupts_and_the_session_lives(session: SandboxSession) -> None:
    execution = await session.run("while True: pass", timeout=0.5)
    assert execution.outcome is Outcome.TIMEOUT
    assert session.alive
    assert (await session.run("'still here'")).ok


async def test_code_that_ignores_the_interrupt_is_killed(session: SandboxSession) -> None:
    code = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass"
    started = time.monotonic()
    execution = await session.run(code, timeout=0.5)
    assert execution.outcome is Outcome.TIMEOUT
    assert time.monotonic() - started < 5
    assert not session.alive
    with pytest.raises(SessionClosed):
        await session.run("1")


async def test_an_interrupt_from_outside(session: SandboxSession) -> None:
    task = asyncio.create_task(session.run("import time\ntime.sleep(8)"))
    await asyncio.sleep(0.4)
    await session.interrupt()
    execution = await task
    assert execution.error is not None
    assert execution.error.name == "KeyboardInterrupt"
    assert (await session.run("5")).text == "5"


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        ("import os; os._exit(7)", Outcome.EXITED),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", Outcome.ERROR),  # pid 1 of its namespace: not heard
        ("import ctypes; ctypes.string_at(0)", Outcome.KILLED),
        ("x = bytearray(2 << 30)", Outcome.OUT_OF_MEMORY),  # refused: address space
    ],
)
async def test_ends_are_outcomes(session: SandboxSession, code: str, outcome: Outcome) -> None:
    execution = await session.run(code)
    if outcome is Outcome.ERROR:
        assert execution.outcome in (Outcome.OK, Outcome.KILLED)
    else:
        assert execution.outcome is outcome, execution


async def test_memory_beyond_the_limit_ends_the_guest_alone(backend: Gvisor, session: SandboxSession) -> None:
    other = await backend.session()
    code = "import subprocess, sys\np = [subprocess.Popen([sys.executable, '-c', 'x = b\"x\" * (150 << 20); input()'],"
    code += " stdin=subprocess.PIPE) for _ in range(3)]\nimport time; time.sleep(8)"
    execution = await session.run(code)
    assert execution.outcome is Outcome.OUT_OF_MEMORY, execution
    assert execution.duration < 7
    assert (await other.run("1 + 1")).text == "2"
    await other.close()


async def test_files_come_and_go(session: SandboxSession) -> None:
    data = os.urandom(3 * MIB + 17)
    await session.write_file("deep/er/data.bin", data)
    assert await session.read_file("/mnt/data/deep/er/data.bin") == data
    execution = await session.run(
        "import os; d = open('deep/er/data.bin', 'rb').read(); open('out.csv', 'w').write('a,b'); len(d)"
    )
    assert execution.text == str(len(data))
    assert [(f.path, f.size, f.type) for f in execution.files] == [("out.csv", 3, "text/csv")]
    assert [f.path for f in await session.list_files()] == ["deep/er/data.bin", "out.csv"]
    assert (await session.run("os.remove('deep/er/data.bin')")).ok  # it is the guest's own
    await session.write_file("empty", b"")
    assert await session.read_file("empty") == b""


async def test_files_stay_readable_after_the_interpreter_has_died(session: SandboxSession) -> None:
    execution = await session.run("open('kept', 'w').write('x'); import os; os._exit(1)")
    assert execution.outcome is Outcome.EXITED
    assert await session.read_file("kept") == b"x"


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../b", "", "/mnt/data/../x"])
async def test_a_path_outside_is_refused(session: SandboxSession, path: str) -> None:
    with pytest.raises(FileError):
        await session.read_file(path)
    with pytest.raises(FileError):
        await session.write_file(path, b"")


async def test_links_fifos_and_large_files_are_refused(session: SandboxSession) -> None:
    code = (
        "import os\n"
        "os.symlink('/etc/passwd', 'link')\n"
        "os.symlink('/etc', 'folder')\n"
        "os.mkfifo('fifo')\n"
        "os.mkdir('dir')\n"
    )
    assert (await session.run(code + "open('real', 'w').write('real')")).ok
    for path in ("link", "folder/passwd", "fifo", "dir", "none"):
        with pytest.raises(FileError):
            await session.read_file(path)
    await session.write_file("link", b"mine")  # replaces the link
    assert await session.read_file("link") == b"mine"
    with pytest.raises(FileError):
        await session.write_file("big", b"x" * (16 * MIB + 1))
    with pytest.raises(FileError):
        await session.write_file("full", b"x" * (16 * MIB))  # what is there already leaves no room for it
    assert {f.path for f in await session.list_files()} == {"link", "real"}


async def test_a_link_to_a_folder_leads_nowhere(backend: Gvisor, session: SandboxSession) -> None:
    """This release of gVisor follows a link to a folder even where O_NOFOLLOW is said."""
    other = await backend.session()
    await other.write_file("theirs", b"secret")
    code = (
        "import os\n"
        f"os.symlink('/belljar/guests/{other.number}/mnt/data', 'a')\n"
        "os.symlink('/', 'b')\n"
        "os.mkdir('real')\n"
        "os.symlink('real', 'c')"
    )
    assert (await session.run(code)).ok
    for path in ("a/theirs", "b/etc/passwd", "c/x"):
        with pytest.raises(FileError):
            await session.read_file(path)
        with pytest.raises(FileError):
            await session.write_file(path, b"mine")
    assert await session.list_files() == ()
    assert await other.read_file("theirs") == b"secret"
    await other.close()


async def test_a_flood_of_files_is_ended(session: SandboxSession) -> None:
    execution = await session.run("n = 0\nwhile True:\n    open(f'/tmp/{n}', 'w').close()\n    n += 1", timeout=60)
    assert execution.outcome is Outcome.KILLED
    assert execution.error is not None
    assert "files" in execution.error.value


async def test_files_made_between_two_looks_count(session: SandboxSession) -> None:
    execution = await session.run(f"for n in range({LIMITS.files_count + 50}): open(f'{{n}}', 'w').close()")
    assert execution.outcome is Outcome.KILLED


async def test_memory_taken_after_the_execution_counts(session: SandboxSession) -> None:
    code = "import threading, time\ndef grow():\n    time.sleep(0.3)\n    global x\n    x = b'x' * (200 << 20)\n"
    code += "for _ in range(3):\n    import os\n    if os.fork() == 0:\n        grow()\n        time.sleep(60)"
    assert (await session.run(code)).ok
    for _ in range(100):
        if not session.alive:
            break
        await asyncio.sleep(0.1)
    assert not session.alive


@pytest.mark.parametrize("code", ["os.close(3)", "os.execv('/bin/sleep', ['sleep', '9'])"])
async def test_a_guest_that_leaves_its_session_is_ended(session: SandboxSession, code: str) -> None:
    execution = await session.run(f"import os, time\n{code}\ntime.sleep(9)")
    assert execution.outcome is Outcome.KILLED
    assert not session.alive
    await asyncio.wait_for(session._guest.status, 1)


async def test_the_folder_has_a_size(session: SandboxSession) -> None:
    execution = await session.run("with open('big', 'wb') as f:\n    for _ in range(40): f.write(b'x' * (1 << 20))")
    assert execution.outcome is Outcome.ERROR
    assert execution.error is not None
    assert execution.error.name == "OSError"


async def test_leaving_a_stream_early_ends_the_session(backend: Gvisor) -> None:
    session = await backend.session()
    async for _ in (stream := session.stream("while True: print('x')")):
        break
    await stream.aclose()  # type: ignore[attr-defined]
    assert not session.alive


async def test_many_at_once(backend: Gvisor) -> None:
    sessions = await asyncio.gather(*(backend.session() for _ in range(8)))
    executions = await asyncio.gather(
        *(s.run(f"import time; time.sleep(0.2); {n} * 2") for n, s in enumerate(sessions))
    )
    assert [e.text for e in executions] == [str(n * 2) for n in range(8)]
    await asyncio.gather(*(s.close() for s in sessions))
    for s in sessions:
        await s.close()  # again: nothing happens


# --- walls ------------------------------------------------------------------------------------------------------------


async def test_the_kernel_is_gvisors(session: SandboxSession) -> None:
    release = await value(session, "import os; RESULT = os.uname().release")
    assert release != os.uname().release


async def test_an_unprivileged_process_of_its_own_namespaces(session: SandboxSession) -> None:
    code = (
        "import os, socket\n"
        "status = dict(l.split(':\\t') for l in open('/proc/self/status').read().splitlines() if ':\\t' in l)\n"
    )
    code += (
        "RESULT = [os.getuid(), os.getpid(), [int(status[n], 16) for n in ('CapPrm', 'CapEff', 'CapBnd', 'CapInh')],"
    )
    code += " status['Seccomp'], sorted(n for n in os.listdir('/proc') if n.isdigit()), socket.gethostname()]"
    assert await value(session, code) == [1000, 1, [0, 0, 0, 0], "2", ["1"], "belljar"]


async def test_the_root_holds_the_image_and_the_system_alone(session: SandboxSession) -> None:
    names = set(await value(session, "import os; RESULT = os.listdir('/')"))
    expected = {path.split("/")[1] for _, path in plan.full_layout(find_image()).root["binds"]}
    assert names <= expected | {
        "bin",
        "sbin",
        "lib",
        "lib32",
        "lib64",
        "proc",
        "sys",
        "tmp",
        "mnt",
        "dev",
        "home",
        "etc",
        "belljar",
    }
    assert await value(session, "RESULT = [os.listdir(p) for p in ('/belljar/guests', '/home')]") == [[], ["user"]]
    for place in ("/root", "/var", "/srv", "/sys"):
        assert not await value(session, f"RESULT = os.path.exists({place!r}) and bool(os.listdir({place!r}))"), place


@pytest.mark.parametrize(
    "code",
    [
        "open('/usr/bin/new', 'w')",
        "open('/image/new', 'w')",
        "open('/new', 'w')",
        "open('/dev/new', 'w')",
        "open('/etc/passwd', 'a')",
        "open('/belljar/guest/runner.py', 'a')",
        "open('/mnt/new', 'w')",
        "os.rename('/mnt/data', '/mnt/other')",
        "os.listdir('/belljar/guests/1')",
        "os.chroot('/tmp')",
        "os.setuid(0)",
        "os.kill(2, 0)",
        "os.mknod('node', 0o20666, os.makedev(1, 3))",
        "socket.create_connection(('192.0.2.1', 80), 1)",
        "socket.getaddrinfo('example.com', 80)",
        "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)",
        "check(libc.unshare(0x10000000))",
        "check(libc.unshare(0x00020000))",
        "check(libc.mount(b'none', b'/tmp', b'tmpfs', 0, None))",
        "check(libc.ptrace(16, 1, 0, 0))",
        "check(libc.setns(0, 0))",
        "check(libc.umount2(b'/mnt', 2))",
    ],
)
async def test_is_refused(session: SandboxSession, code: str) -> None:
    prelude = "import os, socket, ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
    prelude += "def check(n):\n    if n < 0: raise OSError(ctypes.get_errno(), 'refused')\n"
    execution = await session.run(prelude + code)
    assert execution.outcome is Outcome.ERROR, execution
    assert execution.error is not None
    assert execution.error.name in (
        "PermissionError",
        "OSError",
        "FileNotFoundError",
        "ProcessLookupError",
        "gaierror",
        "TimeoutError",
    )


async def test_guests_do_not_see_each_other(backend: Gvisor) -> None:
    one, two = [await backend.session() for _ in range(2)]
    code = (
        "import socket, os, ctypes\n"
        "open('secret', 'w').write('s'); open('/tmp/secret', 'w').write('s'); open('/dev/shm/secret', 'w').write('s')\n"
    )
    code += "tcp = socket.socket(); tcp.bind(('127.0.0.1', 5001)); tcp.listen()\n"
    code += "unix = socket.socket(socket.AF_UNIX); unix.bind('/tmp/name'); unix.listen()\n"
    code += "shm = ctypes.CDLL(None).shmget(77, 4096, 0o1666)"
    assert (await one.run(code)).ok
    look = (
        "import os, socket, ctypes\n"
        "found = [p for p in ('/mnt/data', '/tmp', '/dev/shm') if 'secret' in os.listdir(p)]\n"
    )
    look += "for kind, place in ((socket.AF_INET, ('127.0.0.1', 5001)), (socket.AF_UNIX, '/tmp/name')):\n"
    look += "    try: socket.socket(kind).connect(place); found.append(str(place))\n    except OSError: pass\n"
    look += "if ctypes.CDLL(None).shmget(77, 4096, 0) >= 0: found.append('shm')\nRESULT = found"
    assert await value(two, look) == []
    await one.close()
    await two.close()


async def test_random_state_is_each_guests_own(backend: Gvisor) -> None:
    drawn = set()
    for _ in range(3):
        session = await backend.session()
        drawn.add((await session.run("import random; random.random()")).text)
        await session.close()
    assert len(drawn) == 3


async def test_a_fork_bomb_stays_in_its_limit(backend: Gvisor, session: SandboxSession) -> None:
    code = (
        "import os\n"
        "n = 0\n"
        "try:\n"
        "    while True:\n"
        "        if os.fork() == 0:\n"
        "            import time; time.sleep(60)\n"
        "        n += 1\n"
        "except OSError: pass\n"
        "print(n)"
    )
    execution = await session.run(code)
    assert execution.ok, execution
    assert int(execution.stdout) < LIMITS.processes
    await session.close()
    other = await backend.session()
    assert (await other.run("3")).text == "3"
    await other.close()


async def test_a_closed_guests_mounts_are_undone(backend: Gvisor) -> None:
    before = await mounts_inside(backend)
    for _ in range(3):
        await (await backend.session()).close()
    await asyncio.sleep(0.5)
    assert await mounts_inside(backend) == before


async def mounts_inside(backend: Gvisor) -> int:
    """How many mounts the zygote's own root has: asked with runsc, in a process beside it."""
    folder = backend._zygotes[0]._folder  # type: ignore[attr-defined]
    rootless = ["--rootless"] if os.geteuid() else []
    command = [
        "runsc",
        f"--root={folder}/state",
        *rootless,
        "exec",
        gvisor_bundle.name(folder),
        "/usr/bin/cat",
        "/proc/mounts",
    ]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=30)
    if done.returncode:
        pytest.skip(f"runsc exec does not work here: {done.stderr[-200:]}")
    return len(done.stdout.splitlines())


# --- ends -------------------------------------------------------------------------------------------------------------


def bundles() -> set[str]:
    return {str(p) for p in Path(tempfile.gettempdir()).glob(f"{gvisor_bundle.PREFIX}*")}


def host_mounts() -> str:
    return Path("/proc/mounts").read_text()


async def test_nothing_is_left_after_close() -> None:
    before, mounts = bundles(), host_mounts()
    backend = Gvisor(find_image(), OPTIONS)
    await backend.start()
    await backend.session()
    family = {pid for launcher in backend.zygote_pids for pid in (launcher, *descendants(launcher))}
    assert len(family) >= 4  # keeper, runsc, gofer, kernel
    assert bundles() > before
    await backend.close()
    assert bundles() <= before
    assert not alive(family)
    assert host_mounts() == mounts


def alive(pids: set[int]) -> set[int]:
    found = set()
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state not in "ZX":
            found.add(pid)
    return found


HOST = """
import asyncio, sys
from belljar.sandbox.backends.gvisor import Gvisor
from belljar.sandbox.forkserver import Options
from belljar.sandbox.image import find_image
async def main():
    backend = Gvisor(find_image(), Options(preload=()))
    await backend.start()
    session = await backend.session()
    print(backend._zygotes[0]._folder, flush=True)
    await session.run("while True: pass")
asyncio.run(main())
"""


async def test_nothing_outlives_a_host_that_is_killed() -> None:
    host = await asyncio.create_subprocess_exec(sys.executable, "-c", HOST, stdout=subprocess.PIPE)
    assert host.stdout is not None
    folder = (await asyncio.wait_for(host.stdout.readline(), 60)).decode().strip()
    await asyncio.sleep(0.3)
    family = descendants(host.pid)
    assert len(family) >= 4
    host.send_signal(signal.SIGKILL)
    await host.wait()
    deadline = time.monotonic() + 10
    while (alive(family) or folder in bundles()) and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    assert not alive(family)
    assert folder not in bundles()


@pytest.mark.parametrize("victim", ["keeper", "kernel"])
async def test_a_sandbox_that_dies_is_replaced(victim: str) -> None:
    backend = Gvisor(find_image(), OPTIONS)
    await backend.start()
    session = await backend.session()
    keeper = backend.zygote_pids[0]
    family = {keeper, *descendants(keeper)}
    task = asyncio.create_task(session.run("import time; time.sleep(9)"))
    await asyncio.sleep(0.3)
    os.kill(keeper if victim == "keeper" else kernel_of(family), signal.SIGKILL)
    execution = await task
    assert execution.outcome is Outcome.KILLED
    await session.close()
    deadline = time.monotonic() + 20
    while True:
        try:
            fresh = await backend.session()
            break
        except SandboxFailed:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.2)
    assert (await fresh.run("6 * 7")).text == "42"
    await backend.close()
    assert not alive(family)


def kernel_of(family: set[int]) -> int:
    return next(pid for pid in family if b"boot" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"))


async def test_bundles_of_dead_hosts_are_swept() -> None:
    dead = tempfile.mkdtemp(prefix=f"{gvisor_bundle.PREFIX}999999999-1-")
    mine = tempfile.mkdtemp(prefix=f"{gvisor_bundle.PREFIX}{gvisor_bundle.process_mark(os.getpid())}-")
    gvisor_bundle.sweep()
    assert (dead in bundles(), mine in bundles()) == (False, True)
    gvisor_bundle.remove(mine)


# --- what comes out of a sandbox is not believed ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"op": "gone"}',
        b'{"op": "gone", "id": "1", "status": 0}',
        b'{"op": "ready", "imports": []}',
        b'{"op": []}',
    ],
)
async def test_no_message_of_a_zygote(data: bytes) -> None:
    with pytest.raises((ValueError, TypeError)):
        gvisor._read_message(data)


@pytest.mark.parametrize(
    "frames",
    [
        [({"op": "data", "id": 1}, b"x" * 100)],
        [({"op": "entries", "id": 1, "entries": [0] * 60}, b"")],
        [({"op": "what", "id": 1}, b"")],
        [b"\xff" * 64],
        [b"\0\0\0\x02\0\0\0\0[]"],
    ],
)
async def test_a_file_server_that_lies_ends_the_sandbox(frames: list[Any]) -> None:
    import socket

    from belljar.guest.frames import write_frame

    ours, theirs = socket.socketpair()
    broken: list[bool] = []
    files = RemoteFiles(ours, lambda: broken.append(True))
    task = asyncio.create_task(files.read(1, "a", 50))
    await asyncio.sleep(0.01)
    theirs.recv(1000)
    for frame in frames:
        theirs.send(frame if isinstance(frame, bytes) else write_frame(*frame))
    with pytest.raises(SandboxFailed):
        await task
    assert broken
    theirs.close()


async def test_no_runsc_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(BelljarError, match="runsc"):
        await Gvisor(find_image(), OPTIONS).start()


async def test_the_plan_names_walls_that_exist() -> None:
    guest = plan.GUEST_CODE
    defined = (guest / "walls.py").read_text() + (guest / "gvisor.py").read_text()  # imports what an image alone holds
    assert [name for name in plan.WALLS["gvisor"] if f'    "{name}": _' not in defined] == []
