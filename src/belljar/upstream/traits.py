"""What is known of models by their names, and of upstreams by their words: tables that grow with the field.

Promises: nothing here is certain; configuration overrules every table, and so does what an upstream says.
"""

from __future__ import annotations

import re

# A part of a model's name that says that it takes pictures. A model that is not here is taken for blind until
# configuration says otherwise; pictures that a client sends it are passed on all the same.
SEEING = (
    r"gpt-4o",
    r"gpt-4\.1",
    r"gpt-4-turbo",
    r"gpt-[5-9]",
    r"chatgpt-4o",
    r"(?<![a-z0-9])(o1(?!-mini|-preview)|o3(?!-mini)|o4)(?![a-z0-9])",
    r"vision",
    r"[-_.]vl(?![a-z])",
    r"vl\d*[-_:]",
    r"\bvlm\b",
    r"llava",
    r"bakllava",
    r"moondream",
    r"gemma-?3(?!n?[-_:]?(270m|1b))",
    r"gemma-?[4-9]",
    r"paligemma",
    r"pixtral",
    r"mistral-small-?3\.[1-9]",
    r"mistral-(small|medium)-(latest|25(0[3-9]|1)|2[6-9])",
    r"magistral-(small|medium)-(latest|2509|251|2[6-9])",
    r"ministral-3",
    r"mistral-large-(3|2512)",
    r"llama-?4",
    r"scout-17b|maverick-17b",
    r"omni",
    r"internvl|intern-s1",
    r"minicpm-?[vo]",
    r"phi-?3(\.5)?-vision|phi-?4-multimodal",
    r"claude-(3|opus|sonnet|haiku|[4-9])",
    r"gemini",
    r"grok-(2-vision|[4-9])",
    r"glm-?4(\.\d)?v",
    r"kimi-(vl|k2\.[5-9]|latest|thinking-preview)",
    r"step-?(1v|1o|3)",
    r"molmo|idefics|smolvlm|cogvlm|deepseek-vl|aya-vision|command-a-vision|nova-(lite|pro|premier)|ernie-4\.5-vl|qvq",
    r"qwen-?3\.5|qwen-?(plus|max)-vl",
)

# A part of a name that says that it is no model to chat with.
NOT_CHAT = (
    r"embed",
    r"\bbge-|\be5-|\bgte-|minilm|colbert",
    r"rerank",
    r"whisper|transcri|\basr|speech",
    r"(?<![a-z])(tts|stt)(?![a-z])|orpheus|playai",
    r"guard|moderation|safety|shieldgemma",
    r"dall-e|gpt-image|stable-diffusion|flux|imagen|\bsora|\bveo|image-(gen|edit)|-image(?![a-z])",
    r"realtime|-audio|lyria",
    r"(davinci|babbage)-00|gpt-3\.5-turbo-instruct",
    r"-(base|pt)$",
    r"clip-vit|siglip",
    r"deep-research|computer-use|-search-(api|preview)",
    r"reward",
    r"\bocr",
)

_NOT = r"(?:does not|doesn't|do not|don't|did not|cannot|not|no|isn't|aren't|only|without)"
_CAN = r"(?:support|accept|allow|handle|enabled|available|implement|permit|take)"
_TOOLS = r"\b(?:tools?|functions?|tool_choice|tool_calls|(?:tool|function)[ _-](?:use|calls?|calling|choice))\b"
_IMAGES = r"\b(?:images?|image_url|pictures?|vision|multi-?modal(?:ity)?)\b"

# How upstreams refuse `tools`, with those that word it so.
REFUSED_TOOLS = (
    rf"{_NOT}\b.{{0,30}}{_CAN}\w*\b.{{0,40}}{_TOOLS}",  # "x does not support tools": Ollama; OpenRouter, DeepSeek
    rf"{_TOOLS}.{{0,60}}\b{_NOT}\b.{{0,20}}{_CAN}",  # "function calling is not enabled": Mistral; Groq, OpenAI
    rf"unsupported\W.{{0,30}}{_TOOLS}",  # "Unsupported param: tools": llama.cpp
    rf"(?:unrecognized|unknown|unexpected)\W.{{0,40}}{_TOOLS}",
    r"currently only named tools are supported",  # vLLM
    r"tool-call-parser|enable-auto-tool-choice",  # vLLM, SGLang
    r"--jinja",  # llama.cpp without its template engine
    r"extra_forbidden.*\btools\b|\btools\b.*extra_forbidden",  # pydantic
    r"\btools\b.*extra inputs are not permitted",
)

# How upstreams refuse pictures.
REFUSED_IMAGES = (
    rf"{_NOT}\b.{{0,30}}{_CAN}\w*\b.{{0,40}}{_IMAGES}",  # "this model does not support image input": Ollama, vLLM
    rf"{_IMAGES}.{{0,60}}\b{_NOT}\b.{{0,20}}{_CAN}",  # "image_url is only supported by certain models": OpenAI
    r"not a (?:multi-?modal|vision)",  # vLLM
    r"at most 0 image",  # vLLM
    r"missing data required for image",  # Ollama
    r"mmproj",  # llama.cpp
    r"unsupported content part type\W+image",  # llama.cpp
    rf"(?:unknown|invalid|unsupported) \w*\W.{{0,20}}{_IMAGES}.{{0,40}}\btext\b",  # DeepSeek: "expected `text`"
    r"\bcontent\W.{0,40}must be a string",  # Groq
    r"cannot unmarshal array .{0,60}content of type string",  # Ollama, old
)

# How chat templates and upstreams refuse a system message.
REFUSED_SYSTEM = (
    r"system role\b.{0,20}\bnot supported",  # Gemma's template
    r"(?:system|developer) (?:instructions?|messages?|prompts?)\b.{0,30}\bnot (?:enabled|supported|allowed)",  # Gemini
    r"roles must alternate user/assistant",  # Llama 2's and Mistral's templates
    r"only user(?:, assistant)? and \w+ roles are supported",  # Mistral's
    r"unsupported value: 'messages\[0\]\.role'",  # OpenAI's first o1
)


def _any_of(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns), re.IGNORECASE | re.DOTALL)


_SEEING = _any_of(SEEING)
_NOT_CHAT = _any_of(NOT_CHAT)
_REFUSED_TOOLS = _any_of(REFUSED_TOOLS)
_REFUSED_IMAGES = _any_of(REFUSED_IMAGES)
_REFUSED_SYSTEM = _any_of(REFUSED_SYSTEM)


def sees_images(model: str) -> bool:
    """Whether a model's name says that it takes pictures."""
    return _SEEING.search(model) is not None


def can_chat(model: str) -> bool:
    """Whether nothing in a model's name says that it is for something else."""
    return _NOT_CHAT.search(model) is None


def refuses_tools(message: str) -> bool:
    """Whether an upstream's error says that it takes no tools."""
    return _REFUSED_TOOLS.search(message) is not None


def refuses_images(message: str) -> bool:
    """Whether an upstream's error says that it takes no pictures."""
    return _REFUSED_IMAGES.search(message) is not None


def refuses_system(message: str) -> bool:
    """Whether an upstream's error says that it takes no system message."""
    return _REFUSED_SYSTEM.search(message) is not None
