"""The vocabulary of conversations: messages and their parts, tools, what a request asks for, what it cost.

Frozen values, owned by no vendor. A dialect reads its own wire format into a `Request`; the loop and the upstream know
nothing else. What only a dialect understands rides in `extra`, opaque to everybody but the one that put it there.
"""

from __future__ import annotations

import enum
import secrets
from collections.abc import Mapping
from typing import Any

import msgspec

Extra = Mapping[str, Any]
NOTHING: Extra = {}


def new_id(prefix: str) -> str:
    """An identifier that cannot be guessed: the prefix and 24 hexadecimal digits (96 random bits)."""
    return prefix + secrets.token_hex(12)


# --- messages ---------------------------------------------------------------------------------------------------------


class Role(enum.StrEnum):
    """Who speaks. `TOOL` messages hold `CallResult`s only."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class Text(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Words."""

    text: str


class Image(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A picture for models that see: its bytes, or a URL that the upstream may fetch. `media_type` as "image/png"."""

    media_type: str
    data: bytes | None = None
    url: str | None = None
    extra: Extra = {}


class File(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A file of the client's. It is put into the sandbox, and the model is told its name."""

    name: str
    media_type: str
    data: bytes


class FileRef(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A file that the client has uploaded before, by the name that the server gave it. The service puts the file (or
    the picture) in its place before the loop sees it.
    """

    uri: str
    media_type: str | None = None


class ItemRef(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """An item of a kept answer, by the id that it had there. The service puts what the model said in its place."""

    id: str


class Reasoning(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What the model thought before it answered."""

    text: str
    extra: Extra = {}


class Call(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A call of a tool. `arguments` is the text that the model wrote, meant to be a JSON object.

    `builtin` tells calls that Belljar has run from those of the client's own functions.
    """

    id: str
    name: str
    arguments: str
    builtin: bool = False
    extra: Extra = {}


class CallResult(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What a call gave, as the model reads it. `images` are for models that see."""

    call: str
    text: str
    images: tuple[Image, ...] = ()
    builtin: bool = False


Part = Text | Image | File | FileRef | ItemRef | Reasoning | Call | CallResult


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One message. `name` tells speakers of the same role apart, where a client gave it."""

    role: Role
    parts: tuple[Part, ...]
    name: str | None = None

    @property
    def text(self) -> str:
        """All its words, without reasoning."""
        return "".join(part.text for part in self.parts if isinstance(part, Text))


# --- what is asked for ------------------------------------------------------------------------------------------------


class Function(msgspec.Struct, frozen=True, kw_only=True):
    """A tool as the model is told of it. `parameters` is a JSON Schema; None where the client gave none."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] | None = None
    strict: bool | None = None


class Mode(enum.StrEnum):
    """Whether the model calls tools: as it likes, never, or at least once."""

    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """The tool choice; with a `name`, that tool must be called. None stands for what the upstream takes as default."""

    mode: Mode | None = None
    name: str | None = None


class Format(msgspec.Struct, frozen=True, kw_only=True):
    """The format of the answer: any JSON object, or with a `schema` (JSON Schema) one that fits it."""

    schema: Mapping[str, Any] | None = None
    name: str = "answer"
    description: str | None = None
    strict: bool | None = None


class Container(msgspec.Struct, frozen=True, kw_only=True):
    """A session that lives on after the request: its interpreter and its files are there for the next one.

    `id` names one that there is; without it the last living one of `seen` (those that the conversation has used
    before) goes on, else a new one is made. `files` are ids of uploaded files that are put into it; `memory`, in bytes,
    is what a new one may use, None for what the server gives.
    """

    id: str | None = None
    seen: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    memory: int | None = None


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One request: a conversation, and what is to be done about it.

    `builtin` names the tools that run on our side ("python"); `functions` are the client's own (and, in what the loop
    sends to a model, the built-in ones as well). `options` are sampling parameters under the names that OpenAI's chat
    completions gave them (temperature, top_p, seed, stop, max_completion_tokens ...), passed on as they are.
    `planning` and `answering` name the models that do the work, and that write the last answer, where those are others
    than the one behind `model`. `max_calls` bounds the built-in calls below the server's own budget. `validate_calls`
    False lets calls of functions that were not given through to the client. `owner` tells whose files and stored
    conversations may be used: "" where the server has no keys.

    `keep` asks to keep the answer, so that it can be asked for again and gone on from; `background`, to write it while
    the client does not wait. `previous` names a kept answer: its conversation comes before these messages.
    """

    model: str
    messages: tuple[Message, ...]
    builtin: tuple[str, ...] = ()
    functions: tuple[Function, ...] = ()
    choice: Choice = Choice()
    parallel: bool | None = None
    options: Mapping[str, Any] = {}
    format: Format | None = None
    effort: str | None = None
    stream: bool = False
    planning: str | None = None
    answering: str | None = None
    max_calls: int | None = None
    validate_calls: bool = True
    owner: str = ""
    keep: bool = False
    background: bool = False
    previous: str | None = None
    conversation: str | None = None
    container: Container | None = None
    extra: Extra = {}


# --- what it cost -----------------------------------------------------------------------------------------------------


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens as the upstream counted them, and seconds as measured here.

    `prompt_seconds` is the time to the first token, None where it could not be seen (an upstream that does not
    stream); `seconds` is all of the turn.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    cached_tokens: int = 0
    prompt_seconds: float | None = None
    seconds: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        """Both together; what one of them lacks is counted as zero, unless both do."""
        known = [value for value in (self.prompt_seconds, other.prompt_seconds) if value is not None]
        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            prompt_seconds=sum(known) if known else None,
            seconds=self.seconds + other.seconds,
        )

    @property
    def total_tokens(self) -> int:
        """Prompt and completion."""
        return self.prompt_tokens + self.completion_tokens


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A model that can be asked for. `created` in seconds since 1970; `owner` is who serves it."""

    id: str
    owner: str
    created: int = 0
    extra: Extra = {}
