"""Every dialect gives the same answers: one set of cases, asked through the official SDKs, streaming and not.

A dialect is found through the registry, and passes by its case folder alone, which has
    says.py      its table, `DIALECT`: how each thing is said, or what is shown in its place
    adapter.py   `WAYS` to ask it from Python
    adapter.mjs  `sdks` to ask it from JavaScript, where there are any
A dialect without a case folder fails. What is compared is in cases.py.
"""

from __future__ import annotations

import json
import os
import subprocess
from importlib import import_module
from pathlib import Path

import pytest

from belljar import registry
from conformance import document
from conformance.cases import LINGER, Case, cases_for, faults
from conformance.says import Dialect
from conformance.seen import Seen, Way, read_seen
from sdks.test_javascript import reason_to_skip
from servers import Belljar

HERE = Path(__file__).parent
FOLDERS = sorted(path.parent.name for path in HERE.glob("*/says.py"))
TABLES: dict[str, Dialect] = {name: import_module(f"conformance.{name}.says").DIALECT for name in FOLDERS}
WAYS: dict[tuple[str, str], Way] = {
    (name, way): how for name in FOLDERS for way, how in import_module(f"conformance.{name}.adapter").WAYS.items()
}
EVERY = [pytest.param(name, way, id=f"{name}: {way}") for name, way in WAYS]
ASKED = [
    pytest.param(name, way, case, id=f"{name}: {way}: {case.name}")
    for (name, way), how in WAYS.items()
    for case in cases_for(TABLES[name], how.drops)
]
SECONDS = 60.0


def test_every_dialect_has_a_case_folder() -> None:
    served = set(registry.find("belljar.dialects", "DIALECT"))
    assert served == set(FOLDERS), f"without a case folder, or without a dialect: {sorted(served ^ set(FOLDERS))}"


@pytest.mark.parametrize("name", FOLDERS)
def test_every_dialect_is_asked_with_and_without_a_stream(name: str) -> None:
    assert {how.streams for (folder, _), how in WAYS.items() if folder == name} == {True, False}


@pytest.mark.parametrize("name", FOLDERS)
def test_every_adapter_in_javascript_is_in_its_table(name: str) -> None:
    assert (HERE / name / "adapter.mjs").exists() == bool(TABLES[name].javascript)


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
def test_an_answer_of_nothing_passes_no_case(name: str, streams: bool) -> None:
    table = TABLES[name]
    assert not [case.name for case in cases_for(table) if not faults(case, table, Seen(), streams=streams)]


def test_the_document_is_what_the_tables_say() -> None:
    written = document.PATH.read_text(encoding="utf-8")
    assert written == document.render(TABLES), "docs/dialects.md is old: run scripts/dialects-doc"


@pytest.mark.parametrize(("name", "way", "case"), ASKED)
def test_case(belljar: Belljar, name: str, way: str, case: Case) -> None:
    how = WAYS[name, way]
    seen = how.ask(belljar.url, case.question)
    assert not faults(case, TABLES[name], seen, streams=how.streams, drops=how.drops)
    belljar.until(lambda: belljar.in_use == belljar.upstream.playing == 0, 1.0)


@pytest.mark.parametrize(("name", "way"), EVERY)
def test_client_gone(belljar: Belljar, name: str, way: str) -> None:
    """The sandbox is given back, and the upstream's work is ended."""
    cancelled = len(belljar.upstream.cancelled)
    WAYS[name, way].leave(belljar.url, LINGER.question)
    belljar.until(lambda: belljar.in_use == belljar.upstream.playing == 0, 1.0)
    assert len(belljar.upstream.cancelled) == cancelled + 1


# --- JavaScript -------------------------------------------------------------------------------------------------------


def ask_in_javascript(name: str, sdk: str, url: str) -> list[str]:
    """Every case through one SDK, in one process: what is wrong."""
    drops = TABLES[name].javascript[sdk]
    asked = [(case, streams) for case in cases_for(TABLES[name], drops) for streams in (False, True)]
    tasks = [{"question": case.question.to_json(), "streams": streams} for case, streams in asked]
    vendors = ("NODE_", "GROQ_", "OPENAI_", "GOOGLE_", "GEMINI_", "DASHSCOPE_")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(vendors)}
    done = subprocess.run(
        ["node", "judge.mjs", name, sdk],
        cwd=HERE,
        env=kept | {"BELLJAR_URL": url},
        input=json.dumps({"tasks": tasks, "leave": LINGER.question.to_json()}),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr}"
    lines = done.stdout.splitlines()
    assert len(lines) == len(tasks), f"{len(lines)} answers to {len(tasks)} questions\n{done.stderr}"
    return [
        f"{case.name}{', streaming' if streams else ''}: {fault}"
        for (case, streams), line in zip(asked, lines, strict=True)
        for fault in faults(case, TABLES[name], read_seen(line), streams=streams, drops=drops)
    ]


@pytest.mark.parametrize(("name", "sdk"), [(name, sdk) for name, table in TABLES.items() for sdk in table.javascript])
def test_javascript(belljar: Belljar, name: str, sdk: str) -> None:
    if reason := reason_to_skip():
        pytest.skip(f"NOT JUDGED: {reason}, so the JavaScript SDKs were not tried")
    cancelled = len(belljar.upstream.cancelled)
    assert not ask_in_javascript(name, sdk, belljar.url)
    belljar.until(lambda: belljar.in_use == belljar.upstream.playing == 0, 1.0)
    # It left twice: in mid-stream, when a turn was under way for sure; and without one after a second, when on a
    # crowded machine the code may still have been running, so that there was no turn to give up.
    assert cancelled + 1 <= len(belljar.upstream.cancelled) <= cancelled + 2
