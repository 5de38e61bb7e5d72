"""Which web pages may use the server: a browser sends requests for any page that its user opens.

Without API keys, whoever can connect may run code here, and a page can make a browser connect. So: a Host that is not
this machine's is refused (DNS rebinding), and so is an Origin that was not allowed. With keys, a page would need one.
Promises: only allowed origins get CORS headers. Not covered: programs on this machine, which need no browser.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from belljar.errors import Forbidden
from belljar.server.settings import Settings, is_loopback

Headers = list[tuple[bytes, bytes]]

EXPOSED = b"x-request-id, retry-after"  # what a page's script may read of a response
METHODS = b"GET, POST, OPTIONS"
REMEMBER_SECONDS = b"600"
SHOWN = 100  # characters of a refused name that its message repeats


class Guard:
    """The rules for one server."""

    def __init__(self, settings: Settings, *, has_keys: bool) -> None:
        self._origins = frozenset(origin.lower() for origin in settings.cors_origin)
        self._keyless = not has_keys
        self._bound = settings.host.strip("[]").lower()
        self._is_ours = lru_cache(maxsize=256)(self._is_our_host)

    def check(self, headers: Mapping[str, str]) -> None:
        """Raises Forbidden. `headers` have lower-case names."""
        if not self._keyless:
            return
        host, origin = headers.get("host"), headers.get("origin")
        if host is not None and not self._is_ours(host):
            raise Forbidden(
                f"this server has no API keys, so it answers to 127.0.0.1 and localhost only, not to {host[:SHOWN]!r}; "
                "set API keys to use it under another name"
            )
        if origin is not None and not self.allows(origin):
            raise Forbidden(f"pages of {origin[:SHOWN]!r} may not use this server; --cors-origin names those that may")

    def allows(self, origin: str) -> bool:
        """Whether a page of this origin may use the server."""
        return "*" in self._origins or origin.lower() in self._origins

    def cors(self, headers: Mapping[str, str]) -> Headers:
        """What is added to any response, so that an allowed page's script may read it."""
        origin = headers.get("origin")
        if origin is None or not self.allows(origin):
            return []
        return [
            (b"access-control-allow-origin", origin.encode("latin-1")),
            (b"access-control-expose-headers", EXPOSED),
            (b"vary", b"origin"),
        ]

    def preflight(self, headers: Mapping[str, str]) -> Headers:
        """The answer to a browser that asks whether it may ask (Fetch, section 4.8)."""
        extra: Headers = [
            (b"access-control-allow-methods", METHODS),
            (b"access-control-max-age", REMEMBER_SECONDS),
        ]
        if "access-control-request-headers" in headers:
            wanted = headers["access-control-request-headers"].encode("latin-1")
            extra.append((b"access-control-allow-headers", wanted))
        if "access-control-request-private-network" in headers:
            extra.append((b"access-control-allow-private-network", b"true"))
        return extra

    def _is_our_host(self, host: str) -> bool:
        name = host_name(host)
        return is_loopback(name) or name == self._bound


def host_name(host: str) -> str:
    """A Host header without its port: "[::1]:8787" -> "::1"."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].rstrip(".").lower()
