"""`belljar ask`: a question in, an answer and everything on the way out; with `belljar/verbatim`, so that no model is
needed, here and at a server.
"""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import click
import pytest

from belljar.cli import main
from belljar.cli.ask import EXITS
from belljar.cli.serve import EXITS as SERVE_EXITS
from belljar.sandbox.base import Limits
from belljar.scripted.scripts import calls_made, fails, plain, python
from belljar.scripted.turns import Turn
from belljar.upstream.settings import ModelSettings
from servers import Belljar, start_belljar

from .test_ask_view import FIELDS

Start = Callable[..., "subprocess.Popen[str]"]

KEY = "sesame"


def coder(body: Any) -> Turn:
    """A model that thinks, runs code, and answers."""
    return plain("It is 42.") if calls_made(body) else python("print(6 * 7)", reasoning="Let me compute.")


SCRIPT = {
    "text-embedding": plain("no model to chat with"),
    "coder": coder,
    "gpt-4o": plain("I see."),
    "refuses": fails(400, "not like that"),
    "busy": fails(429, "out of order"),
}
VERBATIM = ("--model", "belljar/verbatim")
PLOT = (
    "```python\nfrom IPython.display import Image, display\n"
    "display(Image(data=b'not really a picture', format='png'))\nprint(open('a b.csv').read())\n"
    "open('new.txt', 'w').write('made')\n```"
)


@dataclass(frozen=True)
class Done:
    """What came of a command line."""

    returncode: int
    stdout: str
    stderr: str


Asked = Callable[..., Done]


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Asked]:
    """`belljar ask` in this process, which is quicker; in a folder and an environment of the test's own."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("BELLJAR_") and name != "BELLJAR_HOME"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "no-config"))
    monkeypatch.setenv("COLUMNS", "100")
    level = logging.getLogger("belljar").level

    def run(*arguments: str, stdin: str = "", env: dict[str, str] | None = None) -> Done:
        capfd.readouterr()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
            for name, value in (env or {}).items():
                patch.setenv(name, value)
            code = main.main(["ask", *arguments])
        return Done(code, *capfd.readouterr())

    yield run
    logging.getLogger("belljar").setLevel(level)


@pytest.fixture(scope="module")
def server() -> Iterator[Belljar]:
    systems = [ModelSettings(id="groq/compound", model="belljar/verbatim")]
    with start_belljar(SCRIPT, models=systems, settings={"api_key": (KEY,)}) as belljar:
        yield belljar


@pytest.fixture
def at_server(ask: Asked, server: Belljar) -> Asked:
    def run(*arguments: str, key: str = KEY) -> Done:
        return ask("--server", server.url, *arguments, env={"BELLJAR_ASK_API_KEY": key})

    return run


@pytest.fixture
def at_upstream(ask: Asked, server: Belljar) -> Asked:
    def run(*arguments: str) -> Done:
        return ask("--upstream", server.upstream.url, *arguments)

    return run


# --- here -------------------------------------------------------------------------------------------------------------


def test_answer_and_all_that_led_to_it_are_apart(ask: Asked) -> None:
    done = ask(*VERBATIM, "Run `print(6 * 7)` please")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ">>> print(6 * 7)\n42\n"
    assert "42" in done.stdout
    assert "no language model" in done.stdout


def test_the_question_from_standard_input(ask: Asked) -> None:
    done = ask(*VERBATIM, "-", stdin="```python\nprint('ä')\n```")
    assert ">>> print('ä')\nä\n" in done.stderr, done.stderr


def test_code_that_raises_is_answered(ask: Asked) -> None:
    done = ask(*VERBATIM, "`1/0`")
    assert done.returncode == 0
    assert done.stderr.startswith(">>> 1/0\nTraceback")
    assert "ZeroDivisionError" in done.stdout


def test_executions_share_a_session_and_can_be_bounded(ask: Asked) -> None:
    question = "```python\nx = 6\n```\n\n```python\nprint(x * 7)\n```"
    done = ask(*VERBATIM, question)
    assert done.stderr == ">>> x = 6\n\n>>> print(x * 7)\n42\n"
    done = ask(*VERBATIM, question, "--max-calls", "1")
    assert done.returncode == 0
    assert done.stderr == ">>> x = 6\n"


def test_files_in_and_out(ask: Asked, tmp_path: Path) -> None:
    (tmp_path / "a b.csv").write_text("1,2")
    done = ask(*VERBATIM, PLOT, "--file", "a b.csv", "--out", "res")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "res/result-1.png").read_bytes() == b"not really a picture"
    assert (tmp_path / "res/new.txt").read_text() == "made"
    assert sorted(path.name for path in (tmp_path / "res").iterdir()) == ["new.txt", "result-1.png"]
    for line in ("1,2", "image/png 20 B → res/result-1.png", "file 4 B → res/new.txt"):
        assert line in done.stderr.splitlines()


def test_what_is_not_kept_is_said(ask: Asked, tmp_path: Path) -> None:
    (tmp_path / "a b.csv").write_text("1,2")
    done = ask(*VERBATIM, PLOT, "--file", "a b.csv")
    assert "image/png 20 B not kept (--out DIR saves it)\n" in done.stderr
    assert "not kept: new.txt (--out DIR saves files)" in done.stderr


def test_files_are_as_they_are_in_the_end(ask: Asked, tmp_path: Path) -> None:
    codes = (
        "open('a', 'w').write('1'); open('b', 'w').write('1')",
        "import os; os.remove('a'); open('b', 'w').write('2')",
    )
    done = ask(*VERBATIM, "\n\n".join(f"```python\n{code}\n```" for code in codes), "--out", "res")
    assert [path.name for path in (tmp_path / "res").iterdir()] == ["b"], done.stderr
    assert (tmp_path / "res/b").read_text() == "2"


def test_files_of_an_interpreter_that_ended_are_kept(ask: Asked, tmp_path: Path) -> None:
    codes = ("import os; f = open('a', 'w'); f.write('1'); f.close(); os._exit(1)", "open('b', 'w').write('2')")
    done = ask(*VERBATIM, "\n\n".join(f"```python\n{code}\n```" for code in codes), "--out", "res")
    assert sorted(path.name for path in (tmp_path / "res").iterdir()) == ["a", "b"], done.stderr


def test_no_code(ask: Asked) -> None:
    done = ask(*VERBATIM, "`print(1)`", "--no-code", "--image", "no-such")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "code_interpreter" in done.stdout


def test_one_object(ask: Asked, tmp_path: Path) -> None:
    done = ask(*VERBATIM, "```python\nprint(1)\nopen('f', 'w').write('x')\n1/0\n```", "--json", "--out", "res")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert found.keys() == FIELDS
    assert (found["model"], found["finish"], found["error"]) == ("belljar/verbatim", "stop", None)
    assert "ZeroDivisionError" in found["text"]
    (call,) = found["calls"]
    assert call["code"].startswith("print(1)\n")
    assert (call["outcome"], call["stdout"], call["error"]["name"]) == ("error", "1\n", "ZeroDivisionError")
    assert [item["path"] for item in found["saved"]] == ["res/f"]
    assert found["usage"]["completion_tokens"] > 0


# options, standard input -> exit code, a word of standard error
REFUSED: dict[str, tuple[tuple[str, ...], int, str]] = {
    "no question": ((), 2, "QUESTION"),
    "an empty question": ((*VERBATIM, "  "), 2, "empty"),
    "standard input without a word": ((*VERBATIM, "-"), 2, "empty"),
    "no such model": (("--upstream", "http://127.0.0.1:9", "--model", "nobody", "x"), 1, "127.0.0.1:9"),
    "an upstream that is not there": (("--upstream", "http://127.0.0.1:9", "x"), 1, "127.0.0.1:9"),
    "a server that is not there": (("--server", "http://127.0.0.1:9", "x"), 1, "127.0.0.1:9"),
    "no URL": (("--upstream", "nowhere", "x"), 2, "nowhere"),
    "a key without an upstream": (("--upstream-key", "K", "x"), 2, "--upstream"),
    "no image": ((*VERBATIM, "--image", "no-such", "x"), 3, "belljar image build no-such"),
    "no such file": ((*VERBATIM, "--file", "no-such", "x"), 2, "no-such"),
    "out is not empty": ((*VERBATIM, "--out", ".", "x"), 2, "--overwrite"),
    "a sandbox at a server": (("--server", "http://127.0.0.1:9", "--memory", "1G", "x"), 2, "--memory is the server's"),
    "calls at a server": (("--server", "http://127.0.0.1:9", "--max-calls", "1", "x"), 2, "--max-calls"),
    "an upstream at a server": (("--server", "http://x", "--upstream", "http://y", "x"), 2, "--upstream is the"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_exit_code(ask: Asked, tmp_path: Path, case: str) -> None:
    options, code, words = REFUSED[case]
    (tmp_path / "something").touch()
    done = ask(*options)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_failure_is_in_the_object_too(ask: Asked) -> None:
    done = ask("--upstream", "http://127.0.0.1:9", "--model", "m", "--no-code", "--json", "x")
    assert done.returncode == 1
    assert done.stderr.startswith("belljar: ")
    assert len(done.stderr.splitlines()) == 1
    assert json.loads(done.stdout)["error"] in done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_everything(start: Start, number: int, code: int) -> None:
    process = start("ask", *VERBATIM, "```python\nimport time\nprint('ready')\ntime.sleep(60)\n```")
    assert process.stderr is not None
    while process.stderr.readline() != "ready\n":
        assert process.poll() is None
    children = descendants(process.pid)
    assert children
    process.send_signal(number)
    assert process.wait(10) == code
    deadline = time.monotonic() + 5
    while any(Path(f"/proc/{pid}").exists() for pid in children):
        assert time.monotonic() < deadline, "processes were left behind"
        time.sleep(0.02)
    assert process.stdout is not None
    assert process.stdout.read() == ""
    assert "Traceback" not in process.stderr.read()


def descendants(pid: int) -> list[int]:
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found = [pid]
    for parent in found:
        found += [child for child, of in parents.items() if of == parent]
    return found[1:]


def test_a_reader_that_goes_away(start: Start) -> None:
    process = start("ask", *VERBATIM, "```python\nprint('x' * 100)\n```")
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    assert process.wait(30) == 141


def test_a_key_is_never_shown(ask: Asked) -> None:
    for options in (("--upstream", "http://127.0.0.1:9"), ("--server", "http://127.0.0.1:9")):
        key = (
            {"BELLJAR_ASK_UPSTREAM_KEY": "sesame"} if options[0] == "--upstream" else {"BELLJAR_ASK_API_KEY": "sesame"}
        )
        done = ask(*options, "--model", "m", "--no-code", "x", env=key)
        assert done.returncode == 1
        assert "sesame" not in done.stdout + done.stderr


# --- with a model -----------------------------------------------------------------------------------------------------

ALL_OF_IT = "Let me compute.\n\n>>> print(6 * 7)\n42\n"


@pytest.mark.xdist_group("ask-server")
class TestWithAModel:
    def test_the_first_that_can_chat_is_asked(self, at_upstream: Asked, server: Belljar) -> None:
        done = at_upstream("--system", "Be brief.", "What is 6 * 7?")
        assert (done.returncode, done.stdout) == (0, "It is 42.\n"), done.stderr
        assert done.stderr == f"belljar: asking coder\n\n{ALL_OF_IT}"
        messages = server.upstream.requests[-1].body["messages"]
        assert messages[0]["content"].startswith("Be brief.")
        assert server.upstream.requests[-1].body["stream"] is True

    @pytest.mark.parametrize("place", ["here", "there"])
    def test_without_streaming(self, at_upstream: Asked, at_server: Asked, server: Belljar, place: str) -> None:
        asked = at_upstream if place == "here" else at_server
        done = asked("--model", "coder", "--no-stream", "What is 6 * 7?")
        assert (done.stdout, done.stderr) == ("It is 42.\n", ALL_OF_IT)
        assert not server.upstream.requests[-1].body.get("stream")

    def test_at_a_server(self, at_server: Asked) -> None:
        done = at_server("What is 6 * 7?")
        assert (done.stdout, done.stderr) == ("It is 42.\n", f"belljar: asking coder\n\n{ALL_OF_IT}")

    def test_a_file_is_named_to_the_model(self, at_upstream: Asked, server: Belljar, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text("1,2")
        at_upstream("--model", "coder", "--file", "a.csv=b.csv", "x")
        assert "/mnt/data/b.csv (text/csv, 3 bytes)" in json.dumps(server.upstream.requests[-1].body["messages"])

    def test_a_file_without_code_is_in_the_question(self, at_upstream: Asked, server: Belljar, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text("1,2")
        at_upstream("--model", "coder", "--no-code", "--file", "a.csv", "x")
        assert "1,2" in json.dumps(server.upstream.requests[-1].body["messages"])
        assert "tools" not in server.upstream.requests[-1].body

    @pytest.mark.parametrize("code", [(), ("--no-code",)])
    @pytest.mark.parametrize("place", ["here", "there"])
    def test_a_picture_is_shown_to_a_model_that_sees(
        self, at_upstream: Asked, at_server: Asked, server: Belljar, tmp_path: Path, place: str, code: tuple[str, ...]
    ) -> None:
        (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n picture")
        asked = at_upstream if place == "here" else at_server
        done = asked("--model", "gpt-4o", "--file", "a.png", *code, "x")
        assert done.returncode == 0, done.stderr
        sent = json.dumps(server.upstream.requests[-1].body["messages"])
        assert sent.count("data:image/png;base64,iVBORw0KGgo") == 1
        name = "a.png" if place == "here" else "image-1.png"
        assert (f"/mnt/data/{name}" in sent) is (not code)

    @pytest.mark.parametrize("place", ["here", "there"])
    def test_a_model_that_fails(self, at_upstream: Asked, at_server: Asked, place: str) -> None:
        asked = at_upstream if place == "here" else at_server
        for model, code, words in (("refuses", 2, "not like that"), ("busy", 1, "out of order")):
            done = asked("--model", model, "x")
            assert (done.returncode, done.stdout) == (code, "")
            assert words in done.stderr
            assert len(done.stderr.splitlines()) == 1


# --- at a server ------------------------------------------------------------------------------------------------------


@pytest.mark.xdist_group("ask-server")
class TestAtServer:
    @pytest.mark.parametrize("stream", ["--stream", "--no-stream"])
    @pytest.mark.parametrize("model", ["belljar/verbatim", "groq/compound"])
    def test_the_same_as_here(self, at_server: Asked, ask: Asked, model: str, stream: str) -> None:
        question = "```python\nprint(6 * 7)\n1/0\n```"
        there = at_server("--model", model, stream, question)
        assert there.returncode == 0, there.stderr
        here = ask(*VERBATIM, question)
        assert there.stdout == here.stdout
        assert there.stderr == here.stderr

    def test_files_and_plots(self, at_server: Asked, tmp_path: Path) -> None:
        (tmp_path / "a b.csv").write_text("1,2")
        done = at_server(*VERBATIM, "--file", "a b.csv", "--out", "res", PLOT.replace("a b", "a_b"))
        assert (tmp_path / "res/result-1.png").read_bytes() == b"not really a picture", done.stderr
        assert "1,2" in done.stdout

    def test_one_object(self, at_server: Asked) -> None:
        found = json.loads(at_server(*VERBATIM, "--json", "`print(6 * 7)`").stdout)
        assert found.keys() == FIELDS
        (call,) = found["calls"]
        assert (call["code"], call["outcome"], call["stdout"]) == ("print(6 * 7)", None, "42")
        assert found["usage"]["completion_tokens"] > 0

    def test_no_code(self, at_server: Asked) -> None:
        for model in ("belljar/verbatim", "groq/compound"):
            done = at_server("--model", model, "--no-code", "`print(6 * 7)`")
            assert (done.returncode, done.stderr) == (0, "")
            assert "code_interpreter" in done.stdout

    def test_what_is_refused(self, at_server: Asked) -> None:
        unknown = at_server("--model", "nobody", "x")
        assert (unknown.returncode, "nobody" in unknown.stderr) == (2, True)
        no_key = at_server(*VERBATIM, "x", key="wrong")
        assert no_key.returncode == 2
        assert "wrong" not in no_key.stderr


# --- documentation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "exits"), [("ask", EXITS), ("serve", SERVE_EXITS)])
def test_the_documentation_names_everything(name: str, exits: dict[int, str]) -> None:
    text = (Path(__file__).resolve().parents[2] / "docs/cli.md").read_text()
    section = text.partition(f"\n## belljar {name}\n")[2].partition("\n## ")[0]
    command = main.belljar.get_command(click.Context(main.belljar), name)
    assert command is not None
    sandbox = {"profile", "image", *(limit.name for limit in fields(Limits))}
    options = [option for option in command.params if isinstance(option, click.Option) and option.name not in sandbox]
    for option in options:
        assert f"`{option.opts[-1]}" in section, option.opts
    for code, meaning in exits.items():
        assert f"| {int(code)} | {meaning} |" in section
    if name == "ask":
        for field in FIELDS:
            assert f"| `{field}` |" in section
