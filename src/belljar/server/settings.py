"""What can be set about the server, as frozen values: addresses and keys, sandboxes, bounds of HTTP.

Each field with a `help` is an option of `belljar serve`, derived from the field itself (belljar.cli.fields). Promises:
values that cannot be are refused with what to change; an address that others can reach needs API keys.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import Any

LOG_FORMATS = ("text", "json")
LOG_LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True, kw_only=True)
class HttpLimits:
    """Bounds of single connections and requests: bytes and seconds. None of them is an option."""

    head_bytes: int = 64 << 10  # request line and headers
    headers: int = 100
    head_seconds: float = 15.0  # from the first byte to the end of the headers
    body_seconds: float = 120.0
    idle_seconds: int = 75  # between two requests of one connection
    send_seconds: float = 60.0  # a client that takes nothing for so long is gone
    drain_seconds: float = 10.0  # for what is still to come of a body that was refused


def _option(default: Any, text: str, metavar: str = "", *, zero: bool = False) -> Any:
    return field(default=default, metadata={"help": text, "metavar": metavar, "zero": zero})


def _choice(default: str, text: str, choices: tuple[str, ...]) -> Any:
    return field(default=default, metadata={"help": text, "choices": choices})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The server's own settings. Raises ValueError ("name: what is wrong") for values that cannot be."""

    host: str = _option("127.0.0.1", "Address to listen at. Any but loopback needs API keys.", "ADDRESS")
    port: int = _option(8787, "Port to listen at; 0 takes a free one.", "PORT", zero=True)
    api_key: tuple[str, ...] = _option(
        (),
        "A key that clients must send; may be given again. Other users of this host see command lines: better "
        "BELLJAR_SERVE_API_KEY in the environment, or --api-keys-file.",
        "KEY",
    )
    api_keys_file: str | None = _option(None, "More such keys, one a line.", "FILE")
    cors_origin: tuple[str, ...] = _option(
        (), "A site whose pages may use this server, as https://example.org; may be given again.", "ORIGIN"
    )
    max_body: int = _option(32 << 20, "Size of a request's body, in bytes; of a file's it is --keep-file.")
    heartbeat: float = _option(
        10.0, "Seconds of silence after which a waiting client is sent something that means nothing.", "N"
    )
    grace: float = _option(5.0, "Seconds that running requests get to end when the server is stopped.", "N", zero=True)
    lenient: bool = _option(
        False, "Do what a vendor refuses though it can be done: Qwen-Max with code, but without thinking or streaming."
    )
    metrics_open: bool = _option(False, "Serve /metrics without a key, too.")
    log_format: str = _choice("text", "How to write the log.", LOG_FORMATS)
    log_level: str = _choice("info", "The least that is logged; info has a line for each request.", LOG_LEVELS)
    http: HttpLimits = field(default_factory=HttpLimits)

    def __post_init__(self) -> None:
        """Check what the types do not say."""
        if not 0 <= self.port < 1 << 16:
            raise ValueError(f"port: {self.port} is no port; they go from 0 to 65535")
        for name in ("max_body", "heartbeat"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: it must be above 0")
        if self.grace < 0:
            raise ValueError("grace: it must not be below 0")
        for origin in self.cors_origin:
            if origin != "*" and not _is_origin(origin):
                raise ValueError(f"cors_origin: {origin!r} is no origin; write it as https://example.org, without path")

    @property
    def has_keys(self) -> bool:
        """Whether clients must send a key."""
        return bool(self.api_key or self.api_keys_file)

    def check_exposure(self) -> None:
        """Refuse to be open to others without a key. Raises ValueError that says what to do."""
        if self.has_keys:
            return
        if not is_loopback(self.host):
            raise ValueError(
                f"host: {self.host} can be reached by others, so API keys are needed: set BELLJAR_SERVE_API_KEY or "
                "--api-keys-file, or listen at 127.0.0.1"
            )
        if "*" in self.cors_origin:
            raise ValueError(
                "cors_origin: * lets any web page run code here, so API keys are needed; or name the sites"
            )


@dataclass(frozen=True, kw_only=True)
class Stock:
    """How many sandboxes there are, and how long requests wait for one."""

    ready: int = _option(8, "Sandboxes kept ready.", "N", zero=True)
    max_sandboxes: int | None = _option(None, "Sandboxes at once.  [default: what this host can hold]", "N")
    queue: int = _option(1024, "Requests that may wait for a sandbox; more are refused at once.", "N", zero=True)
    wait: float = _option(30.0, "Seconds that a request waits for a sandbox at most.", "N")
    max_memory: int | None = _option(
        None,
        "Memory that a container may ask for, in bytes.  [default: 4 GiB or --memory, whichever is more, but at most "
        "half of what is free at the start]",
    )
    zygotes: int = _option(
        0, "Processes that sandboxes are forked from; 0 means one for each processor, at most 2.", "N", zero=True
    )


@dataclass(frozen=True, kw_only=True)
class Keep:
    """What clients may leave here, and for how long."""

    data: str | None = _option(
        None,
        "Folder for what is kept: answers, conversations, files.  [default: `store` in Belljar's own, which is "
        "/var/lib/belljar for root and ~/.local/share/belljar for others]",
        "FOLDER",
    )
    store: str | None = _option(
        None,
        "Database for it, as postgresql://USER@HOST/NAME. Other users of this host see command lines: a password "
        "better in BELLJAR_SERVE_STORE.  [default: SQLite in --data]",
        "URL",
    )
    keep_hours: float = _option(720.0, "Hours for which files, answers and conversations are kept.", "N")
    keep_file: int = _option(512 << 20, "Size of an uploaded file, in bytes.")
    keep_files: int = _option(2 << 30, "Size of all uploaded files of one key, in bytes; of all keys, four times that.")
    kept_sandboxes: int | None = _option(
        None,
        "Idle interpreters of containers that stay alive; others are started again when they are asked for, with their "
        "files but without variables.  [default: a quarter of --max-sandboxes]",
        "N",
        zero=True,
    )
    keep_answers: int = _option(4 << 30, "Size of all kept answers, in bytes; the oldest make room.")


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect to an address. Names other than localhost are not looked up: no."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _is_origin(text: str) -> bool:
    """A scheme and a host, perhaps a port, and nothing else (RFC 6454, section 6.2)."""
    scheme, found, rest = text.partition("://")
    return bool(found and scheme and rest) and not any(c in "/?#@ " or c.isspace() for c in rest)
