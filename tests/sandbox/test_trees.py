"""Trees that a guest has made: measured and removed whatever their depth, width, links and permissions."""

from __future__ import annotations

import os
from pathlib import Path

from belljar.guest.trees import measure_tree, remove_tree


def deep(base: Path, levels: int) -> None:
    """Nest folders beyond what a path can name."""
    fd = os.open(base, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d" * 20, dir_fd=fd)
        inner = os.open("d" * 20, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)


def test_a_tree_deeper_than_any_path_is_removed(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    deep(tmp_path / "tree", 1200)  # more than a path can name, and than Python calls can nest
    assert remove_tree(str(tmp_path / "tree"))
    assert list(tmp_path.iterdir()) == []


def test_links_are_removed_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/file").write_text("kept")
    tree = tmp_path / "tree"
    (tree / "inner").mkdir(parents=True)
    for at in (tree, tree / "inner"):
        (at / "link").symlink_to(tmp_path / "kept")
        (at / "broken").symlink_to("/nowhere")
        os.mkfifo(at / "fifo")
    assert remove_tree(str(tree))
    assert (tmp_path / "kept/file").read_text() == "kept"


def test_closed_folders_are_opened_and_nothing_above(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "closed/inner").mkdir(parents=True)
    (tree / "closed/inner").chmod(0)
    (tree / "closed").chmod(0)
    tree.chmod(0)
    before = tmp_path.stat().st_mode
    assert remove_tree(str(tree))
    assert remove_tree(str(tree)), "gone already"
    assert tmp_path.stat().st_mode == before


def test_measuring(tmp_path: Path) -> None:
    for i in range(3):
        (tmp_path / f"d{i}").mkdir()
        (tmp_path / f"d{i}/f").write_bytes(b"x" * 8192)
    top = os.open(tmp_path, os.O_RDONLY)
    found = measure_tree(top, 100, 10)
    assert found is not None
    assert found[0] == 6
    assert found[1] >= 3 * 8192
    assert measure_tree(top, 5, 10) is None
    deep(tmp_path, 20)
    assert measure_tree(top, 100, 10) is None
    assert measure_tree(top, 100, 30) is not None
    os.close(top)
