"""`belljar`: the group of all commands, its configuration file, and how every command ends.

Promises: a command's module is imported only when that command is called (or the configuration file has a table for
it); an error of Belljar is one line on standard error, with the traceback where BELLJAR_DEBUG is set; a reader that
goes away ends the program quietly.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from belljar.cli.options import Exit
from belljar.errors import BelljarError, ClientError

PREFIX = "BELLJAR"
SHARED_TABLES = ("upstreams", "models")  # of the configuration: no command's, read by those that speak to models


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A command: where it is, as "module:attribute", and its line in the list of commands."""

    place: str
    help: str


COMMANDS = {
    "run": Entry(place="belljar.cli.run:run", help="Run Python code in a fresh sandbox."),
    "ask": Entry(place="belljar.cli.ask:ask", help="Ask a model a question, with a code interpreter at its hand."),
    "check": Entry(place="belljar.cli.check:check", help="Say which walls this host gives, and try them."),
    "image": Entry(
        place="belljar.cli.image:image", help="Python environments for sandboxes: build, list, check, remove."
    ),
    "serve": Entry(place="belljar.cli.serve:serve", help="Serve models with a code interpreter, over HTTP."),
    "bench": Entry(place="belljar.cli.bench:bench", help="Measure sandboxes, and the server, on this host."),
}


class LazyGroup(click.Group):
    """A group whose commands are named in COMMANDS and imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None where there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].place.partition(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. A broken pipe ends here: click would make it exit code 1."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            return _end_quietly()

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, from the table: nothing is imported for it."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items()])


def default_config() -> Path:
    """$XDG_CONFIG_HOME/belljar/config.toml, or the one in ~/.config."""
    xdg = os.environ.get("XDG_CONFIG_HOME", "")
    base = Path(xdg) if xdg.startswith("/") else Path(os.path.expanduser("~/.config"))  # noqa: PTH111 -- never raises
    return base / "belljar/config.toml"


def _load_config(ctx: click.Context, _parameter: click.Parameter, given: Path | None) -> None:
    """Feed the configuration file to click as defaults. Raises BadParameter that names the file."""
    path = given or default_config()
    if given is None and not os.path.exists(path):  # noqa: PTH110 -- False where a folder above is closed to us, too
        return
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"{path} cannot be read: {error}") from None
    import tomllib

    try:
        table = tomllib.loads(text)
        ctx.obj = {name: table.pop(name) for name in SHARED_TABLES if isinstance(table.get(name), dict)}
        ctx.default_map = read_config(table, ctx)
    except ValueError as error:  # TOMLDecodeError is one
        raise click.BadParameter(f"{path}: {error}") from None


def read_config(table: dict[str, Any], ctx: click.Context) -> dict[str, Any]:
    """A configuration as click's default map. Raises ValueError that names every key which is no option's, and every
    value that cannot be an option's.
    """
    faults: list[str] = []
    assert isinstance(ctx.command, click.Group)
    defaults = _read_table(table, ctx.command, ctx, "", faults)
    if faults:
        raise ValueError("; ".join(faults))
    return defaults


def _read_table(
    table: dict[str, Any], command: click.Command, ctx: click.Context, path: str, faults: list[str]
) -> dict[str, Any]:
    """One command's table; keys are the long names of options, with hyphens or underscores."""
    defaults: dict[str, Any] = {}
    options = _option_names(command) if path else {}  # the options of `belljar` itself say where the file is
    for key, value in table.items():
        word, at = key.replace("-", "_"), f"{path}{key}"
        inner = command.get_command(ctx, key) if isinstance(command, click.Group) else None
        if inner is not None and isinstance(value, dict):
            defaults[key] = _read_table(value, inner, ctx, f"{at}.", faults)
        elif word not in options:
            faults.append(f"unknown key {at}")
        elif isinstance(value, list) != options[word].multiple or not _is_plain(value):
            faults.append(f"{at} must be {'a list' if options[word].multiple else 'one value'}")
        else:
            defaults[options[word].name or ""] = value
    return defaults


def _option_names(command: click.Command) -> dict[str, click.Option]:
    """Key in the configuration -> option."""
    return {
        name.lstrip("-").replace("-", "_"): option
        for option in command.params
        if isinstance(option, click.Option)
        for name in option.opts
        if name.startswith("--")
    }


def _is_plain(value: Any) -> bool:
    return all(isinstance(item, str | int | float) for item in (value if isinstance(value, list) else [value]))


def _print_version(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from belljar import __version__

        click.echo(f"belljar {__version__}")
        ctx.exit()


EPILOG = """\b
Examples:
  belljar check                               what this host gives
  belljar image build                         the default image, once
  belljar run -c 'print(6 * 7)'               code from the command line
  belljar run plot.py --help                  arguments go to the script
  belljar run --file data.csv --out results plot.py

\b
Every option can also come from the environment, BELLJAR_<COMMAND>_<OPTION>, and from the configuration file:
  BELLJAR_RUN_MEMORY=2G belljar run big.py
  [run]
  memory = "2G"

BELLJAR_HOME says where images are kept; BELLJAR_DEBUG=1 shows the traceback of an error of Belljar's own.
"""


@click.group(cls=LazyGroup, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    expose_value=False,
    callback=_load_config,
    help="Defaults of all options, as TOML.  [default: $XDG_CONFIG_HOME/belljar/config.toml]",
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Show the version and exit.",
)
def belljar() -> None:
    """A code interpreter for any language model: Python in sealed sandboxes of its own."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line (that of the process by default) and return its exit code."""
    _open_standard_descriptors()
    code = _invoke(arguments)
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        return _end_quietly()
    return code


def _end_quietly() -> int:
    """The reader of the output has gone: say nothing, now and when the interpreter flushes at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return Exit.BROKEN_PIPE


def _invoke(arguments: Sequence[str] | None) -> int:
    try:
        code = belljar.main(arguments, prog_name="belljar", standalone_mode=False, auto_envvar_prefix=PREFIX)
        return code if isinstance(code, int) else Exit.OK
    except (click.Abort, KeyboardInterrupt):
        return Exit.INTERRUPTED
    except click.UsageError as error:
        error.show()
        return error.exit_code
    except click.ClickException as error:
        return _fail(error, error.format_message(), error.exit_code)
    except BelljarError as error:
        return _fail(error, str(error), Exit.USAGE if isinstance(error, ClientError) else Exit.HOST)


def _fail(error: Exception, message: str, code: int) -> int:
    if os.environ.get(f"{PREFIX}_DEBUG", "0") not in ("", "0"):
        import traceback

        traceback.print_exception(error)
    click.echo(f"belljar: {' '.join(message.split())}", err=True)
    return code


def _open_standard_descriptors() -> None:
    """Where 0, 1 or 2 is closed, put /dev/null there, so that no socket or file of ours takes its place."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


if __name__ == "__main__":
    sys.exit(main())
