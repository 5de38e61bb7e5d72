"""What Google's dialects share: the versions in their paths, and where their clients put a key."""

from __future__ import annotations

from belljar.dialects.base import Incoming, read_bearer

VERSIONS = ("v1", "v1beta", "v1beta1", "v1alpha")


def read_key(incoming: Incoming) -> str | None:
    """The key in the header of Google's SDKs, in `?key=` as people write it, or as a bearer token."""
    key = incoming.headers.get("x-goog-api-key", "").strip() or incoming.query.get("key", "").strip()
    return key or read_bearer(incoming)
