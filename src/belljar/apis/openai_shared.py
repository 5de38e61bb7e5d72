"""What OpenAI's APIs have in common: where they are, how an object, a page and a refusal are written, what a page asks.

No API of its own. A page is written by dialects.responses_listed, as the dialect's own lists are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn
from urllib.parse import quote

from belljar.apis.base import Endpoint
from belljar.dialects import responses_listed
from belljar.dialects.base import Incoming, Reply, write_json
from belljar.dialects.gemini import DIALECT as GEMINI
from belljar.dialects.responses_listed import DEFAULT_LIMIT, MAX_LIMIT, write_list
from belljar.errors import BadRequest

ROOTS = ("/v1", "/openai/v1")


def claims(incoming: Incoming) -> bool:
    """Whether a request at a path that Google's API has as well is meant for OpenAI's."""
    return not GEMINI.claims(incoming)


def endpoint(method: str, path: str, **more: Any) -> Endpoint:
    """A path of one of OpenAI's APIs."""
    return Endpoint(method=method, path=path, dialect="responses", claims=claims, **more)


def refuse(param: str, message: str, code: str | None = None) -> NoReturn:
    """Raises BadRequest."""
    raise BadRequest(message, param=param, code=code)


def reply(body: Mapping[str, Any]) -> Reply:
    """An object as the response."""
    return Reply(status=200, body=write_json(body))


def reply_page(items: Sequence[Mapping[str, Any]], *, more: bool) -> Reply:
    """A page of a list of objects with ids as the response."""
    return Reply(status=200, body=write_list(items, has_more=more))


def read_page(
    query: Mapping[str, str], prefix: str = "", *, limit: int = DEFAULT_LIMIT, largest: int = MAX_LIMIT
) -> tuple[str | None, int, bool]:
    """What page of a list is asked for: the id (without prefix) that it begins after, its length, and whether the
    oldest come first. `limit` is the length where none is given. Raises BadRequest.
    """
    length, ascending = responses_listed.read_page({"limit": str(limit), **query}, largest)
    return query.get("after", "").removeprefix(prefix) or None, length, ascending


def disposition(name: str) -> str:
    """A content-disposition header that gives a name (RFC 6266)."""
    plain = re.sub(r"[^ !#-\[\]-~]|%", "_", name)
    extended = "" if plain == name else "; filename*=UTF-8''" + quote(name.encode("utf-8", "replace"), safe="")
    return f'attachment; filename="{plain}"{extended}'
