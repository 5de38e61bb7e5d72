"""One Belljar for all tests of the SDKs, over scripted models."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sdks.script import COMPOUND, MODELS
from servers import Belljar, start_belljar


@pytest.fixture(scope="session")
def no_proxy() -> Iterator[None]:
    """The SDKs and curl obey the environment's proxies; none leads to this host itself."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("NO_PROXY", "no_proxy"):
            patch.setenv(name, "127.0.0.1")
        yield


@pytest.fixture(scope="session")
def belljar(no_proxy: None) -> Iterator[Belljar]:
    """The server; each worker of pytest-xdist has one."""
    preload = ("numpy", "matplotlib.pyplot")  # once here, instead of in each execution that uses them
    with start_belljar(MODELS, models=COMPOUND, upstream={"retries": 0}, preload=preload) as running:
        yield running


@pytest.fixture(scope="session")
def impatient(belljar: Belljar) -> str:
    """The URL of the same server, but with a heartbeat every 50 ms."""
    return belljar.listen(heartbeat=0.05)
