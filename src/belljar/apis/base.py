"""What an API is: paths and their handlers. Each module of this package offers its own as `API`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from belljar.dialects.base import Incoming, Reply
from belljar.server.containers import Containers
from belljar.server.files import FileStore
from belljar.server.metrics import Metrics
from belljar.store.store import Store


class Host(Protocol):
    """The server, as a handler sees it."""

    metrics: Metrics

    @property
    def state(self) -> str:
        """One of "starting", "serving", "stopping"."""

    @property
    def metrics_open(self) -> bool:
        """Whether metrics may be read without a key."""

    @property
    def files(self) -> FileStore:
        """Files that clients have uploaded."""

    @property
    def containers(self) -> Containers:
        """Sessions that live on."""

    @property
    def store(self) -> Store:
        """What is remembered."""

    def facts(self) -> Mapping[str, Any]:
        """What sandboxes are doing now."""

    def knows(self, incoming: Incoming) -> bool:
        """Whether the caller sent a key of this server, or none is needed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Download:
    """A reply whose body is a file, which is sent as it is read: 404 where it has been deleted since."""

    path: Path
    media_type: str
    headers: Mapping[str, str] = field(default_factory=dict)  # without content-length


Handler = Callable[[Host, Incoming], Awaitable[Reply | Download]]
Taker = Callable[[Host, Incoming, AsyncIterator[bytes]], Awaitable[Reply | Download]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint:
    """A path of an API. Handlers of `open` ones are called without a key; they see for themselves whom they tell what.

    A body comes whole, to `handle`, within the bound of the server's settings; or, where there is `take` in its place,
    in pieces, as large as an uploaded file may be. A taker that ends without having read all of them is served, too.
    A handler may raise BelljarError; it is written as `dialect` writes errors, and the key is where that dialect's is.
    `claims` tells whether a request at a path that others serve as well is meant for this one.
    """

    method: str
    path: str
    handle: Handler | None = None
    take: Taker | None = None
    open: bool = False
    dialect: str | None = None
    claims: Callable[[Incoming], bool] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Api:
    """One surface."""

    name: str
    endpoints: tuple[Endpoint, ...]
