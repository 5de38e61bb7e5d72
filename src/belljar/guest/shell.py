"""IPython without a terminal: last value, display, magics, top-level await, and nothing written to disk.

Results leave through one function, `emit`, given at construction; exceptions come back as values from `run`. A figure
brings its data as a chart, where they can be told (charts).
"""

from __future__ import annotations

import ast
import base64
import contextlib
import math
import os
import subprocess
import sys
import types
import warnings
from collections.abc import Callable
from typing import Any

from IPython.core.compilerop import CachingCompiler
from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.formatters import BaseFormatter
from IPython.core.interactiveshell import InteractiveShell
from traitlets import ObjectName, Unicode
from traitlets.config import Config

from .charts import chart_of
from .charts_model import CHART
from .charts_plotly import chart_of_bundle

MAX_DEPTH = 90
Emit = Callable[[dict[str, str], dict[str, Any], dict[str, bytes], bool], None]
SVG = "image/svg+xml"  # a picture that is text
BINARY_KINDS = ("image/", "audio/wav", "video/mp4", "application/pdf")  # beginnings: in base64 where they are text


def split_bundle(bundle: dict[str, Any]) -> tuple[dict[str, str], dict[str, Any], dict[str, bytes]]:
    """A MIME bundle as texts, JSON values and bytes; what is none of these, or no valid JSON, is left out.

    Text types become texts and pictures bytes, whatever stands there: the host takes nothing else.
    """
    texts: dict[str, str] = {}
    values: dict[str, Any] = {}
    blobs: dict[str, bytes] = {}
    for kind, data in bundle.items():
        if kind.startswith("text/") or kind == SVG:
            texts[kind] = data.decode("utf-8", "replace") if isinstance(data, bytes) else str(data)
        elif isinstance(data, bytes):
            blobs[kind] = data
        elif isinstance(data, str) and kind.startswith(BINARY_KINDS):
            blobs[kind] = base64.b64decode(data)
        elif isinstance(data, str):
            texts[kind] = data
        elif not kind.startswith("image/"):
            try:
                values[kind] = _plain(data)
            except (TypeError, ValueError, RecursionError):
                continue
    return texts, values, blobs


def _plain(value: Any, depth: int = 0) -> Any:
    """A value as JSON has it: no NaN and no infinity, null in their place; what JSON has no form for, as text."""
    if depth > MAX_DEPTH:
        raise ValueError("nested too deep")
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, depth + 1) for item in value]
    return value if value is None or isinstance(value, bool | int | str) else str(value)


class _Compiler(CachingCompiler):
    """Names cells as a reader counts them; inspect and tracebacks find the source under that name."""

    def get_code_name(self, raw_code: str, transformed_code: str, number: int) -> str:
        return f"<cell {number}>"

    def format_code_name(self, name: str) -> tuple[str, str] | None:
        return ("Cell", name)


class _Hook(DisplayHook):
    """The value of a cell's last expression becomes its main result."""

    def start_displayhook(self) -> None:
        pass

    def write_output_prompt(self) -> None:
        pass

    def write_format_data(self, format_dict: dict[str, Any], md_dict: Any = None) -> None:
        self.shell.emit(*split_bundle(format_dict), True)

    def finish_displayhook(self) -> None:
        self._is_active = False


class _Publisher(DisplayPublisher):
    """`display(...)` becomes a result."""

    def publish(self, data: dict[str, Any], *_: Any, **__: Any) -> None:  # type: ignore[override]
        chart = None if CHART in data else chart_of_bundle(data)
        self.shell.emit(*split_bundle(data if chart is None else {**data, CHART: chart}), False)

    def clear_output(self, wait: bool = False) -> None:
        pass


class _Charts(BaseFormatter):
    """What is displayed as a chart: one more type in the bundles of those objects that have one."""

    format_type = Unicode(CHART)
    print_method = ObjectName("_repr_chart_")
    _return_type = dict

    def __call__(self, value: Any) -> dict[str, Any] | None:
        return chart_of(value)


class Shell(InteractiveShell):
    """The interpreter of a sandbox."""

    emit: Emit

    def __init__(self, emit: Emit, **_: Any) -> None:
        config = Config()
        config.HistoryManager.enabled = False
        config.HistoryManager.hist_file = ":memory:"
        config.InteractiveShell.cache_size = 1000
        config.InteractiveShell.colors = "NoColor"
        config.InteractiveShell.xmode = "Plain"
        config.InlineBackend.figure_formats = {"png"}
        self.emit = emit
        self._raised: BaseException | None = None
        super().__init__(
            config=config,
            user_module=types.ModuleType("__main__"),
            display_pub_class=_Publisher,
            displayhook_class=_Hook,
            compiler_class=_Compiler,
        )
        self.display_formatter.formatters[CHART] = _Charts(parent=self.display_formatter)  # the last: figures are drawn
        self.user_ns.pop("open", None)  # IPython's wrapper that refuses descriptors 0 to 2
        sys.excepthook = sys.__excepthook__
        warnings.filterwarnings("ignore", message="To exit: use 'exit'")

    def run(self, code: str) -> BaseException | None:
        """Run one cell; the exception that ended it, or None. sys.exit(0) is no error."""
        self._raised = None
        outcome = self.run_cell(code, store_history=True)
        error = outcome.error_before_exec or outcome.error_in_exec or self._raised
        if isinstance(error, SystemExit) and error.code in (None, 0):
            return None
        return error

    def touch(self) -> None:
        """Run an empty cell without trace: the pages that every cell writes to are then this process's own."""
        self.run_cell("None", silent=True, store_history=False)

    def forget(self) -> None:
        """Drop all user names and count cells from one again."""
        self.reset(new_session=False)
        self.user_ns.pop("open", None)
        self.execution_count = 1

    def transform_cell(self, raw_cell: str) -> str:
        """IPython's own syntax made Python. What is Python already stays: half of a short cell's cost saved."""
        try:
            ast.parse(raw_cell)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            transformed: str = super().transform_cell(raw_cell)
            return transformed
        return raw_cell if raw_cell.endswith("\n") else raw_cell + "\n"

    def init_virtualenv(self) -> None:
        """Nothing to do: the image is the environment."""

    def init_syntax_highlighting(self, *_: Any) -> None:
        """No terminal, no colours."""

    def ask_exit(self) -> None:
        """`exit` and `quit` end nothing here: the session ends when its owner says so."""

    def _showtraceback(self, etype: Any, evalue: Any, stb: Any) -> None:
        self._raised = evalue

    def showtraceback(self, *arguments: Any, **options: Any) -> None:
        """Keep the exception for `run`, which returns it; nothing is printed."""
        self._raised = sys.exc_info()[1]

    def _tee(self, channel: str) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()  # IPython would keep all that is printed for a history that is not kept

    def _format_exception_for_storage(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        return {}  # for a history that is not kept

    def showsyntaxerror(self, *arguments: Any, **options: Any) -> None:
        """The same for code that does not compile."""
        self._raised = sys.exc_info()[1]

    def system_raw(self, cmd: str) -> None:
        """`!command`: the shell's output goes where the interpreter's goes."""
        sys.stdout.flush()
        shell = os.environ.get("SHELL", "/bin/sh")
        done = subprocess.run([shell, "-c", self.var_expand(cmd, depth=1)], check=False, stdin=subprocess.DEVNULL)
        self.user_ns["_exit_code"] = done.returncode

    system = system_raw
    system_piped = system_raw
