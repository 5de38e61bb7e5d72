"""`belljar bench sandbox` as a process: its JSON's shape, its text, its exit codes. No figure is judged."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from belljar.bench.report import as_json, as_text
from belljar.bench.sandbox import SCHEMA, SECTIONS, Settings, measure
from belljar.bench.stats import TARGETS
from belljar.errors import ImageError, IsolationUnavailable
from belljar.sandbox.image import find_image

SUMMARY = {"n", "p50", "p95", "p99", "min", "max", "mean"}
SHAPES: dict[str, set[str]] = {
    "machine": {"cpu", "cores", "memory_mib", "kernel", "python", "architecture", "is_root", "load_average"},
    "settings": {"image", "profile", "rounds", "seconds", "alive", "warm_up", "only", "preload"},
    "zygote": {"modules", "import_seconds", "start_seconds", "memory"},
    "burst": {"asked", "succeeded", "latency", "p99", "failure"},
    "alive": {
        *("asked", "alive", "answered", "seconds", "memory_total"),
        *("memory_each", "private_each", "failure"),
    },
}
ROW = {"task", "contestant", "label", "status", "seconds", "cpu"}
TARGET = {"name", "what", "unit", "bound", "at_least", "value", "met"}
LOAD = {
    *("seconds", "users", "count", "failed", "per_second", "latency"),
    *("cpu_ms", "walls_seen", "walls_up", "failure"),
}
TOP = {
    *("schema", "machine", "settings", "image_python", "limiter", "stolen_share", "seconds", "warnings"),
    *("side_by_side", "throughput", "idle", "alive", "burst", "zygote", "targets"),
}


def has_image() -> bool:
    try:
        find_image()
    except ImageError:
        return False
    return True


def run(*arguments: str, home: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "belljar.cli.main", "bench", "sandbox", *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)} | ({"BELLJAR_HOME": home} if home else {})
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=110)


needs_image = pytest.mark.skipif(not has_image(), reason="no default image: belljar image build")


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    """A run of everything but what is slow without the libraries, in pools that import none: they start at once."""
    if not has_image():
        pytest.skip("no default image: belljar image build")
    only = ("print", "run", "throughput", "idle", "alive", "burst")
    settings = Settings(rounds=1, seconds=0.5, alive=3, warm_up=False, only=only, preload=())
    try:
        done = asyncio.run(measure(settings, lambda line: None))
    except IsolationUnavailable as error:
        pytest.skip(str(error))
    assert as_text(done)
    return dict(json.loads(json.dumps(as_json(done))))


def test_the_json_has_the_schema(report: dict[str, Any]) -> None:
    assert report["schema"] == SCHEMA
    assert set(report) == TOP
    for name, keys in SHAPES.items():
        assert set(report[name]) == keys, name
    assert all(set(row) == ROW for row in report["side_by_side"])
    assert [set(target) for target in report["targets"]] == [TARGET] * len(TARGETS)


def test_a_row_was_measured_or_says_why_not(report: dict[str, Any]) -> None:
    for row in report["side_by_side"]:
        measured = row["status"] == "measured"
        assert (row["seconds"] is not None) == measured, row
        if measured:
            assert set(row["seconds"]) == SUMMARY
            assert row["seconds"]["min"] <= row["seconds"]["p50"] <= row["seconds"]["max"]
    names = {row["contestant"] for row in report["side_by_side"]}
    assert names == {"belljar", "python -c", "bwrap", "runsc do", "jupyter kernel", "belljar run -c"}


def test_what_was_asked_for_was_done(report: dict[str, Any]) -> None:
    assert report["alive"]["answered"] == report["alive"]["alive"] == 3
    assert report["burst"]["succeeded"] == report["burst"]["asked"] == 128
    assert set(report["throughput"]) == set(report["idle"]) == {"light", "full"}
    for done in report["throughput"].values():
        assert set(done) == LOAD
        assert done["walls_up"] == done["walls_seen"] > 0
        assert done["failed"] == 0, done["failure"]


def test_what_was_not_asked_for_is_not_claimed(report: dict[str, Any]) -> None:
    met = {target["name"]: target["met"] for target in report["targets"]}
    assert met["pandas"] is met["plot"] is None
    assert met["print"] is not None


def test_the_documentation_names_every_key(report: dict[str, Any]) -> None:
    text = (Path(__file__).resolve().parents[2] / "docs/benchmarks.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(\w+)`", text))
    assert TOP | LOAD | ROW | TARGET | SUMMARY | set().union(*SHAPES.values()) <= named


@needs_image
def test_the_command_prints_one_report_and_its_progress_apart() -> None:
    as_value, text = run("--quick", "--rounds", "1", "--only", "run", "--json"), run("--quick", "--only", "run")
    assert (as_value.returncode, text.returncode) == (0, 0), as_value.stderr + text.stderr
    report = json.loads(as_value.stdout)
    assert [row["status"] for row in report["side_by_side"]] == ["measured"]
    assert all(target["met"] is None for target in report["targets"] if target["name"] != "run")
    assert "belljar run -c" in text.stdout
    assert "not measured" in text.stdout
    assert "round 2 of 2" in text.stderr


def test_no_image_is_the_hosts_fault(tmp_path: Path) -> None:
    done = run("--quick", home=str(tmp_path))
    assert done.returncode == 3
    assert "belljar image build" in done.stderr


@pytest.mark.parametrize("arguments", [["--only", "nothing"], ["--rounds", "0"], ["--alive", "x"]])
def test_wrong_usage(arguments: list[str]) -> None:
    assert run(*arguments).returncode == 2


def test_help_names_every_part() -> None:
    text = run("--help").stdout
    assert all(section in text for section in SECTIONS)
