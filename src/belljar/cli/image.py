"""`belljar image`: build, list, check and remove the Python environments of sandboxes.

Exit codes: 0 done, 2 wrong usage, 3 something is wrong with this host or the image.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import click

from belljar.errors import HostError
from belljar.sandbox.image import DEFAULT, NAME, BrokenImage, Image, build_command, find_image, list_images

HOST_PROBLEM = 3
P = ParamSpec("P")


class HostProblem(click.ClickException):
    """A HostError as click shows it: its message and exit code 3."""

    exit_code = HOST_PROBLEM


def _reports(command: Callable[P, None]) -> Callable[P, None]:
    """Let a command end with exit code 3 and the message of a HostError."""

    @wraps(command)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except HostError as error:
            raise HostProblem(str(error)) from error

    return wrapper


def _valid_name(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if not NAME.fullmatch(value):
        raise click.BadParameter(f"{value!r} does not match {NAME.pattern}")
    return value


_optional_name = click.argument("name", default=DEFAULT, callback=_valid_name)
_name = click.argument("name", callback=_valid_name)


@click.group("image")
def image() -> None:
    """Python environments for sandboxes."""


@image.command()
@_optional_name
@click.option("--with", "with_", multiple=True, metavar="PKG", help="Add a package to the set; may be given again.")
@click.option(
    "--requirements",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Add the packages that a file lists, one a line.",
)
@click.option("--force", is_flag=True, help="Build anew even if the image is up to date.")
@_reports
def build(name: str, with_: tuple[str, ...], requirements: Path | None, force: bool) -> None:
    """Build the image NAME, if it is not up to date."""
    from belljar.sandbox.image_build import build_image

    with _ends_on_sigterm():
        build_image(name, with_=with_, requirements=requirements, force=force, progress=Progress())


@image.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@_reports
def list_(as_json: bool) -> None:
    """List all images, broken ones too."""
    images = list_images()
    if as_json:
        click.echo(json.dumps([_fields(each) for each in images], indent=1))
        return
    for each in images:
        click.echo(_line(each))
    if not images:
        click.echo("no images; `belljar image build` makes the default one", err=True)


@image.command()
@_optional_name
@_reports
def check(name: str) -> None:
    """Read every file of an image and import everything that sandboxes start with."""
    from belljar.sandbox.image_check import check_image

    if problems := check_image(name):
        for problem in problems:
            click.echo(problem)
        requirements = find_image(name).requirements
        raise HostProblem(f"image {name!r} is broken; run: {build_command(name, requirements, force=True)}")
    click.echo(f"image {name} is whole")


@image.command()
@_name
@_reports
def remove(name: str) -> None:
    """Remove the image NAME; what running servers use of it stays until they end."""
    from belljar.sandbox.image_build import remove_image

    kept = remove_image(name)
    click.echo(f"removed image {name}")
    for folder in kept:
        click.echo(f"{folder} is in use; `belljar image remove {name}` removes it later")


@image.command()
@_optional_name
@_reports
def path(name: str) -> None:
    """Print the folder of an image."""
    click.echo(find_image(name).path)


@contextmanager
def _ends_on_sigterm() -> Iterator[None]:
    """Let SIGTERM unwind the stack like an interrupt, so that a build stops its installer and cleans up."""
    before = signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Progress:
    """Prints lines of progress to standard error; counters only on a terminal, each over the one before."""

    def __init__(self) -> None:
        self._terminal, self._counting = sys.stderr.isatty(), False

    def __call__(self, line: str) -> None:
        """Print one line; one that begins with a carriage return is a counter."""
        counter = line.startswith("\r")
        if counter and not self._terminal:
            return
        clear = "\r\x1b[K" if self._counting else ""
        click.echo(clear + line.removeprefix("\r"), err=True, nl=not counter)
        self._counting = counter


def _line(found: Image | BrokenImage) -> str:
    if isinstance(found, BrokenImage):
        return f"{found.name}  BROKEN  {found.reason}"
    parts = (f"Python {found.python_version}", f"{len(found.packages)} packages", f"{found.size / 1e6:.0f} MB")
    return "  ".join((found.name, *parts, f"built {found.built}", str(found.path)))


def _fields(found: Image | BrokenImage) -> dict[str, Any]:
    """Return an image's fields as JSON has them; `usable` tells the two kinds apart."""
    fields = {name: str(value) if isinstance(value, Path) else value for name, value in vars(found).items()}
    return {"usable": isinstance(found, Image), **fields}
