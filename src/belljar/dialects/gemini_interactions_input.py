"""The input of an interaction, into neutral messages.

Promises: a text, a content, a list of contents, of steps, or of turns with a role become messages in their order; a
wrong one is a BadRequest that names its place. Contents and steps are tables. Not covered: the interaction that it goes
on from, whose calls the server knows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn
from urllib.parse import urlsplit

from belljar.dialects.attached import Attachments, is_data_url, read_base64, read_data_url
from belljar.dialects.base import write_json
from belljar.dialects.fields import filled, listing, mapping, maybe, member, refuse, text, words
from belljar.dialects.gemini_interactions_settings import PYTHON
from belljar.model import Call, CallResult, FileRef, Image, Message, Part, Role, Text
from belljar.partial import write_code

MAX_ITEMS = 10_000
MAX_FILES = 1_000
ROLES = {"user": Role.USER, "model": Role.ASSISTANT}
UNAVAILABLE_CONTENT = ("audio", "video")
UNAVAILABLE_HERE = "is `{name}`, which is not available on this server; here there is {instead}"


def read_input(value: Any, *, images_as_files: bool, goes_on: bool) -> tuple[Message, ...]:
    """All messages. Raises BadRequest.

    `images_as_files` puts pictures into the sandbox as well; `goes_on` says that there is an earlier interaction, whose
    function calls may be answered.
    """
    reader = _Reader(images_as_files)
    if isinstance(value, str):
        reader.say(Role.USER, Text(text=value))
    elif isinstance(value, dict):
        reader.add(value, "input")
    else:
        items = listing(value, "input")
        if not items:
            refuse("input", "must not be empty")
        if len(items) > MAX_ITEMS:
            refuse("input", f"must hold at most {MAX_ITEMS:,} items")
        for at, item in enumerate(items):
            reader.add(mapping(item, f"input.{at}"), f"input.{at}")
    reader.check(goes_on)
    return tuple(Message(role=role, parts=tuple(parts)) for role, parts in reader.messages)


class _Reader:
    """The conversation so far: messages, names of files, calls."""

    def __init__(self, images_as_files: bool) -> None:
        self.messages: list[tuple[Role, list[Part]]] = []
        self.files = Attachments()
        self.images_as_files = images_as_files
        self.calls: dict[str, str] = {}  # that wait for a result -> their place
        self.results: dict[str, str] = {}  # of calls that are not in the input -> their place

    def say(self, role: Role, *parts: Part) -> None:
        """More of what somebody says; results stand alone."""
        if self.messages and self.messages[-1][0] is role and role is not Role.TOOL:
            self.messages[-1][1].extend(parts)
        elif parts:
            self.messages.append((role, list(parts)))

    def add(self, value: Mapping[str, Any], param: str) -> None:
        """Read one item."""
        if "role" in value:
            self._turn(value, param)
            return
        kind = member(value, "type", text, param)
        if kind in CONTENTS:
            self.say(Role.USER, *self._content(value, param, CONTENTS))
        elif kind in STEPS:
            STEPS[kind](self, value, param)
        else:
            _refuse_type(kind, f"{param}.type", (*CONTENTS, *STEPS))

    def check(self, goes_on: bool) -> None:
        """Each call has its result, and each result its call."""
        for call, place in self.calls.items():
            refuse(place, f"{call[:80]!r} has no result in the input: send one")
        if not goes_on:
            for call, place in self.results.items():
                refuse(place, f"{call[:80]!r} is the id of no earlier call")
        if len(self.files) > MAX_FILES:
            refuse("input", f"must hold at most {MAX_FILES:,} files and pictures")
        if not any(parts for _, parts in self.messages):
            refuse("input", "must not be empty")

    def _turn(self, value: Mapping[str, Any], param: str) -> None:
        """A message with a role, as the first form of this API had them."""
        name = member(value, "role", text, param)
        if name not in ROLES:
            refuse(f"{param}.role", f"must be one of {words(ROLES)}, not {name[:40]!r}")
        self._contents(ROLES[name], value, param)

    def _contents(self, role: Role, value: Mapping[str, Any], param: str) -> None:
        content, place = value.get("content"), f"{param}.content"
        if isinstance(content, str):
            self.say(role, Text(text=content))
            return
        if isinstance(content, dict):
            content = [content]
        known = CONTENTS if role is Role.USER else OUTPUTS
        for at, item in enumerate(listing(content if content is not None else [], place)):
            self.say(role, *self._content(mapping(item, f"{place}.{at}"), f"{place}.{at}", known))

    # --- contents -----------------------------------------------------------------------------------------------------

    def _content(self, value: Mapping[str, Any], param: str, known: Mapping[str, _ContentReader]) -> tuple[Part, ...]:
        kind = member(value, "type", text, param)
        if kind not in known:
            _refuse_type(kind, f"{param}.type", known)
        return known[kind](self, value, param)

    def on_text(self, value: Mapping[str, Any], param: str) -> tuple[Part, ...]:
        """Words."""
        return (Text(text=member(value, "text", text, param)),)

    def on_image(self, value: Mapping[str, Any], param: str) -> tuple[Part, ...]:
        """A picture."""
        data, kind, ref = self._bytes(value, param)
        if ref is not None:
            is_upload = "/files/" in urlsplit(ref).path or not ref.startswith(("http://", "https://"))
            return (FileRef(uri=ref, media_type=kind) if is_upload else Image(media_type=kind or "image/*", url=ref),)
        picture = Image(media_type=kind or "image/png", data=data)
        return (picture, self.files.add("image", data, kind or "")) if self.images_as_files else (picture,)

    def on_document(self, value: Mapping[str, Any], param: str) -> tuple[Part, ...]:
        """A file."""
        data, kind, ref = self._bytes(value, param)
        return (FileRef(uri=ref, media_type=kind),) if ref is not None else (self.files.add("file", data, kind or ""),)

    def on_output_image(self, value: Mapping[str, Any], param: str) -> tuple[Part, ...]:
        """A picture that an answer held: models are not told of it again."""
        return ()

    def _bytes(self, value: Mapping[str, Any], param: str) -> tuple[bytes, str | None, str | None]:
        """Content, media type, and in the place of content the name of an uploaded file."""
        kind, uri = maybe(value, "mime_type", filled, param), maybe(value, "uri", filled, param)
        data = maybe(value, "data", text, param)
        if (uri is None) == (data is None):
            refuse(param, "must have either `data` or `uri`")
        if data is not None:
            return read_base64(data, f"{param}.data"), kind, None
        assert uri is not None
        if is_data_url(uri):
            told, content = read_data_url(uri, f"{param}.uri")
            return content, kind or told, None
        return b"", kind, uri

    # --- steps --------------------------------------------------------------------------------------------------------

    def on_user(self, value: Mapping[str, Any], param: str) -> None:
        """What the user said."""
        self._contents(Role.USER, value, param)

    def on_model(self, value: Mapping[str, Any], param: str) -> None:
        """What the model said."""
        self._contents(Role.ASSISTANT, value, param)

    def on_thought(self, value: Mapping[str, Any], param: str) -> None:
        """What it thought: it is not told of it again."""

    def on_call(self, value: Mapping[str, Any], param: str) -> None:
        """A call of the client's function."""
        name, arguments = member(value, "name", filled, param), maybe(value, "arguments", mapping, param)
        self._call(Call(id=self._id(value, param), name=name, arguments=write_json(arguments or {}).decode()), param)

    def on_code(self, value: Mapping[str, Any], param: str) -> None:
        """Code that ran."""
        arguments = maybe(value, "arguments", mapping, param) or {}
        code = maybe(arguments, "code", text, f"{param}.arguments") or ""
        self._call(Call(id=self._id(value, param), name=PYTHON, arguments=write_code(code), builtin=True), param)

    def on_code_result(self, value: Mapping[str, Any], param: str) -> None:
        """What the code gave."""
        self._result(value, param, builtin=True)

    def on_result(self, value: Mapping[str, Any], param: str) -> None:
        """What the client's function gave."""
        self._result(value, param, builtin=False)

    def _id(self, value: Mapping[str, Any], param: str) -> str:
        identity = str(member(value, "id", filled, param))
        if identity in self.calls:
            refuse(f"{param}.id", f"{identity[:80]!r} is the id of another call")
        return identity

    def _call(self, call: Call, param: str) -> None:
        self.calls[call.id] = f"{param}.id"
        self.say(Role.ASSISTANT, call)

    def _result(self, value: Mapping[str, Any], param: str, *, builtin: bool) -> None:
        call = member(value, "call_id", filled, param)
        if self.calls.pop(call, None) is None:
            if builtin:
                refuse(f"{param}.call_id", f"{call[:80]!r} is the id of no earlier call")
            self.results[call] = f"{param}.call_id"
        told, images = self._told(value.get("result"), f"{param}.result")
        self.say(Role.TOOL, CallResult(call=call, text=told, images=images, builtin=builtin))

    def _told(self, value: Any, param: str) -> tuple[str, tuple[Image, ...]]:
        """A result as words and pictures: a text, contents, or any JSON."""
        if isinstance(value, dict) and list(value) == ["content"] and isinstance(value["content"], list):
            value, param = value["content"], f"{param}.content"
        if value is None:
            return "", ()
        if isinstance(value, str):
            return value, ()
        if not (isinstance(value, list) and all(_is_content(item) for item in value)):
            return write_json(value).decode(), ()
        texts, images = [], []
        for at, item in enumerate(value):
            place = f"{param}.{at}"
            if item["type"] == "text":
                texts.append(member(item, "text", text, place))
            else:
                data, kind, _ = self._bytes(item, place)
                images.append(Image(media_type=kind or "image/png", data=data))
        return "\n".join(texts), tuple(image for image in images if image.data)


_ContentReader = Callable[[_Reader, Mapping[str, Any], str], tuple[Part, ...]]
CONTENTS: Mapping[str, _ContentReader] = {
    "text": _Reader.on_text,
    "image": _Reader.on_image,
    "document": _Reader.on_document,
}
OUTPUTS: Mapping[str, _ContentReader] = {"text": _Reader.on_text, "image": _Reader.on_output_image}
STEPS: Mapping[str, Callable[[_Reader, Mapping[str, Any], str], None]] = {
    "user_input": _Reader.on_user,
    "model_output": _Reader.on_model,
    "thought": _Reader.on_thought,
    "function_call": _Reader.on_call,
    "function_result": _Reader.on_result,
    "code_execution_call": _Reader.on_code,
    "code_execution_result": _Reader.on_code_result,
}


def _is_content(value: Any) -> bool:
    return isinstance(value, dict) and value.get("type") in ("text", "image")


def _refuse_type(kind: str, param: str, known: Any) -> NoReturn:
    if kind in UNAVAILABLE_CONTENT:
        refuse(param, UNAVAILABLE_HERE.format(name=kind, instead=words(CONTENTS)))
    refuse(param, f"must be one of {words(known)}, not {kind[:40]!r}")
