"""What the soaks share: a temporary folder of their own, and a way to say figures although the test passes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from belljar.errors import ImageError
from belljar.sandbox.image import find_image


@pytest.fixture(autouse=True)
def _image() -> None:
    try:
        find_image()
    except ImageError as error:
        pytest.skip(str(error))


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where `tempfile` makes things during the test. Guests of another uid must be able to pass through it."""
    path = Path(tempfile.mkdtemp(prefix="soak-"))
    path.chmod(0o711)
    monkeypatch.setattr(tempfile, "tempdir", str(path))
    monkeypatch.setenv("TMPDIR", str(path))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Print past pytest's capture."""

    def print_now(line: str) -> None:
        with capsys.disabled():
            print(f"\n    {line}", flush=True)

    return print_now
