"""`belljar run`: what comes out, where it goes, and with which exit code."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from belljar.cli import output

from .conftest import Run

Start = Callable[..., "subprocess.Popen[str]"]

# code, options -> exit code, and a word that standard error has
EXITS = {
    "it ends": ("print(1)", (), 0, ""),
    "it raises": ("1/0", (), 1, "ZeroDivisionError: division by zero"),
    "it does not compile": ("1 +", (), 1, "SyntaxError"),
    "sys.exit with 0": ("import sys; sys.exit(0)", (), 0, ""),
    "sys.exit with a number": ("import sys; sys.exit(7)", (), 1, ""),
    "sys.exit with a text": ("import sys; sys.exit('no more')", (), 1, "no more"),
    "the interpreter exits with 0": ("import os; os._exit(0)", (), 0, "exited with 0"),
    "the interpreter exits with 10": ("import os; os._exit(10)", (), 1, "exited with 10"),
    "too long": ("while True: pass", ("--timeout", "0.3"), 124, "timeout: the code ran longer than 0.3 s"),
    "too long, and it resists": (
        "while True:\n  try:\n    while True: pass\n  except BaseException: pass",
        ("--timeout", "0.3"),
        124,
        "timeout",
    ),
    "too much memory": ("x = bytearray(600 << 20)", ("--memory", "200M"), 137, "out of memory"),
    "a crash": ("import ctypes; ctypes.string_at(0)", (), 137, "killed: the interpreter was ended by SIGSEGV"),
    "no such image": ("1", ("--image", "no-such"), 3, "belljar image build no-such"),
    "no such option": ("1", ("--no-such",), 2, "--no-such"),
    "no size": ("1", ("--memory", "much"), 2, "--memory"),
    "no number": ("1", ("--timeout", "nan"), 2, "--timeout"),
    "no profile": ("1", ("--profile", "none"), 2, "--profile"),
    "no such file": ("1", ("--file", "no-such"), 2, "no-such"),
    "a folder": ("1", ("--file", "."), 2, "folder"),
    "a name outside": ("1", ("--file", "{file}=../x"), 2, "/mnt/data"),
    "a name twice": ("1", ("--file", "{file}=x", "--file", "{file}=x"), 2, "PATH=NAME"),
    "files over the limit": ("1", ("--file", "{file}", "--files-bytes", "1"), 2, "--files-bytes"),
    "out is a file": ("1", ("--out", "{file}"), 2, "--out"),
    "out is not empty": ("1", ("--out", "."), 2, "--overwrite"),
}


@pytest.mark.parametrize("case", EXITS)
def test_exit_code(belljar: Run, tmp_path: Path, case: str) -> None:
    code, options, expected, words = EXITS[case]
    file = tmp_path / "some.txt"
    file.write_text("text")
    done = belljar("run", *(option.format(file=file) for option in options), "-c", code)
    assert done.returncode == expected, done.stderr
    assert words in done.stderr
    if case == "sys.exit with a number":
        assert done.stderr == ""
    assert "Traceback" not in done.stderr or expected == 1
    assert "belljar/cli" not in done.stderr


def test_nothing_to_run_is_wrong_usage(belljar: Run) -> None:
    assert belljar("run").returncode == 2
    missing = belljar("run", "no-such.py")
    assert (missing.returncode, "no-such.py" in missing.stderr) == (2, True)


def test_code_that_is_no_text_is_wrong_usage(belljar: Run, tmp_path: Path) -> None:
    (tmp_path / "x.py").write_bytes(b"\xff\xfe")
    done = belljar("run", "x.py")
    assert (done.returncode, "UTF-8" in done.stderr) == (2, True)


# --- what is shown ----------------------------------------------------------------------------------------------------


def test_output_and_last_value(belljar: Run) -> None:
    code = "import sys\nprint('out')\nprint('err', file=sys.stderr)\nprint('open', end='')\n6 * 7"
    done = belljar("run", "-c", code)
    assert done.stdout == "out\nopen\n42\n"
    assert done.stderr == "err\n"


def test_output_keeps_its_order_on_one_pipe(start: Start) -> None:
    code = "import sys\nfor i in range(20):\n  print('o', i)\n  print('e', i, file=sys.stderr)\n'last'"
    process = start("run", "-c", code, stderr=subprocess.STDOUT)
    out, _ = process.communicate(timeout=60)
    assert out.splitlines() == [f"{stream} {i}" for i in range(20) for stream in "oe"] + ["'last'"]


def test_output_comes_while_the_code_runs(start: Start) -> None:
    code = "import time\nprint('first')\nwhile True: time.sleep(0.05)"
    process = start("run", "--timeout", "50", "-c", code)
    assert process.stdout is not None
    assert process.stdout.readline() == "first\n"
    assert process.poll() is None


def test_script_gets_its_arguments_and_lines(belljar: Run, tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text("# a comment\nimport sys; print(sys.argv, __name__)\n1/0\n")
    done = belljar("run", "s.py", "--json", "-x", "it's")
    assert done.stdout == """['s.py', '--json', '-x', "it's"] __main__\n"""
    assert 'File "<cell 1>", line 3' in done.stderr


@pytest.mark.parametrize(
    ("words", "argv"),
    [(("-", "a"), ["-", "a"]), (("-c", "CODE", "a", "b"), ["-c", "a", "b"]), (("-c", "CODE"), ["-c"])],
)
def test_standard_input_and_code(belljar: Run, words: tuple[str, ...], argv: list[str]) -> None:
    code = "import sys; print(sys.argv)"
    done = belljar("run", *(code if word == "CODE" else word for word in words), stdin=code)
    assert done.stdout == f"{argv}\n"


def test_a_byte_order_mark_is_no_code(belljar: Run, tmp_path: Path) -> None:
    (tmp_path / "s.py").write_bytes(b"\xef\xbb\xbfprint('\xc3\xa4')")
    assert belljar("run", "s.py").stdout == "ä\n"


def test_output_beyond_the_limit_is_cut_and_said_so(belljar: Run) -> None:
    done = belljar("run", "--output-bytes", "1K", "-c", "print('x' * 5000)")
    assert done.stdout == "x" * 1024
    assert "stdout cut: 3,977 more bytes" in done.stderr


def test_no_file_of_the_host_is_there(belljar: Run, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    done = belljar("run", "-c", f"import os; print(os.path.exists({str(tmp_path)!r}), os.listdir())")
    assert done.stdout == "False []\n"


# --- files and results ------------------------------------------------------------------------------------------------

IMAGE = (
    "from IPython.display import Image, display\n"
    f"display(Image(data=__import__('base64').b64decode({base64.b64encode(b'not really a picture').decode()!r}), "
    "format='png'))\n"
)


def test_files_go_in_and_out(belljar: Run, tmp_path: Path) -> None:
    (tmp_path / "a=b.txt").write_text("one")
    (tmp_path / "c.txt").write_text("two")
    code = (
        "import os\nprint(open('a=b.txt').read(), open('in/d.txt').read())\n"
        "os.makedirs('new/deep')\nopen('new/deep/e.txt', 'w').write('three')\nopen('.hidden', 'w').write('x')\n"
        "open('in/d.txt', 'w').write('changed')\nNone"
    )
    done = belljar("run", "--file", "a=b.txt", "--file", "c.txt=in/d.txt", "--out", "res/out", "-c", code)
    assert done.stdout == "one two\n", done.stderr
    out = tmp_path / "res/out"
    found = {str(path.relative_to(out)): path.read_text() for path in out.rglob("*") if path.is_file()}
    assert found == {"new/deep/e.txt": "three", "in/d.txt": "changed"}
    assert "file 5 B → res/out/new/deep/e.txt\n" in done.stderr
    assert (tmp_path / "c.txt").read_text() == "two"


def test_results_are_saved(belljar: Run, tmp_path: Path) -> None:
    code = IMAGE + "from IPython.display import HTML, JSON\ndisplay(HTML('<b>x</b>'))\ndisplay(JSON({'a': 1}))\n2"
    done = belljar("run", "--out", "out", "-c", code)
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == ["result-1.png", "result-2.html", "result-3.json"]
    assert (out / "result-1.png").read_bytes() == b"not really a picture"
    assert (out / "result-2.html").read_text() == "<b>x</b>"
    assert json.loads((out / "result-3.json").read_text()) == {"a": 1}
    assert "image/png 20 B → out/result-1.png\n" in done.stderr
    assert done.stdout.endswith("2\n")


def test_an_image_without_out_gets_a_hint(belljar: Run) -> None:
    done = belljar("run", "-c", IMAGE + "open('f', 'w').close()")
    assert "image/png 20 B not kept (--out DIR saves it)\n" in done.stderr
    assert "not kept: f (--out DIR saves files)" in done.stderr
    assert done.stdout == ""


def test_names_cannot_lead_out_or_clash(belljar: Run, tmp_path: Path) -> None:
    outside, out = tmp_path / "outside", tmp_path / "out"
    outside.mkdir()
    out.mkdir()
    (out / "link").symlink_to(outside)
    (out / "file").symlink_to(outside / "target")
    (outside / "target").write_text("mine")
    code = IMAGE + (
        "import os\nos.mkdir('link')\nopen('link/x', 'w').write('x')\nopen('file', 'w').write('theirs')\n"
        "open('result-1.png', 'w').write('clash')\nopen('a\\nb', 'w').write('1')\nopen('a\\tb', 'w').write('2')\n"
        "open(b'a\\xffb', 'w').write('3')\nos.symlink('/etc/passwd', 'passwd')\nNone"
    )
    done = belljar("run", "--out", "out", "--overwrite", "-c", code)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in outside.iterdir()) == ["target"]
    assert (outside / "target").read_text() == "mine"
    assert "link/x" not in {str(path.relative_to(out)) for path in out.rglob("*")}
    assert (out / "file").read_text() == "theirs"
    assert not (out / "file").is_symlink()
    assert {path.name for path in out.glob("a_b*")} == {"a_b", "a_b-2", "a_b-3"}
    assert (out / "result-1.png").read_bytes() == b"not really a picture"
    assert (out / "result-1-2.png").read_text() == "clash"
    assert not (out / "passwd").exists()
    assert "not saved" in done.stderr


def test_sparse_files_do_not_fill_the_host(belljar: Run, tmp_path: Path) -> None:
    code = "for i in range(4):\n  with open(f'{i}.bin', 'wb') as f: f.truncate(700_000)"
    done = belljar("run", "--out", "out", "--files-bytes", "1M", "-c", code)
    assert len(list((tmp_path / "out").iterdir())) == 1
    assert done.stderr.count("not saved: the files are over --files-bytes") == 3


# --- one JSON object --------------------------------------------------------------------------------------------------

FIELDS = {
    "outcome": str,
    "exit_code": int,
    "stdout": str,
    "stderr": str,
    "text": str | None,
    "results": list,
    "error": dict | None,
    "files": list,
    "saved": list,
    "duration": float,
    "stdout_bytes": int,
    "stderr_bytes": int,
    "image": str,
    "profile": str,
    "limits": dict,
    "warnings": list,
}
JSON_CASES = {
    "ok": ("print(1)\nprint(2, file=__import__('sys').stderr)\n{'a': 1}", 0),
    "error": ("open('f.txt', 'w').write('x')\n1/0", 1),
    "timeout": ("while True: pass", 124),
    "killed": ("import ctypes; ctypes.string_at(0)", 137),
}


@pytest.mark.parametrize("outcome", JSON_CASES)
def test_json(belljar: Run, outcome: str) -> None:
    code, expected = JSON_CASES[outcome]
    done = belljar("run", "--json", "--timeout", "1", "-c", code)
    assert done.stderr == ""
    assert done.returncode == expected
    found = json.loads(done.stdout)
    assert found.keys() == FIELDS.keys()
    for name, kind in FIELDS.items():
        assert isinstance(found[name], kind), name
    assert (found["outcome"], found["exit_code"]) == (outcome, expected)
    if outcome == "ok":
        assert (found["stdout"], found["stderr"], found["text"]) == ("1\n", "2\n", "{'a': 1}")
        assert found["results"] == [{"main": True, "data": {"text/plain": "{'a': 1}"}}]
        assert found["error"] is None
        assert found["limits"]["timeout"] == 1.0
    else:
        assert found["error"].keys() == {"name", "value", "traceback"}
    if outcome == "error":
        assert [(file["path"], file["size"]) for file in found["files"]] == [("f.txt", 1)]


def test_json_has_bytes_in_base64_and_what_was_saved(belljar: Run) -> None:
    done = belljar("run", "--json", "--out", "out", "-c", IMAGE)
    found = json.loads(done.stdout)
    data = found["results"][0]["data"]
    assert base64.b64decode(data["image/png"]) == b"not really a picture"
    assert found["saved"] == [{"kind": "image/png", "size": 20, "path": "out/result-1.png", "reason": ""}]


# What the guest's own code would never send: the code writes to its socket itself.
HOSTILE = r"""
import os, struct
text = '{"op": "result", "id": 2, "main": true, "text": {%s}, "json": {%s}, "blobs": []}'.encode()
os.write(3, struct.pack(">II", len(text), 0) + text)
None
"""
HOSTILE_VALUES = {"no number": "[NaN, 1e999, -Infinity]", "an object": '{"a": [NaN]}'}


def hostile(value: str) -> str:
    return HOSTILE % (r'"text/html": "\\ud800"', f'"application/json": {value}')


@pytest.mark.parametrize("case", HOSTILE_VALUES)
def test_json_is_json_whatever_the_code_sends(belljar: Run, tmp_path: Path, case: str) -> None:
    done = belljar("run", "--json", "--out", "out", "-c", hostile(HOSTILE_VALUES[case]))
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout, parse_constant=pytest.fail)["results"][0]["data"]
    saved = json.loads((tmp_path / "out/result-1.json").read_text(), parse_constant=pytest.fail)
    assert saved == result["application/json"]
    assert (tmp_path / "out/result-1.html").read_text() == r"\ud800"
    assert (tmp_path / "out/result-1.json").stat().st_size < 2000
    if case == "no number":
        assert saved == [None, None, None]


@pytest.mark.parametrize("value", ['"text/plain": [5]', '"application/json": ' + "[" * 900 + "]" * 900])
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_result_of_a_wrong_shape_is_the_end(belljar: Run, options: tuple[str, ...], value: str) -> None:
    done = belljar("run", *options, "-c", HOSTILE % ("", value))
    assert done.returncode == 137, done.stderr
    if options:
        assert json.loads(done.stdout)["outcome"] == "killed"


# --- limits -----------------------------------------------------------------------------------------------------------


def test_every_limit_arrives(belljar: Run) -> None:
    options = [
        "--timeout",
        "9",
        "--memory",
        "1.5G",
        "--processes",
        "33",
        "--cpus",
        "0.5",
        "--files-bytes",
        "5M",
        "--files-count",
        "77",
        "--output-bytes",
        "64K",
        "--results-bytes",
        "1000000",
        "--descriptors",
        "99",
    ]
    code = "import os, resource; print(os.statvfs('.').f_files, resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    found = json.loads(belljar("run", "--json", *options, "-c", code).stdout)
    assert found["limits"] == {
        "timeout": 9.0,
        "memory": 3 << 29,
        "processes": 33,
        "cpus": 0.5,
        "files_bytes": 5 << 20,
        "files_count": 77,
        "output_bytes": 64 << 10,
        "results_bytes": 1_000_000,
        "descriptors": 99,
    }
    assert found["stdout"] == "77 99\n"


# --- signals and pipes ------------------------------------------------------------------------------------------------

WAIT = "import time\nprint('ready')\n"
INTERRUPTS = {
    "once": (WAIT + "time.sleep(50)", [signal.SIGINT], 130),
    "twice, as it resists": (
        "import time\nwhile True:\n  try: print('ready'); time.sleep(50)\n  except BaseException: print('no')",
        [signal.SIGINT, signal.SIGINT],
        130,
    ),
    "once, and the code copes": (
        "try:\n  import time; print('ready'); time.sleep(50)\nexcept KeyboardInterrupt: print('fine')",
        [signal.SIGINT],
        0,
    ),
    "terminated": (WAIT + "time.sleep(50)", [signal.SIGTERM], 143),
}


@pytest.mark.parametrize("case", INTERRUPTS)
def test_signals(start: Start, case: str) -> None:
    code, signals, expected = INTERRUPTS[case]
    process = start("run", "-c", code)
    assert process.stdout is not None
    for number in signals:
        assert process.stdout.readline() in ("ready\n", "no\n")
        process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == expected, err
    assert ("KeyboardInterrupt" in err) == (case == "once")
    if case == "once, and the code copes":
        assert out == "fine\n"


def test_a_reader_that_goes_ends_it_quietly(start: Start) -> None:
    process = start("run", "--timeout", "50", "-c", "while True: print('x' * 100)")
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.wait(30) == 141


async def test_a_slow_reader_does_not_stop_the_loop() -> None:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    task = asyncio.create_task(output.write_bytes(writer, b"x" * 300_000))
    got = 0
    while not task.done() or got < 300_000:
        await asyncio.sleep(0)  # it would never return here, were the write a blocking one
        with suppress(BlockingIOError):
            got += len(os.read(reader, 1 << 20))
    assert got == 300_000
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        await output.write_bytes(writer, b"x")
    os.close(writer)


def test_a_terminal_is_not_at_the_mercy_of_the_code(start: Start) -> None:
    ours, theirs = os.openpty()
    process = start("run", "-c", r"print('\x1b[31mred\x1b]0;title\x07')", stdout=theirs)
    os.close(theirs)
    assert process.wait(30) == 0
    assert os.read(ours, 1000) == b"\x1b[31mred\\x1b]0;title\\x07\r\n"
    os.close(ours)


def test_closed_descriptors_are_no_trouble(belljar: Run, tmp_path: Path) -> None:
    done = belljar(
        "run",
        "--out",
        "out",
        "-c",
        "print(1)\nopen('f', 'w').write('x')",
        under=("/bin/sh", "-c", '"$@" >&- 2>&-', "sh"),
    )
    assert done.returncode == 0
    assert (tmp_path / "out/f").read_text() == "x"
