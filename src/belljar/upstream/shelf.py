"""One upstream's list of models, kept for a while.

Promises: one fetch at a time, whoever asks; a fetch that fails leaves the last good list in place; nothing raises.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from belljar.errors import BelljarError
from belljar.model import ModelInfo

log = logging.getLogger(__name__)

FRESH = 30.0  # seconds for which a list is not asked for again
FAILED = 5.0  # and a failure
SOON = 2.0  # seconds between two fetches where a name is asked for that the list lacks
LONGEST = 5.0  # seconds that a fetch may take


class Shelf:
    """What an upstream lists."""

    def __init__(self, name: str, fetch: Callable[[], Awaitable[Sequence[ModelInfo]]]) -> None:
        self.models: Mapping[str, ModelInfo] = {}
        self.known = False  # whether there ever was a list
        self.error: str | None = None  # of the last fetch
        self.version = 0  # grows when other models are listed
        self._name = name
        self._fetch = fetch
        self._fetched: float | None = None
        self._task: asyncio.Task[None] | None = None

    async def refresh(self, *, missed: bool = False) -> None:
        """Fetch the list where it is old; `missed` says that a name was not in it, so that sooner is right."""
        if self._task is None:
            longest = SOON if missed else FAILED if self.error else FRESH
            if self._fetched is not None and time.monotonic() - self._fetched < longest:
                return
            self._task = asyncio.create_task(self._renew(), name=f"models of {self._name}")
        await asyncio.wait([self._task])  # the fetch goes on for others when this waiter is cancelled

    async def close(self) -> None:
        """Give up a running fetch."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _renew(self) -> None:
        try:
            async with asyncio.timeout(LONGEST):
                models = await self._fetch()
        except TimeoutError:
            self._failed(f"upstream {self._name} did not list its models within {LONGEST:g} seconds")
        except BelljarError as error:
            self._failed(str(error))
        except Exception:
            log.exception("listing the models of %s failed", self._name)
            self._failed(f"upstream {self._name} could not be asked for its models")
        else:
            self._succeeded(models)
        finally:
            self._fetched, self._task = time.monotonic(), None

    def _succeeded(self, models: Sequence[ModelInfo]) -> None:
        if self.error:
            log.info("upstream %s lists its models again", self._name)
        listed = {model.id: model for model in models}
        if not self.known or listed.keys() != self.models.keys():
            self.version += 1
        self.models, self.known, self.error = listed, True, None

    def _failed(self, message: str) -> None:
        if message != self.error:
            log.warning("no list of models: %s", message)
        self.error = message
