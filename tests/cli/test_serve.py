"""`belljar serve` as its users have it: options, refusals, what it says, and a real answer from belljar/verbatim."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import pytest

from belljar.cli import main
from belljar.cli.fields import Natural, field_options, take_fields
from belljar.cli.serve import BUDGET_NAMES
from belljar.cli.sources import read_sources
from belljar.loop import Budget
from belljar.sandbox import cgroup
from belljar.server.settings import LOG_LEVELS, Keep, Settings, Stock

from .conftest import Run

QUICK = ("--port", "0", "--ready", "1", "--zygotes", "1")
NO_UPSTREAM = "http://127.0.0.1:9/v1"  # discard: nobody listens there, and it keeps discovery away
Start = Callable[..., subprocess.Popen[str]]


# --- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cls", "names"), [(Settings, {}), (Stock, {}), (Budget, BUDGET_NAMES), (Keep, {})])
def test_every_setting_is_one_option_of_the_same_default(cls: Any, names: dict[str, str]) -> None:
    @click.command()
    @field_options(cls, names)
    def command(**options: object) -> None:
        found.update(options)

    found: dict[str, Any] = {}
    command.main([], standalone_mode=False)
    settable = [each for each in fields(cls) if "help" in each.metadata]
    assert [option.name for option in command.params] == [names.get(each.name, each.name) for each in settable]
    assert take_fields(cls, found, names) == cls()
    assert not found


def test_no_option_exists_twice() -> None:
    command = main.belljar.get_command(click.Context(main.belljar), "serve")
    assert command is not None
    flags = [flag for option in command.params for flag in option.opts]
    assert len(flags) == len(set(flags))
    assert all(option.help for option in command.params if isinstance(option, click.Option))


@pytest.mark.parametrize("text", ["-1", "nan", "inf", "x", "", "4000001"])
def test_no_natural_number(text: str) -> None:
    with pytest.raises(click.BadParameter):
        Natural(float).convert(text, None, None)
    assert Natural(int).convert("0", None, None) == 0


# words -> what is said
REFUSED = {
    "an open address": (("--host", "0.0.0.0"), r"--host: 0\.0\.0\.0 can be reached by others"),
    "any page": (("--cors-origin", "*"), r"--cors-origin: \* lets any web page run code"),
    "no origin": (("--cors-origin", "example.org"), "--cors-origin: .* is no origin"),
    "no port": (("--port", "70000"), "--port: 70000 is no port"),
    "no size": (("--max-body", "big"), "--max-body.*is no size"),
    "no number": (("--heartbeat", "0"), "--heartbeat.*is no number"),
    "no level": (("--log-level", "loud"), ", ".join(f"'{level}'" for level in LOG_LEVELS)),
    "no URL": (("--upstream", "nonsense"), "nonsense.* is no URL"),
    "no map": (("--map", "a"), "'a' is no NAME=MODEL"),
    "a key without an upstream": (("--upstream-key", "k"), "--upstream-key: it is for --upstream"),
    "a limit of the sandbox": (("--memory", "1"), "--memory"),
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Run a command line in this process: its exit code and what it said."""
    for name in list(os.environ):
        if name.startswith("BELLJAR_") and name != "BELLJAR_HOME":
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "no-config"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("belljar.cli.serve.logs.configure", lambda form, level: None)
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str]:
        code = main.main(words)
        out, err = capfd.readouterr()
        assert out == ""
        return code, " ".join(err.split())

    return run


@pytest.mark.parametrize("case", REFUSED)
def test_refused(here: Callable[..., Any], case: str) -> None:
    words, said = REFUSED[case]
    code, err = here("serve", *words)
    assert code == 2
    assert re.search(said, err), err


def test_a_port_that_is_taken(here: Callable[..., Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        code, err = here("serve", "--port", str(port), "--upstream", NO_UPSTREAM)
    assert (code, err) == (3, f"belljar: cannot listen at 127.0.0.1:{port}: Address already in use")


def test_keys_that_cannot_be_read(here: Callable[..., Any]) -> None:
    code, err = here("serve", "--api-keys-file", "none", "--upstream", NO_UPSTREAM)
    assert code == 3
    assert err.startswith("belljar: API keys: none cannot be read")


def test_an_image_that_is_not_there(belljar: Run) -> None:
    done = belljar("serve", *QUICK, "--image", "missing", "--upstream", NO_UPSTREAM)
    assert done.returncode == 3
    assert "missing" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


# --- the configuration ------------------------------------------------------------------------------------------------

TABLES = """
[serve]
port = 9
max-calls = 3
api-key = ["k"]

[upstreams.local]
url = "http://127.0.0.1:9/v1"

[models."groq/compound"]
upstream = "local"
model = "m"
"""


def test_the_configuration_has_tables_of_upstreams_and_models(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text(TABLES)
    ctx = main.belljar.make_context("belljar", ["--config", str(file), "serve"], resilient_parsing=False)
    assert set(ctx.obj) == {"upstreams", "models"}
    assert ctx.default_map == {"serve": {"port": 9, "max_calls": 3, "api_key": ["k"]}}
    sources = read_sources(["http://127.0.0.1:10/v1"], "k", ["a=b"], ctx.obj, {})
    assert [upstream.url for upstream in sources.upstreams] == ["http://127.0.0.1:10/v1", "http://127.0.0.1:9/v1"]
    assert [(model.id, model.model) for model in sources.models] == [("a", "b"), ("groq/compound", "m")]


WRONG_TABLES = {
    'upstreams = "x"\n': "unknown key upstreams",
    "[upstream.x]\n": "unknown key upstream",
    '[upstreams.x]\nurl = "http://127.0.0.1:9/v1"\nkez = "k"\n': "kez",
    "[upstreams.x]\n": "url",
    "[models.a]\nmodel = 3\n": "model",
    "[serve]\nupstreams = 1\n": "unknown key serve.upstreams",
}


@pytest.mark.parametrize("text", WRONG_TABLES)
def test_wrong_tables(here: Callable[..., Any], tmp_path: Path, text: str) -> None:
    (tmp_path / "c.toml").write_text(text)
    code, err = here("--config", "c.toml", "serve")
    assert code == 2
    assert WRONG_TABLES[text] in err


# --- running ----------------------------------------------------------------------------------------------------------


class Serving:
    """A server that was started, and what it says on standard error."""

    def __init__(self, start: Start, folder: Path, *words: str) -> None:
        self._said = folder / "stderr"
        with self._said.open("wb") as stderr:
            self.process = start("serve", *QUICK, "--upstream", NO_UPSTREAM, *words, stderr=stderr)
        wait_for(lambda: self.process.poll() is not None or "serving" in self.said or "base URLs" in self.said)
        found = re.search(r"http://127\.0\.0\.1:\d+(?=[\"\n])", self.said)
        assert found, self.said
        self.url = found[0]

    @property
    def said(self) -> str:
        return self._said.read_text()

    def end(self, number: int) -> str:
        """Stop it; what it wrote to standard output."""
        self.process.send_signal(number)
        out, _ = self.process.communicate(timeout=15)
        return str(out)


def ask(url: str, body: Any, key: str = "") -> Any:
    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
    with urllib.request.urlopen(
        urllib.request.Request(f"{url}/v1/chat/completions", json.dumps(body).encode(), headers), timeout=30
    ) as response:
        return json.loads(response.read())


VERBATIM = {
    "model": "belljar/verbatim",
    "messages": [{"role": "user", "content": "```python\nprint(6 * 7)\n```"}],
    "tools": [{"type": "code_interpreter"}],
}


def test_it_says_what_it_is(start: Start, tmp_path: Path) -> None:
    serving = Serving(start, tmp_path, "--upstream-key", "hush-hush", "--api-key", "secret")
    url = serving.url
    with pytest.raises(urllib.error.HTTPError, match="401") as refused:
        ask(url, VERBATIM)
    refused.value.close()
    assert ask(url, VERBATIM, "secret")["choices"]
    assert serving.end(signal.SIGINT) == ""
    assert serving.process.returncode == 0
    assert re.search(rf"belljar \S+ serves at {url}\n", serving.said)
    for said in (f"{url}/v1", "API keys: 1", "127.0.0.1:9", "belljar/verbatim", "profile full", "status=401"):
        assert said in serving.said
    for secret in ("hush", "secret", "6 * 7"):
        assert secret not in serving.said


def test_a_signal_under_load_ends_all_of_it(start: Start, tmp_path: Path, scratch: Path) -> None:
    """One client that is served, and eight with code that runs for a minute: all are told, and nothing is left."""
    words = ("--grace", "0.5", "--heartbeat", "0.2", "--cpus", "0.2", "--log-format", "json")
    serving = Serving(start, tmp_path, *words)
    url, pid = serving.url, serving.process.pid
    answer = ask(url, VERBATIM)
    assert "42" in answer["choices"][0]["message"]["content"]
    assert answer["choices"][0]["message"]["executed_tools"]

    body = VERBATIM | {"messages": [{"role": "user", "content": "```python\nimport time; time.sleep(60)\n```"}]}
    answers: list[bytes] = []

    def client(stream: bool) -> None:
        answers.append(post(url, body | {"stream": stream}))

    threads = [threading.Thread(target=client, args=(bool(index % 2),)) for index in range(8)]
    for thread in threads:
        thread.start()
    wait_for(lambda: b'belljar_sandboxes{state="in_use"} 8.0' in get(f"{url}/metrics"))
    mark, family = cgroup.process_mark(pid), children(pid)
    assert family
    begun = time.monotonic()
    assert serving.end(signal.SIGTERM) == ""
    assert time.monotonic() - begun < 10
    assert serving.process.returncode == 0
    for thread in threads:
        thread.join(timeout=5)
    assert len(answers) == 8
    assert all(b"the server is stopping" in answer for answer in answers), answers
    records = [json.loads(line) for line in serving.said.splitlines()]
    outcomes = [record["outcome"] for record in records if record["message"] == "request"]
    assert sorted(outcomes) == ["ok"] + 8 * ["shutting_down"]
    assert [left for left in family if Path(f"/proc/{left}").exists()] == []
    assert groups_of(mark) == []
    assert [entry.name for entry in scratch.iterdir()] == ["kept"]  # the store, which is to stay


def post(url: str, body: Any) -> bytes:
    """What comes back, whatever it is."""
    request = urllib.request.Request(f"{url}/v1/chat/completions", json.dumps(body).encode())
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return bytes(response.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.read()


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=30) as response:
        return bytes(response.read())


def wait_for(true: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def groups_of(mark: str) -> list[Path]:
    """The cgroups of a server, by its mark."""
    place, _ = cgroup.find_place()
    parents = {folder.parent for folder in place.distinct} if place is not None else set()
    return [folder for parent in parents for folder in parent.glob(f"{cgroup.PREFIX}{mark}*")]


def children(pid: int) -> list[int]:
    """All descendants."""
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):  # noqa: PTH208
        if entry.isdigit():
            try:
                stat = Path(f"/proc/{entry}/stat").read_text()
            except OSError:
                continue
            parents[int(entry)] = int(stat.rpartition(")")[2].split()[1])
    found = [pid]
    for each in found:
        found += [child for child, parent in parents.items() if parent == each]
    return found[1:]
