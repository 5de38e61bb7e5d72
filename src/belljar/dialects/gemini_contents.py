"""The contents of a Gemini request, into neutral messages.

Promises: every part becomes what a model needs of it, in its order; a wrong one is a BadRequest that names its place.
Neighbours of one role become one message, as clients send the chunks of a stream back as contents of their own. Code
and results of earlier answers become calls and their results; every such call has a result. Ids of calls are the
client's, where it gave one that no other call has. Not covered: thought signatures, which say nothing here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from msgspec.structs import replace

from belljar.dialects.attached import SPELLINGS, Attachments
from belljar.dialects.base import write_json
from belljar.dialects.fields import filled, kind_of, mapping, maybe, member, refuse, text, words
from belljar.dialects.gemini_fields import content_of, each, flag, message
from belljar.dialects.gemini_settings import PYTHON
from belljar.model import (
    Call,
    CallResult,
    FileRef,
    Image,
    Message,
    Part,
    Reasoning,
    Role,
    Text,
)
from belljar.partial import write_code

MAX_PARTS = 100_000
MAX_FILES = 1_000
SEEN = ("image/png", "image/jpeg", "image/webp", "image/gif", "image/heic", "image/heif")  # what models may see
NO_RESULT = "(what this gave was not kept)"
OUTCOMES = {  # of code whose output says nothing
    "OUTCOME_OK": "",
    "OUTCOME_FAILED": "(the code failed)",
    "OUTCOME_DEADLINE_EXCEEDED": "(the code took too long, and was ended)",
}


def read_contents(value: Any, instruction: Any, *, images_as_files: bool) -> tuple[Message, ...]:
    """`contents`, after `systemInstruction`. Raises BadRequest.

    `images_as_files` puts pictures into the sandbox as well, so that code can work on them.
    """
    reader = _Reader(images_as_files)
    for item, place in each(value, "contents"):
        reader.add(message(item, place), place)
    reader.settle()
    if not reader.messages:
        refuse("contents", "must say something: it holds no text, no file and no call")
    return (*_read_instruction(instruction), *(Message(role=role, parts=tuple(said)) for role, said in reader.messages))


def _read_instruction(value: Any) -> tuple[Message, ...]:
    if value is None:
        return ()
    place = "systemInstruction"
    parts = []
    for item, inner in each(message(value, place).get("parts", []), f"{place}.parts"):
        part = message(item, inner)
        if not isinstance(part.get("text"), str):
            refuse(inner, "must hold `text`")
        parts.append(Text(text=part["text"]))
    return (Message(role=Role.SYSTEM, parts=tuple(parts)),) if any(part.text for part in parts) else ()


class _Reader:
    """The conversation so far: messages, names of files, calls that wait for their results."""

    def __init__(self, images_as_files: bool) -> None:
        self.messages: list[tuple[Role, list[Part]]] = []
        self.files = Attachments()
        self._images_as_files = images_as_files
        self._parts = 0
        self._ids: set[str] = set()
        self._running: list[Call] = []  # code without its result
        self._waiting: dict[str, Call] = {}  # the client's functions without theirs
        self._result: CallResult | None = None  # the one to which pictures that follow belong

    def add(self, content: Mapping[str, Any], param: str) -> None:
        """Read one content."""
        role = content.get("role", "")
        known = ROLES.get(role.lower()) if type(role) is str else None
        if known is None:
            shown = repr(role[:40]) if type(role) is str else kind_of(role)
            refuse(f"{param}.role", f"must be one of `user`, `model`, not {shown}")
        for item, place in each(content.get("parts", []), f"{param}.parts"):
            self._parts += 1
            if self._parts > MAX_PARTS:
                refuse("contents", f"must hold at most {MAX_PARTS:,} parts")
            self._read(message(item, place), place, *known)
        if len(self.files) > MAX_FILES:
            refuse("contents", f"must hold at most {MAX_FILES:,} files and pictures")

    def _read(self, part: Mapping[str, Any], param: str, role: Role, known: Mapping[str, PartReader]) -> None:
        maybe(part, "thoughtSignature", text, param)
        names = [name for name in known if name in part]
        if len(names) > 1:
            refuse(param, f"must hold one of {words(names)}, not both")
        if not names:
            if not any(name in BESIDE for name in part):
                refuse(param, NOTHING_KNOWN.format(known=words(known)))
            return
        if names[0] != "inlineData":
            self._result = None
        known[names[0]](self, part, param, role)

    # --- the messages -------------------------------------------------------------------------------------------------

    def _say(self, role: Role, *parts: Part) -> None:
        if role is not Role.TOOL and role is not Role.ASSISTANT:
            self.settle()
        if self.messages and self.messages[-1][0] is role:
            self.messages[-1][1].extend(parts)
        else:
            self.messages.append((role, list(parts)))

    def _call(self, call: Call) -> Call:
        """Under an id that no other call has."""
        if not call.id or call.id in self._ids:
            call = replace(call, id=f"g{len(self._ids):08}")
        while call.id in self._ids:
            call = replace(call, id=f"g{int(call.id[1:]) + 1:08}")
        self._ids.add(call.id)
        self._say(Role.ASSISTANT, call)
        return call

    def settle(self) -> None:
        """Give code a result whose own is not there: no upstream takes a call without one."""
        for call in self._running:
            self._append_result(CallResult(call=call.id, text=NO_RESULT, builtin=True))
        self._running.clear()

    def _append_result(self, result: CallResult) -> None:
        self._result = result
        self._say(Role.TOOL, result)

    # --- parts --------------------------------------------------------------------------------------------------------

    def on_text(self, part: Mapping[str, Any], param: str, role: Role) -> None:
        """Words, or thoughts."""
        said = text(part["text"], f"{param}.text")
        thought = maybe(part, "thought", flag, param)
        if said:
            self.settle()
            self._say(role, Reasoning(text=said) if thought and role is Role.ASSISTANT else Text(text=said))

    def on_data(self, part: Mapping[str, Any], param: str, role: Role) -> None:
        """A file's bytes: a picture, or a file for the sandbox; after a result, one of its plots."""
        place = f"{param}.inlineData"
        blob = message(part["inlineData"], place)
        data = content_of(blob.get("data", ""), f"{place}.data")
        kind = read_type(blob, place)
        name = maybe(blob, "displayName", text, place) or ""
        if role is Role.ASSISTANT:
            self._show(Image(media_type=kind, data=data))
            return
        self.settle()
        if kind in SEEN:
            self._say(role, Image(media_type=kind, data=data))
        if kind not in SEEN or self._images_as_files:
            self._say(role, self.files.add("image" if kind in SEEN else "file", data, kind, name))

    def _show(self, image: Image) -> None:
        """A picture of an earlier answer; models take it with the result that it belongs to, and nowhere else."""
        said = self.messages[-1][1] if self.messages else []
        if self._result is None or not said or said[-1] is not self._result or image.media_type not in SEEN:
            self._say(Role.ASSISTANT, Text(text="(a picture)"))
            return
        self._result = replace(self._result, images=(*self._result.images, image))
        said[-1] = self._result

    def on_file(self, part: Mapping[str, Any], param: str, role: Role) -> None:
        """A file by its URI: one that was uploaded here, or a picture in the web."""
        place = f"{param}.fileData"
        given = message(part["fileData"], place)
        uri, kind = member(given, "fileUri", filled, place), read_type(given, place)
        self.settle()
        if "/files/" in uri or uri.startswith("files/"):
            self._say(role, FileRef(uri=uri, media_type=kind or None))
        elif uri[:8].lower().startswith(("http://", "https://")) and kind.startswith("image/"):
            self._say(role, Image(media_type=kind, url=uri))
        else:
            refuse(f"{place}.fileUri", "must name a file that was uploaded here, or a picture in the web")

    def on_code(self, part: Mapping[str, Any], param: str, role: Role) -> None:
        """Code that ran in an earlier answer."""
        place = f"{param}.executableCode"
        given = message(part["executableCode"], place)
        code = maybe(given, "code", text, place) or ""
        wanted = maybe(given, "id", text, place) or ""
        call = Call(id="", name=PYTHON, arguments=write_code(code), builtin=True, extra={"given": wanted})
        self._running.append(self._call(call))

    def on_result(self, part: Mapping[str, Any], param: str, role: Role) -> None:
        """What it gave."""
        place = f"{param}.codeExecutionResult"
        given = message(part["codeExecutionResult"], place)
        told = (maybe(given, "output", text, place) or "").rstrip("\n") or OUTCOMES.get(str(given.get("outcome")), "")
        wanted = maybe(given, "id", text, place)
        if not self._running:
            self._say(Role.ASSISTANT, Text(text=f"\nOutput of code:\n```\n{told}\n```\n"))
            return
        named = [call for call in self._running if wanted and call.extra["given"] == wanted]
        call = (named or self._running)[0]
        self._running.remove(call)
        self._append_result(CallResult(call=call.id, text=told, builtin=True))

    def on_call(self, part: Mapping[str, Any], param: str, role: Role) -> None:
        """A call of the client's own function."""
        place = f"{param}.functionCall"
        given = message(part["functionCall"], place)
        arguments = write_json(maybe(given, "args", mapping, place) or {}).decode()
        wanted, name = maybe(given, "id", text, place) or "", member(given, "name", filled, place)
        call = self._call(Call(id=wanted, name=name, arguments=arguments))
        self._waiting[call.id] = call

    def on_response(self, part: Mapping[str, Any], param: str, role: Role) -> None:
        """What it gave: of the call with this id, else of the first one of this name."""
        place = f"{param}.functionResponse"
        given = message(part["functionResponse"], place)
        name, wanted = member(given, "name", filled, place), maybe(given, "id", text, place)
        call = self._waiting.get(wanted or "") or next((c for c in self._waiting.values() if c.name == name), None)
        if call is None:
            refuse(f"{place}.name", f"{name[:80]!r} is the name of no earlier function call without a response")
        del self._waiting[call.id]
        said = maybe(given, "response", mapping, place) or {}
        images = tuple(
            _read_picture(message(item, inner), inner) for item, inner in each(given.get("parts", []), f"{place}.parts")
        )
        self.settle()
        self._say(Role.TOOL, CallResult(call=call.id, text=write_json(said).decode(), images=images))

    def on_nothing(self, part: Mapping[str, Any], param: str, role: Role) -> None:
        """What tools did that are not here."""


def read_type(value: Mapping[str, Any], param: str) -> str:
    """A media type without its parameters, in lower case; "" where none is given."""
    kind = (maybe(value, "mimeType", text, param) or "").partition(";")[0].strip().lower()
    return SPELLINGS.get(kind, kind)


def _read_picture(part: Mapping[str, Any], param: str) -> Image:
    blob = message(member(part, "inlineData", mapping, param), f"{param}.inlineData")
    kind = read_type(blob, f"{param}.inlineData")
    if kind not in SEEN:
        refuse(f"{param}.inlineData.mimeType", f"must be one of {words(SEEN)}")
    return Image(media_type=kind, data=content_of(blob.get("data", ""), f"{param}.inlineData.data"))


PartReader = Callable[[_Reader, Mapping[str, Any], str, Role], None]

USER_PARTS: Mapping[str, PartReader] = {
    "text": _Reader.on_text,
    "inlineData": _Reader.on_data,
    "fileData": _Reader.on_file,
    "functionResponse": _Reader.on_response,
    "codeExecutionResult": _Reader.on_result,
}
MODEL_PARTS: Mapping[str, PartReader] = {
    "text": _Reader.on_text,
    "inlineData": _Reader.on_data,
    "executableCode": _Reader.on_code,
    "codeExecutionResult": _Reader.on_result,
    "functionCall": _Reader.on_call,
    "toolCall": _Reader.on_nothing,
    "toolResponse": _Reader.on_nothing,
}
# Fields that may stand beside the data of a part, or alone.
BESIDE = ("thought", "thoughtSignature", "videoMetadata", "partMetadata", "mediaResolution")
NOTHING_KNOWN = "must hold one of {known} here"

ROLES: Mapping[str, tuple[Role, Mapping[str, PartReader]]] = {
    "": (Role.USER, USER_PARTS),
    "user": (Role.USER, USER_PARTS),
    "model": (Role.ASSISTANT, MODEL_PARTS),
    "function": (Role.USER, USER_PARTS),
}
