"""What every session promises, whatever its backend: IPython's semantics, streams, results, files, limits, ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from belljar import ClientError, Execution, FileError, Limits, Outcome, Output, Pool, Sandbox, SessionClosed

MIB = 1 << 20

# Code -> standard output, text of the last value.
VALUES = [
    ("print('a')", "a\n", None),
    ("2 + 2", "", "4"),
    ("x = 1\nx", "", "1"),
    ("x = 1\nx;", "", None),
    ("'text'", "", "'text'"),
    ("None", "", None),
    ("await __import__('asyncio').sleep(0, 'awaited')", "", "'awaited'"),
    ("import asyncio\nasyncio.run(asyncio.sleep(0, 'ran'))", "", "'ran'"),
    ("%timeit -n1 -r1 pass", None, None),
    ("!echo shell", "shell\n", None),
    ("word = 'braces'\n!echo {word}", "braces\n", None),
    ("lines = !echo captured\nlines", "", "['captured']"),
    ("%%bash\necho cell", "cell\n", None),
    ("import os\nos.system('echo child')", "child\n", "0"),
    ("import ctypes\nctypes.CDLL(None).puts(b'from C');", "from C\n", None),
    ("__name__", "", "'__main__'"),
    ("import sys\nsys.exit(0)", "", None),
    ("exit()", "", None),
    ("'é€𝄞' + chr(0xd800).encode('utf-8', 'replace').decode()", "", "'é€𝄞?'"),
    ("print('é€𝄞')", "é€𝄞\n", None),
    ("", "", None),
    ("# only a comment", "", None),
    ("from concurrent.futures import ThreadPoolExecutor as T\nlist(T(2).map(abs, [-1, -2]))", "", "[1, 2]"),
]


@pytest.mark.parametrize(("code", "stdout", "text"), VALUES, ids=[code[:30] for code, _, _ in VALUES])
def test_values_and_output(sandbox: Sandbox, code: str, stdout: str | None, text: str | None) -> None:
    execution = sandbox.run(code)
    assert (execution.outcome, execution.error, execution.stderr) == (Outcome.OK, None, "")
    assert stdout is None or execution.stdout == stdout
    assert execution.text == text


# Code -> name of the error, something its traceback holds.
ERRORS = [
    ("1/0", "ZeroDivisionError", 'File "<cell 1>", line 1'),
    ("def f():\n    raise KeyError('k')\nf()", "KeyError", 'File "<cell 1>", line 2, in f'),
    ("x = = 1", "SyntaxError", "x = = 1"),
    ("for x in []:\nprint(1)", "IndentationError", "print(1)"),
    ("import no_such_module", "ModuleNotFoundError", "no_such_module"),
    ("import sys\nsys.exit(3)", "SystemExit", "3"),
    ("input('name? ')", "EOFError", "no standard input"),
    ("import json\njson.loads('{')", "JSONDecodeError", "json/decoder.py"),
    ("%no_such_magic", "UsageError", "no_such_magic"),
    ("class Odd(Exception):\n    def __str__(self): raise ValueError\nraise Odd", "Odd", "Odd"),
    ("raise ExceptionGroup('g', [ValueError('inner')])", "ExceptionGroup", "inner"),
    ("def f(): f()\nf()", "RecursionError", "maximum recursion"),
    ("try:\n    1/0\nexcept Exception as e:\n    raise ValueError('b') from e", "ValueError", "ZeroDivisionError"),
]


@pytest.mark.parametrize(("code", "name", "part"), ERRORS, ids=[code[:30] for code, _, _ in ERRORS])
def test_errors_show_the_own_frames(sandbox: Sandbox, code: str, name: str, part: str) -> None:
    execution = sandbox.run("print('before')\n" + code if name not in {"SyntaxError", "IndentationError"} else code)
    assert execution.outcome is Outcome.ERROR
    assert execution.error is not None
    assert execution.error.name == name
    assert part.replace("line 1", "line 2").replace("line 2, in f", "line 3, in f") in execution.error.traceback
    assert "guest/" not in execution.error.traceback
    assert "interactiveshell" not in execution.error.traceback
    assert sandbox.run("'alive'").text == "'alive'"


def test_state_stays_between_executions(sandbox: Sandbox) -> None:
    sandbox.run("import math\nx = 41")
    assert sandbox.run("x + 1").text == "42"
    assert sandbox.run("_ + math.pi > 0").text == "True"


def test_a_new_sandbox_knows_nothing(make) -> None:
    make().run("x = 41\nopen('f', 'w').write('x')")
    execution = make().run("import os\n'x' in globals(), os.listdir('.')")
    assert execution.text == "(False, [])"


def test_streams_come_apart_live_and_in_order(sandbox: Sandbox) -> None:
    seen: list[tuple[float, Output]] = []
    code = (
        "import sys, time, os\n"
        "for i in range(3):\n"
        "    print('out', i); print('err', i, file=sys.stderr)\n"
        "time.sleep(0.5)\n"
        "os.write(1, b'raw\\n'); print('end')"
    )
    execution = sandbox.run(code, on_output=lambda output: seen.append((time.monotonic(), output)))
    ended = time.monotonic()
    assert execution.stdout == "out 0\nout 1\nout 2\nraw\nend\n"
    assert execution.stderr == "err 0\nerr 1\nerr 2\n"
    words = "".join(f"[{output.stream}]{output.text}" for _, output in seen)
    order = [words.index(f"{kind} {i}") for i in range(3) for kind in ("out", "err")]
    assert order == sorted(order)
    assert ended - seen[0][0] > 0.4  # the first lines came before the sleep was over


def test_results_come_between_the_prints(sandbox: Sandbox) -> None:
    seen: list[str] = []
    sandbox.run(
        "print('one')\ndisplay(1)\nprint('two')\ndisplay(2)",
        on_output=lambda output: seen.append(output.text),
        on_result=lambda result: seen.append(result.text or ""),
    )
    assert seen == ["one\n", "1", "two\n", "2"]


def test_mime_bundles(sandbox: Sandbox) -> None:
    code = """
class Rich:
    def _repr_html_(self): return '<b>x</b>'
    def _repr_png_(self): return b'\\x89PNG123'
    def _repr_json_(self): return {'a': [1, float('nan')]}
    def __repr__(self): return 'plain'
display(Rich())
Rich()
"""
    shown, last = sandbox.run(code).results
    assert (shown.is_main, last.is_main) == (False, True)
    assert (last.text, last.html, last.png, last.json) == ("plain", "<b>x</b>", b"\x89PNG123", {"a": [1, None]})


def test_figures_come_at_show_and_at_the_end(sandbox: Sandbox) -> None:
    code = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()\nplt.figure()\nplt.plot([2, 1])"
    execution = sandbox.run(code, timeout=60)
    assert execution.outcome is Outcome.OK, execution.error
    pictures = [result.png for result in execution.results if result.png]
    assert len(pictures) == 2
    assert all(picture.startswith(b"\x89PNG\r\n\x1a\n") for picture in pictures)


PLOT = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.title('$y^2$ \u00e9')\nplt.show()"


async def test_plots_and_tables_with_everything_imported() -> None:
    async with Pool(ready=1, zygotes=1) as pool:
        for code, kind in (
            (PLOT, "image/png"),
            ("import pandas\npandas.DataFrame({'a': [1]}).describe()", "text/html"),
        ):
            async with pool.session() as session:
                execution = await session.run(code)
                assert execution.error is None
                assert kind in execution.results[0].data


def test_a_figure_comes_although_the_code_fails(sandbox: Sandbox) -> None:
    execution = sandbox.run("import matplotlib.pyplot as plt\nplt.plot([1, 2])\n1/0", timeout=60)
    assert execution.outcome is Outcome.ERROR
    assert [bool(result.png) for result in execution.results] == [True]


def test_the_data_libraries_work_under_the_limits(make) -> None:
    code = """
import warnings; warnings.simplefilter('ignore')
import numpy as np, pandas as pd, cv2, joblib
a = np.random.rand(300, 300)
print(np.allclose(a @ np.linalg.inv(a), np.eye(300), atol=1e-6))
print(cv2.GaussianBlur(np.zeros((200, 200, 3), 'uint8'), (5, 5), 0).shape)
print(sum(joblib.Parallel(n_jobs=2)(joblib.delayed(abs)(-i) for i in range(4))))
print(pd.DataFrame({'a': [1, 2, 3]}).describe().loc['mean', 'a'])
"""
    execution = make(timeout=90).run(code)
    assert execution.error is None
    assert execution.stdout == "True\n(200, 200, 3)\n6\n2.0\n"


def test_files_in_and_out(sandbox: Sandbox) -> None:
    sandbox.write_file("in/data.csv", "a,b\n1,2\n")
    assert sandbox.run("open('in/data.csv').read()").text == repr("a,b\n1,2\n")
    execution = sandbox.run(
        "open('out.json', 'w').write('{}')\nimport os\nos.makedirs('d')\nopen('d/x.png', 'wb').write(b'12')"
    )
    assert [(f.path, f.size, f.type) for f in execution.files] == [
        ("d/x.png", 2, "image/png"),
        ("out.json", 2, "application/json"),
    ]
    assert sandbox.run("open('out.json', 'a').write('\\n')").files[0].path == "out.json"
    assert sandbox.run("1").files == ()
    assert [f.path for f in sandbox.list_files()] == ["d/x.png", "in/data.csv", "out.json"]
    assert sandbox.read_file("d/x.png") == b"12"
    sandbox.write_file("out.json", b"new")
    assert sandbox.run("open('out.json').read()").text == "'new'"
    assert sandbox.run("import os\nos.remove('in/data.csv')\nos.rename('out.json', 'in/o')").error is None


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "", ".", "a\0b", "x" * 300, "/mnt/data/../x"])
def test_paths_outside_are_refused(sandbox: Sandbox, path: str) -> None:
    with pytest.raises(FileError):
        sandbox.write_file(path, b"x")
    with pytest.raises(FileError):
        sandbox.read_file(path)


def test_a_missing_file_is_named(sandbox: Sandbox) -> None:
    with pytest.raises(FileError, match=r"nothing\.txt"):
        sandbox.read_file("nothing.txt")


STUBBORN = """
print('kept', flush=True)
while True:
    try:
        while True: pass
    except KeyboardInterrupt: pass
"""

# Limits that end in an outcome: options, code, outcome, what was kept.
LIMITS = [
    ({"timeout": 0.5}, "print('kept')\nwhile True: pass", Outcome.TIMEOUT, "kept"),
    ({"timeout": 0.5}, "print('kept')\nimport time\ntime.sleep(60)", Outcome.TIMEOUT, "kept"),
    ({"timeout": 0.5}, "print('kept')\n10**10**8", Outcome.TIMEOUT, "kept"),
    ({"timeout": 0.5}, STUBBORN, Outcome.TIMEOUT, "kept"),
    ({"memory": 128 * MIB}, "print('kept')\nx = bytearray(1 << 40)", Outcome.OUT_OF_MEMORY, "kept"),
    (
        {"memory": 128 * MIB},
        "print('kept', flush=True)\nx = []\nwhile True: x.append(bytearray(b'x' * (1 << 20)))",
        Outcome.OUT_OF_MEMORY,
        "kept",
    ),
    ({}, "print('kept', flush=True)\nimport os\nos._exit(5)", Outcome.EXITED, "kept"),
    ({}, "print('kept', flush=True)\nimport ctypes\nctypes.string_at(0)", Outcome.KILLED, "kept"),
]


@pytest.mark.parametrize(("options", "code", "outcome", "kept"), LIMITS, ids=[code[-40:] for _, code, _, _ in LIMITS])
def test_each_limit_has_its_outcome(make, options: dict, code: str, outcome: Outcome, kept: str) -> None:
    execution = make(**options).run(code)
    assert (execution.outcome, execution.stdout.strip()) == (outcome, kept)
    assert execution.error is not None


def test_an_interrupted_session_lives_on(make) -> None:
    sandbox = make(timeout=0.5)
    sandbox.run("x = 5")
    assert sandbox.run("while True: pass").outcome is Outcome.TIMEOUT
    assert sandbox.alive
    assert sandbox.run("x").text == "5"


def test_interrupt_from_outside(sandbox: Sandbox) -> None:
    got: list[Execution] = []
    started = threading.Event()
    thread = threading.Thread(
        target=lambda: got.append(sandbox.run("print('on')\nwhile True: pass", on_output=lambda _: started.set()))
    )
    thread.start()
    assert started.wait(20)
    sandbox.interrupt()
    thread.join(20)
    assert got[0].error is not None
    assert got[0].error.name == "KeyboardInterrupt"
    assert sandbox.run("1").text == "1"


def test_a_dead_session_says_so(sandbox: Sandbox) -> None:
    sandbox.write_file("kept.txt", b"kept")
    sandbox.run("import os\nos._exit(0)")
    assert not sandbox.alive
    with pytest.raises(SessionClosed):
        sandbox.run("1")
    assert sandbox.read_file("kept.txt") == b"kept"
    sandbox.close()
    with pytest.raises(SessionClosed):
        sandbox.read_file("kept.txt")


def test_output_is_cut_with_a_note(make) -> None:
    sandbox = make(limits=Limits(output_bytes=1000))
    execution = sandbox.run("print('x' * 5000)\nimport sys\nprint('e' * 10, file=sys.stderr)\n'value'")
    assert execution.outcome is Outcome.OK
    assert execution.stdout.startswith("x" * 1000)
    assert execution.stdout.endswith("[stdout cut: 4,001 more bytes]\n")
    assert (execution.stdout_bytes, execution.stderr) == (5001, "e" * 10 + "\n")
    assert execution.text == "'value'"


def test_too_large_results_are_left_out_with_a_note(make) -> None:
    sandbox = make(limits=Limits(results_bytes=1 << 20))
    execution = sandbox.run("display('x' * 600_000)\ndisplay('y' * 600_000)\n'z'")
    assert execution.outcome is Outcome.OK
    assert [len(result.text or "") > 500_000 for result in execution.results] == [True, False, False]
    assert "left out" in (execution.results[1].text or "")


FLOODS = [
    ("f = open('big', 'wb')\nwhile True: f.write(b'x' * (1 << 20))", "OSError"),
    ("i = 0\nwhile True:\n    i += 1\n    open(f'f{i}', 'w').close()", "OSError"),
    ("import os\nwhile True: os.open('/dev/null', 0)", "OSError"),
]


@pytest.mark.parametrize(("code", "name"), FLOODS, ids=["disk", "inodes", "descriptors"])
def test_floods_end_in_errors(make, profile: str, code: str, name: str) -> None:
    limits = Limits(files_bytes=4 * MIB, files_count=200, descriptors=64)
    execution = make(limits=limits).run(code)
    if profile != "full" and "f{i}" in code:  # no tmpfs of its own: the watchdog counts
        assert (execution.outcome, execution.error.name) == (Outcome.KILLED, "LimitExceeded")
        return
    assert execution.outcome is Outcome.ERROR
    assert execution.error is not None
    assert execution.error.name == name


def test_processes_are_bounded(make, profile: str) -> None:
    sandbox = make(limits=Limits(processes=16))
    code = """
import os, time
made = 0
try:
    for _ in range(100):
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        made += 1
except BlockingIOError:
    pass
made
"""
    execution = sandbox.run(code)
    if execution.outcome is Outcome.KILLED:  # counted by the watchdog
        assert (profile, execution.error.name) == ("container", "LimitExceeded")
    else:
        assert execution.error is None
        assert 1 <= int(execution.text or "0") <= 16


def test_multiprocessing_works(make, profile: str) -> None:
    if profile == "container":
        pytest.skip("no /dev/shm of one's own without a mount namespace: docs/security.md says so")
    execution = make().run("import multiprocessing\nwith multiprocessing.Pool(2) as p: print(p.map(abs, [-1, -2]))")
    assert (execution.error, execution.stdout) == (None, "[1, 2]\n")


@pytest.mark.parametrize(
    "name", ["timeout", "memory", "processes", "cpus", "files_bytes", "files_count", "descriptors"]
)
def test_limits_that_nothing_could_live_under_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Limits(**{name: 0})


def test_deep_and_odd_json_is_left_out_not_believed(sandbox: Sandbox) -> None:
    code = """
deep = []
for _ in range(500): deep = [deep]
display({'application/json': deep, 'text/plain': 'deep'}, raw=True)
display({'application/json': {1: {2, 3} and (4, float('inf'))}, 'text/plain': 'odd'}, raw=True)
"""
    deep, odd = sandbox.run(code).results
    assert (deep.text, deep.json) == ("deep", None)
    assert (odd.text, odd.json) == ("odd", {"1": [4, None]})


def test_types_with_other_values_than_theirs(sandbox: Sandbox) -> None:
    code = """
from IPython.display import Javascript
display(Javascript('alert(1)'))
display({'text/plain': 5, 'text/html': b'<b>', 'image/png': [1], 'application/x': 'words'}, raw=True)
"""
    script, odd = sandbox.run(code).results
    assert script.data["application/javascript"] == "alert(1)"
    assert odd.data == {"text/plain": "5", "text/html": "<b>", "application/x": "words"}


def test_large_code_in_any_script(sandbox: Sandbox) -> None:
    assert sandbox.run("x = '" + "\u4e2d" * 3_000_000 + "'\nlen(x)").text == "3000000"
    with pytest.raises(ClientError):
        sandbox.run("#" * 9_000_000)


def test_display_from_threads(sandbox: Sandbox) -> None:
    code = "from concurrent.futures import ThreadPoolExecutor as T\nlist(T(8).map(display, ['x' * 300_000] * 40));"
    execution = sandbox.run(code)
    assert (execution.outcome, len(execution.results)) == (Outcome.OK, 40)


def test_what_was_printed_before_an_interrupt_comes_once(make) -> None:
    sandbox = make()
    code = "try:\n  import time; print('ready'); time.sleep(50)\nexcept KeyboardInterrupt: print('fine')"
    for _ in range(40):  # the interrupt meets the guest while it still comes back from its write
        assert sandbox.run(code, on_output=interrupter(sandbox)).stdout == "ready\nfine\n"


def interrupter(sandbox: Sandbox) -> Callable[[Output], None]:
    """Interrupts at the first output. From another thread, as a callback may not wait for its own sandbox."""
    begun = threading.Event()

    def on_output(_: Output) -> None:
        if not begun.is_set():
            begun.set()
            threading.Thread(target=sandbox.interrupt).start()

    return on_output


def test_an_interrupt_in_the_middle_of_a_result(make) -> None:
    sandbox = make(timeout=0.4)
    code = "x = 'x' * 1_000_000\ntry:\n    while True: display(x)\nexcept KeyboardInterrupt: print('caught')"
    execution = make(limits=Limits(timeout=0.4, results_bytes=1 << 30)).run(code)
    assert execution.outcome is Outcome.TIMEOUT
    assert execution.stdout == "caught\n"
    assert sandbox.run("1").text == "1"


def test_a_sandbox_refuses_to_wait_for_itself(sandbox: Sandbox) -> None:
    seen: list[str] = []

    def use_it(_: Output) -> None:
        with pytest.raises(SessionClosed, match="callback"):
            sandbox.interrupt()
        seen.append("refused")

    sandbox.run("print(1)", on_output=use_it)
    assert seen == ["refused"]


def test_first_use_from_many_threads(make) -> None:
    with ThreadPoolExecutor(4) as threads:
        opened = list(threads.map(lambda _: make(timeout=17.5), range(4)))
    assert [sandbox.run("6 * 7").text for sandbox in opened] == ["42"] * 4
