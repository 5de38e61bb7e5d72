"""Calls of tools out of the deltas that engines really send.

Promises: however names and arguments are split, the events join to the same; each call has an id of its own, also
beside those of the conversation before; deltas of several calls may be interleaved. Understood: `index` missing,
repeated for every call, or counted on with every delta; `id` missing, late, repeated in each delta, or the same for
several calls; names split, repeated, or given from the beginning each time; arguments as an object.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import msgspec

from belljar.events import ArgumentsDelta, CallOpened, CallReady, TurnEvent
from belljar.model import new_id

_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


def is_object(text: str) -> bool:
    """Whether a text is a whole JSON object."""
    try:
        _decode_object(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return False
    return True


class _Call:
    """A call as far as it has come. `key` is the upstream's id, `id` ours once it is opened."""

    __slots__ = ("id", "index", "key", "name", "pieces")

    def __init__(self, index: Any, key: str) -> None:
        self.index = index
        self.key = key
        self.id = ""
        self.name = ""
        self.pieces: list[str] = []

    @property
    def arguments(self) -> str:
        return "".join(self.pieces)


class CallReader:
    """Deltas in, events out. `names` are those of the functions that were offered, `taken` gives the ids in use."""

    def __init__(self, names: Collection[str], taken: Callable[[], set[str]]) -> None:
        self._names = names
        self._find_taken = taken
        self._taken: set[str] | None = None
        self._calls: list[_Call] = []
        self._by_index: dict[Any, _Call] = {}
        self._by_key: dict[str, _Call] = {}

    @property
    def any(self) -> bool:
        """Whether there is a call."""
        return bool(self._calls)

    @property
    def complete(self) -> bool:
        """Whether the arguments of all calls are whole JSON objects."""
        return all(is_object(call.arguments or "{}") for call in self._calls)

    def feed(self, delta: Any, events: list[TurnEvent]) -> None:
        """Take in one entry of `tool_calls`, and append what is now certain to `events`."""
        if not isinstance(delta, dict):
            return
        function = delta.get("function")
        function = function if isinstance(function, dict) else {}
        name, arguments = function.get("name"), _arguments(function.get("arguments"))
        name = name if isinstance(name, str) else ""
        key, index = delta.get("id"), delta.get("index")
        call = self._find(index if isinstance(index, int) else None, str(key) if key else "", name, arguments)
        if name and not call.id:
            call.name = self._grown(call.name, name)
        if arguments:
            call.pieces.append(arguments)
            self._open(call, events)
            events.append(ArgumentsDelta(call=call.id, text=arguments))

    def end(self, events: list[TurnEvent]) -> None:
        """The turn is over: every call is ready."""
        for call in self._calls:
            self._open(call, events)
        events += [CallReady(call=call.id, arguments=call.arguments or "{}") for call in self._calls]

    # which call a delta belongs to

    def _find(self, index: int | None, key: str, name: str, arguments: str) -> _Call:
        call = self._by_index.get(index) if index is not None else None
        if call is None and key:
            call = self._by_key.get(key)
        if call is None and not key and self._calls and (index is None or not name):
            call = self._calls[-1]
        if call is None and key and not name and self._calls and not self._calls[-1].key:
            call = self._calls[-1]  # its id comes late
        if call is None or self._begins_another(call, index, key, name, arguments):
            call = _Call(index, key)
            self._calls.append(call)
        if index is not None:
            self._by_index[index] = call
        if key:
            call.key = call.key or key
            self._by_key[key] = call
        return call

    def _begins_another(self, call: _Call, index: int | None, key: str, name: str, arguments: str) -> bool:
        """Whether a delta that is addressed like `call` is another call's: only one with a name can be."""
        if not name:
            return False
        if key and call.key and key != call.key:
            return bool(call.pieces) or not self._goes_on(call.name, name)
        moved = index is not None and call.index is not None and index != call.index
        if not call.pieces:
            other = not self._grows(call.name, name) and name in self._names
            return bool(call.name) and (other or (moved and not self._goes_on(call.name, name)))
        return moved or (bool(arguments) and is_object(call.arguments))

    def _goes_on(self, name: str, more: str) -> bool:
        return any(known.startswith(name + more) for known in self._names)

    def _grows(self, name: str, more: str) -> bool:
        """Whether `more` may be the rest of a name, or all of it again, rather than the next call's."""
        again = more == name or (more.startswith(name) and name not in self._names)
        return again or self._goes_on(name, more)

    def _grown(self, name: str, more: str) -> str:
        """A name with its next piece: the rest of it, or all of it once more."""
        if not name or (not self._goes_on(name, more) and more.startswith(name)):
            return more
        if name in self._names and not self._goes_on(name, more):
            return name
        return name + more

    # what is told of it

    def _open(self, call: _Call, events: list[TurnEvent]) -> None:
        if call.id:
            return
        if self._taken is None:
            self._taken = self._find_taken()
        call.id = call.key if call.key and call.key not in self._taken else new_id("call_")
        self._taken.add(call.id)
        events.append(CallOpened(call=call.id, name=self._clean(call.name)))

    def _clean(self, name: str) -> str:
        """The name without what models of the GPT-OSS kind write around it: `functions.python<|channel|>json`."""
        name = name.partition("<|")[0].strip()
        bare = name.rpartition(".")[2]
        return bare if name not in self._names and bare in self._names else name


def _arguments(value: Any) -> str:
    if isinstance(value, str):
        return value
    return _encode(value).decode() if value is not None else ""
