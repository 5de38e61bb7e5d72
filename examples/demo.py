"""Ask Belljar through the official SDKs of four vendors: only the base URL is not theirs.

Starts `belljar serve` as a process, asks two questions through Groq's SDK and one through each SDK that is served, and
stops it. The server looks for a model; where it finds none, belljar/verbatim answers, which is no language model and
only runs the code that it is sent. Ends with 0 only if everything was as it should be.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from groq import Groq, GroqError
from vendors import VENDORS, Answer

HERE = Path(__file__).resolve().parent
DATA = HERE / "data" / "sales.csv"
OUTPUT = HERE.parent / "demo-output"
VERBATIM = "belljar/verbatim"
START_SECONDS = 60.0
STOP_SECONDS = 10.0
PNG = b"\x89PNG\r\n\x1a\n"

# The question of Groq's guide to code execution, as it stands there.
DEBUGGING = (
    "Will this Python code raise an error? "
    "`import numpy as np; a = np.array([1, 2]); b = np.array([3, 4, 5]); print(a + b)`"
)
IN_WORDS = (
    "Read sales.csv: it has month, category, units, revenue and returns. Print the revenue of each category in each "
    "year, in thousands, then plot the monthly revenue of each category as lines, and show the plot. Which category "
    "grew most?"
)
CODE = """\
import matplotlib.pyplot as plt
import pandas as pd

sales = pd.read_csv("sales.csv", parse_dates=["month"])
by_year = sales.groupby(["category", sales["month"].dt.year])["revenue"].sum().unstack()
print((by_year / 1000).round().astype(int))  # revenue in thousands

monthly = sales.pivot(index="month", columns="category", values="revenue") / 1000
figure, (left, right) = plt.subplots(1, 2, figsize=(13, 4.5), width_ratios=[2, 1])
monthly.plot(ax=left, title="Revenue a month (thousands)", xlabel="")
(by_year.sum() / 1000).plot.bar(ax=right, title="Revenue a year (thousands)", xlabel="", rot=0)
figure.tight_layout()
plt.show()
"""
IN_CODE = f"Run this with sales.csv:\n\n```python\n{CODE}```"
PRIME_IN_WORDS = "What is the 1,000th prime? Compute it with Python."
PRIME_IN_CODE = "```python\nfrom sympy import prime\nprint(prime(1000))\n```"
PRIME = "7919"


class Failure(Exception):
    """Something was not as it should be."""


# --- the server -------------------------------------------------------------------------------------------------------


class Server:
    """`belljar serve` as a process, on a free port."""

    def __init__(self) -> None:
        self.url = ""
        self.lines: list[str] = []
        self._data = tempfile.TemporaryDirectory(prefix="belljar-demo-")  # the demo leaves nothing in a user's store
        command = [sys.executable, "-m", "belljar", "serve", "--port", "0", "--data", self._data.name]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace")
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))

    def wait(self) -> None:
        """Until it is ready to answer."""
        deadline = time.monotonic() + START_SECONDS
        while not self._is_ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise Failure("the server did not start:\n" + "\n".join(self.lines))
            time.sleep(0.05)

    def _is_ready(self) -> bool:
        found = re.search(r"http://127\.0\.0\.1:\d+", "\n".join(self.lines))
        if found is None:
            return False
        self.url = found[0]
        with contextlib.suppress(urllib.error.URLError), urllib.request.urlopen(f"{self.url}/readyz") as response:
            return bool(response.status == 200)
        return False

    @property
    def default(self) -> str:
        """The model that the server would use, as it says at its start."""
        found = re.search(r"by default (\S+)", "\n".join(self.lines))
        if found is None:
            raise Failure("the server does not say which models it found:\n" + "\n".join(self.lines))
        return found[1]

    def stop(self) -> int:
        """As an operator would: SIGTERM, and it ends by itself. Its exit status."""
        self.process.terminate()
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise Failure(f"the server did not stop within {STOP_SECONDS:g} s of SIGTERM") from None
        finally:
            self._data.cleanup()


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """A server for the length of a block."""
    server = Server()
    try:
        server.wait()
        yield server
    finally:
        status = server.stop()
    if status != 0:
        raise Failure(f"the server ended with {status}:\n" + "\n".join(server.lines[-20:]))


# --- what is printed --------------------------------------------------------------------------------------------------


def say(text: str) -> None:
    """A step."""
    print(f"\n== {text}", flush=True)


def show(title: str, text: str) -> None:
    """Somebody's words or code."""
    print(f"\n  {title}:")
    print("\n".join(f"    {line}".rstrip() for line in text.strip("\n").splitlines()), flush=True)


def show_run(tool: Any) -> None:
    """An entry of `executed_tools`: compound systems put the code into JSON, other models give it as it is."""
    show("code that ran", json.loads(tool.arguments)["code"] if tool.type == "python" else tool.arguments)
    show("output", output_of(tool))


def output_of(tool: Any) -> str:
    """The text of an entry: `output` of a compound system, `code_results` of another model."""
    return tool.output or "\n".join(result.text for result in tool.code_results or [] if result.text)


# --- the questions ----------------------------------------------------------------------------------------------------


def ask_about_code(client: Groq, verbatim: bool) -> None:
    """The debugging question, to a compound system: no tools are named, the server decides, one answer comes back."""
    say("Groq's debugging question, to groq/compound-mini")
    show("question", DEBUGGING)
    response = client.chat.completions.create(
        model="groq/compound-mini", messages=[{"role": "user", "content": DEBUGGING}]
    )
    message = response.choices[0].message
    executed = message.executed_tools or []
    for tool in executed:
        show_run(tool)
    show("answer", message.content or "")
    if not message.content:
        raise Failure("there was no answer")
    if verbatim and not any("ValueError" in output_of(tool) for tool in executed):
        raise Failure("the code did not raise what it must raise")


def ask_about_data(client: Groq, model: str, verbatim: bool) -> None:
    """A table and a plot: the file goes with the question, the answer is streamed, the picture is in it."""
    say(f"A CSV and a plot, to {model}, streaming")
    question = IN_CODE if verbatim else IN_WORDS
    show(f"question, with {DATA.name}", question.replace(CODE, "(the code below)\n") if verbatim else question)
    document: Any = {"type": "document", "document": {"id": DATA.name, "data": DATA.read_text()}}
    stream = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": [{"type": "text", "text": question}, document]}],
        tools=[{"type": "code_interpreter"}],
        stream=True,
    )
    executed: dict[int, Any] = {}  # the entry of an index that came last counts
    answer = ""
    for chunk in stream:
        delta = chunk.choices[0].delta if chunk.choices else None
        executed |= {tool.index: tool for tool in (delta.executed_tools if delta else None) or []}
        if delta and delta.content:
            if not answer:
                for tool in executed.values():
                    show_run(tool)
                print("\n  answer:\n    ", end="")
            print(delta.content.replace("\n", "\n    "), end="", flush=True)
            answer += delta.content
    print()
    if not answer:
        raise Failure("there was no answer")
    save_plots(executed)


def save_plots(executed: dict[int, Any]) -> None:
    """Write each picture into demo-output/."""
    pictures = [result.png for tool in executed.values() for result in tool.code_results or [] if result.png]
    if not pictures:
        raise Failure("no plot came back")
    OUTPUT.mkdir(exist_ok=True)
    for number, picture in enumerate(pictures, 1):
        data = base64.b64decode(picture)
        if not data.startswith(PNG):
            raise Failure("the plot is no PNG")
        path = OUTPUT / f"sales-{number}.png"
        path.write_bytes(data)
        print(f"\n  The plot is in {path}")


def ask_everywhere(url: str, key: str, model: str, verbatim: bool) -> None:
    """The same question through each SDK that is served: code and output where that vendor's answers have them."""
    question = PRIME_IN_CODE if verbatim else PRIME_IN_WORDS
    say(f"One question through {len(VENDORS)} vendors' SDKs, to {model}")
    show("question", question)
    for name, ask in VENDORS.items():
        try:
            answer = ask(url, key, model, question)
        except Exception as error:
            raise Failure(f"{name}: {type(error).__name__}: {error}") from error
        show_answer(name, answer)
        if verbatim and PRIME not in answer.text:
            raise Failure(f"{name}: the answer is wrong")


def show_answer(name: str, answer: Answer) -> None:
    """One vendor's."""
    print(f"\n  -- {name}", flush=True)
    for code in answer.codes:
        show("code that ran", code)
    for output in answer.outputs:
        show("output", output)
    show("answer", answer.text)
    if not answer.text:
        raise Failure(f"{name}: there was no answer")


def main() -> None:
    os.environ["NO_PROXY"] = ",".join(filter(None, [os.environ.get("NO_PROXY"), "127.0.0.1"]))
    say("Starting a server: belljar serve --port 0")
    began = time.monotonic()
    with serving() as server:
        show(f"ready after {time.monotonic() - began:.1f} s", "\n".join(server.lines))
        key = os.environ.get("BELLJAR_SERVE_API_KEY", "none-needed")
        client = Groq(base_url=server.url, api_key=key)
        model = server.default
        verbatim = model == VERBATIM
        if verbatim:
            print(f"\n  No language model was found. {VERBATIM} stands in: it only runs the code that it is sent.")
        ask_about_code(client, verbatim)
        ask_about_data(client, model, verbatim)
        ask_everywhere(server.url, key, model, verbatim)
        say("Stopping the server with SIGTERM")
    print("\n  It has ended by itself.", flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        main()
    except (Failure, GroqError) as error:
        raise SystemExit(f"demo: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
