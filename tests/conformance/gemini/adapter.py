"""generateContent through google-genai, in its modes: Gemini, Vertex with a key, Vertex with a project."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import google.oauth2.credentials
from google import genai
from google.genai import errors, types

from conformance.seen import (
    FUNCTION_NAME,
    FUNCTION_PARAMETERS,
    FUNCTION_TEXT,
    KEY,
    PATIENCE,
    Failure,
    Question,
    Seen,
    Tokens,
    Way,
)
from sdks.ways import CERTIFICATES

OUTCOMES = {"OUTCOME_OK": "ok", "OUTCOME_FAILED": "error", "OUTCOME_DEADLINE_EXCEEDED": "timeout"}
FINISHES = {"STOP": "stop", "MAX_TOKENS": "length"}
CREDENTIALS = google.oauth2.credentials.Credentials("token")
MODES: dict[str, dict[str, Any]] = {
    "google-genai": {"api_key": KEY},
    "google-genai, Vertex with a key": {"vertexai": True, "api_key": KEY},
    "google-genai, Vertex with a project": {
        "vertexai": True,
        "project": "p",
        "location": "us-central1",
        "credentials": CREDENTIALS,
    },
}


def connect(url: str, mode: str, seconds: float | None = None) -> genai.Client:
    """A client."""
    timeout = None if seconds is None else int(seconds * 1000)
    options = types.HttpOptions(base_url=url, timeout=timeout, client_args={"verify": CERTIFICATES})
    return genai.Client(**MODES[mode], http_options=options)


def write(question: Question) -> dict[str, Any]:
    """The arguments of a request."""
    tools = [types.Tool(code_execution=types.ToolCodeExecution())] if question.code else []
    if question.own:
        function = types.FunctionDeclaration(
            name=FUNCTION_NAME, description=FUNCTION_TEXT, parameters_json_schema=dict(FUNCTION_PARAMETERS)
        )
        tools.append(types.Tool(function_declarations=[function]))
    thinking = types.ThinkingConfig(include_thoughts=True) if question.thoughts else None
    contents: list[Any] = [question.text]
    if question.file is not None:
        data = question.file.text.encode()
        contents.append(types.Part.from_bytes(data=data, mime_type=question.file.media_type))
    config = types.GenerateContentConfig(tools=tools or None, thinking_config=thinking)
    return {"model": question.model, "contents": contents, "config": config}


def take(seen: Seen, answer: types.GenerateContentResponse) -> None:
    """Take in a response, or a chunk of one."""
    usage = answer.usage_metadata
    if usage is not None:
        seen.usage = Tokens(
            prompt=(usage.prompt_token_count or 0) + (usage.tool_use_prompt_token_count or 0),
            completion=(usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0),
            total=usage.total_token_count or 0,
        )
    for candidate in answer.candidates or ():
        if candidate.finish_reason is not None:
            seen.finish = FINISHES.get(candidate.finish_reason.value, candidate.finish_reason.value)
        for part in (candidate.content and candidate.content.parts) or ():
            take_part(seen, part)


def take_part(seen: Seen, part: types.Part) -> None:
    """Take in a part."""
    if part.executable_code:
        seen.codes.append(part.executable_code.code or "")
    elif part.code_execution_result:
        outcome = part.code_execution_result.outcome
        seen.outcomes.append(OUTCOMES[outcome.value if outcome else ""])
        seen.outputs.append(part.code_execution_result.output or "")
    elif part.inline_data:
        seen.images.append(part.inline_data.data or b"")
    elif part.function_call:
        seen.calls.append((part.function_call.name or "", part.function_call.args))
    elif part.thought:
        seen.reasoning += part.text or ""
    else:
        seen.text += part.text or ""


def finished(seen: Seen) -> Seen:
    """Google says STOP where functions are to be called: the calls tell."""
    if seen.calls and seen.finish == "stop":
        seen.finish = "calls"
    return seen


def way(mode: str, *, streams: bool) -> Way:
    """Of one mode."""

    def begin(client: genai.Client, question: Question) -> Any:
        create: Callable[..., Any] = client.models.generate_content
        return (client.models.generate_content_stream if streams else create)(**write(question))

    def ask(url: str, question: Question) -> Seen:
        seen = Seen()
        try:
            with connect(url, mode) as client:
                answer = begin(client, question)
                for part in answer if streams else [answer]:
                    take(seen, part)
        except errors.APIError as error:
            fault = "server" if isinstance(error, errors.ServerError) else "client"
            seen.failure = Failure(status=error.code, message=error.message or "", fault=fault)
        return finished(seen)

    def leave(url: str, question: Question) -> None:
        with connect(url, mode, None if streams else PATIENCE) as client:
            try:
                answer = begin(client, question)
            except Exception as error:  # of httpx, or of another package in its place
                if "Timeout" not in type(error).__name__:
                    raise
                return
            assert streams, "it should have taken longer"
            next(chunk for chunk in answer if chunk.text)
            answer.close()

    return Way(streams=streams, ask=ask, leave=leave)


WAYS = {f"{mode}{', streaming' * streams}": way(mode, streams=streams) for mode in MODES for streams in (False, True)}
