"""Run in an image (`IMAGE_PYTHON -I -B probe.py MODULE...`): import the modules in order and say what that took.

Imports nothing of Belljar. Prints one JSON object: `ms` (module -> milliseconds), `failed` (module -> error), `threads`
(module -> threads after it, where their number grew), `uncompiled` (sources imported without bytecode beside them) and
`rss` (KiB).
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Iterable
from typing import Any


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))


def _uncompiled() -> list[str]:
    """Return source files of imported modules that had to be compiled."""
    specs = [getattr(module, "__spec__", None) for module in list(sys.modules.values())]
    pairs = {(getattr(spec, "origin", None), getattr(spec, "cached", None)) for spec in specs}
    return sorted(
        source
        for source, cached in pairs
        if isinstance(source, str) and isinstance(cached, str) and source.endswith(".py") and not os.path.exists(cached)
    )


def probe(modules: Iterable[str]) -> dict[str, Any]:
    """Import each module and return what the head of this file promises."""
    found: dict[str, Any] = {"ms": {}, "failed": {}, "threads": {}}
    for module in modules:
        before, start = _threads(), time.perf_counter()
        try:
            importlib.import_module(module)
        except Exception as error:  # whatever a package raises on import
            found["failed"][module] = f"{type(error).__name__}: {error}"
            continue
        found["ms"][module] = round((time.perf_counter() - start) * 1e3, 1)
        if _threads() > before:
            found["threads"][module] = _threads()
    import resource  # after the measurements

    return {**found, "uncompiled": _uncompiled(), "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}


if __name__ == "__main__":
    result = probe(sys.argv[1:])
    sys.stdout.write("\n" + json.dumps(result) + "\n")  # its own line, whatever a package has printed
