"""What the store holds, as values: one class for each table. Times in seconds since 1970, sizes in bytes.

Whatever belongs to somebody has an `owner`: the digest of an API key, "" where the server has no keys. Ids are what
`model.new_id("")` gives (or, for files, what Google's clients choose): unguessable, without the prefixes that vendors
give them.
"""

from __future__ import annotations

import msgspec


class AnswerRow(msgspec.Struct, frozen=True, kw_only=True):
    """A kept answer. `path` and `body` (packed) are the request as it came; `events` (packed) the answer.

    `previous` is the id of the answer that it goes on from. `ended` False: it is being written by a server that renews
    `lease`, the time until which it surely lives.
    """

    id: str
    owner: str
    dialect: str
    created: float
    expires: float
    path: str
    body: bytes
    previous: str | None = None
    conversation: str | None = None
    container: str | None = None
    events: bytes = b""
    ended: bool = False
    lease: float = 0.0

    @property
    def size(self) -> int:
        """What it takes of the store."""
        return len(self.body) + len(self.events) + 500


class ConversationRow(msgspec.Struct, frozen=True, kw_only=True):
    """A kept conversation. `metadata` is its client's JSON; `container`, what it has used last."""

    id: str
    owner: str
    created: float
    expires: float
    metadata: bytes = b"{}"
    container: str | None = None


class ItemRow(msgspec.Struct, frozen=True, kw_only=True):
    """An item of a conversation, in its order by `position`. `body` is JSON, as its dialect writes it."""

    id: str
    conversation: str
    position: int
    body: bytes


class FileRow(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a client's: `name` is what it is called in sandboxes, `title` what its client calls it.

    `blob` names the content, `digest` is its SHA-256. `purpose` is OpenAI's word.
    """

    id: str
    owner: str
    name: str
    media_type: str
    size: int
    digest: bytes
    created: float
    expires: float
    blob: str
    title: str | None = None
    purpose: str = ""


class ContainerRow(msgspec.Struct, frozen=True, kw_only=True):
    """A container. It expires `idle` seconds after `active`; `memory` in bytes, None for what the server gives.

    `executions` counts what has run in it; `auto` tells those that requests made from those that clients made.
    `settings` is JSON that only the API that made it reads. `expired` ones are remembered until `forget`.
    """

    id: str
    owner: str
    name: str
    created: float
    active: float
    idle: float
    memory: int | None = None
    executions: int = 0
    auto: bool = False
    settings: bytes = b"{}"
    expired: bool = False


class ContainerFileRow(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a container. `path` is relative to the working folder; `modified` is the sandbox's own clock reading.

    `source` is "user" or "assistant". `shown`: a picture that code has displayed, which is no file in the sandbox.
    """

    id: str
    container: str
    path: str
    size: int
    created: float
    modified: float
    blob: str
    source: str = "assistant"
    shown: bool = False
