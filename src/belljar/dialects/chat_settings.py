"""What only the dialect "chat_completions" knows of a request, and the systems that Groq calls compound.

Tables and frozen values; no function here fails.
"""

from __future__ import annotations

import msgspec

from belljar.model import Request

KEY = "chat"  # of Request.extra
PASSTHROUGH = "passthrough"  # of Request.extra: fields that are none of ours, for the upstream


class System(msgspec.Struct, frozen=True, kw_only=True):
    """A model that decides on its own whether to run code. `max_calls` bounds the executions of a request."""

    max_calls: int | None = None


SYSTEMS = {
    "groq/compound": System(),
    "groq/compound-mini": System(max_calls=1),
    "compound-beta": System(),
    "compound-beta-mini": System(max_calls=1),
}

VERSION_HEADER = "groq-model-version"
VERSIONS = {  # what a client may send -> the version in effect
    "": "2025-07-23",
    "latest": "2025-08-16",
    "2025-07-23": "2025-07-23",
    "2025-08-16": "2025-08-16",
}

PYTHON = "python"  # the built-in tool
CODE_INTERPRETER = "code_interpreter"  # its name on the wire
# Tools that Groq and OpenAI know, and Belljar does not have.
UNAVAILABLE = (
    "browser_automation",
    "browser_search",
    "computer_use",
    "custom",
    "file_search",
    "image_generation",
    "mcp",
    "visit_website",
    "web_search",
    "wolfram_alpha",
)

TIERS = {"auto": "on_demand", "on_demand": "on_demand", "flex": "flex", "performance": "performance"}
FORMATS = ("parsed", "raw", "hidden")  # where reasoning goes: beside the content, into it, nowhere


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How the answer is to be written.

    `compound` chooses the shape of executed tools that Groq's systems have, else that of GPT-OSS. `legacy` says that
    the client gave `functions` and reads `function_call`.
    """

    compound: bool = False
    reasoning: str = "parsed"
    include_usage: bool = False
    tier: str = "on_demand"
    version: str | None = None
    seed: int | None = None
    legacy: bool = False


DEFAULT = Settings()


def settings_of(request: Request | None) -> Settings:
    """The settings of a request that this dialect has read; the default ones of any other."""
    found = request.extra.get(KEY) if request is not None else None
    return found if isinstance(found, Settings) else DEFAULT
