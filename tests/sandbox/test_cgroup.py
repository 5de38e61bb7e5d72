"""Control groups: where they may be made (on folders that look like hosts), and what a real one does."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from belljar import Limits
from belljar.sandbox import cgroup


def v2_tree(root: Path, groups: dict[str, tuple[str, str, str]]) -> None:
    """Folders like a version 2 hierarchy: path -> controllers, subtree_control, procs."""
    for path, (controllers, subtree, procs) in groups.items():
        folder = root / path
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cgroup.controllers").write_text(controllers)
        (folder / "cgroup.subtree_control").write_text(subtree)
        (folder / "cgroup.procs").write_text(procs)
        if path:
            (folder / "cgroup.type").write_text("domain")


ALL = "cpu memory pids"
ME = str(os.getpid())
# Case: groups, own group, uid, parent of the groups to be made (None: nowhere), whether we must move into a leaf.
HOSTS = {
    "root on a systemd host": (
        {"": (ALL, ALL, "1"), "user.slice/s.scope": (ALL, "", f"{ME} 77")},
        "user.slice/s.scope",
        0,
        "",
        False,
    ),
    "a user's own scope": (
        {
            "": (ALL, ALL, "1"),
            "user.slice/app.slice": (ALL, ALL, ""),
            "user.slice/app.slice/run.scope": (ALL, "", ME),
        },
        "user.slice/app.slice/run.scope",
        1000,
        "user.slice/app.slice",
        False,
    ),
    "a service with Delegate": (
        {"": (ALL, ALL, "1"), "system.slice": (ALL, ALL, ""), "system.slice/b.service": (ALL, "", ME)},
        "system.slice/b.service",
        1000,
        "system.slice/b.service",
        True,
    ),
    "a delegated group with other processes": (
        {"": (ALL, ALL, "1"), "system.slice": (ALL, ALL, ""), "system.slice/b.service": (ALL, "", f"{ME} 77")},
        "system.slice/b.service",
        1000,
        None,
        False,
    ),
    "no controllers at all": ({"": ("", "", "1")}, "", 0, None, False),
    "no memory controller": ({"": ("cpu pids", "cpu pids", "1")}, "", 0, None, False),
}


@pytest.mark.parametrize("name", HOSTS)
def test_version_2_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    groups, own, uid, parent, leaf = HOSTS[name]
    v2_tree(tmp_path, groups)
    writable = {tmp_path / own, tmp_path / own / ".."} if uid else {tmp_path / path for path in groups}
    delegated = {"a user's own scope": {"user.slice/app.slice", own}, "a service with Delegate": {own}}
    allowed = {tmp_path / path for path in delegated.get(name, {own} if uid else groups)} or writable
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setattr(cgroup, "_is_ours", lambda folder: folder in allowed)
    place, reason = cgroup._find_v2({"": tmp_path}, {"": "/" + own}, "belljar-1-1-1")
    if parent is None:
        assert place is None
        assert "version 2" in reason
        return
    assert place is not None
    assert set(place.folders.values()) == {tmp_path / parent / "belljar-1-1-1"}
    assert (place.leaf is not None) is leaf


def test_version_2_settings_are_written(tmp_path: Path) -> None:
    v2_tree(tmp_path, {"": (ALL, "", "1"), "p": (ALL, "", "")})
    place = cgroup.Place(version=2, folders=dict.fromkeys(cgroup.CONTROLLERS, tmp_path / "p"))
    cgroup.create(place)
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+memory +pids +cpu"
    group = cgroup.attach(place, "s1", 123, Limits(memory=64 << 20, processes=5, cpus=0.5))
    found = {path.name: path.read_text() for path in (tmp_path / "p/s1").iterdir()}
    assert found == {
        "memory.max": str(64 << 20),
        "memory.swap.max": "0",
        "memory.oom.group": "1",
        "pids.max": "5",
        "cpu.max": "50000 100000",
        "cgroup.procs": "123",
    }
    (tmp_path / "p/s1/memory.events").write_text("low 0\noom 3\noom_kill 2\n")
    assert group.oom_kills() == 2


def test_a_real_group_where_there_is_one() -> None:
    place, reason = cgroup.find_place()
    if place is None:
        pytest.skip(f"NO CONTROL GROUPS HERE: {reason}")
    cgroup.create(place)
    process = subprocess.Popen(["sleep", "60"])
    try:
        group = cgroup.attach(place, "s1", process.pid, Limits())
        assert group.oom_kills() == 0
        assert not group.remove()
        assert place.folders["memory"].name in Path(f"/proc/{process.pid}/cgroup").read_text()
    finally:
        process.kill()
        process.wait()
    assert cgroup.remove_place(place)
    assert not any(folder.exists() for folder in place.distinct)


def test_groups_of_the_dead_are_swept(tmp_path: Path) -> None:
    mark = cgroup.process_mark(os.getpid())
    here, elsewhere = cgroup.pid_namespace(), 1
    dead = [f"belljar-1-0-{here}-3", f"belljar-999999999-1-{here}-1"]
    kept = [f"belljar-{mark}-{here}-1", f"belljar-1-0-{elsewhere}-3", "belljar-odd", "other"]
    for name in dead + kept:
        (tmp_path / name / "s1").mkdir(parents=True)
    place = cgroup.Place(version=1, folders={"memory": tmp_path / f"belljar-{mark}-{here}-2"})
    assert cgroup.sweep(place) == dead
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)
