"""`belljar check`: it tells what is here, on hosts that give everything and on hosts that do not."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from belljar.guest import kernel
from belljar.guest.launch import parents
from belljar.sandbox import probe, trials
from belljar.sandbox.image import home

from .conftest import SRC, Run

CONTAINER = (sys.executable, str(Path(__file__).with_name("refuse_namespaces.py")))
FIELDS = {"name", "state", "basis", "detail", "remedy", "needed_by"}
NAMESPACES = {f"{name} namespace" for name in probe.NAMESPACES}
is_root = os.geteuid() == 0
# A worker of pytest-xdist has a second thread, which Python 3.12 warns of at a fork; `belljar check` has none.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")


def report(belljar: Run, *words: str, **options: Any) -> tuple[int, dict[str, Any]]:
    done = belljar("check", "--json", *words, **options)
    assert done.stderr == ""
    found: dict[str, Any] = json.loads(done.stdout)
    found["by_name"] = {finding["name"]: finding for finding in found["findings"]}
    return done.returncode, found


def test_json(belljar: Run) -> None:
    code, found = report(belljar)
    assert found.keys() == {"asked", "available", "image", "findings", "profiles", "by_name"}
    assert {"full", "container"} <= found["profiles"].keys()
    for finding in found["findings"]:
        assert finding.keys() == FIELDS
        assert finding["state"] in list(probe.State)
        assert finding["basis"] in list(probe.Basis)
    assert {*NAMESPACES, "mount proc", "pivot_root", "seccomp filter", "Landlock", "control groups"} <= found[
        "by_name"
    ].keys()
    assert code == (0 if found["profiles"]["full"]["available"] else 3)
    for trial in found["profiles"].values():
        assert trial["available"] == (trial["seconds"] is not None) == (trial["reason"] == "")


def test_table(belljar: Run) -> None:
    done = belljar("check")
    lines = done.stdout.splitlines()
    assert any(line.startswith("seccomp filter") and "tried" in line for line in lines)
    assert any(line.startswith("profile full: ") for line in lines)
    assert any(line.startswith("profile container: ") for line in lines)


def test_no_image_is_no_sandbox(belljar: Run, tmp_path: Path) -> None:
    code, found = report(belljar, env={"BELLJAR_HOME": str(tmp_path)})
    assert code == 3
    assert not any(trial["available"] for trial in found["profiles"].values())
    assert found["by_name"]["image default"]["remedy"] == "belljar image build default"
    assert "belljar image build" in found["profiles"]["full"]["reason"]


def test_a_host_without_namespaces(belljar: Run) -> None:
    code, found = report(belljar, under=CONTAINER)
    assert code == 3
    for name in NAMESPACES:
        finding = found["by_name"][name]
        assert (finding["state"], finding["basis"]) == ("no", "tried")
        assert finding["remedy"]
    assert set(found["profiles"]["full"]["missing"]) >= NAMESPACES
    assert not found["profiles"]["full"]["available"]
    assert "cannot be put up here" in found["profiles"]["full"]["reason"]
    assert found["profiles"]["container"]["missing"] == []
    assert found["by_name"]["seccomp filter"]["state"] == "yes"


def test_the_container_profile_on_a_host_without_namespaces(belljar: Run) -> None:
    code, found = report(belljar, "--profile", "container", under=CONTAINER)
    trial = found["profiles"]["container"]
    assert trial["available"], trial
    assert code == 0
    refused = belljar("run", "-c", "1", under=CONTAINER)
    assert refused.returncode == 3
    assert refused.stdout == ""
    done = belljar("run", "--profile", "container", "-c", "print(1)", under=CONTAINER)
    assert (done.returncode, done.stdout) == (0, "1\n")
    assert done.stderr.startswith("belljar: warning: profile container is weaker")
    assert len(done.stderr.splitlines()) == 1
    quiet = belljar("run", "--profile", "container", "--json", "-c", "1", under=CONTAINER)
    assert quiet.stderr == ""
    assert len(json.loads(quiet.stdout)["warnings"]) == 1


@pytest.mark.root
@pytest.mark.skipif(not is_root, reason="needs root to be somebody else")
def test_as_an_ordinary_user(belljar: Run) -> None:
    """The source is copied to where anybody may read it; the image has to be readable."""
    folder = Path("/var/tmp") / f"belljar-test-{os.getpid()}-{os.urandom(4).hex()}"
    try:
        shutil.copytree(SRC, folder / "src")
        scratch = folder / "tmp"
        scratch.mkdir()
        os.chown(scratch, trials.NOBODY, trials.NOBODY)
        for path in (folder, *folder.rglob("*")):
            path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))
        env = {
            "PYTHONPATH": str(folder / "src"),
            "TMPDIR": str(scratch),
            "HOME": str(scratch),
            "BELLJAR_HOME": str(home()),
        }
        who = {"user": trials.NOBODY, "group": trials.NOBODY, "extra_groups": [], "cwd": scratch}
        _, found = report(belljar, env=env, **who)
        assert "user namespace (root)" not in found["by_name"]
        if found["by_name"]["user namespace (ordinary user)"]["state"] == "yes":
            done = belljar("run", "-c", "print(1)", env=env, **who)
            assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# --- trying in a child ------------------------------------------------------------------------------------------------


def raises(number: int) -> str:
    raise OSError(number, os.strerror(number))


def test_an_answer_comes_back() -> None:
    assert trials.attempt(lambda: "detail") == "detail"


def test_an_error_comes_back() -> None:
    with pytest.raises(PermissionError):
        trials.attempt(lambda: raises(errno.EPERM))


def test_a_mistake_of_ours_is_no_answer() -> None:
    with pytest.raises(OSError, match="ZeroDivisionError"):
        trials.attempt(lambda: str(1 / 0))


def test_a_child_that_dies_is_no_answer() -> None:
    def die() -> str:
        os.kill(os.getpid(), 9)
        return "never"

    with pytest.raises(OSError, match="the child died"):
        trials.attempt(die)


def test_a_child_that_hangs_is_ended_with_all_it_started() -> None:
    reader, writer = os.pipe()

    def hang() -> str:
        os.fork()
        time.sleep(100)
        return "never"

    with pytest.raises(TimeoutError):
        trials.attempt(hang, seconds=0.2)
    os.close(writer)
    assert os.read(reader, 1) == b""  # everyone who held the other end is gone
    os.close(reader)


def test_trials_leave_nothing() -> None:
    def seen() -> tuple[list[str], str, set[str]]:
        spaces = sorted(str(path.readlink()) for path in Path("/proc/self/ns").iterdir())
        return spaces, Path("/proc/self/mountinfo").read_text(), {path.name for path in Path("/proc/self/fd").iterdir()}

    def children() -> set[int]:  # other tests of this process may have zygotes running
        return {pid for pid, parent in parents().items() if parent == os.getpid()}

    before, had = seen(), children()
    probe.find_all()
    assert seen() == before
    assert children() <= had


def test_a_facility_that_only_says_yes_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "load_seccomp", lambda program: None)
    monkeypatch.setattr(kernel, "landlock_restrict_self", lambda ruleset: None)
    monkeypatch.setattr(kernel, "mount_setattr", lambda path, attributes: None)
    for action in (trials.seccomp, trials.landlock, trials.make_read_only):
        with pytest.raises(OSError, match=r"hold|in spite of|written to|ermitted"):
            trials.attempt(action)
