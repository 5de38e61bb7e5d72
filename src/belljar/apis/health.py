"""For those who look after the server: whether it lives, whether it can answer, what it has done.

`/healthz` and `/readyz` need no key; what the sandboxes are doing is told to those who have one, or where none is
needed. `/metrics` needs a key where there are keys, unless the settings open it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from belljar.apis.base import Api, Endpoint, Host
from belljar.dialects.base import Incoming, Reply, write_json
from belljar.errors import Unauthorized
from belljar.server.metrics import MEDIA_TYPE

NO_CACHE = {"cache-control": "no-store"}


async def about(host: Host, incoming: Incoming) -> Reply:
    """Say what this is, to somebody who opens it in a browser."""
    return _reply(200, {"name": "belljar", "state": host.state})


async def alive(host: Host, incoming: Incoming) -> Reply:
    """200 as long as the process answers at all."""
    return _reply(200, {"status": "alive"})


async def ready(host: Host, incoming: Incoming) -> Reply:
    """200 where a request would be answered; 503 while starting, stopping, or with no sandbox to be had."""
    facts = host.facts()
    able = host.state == "serving" and can_run(facts)
    status = host.state if host.state != "serving" else ("ready" if able else "no sandbox")
    told: dict[str, Any] = {"status": status}
    if host.knows(incoming):
        told["sandboxes"] = dict(facts)
    return _reply(200 if able else 503, told)


async def metrics(host: Host, incoming: Incoming) -> Reply:
    """Prometheus text."""
    if not (host.metrics_open or host.knows(incoming)):
        raise Unauthorized("metrics need an API key (Authorization: Bearer KEY)")
    return Reply(status=200, body=host.metrics.write(), media_type=MEDIA_TYPE, headers=NO_CACHE)


def can_run(facts: Mapping[str, Any]) -> bool:
    """Whether the pool holds a sandbox, or is making one without having failed."""
    return any(facts.get(state, 0) for state in ("ready", "in_use", "idle", "starting")) or not facts


def _reply(status: int, value: Mapping[str, Any]) -> Reply:
    return Reply(status=status, body=write_json(value) + b"\n", headers=NO_CACHE)


API = Api(
    name="health",
    endpoints=(
        Endpoint(method="GET", path="/", handle=about, open=True),
        Endpoint(method="GET", path="/healthz", handle=alive, open=True),
        Endpoint(method="GET", path="/readyz", handle=ready, open=True),
        Endpoint(method="GET", path="/metrics", handle=metrics, open=True),
    ),
)
