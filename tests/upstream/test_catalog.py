"""Names and who answers for them; lists that are old, missing or wrong; what upstreams refuse."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from msgspec.structs import replace

from belljar.conversation import say, tell
from belljar.errors import BadRequest, UnknownModel, UpstreamRefused, UpstreamUnavailable
from belljar.events import CallReady, Finish, LanguageModel, TextDelta, TurnEnded, TurnEvent
from belljar.model import Call, Function, Image, Message, ModelInfo, Request, Role, Text
from belljar.scripted import ScriptedUpstream, Turn, fails, plain, unused_url
from belljar.tools.python import FUNCTION
from belljar.upstream import shelf
from belljar.upstream.catalog import Catalog
from belljar.upstream.settings import ModelSettings, UpstreamSettings
from belljar.verbatim import Verbatim

SYSTEMS = ("groq/compound", "groq/compound-mini")


def at(name: str, url: str, **more: Any) -> UpstreamSettings:
    return UpstreamSettings(name=name, url=url, retries=0, **more)


@asynccontextmanager
async def running(
    *upstreams: UpstreamSettings, models: Sequence[ModelSettings] = (), systems: Sequence[str] = SYSTEMS
) -> AsyncIterator[Catalog]:
    catalog = Catalog(upstreams, models, systems=systems)
    await catalog.start()
    try:
        yield catalog
    finally:
        await catalog.close()


@asynccontextmanager
async def two(
    first: Sequence[str] = ("a", "b"), second: Sequence[str] = ("b", "c"), **more: Any
) -> AsyncIterator[tuple[Catalog, ScriptedUpstream, ScriptedUpstream]]:
    """A catalog over the upstreams "one" and "two", which list these models."""
    async with AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(ScriptedUpstream(plain(), models=names)) for names in (first, second)
        ]
        upstreams = [at(name, server.url) for name, server in zip(("one", "two"), servers, strict=True)]
        yield await stack.enter_async_context(running(*upstreams, **more)), servers[0], servers[1]


def ask(*parts: Any, functions: Sequence[Function] = (), stream: bool = False) -> Request:
    user = Message(role=Role.USER, parts=parts or (Text(text="6*7?"),))
    return Request(model="m", messages=(user,), functions=tuple(functions), stream=stream)


async def turn(model: LanguageModel, request: Request | None = None) -> list[TurnEvent]:
    return [event async for event in model.turn(request or ask(), 0)]


def text_of(events: Sequence[TurnEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


async def asked_for(model: LanguageModel, *servers: ScriptedUpstream) -> tuple[int, str, str]:
    """Which server was asked, for which model, and under which name that is reported."""
    before = [len(server.turns) for server in servers]
    ended = (await turn(model))[-1]
    assert isinstance(ended, TurnEnded)
    for place, server in enumerate(servers):
        if len(server.turns) > before[place]:
            return place, server.turns[-1]["model"], ended.model
    raise AssertionError("no server was asked")


# --- names ------------------------------------------------------------------------------------------------------------


async def test_the_first_upstream_that_lists_a_name_has_it() -> None:
    async with two() as (catalog, *servers):
        assert await asked_for(await catalog.resolve("a"), *servers) == (0, "a", "a")
        assert await asked_for(await catalog.resolve("b"), *servers) == (0, "b", "b")
        assert await asked_for(await catalog.resolve("c"), *servers) == (1, "c", "c")


async def test_the_upstreams_name_reaches_the_others() -> None:
    async with two() as (catalog, *servers):
        assert await asked_for(await catalog.resolve("two/b"), *servers) == (1, "b", "two/b")
        assert await asked_for(await catalog.resolve("one/a"), *servers) == (0, "a", "one/a")
        with pytest.raises(UnknownModel):
            await catalog.resolve("one/c")


async def test_names_may_hold_slashes() -> None:
    async with two(["openai/gpt-oss-20b"], ["two/x"]) as (catalog, *servers):
        assert await asked_for(await catalog.resolve("openai/gpt-oss-20b"), *servers) == (
            0,
            "openai/gpt-oss-20b",
            "openai/gpt-oss-20b",
        )
        assert await asked_for(await catalog.resolve("two/x"), *servers) == (1, "two/x", "two/x")
        assert await asked_for(await catalog.resolve("two/two/x"), *servers) == (1, "two/x", "two/two/x")


async def test_configured_names() -> None:
    models = [
        ModelSettings(id="big", model="c"),
        ModelSettings(id="mine", upstream="two", model="anything/at-all"),
        ModelSettings(id="b", upstream="two"),
        ModelSettings(id="again", model="big"),
        ModelSettings(id="runs", model="belljar/verbatim"),
        ModelSettings(id="there", model="two/b"),
    ]
    async with two(models=models) as (catalog, *servers):
        assert await asked_for(await catalog.resolve("big"), *servers) == (1, "c", "big")
        assert await asked_for(await catalog.resolve("mine"), *servers) == (1, "anything/at-all", "mine")
        assert await asked_for(await catalog.resolve("b"), *servers) == (1, "b", "b")
        assert await asked_for(await catalog.resolve("again"), *servers) == (1, "c", "big")
        assert await asked_for(await catalog.resolve("there"), *servers) == (1, "b", "there")
        assert isinstance(await catalog.resolve("runs"), Verbatim)


async def test_a_configured_name_of_the_only_upstream_need_not_be_listed() -> None:
    async with (
        ScriptedUpstream(plain(), models=["a"]) as server,
        running(at("one", server.url), models=[ModelSettings(id="x", model="hidden")]) as catalog,
    ):
        assert await asked_for(await catalog.resolve("x"), server) == (0, "hidden", "x")


async def test_a_configured_name_that_no_upstream_lists() -> None:
    async with two(models=[ModelSettings(id="x", model="hidden")]) as (catalog, *_):
        with pytest.raises(UnknownModel, match="'x'"):
            await catalog.resolve("x")


async def test_systems_stand_for_the_default() -> None:
    async with two(["nomic-embed-text", "llama3.1:8b"], ["c"]) as (catalog, *servers):
        assert catalog.default == "llama3.1:8b"
        for system in SYSTEMS:
            assert await asked_for(await catalog.resolve(system), *servers) == (0, "llama3.1:8b", "llama3.1:8b")


async def test_systems_stand_for_what_is_configured() -> None:
    models = [
        ModelSettings(id="groq/compound", model="c", answering="a"),
        ModelSettings(id="groq/compound-mini", answering="b"),
    ]
    async with two(models=models) as (catalog, *servers):
        assert await asked_for(await catalog.resolve("groq/compound"), *servers) == (1, "c", "c")
        assert await asked_for(await catalog.resolve("groq/compound-mini"), *servers) == (0, "a", "a")
        assert catalog.answering_for("groq/compound") == "a"
        assert catalog.answering_for("groq/compound-mini") == "b"
        assert catalog.answering_for("a") is None


async def test_a_default_may_be_configured() -> None:
    async with ScriptedUpstream(plain(), models=["a", "b"]) as server:
        async with running(at("one", server.url, default="b")) as catalog:
            assert catalog.default == "b"
            assert await asked_for(await catalog.resolve("groq/compound"), server) == (0, "b", "b")
        async with running(at("one", server.url), models=[ModelSettings(id="mine", model="b")]) as catalog:
            assert catalog.default == "a"
    silent = ScriptedUpstream(plain(), listing=Turn(status=404))
    async with (
        silent as server,
        running(at("one", server.url), models=[ModelSettings(id="mine", model="b")]) as catalog,
    ):
        assert catalog.default == "mine"  # nobody lists anything


async def test_without_an_upstream_there_is_verbatim() -> None:
    async with running() as catalog:
        assert catalog.default == "belljar/verbatim"
        for name in (*SYSTEMS, "belljar/verbatim"):
            assert isinstance(await catalog.resolve(name), Verbatim)
        assert [info.id for info in await catalog.list()] == [*SYSTEMS, "belljar/verbatim"]
        with pytest.raises(UnknownModel):
            await catalog.resolve("gpt-4o")


async def test_an_unknown_name_gets_near_ones() -> None:
    async with two(["llama-3.3-70b-versatile"], ["c"]) as (catalog, *_):
        with pytest.raises(UnknownModel, match=r"did you mean 'llama-3\.3-70b-versatile'.*/v1/models") as caught:
            await catalog.resolve("llama-3.3-70b-versatil")
        assert caught.value.model == "llama-3.3-70b-versatil"
        with pytest.raises(UnknownModel, match="there is no model ''"):
            await catalog.resolve("")
        with pytest.raises(UnknownModel) as caught:
            await catalog.resolve("x" * 100_000)
        assert len(str(caught.value)) < 500


async def test_a_known_name_costs_no_network_and_no_time() -> None:
    async with two() as (catalog, *servers):
        for name in ("a", "two/b", "groq/compound"):
            first = await catalog.resolve(name)
            asked = [len(server.requests) for server in servers]
            began = time.process_time()
            for _ in range(1000):
                assert await catalog.resolve(name) is first
            assert (time.process_time() - began) / 1000 < 50e-6
            assert [len(server.requests) for server in servers] == asked


# --- lists ------------------------------------------------------------------------------------------------------------


async def test_the_list_holds_everything_once() -> None:
    async with two(models=[ModelSettings(id="mine", model="c")]) as (catalog, *_):
        listed = await catalog.list()
        assert [info.id for info in listed] == ["a", "b", "two/b", "c", "mine", *SYSTEMS, "belljar/verbatim"]
        assert {info.owner for info in listed} == {"script", "belljar"}
        for info in listed:
            assert await catalog.resolve(info.id)


async def test_an_upstream_that_is_down_does_not_hide_the_others() -> None:
    async with (
        ScriptedUpstream(plain(), models=["c"]) as server,
        running(at("down", unused_url()), at("up", server.url)) as catalog,
    ):
        assert [info.id for info in await catalog.list()] == ["c", *SYSTEMS, "belljar/verbatim"]
        assert catalog.default == "c"
        assert await asked_for(await catalog.resolve("c"), server) == (0, "c", "c")
        down, up = catalog.states
        assert (down.models, up.models, up.error) == (None, 1, None)
        assert "down" in (down.error or "")


async def test_an_upstream_that_hangs_does_not_hold_up_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf, "LONGEST", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # nobody accepts
        hanging = at("silent", f"http://127.0.0.1:{silent.getsockname()[1]}/v1")
        async with (
            ScriptedUpstream(plain(), models=["c"]) as server,
            running(hanging, at("up", server.url)) as catalog,
        ):
            assert "c" in [info.id for info in await catalog.list()]
            assert "within 0.1 seconds" in (catalog.states[0].error or "")


async def test_an_upstream_that_is_down_speaks_for_itself() -> None:
    async with running(at("down", unused_url())) as catalog:
        model = await catalog.resolve("llama3")
        with pytest.raises(UpstreamUnavailable, match="down"):
            await turn(model)
        with pytest.raises(UpstreamUnavailable, match=r"groq/compound.*down"):
            await catalog.resolve("groq/compound")


async def test_an_old_list_is_kept_while_there_is_no_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FRESH", "FAILED", "SOON"):
        monkeypatch.setattr(shelf, name, 0.0)
    server = ScriptedUpstream(plain(), models=["a"])
    await server.start()
    async with running(at("one", server.url)) as catalog:
        await server.close()
        assert [info.id for info in await catalog.list()] == ["a", *SYSTEMS, "belljar/verbatim"]
        assert catalog.states[0].error
        assert await catalog.resolve("a")
        with pytest.raises(UnknownModel):
            await catalog.resolve("b")


async def test_a_name_that_is_new_at_the_upstream_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf, "SOON", 0.0)
    names = ["a"]
    async with (
        ScriptedUpstream(plain(), listing=listing_of(names)) as server,
        running(at("one", server.url)) as catalog,
    ):
        assert (await catalog.resolve("groq/compound")).id == "a"
        with pytest.raises(UnknownModel):
            await catalog.resolve("new")
        server._listing = listing_of(["new"])
        assert await asked_for(await catalog.resolve("new"), server) == (0, "new", "new")
        assert catalog.default == "new"
        assert await asked_for(await catalog.resolve("groq/compound"), server) == (0, "new", "new")


def listing_of(names: Sequence[str]) -> dict[str, Any]:
    return {"object": "list", "data": [{"id": name, "object": "model"} for name in names]}


def lists(server: ScriptedUpstream) -> int:
    return sum(received.method == "GET" for received in server.requests)


async def test_unknown_names_do_not_flood_the_upstream() -> None:
    async with two() as (catalog, first, _):
        await asyncio.gather(*(refused(catalog, f"x{place}") for place in range(50)))
        assert lists(first) == 1  # that of the start is fresh enough


async def refused(catalog: Catalog, name: str) -> None:
    with pytest.raises(UnknownModel):
        await catalog.resolve(name)


async def test_one_fetch_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async with two() as (catalog, first, _):
        monkeypatch.setattr(shelf, "FRESH", 0.0)
        await asyncio.gather(*(catalog.list() for _ in range(50)))
        assert lists(first) == 2


async def test_a_waiter_that_is_cancelled_does_not_spoil_it_for_others() -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def fetch() -> list[ModelInfo]:
        begun.set()
        await go.wait()
        return [ModelInfo(id="a", owner="o")]

    kept = shelf.Shelf("one", fetch)
    impatient, patient = asyncio.create_task(kept.refresh()), asyncio.create_task(kept.refresh())
    await begun.wait()
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    go.set()
    await patient
    assert list(kept.models) == ["a"]


async def test_closing_gives_up_a_running_fetch() -> None:
    begun = asyncio.Event()

    async def fetch() -> list[ModelInfo]:
        begun.set()
        await asyncio.Event().wait()
        return []

    kept = shelf.Shelf("one", fetch)
    waiter = asyncio.create_task(kept.refresh())
    await begun.wait()
    await kept.close()
    await waiter
    assert not kept.known


async def test_a_bug_in_a_fetch_is_no_end(caplog: pytest.LogCaptureFixture) -> None:
    async def fetch() -> list[ModelInfo]:
        raise KeyError("x")

    kept = shelf.Shelf("one", fetch)
    await kept.refresh()
    assert kept.error == "upstream one could not be asked for its models"
    assert "KeyError" in caplog.text


async def test_the_list_is_kept_for_a_while() -> None:
    async with two() as (catalog, first, _):
        for _ in range(5):
            await catalog.list()
        assert lists(first) == 1


async def test_an_upstream_without_a_list_takes_any_name() -> None:
    no_list = {"error": {"message": "there is no list", "code": 404}}
    async with ScriptedUpstream(plain(), listing=no_list) as server, running(at("one", server.url)) as catalog:
        assert [info.id for info in await catalog.list()] == [*SYSTEMS, "belljar/verbatim"]
        assert await asked_for(await catalog.resolve("any/name"), server) == (0, "any/name", "any/name")
        assert await asked_for(await catalog.resolve("one/x"), server) == (0, "x", "one/x")
        with pytest.raises(UpstreamUnavailable, match="no list"):
            await catalog.resolve("groq/compound")


async def test_closing_in_the_middle_of_a_fetch_leaves_nothing() -> None:
    async with ScriptedUpstream(plain(), models=["a"]) as server:
        catalog = Catalog([at("one", server.url)])
        starting = asyncio.create_task(catalog.start())
        await asyncio.sleep(0.001)
        await catalog.close()
        await asyncio.wait([starting])
        assert len(asyncio.all_tasks()) == 1


# --- what does not fit together ---------------------------------------------------------------------------------------

FAULTS: dict[str, tuple[list[UpstreamSettings], list[ModelSettings], str]] = {
    "two upstreams of one name": ([at("x", "http://a"), at("x", "http://b")], [], "two with the name 'x'"),
    "no such upstream": ([at("x", "http://a")], [ModelSettings(id="m", upstream="y")], "no upstream 'y'; there are x"),
    "no upstream at all": ([], [ModelSettings(id="m", upstream="y")], "there is none"),
    "a name twice": ([], [ModelSettings(id="m", model="a"), ModelSettings(id="m", model="b")], "given twice"),
    "the built-in name": ([], [ModelSettings(id="belljar/verbatim", model="a")], "built-in"),
    "a circle": ([], [ModelSettings(id="a", model="b"), ModelSettings(id="b", model="a")], "a -> b -> a"),
    "a system without model": ([], [ModelSettings(id="groq/compound", images=True)], "which model stands behind"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_settings_that_do_not_fit_together(case: str) -> None:
    upstreams, models, message = FAULTS[case]
    with pytest.raises(ValueError, match=message):
        Catalog(upstreams, models, systems=SYSTEMS)


# --- what upstreams refuse --------------------------------------------------------------------------------------------

BLOCK = "```python\nprint(42)\n```"
PNG = Image(media_type="image/png", data=b"\x89PNG")


def no_tools(message: str = "llama2 does not support tools", status: int = 400) -> Callable[[Any], Turn]:
    return lambda body: fails(status, message) if body.get("tools") else plain(BLOCK)


def has_images(body: Any) -> bool:
    return any(
        part.get("type") == "image_url"
        for message in body["messages"]
        if isinstance(message["content"], list)
        for part in message["content"]
    )


@asynccontextmanager
async def model_over(
    script: Any, name: str = "m", **more: Any
) -> AsyncIterator[tuple[LanguageModel, ScriptedUpstream]]:
    async with ScriptedUpstream(script, models=[name]) as server, running(at("one", server.url, **more)) as catalog:
        yield await catalog.resolve(name), server


@pytest.mark.parametrize("status", [400, 404, 422, 500, 501])
async def test_a_refusal_of_tools_is_asked_again_in_words(status: int) -> None:
    async with model_over(no_tools(status=status)) as (model, server):
        for _ in range(2):
            events = await turn(model, ask(functions=[FUNCTION]))
            assert [event.arguments for event in events if isinstance(event, CallReady)] == ['{"code":"print(42)"}']
            ended = events[-1]
            assert isinstance(ended, TurnEnded)
            assert (ended.finish, ended.model) == (Finish.CALLS, "m")
        assert ["tools" in body for body in server.turns] == [True, False, False]  # it is remembered
        assert "tools" not in server.turns[1]
        assert "marked python" in server.turns[1]["messages"][0]["content"]


async def test_earlier_calls_are_words_as_well_where_no_tool_is_offered() -> None:
    """The last answer of a request with a format is asked for without tools, after calls."""
    ran = say("", "", [Call(id="c", name="python", arguments='{"code": "1"}', builtin=True)])
    async with model_over(no_tools()) as (model, server):
        await turn(model, ask(functions=[FUNCTION]))
        asked = ask()
        await turn(model, replace(asked, messages=(*asked.messages, ran, tell("c", "1"))))
        assert [message["role"] for message in server.turns[-1]["messages"]] == ["user", "assistant", "user"]


async def test_what_was_learned_outlives_a_new_list(monkeypatch: pytest.MonkeyPatch) -> None:
    async with two() as (catalog, first, _):
        first._script = no_tools()
        await turn(await catalog.resolve("a"), ask(functions=[FUNCTION]))
        monkeypatch.setattr(shelf, "FRESH", 0.0)
        first._models = ["a", "other"]
        await catalog.list()
        await turn(await catalog.resolve("a"), ask(functions=[FUNCTION]))
        assert ["tools" in body for body in first.turns] == [True, False, False]


async def test_a_refusal_with_own_functions_is_passed_on() -> None:
    async with model_over(no_tools()) as (model, server):
        for _ in range(2):
            with pytest.raises(UpstreamRefused, match="does not support tools") as caught:
                await turn(model, ask(functions=[FUNCTION, Function(name="weather")]))
            assert caught.value.status == 400
        assert len(server.turns) == 2


async def test_it_is_passed_on_as_well_where_it_is_known_already() -> None:
    async with model_over(no_tools()) as (model, _):
        await turn(model, ask(functions=[FUNCTION]))
        with pytest.raises(UpstreamRefused, match="does not support tools"):
            await turn(model, ask(functions=[FUNCTION, Function(name="weather")]))


async def test_another_refusal_is_passed_on() -> None:
    async with model_over(fails(400, "temperature must be below 2")) as (model, server):
        with pytest.raises(UpstreamRefused, match="temperature"):
            await turn(model, ask(functions=[FUNCTION]))
        assert len(server.turns) == 1


async def test_a_refusal_without_tools_is_passed_on() -> None:
    async with model_over(fails(400, "this model does not support tools")) as (model, server):
        with pytest.raises(UpstreamRefused):
            await turn(model)
        assert len(server.turns) == 1


async def test_native_is_native() -> None:
    async with model_over(no_tools(), tools="native") as (model, server):
        with pytest.raises(UpstreamRefused):
            await turn(model, ask(functions=[FUNCTION]))
        assert len(server.turns) == 1


async def test_prompted_is_prompted_from_the_beginning() -> None:
    async with model_over(no_tools(), tools="prompted") as (model, server):
        events = await turn(model, ask(functions=[FUNCTION]))
        assert any(isinstance(event, CallReady) for event in events)
        assert ["tools" in body for body in server.turns] == [False]
        with pytest.raises(BadRequest):
            await turn(model, ask(functions=[Function(name="weather")]))


async def test_prompted_by_the_models_own_settings() -> None:
    async with (
        ScriptedUpstream(no_tools(), models=["m"]) as server,
        running(at("one", server.url, tools="native"), models=[ModelSettings(id="m", tools="prompted")]) as catalog,
    ):
        assert any(
            isinstance(event, CallReady) for event in await turn(await catalog.resolve("m"), ask(functions=[FUNCTION]))
        )


async def test_a_prompted_turn_that_is_cut_off_ends_the_upstreams_work() -> None:
    chatter = plain(BLOCK + "\nOutput: 7\n" * 200, pause=0.005)
    async with model_over(chatter, tools="prompted") as (model, server):
        events = await turn(model, ask(functions=[FUNCTION]))
        assert text_of(events) == ""
        assert isinstance(events[-1], TurnEnded)
        await server.until_cancelled()


async def test_pictures_are_left_out_where_they_are_refused() -> None:
    def script(body: Any) -> Turn:
        return fails(400, "this model does not support image input") if has_images(body) else plain("ok")

    async with model_over(script, "gpt-4o") as (model, server):
        assert model.sees_images
        for _ in range(2):
            assert text_of(await turn(model, ask(Text(text="What is this?"), PNG))) == "ok"
        assert not model.sees_images
        assert list(map(has_images, server.turns)) == [True, False, False]


async def test_pictures_and_tools_may_both_be_refused() -> None:
    def script(body: Any) -> Turn:
        if has_images(body):
            return fails(400, "At most 0 image(s) may be provided in one request.")
        return no_tools()(body)

    async with model_over(script, "gpt-4o") as (model, server):
        events = await turn(model, ask(Text(text="?"), PNG, functions=[FUNCTION]))
        assert any(isinstance(event, CallReady) for event in events)
        assert len(server.turns) == 3


def no_system(body: Any) -> Turn:
    if body["messages"][0]["role"] == "system":
        return fails(400, "System role not supported")
    return no_tools()(body)


@pytest.mark.parametrize("tools", ["auto", "prompted"])
async def test_a_system_message_may_be_refused(tools: str) -> None:
    system = Message(role=Role.SYSTEM, parts=(Text(text="Be brief."),))
    request = replace(ask(functions=[FUNCTION]), messages=(system, *ask().messages))
    async with model_over(no_system, tools=tools) as (model, server):
        for _ in range(2):
            assert any(isinstance(event, CallReady) for event in await turn(model, request))
        assert len(server.turns) == (4 if tools == "auto" else 3)
        (told,) = server.turns[-1]["messages"]
        assert told["role"] == "user"
        assert told["content"].startswith("Be brief.")
        assert "marked python" in told["content"]
        assert told["content"].endswith("6*7?")
        with pytest.raises(UpstreamRefused):  # a client's own system message is not moved
            await turn(model, replace(request, functions=()))


async def test_a_clients_pictures_are_sent_to_a_model_of_unknown_sight() -> None:
    async with model_over(plain("ok"), "my-own-model") as (model, server):
        assert not model.sees_images
        await turn(model, ask(Text(text="?"), PNG))
        assert has_images(server.turns[0])


async def test_a_tools_pictures_are_not() -> None:
    call = say("", "", [Call(id="a", name="python", arguments='{"code":"1"}', builtin=True)])
    request = replace(ask(functions=[FUNCTION]), messages=(*ask().messages, call, tell("a", "[1 image]", [PNG])))
    async with model_over(plain("ok"), "my-own-model") as (model, server):
        await turn(model, request)
        assert not has_images(server.turns[0])
    async with model_over(plain("ok"), "gpt-4o") as (model, server):
        await turn(model, request)
        assert has_images(server.turns[0])


@pytest.mark.parametrize("images", [True, False])
async def test_sight_may_be_configured(images: bool) -> None:
    name = "my-own-model" if images else "gpt-4o"
    async with model_over(plain("ok"), name, images=images) as (model, server):
        assert model.sees_images is images
        await turn(model, ask(Text(text="?"), PNG))
        assert has_images(server.turns[0]) is images


async def test_a_refusal_in_the_middle_is_no_refusal() -> None:
    frames = (
        {"choices": [{"index": 0, "delta": {"content": "so"}}]},
        {"error": {"message": "it does not support tools", "code": 400}},
    )
    async with model_over(Turn(frames=frames)) as (model, server):
        with pytest.raises(UpstreamRefused):
            await turn(model, ask(functions=[FUNCTION], stream=True))
        assert len(server.turns) == 1
