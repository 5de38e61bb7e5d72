"""Blocking work beside the event loop, also when the process is ending."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


async def in_thread(function: Callable[..., T], *arguments: Any) -> T:
    """Run a blocking function in the loop's thread pool. Raises what it raises.

    At the end of a process, when Python starts no more threads, it runs here and now: clean-up must still be done.
    """
    work = functools.partial(function, *arguments)
    try:
        future = asyncio.get_running_loop().run_in_executor(None, work)
    except RuntimeError:
        return work()
    return await future
