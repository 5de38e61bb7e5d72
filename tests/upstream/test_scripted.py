"""The scripted upstream answers as servers of models do, so that what is tested with it means something."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import openai
import pytest

from belljar.scripted import Fault, FunctionCall, ScriptedUpstream, Turn, code_then, echo, fails, plain, thinks
from belljar.scripted.scripts import Script

HI = [{"role": "user", "content": "hi"}]


async def post(url: str, stream: bool = False, messages: Any = HI, **more: Any) -> tuple[int, Any]:
    body = {"model": "m", "messages": messages, "stream": stream, **more}
    async with aiohttp.ClientSession() as session, session.post(f"{url}/chat/completions", json=body) as response:
        raw = await response.read()
        return response.status, raw if stream else json.loads(raw)


@pytest.mark.parametrize("stream", [True, False])
async def test_an_official_client_reads_it(stream: bool) -> None:
    turn = Turn(text="Hello", reasoning="hm", calls=(FunctionCall(name="f", arguments='{"x": 1}'),), split=2)
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(ScriptedUpstream(turn))
        client = await stack.enter_async_context(openai.AsyncOpenAI(base_url=upstream.url, api_key="x", max_retries=0))
        asked: Any = client.chat.completions
        options = {"stream_options": {"include_usage": True}} if stream else {}
        answer = await asked.create(model="m", messages=HI, stream=stream, **options)
        if stream:
            chunks = [chunk async for chunk in answer]
            deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
            text = "".join(delta.content or "" for delta in deltas)
            reasoning = "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas)
            calls = [call for delta in deltas for call in delta.tool_calls or ()]
            name, arguments = calls[0].function.name, "".join(call.function.arguments for call in calls)
            finish, usage = chunks[-2].choices[0].finish_reason, chunks[-1].usage
        else:
            message = answer.choices[0].message
            text, reasoning, call = message.content, message.reasoning_content, message.tool_calls[0]
            name, arguments = call.function.name, call.function.arguments
            finish, usage = answer.choices[0].finish_reason, answer.usage
        models = [model.id async for model in client.models.list()]
    assert (text, reasoning, name, arguments, finish) == ("Hello", "hm", "f", '{"x": 1}', "tool_calls")
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (11, 7, 18)
    assert models == ["scripted-model"]


async def test_a_list_is_played_in_order_and_ends() -> None:
    async with ScriptedUpstream([plain("a"), fails(429, "slow", retry_after="3"), echo]) as upstream:
        texts = [(await post(upstream.url))[1] for _ in range(4)]
    assert texts[0]["choices"][0]["message"]["content"] == "a"
    assert texts[1]["error"]["message"] == "slow"
    assert texts[2]["choices"][0]["message"]["content"] == "hi"
    assert texts[3]["error"]["message"] == "The script is over"


async def test_a_mapping_is_by_model() -> None:
    script: Script = {"m": [plain("a"), plain("b")], "n": plain("c")}
    async with ScriptedUpstream(script) as upstream:
        assert [(await post(upstream.url, model=model))[0] for model in ("m", "n", "m", "x")] == [200, 200, 200, 404]
        async with aiohttp.ClientSession() as session, session.get(f"{upstream.url}/models") as response:
            assert [model["id"] for model in (await response.json())["data"]] == ["m", "n"]


@pytest.mark.parametrize(
    ("messages", "tools", "choice", "called"),
    [
        (HI, True, None, True),
        (HI, False, None, False),
        (HI, True, "none", False),
        ([*HI, {"role": "assistant", "tool_calls": [{}]}, {"role": "tool"}], True, None, False),
        ([*HI, {"role": "assistant", "tool_calls": [{}]}, {"role": "tool"}, {"role": "user"}], True, None, False),
        (
            [*HI, {"role": "assistant", "tool_calls": [{}]}, {"role": "tool"}, {"role": "assistant"}, *HI],
            True,
            None,
            True,
        ),
    ],
)
async def test_code_is_run_once_for_what_the_user_asked(messages: Any, tools: bool, choice: Any, called: bool) -> None:
    more = {"tools": [{}]} if tools else {}
    async with ScriptedUpstream(code_then("print(1)", "one")) as upstream:
        _, answer = await post(upstream.url, messages=messages, tool_choice=choice, **more)
    message = answer["choices"][0]["message"]
    assert bool(message.get("tool_calls")) is called
    assert (message["content"] == "one") is not called


@pytest.mark.parametrize("key", ["reasoning", "<think>"])
async def test_reasoning_stands_where_engines_put_it(key: str) -> None:
    async with ScriptedUpstream(thinks("hm", "x", key)) as upstream:
        message = (await post(upstream.url))[1]["choices"][0]["message"]
    assert message.get("reasoning") == ("hm" if key == "reasoning" else None)
    assert message["content"] == ("x" if key == "reasoning" else "<think>\nhm\n</think>\n\nx")


async def test_notes_what_came_and_who_went() -> None:
    async with ScriptedUpstream(plain(delay=30)) as upstream:
        task = asyncio.create_task(post(upstream.url, temperature=1))
        await upstream.until(lambda: upstream.playing == 1)
        assert upstream.open_connections == 1
        assert upstream.turns[0]["temperature"] == 1
        assert upstream.requests[0].headers["content-type"] == "application/json"
        assert not upstream.cancelled
        task.cancel()
        await upstream.until_cancelled()
        assert upstream.cancelled == upstream.requests
        assert upstream.open_connections == 0


async def test_a_turn_that_ended_was_not_given_up() -> None:
    async with ScriptedUpstream(plain()) as upstream:
        await post(upstream.url, stream=True)
        await upstream.until(lambda: upstream.open_connections == 0)
        assert not upstream.cancelled


@pytest.mark.parametrize("fault", [Fault.NO_DONE, Fault.NO_FINISH])
async def test_faults_at_the_end_of_a_stream(fault: Fault) -> None:
    async with ScriptedUpstream(plain("x", fault=fault)) as upstream:
        _, raw = await post(upstream.url, stream=True)
    assert b"[DONE]" not in raw
    assert (b'"stop"' in raw) is (fault is Fault.NO_DONE)


async def test_requests_in_one_packet_are_answered_in_order() -> None:
    async with ScriptedUpstream(echo) as upstream:
        reader, writer = await asyncio.open_connection(*upstream.url.split("/")[2].split(":"))
        for word in ("one", "two", "three"):
            body = json.dumps({"model": "m", "messages": [{"role": "user", "content": word}]}).encode()
            writer.write(b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
        found = b""
        while b"three" not in found:
            found += await asyncio.wait_for(reader.read(1 << 16), 5)
        writer.close()
        await writer.wait_closed()
    assert found.index(b"one") < found.index(b"two") < found.index(b"three")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"messages": 3}'])
async def test_a_bad_request_gets_an_error(body: bytes) -> None:
    async with (
        ScriptedUpstream(plain()) as upstream,
        aiohttp.ClientSession() as session,
        session.post(f"{upstream.url}/chat/completions", data=body) as response,
    ):
        assert response.status == 400
        assert (await response.json())["error"]["message"]


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
async def test_runs_as_a_process(ending: signal.Signals) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "belljar.scripted", "--script", "code", stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        url = (await asyncio.wait_for(process.stdout.readline(), 20)).decode().strip()
        _, answer = await post(url, tools=[{}])
        assert answer["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "python"
        process.send_signal(ending)
        assert await asyncio.wait_for(process.wait(), 5) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
