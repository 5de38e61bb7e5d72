"""The rules of the design that a machine can hold: direction of imports, size budgets, what the repository may name.

Held here: every package module has a row and imports downwards only; no cycle; no package import inside a function
but in the command line's; the guest imports only what an image holds; functions and modules stay small; modules say
what they are; shell scripts parse and can be run; no file names a path of somebody's machine.
Not held here: the policy of the sandbox's walls, and anything that needs running the package.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src"
PACKAGE = "belljar"

ROW_2 = ("dialects", "sandbox", "store")

# Part of the package -> row. A row may import from lower rows and from itself, but for the strangers named below.
ROWS = {
    "guest": 0,
    **dict.fromkeys(["errors", "execution", "model", "events", "conversation", "formats", "packing"], 1),
    **dict.fromkeys(["fences", "partial", "sse", "registry"], 1),
    **dict.fromkeys(ROW_2, 2),
    "tools": 3,
    **dict.fromkeys(["loop", "upstream", "verbatim"], 4),
    **dict.fromkeys(["apis", "scripted", "server"], 5),
    **dict.fromkeys(["cli", "config", "bench", "__main__", "__init__"], 6),
}
STRANGERS = {(a, b) for a in ROW_2 for b in ROW_2 if a != b}  # same row, and neither may know the other
LAZY_PARTS = {"cli"}  # a command imports what it needs when it is called, so that `belljar --help` stays quick

# What a guest may import beside the standard library and its own files: what the images hold.
IMAGE_HOLDS = {"IPython", "traitlets", "matplotlib", "matplotlib_inline", "numpy", "pandas", "PIL", "plotly", "sympy"}
GUEST_ITSELF = "guest"  # the name under which the folder is started

MAX_FUNCTION_LINES = 70
MAX_MODULE_LINES = 500
P90_FUNCTION_LINES = 40

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, kw_only=True)
class Import:
    """One imported module name (for `from m import n`, m.n where that is a module of ours), and where."""

    target: str
    line: int
    function: str | None


@dataclass(frozen=True, kw_only=True)
class Module:
    """One source file of the package."""

    name: str
    path: Path
    tree: ast.Module
    lines: int

    @property
    def is_package(self) -> bool:
        return self.path.name == "__init__.py"

    @property
    def part(self) -> str:
        return part_of(self.name)

    def at(self, line: int) -> str:
        return f"{self.path.relative_to(ROOT)}:{line}"


def part_of(module: str) -> str:
    """The second name of a dotted path, which is what ROWS knows: belljar.sandbox.pool -> sandbox."""
    names = module.split(".")
    return names[1] if len(names) > 1 else "__init__"


@cache
def modules() -> dict[str, Module]:
    found = {}
    for path in sorted((SRC / PACKAGE).rglob("*.py")):
        names = list(path.relative_to(SRC).with_suffix("").parts)
        if names[-1] == "__init__":
            names.pop()
        text = path.read_text(encoding="utf-8")
        name = ".".join(names)
        found[name] = Module(name=name, path=path, tree=ast.parse(text, str(path)), lines=len(text.splitlines()))
    return found


def nodes(tree: ast.AST, function: str | None = None) -> Iterator[tuple[ast.AST, str | None]]:
    """Every node, with the name of the innermost function that holds it."""
    for child in ast.iter_child_nodes(tree):
        yield child, function
        yield from nodes(child, child.name if isinstance(child, Function) else function)


def imported_names(module: Module, node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = node.module or ""
    if node.level:
        up = node.level - 1 if module.is_package else node.level
        names = module.name.split(".")
        base = ".".join([*names[: len(names) - up], *([base] if base else [])])
    inner = [f"{base}.{alias.name}" for alias in node.names]
    return [name if name in modules() else base for name in inner]


@cache
def imports(name: str) -> tuple[Import, ...]:
    module = modules()[name]
    return tuple(
        Import(target=target, line=node.lineno, function=function)
        for node, function in nodes(module.tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for target in imported_names(module, node)
    )


def own(imported: Import) -> bool:
    return imported.target.split(".")[0] == PACKAGE


def functions(module: Module) -> Iterator[tuple[Function, int]]:
    for node, _ in nodes(module.tree):
        if isinstance(node, Function):
            yield node, (node.end_lineno or node.lineno) - node.lineno + 1


def report(faults: list[str]) -> None:
    assert not faults, "\n" + "\n".join(faults)


# --- imports ----------------------------------------------------------------------------------------------------------


def test_every_part_has_a_row() -> None:
    report([f"{m.at(1)}: {m.part!r} has no row in ROWS" for m in modules().values() if m.part not in ROWS])


def test_imports_go_to_lower_rows() -> None:
    faults = []
    for module in modules().values():
        for imported in filter(own, imports(module.name)):
            here, there = module.part, part_of(imported.target)
            if ROWS.get(there, 99) > ROWS.get(here, -1) or (here, there) in STRANGERS:
                faults.append(f"{module.at(imported.line)}: {here} may not import {imported.target}")
    report(faults)


def test_imports_have_no_cycle() -> None:
    graph = {
        name: {i.target for i in imports(name) if own(i) and i.function is None and i.target in modules()}
        for name in modules()
    }
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            pytest.fail("cycle: " + " -> ".join([*path[path.index(name) :], name]))
        if name not in done:
            for target in sorted(graph[name]):
                visit(target, (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_functions_import_nothing_of_the_package() -> None:
    report(
        [
            f"{module.at(i.line)}: {i.function}() imports {i.target}; import it at the top"
            for module in modules().values()
            if module.part not in LAZY_PARTS
            for i in filter(own, imports(module.name))
            if i.function
        ]
    )


def test_guest_imports_what_an_image_holds() -> None:
    allowed = set(sys.stdlib_module_names) | IMAGE_HOLDS | {GUEST_ITSELF}
    guest = f"{PACKAGE}.guest"
    faults = []
    for module in modules().values():
        if module.part != "guest":
            continue
        relative = {n.lineno for n, _ in nodes(module.tree) if isinstance(n, ast.ImportFrom) and n.level}
        for i in imports(module.name):
            inside = i.line in relative and (i.target + ".").startswith(guest + ".")
            if not inside and i.target.split(".")[0] not in allowed:
                faults.append(f"{module.at(i.line)}: a guest may not import {i.target}")
    report(faults)


# --- sizes and heads --------------------------------------------------------------------------------------------------


def test_functions_are_small() -> None:
    report(
        [
            f"{module.at(node.lineno)}: {node.name}() has {length} lines (at most {MAX_FUNCTION_LINES})"
            for module in modules().values()
            for node, length in functions(module)
            if length > MAX_FUNCTION_LINES
        ]
    )


def test_nine_functions_in_ten_are_short() -> None:
    lengths = sorted(length for module in modules().values() for _, length in functions(module))
    if lengths:
        assert lengths[len(lengths) * 9 // 10] < P90_FUNCTION_LINES


def test_modules_are_small() -> None:
    report(
        [
            f"{module.at(1)}: {module.lines} lines (at most {MAX_MODULE_LINES})"
            for module in modules().values()
            if module.lines > MAX_MODULE_LINES
        ]
    )


def test_modules_have_docstrings() -> None:
    examples = {p: ast.parse(p.read_text(encoding="utf-8")) for p in (ROOT / "examples").rglob("*.py")}
    trees = {module.path: module.tree for module in modules().values()} | examples
    report([f"{path.relative_to(ROOT)}: no docstring" for path, tree in trees.items() if not ast.get_docstring(tree)])


# --- the repository ---------------------------------------------------------------------------------------------------

LEFT_BY_TOOLS = {".git", ".venv", ".home", ".hypothesis", "__pycache__", "build", "demo-output", "dist"}

# In two pieces each, so that this file does not name them.
FOREIGN = {
    "a machine's path": ["/wo" + "rk/", "/fa" + "rm/", "/opt/" + "wheels", "/opt/" + "pypi"],
    "a registry's host": ["py" + "pi.org", "python" + "hosted.org", "registry." + "npmjs"],
}


@cache
def repository_files() -> tuple[Path, ...]:
    """What git has or would add; without git or a repository, everything but what scripts leave behind."""
    paths = listed_by_git()
    return tuple(path for path in paths or walked(ROOT) if path.is_file() and not path.is_symlink())


def listed_by_git() -> list[Path]:
    if not shutil.which("git") or not (ROOT / ".git").exists():
        return []
    # safe.directory: root may test a checkout of an ordinary user
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return [ROOT / name for name in listing.stdout.split("\0") if name]


def walked(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if not path.is_dir():
            yield path
        elif path.name not in LEFT_BY_TOOLS and not path.name.endswith(("_cache", ".egg-info")):
            yield from walked(path)


def shell_scripts() -> list[tuple[Path, bool]]:
    """Each bash file, and whether it is one to run (it says so in its first line) rather than to source."""
    scripts = []
    for path in repository_files():
        with path.open("rb") as file:
            first = file.readline(200)
        to_run = first.startswith(b"#!") and b"sh" in first
        if to_run or path.suffix == ".sh":
            scripts.append((path, to_run))
    return scripts


def test_shell_scripts_parse_and_can_be_run() -> None:
    scripts = shell_scripts()
    assert scripts
    faults = []
    for path, to_run in scripts:
        if to_run and not os.access(path, os.X_OK):
            faults.append(f"{path.relative_to(ROOT)}: not executable")
        parsed = subprocess.run(["bash", "-n", path], capture_output=True, text=True, check=False)
        if parsed.returncode:
            faults.append(parsed.stderr)
    report(faults)


def test_no_file_names_a_machine() -> None:
    faults = []
    for path in repository_files():
        text = path.read_bytes().decode("utf-8", errors="replace")
        for what, words in FOREIGN.items():
            # a word before it makes it a relative path, and no machine's
            pattern = "|".join(rf"(?<![\w.}}~-]){re.escape(word)}" for word in words)
            faults += [
                f"{path.relative_to(ROOT)}:{text.count(chr(10), 0, match.start()) + 1}: names {what}: {match[0]}"
                for match in re.finditer(pattern, text)
            ]
    report(faults)
