"""The tool `python` over real sandboxes: one interpreter a request, fresh after its end, and what the model reads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from belljar import ImageError, IsolationUnavailable, Limits, Pool
from belljar.errors import AtCapacity, SandboxFailed
from belljar.execution import CHART, Execution, FileInfo, GuestError, Outcome, Output, Result
from belljar.model import File
from belljar.tools.python import NO_OUTPUT, RESTARTED, PythonTool, cut

SALES = File(name="sales.csv", media_type="text/csv", data=b"a,b\n1,2\n")


@pytest.fixture
async def pool() -> AsyncIterator[Pool]:
    try:
        async with Pool(preload=(), zygotes=1, ready=1, limits=Limits(timeout=20.0)) as opened:
            yield opened
    except (IsolationUnavailable, ImageError) as error:
        pytest.skip(f"NOT TESTED: {error}")


async def run(tool: PythonTool, code: str, seconds: float = 20.0) -> Execution:
    events: list[Any] = [event async for event in tool.run(code, seconds)]
    assert isinstance(events[-1], Execution)
    return events[-1]


async def test_calls_of_a_request_share_an_interpreter(pool: Pool) -> None:
    tool = PythonTool(pool)
    assert pool.facts["in_use"] == 0  # nothing is taken before it is needed
    await run(tool, "x = 41")
    assert (await run(tool, "x + 1")).text == "42"
    assert pool.facts["in_use"] == 1
    await tool.close()
    assert pool.facts["in_use"] == 0


async def test_requests_share_nothing(pool: Pool) -> None:
    first, second = PythonTool(pool), PythonTool(pool)
    await run(first, "x = 41; open('here', 'w').close()")
    other = await run(second, "import os; ('x' in globals(), os.listdir())")
    assert other.text == "(False, [])"
    await first.close()
    await second.close()


async def test_files_are_there_and_the_model_is_told(pool: Pool) -> None:
    tool = PythonTool(pool, [SALES])
    assert "- /mnt/data/sales.csv (text/csv, 8 bytes)" in tool.instructions("some model")
    execution = await run(tool, "open('/mnt/data/sales.csv').read()")
    assert execution.text == repr("a,b\n1,2\n")
    await tool.close()


async def test_after_its_end_there_is_a_fresh_interpreter_with_the_files(pool: Pool) -> None:
    tool = PythonTool(pool, [SALES])
    await run(tool, "x = 1")
    ended = await run(tool, "import os; os._exit(3)")
    assert ended.outcome is Outcome.EXITED
    execution = await run(tool, "import os; ('x' in globals(), os.listdir())")
    assert execution.text == "(False, ['sales.csv'])"
    assert tool.describe(execution, 1000).startswith(RESTARTED)
    again = await run(tool, "1")
    assert tool.describe(again, 1000) == "1"
    await tool.close()


async def test_the_request_may_have_less_time_than_an_execution(pool: Pool) -> None:
    tool = PythonTool(pool)
    execution = await run(tool, "import time; time.sleep(20)", seconds=0.3)
    assert execution.outcome is Outcome.TIMEOUT
    assert "longer than 0.3 s" in tool.describe(execution, 1000)
    await tool.close()


async def test_leaving_in_the_middle_gives_the_sandbox_back(pool: Pool) -> None:
    tool = PythonTool(pool)
    events = tool.run("print('a', flush=True); import time; time.sleep(20)", 20.0)
    assert isinstance(await anext(events), Output)
    await events.aclose()
    await tool.close()
    assert pool.facts["in_use"] == 0


async def test_no_room_is_raised() -> None:
    class Full:
        limits = Limits()
        lasting = False
        files = ()

        async def acquire(self, memory: int | None = None) -> Any:
            raise AtCapacity("full")

    tool = PythonTool(Full())
    with pytest.raises(AtCapacity):
        await run(tool, "1")
    await tool.close()


# --- what the model reads ---------------------------------------------------------------------------------------------

ERROR = GuestError(name="ZeroDivisionError", value="division by zero", traceback="Traceback ...\nZeroDivisionError: x")
PLOT = Result(data={"image/png": b"p", "text/plain": "<Figure size 640x480>"})
TABLE = Result(data={"text/html": "<table>", "text/plain": "   a\n0  1"}, is_main=True)

TEXTS: dict[str, tuple[dict[str, Any], Sequence[str]]] = {
    "nothing": ({}, [NO_OUTPUT]),
    "output": ({"stdout": "1\n2\n"}, ["1\n2"]),
    "both streams and a value": (
        {"stdout": "out\n", "stderr": "err\n", "results": (TABLE,)},
        ["out", "err", "   a\n0  1"],
    ),
    "a traceback, after what was printed": ({"stdout": "a\n", "error": ERROR}, ["a", ERROR.traceback]),
    "data is no picture": (
        {"results": (Result(data={CHART: {"type": "line"}}),)},
        ["[1 interactive figure shown as data; for a picture use matplotlib]"],
    ),
    "pictures are counted": ({"results": (PLOT, PLOT, TABLE)}, ["   a\n0  1", "[2 images shown to the user]"]),
    "files are named": (
        {"files": (FileInfo(path="a.csv", size=1200, type="text/csv", modified=0.0),)},
        ["[New or changed files: /mnt/data/a.csv (1,200 bytes)]"],
    ),
}


@pytest.mark.parametrize("case", TEXTS)
def test_what_the_model_reads(case: str) -> None:
    fields, texts = TEXTS[case]
    assert PythonTool(None).describe(Execution(outcome=Outcome.OK, **fields), 1000) == "\n".join(texts)  # type: ignore[arg-type]


@pytest.mark.parametrize("limit", [200, 1000, 5000])
def test_long_output_is_cut_and_its_end_and_the_traceback_are_kept(limit: int) -> None:
    execution = Execution(outcome=Outcome.ERROR, stdout="".join(f"line {n}\n" for n in range(100_000)), error=ERROR)
    text = PythonTool(None).describe(execution, limit)  # type: ignore[arg-type]
    assert len(text) < limit + 200
    assert text.startswith("line 0\n")
    assert "line 99999\n" in text
    assert text.endswith(ERROR.traceback)


@pytest.mark.parametrize("limit", [1000, 5000])
def test_no_number_of_results_or_names_of_files_is_told_beyond_the_limit(limit: int) -> None:
    results = tuple(Result(data={"text/plain": "x" * 10_000}) for _ in range(500))
    files = tuple(FileInfo(path=f"{n}{'n' * 4000}", size=1, type="", modified=0.0) for n in range(500))
    execution = Execution(outcome=Outcome.OK, stdout="o" * 10_000, results=results, files=files)
    text = PythonTool(None).describe(execution, limit)  # type: ignore[arg-type]
    assert len(text) < limit + 1500
    assert "and 480 more]" in text


class FakeSession:
    """Runs nothing. `broken` cannot take files."""

    def __init__(self, broken: bool = False) -> None:
        self.alive = True
        self.broken = broken
        self.files: list[str] = []

    async def write_file(self, path: str, data: bytes) -> None:
        if self.broken:
            raise SandboxFailed("it died")
        self.files.append(path)

    async def stream(self, code: str, **_: Any) -> AsyncIterator[Execution]:
        yield Execution(outcome=Outcome.OK)

    async def close(self) -> None:
        self.alive = False


class FakeSource:
    """Hands out these sessions, or raises these errors, one after the other."""

    limits = Limits()
    lasting = False
    files: Sequence[FileInfo] = ()

    def __init__(self, *sessions: Any) -> None:
        self.sessions = list(sessions)

    async def acquire(self, memory: int | None = None) -> Any:
        session = self.sessions.pop(0)
        if isinstance(session, Exception):
            raise session
        return session


async def test_code_never_runs_without_the_files() -> None:
    broken, sound = FakeSession(broken=True), FakeSession()
    tool = PythonTool(FakeSource(broken, sound), [SALES])
    with pytest.raises(SandboxFailed):
        await run(tool, "1")
    assert not broken.alive
    assert RESTARTED not in tool.describe(await run(tool, "1"), 1000)  # nothing had run
    assert sound.files == ["sales.csv"]


async def test_a_restart_is_told_though_the_first_try_of_it_failed() -> None:
    first = FakeSession()
    tool = PythonTool(FakeSource(first, SandboxFailed("no zygote"), FakeSession()))
    await run(tool, "x = 1")
    first.alive = False
    with pytest.raises(SandboxFailed):
        await run(tool, "x")
    assert tool.describe(await run(tool, "x"), 1000).startswith(RESTARTED)


def test_a_cut_says_how_much_went() -> None:
    assert cut("abcdefghij", 5) == "abc\n[... 5 characters left out ...]\nij"
    assert cut("abcde", 5) == "abcde"


# --- sessions that live on --------------------------------------------------------------------------------------------


class LastingSource(FakeSource):
    """As a container's: the session tells of fresh interpreters itself."""

    lasting = True


async def test_where_sessions_live_on_the_model_is_told_so_and_what_is_there() -> None:
    source = LastingSource()
    source.files = [
        FileInfo(path=f"out/{n}.csv", size=1200, type="text/csv", modified=0.0, id=str(n)) for n in range(30)
    ]
    for model in ("some model", "openai/gpt-oss-20b"):
        text = PythonTool(source, [SALES]).instructions(model)
        assert "- /mnt/data/sales.csv (text/csv, 8 bytes)" in text
        assert "- /mnt/data/out/29.csv (text/csv, 1,200 bytes)" in text
        assert "out/9.csv" not in text
        assert text.endswith("... and 10 more")
        assert "later answers" in text
        assert "(sandbox:/mnt/data/name)" in text
        alone = PythonTool(FakeSource()).instructions(model)
        assert "begins" in alone
        assert "later" not in alone
        assert "{" not in text + alone


async def test_where_sessions_live_on_they_are_given_back_and_tell_of_restarts_themselves() -> None:
    first, second = FakeSession(), FakeSession()
    tool = PythonTool(LastingSource(first, second), [SALES])
    await run(tool, "x = 1")
    first.alive = False
    assert RESTARTED not in tool.describe(await run(tool, "x"), 1000)
    assert second.files == ["sales.csv"]
    await tool.close()
    assert not second.alive
