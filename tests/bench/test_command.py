"""`belljar bench sandbox` as a process: its JSON's shape, its text, its exit codes. No figure is judged."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from belljar.bench.sandbox import SCHEMA, SECTIONS
from belljar.bench.stats import TARGETS
from belljar.errors import ImageError
from belljar.sandbox.image import find_image

SUMMARY = {"n", "p50", "p95", "p99", "min", "max", "mean"}
SHAPES: dict[str, set[str]] = {
    "machine": {"cpu", "cores", "memory_mib", "kernel", "python", "architecture", "is_root", "load_average"},
    "settings": {"image", "profile", "rounds", "seconds", "alive", "warm_up", "only"},
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


def run(*arguments: str, home: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "belljar.cli.main", "bench", "sandbox", *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)} | ({"BELLJAR_HOME": home} if home else {})
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=110)


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    """One quick run of all that needs one short pool; the others (loads, the whole image) are the soak's length."""
    try:
        find_image()
    except ImageError as error:
        pytest.skip(str(error))
    only = [word for name in ("print", "run", "alive", "burst") for word in ("--only", name)]
    done = run("--quick", "--rounds", "1", "--alive", "3", "--json", *only)
    if done.returncode == 3 and "wall" in done.stderr:
        pytest.skip(done.stderr.splitlines()[-1])
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


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
    assert report["zygote"]["modules"] > 0


def test_what_was_not_asked_for_is_not_claimed(report: dict[str, Any]) -> None:
    assert report["throughput"] == report["idle"] == {}
    met = {target["name"]: target["met"] for target in report["targets"]}
    assert met["light"] is met["full"] is met["idle"] is met["pandas"] is met["plot"] is None


def test_the_documentation_names_every_key(report: dict[str, Any]) -> None:
    text = (Path(__file__).resolve().parents[2] / "docs/benchmarks.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(\w+)`", text))
    assert TOP | LOAD | ROW | TARGET | SUMMARY | set().union(*SHAPES.values()) <= named


def test_text_without_a_pool() -> None:
    """Also the text report, of the part that needs no pool."""
    try:
        find_image()
    except ImageError as error:
        pytest.skip(str(error))
    done = run("--quick", "--rounds", "1", "--only", "run")
    assert done.returncode == 0, done.stderr
    assert "belljar run -c" in done.stdout
    assert "not measured" in done.stdout
    assert "round 1 of 1" in done.stderr
    assert "nan" not in done.stdout


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
