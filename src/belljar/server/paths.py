"""Which handler answers at which path: an exact table, then patterns in Starlette's notation.

Promises: a path that is known under other methods tells them; patterns are tried in the order in which they were added.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from starlette.routing import compile_path

H = TypeVar("H")
NO_PARAMS: Mapping[str, str] = {}


@dataclass(slots=True)
class _Pattern(Generic[H]):
    regex: re.Pattern[str]
    handlers: dict[str, list[H]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Found(Generic[H]):
    """What a look-up gave: handlers, or the methods under which the path is served (none: unknown)."""

    handlers: Sequence[H]
    params: Mapping[str, str] = field(default_factory=dict)
    methods: tuple[str, ...] = ()


class Paths(Generic[H]):
    """The table. HEAD is served where GET is."""

    def __init__(self) -> None:
        self._exact: dict[str, dict[str, list[H]]] = {}
        self._patterns: dict[str, _Pattern[H]] = {}

    def add(self, method: str, path: str, handler: H) -> None:
        """Serve a path; several handlers may share one, and the caller of `find` chooses."""
        if "{" in path:
            pattern = self._patterns.setdefault(path, _Pattern(compile_path(path)[0]))
            handlers = pattern.handlers
        else:
            handlers = self._exact.setdefault(path, {})
        handlers.setdefault(method, []).append(handler)

    def find(self, method: str, path: str) -> Found[H]:
        """The handlers for a request, of the first path that fits."""
        wanted = "GET" if method == "HEAD" else method
        methods: list[str] = []
        handlers = self._exact.get(path)
        if handlers is not None:
            if wanted in handlers:
                return Found(handlers[wanted], NO_PARAMS)
            methods += handlers
        for pattern in self._patterns.values():
            if match := pattern.regex.match(path):
                if wanted in pattern.handlers:
                    return Found(pattern.handlers[wanted], match.groupdict())
                methods += pattern.handlers
        if "GET" in methods:
            methods.append("HEAD")
        return Found((), NO_PARAMS, tuple(dict.fromkeys(methods)))
