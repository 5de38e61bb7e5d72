"""What `belljar` uses when nothing is configured: engines on this machine, then hosted providers whose key is set.

Promises: only loopback is asked anything, and hosted providers nothing; a server counts as an engine only if it lists
models as OpenAI does; Belljar itself is never taken for an upstream; keys are in no description and no message.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec

from belljar.upstream.settings import UpstreamSettings

log = logging.getLogger(__name__)

SECONDS = 1.0  # that an engine may take to list its models: it is on this machine
MAX_BYTES = 4 << 20
OURSELVES = "belljar"  # in the header `server`, and the owner of the built-in model
LOOPBACK = ("127.0.0.1", "localhost", "::1")
_BARE_HOST = re.compile(r"\w+://[^/?#]*/?")


@dataclass(frozen=True, kw_only=True, slots=True)
class Engine:
    """An engine on this machine: where it listens if nobody says otherwise, and which variable would say so."""

    name: str
    title: str
    port: int
    variable: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Provider:
    """A hosted provider: the variables that may hold its key, its base URL, the variables that replace that."""

    name: str
    keys: tuple[str, ...]
    url: str
    urls: tuple[str, ...] = ()


ENGINES = (
    Engine(name="ollama", title="Ollama", port=11434, variable="OLLAMA_HOST"),
    Engine(name="lmstudio", title="LM Studio", port=1234),
    Engine(name="vllm", title="vLLM", port=8000),
    Engine(name="sglang", title="SGLang", port=30000),
    Engine(name="llamacpp", title="llama.cpp", port=8080),
)

# Base URLs as the providers' own pages on OpenAI compatibility give them. The order is the order of preference.
PROVIDERS = (
    Provider(
        name="openai",
        keys=("OPENAI_API_KEY",),
        url="https://api.openai.com/v1",
        urls=("OPENAI_BASE_URL", "OPENAI_API_BASE"),
    ),
    Provider(name="groq", keys=("GROQ_API_KEY",), url="https://api.groq.com/openai/v1", urls=("GROQ_BASE_URL",)),
    Provider(
        name="openrouter",
        keys=("OPENROUTER_API_KEY",),
        url="https://openrouter.ai/api/v1",
        urls=("OPENROUTER_BASE_URL",),
    ),
    Provider(name="together", keys=("TOGETHER_API_KEY",), url="https://api.together.xyz/v1"),
    Provider(name="mistral", keys=("MISTRAL_API_KEY",), url="https://api.mistral.ai/v1"),
    Provider(name="deepseek", keys=("DEEPSEEK_API_KEY",), url="https://api.deepseek.com/v1"),
    Provider(name="fireworks", keys=("FIREWORKS_API_KEY",), url="https://api.fireworks.ai/inference/v1"),
    Provider(name="cerebras", keys=("CEREBRAS_API_KEY",), url="https://api.cerebras.ai/v1"),
    Provider(name="xai", keys=("XAI_API_KEY",), url="https://api.x.ai/v1"),
    Provider(
        name="gemini",
        keys=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        url="https://generativelanguage.googleapis.com/v1beta/openai",
    ),
    Provider(
        name="dashscope",
        keys=("DASHSCOPE_API_KEY",),
        url="https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
        urls=("DASHSCOPE_BASE_URL",),  # keys belong to a region: https://dashscope.aliyuncs.com/… in China
    ),
    Provider(name="anthropic", keys=("ANTHROPIC_API_KEY",), url="https://api.anthropic.com/v1"),
    Provider(name="nvidia", keys=("NVIDIA_API_KEY",), url="https://integrate.api.nvidia.com/v1"),
    Provider(name="huggingface", keys=("HF_TOKEN",), url="https://router.huggingface.co/v1"),
)


async def find_upstreams(
    environ: Mapping[str, str],
    *,
    engines: Sequence[Engine] = ENGINES,
    providers: Sequence[Provider] = PROVIDERS,
    seconds: float = SECONDS,
) -> list[UpstreamSettings]:
    """What there is: engines that answer, then providers whose key is set, as the tables order them. Raises nothing."""
    given = (_engine(engine, environ) for engine in engines), (_provider(provider, environ) for provider in providers)
    candidates = [settings for kind in given for settings in kind if settings is not None]
    names = {engine.name for engine in engines}
    asked = [settings for settings in candidates if settings.name in names or _is_local(settings.url)]
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=seconds), trust_env=False) as session:
        answers = await asyncio.gather(*(_is_engine(session, settings) for settings in asked))
    dead = {settings.name for settings, alive in zip(asked, answers, strict=True) if not alive}
    found: dict[str, UpstreamSettings] = {}
    for settings in candidates:
        if settings.name not in dead:
            found.setdefault(settings.url.replace("//localhost", "//127.0.0.1"), settings)
    return list(found.values())


def describe(settings: UpstreamSettings) -> str:
    """A line for people about an upstream; it holds no secret."""
    return f"{settings.name} at {settings.host} ({settings.origin})"


# --- candidates -------------------------------------------------------------------------------------------------------


def _engine(engine: Engine, environ: Mapping[str, str]) -> UpstreamSettings | None:
    """Where an engine would be."""
    address = environ.get(engine.variable, "").strip() if engine.variable else ""
    origin = f"{engine.variable} is set" if address else f"something answers at the port of {engine.title}"
    url = _address(address, engine.port)
    return _settings(engine.name, url, None, origin, engine.variable)


def _address(text: str, port: int) -> str:
    """A URL of what Ollama takes as an address: HOST, HOST:PORT, :PORT or a URL; of every address of this machine, the
    loopback one.
    """
    scheme, found, rest = text.partition("://")
    host, slash, path = (rest if found else text).partition("/")
    if host.startswith(":") or not host:
        host = f"127.0.0.1{host}"
    if ":" not in host.rpartition("]")[2] and not found:
        host = f"{host}:{port}"
    host = host.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]")
    return f"{scheme if found else 'http'}://{host}{slash}{path}"


def _provider(provider: Provider, environ: Mapping[str, str]) -> UpstreamSettings | None:
    """A provider whose key, or whose URL, the environment holds."""
    url_name = next((name for name in provider.urls if environ.get(name, "").strip()), "")
    key_name = next((name for name in provider.keys if environ.get(name, "").strip()), "")
    if not (url_name or key_name):
        return None
    url = environ[url_name].strip() if url_name else provider.url
    if _BARE_HOST.fullmatch(url):
        url = url.rstrip("/") + urlsplit(provider.url).path  # the SDKs of some take it so
    names = [name for name in (key_name, url_name) if name]
    origin = f"{' and '.join(names)} {'are' if len(names) > 1 else 'is'} set"
    return _settings(provider.name, url, environ[key_name].strip() if key_name else None, origin, " or ".join(names))


def _settings(name: str, url: str, key: str | None, origin: str, variables: str) -> UpstreamSettings | None:
    try:
        return UpstreamSettings(name=name, url=url, key=key, origin=origin)
    except ValueError as error:
        log.warning("%s cannot be used: %s", variables, error)
        return None


def _is_local(url: str) -> bool:
    return (urlsplit(url).hostname or "") in LOOPBACK


# --- probes -----------------------------------------------------------------------------------------------------------


async def _is_engine(session: aiohttp.ClientSession, settings: UpstreamSettings) -> bool:
    """Whether a server that is no Belljar lists at least one model, as OpenAI does, at this URL."""
    headers = {"authorization": f"Bearer {settings.key}"} if settings.key else {}
    base, mark, query = settings.url.partition("?")
    try:
        async with session.get(f"{base}/models{mark}{query}", headers=headers, allow_redirects=False) as response:
            if response.status != 200 or response.headers.get("server", "").lower().startswith(OURSELVES):
                return False
            body = b""
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > MAX_BYTES:
                    return False
        return _is_list(msgspec.json.decode(body))
    except (aiohttp.ClientError, OSError, ValueError, RecursionError):  # TimeoutError is an OSError
        return False


def _is_list(value: Any) -> bool:
    models = value.get("data") if isinstance(value, dict) else None
    if not isinstance(models, list) or not models:
        return False
    ids = all(isinstance(model, dict) and isinstance(model.get("id"), str) for model in models)
    return ids and all(model.get("owned_by") != OURSELVES for model in models)
