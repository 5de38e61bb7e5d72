"""The option --attack-table FILE: write what this run has found as a table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from attacks.lanes import Workers
from attacks.table import render


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--attack-table", metavar="FILE", type=Path, help="write the attack suite's results into FILE")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_Rows(config), "attack-rows")


class _Rows:
    """Collects the findings that tests report, also from xdist's workers, and writes them at the end."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._rows: list[dict[str, str]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or (report.when == "setup" and report.skipped):
            self._rows += [dict(value) for name, value in report.user_properties if name == "attack"]  # type: ignore[call-overload]

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        path = self._config.getoption("--attack-table", default=None)
        if path and not hasattr(self._config, "workerinput"):
            path.write_text(render(self._rows), encoding="utf-8")


@pytest.fixture(scope="session")
def workers(request: pytest.FixtureRequest) -> Iterator[Workers]:
    """All lanes' workers. Without xdist they get their attacks in advance, and run side by side."""
    running = Workers()
    if not hasattr(request.config, "workerinput"):
        specs = [getattr(item, "callspec", None) for item in request.session.items]
        running.plan([(s.params["lane"], s.params["attack"].name) for s in specs if s and "attack" in s.params])
    yield running
    left = running.close()
    assert not left, left
