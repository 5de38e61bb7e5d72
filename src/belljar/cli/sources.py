"""Where models are, as the options and the configuration of `serve` and `ask` say it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from belljar import registry
from belljar.upstream.settings import (
    ModelSettings,
    UpstreamSettings,
    models_of,
    read_models,
    read_upstreams,
    upstreams_of,
)


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where models are, and what clients may call them."""

    upstreams: Sequence[UpstreamSettings]
    models: Sequence[ModelSettings]


def read_sources(
    urls: Sequence[str], key: str | None, maps: Sequence[str], tables: Mapping[str, Any], environ: Mapping[str, str]
) -> Sources:
    """What options and configuration say of models. Raises ValueError."""
    if key and not urls:
        raise ValueError("upstream_key: it is for --upstream, and there is none")
    upstreams = [*upstreams_of(urls, key), *read_upstreams(tables.get("upstreams", {}), environ)]
    return Sources(upstreams=upstreams, models=[*models_of(maps), *read_models(tables.get("models", {}))])


def systems() -> list[str]:
    """Names of models, in the dialects, that stand for a model of ours."""
    dialects = registry.find("belljar.dialects", "DIALECT").values()
    return list(dict.fromkeys(name for dialect in dialects for name in dialect.systems))
