"""Analyse a table in a sandbox: the code below runs sealed off, sees only the file it is given, and hands back a plot.

What a language model would write is written here by hand, so that this needs no model: two executions in one session,
the second building on what the first computed.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from belljar import Sandbox
from belljar.errors import BelljarError

HERE = Path(__file__).resolve().parent
DATA = HERE / "data" / "sales.csv"
OUTPUT = HERE.parent / "demo-output"

SUMMARISE = """\
import pandas as pd

sales = pd.read_csv("sales.csv", parse_dates=["month"])
print(sales.describe(include="number").round(1), end="\\n\\n")
by_year = sales.groupby(["category", sales["month"].dt.year])["revenue"].sum().unstack()
(by_year / 1000).round().astype(int)  # revenue in thousands
"""

PLOT = """\
import matplotlib.pyplot as plt

monthly = sales.pivot(index="month", columns="category", values="revenue") / 1000
figure, (left, right) = plt.subplots(1, 2, figsize=(13, 4.5), width_ratios=[2, 1])
monthly.plot(ax=left, title="Revenue a month (thousands)", xlabel="")
(by_year.sum() / 1000).plot.bar(ax=right, title="Revenue a year (thousands)", xlabel="", rot=0)
figure.tight_layout()
plt.show()
"""


def show(code: str, execution: Any, seconds: float) -> None:
    """Print the code, and what running it printed and displayed."""
    print("\n".join(f"  >>> {line}" for line in code.splitlines()), end="\n\n")
    print(execution.stdout, end="")
    print(execution.stderr, end="", file=sys.stderr)
    for result in execution.results:
        if result.text and not result.png:
            print(result.text)
    print(f"\n  [{execution.outcome}, {seconds * 1000:.0f} ms]\n", flush=True)
    if execution.outcome != "ok":
        raise SystemExit(f"the execution ended with {execution.outcome}: {execution.error}")


def save_plots(execution: Any) -> list[Path]:
    """Write each picture of the execution into demo-output/."""
    OUTPUT.mkdir(exist_ok=True)
    paths = []
    for number, picture in enumerate((r.png for r in execution.results if r.png), 1):
        path = OUTPUT / f"sales-{number}.png"
        path.write_bytes(picture)
        paths.append(path)
    return paths


def main() -> None:
    started = time.monotonic()
    with Sandbox() as sandbox:
        print(f"\nA sandbox is ready, after {time.monotonic() - started:.2f} s. Analysing {DATA.name} in it:\n")
        sandbox.write_file(DATA.name, DATA.read_bytes())
        for code in (SUMMARISE, PLOT):
            began = time.monotonic()
            execution = sandbox.run(code)
            show(code, execution, time.monotonic() - began)
    plots = save_plots(execution)
    if not plots:
        raise SystemExit("the sandbox showed no plot")
    for path in plots:
        print(f"The plot is in {path}")


if __name__ == "__main__":
    try:
        main()
    except BelljarError as error:
        raise SystemExit(f"belljar: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
