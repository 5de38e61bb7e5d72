"""What every test shares: how hard hypothesis looks. Fixtures live beside the tests that use them."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# No deadline per example: a loaded machine is no bug. In CI the examples are the same every time.
settings.register_profile("belljar", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("belljar"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "belljar")
