"""What names and refusals say."""

from __future__ import annotations

import pytest

from belljar.upstream import traits


def names(text: str) -> list[str]:
    return text.split()


SEEING = names("""
gpt-4o gpt-4o-mini gpt-4.1 gpt-4.1-nano gpt-4-turbo gpt-5 gpt-5-mini openai/gpt-5.1 o1 o3 o4-mini openai/o3-pro
claude-3-5-sonnet-20241022 claude-sonnet-4-5 claude-opus-4-1 anthropic/claude-haiku-4.5 gemini-2.5-flash
models/gemini-2.0-flash-001 gemma3:4b gemma3 google/gemma-3-27b-it gemma-3n-e4b-it llava llava:13b llava-v1.6-34b
bakllava moondream:1.8b llama3.2-vision:11b meta-llama/Llama-3.2-90B-Vision-Instruct llama4:scout
meta-llama/llama-4-maverick-17b-128e-instruct Llama-4-Scout-17B-16E-Instruct qwen2.5vl:7b Qwen/Qwen2.5-VL-72B-Instruct
qwen3-vl:8b qwen-vl-max Qwen2-VL-7B-Instruct-GGUF qwen2.5-omni-7b qwen3-omni-flash qvq-max OpenGVLab/InternVL3-8B
openbmb/minicpm-v:8b MiniCPM-V-2_6 minicpm-o-2_6 pixtral-12b-2409 pixtral-large-latest mistral-small3.1
mistralai/Mistral-Small-3.2-24B-Instruct-2506 mistral-medium-latest Phi-3.5-vision-instruct
microsoft/Phi-4-multimodal-instruct
grok-2-vision-1212 grok-4 glm-4.5v zai-org/GLM-4.1V-9B-Thinking moonshotai/Kimi-VL-A3B-Thinking allenai/Molmo-7B-D-0924
HuggingFaceTB/SmolVLM-Instruct deepseek-vl2 amazon/nova-lite-v1 grok-4-fast
""")

BLIND = names("""
gpt-4 gpt-3.5-turbo gpt-3.5-turbo-16k openai/gpt-oss-20b gpt-oss:120b gpt-4-0613 o1-mini o1-preview o3-mini llama3.1:8b
llama-3.3-70b-versatile meta-llama/Llama-3.1-8B-Instruct qwen3:32b Qwen/Qwen3-32B qwen2.5-coder:7b qwen-max
mistral-7b-instruct mistral-nemo mixtral-8x7b codestral-latest deepseek-chat deepseek-reasoner deepseek-r1:14b
gemma2:9b gemma-2b gemma3:1b google/gemma-3-1b-it gemma3:270m phi3:mini phi-4 microsoft/phi-4 command-r-plus
kimi-k2-instruct moonshotai/kimi-k2-instruct-0905 glm-4.6 glm-4.5-air grok-3 grok-3-mini smollm2:1.7b tinyllama
granite3.3:8b devstral solar scripted-model my-own-model falcon3 starcoder2 olmo2 nemotron
""")

NO_CHAT = names("""
text-embedding-3-small nomic-embed-text mxbai-embed-large BAAI/bge-m3 bge-reranker-v2-m3 all-minilm:l6 whisper-large-v3
whisper-1 distil-whisper-large-v3-en tts-1-hd gpt-4o-mini-tts playai-tts gpt-4o-transcribe rerank-v3.5
llama-guard-3-8b meta-llama/Llama-Guard-4-12B omni-moderation-latest meta-llama/llama-prompt-guard-2-86m shieldgemma:9b
dall-e-3 gpt-image-1 stable-diffusion-xl black-forest-labs/FLUX.1-dev sora-2 davinci-002 babbage-002
gpt-3.5-turbo-instruct gpt-4o-realtime-preview gpt-4o-audio-preview intfloat/e5-mistral-7b-instruct
text-embedding-004 gemini-embedding-001 imagen-4.0 veo-3.0 canopylabs/orpheus-v1-english mistral-ocr-latest
""")


@pytest.mark.parametrize("name", SEEING)
def test_seeing(name: str) -> None:
    assert traits.sees_images(name)


@pytest.mark.parametrize("name", BLIND)
def test_blind(name: str) -> None:
    assert not traits.sees_images(name)


@pytest.mark.parametrize("name", NO_CHAT)
def test_no_model_to_chat_with(name: str) -> None:
    assert not traits.can_chat(name)


@pytest.mark.parametrize("name", SEEING + BLIND)
def test_models_to_chat_with(name: str) -> None:
    assert traits.can_chat(name)


# Who says it -> how it refuses tools.
REFUSED_TOOLS = {
    "Ollama": "upstream ollama (127.0.0.1:11434): registry.ollama.ai/library/gemma3:4b does not support tools",
    "vLLM": '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set',
    "vLLM, old": "Value error, Currently only named tools are supported.",
    "vLLM, older": "[{'type': 'extra_forbidden', 'loc': ('body', 'tools'), 'msg': 'Extra inputs are not permitted'}]",
    "vLLM, required": 'tool_choice = "required" is not supported!',
    "llama.cpp": "upstream x failed (HTTP 500): tools param requires --jinja flag",
    "llama.cpp, old": "upstream x failed (HTTP 500): Unsupported param: tools",
    "SGLang": "Tool call parser is not set; start the server with --tool-call-parser",
    "OpenRouter": "No endpoints found that support tool use. To learn more about provider routing, visit: https://x.y",
    "Groq": "`tool calling` is not supported with this model",
    "Mistral": "Function calling is not enabled for this model",
    "OpenAI": "Unsupported parameter: 'tools' is not supported with this model.",
    "OpenAI, old": "Unrecognized request argument supplied: tools",
    "DeepSeek": "deepseek-reasoner does not support Function Calling",
    "Gemini": "Function calling is not enabled for models/gemma-3-27b-it",
    "TGI": "Tool calls are not supported by this model's template",
    "LM Studio": "This model doesn't support tool use",
}
REFUSED_IMAGES = {
    "Ollama": "this model does not support image input (ref: b8bd630e)",
    "Ollama, older": "Failed to create new sequence: this model is missing data required for image input",
    "Ollama, old": "json: cannot unmarshal array into Go struct field Message.messages.content of type string",
    "vLLM": "openai/gpt-oss-20b is not a multimodal model",
    "vLLM, none": "At most 0 image(s) may be provided in one prompt.",
    "llama.cpp": "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj",
    "llama.cpp, old": 'Failed to parse messages: Unsupported content part type: "image_url"',
    "OpenAI": "Invalid content type. image_url is only supported by certain models.",
    "OpenRouter": "No endpoints found that support image input",
    "Groq": "'messages.0' : for 'role:user' the following must be satisfied[('messages.0.content' : must be a string)]",
    "Groq, now": "messages[0].content must be a string",
    "DeepSeek": "messages[0]: unknown variant `image_url`, expected `text` at line 1 column 98",
}
REFUSED_SYSTEM = {
    "Gemma": "System role not supported",
    "Gemini": "Developer instruction is not enabled for models/gemma-3-27b-it",
    "Mistral": "Conversation roles must alternate user/assistant/user/assistant/...",
    "Mistral, too": "Only user and assistant roles are supported!",
    "Mistral, with tools": "Only user, assistant and tool roles are supported",
    "OpenAI": "Unsupported value: 'messages[0].role' does not support 'system' with this model.",
}
OTHERS = {
    "temperature": "temperature must be between 0 and 2",
    "context": "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens",
    "model": "The model 'x' does not exist or you do not have access to it",
    "schema": "Invalid schema for function 'python': schema must be a JSON Schema of type object",
    "rate": "Rate limit reached for model in organization on tokens per minute",
    "a bad picture": "Invalid base64 image data: could not be decoded",
    "key": "upstream x refused the key that it was sent (HTTP 401)",
    "json": "response_format json_object is not supported",
    "quota": "You exceeded your current quota, please check your plan and billing details",
    "loading": "upstream x failed (HTTP 500): Loading model",
}


@pytest.mark.parametrize("who", REFUSED_TOOLS)
def test_refused_tools(who: str) -> None:
    assert traits.refuses_tools(REFUSED_TOOLS[who])
    assert not traits.refuses_images(REFUSED_TOOLS[who])


@pytest.mark.parametrize("who", REFUSED_IMAGES)
def test_refused_images(who: str) -> None:
    assert traits.refuses_images(REFUSED_IMAGES[who])
    assert not traits.refuses_tools(REFUSED_IMAGES[who])


@pytest.mark.parametrize("who", REFUSED_SYSTEM)
def test_refused_system(who: str) -> None:
    assert traits.refuses_system(REFUSED_SYSTEM[who])
    assert not traits.refuses_tools(REFUSED_SYSTEM[who])
    assert not traits.refuses_images(REFUSED_SYSTEM[who])


@pytest.mark.parametrize("what", OTHERS)
def test_other_refusals(what: str) -> None:
    assert not traits.refuses_tools(OTHERS[what])
    assert not traits.refuses_images(OTHERS[what])
    assert not traits.refuses_system(OTHERS[what])
