"""The loop: turns of a model and calls of tools, until the answer is final.

`run` takes a request, the models and the tools for it and a budget, and gives neutral events. Promises: the stream ends
in exactly one Finished or Failed; built-in calls of a turn run in their order, in one session; an exception of a tool
becomes a result in one place (`_execute`); when a budget is used up, the model is asked once more, without tools;
closing the generator ends the upstream's work and gives the tools back. Not covered: HTTP, keys, who pays.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import msgspec
from msgspec.structs import replace

from belljar.conversation import MOST_IMAGES, flatten, offer, pictures_seen, say, show_last, tell, without_thoughts
from belljar.errors import AtCapacity, BelljarError, HostError, ToolUseFailed, UpstreamRefused
from belljar.events import (
    ArgumentsDelta,
    CallClosed,
    CallOpened,
    CallOutput,
    CallReady,
    CallShown,
    CallStarted,
    Event,
    Failed,
    Finish,
    Finished,
    Housed,
    LanguageModel,
    ReasoningDelta,
    TextDelta,
    TurnEnded,
    TurnEvent,
    turn_break,
)
from belljar.execution import Execution, GuestError, Outcome, Output, Result
from belljar.formats import check_format, fault
from belljar.model import Call, Choice, Function, Message, Mode, Request, new_id
from belljar.partial import CodeReader
from belljar.tools.base import Tool

log = logging.getLogger(__name__)

LAST_CALL = "[No further code can be run for this answer. Give the final answer now, with what is known.]"
NOT_RUN = "this was not run: the {limit} of this request are used up"
LEAST_TOLD = 1000  # characters that a model is told of each call, when the budget is used up, too
MOST_NAMED = 64  # characters of a name that a model made up
CUT_OFF = (Finish.LENGTH, Finish.FILTERED)  # a turn that was not written to its end
REFUSALS = (400, 422)  # statuses of an upstream that does not take a request of this kind
REASONING_KEY = "reasoning_key"  # in TurnEnded.extra: under which its upstream wants reasoning back
CALL_EVENTS = (CallOpened, ArgumentsDelta, CallReady)
LENGTH_OPTIONS = ("max_completion_tokens", "max_tokens")
_NO_NAME = re.compile("[^A-Za-z0-9_-]")


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What one request may use. Each field is an option of the server."""

    calls: int = field(default=16, metadata={"help": "Executions in one request."})
    turns: int = field(default=24, metadata={"help": "Turns of the model in one request."})
    seconds: float = field(default=600.0, metadata={"help": "Seconds after which a request runs no further code."})
    told: int = field(default=200_000, metadata={"help": "Characters of output that a model is told in one request."})


class Models(msgspec.Struct, frozen=True, kw_only=True):
    """Who answers: `planner` does the work, `answerer` writes the last answer (the same one, as a rule)."""

    planner: LanguageModel
    answerer: LanguageModel


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A request with all that it takes. `request.messages` hold no File parts any more (conversation.attach).

    `housed` tells of the container that code runs in, where it lives on.
    """

    request: Request
    models: Models
    tools: Sequence[Tool] = ()
    housed: Housed | None = None


def run(
    request: Request, models: Models, tools: Sequence[Tool], budget: Budget | None = None
) -> AsyncGenerator[Event, None]:
    """The answer to a request, as it comes, then the tools are closed. Raises nothing: what goes wrong is a Failed."""

    async def prepare() -> Job:
        return Job(request=request, models=models, tools=tools)

    return run_job(prepare, budget or Budget())


async def run_job(prepare: Callable[[], Awaitable[Job]], budget: Budget) -> AsyncGenerator[Event, None]:
    """The same for a request that has to be prepared first, where that may fail, too."""
    tools: Sequence[Tool] = ()
    try:
        job = await prepare()
        tools = job.tools
        if job.housed is not None:
            yield job.housed
        loop = _Loop(job.request, job.models, tools, budget)
        for step in loop.steps():
            async with aclosing(step) as events:
                async for event in events:
                    yield event
        yield loop.finished()
    except BelljarError as error:
        yield Failed(error=error)
    except Exception:
        log.exception("an answer failed")
        yield Failed(error=HostError("an internal error; it has been logged"))
    finally:
        for tool in tools:
            await tool.close()


class _Call:
    """A call while it is written. `tool` is None for the client's own functions, and for what nobody offers."""

    def __init__(self, identity: str, name: str, tool: Tool | None, *, silent: bool) -> None:
        self.id = identity
        self.name = name
        self.tool = tool
        self.silent = silent  # the client is shown nothing of it
        self.written = ""  # the arguments, as the model wrote them
        self.arguments = ""  # the code, where there is a tool
        self.reader = CodeReader()
        self.shown = 0  # characters of `arguments`

    def take(self, event: CallOpened | ArgumentsDelta | CallReady) -> list[Event]:
        """The same event for the client; of built-in calls the code instead of the JSON around it."""
        if isinstance(event, CallOpened):
            return [CallOpened(call=self.id, name=self.name, builtin=self.tool is not None)]
        if isinstance(event, ArgumentsDelta):
            return self._delta(self.reader.feed(event.text) if self.tool else event.text)
        self.written = event.arguments
        self.arguments = self.tool.read(event.arguments) if self.tool else event.arguments
        return [*self._delta(self.arguments[self.shown :]), CallReady(call=self.id, arguments=self.arguments)]

    def _delta(self, text: str) -> list[Event]:
        self.shown += len(text)
        return [ArgumentsDelta(call=self.id, text=text)] if text else []

    def as_part(self) -> Call:
        """The call as a part of the conversation; what a stranger is called there, upstreams take as a name."""
        if self.tool is None and self.silent:
            name = _NO_NAME.sub("_", self.name)[:MOST_NAMED] or "unknown"
            return Call(id=self.id, name=name, arguments=self.written, builtin=True)
        return Call(id=self.id, name=self.name, arguments=self.written, builtin=self.tool is not None)


class _Turn:
    """What one turn of a model said. A final turn has no built-in tools: what it calls all the same is ignored."""

    def __init__(self, *, final: bool = False, bare: bool = False) -> None:
        self.final = final
        self.bare = bare  # it is offered nothing, and earlier calls are words
        self.begun = False  # its model has said something
        self.texts: list[str] = []
        self.reasoning: list[str] = []
        self.reasoning_key = ""
        self.calls: dict[str, _Call] = {}
        self.finish = Finish.STOP
        self.told = False  # whether the client has its text, where that was held back

    @property
    def text(self) -> str:
        return "".join(self.texts)

    @property
    def generation(self) -> str:
        """All that the model wrote, for an error that shows it."""
        return self.text + "".join(f"<function={call.name}>{call.written}</function>" for call in self.calls.values())


class _Loop:
    """One request on its way."""

    def __init__(self, request: Request, models: Models, tools: Sequence[Tool], budget: Budget) -> None:
        if request.choice.mode is Mode.NONE:  # then nothing is said of them either
            tools = ()
        messages = request.messages if tools else flatten(request.messages)
        self._request = request if messages is request.messages else replace(request, messages=messages)
        self._models = models
        self._tools = tools
        self._own = {function.name for function in request.functions}
        names = {name: tool for tool in tools for name in (tool.name, *tool.aliases)}
        self._by_name = {name: tool for name, tool in names.items() if name not in self._own}
        self._turns_left = budget.turns
        self._calls_left = budget.calls if request.max_calls is None else min(budget.calls, request.max_calls)
        self._told_left = budget.told
        self._deadline = time.monotonic() + budget.seconds
        self._messages = show_last(messages, MOST_IMAGES) if tools else list(messages)
        self._turn_count = 0
        self._finish = Finish.STOP
        self._called = False  # whether the model has called anything yet
        self._completion_tokens = 0
        self._seen = {part.id for message in self._messages for part in message.parts if isinstance(part, Call)}
        # The last answer is a turn of its own where another model writes it; with a format, unless the text fits it.
        self._apart = bool(tools) and models.planner is not models.answerer
        self._held = bool(tools) and request.format is not None

    def steps(self) -> Iterator[AsyncGenerator[Event, None]]:
        """Turns and calls, each to be run to its end before the next is asked for. Raises BelljarError, as they do."""
        turn: _Turn | None = None
        while not self._is_over():
            turn = _Turn()
            yield self._run_turn(turn)
            if not turn.calls:
                break
            if turn.finish in CUT_OFF:  # in the middle of a call: half of a code is not run
                self._finish = turn.finish
                return
            yield self._run_calls(turn)
            if self._calls_client(turn):
                self._finish = Finish.CALLS
                return
            turn = None
        yield from self._end(turn)

    def finished(self) -> Finished:
        """The end, when all steps are done."""
        return Finished(finish=self._finish, queue_seconds=sum([tool.queue_seconds for tool in self._tools]))

    # --- turns --------------------------------------------------------------------------------------------------------

    async def _run_turn(self, turn: _Turn) -> AsyncGenerator[Event, None]:
        """Ask a model, pass on what it says, and put it into the conversation."""
        model = self._models.answerer if turn.final else self._models.planner
        request = self._final_request(model, turn) if turn.final else self._planning_request(model)
        calls: dict[str, _Call] = {}
        number, self._turn_count = self._turn_count, self._turn_count + 1
        self._turns_left -= 1
        async with aclosing(model.turn(request, number)) as events:
            async for event in events:
                turn.begun = True
                if isinstance(event, CallOpened):
                    calls[event.call] = self._open(turn, event)
                if isinstance(event, CALL_EVENTS):
                    call = calls[event.call]
                    shown = call.take(event)
                    if not call.silent:
                        for own in shown:
                            yield own
                else:
                    for own in self._pass_on(turn, event):
                        yield own
        self._check(turn)
        self._called = self._called or any(not call.silent for call in turn.calls.values())
        if self._tools:  # else there is no other turn
            spoken = [call.as_part() for call in turn.calls.values()]
            self._messages.append(say("".join(turn.reasoning), turn.text, spoken, key=turn.reasoning_key))

    def _pass_on(self, turn: _Turn, event: TurnEvent) -> list[Event]:
        """What the client sees of it: text that may turn out not to be the answer is held back, or is reasoning."""
        if isinstance(event, TextDelta):
            turn.texts.append(event.text)
            if turn.final or not (self._apart or self._held):
                return [event]
            if not self._apart:
                return []
            gap = turn_break("".join(turn.reasoning), event.text) if len(turn.texts) == 1 else ""
            return [ReasoningDelta(text=gap + event.text)]
        if isinstance(event, ReasoningDelta):
            turn.reasoning.append(event.text)
        elif isinstance(event, TurnEnded):
            turn.finish = event.finish
            turn.reasoning_key = str(event.extra.get(REASONING_KEY) or "")
            self._completion_tokens += event.usage.completion_tokens if event.usage else 0
            held = self._held and not (self._apart or turn.final or turn.calls)
            if held and not fault(self._request.format, turn.text):
                turn.told = True
                return [TextDelta(text=turn.text), event]
        return [event]

    def _open(self, turn: _Turn, event: CallOpened) -> _Call:
        """A call, under an id that no other of this request has."""
        tool = self._by_name.get(event.name)
        identity = event.call if event.call and event.call not in self._seen else new_id("call_")
        self._seen.add(identity)
        stranger = tool is None and not self._is_own(event.name) and bool(self._tools)
        call = _Call(
            identity, tool.name if tool else event.name, tool, silent=stranger or (turn.final and tool is not None)
        )
        turn.calls[identity] = call
        return call

    def _is_own(self, name: str) -> bool:
        return name in self._own or not self._request.validate_calls

    def _calls_client(self, turn: _Turn) -> bool:
        """Whether it calls a function of the client's."""
        return any(call.tool is None and not call.silent for call in turn.calls.values())

    def _planning_request(self, model: LanguageModel) -> Request:
        request, choice = self._request, self._request.choice
        if not self._tools:  # the only turn
            return request
        if self._called and (choice.name or choice.mode is Mode.REQUIRED):
            choice = Choice(mode=Mode.AUTO)  # it has done what it had to; else it could never answer
        return replace(
            request,
            messages=self._offered(model),
            functions=self._offered_functions(),
            choice=choice,
            parallel=False if request.max_calls == 1 else request.parallel,
            format=None if self._held else request.format,
            options=self._options_left(),
        )

    def _final_request(self, model: LanguageModel, turn: _Turn) -> Request:
        """The same beginning as before, so that an engine's prefix cache helps, but no tool is to be called.

        A format is asked for without any tool: several upstreams take only one of them.
        """
        request, options = self._request, self._options_left()
        functions: tuple[Function, ...]
        if turn.bare or self._held:
            messages = flatten(self._messages) if turn.bare else tuple(self._messages)
            functions, choice = (), Choice()
        else:
            messages = self._offered(model)
            functions, choice = self._offered_functions(), Choice(mode=Mode.NONE)
        if self._apart:
            messages = without_thoughts(messages)
        return replace(request, messages=messages, functions=functions, choice=choice, options=options)

    def _offered(self, model: LanguageModel) -> tuple[Message, ...]:
        return offer(self._messages, [tool.instructions(model.id) for tool in self._tools])

    def _offered_functions(self) -> tuple[Function, ...]:
        return (*(tool.function for tool in self._tools), *self._request.functions)

    def _options_left(self) -> Mapping[str, object]:
        """The options, with the bound on tokens less what earlier turns used of it."""
        options, used = self._request.options, self._completion_tokens
        if not used:
            return options
        bounds = {name: max(1, options[name] - used) for name in LENGTH_OPTIONS if isinstance(options.get(name), int)}
        return {**options, **bounds}

    # --- what a turn means --------------------------------------------------------------------------------------------

    def _is_over(self) -> bool:
        """Whether the next turn must be the last: there are tools, and a budget is used up."""
        if not self._tools or not self._turn_count:
            return False
        return self._calls_left <= 0 or self._turns_left <= 1 or time.monotonic() >= self._deadline

    def _check(self, turn: _Turn) -> None:
        """Raises ToolUseFailed where the model called what it may not, or did not call what it had to."""
        if turn.finish in CUT_OFF:
            return
        problem = self._forbidden(turn) or ("" if turn.final else self._missing(turn))
        if problem:
            raise ToolUseFailed(problem, generation=turn.generation)

    def _forbidden(self, turn: _Turn) -> str:
        if turn.calls and self._request.choice.mode is Mode.NONE:
            return "tool_choice is none, but the model called a tool"
        for call in turn.calls.values():
            if call.tool is not None or call.silent or not self._request.validate_calls:
                continue
            if call.name not in self._own:
                return f"the model called the tool {call.name!r}, which was not in request.tools"
            if not _is_object(call.arguments):
                return f"the model called the tool {call.name!r} with arguments that are no JSON object"
        return ""

    def _missing(self, turn: _Turn) -> str:
        choice = self._request.choice
        if self._called:
            return ""
        if choice.name and all(call.name != choice.name for call in turn.calls.values()):
            return f"tool_choice names {choice.name!r}, but the model did not call it"
        if choice.mode is Mode.REQUIRED and not turn.calls:
            return "tool_choice is required, but the model did not call a tool"
        return ""

    def _end(self, turn: _Turn | None) -> Iterator[AsyncGenerator[Event, None]]:
        """The turn that called nothing is the answer, or a last turn writes it; None where there was no such turn."""
        if turn is not None and (self._apart or self._held) and not turn.told and turn.finish not in CUT_OFF:
            self._messages.pop()  # what it drafted
            turn = None
        if turn is None:
            turn = _Turn(final=True)
            yield self._try_last(turn)
            if not turn.begun or (turn.calls and not turn.text and not self._calls_client(turn)):
                turn = _Turn(final=True, bare=True)
                yield self._run_turn(turn)
        if self._calls_client(turn):
            self._finish = Finish.CALLS
            return
        if turn.finish is not Finish.FILTERED:
            check_format(self._request.format, turn.text, cut=turn.finish is Finish.LENGTH)
        self._finish = Finish.STOP if turn.finish is Finish.CALLS else turn.finish

    async def _try_last(self, turn: _Turn) -> AsyncGenerator[Event, None]:
        """The last turn; nothing has begun where its upstream refuses it, or a model that calls all the same."""
        try:
            async with aclosing(self._run_turn(turn)) as events:
                async for event in events:
                    yield event
        except UpstreamRefused as error:
            if turn.begun or error.status not in REFUSALS:
                raise
            log.info("a last turn was refused, and is asked for in words: %s", error)
            self._turn_count -= 1
            return
        if turn.calls and not turn.text:
            self._messages.pop()  # what it called in vain

    # --- calls --------------------------------------------------------------------------------------------------------

    async def _run_calls(self, turn: _Turn) -> AsyncGenerator[Event, None]:
        """Run the built-in calls of a turn one after the other, and put what they gave into the conversation."""
        for call in turn.calls.values():
            if call.tool is None:
                if call.silent:
                    names = ", ".join(tool.name for tool in self._tools)
                    told = f"There is no tool called {call.name[:MOST_NAMED]!r}. There is: {names}."
                    self._messages.append(tell(call.id, told))
                continue
            async with aclosing(self._execute(call, call.tool)) as events:
                async for event in events:
                    if isinstance(event, Execution):
                        yield self._close(call, call.tool, event)
                    else:
                        yield event

    async def _execute(
        self, call: _Call, tool: Tool
    ) -> AsyncGenerator[CallStarted | CallOutput | CallShown | Execution]:
        """Run one call. The one place where an exception becomes a result. Raises AtCapacity: that is the client's."""
        left = self._deadline - time.monotonic()
        if self._calls_left <= 0 or left <= 0:
            limit = "seconds" if left <= 0 else "executions"
            yield _failure("NotRun", NOT_RUN.format(limit=limit), Outcome.ERROR)
            return
        self._calls_left -= 1
        yield CallStarted(call=call.id)
        try:
            async with aclosing(tool.run(call.arguments, left)) as events:
                async for event in events:
                    if isinstance(event, Output):
                        yield CallOutput(call=call.id, output=event)
                    elif isinstance(event, Result):
                        yield CallShown(call=call.id, result=event)
                    else:
                        yield event
        except AtCapacity:
            raise
        except BelljarError as error:
            log.warning("a call failed outside its sandbox: %s", error)
            yield _failure(type(error).__name__, str(error), Outcome.KILLED)

    def _close(self, call: _Call, tool: Tool, execution: Execution) -> CallClosed:
        text = tool.describe(execution, max(LEAST_TOLD, self._told_left))
        self._told_left -= len(text)
        images = pictures_seen(execution) if self._models.planner.sees_images else ()
        note = f"\n{LAST_CALL}" if self._is_over() else ""
        self._messages.append(tell(call.id, text + note, images))
        if images:
            self._messages = show_last(self._messages, MOST_IMAGES)
        return CallClosed(call=call.id, execution=execution, text=text)


def _failure(name: str, value: str, outcome: Outcome) -> Execution:
    return Execution(outcome=outcome, error=GuestError(name=name, value=value, traceback=f"{name}: {value}"))


def _is_object(text: str) -> bool:
    try:
        return isinstance(msgspec.json.decode(text or "{}"), dict)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return False
