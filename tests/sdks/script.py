"""What the models behind the server say in these tests: replies to the guides' questions, and models of one habit each.

Every reply is decided from the conversation alone, and a final answer quotes what the code printed: where nothing ran,
the answer is wrong.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from belljar.scripted import Counts, Fault, FunctionCall, Turn, code_then, fails, plain
from belljar.scripted.scripts import Script, calls_made
from belljar.upstream.settings import ModelSettings

GUIDES: list[dict[str, Any]] = json.loads((Path(__file__).parent / "guides.json").read_text(encoding="utf-8"))

PLOT = """\
import matplotlib.pyplot as plt
plt.figure(figsize=(3, 2), dpi=100)
plt.plot([1, 4, 9])
plt.show()
print("drawn")
"""
SPIN = "print('begun', flush=True)\nimport time\ntime.sleep(60)"
SLOW = "import time\nfor n in range(3):\n    print(n, flush=True)\n    time.sleep(0.3)\n'done'"
LEAVE = "from pathlib import Path\nPath('squares.csv').write_text('1\\n4\\n9\\n')\nprint('written')"
STATUSES = (400, 401, 404, 422, 429, 500, 503)


@dataclass(frozen=True)
class Reply:
    """An answer to a question: what is thought, what is run (one piece a turn), what is said of the output."""

    answer: str
    reasoning: str = ""
    code: Sequence[str] = ()


def _codes(place: int) -> Sequence[str]:
    tool = GUIDES[place]["tool"]
    return (tool["code"],) if tool else ()


WEATHER = Reply("I have no access to current weather.")

# Part of the question -> the reply. `{output}` is what the last code printed, `{code}` the code itself.
REPLIES: Mapping[str, Reply] = {
    "square root of 101": Reply("{output}\n\n```\n{code}\n```", "Python can do that.", _codes(0)),
    "square root of 12345": Reply("{output}", "We need sqrt(12345).", _codes(1)),
    "monthly payment": Reply("The payment is ${output}.", "The standard formula.", _codes(3)),
    "raise an error": Reply("Yes: {output}", "Let me try it.", _codes(4)),
    "weather": WEATHER,
    "release last week": Reply("I have no access to the news."),
    "Draw a plot": Reply("Here is the plot.", "", (PLOT,)),
    "two steps": Reply("The sum is {output}.", "First one, then the other.", ("x = 20\nprint(x)", "print(x + 22)")),
}
HELLO = Reply("Hello! Nothing was run.")


def reply_to(body: Any) -> Turn:
    """A turn of a model that knows the guides' questions."""
    question = last_question(body)
    reply = next((reply for part, reply in REPLIES.items() if part in question), HELLO)
    made = calls_made(body)
    if made < len(reply.code) and may_call(body, "python"):
        return Turn(reasoning=reply.reasoning if made == 0 else "", calls=(run_python(reply.code[made], made),))
    outputs = tool_outputs(body)
    fields = {"output": outputs[-1] if outputs else "(nothing ran)", "code": reply.code[-1] if reply.code else ""}
    return Turn(text=reply.answer.format(**fields))


def last_question(body: Any) -> str:
    """The text of the last user message that is not a tool's pictures."""
    users = [message["content"] for message in body["messages"] if message["role"] == "user"]
    return words(users[-1]) if users else ""


def words(content: Any) -> str:
    """A message's text, of whichever form."""
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content)
    return content or ""


def tool_outputs(body: Any) -> list[str]:
    """What the tools gave, without the notes in brackets that end it."""
    texts = [words(message["content"]) for message in body["messages"] if message["role"] == "tool"]
    return [text.partition("\n[")[0] for text in texts]


def may_call(body: Any, name: str) -> bool:
    """Whether a tool is offered and not forbidden."""
    names = [tool["function"]["name"] for tool in body.get("tools") or ()]
    return name in names and body.get("tool_choice") != "none"


def run_python(code: str, place: int = 0) -> FunctionCall:
    """A call of the built-in tool."""
    return FunctionCall(name="python", arguments=json.dumps({"code": code}), id=f"call_python_{place}")


def get_weather(city: str = "Tokyo") -> FunctionCall:
    """A call of a function of the client's own."""
    return FunctionCall(name="get_weather", arguments=json.dumps({"city": city}), id="call_weather")


def mixes(body: Any) -> Turn:
    """Runs code, then calls the client's function, then answers with what both gave."""
    made = calls_made(body)
    if made == 0:
        return Turn(reasoning="Compute first.", calls=(run_python("print(6 * 7)"),))
    if made == 1:
        return Turn(calls=(get_weather(),))
    outputs = tool_outputs(body)
    return Turn(text=f"computed {outputs[0]}, weather {outputs[-1]}")


def calls_weather(body: Any) -> Turn:
    """Calls the client's function at once, then answers."""
    if calls_made(body) == 0 and may_call(body, "get_weather"):
        return Turn(text="Let me look.", calls=(get_weather(),))
    outputs = tool_outputs(body)
    return Turn(text=f"weather {outputs[-1]}" if outputs else "no weather")


def talks(body: Any) -> Turn:
    """Speaks before it calls, and after."""
    if calls_made(body) == 0:
        return Turn(reasoning="Hm.", text="Let me compute.", calls=(run_python("6 * 7"),))
    return Turn(reasoning="So.", text=f"It is {tool_outputs(body)[-1]}.")


def twins(body: Any) -> Turn:
    """Two executions in one turn; the second needs the first."""
    if calls_made(body) == 0:
        return Turn(calls=(run_python("x = 20; print(x)"), run_python("print(x + 22)", 1)))
    return Turn(text=" and ".join(tool_outputs(body)))


def both(body: Any) -> Turn:
    """An execution and the client's function in one turn."""
    if calls_made(body) == 0:
        return Turn(calls=(get_weather(), run_python("print(6 * 7)")))
    return Turn(text=" and ".join(sorted(tool_outputs(body))))


def bare(body: Any) -> Turn:
    """Arguments that are the code itself, and no JSON."""
    if calls_made(body) == 0:
        return Turn(calls=(FunctionCall(name="python", arguments='for n in range(2):\n    print("n", n)'),))
    return Turn(text=tool_outputs(body)[-1])


def keeps(body: Any) -> Turn:
    """Leaves a value in the interpreter, calls the client's function, then goes on with that value."""
    made = calls_made(body)
    if made == 0:
        return Turn(calls=(run_python("kept = 41\nprint(kept)"),))
    if made == 1:
        return Turn(calls=(get_weather(),))
    if made == 2:
        return Turn(calls=(run_python("print(kept + 1)", 2),))
    return Turn(text=f"kept {tool_outputs(body)[-1].strip()}")


def obeys(body: Any) -> Turn:
    """Calls what it must, and nothing else; then it says what it was told to do."""
    choice = body.get("tool_choice")
    if calls_made(body) or choice in (None, "auto", "none"):
        return Turn(text=f"told {choice}")
    name = choice["function"]["name"] if isinstance(choice, dict) else "python"
    return Turn(calls=(run_python("print(6 * 7)") if name == "python" else FunctionCall(name=name, arguments="{}"),))


def queries(body: Any) -> Turn:
    """Calls the client's custom tool, then answers with what it gave."""
    if calls_made(body) == 0:
        written = json.dumps({"input": "SELECT 'a\\b'\nFROM \"t\""})
        return Turn(calls=(FunctionCall(name="query", arguments=written, id="call_query"),))
    return Turn(text=f"rows {tool_outputs(body)[-1]}")


def says_what_it_was_told(body: Any) -> Turn:
    """Answers with the request itself, as it came from Belljar."""
    return Turn(text=json.dumps({name: value for name, value in body.items() if name != "stream"}))


def refusal(status: int) -> Turn:
    """A failing upstream."""
    error = {"message": f"no luck: {status}", "type": "made_up", "code": "made_up_code", "param": None}
    return fails(status, {"error": error}, retry_after="1" if status == 429 else None)


CUT = Turn(text="This sentence will not be finished.", fault=Fault.CUT, after=1500)

MODELS: Script = {
    "openai/gpt-oss-120b": reply_to,
    "openai/gpt-oss-20b": reply_to,
    "llama-3.3-70b-versatile": reply_to,
    "test/plot": code_then(PLOT, "Here is the plot."),
    "test/spin": code_then(SPIN, "It ended."),
    "test/slow": code_then(SLOW, "It counted."),
    "test/mixes": mixes,
    "test/weather": calls_weather,
    "test/talks": talks,
    "test/gemini-talks": talks,  # @ai-sdk/google has code execution for models with such names only
    "test/gemini-mixes": mixes,
    "test/twins": twins,
    "test/both": both,
    "test/bare": bare,
    "test/keeps": keeps,
    "test/obeys": obeys,
    "test/queries": queries,
    "test/leaves": code_then(LEAVE, "It is in [the table](sandbox:/mnt/data/squares.csv)."),
    "test/think-tags": Turn(reasoning="Let me think.", reasoning_key="<think>", text="Thought."),
    "test/cut-short": Turn(text="The answer is", finish="length"),
    "test/stranger": Turn(calls=(FunctionCall(name="launch_rocket", arguments="{}"),)),
    "test/garbled": Turn(calls=(FunctionCall(name="get_weather", arguments='{"city": '),)),
    "test/stubborn": plain("I would rather not."),
    "test/slow-start": plain("At last.", delay=0.7),
    "test/late": plain("I would rather not.", delay=0.7),
    "test/json-after-code": code_then("print(6 * 7)", '{"answer": 42}'),
    "test/json": plain('{"answer": 42}'),
    "test/echo": says_what_it_was_told,
    "test/thinks": Turn(reasoning="Let me think.", text="Thought.", usage=Counts(reasoning=3, cached=2)),
    "test/long": plain("word " * 200, pause=0.02),
    "test/silent": Turn(fault=Fault.SILENT),
    "test/cut": CUT,
    "test/breaks": Turn(text="Half of it, and then", fault=Fault.ERROR, after=3, error="the engine fell over"),
    **{f"test/status-{status}": refusal(status) for status in STATUSES},
}

# Which models stand behind the compound systems; the older names are left to the default, the first model of the list.
BEHIND = {"groq/compound": "openai/gpt-oss-120b", "groq/compound-mini": "openai/gpt-oss-20b"}
COMPOUND = [ModelSettings(id=system, model=model) for system, model in BEHIND.items()]
