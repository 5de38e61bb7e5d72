"""Which handler answers at which path: an exact table, then patterns in Starlette's notation.

Promises: two handlers for one method and path are an error when the table is made; a path that is known under other
methods tells them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from starlette.routing import compile_path

H = TypeVar("H")
NO_PARAMS: Mapping[str, str] = {}


@dataclass(slots=True)
class _Pattern(Generic[H]):
    regex: re.Pattern[str]
    handlers: dict[str, H] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Found(Generic[H]):
    """What a look-up gave: a handler, or the methods under which the path is served (none: unknown)."""

    handler: H | None
    params: Mapping[str, str] = field(default_factory=dict)
    methods: tuple[str, ...] = ()


class Paths(Generic[H]):
    """The table. HEAD is served where GET is."""

    def __init__(self) -> None:
        self._exact: dict[str, dict[str, H]] = {}
        self._patterns: dict[str, _Pattern[H]] = {}

    def add(self, method: str, path: str, handler: H) -> None:
        """Serve a path. Raises ValueError: it is served already."""
        if "{" in path:
            pattern = self._patterns.setdefault(path, _Pattern(compile_path(path)[0]))
            handlers = pattern.handlers
        else:
            handlers = self._exact.setdefault(path, {})
        if method in handlers:
            raise ValueError(f"{method} {path} is served twice")
        handlers[method] = handler

    def find(self, method: str, path: str) -> Found[H]:
        """The handler for a request."""
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
        return Found(None, NO_PARAMS, tuple(dict.fromkeys(methods)))
