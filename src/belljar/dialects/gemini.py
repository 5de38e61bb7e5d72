"""The dialect of Gemini: `generateContent` and its kin, as the Gemini API and Vertex AI serve them.

Promises: every documented field is read by a table, in camel case or snake case; what is unknown, or asks for something
that is not here, is refused by name; nothing a client sends raises anything but ClientError. The answer is written by
gemini_writer, errors by gemini_errors. Not covered: files (an API of its own) and interactions (a dialect of its own).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from belljar.dialects.base import Dialect, Incoming, Reply, Route, Start, Writer, write_json
from belljar.dialects.fields import Check, kind_of, refuse, text
from belljar.dialects.gemini_config import read_config
from belljar.dialects.gemini_contents import read_contents
from belljar.dialects.gemini_errors import write_error
from belljar.dialects.gemini_fields import anything, each, message, read_message, unavailable
from belljar.dialects.gemini_settings import KEY, Settings, settings_of
from belljar.dialects.gemini_tools import read_tools
from belljar.dialects.gemini_writer import GeminiWriter
from belljar.dialects.google import VERSIONS, read_key
from belljar.dialects.lenient import read_lenient
from belljar.errors import BelljarError
from belljar.model import FileRef, Image, ModelInfo, Request

STREAM, COUNT = "streamGenerateContent", "countTokens"
METHODS = {"generateContent": "generate", STREAM: "generate", COUNT: "count"}  # the word after the model -> action
GOOGLE = "google"  # the publisher whose models go by their bare names
COUNTED = "generateContentRequest"  # the whole request whose tokens are to be counted


def _messages(value: Any, param: str) -> None:
    """A list of objects without effect here."""
    for item, place in each(value, param):
        message(item, place)


FIELDS: Mapping[str, Check] = {
    "contents": anything,
    "systemInstruction": anything,
    "tools": anything,
    "toolConfig": anything,
    "generationConfig": anything,
    # without effect here
    "model": text,
    "labels": anything,
    "safetySettings": _messages,
    "serviceTier": anything,
    "store": anything,
    # not here
    "cachedContent": unavailable,
    "continuationToken": unavailable,
    "modelArmorConfig": unavailable,
}


def _routes() -> Iterator[Route]:
    for version in VERSIONS:
        express = f"/{version}/publishers/{{publisher}}/models"
        project = f"/{version}/projects/{{project}}/locations/{{location}}/publishers/{{publisher}}/models"
        for folder in (f"/{version}/models", express, project):
            for method, action in METHODS.items():
                yield Route(method="POST", path=f"{folder}/{{model:path}}:{method}", action=action)
            yield Route(method="GET", path=folder, action="models")
            yield Route(method="GET", path=f"{folder}/{{id:path}}", action="model")


class Gemini:
    """Google's Gemini. Holds no state."""

    name = "gemini"
    prefixes: Sequence[str] = ("/v1beta", "/v1beta1", "/v1alpha", "/v1/publishers", "/v1/projects")
    routes: Sequence[Route] = tuple(_routes())
    systems: Sequence[str] = ()
    heartbeat = b" "

    def claims(self, incoming: Incoming) -> bool:
        """What Google's clients send with every request tells them from others."""
        return "key" in incoming.query or any(name.startswith("x-goog-") for name in incoming.headers)

    def lenient(self) -> Dialect:
        """The same: this vendor refuses nothing that could be done."""
        return self

    def read_key(self, incoming: Incoming) -> str | None:
        """The key in its own header, in the query, or as a bearer token."""
        return read_key(incoming)

    def read_request(self, incoming: Incoming) -> Request:
        """What is asked for. Raises BadRequest."""
        body = read_lenient(incoming.body)
        if not isinstance(body, dict):
            refuse("body", f"must be a JSON object, not {kind_of(body)}")
        method = incoming.path.rpartition(":")[2]
        body = message(body, "")
        if method == COUNT and COUNTED in body:
            body = message(body[COUNTED], COUNTED)
        return _build(read_message(body, FIELDS, ""), incoming, method)

    def writer(self, request: Request, start: Start) -> Writer:
        """A writer for the answer to this request."""
        return GeminiWriter(request, start)

    def write_count(self, tokens: int, request: Request) -> bytes:
        """The number of tokens of a request's prompt."""
        details = [{"modality": "TEXT", "tokenCount": tokens}]
        told = {} if settings_of(request).pictures else {"promptTokensDetails": details}
        return write_json({"totalTokens": tokens} | told)

    def write_models(self, models: Sequence[ModelInfo]) -> bytes:
        """The list of models, under the names of the Gemini API and of Vertex AI."""
        listed = [_model(model) for model in models]
        return write_json({"models": listed, "publisherModels": listed})

    def write_model(self, model: ModelInfo) -> bytes:
        """One model."""
        return write_json(_model(model))

    def write_error(self, error: BelljarError, request: Request | None, request_id: str = "") -> Reply:
        """An error before the first byte of an answer."""
        return write_error(error, request)


DIALECT = Gemini()

LIMITS = {"context_window": "inputTokenLimit", "max_completion_tokens": "outputTokenLimit"}


def _model(model: ModelInfo) -> dict[str, Any]:
    about = {"name": f"models/{model.id}", "version": "001", "displayName": model.id, "description": model.owner}
    limits = {theirs: model.extra[ours] for ours, theirs in LIMITS.items() if isinstance(model.extra.get(ours), int)}
    return about | limits | {"supportedGenerationMethods": list(METHODS)}


def _build(fields: Mapping[str, Any], incoming: Incoming, method: str) -> Request:
    """The request that checked fields make."""
    if "contents" not in fields:
        refuse("contents", "is required")
    model, publisher = incoming.params["model"], incoming.params.get("publisher", GOOGLE)
    tools = read_tools(fields.get("tools"), fields.get("toolConfig"))
    config = read_config(fields.get("generationConfig"))
    messages = read_contents(fields["contents"], fields.get("systemInstruction"), images_as_files=bool(tools.builtin))
    settings = Settings(
        thoughts=config.thoughts,
        sse=incoming.query.get("alt", incoming.query.get("$alt")) == "sse",
        vertex="publisher" in incoming.params,
        pictures=any(isinstance(part, Image | FileRef) for said in messages for part in said.parts),
    )
    return Request(
        model=model if publisher == GOOGLE else f"{publisher}/{model}",
        messages=messages,
        builtin=tools.builtin,
        functions=tools.functions,
        choice=tools.choice,
        options=config.options,
        format=config.format,
        effort=config.effort,
        stream=method == STREAM,
        extra={KEY: settings},
    )
