"""One Belljar for all cases, over their models, with a short time for each execution."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from belljar.sandbox.base import Limits
from conformance.cases import MODELS, TIMEOUT
from servers import Belljar, start_belljar


@pytest.fixture(scope="session")
def belljar() -> Iterator[Belljar]:
    """The server; each worker of pytest-xdist has one. The SDKs obey the environment's proxies: none leads here."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("NO_PROXY", "no_proxy"):
            patch.setenv(name, "127.0.0.1")
        preload = ("numpy", "matplotlib.pyplot")  # once here, instead of in each execution that uses them
        limits = Limits(timeout=TIMEOUT)
        with start_belljar(MODELS, upstream={"retries": 0}, preload=preload, limits=limits) as running:
            yield running
