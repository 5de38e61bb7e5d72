"""API keys: who may ask.

Promises: keys are kept and compared as SHA-256 digests, in a time that tells nothing about them; no message holds one.
Not covered: which key may do what, or how much.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
from pathlib import Path

from belljar.errors import HostError, Unauthorized
from belljar.server.settings import Settings


class Keys:
    """The keys that open this server; none at all means that it is open."""

    def __init__(self, values: tuple[str, ...]) -> None:
        self._digests = tuple(dict.fromkeys(_digest(value) for value in values))

    def __bool__(self) -> bool:
        return bool(self._digests)

    def __len__(self) -> int:
        return len(self._digests)

    def check(self, key: str | None) -> str:
        """Who asks, as a word that does not tell the key; "" where none is needed. Raises Unauthorized: no key, or a
        wrong one.
        """
        if not self._digests:
            return ""
        if not key:
            raise Unauthorized("no API key was sent; this server needs one (Authorization: Bearer KEY)")
        digest = _digest(key)
        matches = [hmac.compare_digest(digest, known) for known in self._digests]  # all, whichever it is
        if not any(matches):
            raise Unauthorized("the API key is not known to this server")
        return digest.hex()


def read_keys(settings: Settings) -> Keys:
    """The keys of the settings and their file. Raises HostError: a file that cannot be read, or that holds none."""
    values = [key.strip() for key in settings.api_key]
    if settings.api_keys_file:
        values += _read_file(Path(settings.api_keys_file))
    if any(not value or any(c.isspace() for c in value) for value in values):
        raise HostError("an API key is empty or holds a space")
    return Keys(tuple(values))


def is_shared(path: str) -> bool:
    """Whether users other than its owner may read a file of keys: worth a warning."""
    return bool(os.stat(path).st_mode & (stat.S_IRGRP | stat.S_IROTH))  # noqa: PTH116 -- read_keys has opened it


def _read_file(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise HostError(f"API keys: {path} cannot be read: {error}") from None
    keys = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not keys:
        raise HostError(f"API keys: {path} holds none")
    return keys


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
