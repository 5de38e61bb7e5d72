"""What every test shares: how hard hypothesis looks, and that a missing judge is not overlooked.

Fixtures live beside the tests that use them.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

# No deadline per example: a loaded machine is no bug. In CI the examples are the same every time.
settings.register_profile("belljar", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("belljar"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "belljar")

NOT_JUDGED = "NOT JUDGED: "  # how a skip's reason begins, where a part of the product goes untested for want of a tool


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say at the end, and loudly, what nobody has looked at."""
    reports = terminalreporter.stats.get("skipped", [])
    texts = {str(report.longrepr[2]) for report in reports if isinstance(report.longrepr, tuple)}
    for reason in sorted(text.partition(NOT_JUDGED)[2] for text in texts if NOT_JUDGED in text):
        terminalreporter.write_line(f"WARNING: {NOT_JUDGED}{reason}", yellow=True, bold=True)
