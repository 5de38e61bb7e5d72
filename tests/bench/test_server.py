"""`belljar bench server`: its contestants, the targets' logic, the report, small real runs.

No figure of a real run is judged.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from belljar.bench import machine
from belljar.bench.server import Report, Row, Settings, Tally, measure, plan
from belljar.bench.server_contestants import (
    BACK_TO_BACK,
    BELLJAR,
    CODED,
    CONTESTANTS,
    DIALECTS,
    DIRECT,
    PACE_SECONDS,
    RELAY,
    SECTIONS,
    TARGETS,
    TURNS,
)
from belljar.bench.server_load import Result
from belljar.bench.server_processes import serving
from belljar.bench.server_report import as_json, as_text
from belljar.bench.stats import Summary, summarise
from belljar.errors import HostError, ImageError
from belljar.guest.launch import descendants
from belljar.sandbox.image import find_image

# --- rows, targets, report --------------------------------------------------------------------------------------------


def times(p50: float, p99: float | None = None) -> Summary:
    summary = summarise([p50] * 3)
    assert summary is not None
    return replace(summary, p99=p99)


def row(contestant: str, clients: int = 1, *, stream: bool = False, ms: float = 1.0, failed: int = 0) -> Row:
    """A row whose median is so many milliseconds, and half of that to the first token."""
    return Row(
        contestant=contestant,
        clients=clients,
        stream=stream,
        seconds=1.0,
        count=3,
        failed=failed,
        failures={"it burnt": failed} if failed else {},
        per_second=1000 / ms,
        total=times(ms / 1000, p99=ms / 500),
        first=times(ms / 2000) if stream else None,
        cpu_ms=ms / 2,
        client_cpu_ms=0.01,
        machine_cpu_ms=ms,
    )


def report(*rows: Row) -> Report:
    here = machine.Machine(
        cpu="c", cores=2, memory_mib=1, kernel="6", python="3.11", architecture="x", is_root=True, load_average=0.0
    )
    return Report(machine=here, settings=Settings(), rows=list(rows))


PLAIN_NAMES = [dialect.name for dialect in DIALECTS]
CODED_NAMES = [dialect.coded_name for dialect in DIALECTS]
BY_DIALECT = [f"{name}{mode}" for name in PLAIN_NAMES for mode in ("", "_streaming")]
ALL = [
    *(row(name, stream=stream, ms=ms) for stream in (False, True) for name, ms in [(DIRECT, 0.1), (BELLJAR, 0.8)]),
    *(row(name, stream=stream, ms=ms) for stream in (False, True) for name, ms in [(TURNS, 0.2), (CODED, 5.2)]),
    *(row(name, 16, stream=stream, ms=ms) for stream in (False, True) for name, ms in [(RELAY, 2.0), (BELLJAR, 3.2)]),
    row(CODED, 64, stream=True, ms=900),
    *(row(name, stream=stream, ms=1.2) for stream in (False, True) for name in PLAIN_NAMES),
    *(row(name, stream=stream, ms=6.2) for stream in (False, True) for name in CODED_NAMES),
]
MEASURED = {
    "added": 0.7,
    "added_streaming": 0.7,
    "added_first": 0.35,
    "share": 0.625,
    "share_streaming": 0.625,
    "execution": 5.0,
    "execution_streaming": 5.0,
    "many_p99": 1800.0,
    "many_failed": 0.0,
    **dict.fromkeys(BY_DIALECT, 0.4),
}


def values(*rows: Row) -> dict[str, float | None]:
    return {verdict.target.name: verdict.value for verdict in report(*rows).verdicts()}


def test_figures_come_from_their_rows() -> None:
    assert values(*ALL) == pytest.approx(MEASURED)
    assert {verdict.met for verdict in report(*ALL).verdicts()} == {True}
    assert [target.name for target in TARGETS] == list(MEASURED)


# Which target each slower row misses, and which lose their figure when one of its requests fails.
STREAMED = {"added_streaming", "added_first", *(f"{name}_streaming" for name in PLAIN_NAMES)}
MISSES = [
    (row(BELLJAR, ms=1.0), {"added"}, {"added", *PLAIN_NAMES}),
    (row(BELLJAR, stream=True, ms=1.0), {"added_streaming"}, STREAMED),
    (row(BELLJAR, stream=True, ms=1.8), {"added_streaming", "added_first"}, STREAMED),
    (row(BELLJAR, 16, ms=4.1), {"share"}, {"share"}),
    (row(BELLJAR, 16, stream=True, ms=4.1), {"share_streaming"}, {"share_streaming"}),
    (row(CODED, ms=6.3), {"execution"}, {"execution"}),
    (row(CODED, stream=True, ms=6.3), {"execution_streaming"}, {"execution_streaming"}),
    (row(CODED, 64, stream=True, ms=1001), {"many_p99"}, {"many_p99"}),
    *((row(name, ms=1.9), {name}, {name}) for name in PLAIN_NAMES),
    *((row(name, stream=True, ms=1.9), {f"{name}_streaming"}, {f"{name}_streaming"}) for name in PLAIN_NAMES),
    *((row(name, ms=60), set(), set()) for name in CODED_NAMES),  # no target
]


@pytest.mark.parametrize(("slow", "missed", "unjudged"), MISSES)
def test_a_slow_row_misses_its_target_and_a_failure_leaves_none(
    slow: Row, missed: set[str], unjudged: set[str]
) -> None:
    key = (slow.contestant, slow.clients, slow.stream)
    others = [other for other in ALL if (other.contestant, other.clients, other.stream) != key]
    met = {verdict.target.name: verdict.met for verdict in report(*others, slow).verdicts()}
    assert {name for name, value in met.items() if value is False} == missed
    failing = report(*others, replace(slow, failed=1, failures={"it burnt": 1}))
    met = {verdict.target.name: verdict.met for verdict in failing.verdicts()}
    assert {name for name, value in met.items() if value is None} == unjudged
    assert met["many_failed"] is (slow.clients != 64)
    assert "1 times: it burnt" in as_text(failing)


def test_what_was_not_measured_has_no_verdict() -> None:
    assert set(values().values()) == {None}
    assert values(row(BELLJAR))["added"] is None
    assert values(*(replace(each, total=None, first=None, per_second=None, count=0) for each in ALL)) == {
        **dict.fromkeys(MEASURED),
        "many_failed": 0,
    }


def test_a_tally_sums_its_slices() -> None:
    tally = Tally(contestant=CONTESTANTS[0], clients=16, stream=True)
    tally.add(Result(total=[0.1, 0.2], first=[0.05, 0.1], seconds=1.0, cpu_ms=2.0), 4.0, 10.0)
    tally.add(Result(total=[0.3, 0.4], first=[0.2, 0.2], failures={"a": 2}, seconds=1.0, cpu_ms=2.0), 4.0, 10.0)
    tally.add(Result(failures={"a": 1, "b": 1}, seconds=2.0), 0.0, 0.0)
    done = tally.row()
    assert (done.count, done.failed, done.failures, done.seconds) == (4, 4, {"a": 3, "b": 1}, 4.0)
    assert (done.per_second, done.cpu_ms, done.client_cpu_ms, done.machine_cpu_ms) == (1.0, 2.0, 1.0, 5.0)
    assert done.total is not None
    assert done.total.p50 == pytest.approx(0.25)
    empty = Tally(contestant=CONTESTANTS[0], clients=1, stream=False).row()
    assert (empty.per_second, empty.cpu_ms, empty.total, empty.count) == (None, None, None, 0)


def test_contestants_stand_next_to_those_they_are_compared_with() -> None:
    names = [contestant.name for contestant, clients, stream in plan(Settings()) if clients == 1 and not stream]
    assert names == [DIRECT, RELAY, BELLJAR, *PLAIN_NAMES, TURNS, CODED, *CODED_NAMES, BACK_TO_BACK]
    many = [contestant.name for contestant, clients, stream in plan(Settings(clients=(64,))) if stream]
    assert many == [DIRECT, RELAY, BELLJAR, CODED]
    assert {section for contestant in CONTESTANTS for section in contestant.sections} == set(SECTIONS)
    assert [c.name for c, _, _ in plan(Settings(only=("relay",), clients=(16,)))] == [RELAY] * 2


def test_dialects_are_measured_with_their_base_and_one_client() -> None:
    planned = [(c.name, clients) for c, clients, stream in plan(Settings(only=("dialects",))) if stream]
    assert planned == [(name, 1) for name in (BELLJAR, *PLAIN_NAMES, CODED, *CODED_NAMES)]
    assert not any(plan(Settings(only=("dialects",), clients=(16, 64))))
    assert {c.name for c, _, _ in plan(Settings(only=("belljar", "code")))}.isdisjoint(PLAIN_NAMES + CODED_NAMES)


def test_only_one_client_with_code_is_paced_and_its_base_alike() -> None:
    pauses = {(c.name, clients): c.pause(clients) for c, clients, _ in plan(Settings())}
    assert {key for key, pause in pauses.items() if pause} == {(name, 1) for name in (TURNS, CODED, *CODED_NAMES)}
    assert pauses[CODED, 1] == PACE_SECONDS


def test_turns_are_longer_where_there_are_pauses_and_shorter_where_there_are_many_dialects() -> None:
    lasting = {(c.name, clients): c.seconds(0.5, clients) for c, clients, _ in plan(Settings())}
    longer, shorter = {(TURNS, 1), (CODED, 1)}, {(name, 1) for name in PLAIN_NAMES + CODED_NAMES}
    assert {key for key, seconds in lasting.items() if seconds == 1.0} == longer
    assert {key for key, seconds in lasting.items() if seconds == 0.25} == shorter
    assert {seconds for key, seconds in lasting.items() if key not in longer | shorter} == {0.5}


def test_the_text_has_every_row_and_target() -> None:
    text = as_text(report(*ALL, row(RELAY, ms=0.4)))
    assert all(target.what in text for target in TARGETS)
    assert "bare relay adds" not in as_text(report(*ALL))
    assert "bare relay adds to 'direct', one client, p50: total 0.30 ms" in text
    for name in [*PLAIN_NAMES, *CODED_NAMES]:
        base = BELLJAR if name in PLAIN_NAMES else CODED
        assert re.search(rf"^{name} adds to '{base}', one client, p50: total \d", text, re.M)
    names = "|".join(contestant.name for contestant in CONTESTANTS)
    assert len(re.findall(rf"^  ({names}) +\d", text, re.M)) == len(ALL) + 1
    assert "MISSED" not in text
    widths = {len(line) for line in text.splitlines() if line.startswith(("  ", "milliseconds")) and "≤" not in line}
    assert len(widths) <= 2  # the table's, and that of the targets' head


# --- real runs --------------------------------------------------------------------------------------------------------

TOP = {"schema", "machine", "settings", "stolen_share", "seconds", "warnings", "rows", "added_ms", "targets"}
ROW = {
    *("contestant", "clients", "stream", "seconds", "count", "failed", "failures", "per_second"),
    *("total", "first", "cpu_ms", "client_cpu_ms", "machine_cpu_ms"),
}
SETTINGS = {"image", "profile", "rounds", "seconds", "clients", "only", "warm_up"}
SMALL = Settings(rounds=2, seconds=0.05, clients=(1, 16), only=("direct", "relay"), warm_up=False)


def quietly(_line: str) -> None:
    pass


async def test_direct_and_relay_side_by_side() -> None:
    before = descendants(os.getpid())
    done = dict(json.loads(json.dumps(as_json(await measure(SMALL, quietly)))))
    assert set(done) == TOP
    assert all(set(each) == ROW for each in done["rows"])
    assert set(done["settings"]) == SETTINGS
    assert [each["contestant"] for each in done["rows"]] == [DIRECT, RELAY] * 4
    for each in done["rows"]:
        assert each["failed"] == 0, each["failures"]
        assert each["count"] >= 2 * each["clients"]
        assert (each["first"] is not None) == each["stream"]
    assert {target["met"] for target in done["targets"]} == {None}
    assert descendants(os.getpid()) == before


async def test_cancelled_it_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before, said = descendants(os.getpid()), asyncio.Event()

    def say(line: str) -> None:
        if line.startswith("round 1"):
            said.set()

    running = asyncio.create_task(measure(replace(SMALL, seconds=30), say))
    await said.wait()
    await asyncio.sleep(0.2)
    assert any(tmp_path.iterdir())  # noqa: ASYNC240
    assert len(descendants(os.getpid()) - before) == 3  # upstream, relay, load
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert descendants(os.getpid()) == before
    assert not any(tmp_path.iterdir())  # noqa: ASYNC240


async def test_a_server_that_does_not_start_is_named_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"relay did not start: .*IndexError"):
        async with serving("relay", ["belljar.bench.server_relay"], tmp_path):
            pass


async def test_cpu_time_is_that_of_the_whole_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spin = "import time\nwhile time.process_time() < 0.15: pass"
    program = f"""
import http.server, subprocess, sys
server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
subprocess.run([sys.executable, "-c", {spin!r}])
alive = subprocess.Popen([sys.executable, "-c", {spin!r} + "; print('spun', flush=True); input()"],
    stdin=subprocess.PIPE, stdout=subprocess.PIPE)
alive.stdout.readline()
print(f"http://127.0.0.1:{{server.server_port}}", flush=True)
try:
    server.serve_forever()
finally:
    alive.kill()
"""
    (tmp_path / "tree.py").write_text(program.replace("; print", "\\nprint"), encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    async with serving("tree", ["tree"], tmp_path) as server:
        assert server.cpu_ms() >= 300 - 4 * machine.TICK_MS


# --- the command ------------------------------------------------------------------------------------------------------


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "belljar.cli.main", "bench", "server", *arguments]
    small = {"BELLJAR_SERVE_ZYGOTES": "1", "BELLJAR_SERVE_READY": "2"}
    return subprocess.run(command, env=os.environ | small, capture_output=True, text=True, timeout=110)


def has_image() -> bool:
    try:
        find_image()
    except ImageError:
        return False
    return True


@pytest.mark.skipif(not has_image(), reason="no default image: belljar image build")
def test_everybody_in_one_small_run() -> None:
    done = run("--quick", "--rounds", "1", "--seconds", "0.05", "--clients", "1", "--json")
    if done.returncode == 3:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {each["contestant"] for each in found["rows"]} == {contestant.name for contestant in CONTESTANTS}
    assert [each["failures"] for each in found["rows"]] == [{}] * len(found["rows"]), done.stderr
    met = {target["name"]: target["met"] for target in found["targets"]}
    assert {name for name, value in met.items() if value is None} == {
        "share",
        "share_streaming",
        "many_p99",
        "many_failed",
    }


@pytest.mark.parametrize(
    "arguments",
    [["--only", "nothing"], ["--rounds", "0"], ["--clients", "17"], ["--only", "dialects", "--clients", "16"]],
)
def test_wrong_usage(arguments: list[str]) -> None:
    assert run(*arguments).returncode == 2


def test_no_image_is_the_hosts_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BELLJAR_HOME", str(tmp_path))
    done = run("--quick", "--only", "belljar", "--clients", "1")
    assert done.returncode == 3
    assert "belljar did not start" in done.stderr
    assert "belljar image build" in done.stderr


def test_the_documentation_names_every_key() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs/benchmarks.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(\w+)`", text[text.index("## Server") :]))
    assert ROW | TOP | SETTINGS | {target.name for target in TARGETS} | set(SECTIONS) <= named
