"""The cases that every dialect passes: a question, the model behind it, and all that a client could see of the answer.

The models decide from the conversation alone, and their answers quote what the code printed: where nothing ran, the
answer is wrong. What a client sees is held to a dialect's table by `faults`.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from belljar.loop import Budget
from belljar.scripted import Counts, Fault, Turn, fails, plain
from belljar.scripted.scripts import Script, calls_made
from conformance.says import Dialect, Fact, Refused, Said, Unsaid
from conformance.seen import FUNCTION_NAME, Attached, Failure, Question, Seen, Tokens
from sdks.script import get_weather, may_call, run_python, tool_outputs, words

TIMEOUT = 1.0  # seconds for an execution, at this server
TURN = Counts()  # what each turn of these models claims to have cost
WHOLE = "Half of the answer, and then the rest of it."


@dataclass(frozen=True, kw_only=True)
class Case:
    """One case. `seen` is what a vendor would show who can say everything; texts in `outputs` and a failure's message
    are parts of what is to be seen. `turns` of the model are paid for. `asks` is a Fact that a dialect may refuse.
    """

    name: str
    question: Question
    model: Any
    seen: Seen
    turns: int = 1
    asks: Fact | None = None
    breaks: bool = False  # in the middle of the answer

    @property
    def tokens(self) -> Tokens:
        prompt, completion = TURN.prompt * self.turns, TURN.completion * self.turns
        return Tokens(prompt=prompt, completion=completion, total=prompt + completion)


# --- models -----------------------------------------------------------------------------------------------------------


def runs(codes: Sequence[str], answer: str, note: str = "") -> Any:
    """Runs each code in a turn of its own, then answers; `{}` in the answer is what the last one printed, `{note}` is
    the note, where the model was told it.
    """

    def script(body: Any) -> Turn:
        made = calls_made(body)
        if made < len(codes) and may_call(body, "python"):
            return Turn(calls=(run_python(codes[made], made),))
        told = [words(message["content"]) for message in body["messages"] if message["role"] == "tool"]
        output = tool_outputs(body)[-1].strip() if told else "(nothing ran)"
        return Turn(text=answer.format(output, note=note if told and note in told[-1] else "(not told)"))

    return script


def runs_then_calls(body: Any) -> Turn:
    """Runs code, then calls the client's function."""
    return Turn(calls=(run_python(SQUARE) if calls_made(body) == 0 else get_weather(),))


def never_enough(body: Any) -> Turn:
    """Runs code for as long as it may."""
    made = calls_made(body)
    if may_call(body, "python"):
        return Turn(calls=(run_python(f"print({made})", made),))
    return Turn(text="Enough.")


def lingers(body: Any) -> Turn:
    """Runs code, then talks for much longer than anybody wants to hear."""
    if calls_made(body) == 0:
        return Turn(calls=(run_python(SQUARE),))
    return Turn(text="word " * 800, pause=0.02, delay=0.0 if body.get("stream") else 30.0)


SQUARE = "print(6 * 7)"
STEPS = ("x = 20\nprint(x)", "y = x + 1\nprint(y)", "print(x + y)")
WRONG, MENDED = "values = [1, 2, 3]\nprint(values[3])", "print(values[-1])"
SPIN = "import time\nprint('begun', flush=True)\ntime.sleep(60)"
PLOT = """\
import matplotlib.pyplot as plt
plt.figure(figsize=(3, 2), dpi=100)
plt.plot([1, 4, 9])
plt.show()
print("drawn")
"""
READ = "from pathlib import Path\nprint(sum(map(int, next(Path('/mnt/data').iterdir()).read_text().split())))"
LEAVE = "from pathlib import Path\nPath('squares.csv').write_text('1\\n4\\n9\\n')\nprint('written')"
PNG = b"\x89PNG\r\n\x1a\n"  # how such a file begins
NUMBERS = Attached(name="numbers.csv", media_type="text/csv", text="20\n22\n")
MOST = Budget().calls


# --- cases ------------------------------------------------------------------------------------------------------------


def case(identity: str, text: str, model: Any, seen: Seen, **more: Any) -> Case:
    """A case; what belongs to its Question may stand among `more`."""
    asked = {name: more.pop(name) for name in ("code", "own", "thoughts", "file") if name in more}
    return Case(name=identity, question=Question(model=identity, text=text, **asked), model=model, seen=seen, **more)


def executions(codes: Sequence[str], outputs: Sequence[str], outcomes: Sequence[str], text: str, **more: Any) -> Seen:
    """What is seen of an answer with code."""
    return Seen(
        codes=list(codes),
        outputs=list(outputs),
        outcomes=list(outcomes),
        text=text,
        **{"finish": "stop"} | more,
    )


CASES: Sequence[Case] = (
    case(
        "plain-answer",
        "What is the capital of France?",
        plain("Paris is the capital of France."),
        Seen(text="Paris is the capital of France.", finish="stop"),
        code=False,
    ),
    case(
        "nothing-to-run",
        "What is the capital of France?",
        plain("Paris is the capital of France."),
        Seen(text="Paris is the capital of France.", finish="stop"),
    ),
    case(
        "one-execution",
        "What is 6 times 7?",
        runs([SQUARE], "It is {}."),
        executions([SQUARE], ["42"], ["ok"], "It is 42."),
        turns=2,
    ),
    case(
        "three-executions",
        "Add them up.",
        runs(STEPS, "The sum is {}."),
        executions(STEPS, ["20", "21", "41"], ["ok"] * 3, "The sum is 41."),
        turns=4,
    ),
    case(
        "mended-exception",
        "What is the last value?",
        runs([WRONG, MENDED], "The last value is {}."),
        executions([WRONG, MENDED], ["IndexError: list index", "3"], ["error", "ok"], "The last value is 3."),
        turns=3,
    ),
    case(
        "time-out",
        "Wait a minute.",
        runs([SPIN], "It took too long."),
        executions([SPIN], ["begun"], ["timeout"], "It took too long."),
        turns=2,
    ),
    case(
        "plot",
        "Draw a plot.",
        runs([PLOT], "It was {}: {note}.", "1 image shown to the user"),
        executions([PLOT], ["drawn"], ["ok"], "It was drawn: 1 image shown to the user.", images=[PNG]),
        turns=2,
    ),
    case(
        "file-in",
        "Add up the numbers in the file.",
        runs([READ], "They add up to {}."),
        executions([READ], ["42"], ["ok"], "They add up to 42."),
        file=NUMBERS,
        turns=2,
        asks=Fact.FILE_IN,
    ),
    case(
        "file-out",
        "Write the squares into a file.",
        runs([LEAVE], "It was {}: {note}.", "/mnt/data/squares.csv (6 bytes)"),
        executions(
            [LEAVE], ["written"], ["ok"], "It was written: /mnt/data/squares.csv (6 bytes).", files=["squares.csv"]
        ),
        turns=2,
    ),
    case(
        "own-function-beside",
        "Compute, then ask for the weather.",
        runs_then_calls,
        executions([SQUARE], ["42"], ["ok"], "", calls=[(FUNCTION_NAME, {"city": "Tokyo"})], finish="calls"),
        own=True,
        turns=2,
        asks=Fact.BESIDE,
    ),
    case(
        "own-function",
        "Ask for the weather.",
        Turn(calls=(get_weather(),)),
        Seen(calls=[(FUNCTION_NAME, {"city": "Tokyo"})], finish="calls"),
        code=False,
        own=True,
    ),
    case(
        "reasoning",
        "Think about it.",
        Turn(reasoning="Let me think.", text="Thought."),
        Seen(reasoning="Let me think.", text="Thought.", finish="stop"),
        thoughts=True,
    ),
    case(
        "cut-short",
        "Talk.",
        Turn(text="The answer is", finish="length"),
        Seen(text="The answer is", finish="length"),
        code=False,
    ),
    case(
        "budget",
        "Never stop.",
        never_enough,
        executions([f"print({n})" for n in range(MOST)], [str(n) for n in range(MOST)], ["ok"] * MOST, "Enough."),
        turns=MOST + 1,
    ),
    case(
        "upstream-down",
        "Answer.",
        fails(503, {"error": {"message": "the engine is loading", "type": "overloaded"}}),
        Seen(failure=Failure(status=503, message="the engine is loading", fault="server")),
    ),
    case(
        "upstream-refuses",
        "Answer.",
        fails(400, {"error": {"message": "this model cannot do that", "type": "invalid_request_error"}}),
        Seen(failure=Failure(status=400, message="this model cannot do that", fault="client")),
    ),
    case(
        "upstream-breaks",
        "Answer.",
        Turn(text=WHOLE, fault=Fault.ERROR, after=4, error="the engine fell over"),
        Seen(failure=Failure(status=502, message="the engine fell over", fault="server")),
        breaks=True,
    ),
)
NO_MODEL = case(
    "no-such-model",
    "Answer.",
    None,
    Seen(failure=Failure(status=404, message="no-such-model", fault="client")),
)
LINGER = case("lingers", "Talk.", lingers, Seen(), turns=2)
MODELS: Script = {given.name: given.model for given in (*CASES, LINGER)}


# --- what is wrong ----------------------------------------------------------------------------------------------------


def faults(case: Case, dialect: Dialect, seen: Seen, *, streams: bool, drops: Collection[Fact] = ()) -> list[str]:
    """Where an answer is not what this dialect's table promises; empty where it is. `drops` is what the SDK hides."""
    refusal = dialect.says[case.asks] if case.asks else None
    if isinstance(refusal, Refused):
        return list(_refusal_faults(Failure(status=refusal.status, message=refusal.part, fault="client"), seen))
    if case.seen.failure is not None:
        return list(_failures(case, case.seen.failure, seen, late=case.breaks and streams, drops=drops))
    return [f"{fact.name}: {text}" for fact, text in _faults(case, dialect, seen, drops)]


def _failures(case: Case, failure: Failure, seen: Seen, *, late: bool, drops: Collection[Fact]) -> Iterator[str]:
    if late and Fact.LATE in drops:
        failure = replace(failure, status=None)
    yield from _refusal_faults(failure, seen)
    if late and not (seen.text and WHOLE.startswith(seen.text) and seen.text != WHOLE):
        yield f"before the error came {seen.text!r}, and not some words of {WHOLE!r}"
    if not late and (seen.text or seen.codes):
        yield f"there was no answer, and this came: {seen}"


def _refusal_faults(failure: Failure, seen: Seen) -> Iterator[str]:
    found = seen.failure
    if found is None:
        yield f"no error: {seen}"
        return
    if found.status != failure.status:
        yield f"status {found.status}, not {failure.status}: {found.message}"
    if failure.message not in found.message:
        yield f"{failure.message!r} is not in {found.message!r}"
    if found.fault not in (failure.fault, None):
        yield f"it is told as the {found.fault}'s fault: {found.message}"


def _faults(case: Case, dialect: Dialect, seen: Seen, drops: Collection[Fact]) -> Iterator[tuple[Fact, str]]:
    if seen.failure is not None:
        yield Fact.EARLY, f"an error: {seen.failure}"
        return
    for fact, name in _FIELDS.items():
        entry, wanted, found = dialect.says[fact], getattr(case.seen, name), getattr(seen, name)
        wanted = _renamed(wanted, entry) if isinstance(entry, Said) and fact not in drops else type(wanted)()
        if not _SAME[fact](wanted, found):
            yield fact, f"{found!r}, not {wanted!r}"
    tokens = case.tokens if isinstance(dialect.says[Fact.USAGE], Said) else None
    if seen.usage != tokens:
        yield Fact.USAGE, f"{seen.usage}, not {tokens}"


def _renamed(wanted: Any, entry: Said) -> Any:
    if isinstance(wanted, list):
        return [entry.instead.get(item, item) for item in wanted] if entry.instead else wanted
    return entry.instead.get(wanted, wanted)


def _equal(wanted: Any, found: Any) -> bool:
    return bool(wanted == found)


def _each_holds(wanted: list[str], found: list[str]) -> bool:
    return len(wanted) == len(found) and all(part in whole for part, whole in zip(wanted, found, strict=True))


def _same_codes(wanted: list[str], found: list[str]) -> bool:
    return [code.strip() for code in wanted] == [code.strip() for code in found]


def _pictures(wanted: list[bytes], found: list[bytes]) -> bool:
    return len(wanted) == len(found) and all(is_plot(image) for image in found)


def cases_for(dialect: Dialect, drops: Collection[Fact] = ()) -> list[Case]:
    """Those that can be asked at all, of this vendor and by this SDK."""
    silent = {fact for fact, entry in dialect.says.items() if isinstance(entry, Unsaid)}.union(drops)
    return [case for case in (*CASES, NO_MODEL) if case.asks not in silent]


def is_plot(image: bytes) -> bool:
    """Whether a picture is the PNG that PLOT draws, about 300 by 200."""
    if not image.startswith(PNG):
        return False
    width, height = struct.unpack(">II", image[16:24])
    return 100 < width < 600 and 50 < height < 400


_FIELDS: dict[Fact, str] = {
    Fact.TEXT: "text",
    Fact.REASONING: "reasoning",
    Fact.CODE: "codes",
    Fact.OUTPUT: "outputs",
    Fact.OUTCOME: "outcomes",
    Fact.IMAGE: "images",
    Fact.FILE_OUT: "files",
    Fact.CALL: "calls",
    Fact.FINISH: "finish",
}
_SAME: dict[Fact, Any] = dict.fromkeys(_FIELDS, _equal) | {
    Fact.CODE: _same_codes,
    Fact.OUTPUT: _each_holds,
    Fact.IMAGE: _pictures,
}
