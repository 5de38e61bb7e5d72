"""A process that serves like `belljar serve`, over the fake service: `python -m tests.server.stand_in JSON`.

The JSON object: "settings", fields of Settings; "service", fields of FakeService; "seconds", that an answer takes.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from tests.server.fakes import FakeService, ToyDialect, turn

from belljar import registry
from belljar.events import TextDelta
from belljar.server import logs
from belljar.server.app import App
from belljar.server.keys import Keys
from belljar.server.serve import listen, run, url_of
from belljar.server.settings import Settings


class Talkative(FakeService):
    """Tells of its end."""

    async def close(self) -> None:
        await super().close()
        print(json.dumps({"closed": True, "open": self.open}), flush=True)


def main(told: dict[str, Any]) -> int:
    settings = Settings(**told.get("settings", {}))
    logs.configure(settings.log_format, settings.log_level)
    registry.find = lambda package, name: {"toy": ToyDialect()} if name == "DIALECT" else {}
    steps = turn("a b")
    steps[2:2] = [0.01, TextDelta(text="c")] * int(told.get("seconds", 0) * 100)
    sockets = listen(settings.host, settings.port)

    async def say(app: App) -> None:
        print(json.dumps({"url": url_of(sockets[0], settings.host)}), flush=True)

    service = Talkative(steps, **told.get("service", {}))
    return run(service, settings, Keys(settings.api_key), sockets, say)


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
