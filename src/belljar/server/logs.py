"""The log: one line a request, in text or JSON, to standard error.

Promises: no message, code, key or body is logged; what clients chose (their own request id, a model's name) is cut and
cannot break a line. Records carry values as `extra={"fields": {...}}`. Written to be cheap: lines are joined for a
tenth of a second, so a process that is killed with SIGKILL loses the last ones.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

from pythonjsonlogger.msgspec import MsgspecFormatter

from belljar.server.exchange import Exchange
from belljar.server.metrics import Tally

ACCESS = logging.getLogger("belljar.access")
CHOSEN_LENGTH = 100  # characters of what a client chose
HOLD_SECONDS = 0.1  # that a line waits for others at most
MOST_HELD = 256  # lines
ROUTINE = ("health",)  # actions that come every few seconds, from machines
QUIET = ("alembic", "uvicorn.error", "uvicorn.access", "asyncio", "aiohttp")  # they have nothing to say below an error


class TextFormatter(logging.Formatter):
    """`2026-01-31T12:00:00.123Z info belljar.access: request status=200 ms=12.3`."""

    def __init__(self) -> None:
        super().__init__()
        self._second = -1
        self._stamp = ""  # of that second

    def format(self, record: logging.LogRecord) -> str:
        """One line, and the traceback where there is one."""
        second = int(record.created)
        if second != self._second:
            self._second, self._stamp = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        stamp = f"{self._stamp}.{int(record.created * 1000) % 1000:03}Z"
        message = record.getMessage().replace("\n", "\\n").replace("\r", "\\r")
        fields = [f" {key}={value}" for key, value in getattr(record, "fields", {}).items()]
        text = f"{stamp} {record.levelname.lower()} {record.name}: {message}{''.join(fields)}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


class JsonFormatter(MsgspecFormatter):
    """One JSON object: time, level, logger, message, the record's fields, and exc_info where there is a traceback."""

    def __init__(self) -> None:
        names = {"levelname": "level", "name": "logger"}
        super().__init__("{levelname}{name}{message}", style="{", timestamp="time", rename_fields=names)

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        """Put the record's fields beside the others."""
        super().add_fields(log_data, record, message_dict)
        log_data.update(log_data.pop("fields", {}))


FORMATTERS: dict[str, Callable[[], logging.Formatter]] = {"text": TextFormatter, "json": JsonFormatter}


class JoiningHandler(logging.StreamHandler[TextIO]):
    """Writes the lines of a moment at once, as each system call costs more than the line. What is told at a warning or
    above is written at once, after what is held; so is everything outside an event loop.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._held: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Hold the line, or write it."""
        try:
            self._held.append(self.format(record) + "\n")
            if record.levelno >= logging.WARNING or len(self._held) >= MOST_HELD:
                self.flush()
            elif len(self._held) == 1:
                self._flush_soon()
        except Exception:
            self.handleError(record)

    def flush(self) -> None:
        """Write what is held."""
        held, self._held = self._held, []
        if held:
            self.stream.write("".join(held))
        super().flush()

    def _flush_soon(self) -> None:
        try:
            asyncio.get_running_loop().call_later(HOLD_SECONDS, self.flush)
        except RuntimeError:
            self.flush()


def configure(form: str, level: str) -> None:
    """Set up the log of this process. `form` is one of LOG_FORMATS, `level` of LOG_LEVELS."""
    handler = JoiningHandler(sys.stderr)
    handler.setFormatter(FORMATTERS[form]())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False  # no line tells them


def tell(message: str, fields: dict[str, Any]) -> None:
    """A line that no level leaves out."""
    record = logging.LogRecord("belljar", logging.INFO, "", 0, message, None, None)
    record.fields = fields
    logging.getLogger("belljar").handle(record)


def log_request(exchange: Exchange, tally: Tally, seconds: float) -> None:
    """The line of a request that is over."""
    level = logging.DEBUG if tally.action in ROUTINE else logging.INFO
    if ACCESS.isEnabledFor(level):
        record = logging.LogRecord(ACCESS.name, level, "", 0, "request", None, None)  # who calls is known: here
        record.fields = _fields(exchange, tally, seconds)
        ACCESS.handle(record)


def _fields(exchange: Exchange, tally: Tally, seconds: float) -> dict[str, Any]:
    fields: dict[str, Any] = {"request": exchange.id}
    if tally.action:
        fields["dialect"], fields["action"] = tally.dialect, tally.action
    else:
        fields["action"] = f"{exchange.method} {chosen(exchange.path)}"
    if tally.model:
        fields["model"], fields["stream"] = chosen(tally.model), tally.stream
    fields["status"], fields["outcome"] = exchange.status, tally.outcome
    fields["ms"] = round(seconds * 1e3, 1)
    if exchange.first_byte_at is not None:
        fields["first_ms"] = round((exchange.first_byte_at - exchange.started_at) * 1e3, 1)
    if tally.turns:
        fields["turns"], fields["calls"] = len(tally.turns), len(tally.executions)
        fields["prompt_tokens"], fields["completion_tokens"] = tally.tokens
    if (theirs := exchange.headers.get("x-request-id")) is not None:
        fields["client_request"] = chosen(theirs)
    return fields


def chosen(text: str) -> str:
    """What a client chose, made fit for a line: no space, nothing that cannot be printed, not long."""
    text = text[:CHOSEN_LENGTH]
    if text.isprintable() and " " not in text:
        return text
    return "".join(c if c.isprintable() and not c.isspace() else "?" for c in text)
