"""The OpenAI Agents SDK with its CodeInterpreterTool, and LangChain's ChatOpenAI, unchanged, over the Responses API."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from agents import (
    Agent,
    CodeInterpreterTool,
    ModelSettings,
    OpenAIResponsesModel,
    Runner,
    SQLiteSession,
    function_tool,
    set_tracing_disabled,
)
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI

from sdks.responses import INTERPRETER, OUTPUTS, connect_async, python
from sdks.ways import KEY, VERBATIM
from servers import Belljar

QUESTION = "What is the square root of 101? Use code."
ROOT = "10.04987562112089"
MODEL = "openai/gpt-oss-20b"

# --- agents -----------------------------------------------------------------------------------------------------------


@function_tool(name_override="get_weather")
def weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


@pytest.fixture
async def models(belljar: Belljar) -> AsyncIterator[Any]:
    """Gives the SDK's model of a name."""
    set_tracing_disabled(True)  # it would send traces to its vendor
    async with connect_async(belljar.url) as client:
        yield lambda name: OpenAIResponsesModel(model=name, openai_client=client)


def agent(model: Any, *tools: Any, **settings: Any) -> Agent[Any]:
    code = CodeInterpreterTool(tool_config={"type": "code_interpreter", "container": {"type": "auto"}})
    return Agent(
        name="Ann",
        instructions="Compute.",
        model=model,
        tools=[code, *tools],
        model_settings=ModelSettings(response_include=[OUTPUTS], **settings),
    )


def ran(result: Any) -> list[tuple[str, str]]:
    """The code of a run's executions, and what each printed."""
    raw = [item.raw_item for item in result.new_items if item.type == "tool_call_item"]
    calls = [item for item in raw if getattr(item, "type", "") == "code_interpreter_call"]
    return [(call.code, "".join(output.logs for output in call.outputs or [])) for call in calls]


async def test_an_agent(models: Any) -> None:
    result = await Runner.run(agent(models(MODEL)), QUESTION)
    assert ROOT in result.final_output
    [(code, output)] = ran(result)
    assert "math.sqrt(101)" in code
    assert ROOT in output
    assert result.context_wrapper.usage.total_tokens > 0


async def test_an_agent_streamed(models: Any) -> None:
    result = Runner.run_streamed(agent(models(MODEL)), QUESTION)
    kinds, deltas = [], ""
    async for event in result.stream_events():
        if event.type == "raw_response_event":
            kinds.append(event.data.type)
            deltas += event.data.delta if event.data.type == "response.output_text.delta" else ""
    assert "response.code_interpreter_call.interpreting" in kinds
    assert result.final_output == deltas
    assert ROOT in deltas
    assert len(ran(result)) == 1


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_agent_with_a_function_beside(models: Any, streamed: bool) -> None:
    """It sends the items of its first turn back, and the code goes on in the container that they name."""
    asked = agent(models("test/keeps"), weather)
    if streamed:
        result: Any = Runner.run_streamed(asked, "Compute, ask, compute.")
        _ = [event async for event in result.stream_events()]
    else:
        result = await Runner.run(asked, "Compute, ask, compute.")
    assert result.final_output == "kept 42"
    assert [output for _, output in ran(result)] == ["41\n", "42\n"]


async def test_an_agent_by_previous_responses(models: Any) -> None:
    first = await Runner.run(agent(models(VERBATIM)), python("kept = 41"))
    again = agent(models(VERBATIM))
    second = await Runner.run(again, python("print(kept + 1)"), previous_response_id=first.last_response_id)
    assert [output for _, output in ran(second)] == ["42\n"]


async def test_an_agents_session(models: Any) -> None:
    session = SQLiteSession("one")
    try:
        await Runner.run(agent(models(VERBATIM)), python("kept = 41"), session=session)
        second = await Runner.run(agent(models(VERBATIM)), python("print(kept + 1)"), session=session)
    finally:
        session.close()
    assert [output for _, output in ran(second)] == ["42\n"]


async def test_an_agent_that_must_run_code(models: Any) -> None:
    result = await Runner.run(agent(models("test/obeys"), tool_choice="code_interpreter"), "Obey.")
    assert [output for _, output in ran(result)] == ["42\n"]


# --- LangChain --------------------------------------------------------------------------------------------------------


def chat(url: str, model: str = MODEL, **more: Any) -> Any:
    made = ChatOpenAI(
        model=model, base_url=f"{url}/v1", api_key=KEY, use_responses_api=True, max_retries=0, include=[OUTPUTS], **more
    )
    return made.bind_tools([INTERPRETER])


def blocks(message: Any, kind: str) -> list[dict[str, Any]]:
    return [block for block in message.content if block["type"] == kind]


def output(message: Any) -> str:
    return "".join(part["logs"] for call in blocks(message, "code_interpreter_call") for part in call["outputs"])


@pytest.fixture
def langchain(belljar: Belljar) -> str:
    return belljar.url


def streamed(model: Any, asked: Any) -> Any:
    chunks = list(model.stream(asked))
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    return whole


@pytest.mark.parametrize("way", ["invoke", "stream"])
def test_langchain(langchain: str, way: str) -> None:
    model = chat(langchain)
    said = model.invoke(QUESTION) if way == "invoke" else streamed(model, QUESTION)
    assert ROOT in said.text
    assert "math.sqrt(101)" in blocks(said, "code_interpreter_call")[0]["code"]
    assert ROOT in output(said)
    assert said.usage_metadata["total_tokens"] > 0
    assert said.response_metadata["status"] == "completed"


@pytest.mark.parametrize("way", ["invoke", "stream"])
def test_langchain_goes_on(langchain: str, way: str) -> None:
    """Its history of messages holds the container, and the interpreter in it is the same."""
    model = chat(langchain, VERBATIM)
    ask = model.invoke if way == "invoke" else (lambda asked: streamed(model, asked))
    first = ask([HumanMessage(python("kept = 41"))])
    second = ask([HumanMessage(python("kept = 41")), AIMessage(first.content), HumanMessage(python("print(kept + 1)"))])
    assert output(second) == "42\n"


def test_langchain_by_previous_responses(langchain: str) -> None:
    model = chat(langchain, VERBATIM, use_previous_response_id=True)
    first = model.invoke([HumanMessage(python("kept = 41"))])
    second = model.invoke([HumanMessage(python("kept = 41")), first, HumanMessage(python("print(kept + 1)"))])
    assert output(second) == "42\n"


@pytest.mark.parametrize("way", ["invoke", "stream"])
def test_langchain_with_a_function_beside(langchain: str, way: str) -> None:
    made = ChatOpenAI(model="test/keeps", base_url=f"{langchain}/v1", api_key=KEY, use_responses_api=True)
    function = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}
    model = made.bind_tools([INTERPRETER, function])
    question = HumanMessage("Compute, ask, compute.")
    first = model.invoke([question]) if way == "invoke" else streamed(model, [question])
    [call] = first.tool_calls
    assert (call["name"], call["args"]) == ("get_weather", {"city": "Tokyo"})
    answer = ToolMessage(content="sunny", tool_call_id=call["id"])
    assert model.invoke([question, first, answer]).text == "kept 42"


def test_langchain_by_a_schema(langchain: str) -> None:
    schema = {"title": "Answered", "type": "object", "properties": {"answer": {"type": "integer"}}}
    model = ChatOpenAI(model="test/json", base_url=f"{langchain}/v1", api_key=KEY, use_responses_api=True)
    assert model.with_structured_output(schema, method="json_schema").invoke("Answer.") == {"answer": 42}


async def test_langchain_asynchronously(langchain: str) -> None:
    said = await chat(langchain).ainvoke(QUESTION)
    assert ROOT in said.text
    assert json.dumps(said.content)
