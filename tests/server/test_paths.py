"""Paths: exact ones, patterns, methods."""

from __future__ import annotations

import pytest

from belljar.server.paths import Paths


@pytest.fixture
def paths() -> Paths[str]:
    made: Paths[str] = Paths()
    for method, path in [
        ("GET", "/m"),
        ("POST", "/m"),
        ("GET", "/m/{id:path}"),
        ("DELETE", "/f/{id}"),
        ("GET", "/f/x"),
    ]:
        made.add(method, path, f"{method} {path}")
    return made


# method, path -> handler, params, methods
CASES = [
    ("GET", "/m", "GET /m", {}, ()),
    ("HEAD", "/m", "GET /m", {}, ()),
    ("POST", "/m", "POST /m", {}, ()),
    ("PUT", "/m", None, {}, ("GET", "POST", "HEAD")),
    ("GET", "/m/a/b", "GET /m/{id:path}", {"id": "a/b"}, ()),
    ("POST", "/m/a", None, {}, ("GET", "HEAD")),
    ("DELETE", "/f/1", "DELETE /f/{id}", {"id": "1"}, ()),
    ("DELETE", "/f/x", "DELETE /f/{id}", {"id": "x"}, ()),
    ("DELETE", "/f/1/2", None, {}, ()),
    ("PUT", "/f/x", None, {}, ("GET", "DELETE", "HEAD")),
    ("GET", "/", None, {}, ()),
    ("GET", "", None, {}, ()),
]


@pytest.mark.parametrize(("method", "path", "handler", "params", "methods"), CASES)
def test_find(
    paths: Paths[str], method: str, path: str, handler: str | None, params: dict[str, str], methods: tuple[str, ...]
) -> None:
    found = paths.find(method, path)
    assert (list(found.handlers), dict(found.params), found.methods) == ([handler] if handler else [], params, methods)


def test_several_handlers_may_share_a_path(paths: Paths[str]) -> None:
    for path, request in (("/m", "/m"), ("/m/{id:path}", "/m/a")):
        paths.add("GET", path, "again")
        assert list(paths.find("GET", request).handlers) == [f"GET {path}", "again"]
