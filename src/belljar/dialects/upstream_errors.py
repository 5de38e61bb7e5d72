"""What went wrong at an upstream, in our words: its status and error body become one of the `Upstream...` errors.

Promises: a message names the upstream, is short, and never holds the upstream's key, even where its server echoes it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from belljar.errors import UpstreamError, UpstreamRefused, UpstreamTimeout, UpstreamUnavailable

MAX_MESSAGE = 1000  # characters of an upstream's own message
MAX_DEPTH = 8  # levels at which a message is looked for
MESSAGE_KEYS = ("error", "message", "msg", "detail", "details")
MASK = "***"
KEY_HEAD = 8  # characters of a long key by which a shortened echo of it is known
LONG_KEY = 20

PASSED_ON = {400, 404, 413, 422, 429}  # the client's business
KEY_REFUSED = {401, 403}
FAILURES: Mapping[int, type[UpstreamError]] = {
    408: UpstreamTimeout,
    409: UpstreamUnavailable,
    425: UpstreamUnavailable,
    503: UpstreamUnavailable,
    504: UpstreamTimeout,
    529: UpstreamUnavailable,
}
NO_MESSAGE = "no reason given"


@dataclass(frozen=True, slots=True)
class Blame:
    """Makes the errors of one upstream. `who` names it, as "upstream ollama (127.0.0.1:11434)"."""

    who: str = "the upstream"
    key: str | None = field(default=None, repr=False)

    def refused(self, status: int, body: bytes, retry_after: float | None = None) -> UpstreamError:
        """The error for an answer that is none: `status` is not 200."""
        return self._error(status, _decode(body), retry_after, f"failed (HTTP {status})")

    def in_answer(self, value: Any) -> UpstreamError:
        """The error for an error object inside an answer that began with status 200."""
        fault = value.get("error", value) if isinstance(value, dict) else value
        status = _status(fault) or _status(value) or 502
        return self._error(status, value, None, "failed in its answer")

    def broken(self, what: str) -> UpstreamError:
        """It broke the protocol; `what` goes on after its name, as in "sent no JSON"."""
        return UpstreamError(f"{self.who} {self.clean(what)}")

    def clean(self, text: str) -> str:
        """A text of the upstream's as one short line, without its key."""
        if self.key:
            text = text.replace(self.key, MASK)
            if len(self.key) >= LONG_KEY:
                text = re.sub(re.escape(self.key[:KEY_HEAD]) + r"[^\s\"'<>]*", MASK, text)
        text = " ".join(text[: 4 * MAX_MESSAGE].split())
        return text if len(text) <= MAX_MESSAGE else text[: MAX_MESSAGE - 1] + "…"

    def _error(self, status: int, value: Any, retry_after: float | None, failed: str) -> UpstreamError:
        fault = value.get("error", value) if isinstance(value, dict) else value
        message = self.clean(_message(value)) or NO_MESSAGE
        if status in KEY_REFUSED:
            return self._key_error(status, message)
        if status in PASSED_ON:
            return UpstreamRefused(
                f"{self.who}: {message}",
                status=status,
                code=self._word(fault, "code"),
                kind=self._word(fault, "type"),
                param=self._word(fault, "param"),
                retry_after=retry_after,
            )
        failure = FAILURES.get(status, UpstreamError)
        error = failure(f"{self.who} {failed}: {message}")
        error.retry_after = retry_after
        return error

    def _key_error(self, status: int, message: str) -> UpstreamError:
        """Our key is our matter: what is said of it, which often quotes it, is told for 403 only."""
        held = "the key that it was sent" if self.key else "a request without a key"
        why = f": {message}" if status == 403 and message != NO_MESSAGE else ""
        return UpstreamError(f"{self.who} refused {held} (HTTP {status}){why}")

    def _word(self, fault: Any, name: str) -> str | None:
        value = fault.get(name) if isinstance(fault, dict) else None
        return self.clean(str(value)) if isinstance(value, str | int) and not isinstance(value, bool) else None


def _decode(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return re.sub(r"<[^<>]*>", " ", body[: 8 * MAX_MESSAGE].decode("utf-8", "replace"))


def _status(fault: Any) -> int | None:
    """An HTTP status that an error object tells: under `status_code`, `status`, or as its `code`."""
    if not isinstance(fault, dict):
        return None
    numbers = [fault.get(name) for name in ("status_code", "status", "code")]
    known = [int(n) for n in numbers if (isinstance(n, int) or (isinstance(n, str) and n.isdecimal() and len(n) == 3))]
    return next((number for number in known if 400 <= number < 600), None)


def _message(value: Any, depth: int = MAX_DEPTH) -> str:
    """The message of an error body: OpenAI's form, FastAPI's `detail`, a list of one, or a bare text."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and depth:
        return "; ".join(filter(None, (_message(item, depth - 1) for item in value[:3])))
    if isinstance(value, dict) and depth:
        found = (_message(value[name], depth - 1) for name in MESSAGE_KEYS if value.get(name))
        place = value.get("loc")
        where = ".".join(map(str, place)) + ": " if isinstance(place, list) else ""
        return where + next(filter(None, found), "")
    return ""
