"""Backends under test: every profile that this host can give. One zygote for each and test process, fresh sandboxes
from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from belljar import ImageError, IsolationUnavailable, Sandbox
from belljar.sandbox.backends import BACKENDS

_refused: dict[str, str] = {}


def open_sandbox(profile: str, **options: object) -> Sandbox:
    """A sandbox of this profile, or a skip that says why there is none."""
    if profile not in _refused:
        try:
            return Sandbox(profile=profile, **options)  # type: ignore[arg-type]
        except (IsolationUnavailable, ImageError) as error:
            _refused[profile] = str(error)
    pytest.skip(f"PROFILE {profile} NOT TESTED: {_refused[profile]}")


@pytest.fixture(params=sorted(BACKENDS))
def profile(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def sandbox(profile: str) -> Iterator[Sandbox]:
    with open_sandbox(profile) as opened:
        yield opened


@pytest.fixture
def make(profile: str) -> Iterator[Callable[..., Sandbox]]:
    """Sandboxes with options of their own, closed at the end."""
    opened: list[Sandbox] = []

    def make_one(**options: object) -> Sandbox:
        opened.append(open_sandbox(profile, **options))
        return opened[-1]

    yield make_one
    for one in opened:
        one.close()
