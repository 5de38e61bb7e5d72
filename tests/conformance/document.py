"""docs/dialects.md, written from the tables of the case folders: `render` gives its text, `main` writes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from conformance.says import Dialect, Fact, Refused, Said, Unsaid

PATH = Path(__file__).resolve().parents[2] / "docs" / "dialects.md"
MARKS = {Said: "yes", Unsaid: "–", Refused: "refused"}

HEAD = """\
# What each dialect says

Every dialect is written from the same events, so an answer is the same in all of them; what differs is what a vendor's
format can say. Where it has no word for something, the tables say what is shown, or done, in its place. One suite,
`tests/conformance`, asks each dialect the same questions through its official SDKs, streaming and not, and holds it to
its table. This page is written from the tables by `scripts/dialects-doc`; it is not edited by hand.

In every dialect: the code of one request runs in one sandbox of its own (in Responses, in a container that lives on);
what it does wrong is shown to the model, and is no error of the request; a client that goes away ends the upstream's
work and frees the sandbox.
"""


def render(tables: Mapping[str, Dialect]) -> str:
    """The page."""
    ordered = sorted(tables.values(), key=lambda table: table.title)
    parts = [HEAD, "## At a glance\n", *_glance(ordered)]
    for table in ordered:
        parts += _section(table)
    return "\n".join(parts)


def _glance(tables: list[Dialect]) -> Iterator[str]:
    yield f"| | {' | '.join(table.title for table in tables)} |"
    yield f"|---|{'---|' * len(tables)}"
    for fact in Fact:
        yield f"| {fact.value} | {' | '.join(_mark(table, fact) for table in tables)} |"
    yield ""


def _mark(table: Dialect, fact: Fact) -> str:
    entry = table.says[fact]
    return MARKS[type(entry)] if not (isinstance(entry, Said) and entry.instead) else "in part"


def _section(table: Dialect) -> Iterator[str]:
    yield f"## {table.title}\n"
    yield f"- Paths: {'; '.join(table.paths)}"
    yield f"- Code execution: {table.ask}"
    judges = [*table.judges, *(f"{name} (JavaScript)" for name in table.javascript)]
    yield f"- Judges: {', '.join(judges)}\n"
    yield "| what | how it is said |"
    yield "|---|---|"
    for fact in Fact:
        yield f"| {fact.value} | {_how(table.says[fact])} |"
    yield ""


def _how(entry: Said | Unsaid | Refused) -> str:
    if isinstance(entry, Unsaid):
        return f"not said: {entry.instead}"
    if isinstance(entry, Refused):
        return f"refused with {entry.status}: {entry.how}"
    told = ", ".join(f"`{wanted}` is told as `{shown}`" for wanted, shown in entry.instead.items())
    return f"{entry.how}; {told}" if told else entry.how


def main() -> None:
    """Write it anew."""
    from conformance.test_conformance import TABLES

    PATH.write_text(render(TABLES), encoding="utf-8")


if __name__ == "__main__":
    main()
