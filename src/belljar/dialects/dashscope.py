"""The dialect of DashScope, Alibaba's own: text and multimodal generation as its SDK asks for them.

Promises: both paths take the same requests, and differ in how content is written: a string, or a list of parts; a
stream is asked for by a header alone; nothing a client sends raises anything but ClientError. The request is read by
dashscope_request, the answer written by dashscope_writer, errors by dashscope_errors.

`strict` says whether Qwen-Max is refused the code interpreter without thinking or without a stream, as the vendor does.
"""

from __future__ import annotations

from collections.abc import Sequence

from belljar.dialects.base import Incoming, Reply, Route, Start, Writer, read_bearer, write_json
from belljar.dialects.dashscope_errors import write_error
from belljar.dialects.dashscope_request import read_request
from belljar.dialects.dashscope_writer import DashScopeWriter
from belljar.errors import BelljarError
from belljar.model import ModelInfo, Request

PREFIX = "/api/v1"
TEXT_PATH = f"{PREFIX}/services/aigc/text-generation/generation"
MULTIMODAL_PATH = f"{PREFIX}/services/aigc/multimodal-generation/generation"


class DashScope:
    """The native form. Holds no state but its strictness."""

    name = "dashscope"
    prefixes: Sequence[str] = (PREFIX,)
    routes: Sequence[Route] = (
        Route(method="POST", path=TEXT_PATH, action="generate"),
        Route(method="POST", path=MULTIMODAL_PATH, action="generate"),
        Route(method="GET", path=f"{PREFIX}/models", action="models"),
    )
    systems: Sequence[str] = ()
    heartbeat = b" "

    def __init__(self, *, strict: bool = True) -> None:
        self.strict = strict

    def claims(self, incoming: Incoming) -> bool:
        """Its headers mark a request as one of this dialect."""
        return any(name.startswith("x-dashscope-") for name in incoming.headers)

    def lenient(self) -> DashScope:
        """The same, not strict."""
        return DashScope(strict=False)

    def read_key(self, incoming: Incoming) -> str | None:
        """The bearer token."""
        return read_bearer(incoming)

    def read_request(self, incoming: Incoming) -> Request:
        """What is asked for. Raises BadRequest."""
        return read_request(incoming, listed=incoming.path == MULTIMODAL_PATH, strict=self.strict)

    def writer(self, request: Request, start: Start) -> Writer:
        """A writer for the answer to this request."""
        return DashScopeWriter(request, start)

    def write_count(self, tokens: int, request: Request) -> bytes:
        """Not served: no route has this action."""
        return write_json({"usage": {"input_tokens": tokens}})

    def write_models(self, models: Sequence[ModelInfo]) -> bytes:
        """The list of models, on one page."""
        listed = [_model(model) for model in models]
        return write_json({"output": {"total": len(listed), "page_no": 1, "page_size": len(listed), "models": listed}})

    def write_model(self, model: ModelInfo) -> bytes:
        """One model."""
        return write_json({"output": _model(model)})

    def write_error(self, error: BelljarError, request: Request | None, request_id: str = "") -> Reply:
        """An error before the first byte of an answer."""
        return write_error(error, request_id)


DIALECT = DashScope()


def _model(model: ModelInfo) -> dict[str, str]:
    return {"model": model.id, "name": model.id, "provider": model.owner}
