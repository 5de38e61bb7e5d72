"""One server that speaks OpenAI chat completions, over HTTP.

Promises: connections are kept and used again, as many as are needed at once; every wait has a deadline; an answer has
a limit in bytes and in seconds; it is asked again only where nothing of an answer has been shown; closing a turn's
iterator closes its connection at once, which ends the upstream's work; what goes wrong is one of the `Upstream...`
errors, which name the upstream and never hold its key. Not covered: redirects, cookies, HTTP/2.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.request import getproxies, proxy_bypass

import aiohttp
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from belljar.dialects.upstream_chat import Blame, Manners, decode, write_request
from belljar.errors import UpstreamRefused, UpstreamTimeout, UpstreamUnavailable
from belljar.events import TurnEvent
from belljar.model import ModelInfo, Request
from belljar.upstream.answer import Answer, Asked, Trouble, read_all
from belljar.upstream.listing import read_models
from belljar.upstream.retry import RETRY_STATUSES, Backoff, adapt, first_manners, read_retry_after

T = TypeVar("T")
MAX_BYTES = 64 << 20  # of one answer
MAX_ERROR_BYTES = 64 << 10  # that are read of an error's body
MAX_LISTING_BYTES = 16 << 20
LISTING_SECONDS = 15.0
LISTING_BACKOFF = Backoff(retries=1, base=0.1, patience=0.0)
KEEPALIVE_SECONDS = 30.0
MAX_LEARNED = 1000  # models whose manners are remembered
MAX_LESSONS = 3  # in one turn
LOOPBACK = {"localhost", "127.0.0.1", "::1"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeouts:
    """Seconds that an upstream may take: to accept a connection, to its first byte, between bytes, for a whole turn."""

    connect: float = 5.0
    first: float = 600.0
    idle: float = 300.0  # engines hold a call back until it is whole
    turn: float = 3600.0


class Endpoint:
    """One OpenAI-compatible server. `url` is its base URL, such as "http://127.0.0.1:11434/v1"; `name` is for messages.

    May be used from one event loop only; connections are opened when they are needed. Raises ValueError for a URL or
    a key that cannot be.
    """

    def __init__(
        self,
        name: str,
        url: str,
        key: str | None = None,
        *,
        timeouts: Timeouts = Timeouts(),
        retries: int = 2,
        backoff: Backoff | None = None,
        max_bytes: int = MAX_BYTES,
        session: aiohttp.ClientSession | None = None,
    ) -> None:
        """`session` is used and left open; without one, the endpoint has its own. `backoff` goes before `retries`."""
        base = read_base(name, url)
        self.name = name
        self.url = str(base)
        self.timeouts = timeouts
        self.blame = Blame(_who(name, base), key)
        self._backoff = backoff or Backoff(retries=retries)
        self._max_bytes = max_bytes
        self._patience = min(timeouts.first, timeouts.turn)  # until the head of an answer
        self._chat = (base / "chat/completions").with_query(base.query)
        self._models = (base / "models").with_query(base.query)
        self._headers = _headers(name, key)
        self._proxy = _proxy(base)
        self._manners = first_manners(base.host or "")
        self._learned: dict[str, Manners] = {}
        self._session = session
        self._own = session is None
        self._open: set[Answer] = set()

    async def start(self) -> None:
        """Make ready. Connects to nothing."""
        self._ready()

    async def close(self) -> None:
        """Close all connections. Turns that are on their way fail."""
        for answer in list(self._open):
            answer.drop()
        if self._own and self._session is not None:
            await self._session.close()
            self._session = None

    async def turn(
        self,
        model: str,
        request: Request,
        number: int,
        *,
        sees_images: bool,
        label: str | None = None,
        thinks: bool = False,
    ) -> AsyncGenerator[TurnEvent, None]:
        """One turn of its model `model`, as a stream or not as the request says: the events are the same.

        `label` is its name in the events. `thinks`: its template opens `<think>` by itself. Raises UpstreamError.
        """
        asked = Asked(request=request, model=label or model, number=number, thinks=thinks)
        answer, events = await self._ask(model, asked, sees_images)
        try:
            while events:
                for event in events:
                    yield event
                events = await answer.more()
        except Trouble as trouble:
            raise trouble.error from None
        finally:
            answer.close()

    async def models(self) -> list[ModelInfo]:
        """What it lists. Raises UpstreamError: UpstreamRefused with status 404 where it has no list."""
        value = await self._again(self._list, LISTING_BACKOFF)
        return read_models(value, self.name, self.blame)

    # asking

    async def _ask(self, model: str, asked: Asked, sees_images: bool) -> tuple[Answer, list[TurnEvent]]:
        """The answer and its first events, once there are any."""
        for _ in range(MAX_LESSONS):
            manners = self._learned.get(model, self._manners)
            body = write_request(asked.request, model, sees_images=sees_images, manners=manners)
            try:
                return await self._again(lambda: self._try(asked, body), self._backoff)  # noqa: B023 (awaited before the next one)
            except UpstreamRefused as refusal:
                changed = adapt(manners, str(refusal))
                if changed == manners:
                    raise
                if len(self._learned) < MAX_LEARNED or model in self._learned:
                    self._learned[model] = changed
                else:
                    raise
        raise self.blame.broken("refuses parameters in turns")

    async def _again(self, work: Callable[[], Awaitable[T]], backoff: Backoff) -> T:
        """The result of some work, tried again where that is of use."""
        tried = 0
        while True:
            try:
                return await work()
            except Trouble as trouble:
                tried += 1
                wait = backoff.wait(tried, trouble.error.retry_after, at_once=trouble.stale)
                if wait is None or not trouble.again:
                    raise trouble.error from None
                await asyncio.sleep(wait)

    async def _try(self, asked: Asked, body: bytes) -> tuple[Answer, list[TurnEvent]]:
        answer = Answer(asked, self.blame, self.timeouts, self._max_bytes, self._open)
        try:
            answer.begin(await self._send("POST", self._chat, self._patience, body))
            return answer, await answer.more()
        except BaseException:
            answer.close()
            raise

    async def _list(self) -> Any:
        response = await self._send("GET", self._models, min(LISTING_SECONDS, self.timeouts.first))
        try:
            async with asyncio.timeout(LISTING_SECONDS):
                return decode(await read_all(response, self.blame, MAX_LISTING_BYTES), self.blame)
        except TimeoutError:
            raise Trouble(self._too_slow(LISTING_SECONDS)) from None
        finally:
            response.close()

    async def _send(self, method: str, url: URL, seconds: float, body: bytes | None = None) -> aiohttp.ClientResponse:
        """The response's head, of status 200. Raises Trouble."""
        try:
            async with asyncio.timeout(seconds):
                response = await self._ready().request(
                    method, url, data=body, headers=self._headers, allow_redirects=False, proxy=self._proxy
                )
        except (aiohttp.ClientError, OSError) as error:
            raise self._connection_trouble(error, seconds) from None
        if response.status != 200:
            raise await self._refusal(response)
        return response

    def _ready(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_SECONDS, ttl_dns_cache=60),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=self.timeouts.connect),
            )
        return self._session

    # what goes wrong before an answer

    def _too_slow(self, seconds: float) -> UpstreamTimeout:
        return UpstreamTimeout(f"{self.blame.who} did not begin to answer within {seconds:g} seconds")

    def _connection_trouble(self, error: Exception, seconds: float) -> Trouble:
        who = self.blame.who
        if isinstance(error, aiohttp.ServerTimeoutError):
            slow = f"{who} cannot be reached: no connection within {self.timeouts.connect:g} seconds"
            return Trouble(UpstreamUnavailable(slow), again=True)
        if isinstance(error, TimeoutError):
            return Trouble(self._too_slow(seconds))
        if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ClientProxyConnectionError):
            return Trouble(UpstreamUnavailable(f"{who} cannot be reached: {_reason(error)}"), again=True)
        if isinstance(error, aiohttp.ServerConnectionError | aiohttp.ClientOSError | ConnectionError):
            return Trouble(self.blame.broken("closed the connection instead of answering"), again=True, stale=True)
        return Trouble(self.blame.broken("sent what is not HTTP"))

    async def _refusal(self, response: aiohttp.ClientResponse) -> Trouble:
        """What a status other than 200 means."""
        try:
            async with asyncio.timeout(self.timeouts.idle):
                body = await read_all(response, self.blame, MAX_ERROR_BYTES, cut=True)
        except (Trouble, TimeoutError):
            body = b""
        finally:
            response.close()
        status = response.status
        if status < 400:
            where = response.headers.get("location", "nowhere")
            return Trouble(self.blame.broken(f"answered with a redirect (HTTP {status}) to {where}: is its URL right?"))
        error = self.blame.refused(status, body, read_retry_after(response.headers))
        return Trouble(error, again=status in RETRY_STATUSES)


def read_base(name: str, url: str) -> URL:
    """A base URL as it is used. Raises ValueError, saying what to change."""
    try:
        base = URL(url.strip().removesuffix("/").removesuffix("/chat/completions"))
    except ValueError as error:
        raise ValueError(f"the URL of upstream {name} is none: {error}") from None
    if base.scheme not in ("http", "https") or not base.host:
        raise ValueError(f"the URL of upstream {name} must look like http://HOST:PORT/v1")
    if base.user or base.password:
        raise ValueError(f"the URL of upstream {name} holds a password: give it as the upstream's key")
    return base.with_fragment(None)


def _who(name: str, base: URL) -> str:
    host = base.host if base.is_default_port() else f"{base.host}:{base.port}"
    return f"upstream {name}" if name in (host, base.host) else f"upstream {name} ({host})"


def _headers(name: str, key: str | None) -> CIMultiDictProxy[str]:
    headers = {"content-type": "application/json", "accept-encoding": "identity", "user-agent": "belljar"}
    if key:
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise ValueError(f"the key of upstream {name} holds a character that no key can have, as a line break")
        headers["authorization"] = f"Bearer {key}"
    return CIMultiDictProxy(CIMultiDict(headers))


def _proxy(base: URL) -> str | None:
    """The proxy that the environment names for this host."""
    host = base.host or ""
    if host in LOOPBACK or proxy_bypass(host):
        return None
    return getproxies().get(base.scheme)


def _reason(error: Exception) -> str:
    """Why there is no connection, without addresses and class names."""
    cause = getattr(error, "certificate_error", None) or getattr(error, "os_error", error)
    if isinstance(cause, ssl.SSLError):
        return f"TLS failed: {getattr(cause, 'verify_message', None) or cause.reason or 'no reason given'}"
    number = getattr(cause, "errno", None) or 0
    return os.strerror(number) if number > 0 else getattr(cause, "strerror", None) or "the connection was closed"
