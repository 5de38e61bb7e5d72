"""One question through each vendor's official SDK, as its users write it, and the answer where they read it.

Each function takes the server's URL, an API key, a model and a question, asks with code execution, and gives an Answer.
`outputs` is empty where a vendor's answers do not hold them. Raises what the SDK raises.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import dashscope
from google import genai
from google.genai import types
from groq import Groq
from openai import OpenAI


@dataclass(frozen=True)
class Answer:
    """What came back."""

    text: str
    codes: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()


def ask_groq(url: str, key: str, model: str, question: str) -> Answer:
    """Chat completions, as Groq has them."""
    client = Groq(base_url=url, api_key=key)
    response = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": question}], tools=[{"type": "code_interpreter"}]
    )
    message = response.choices[0].message
    tools = message.executed_tools or []
    return Answer(
        text=message.content or "",
        codes=tuple(tool.arguments for tool in tools),
        outputs=tuple(result.text for tool in tools for result in tool.code_results or [] if result.text),
    )


def ask_openai(url: str, key: str, model: str, question: str) -> Answer:
    """The same, by the SDK of OpenAI, which has no types for what ran: plain dicts."""
    client = OpenAI(base_url=f"{url}/v1", api_key=key)
    tools: Any = [{"type": "code_interpreter"}]
    response = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": question}], tools=tools
    )
    message = response.choices[0].message
    executed = getattr(message, "executed_tools", None) or []
    return Answer(
        text=message.content or "",
        codes=tuple(tool["arguments"] for tool in executed),
        outputs=tuple(result["text"] for tool in executed for result in tool["code_results"] if "text" in result),
    )


def ask_responses(url: str, key: str, model: str, question: str) -> Answer:
    """OpenAI's Responses: an answer in items; what code printed is there for those who ask for it."""
    client = OpenAI(base_url=f"{url}/v1", api_key=key)
    response = client.responses.create(
        model=model,
        input=question,
        tools=[{"type": "code_interpreter", "container": {"type": "auto"}}],
        include=["code_interpreter_call.outputs"],
    )
    calls = [item for item in response.output if item.type == "code_interpreter_call"]
    return Answer(
        text=response.output_text,
        codes=tuple(call.code or "" for call in calls),
        outputs=tuple(output.logs for call in calls for output in call.outputs or [] if output.type == "logs"),
    )


def ask_gemini(url: str, key: str, model: str, question: str) -> Answer:
    """Google's generateContent, streaming: parts in the order in which things happen."""
    client = genai.Client(api_key=key, http_options=types.HttpOptions(base_url=url))
    config = types.GenerateContentConfig(tools=[types.Tool(code_execution=types.ToolCodeExecution())])
    text, codes, outputs = "", [], []
    for chunk in client.models.generate_content_stream(model=model, contents=question, config=config):
        for part in chunk.candidates[0].content.parts or []:
            if part.executable_code:
                codes.append(part.executable_code.code)
            elif part.code_execution_result:
                outputs.append(part.code_execution_result.output)
            else:
                text += part.text or ""
    return Answer(text=text, codes=tuple(codes), outputs=tuple(outputs))


def ask_interactions(url: str, key: str, model: str, question: str) -> Answer:
    """Google's Interactions: an answer in steps."""
    client = genai.Client(api_key=key, http_options=types.HttpOptions(base_url=url))
    interaction = client.interactions.create(model=model, input=question, tools=[{"type": "code_execution"}])
    steps = interaction.steps or []
    return Answer(
        text=interaction.output_text or "",
        codes=tuple(step.arguments.code for step in steps if step.type == "code_execution_call"),
        outputs=tuple(words(step.result) for step in steps if step.type == "code_execution_result"),
    )


def words(result: Any) -> str:
    """A result's text: where there are pictures, it is a list."""
    if isinstance(result, str):
        return result
    return "".join(content.text for content in result if content.type == "text")


def ask_dashscope(url: str, key: str, model: str, question: str) -> Answer:
    """Alibaba's own format, streaming: it shows the code, and leaves what it printed to the model's answer."""
    text, codes = "", ()
    for response in dashscope.Generation.call(
        base_address=f"{url}/api/v1",
        api_key=key,
        model=model,
        messages=[{"role": "user", "content": question}],
        result_format="message",
        stream=True,
        incremental_output=True,
        enable_thinking=True,
        enable_code_interpreter=True,
    ):
        if response.status_code != 200:  # it raises nothing
            raise RuntimeError(f"{response.code}: {response.message}")
        text += response.output.choices[0].message.content
        tools = response.output.get("tool_info") or []  # all that ran so far
        codes = tuple(tool["code_interpreter"]["code"] for tool in tools)
    return Answer(text=text, codes=codes)


def ask_qwen(url: str, key: str, model: str, question: str) -> Answer:
    """Alibaba's compatible mode, by the SDK of OpenAI: it shows the answer alone."""
    client = OpenAI(base_url=f"{url}/compatible-mode/v1", api_key=key)
    stream = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": question}],
        stream=True,
        extra_body={"enable_thinking": True, "enable_code_interpreter": True},
    )
    return Answer(text="".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices))


VENDORS: Mapping[str, Callable[[str, str, str, str], Answer]] = {
    "Groq (groq)": ask_groq,
    "OpenAI's SDK (openai)": ask_openai,
    "OpenAI's Responses (openai)": ask_responses,
    "Gemini (google-genai)": ask_gemini,
    "Gemini's Interactions (google-genai)": ask_interactions,
    "DashScope (dashscope)": ask_dashscope,
    "Qwen's compatible mode (openai)": ask_qwen,
}
