"""When an upstream is asked again, how long to wait before, and what is changed where it disliked our manners. Pure."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from belljar.dialects.upstream_request import Manners

RETRY_STATUSES = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
NEW_NAMES = ("api.openai.com", ".openai.azure.com", "api.groq.com", "api.cerebras.ai")  # hosts, or their ends

_UNKNOWN = r"unsupported|unrecogni[sz]ed|unknown|unexpected|extra|not (?:supported|permitted|allowed|valid)"


@dataclass(frozen=True, kw_only=True, slots=True)
class Backoff:
    """Seconds between tries: doubled each time, jittered, at least what the upstream asked for.

    An upstream that asks for more than `patience` is not asked again: the client is told instead.
    """

    retries: int = 2
    base: float = 0.25
    most: float = 4.0
    patience: float = 5.0

    def wait(self, tried: int, asked: float | None, *, at_once: bool = False) -> float | None:
        """How long to wait after `tried` failures; None to give up. `at_once`: the first try does not count."""
        if tried > self.retries or (asked or 0.0) > self.patience:
            return None
        if at_once and tried == 1:
            return 0.0
        backoff: float = min(self.most, self.base * 2 ** (tried - 1))
        return max(asked or 0.0, backoff * random.uniform(0.5, 1.0))


def read_retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds, from `retry-after-ms` or `retry-after` (a number, or an HTTP date: RFC 9110, section 10.2.3)."""
    milliseconds = _seconds(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    text = headers.get("retry-after")
    seconds = _seconds(text)
    if seconds is not None or not text:
        return seconds
    try:
        then = parsedate_to_datetime(text)
    except ValueError:
        return None
    then = then if then.tzinfo else then.replace(tzinfo=UTC)
    return max(0.0, (then - (now or datetime.now(UTC))).total_seconds())


def _seconds(text: str | None) -> float | None:
    return float(text) if text and re.fullmatch(r"\d{1,9}(\.\d*)?", text.strip()) else None


# --- manners ----------------------------------------------------------------------------------------------------------


def first_manners(host: str) -> Manners:
    """How an upstream is spoken to before it has complained."""
    return Manners(tokens_key="max_completion_tokens" if host.endswith(NEW_NAMES) else "max_tokens")


def _about(parameter: str) -> re.Pattern[str]:
    """A message that says that this parameter is not known or not supported."""
    return re.compile(rf"(?:{_UNKNOWN}).{{0,60}}{parameter}|{parameter}.{{0,60}}(?:{_UNKNOWN})", re.I | re.S)


def adapt(manners: Manners, message: str) -> Manners:
    """The manners to try next, after a refusal with this message; the same where it teaches nothing."""
    if manners.stream_options and _STREAM_OPTIONS.search(message):
        return replace(manners, stream_options=False)
    if manners.parallel and _PARALLEL.search(message):
        return replace(manners, parallel=False)
    if manners.tokens_key == "max_tokens" and _USE_NEW.search(message):
        return replace(manners, tokens_key="max_completion_tokens")
    if manners.tokens_key == "max_completion_tokens" and _NO_NEW.search(message):
        return replace(manners, tokens_key="max_tokens")
    return manners


_STREAM_OPTIONS = _about("stream_options")
_PARALLEL = _about("parallel_tool_calls")
_USE_NEW = re.compile(r"max_tokens.*max_completion_tokens.*instead", re.I | re.S)
_NO_NEW = _about("max_completion_tokens")
