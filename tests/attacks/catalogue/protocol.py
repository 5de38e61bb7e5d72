"""The session's protocol: a guest that owns its runner, and says to the host what it likes on descriptor 3."""
# ruff: noqa: E501 -- guest code stands as it is run, a case a line

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from attacks.model import Attack
from attacks.scene import Scene
from belljar import FileError, Sandbox

CHECKED = "frames are bounded and checked"
BROKEN = ("killed",)


def _says(
    name: str,
    action: str,
    code: str,
    sees: str = ".*",
    outcomes: tuple[str, ...] = BROKEN,
    wall: str = CHECKED,
    timeout: float | None = None,
) -> Attack:
    return Attack(name=name, action=action, wall=wall, code=code, sees=sees, outcomes=outcomes, timeout=timeout)


def _beside_neighbour(code: str, seconds: float, patience: float) -> Callable[[Scene], str]:
    """Run the code for some seconds beside a neighbour that works; whether the neighbour had to wait longer than `patience`."""

    def drive(scene: Scene) -> str:
        neighbour = scene.neighbour
        waits: list[float] = []
        over = threading.Event()

        def work() -> None:
            while not over.is_set():
                started = time.monotonic()
                neighbour.run("1 + 1")
                waits.append(time.monotonic() - started)
                time.sleep(0.005)

        thread = threading.Thread(target=work)
        thread.start()
        with scene.sandbox() as sandbox:
            scene.run(sandbox, code, seconds)
        over.set()
        thread.join()
        return (
            f"the neighbour never waited for {patience} s"
            if max(waits) < patience
            else f"the neighbour waited for {max(waits):.2f} s"
        )

    return drive


def _goes_on(code: str) -> Callable[[Scene], str]:
    """The guest hides its end from the host: is it still running when its execution is over?"""

    def drive(scene: Scene) -> str:
        with scene.attacked(code, 6) as (sandbox, execution):
            before = _size(sandbox)
            time.sleep(0.5)
            return f"{execution.outcome}, alive {sandbox.alive}, runs on {_size(sandbox) > before}"

    return drive


def _size(sandbox: Sandbox) -> int:
    try:
        return len(sandbox.read_file("alive"))
    except FileError:
        return 0


def _second_run(code: str) -> Callable[[Scene], str]:
    """The guest breaks its own interpreter; the next execution ends in an outcome, too."""

    def drive(scene: Scene) -> str:
        with scene.attacked(code) as (sandbox, first):
            second = sandbox.run("print('second')", timeout=2) if sandbox.alive else None
            return f"{first.outcome} {second.outcome if second else 'closed'}"

    return drive


ALIVE = """
import threading
def write_on():
    while True:
        with open("alive", "a") as file:
            file.write("x")
        time.sleep(0.02)
threading.Thread(target=write_on).start()
time.sleep(0.2)
"""
DEEP = """
for depth in range(%d, %d):
    send(frame('{"op":"result","id":1,"main":true,"text":{},"json":{"x":' + "[" * depth + "]" * depth + '},"blobs":[]}'))
time.sleep(0.2)
"""
ENDS = "(ok|error|timeout|killed|exited|out_of_memory)"

ATTACKS = (
    _says(
        "forge_done",
        "send a `done` frame while the code still runs",
        'print("before", flush=True)\nsend(frame(\'{"op":"done","id":1,"count":1}\'))\ntime.sleep(0.3)\nprint("after", flush=True)',
        "before",
        ("ok",),
        wall="it ends its own execution only",
    ),
    _says(
        "forge_done_with_odd_error",
        "a `done` frame whose error has wrong types",
        'send(frame(\'{"op":"done","id":1,"error":{"name":1,"value":[],"traceback":{}}}\'))\ntime.sleep(1)',
    ),
    _says(
        "forge_done_with_huge_error",
        "a `done` frame with an error of 8 MiB",
        'send(frame(\'{"op":"done","id":1,"error":{"name":"E","value":"x","traceback":"\' + "x" * (8 << 20) + \'"}}\'))\ntime.sleep(1)',
        "",
        ("killed",),
        wall="the JSON of a frame has a limit",
    ),
    _says(
        "forge_result_without_parts",
        "a `result` frame without its fields",
        'send(frame(\'{"op":"result","id":1}\'))\ntime.sleep(1)',
    ),
    _says(
        "forge_result_of_wrong_types",
        "a `result` frame with numbers for texts",
        'send(frame(\'{"op":"result","id":1,"text":{"a":1},"json":{},"blobs":[]}\'))\ntime.sleep(1)',
    ),
    _says(
        "forge_negative_lengths",
        "a `result` frame with negative and overlapping lengths of its bytes",
        'send(frame(\'{"op":"result","id":1,"text":{},"json":{},"blobs":[["a",-5],["b",9]]}\', b"1234"))\ntime.sleep(1)',
    ),
    _says(
        "forge_unknown_operation",
        "a frame of an unknown kind",
        'send(frame(\'{"op":"refused","id":1,"wall":"x"}\'))\ntime.sleep(1)',
    ),
    _says("send_oversized_header", "a header that announces 4 GiB", 'send(b"\\xff" * 8 + bytes(4096))\ntime.sleep(1)'),
    _says(
        "send_endless_frame",
        "a header that announces 24 MB, then bytes one by one",
        'send(struct.pack(">II", 100, 23 << 20) + bytes(4096))\ntime.sleep(20)',
        "",
        ("timeout",),
        timeout=1,
    ),
    _says("send_no_json", "random bytes", "send(os.urandom(1 << 20))\ntime.sleep(1)"),
    _says(
        "send_invalid_utf8",
        "a frame that is no UTF-8",
        'send(frame(b"{\\"op\\":\\"\\xff\\xfe\\xc0\\"}"))\ntime.sleep(1)',
    ),
    _says(
        "send_no_object",
        "JSON that is no object: a list, a number, null",
        'send(frame("[]") + frame("1") + frame("null"))\ntime.sleep(1)',
    ),
    _says(
        "send_huge_number",
        "JSON with a number of 100,000 digits",
        'send(frame(\'{"op":"done","id":1,"n":\' + "9" * 100000 + "}"))\ntime.sleep(1)',
    ),
    _says("send_deep_json", "JSON nested 100,000 deep", 'send(frame("[" * 100000))\ntime.sleep(1)'),
    Attack(
        name="send_json_at_every_depth",
        action="results nested 900 to 1,000 deep: deep enough for writing, not for reading, to fail",
        wall=CHECKED,
        code=DEEP % (900, 1001),
        sees="",
        outcomes=("killed",),
    ),
    _says(
        "send_frames_without_end",
        "frames for an execution that is not running, without end",
        'while True:\n    send(frame(\'{"op":"result","id":99}\') * 1000)',
    ),
    _says(
        "flood_small_results",
        "results without end, each small",
        "for i in range(1000000):\n    display(i)",
        "",
        ("killed", "timeout"),
        wall="each result counts at least 256 bytes",
        timeout=1,
    ),
    _says(
        "flood_large_results",
        "1 GiB of display data",
        'for i in range(1024):\n    display({"text/plain": "x" * (1 << 20)}, raw=True)\nprint("done")',
        "done",
        ("ok",),
        wall="results have a budget; the rest becomes a note",
    ),
    _says(
        "flood_forged_results",
        "1 GiB of results past the runner's own budget",
        'for i in range(1024):\n    send(frame(\'{"op":"result","id":1,"text":{},"json":{},"blobs":[["image/png",1048576]]}\', bytes(1 << 20)))',
    ),
    Attack(
        name="inflate_host_memory",
        action="a frame of 23 MB of empty objects, each of which takes the host twenty times as much memory",
        wall=CHECKED,
        drive=_beside_neighbour(
            'send(frame(b\'{"op":"result","id":1,"main":true,"text":{},"json":{"x":[\' + b"{}," * 7900000 + b\'{}]},"blobs":[]}\'))',
            6,
            0.4,
        ),
        sees=r"the neighbour never waited for 0\.4 s",
    ),
    Attack(
        name="stall_host_by_strays",
        action="large frames that belong to no execution, one after the other: reading them holds up everybody",
        wall=CHECKED,
        drive=_beside_neighbour(
            'body = frame(b\'{"op":"result","id":0,"x":[\' + b"{}," * 7900000 + b"{}]}")\nfor i in range(4):\n    send(body)',
            6,
            0.4,
        ),
        sees=r"the neighbour never waited for 0\.4 s",
    ),
    Attack(
        name="stall_host_by_output",
        action="write to stdout, stderr and results as fast as can be, beside a neighbour",
        wall="bounded reads",
        drive=_beside_neighbour(
            """
import threading
for fd in (1, 2):
    threading.Thread(target=lambda fd=fd: [os.write(fd, bytes(65536)) for _ in range(1 << 30)], daemon=True).start()
time.sleep(9)
""",
            1.5,
            0.5,
        ),
        sees=r"the neighbour never waited for 0\.5 s",
    ),
    Attack(
        name="run_on_after_closing_session",
        action="close descriptor 3, so that the host takes the guest for dead, and go on",
        wall="the host kills what it takes for dead",
        drive=_goes_on(ALIVE + "os.close(3)\ntime.sleep(30)"),
        sees="(killed|exited), alive False, runs on False",
    ),
    Attack(
        name="run_on_after_shutdown",
        action="shut descriptor 3 down, and go on",
        wall="the host kills what it takes for dead",
        drive=_goes_on(ALIVE + "import socket\nsocket.socket(fileno=3).shutdown(socket.SHUT_RDWR)\ntime.sleep(30)"),
        sees="(killed|exited), alive False, runs on False",
    ),
    Attack(
        name="run_on_as_another_program",
        action="replace the interpreter by another program (exec), which closes the session",
        wall="the host kills what it takes for dead",
        drive=_goes_on('os.execv("/bin/sh", ["sh", "-c", "while :; do echo -n x >> alive; sleep 0.02; done"])'),
        sees="(killed|exited|timeout), alive False, runs on False",
    ),
    Attack(
        name="send_descriptors_to_host",
        action="send thousands of descriptors on the session's socket",
        wall="the host takes none after the birth",
        code="""
import socket
own = socket.socket(fileno=os.dup(3))
text = frame('{"op":"result","id":1,"text":{"text/plain":"x"},"json":{},"blobs":[]}')
sent = 0
for i in range(2000):
    sent += isinstance(tried(socket.send_fds, own, [text], [0, 1, 2] * 30), int)
print(sent > 0)
""",
        sees="True",
    ),
    Attack(
        name="steal_commands",
        action="read the host's commands in the runner's stead, and answer them",
        wall="it fools itself only",
        drive=_second_run(
            """
import threading
def answer():
    os.read(3, 65536)
    send(frame('{"op":"done","id":2,"count":1}'))
threading.Thread(target=answer).start()
"""
        ),
        sees=f"ok {ENDS}",
    ),
    Attack(
        name="never_read_commands",
        action="replace the runner's loop, so that commands are never read, and fill every pipe",
        wall="deadlines",
        drive=_second_run(
            "import gc, socket\nsocket.socket.recv = lambda *a: time.sleep(99)\nimport threading\nos.set_blocking(3, False)"
        ),
        sees=f"{ENDS} {ENDS}",
    ),
    Attack(
        name="break_the_runner",
        action="replace the runner's methods, IPython's, sys.stdout, builtins and modules",
        wall="it harms itself only",
        drive=_second_run(
            """
import builtins, gc
for thing in gc.get_objects():
    if type(thing).__name__ in ("Guest", "Channels", "FrameReader"):
        for name in ("_send", "_emit", "_run", "serve", "settle", "feed"):
            try: setattr(type(thing), name, lambda *a, **k: None)
            except Exception: pass
get_ipython().run_cell = None
sys.stdout = sys.stderr = None
sys.modules.clear()
builtins.len = builtins.isinstance = builtins.print = None
"""
        ),
        sees=f"{ENDS} ({ENDS}|closed)",
    ),
    Attack(
        name="find_zygote_socket",
        action="look through all objects and descriptors for the zygote's socket to the host",
        wall="descriptors closed",
        code="""
import gc, socket
sockets = [thing for thing in gc.get_objects() if isinstance(thing, socket.socket) and thing.fileno() not in (-1, 3)]
print(several(*(tried(s.send, b'{"op":"ready"}') for s in sockets if s.fileno() != 3), "EBADF"),
    [fd for fd in range(4, 256) if isinstance(tried(os.fstat, fd), os.stat_result)])
""",
        sees=r"EBADF \[\]",
    ),
    Attack(
        name="use_session_number_of_host",
        action="number executions wrongly: 0, negative, true, text, null",
        wall=CHECKED,
        code='for number in ("0", "-1", "true", \'"1"\', "null", "1e0", "[1]"):\n    send(frame(\'{"op":"nothing","id":\' + number + "}"))\ntime.sleep(0.1)\nprint("lives")',
        sees=".*",
        outcomes=("ok", "killed"),
    ),
)
