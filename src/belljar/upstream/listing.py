"""Lists of models, as servers really give them. Pure."""

from __future__ import annotations

from typing import Any

from belljar.dialects.upstream_errors import Blame
from belljar.model import ModelInfo

LIST_KEYS = ("data", "models")  # OpenAI's; that of Ollama's own API and of llama.cpp
ID_KEYS = ("id", "model", "name")
OWNER_KEYS = ("owned_by", "organization", "publisher")
# What is worth telling of a model beside its name, where its server says it.
EXTRA_KEYS = ("context_window", "context_length", "max_model_len", "max_completion_tokens", "type")


def read_models(value: Any, owner: str, blame: Blame) -> list[ModelInfo]:
    """The models of a list, each once, in its order; `owner` where none is said. Raises UpstreamError for no list."""
    entries = value if isinstance(value, list) else None
    if isinstance(value, dict):
        if value.get("error"):
            raise blame.in_answer(value)
        known = [value[key] for key in LIST_KEYS if key in value]
        entries = next((entry for entry in known if isinstance(entry, list) and entry), [] if known else None)
    if entries is None:
        raise blame.broken("sent what is no list of models")
    found = (_read_model(entry, owner) for entry in entries)
    return list({model.id: model for model in found if model is not None}.values())


def _read_model(entry: Any, owner: str) -> ModelInfo | None:
    if isinstance(entry, str):
        entry = {"id": entry}
    if not isinstance(entry, dict):
        return None
    name = _first(entry, ID_KEYS)
    if name is None:
        return None
    created = entry.get("created")
    return ModelInfo(
        id=name,
        owner=_first(entry, OWNER_KEYS) or owner,
        created=int(created) if isinstance(created, int | float) and 0 <= created < 1e12 else 0,
        extra={key: entry[key] for key in EXTRA_KEYS if isinstance(entry.get(key), str | int)},
    )


def _first(entry: dict[str, Any], keys: tuple[str, ...]) -> str | None:
    return next((entry[key] for key in keys if isinstance(entry.get(key), str) and entry[key]), None)
