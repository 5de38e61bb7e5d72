"""Belljar: a code interpreter for any language model, in sandboxes of its own.

from belljar import Sandbox

with Sandbox() as s:
    print(s.run("2 + 2").text)
"""

from __future__ import annotations

from belljar.errors import (
    AtCapacity,
    BelljarError,
    ClientError,
    FileError,
    HostError,
    ImageError,
    IsolationUnavailable,
    SandboxFailed,
    SessionClosed,
)
from belljar.execution import Execution, FileInfo, GuestError, Outcome, Output, Result
from belljar.sandbox.base import Limits
from belljar.sandbox.pool import Pool
from belljar.sandbox.sync import Sandbox

__version__ = "0.1.0"

__all__ = [
    "AtCapacity",
    "BelljarError",
    "ClientError",
    "Execution",
    "FileError",
    "FileInfo",
    "GuestError",
    "HostError",
    "ImageError",
    "IsolationUnavailable",
    "Limits",
    "Outcome",
    "Output",
    "Pool",
    "Result",
    "Sandbox",
    "SandboxFailed",
    "SessionClosed",
]
