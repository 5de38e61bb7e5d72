"""Options, the configuration file and the environment: each says the same thing, once."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import fields
from pathlib import Path

import click
import pytest

from belljar.cli import main, output
from belljar.cli.options import EXIT_MEANINGS, OUTCOME_EXITS, PROFILE_WARNINGS, Exit, Positive, Size, limit_options
from belljar.execution import Outcome
from belljar.sandbox.backends import BACKENDS
from belljar.sandbox.base import Limits

from .conftest import Run
from .test_run import FIELDS

SIZES = {
    "1": 1,
    "1048576": 1 << 20,
    "512M": 512 << 20,
    "1G": 1 << 30,
    "1.5g": 3 << 29,
    "64KiB": 64 << 10,
    "2 MB": 2 << 20,
}
NO_SIZES = ["", "0", "-1", "M", "1X", "1e3", "nan", "0.1", True, "1 2", "9" * 400, "9" * 30 + "T"]


@pytest.mark.parametrize("text", SIZES)
def test_sizes(text: str) -> None:
    assert Size().convert(text, None, None) == SIZES[text]
    assert Size().convert(Size.show(SIZES[text]), None, None) == SIZES[text]


@pytest.mark.parametrize("text", NO_SIZES)
def test_no_sizes(text: object) -> None:
    with pytest.raises(click.BadParameter):
        Size().convert(text, None, None)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (int, "1.5"),
        (int, "0"),
        (float, "-1"),
        (float, "inf"),
        (float, "nan"),
        (int, True),
        (float, True),
        (int, "4000001"),
        (float, "1e300"),
    ],
)
def test_no_numbers(kind: type, text: object) -> None:
    with pytest.raises(click.BadParameter):
        Positive(kind).convert(text, None, None)


def test_the_least_that_a_cgroup_takes() -> None:
    assert Positive(float, 0.01).convert("0.01", None, None) == 0.01
    with pytest.raises(click.BadParameter, match=r"at least 0\.01"):
        Positive(float, 0.01).convert("0.009", None, None)


def test_every_limit_is_one_option_of_the_same_default() -> None:
    @click.command()
    @limit_options
    def command(**options: object) -> None:
        found.update(options)

    found: dict[str, object] = {}
    command.main([], standalone_mode=False)
    assert Limits(**found) == Limits()
    assert [option.name for option in command.params] == [limit.name for limit in fields(Limits)]
    kinds = {option.name: type(option.type) for option in command.params}
    assert {name for name, kind in kinds.items() if kind is Size} == {
        "memory",
        "files_bytes",
        "output_bytes",
        "results_bytes",
    }


def test_the_tables_are_whole() -> None:
    assert OUTCOME_EXITS.keys() == set(Outcome)
    assert EXIT_MEANINGS.keys() == set(Exit)
    assert PROFILE_WARNINGS.keys() <= BACKENDS.keys()


@pytest.mark.parametrize("name", main.COMMANDS)
def test_commands_load(name: str) -> None:
    command = main.belljar.get_command(click.Context(main.belljar), name)
    assert command is not None
    assert command.name == name


def test_the_documentation_names_everything() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs/cli.md").read_text()
    for code, meaning in EXIT_MEANINGS.items():
        assert f"| {code.value} | {meaning} |" in text
    for limit in fields(Limits):
        assert f"`--{limit.name.replace('_', '-')}" in text
    for name in FIELDS:
        assert f"| `{name}` |" in text


def test_help_imports_no_command(belljar: Run) -> None:
    done = belljar("--help", env={"PYTHONPROFILEIMPORTTIME": "1"})
    assert done.returncode == 0
    assert "belljar.cli.options" in done.stderr
    assert not [name for name in main.COMMANDS if f"belljar.cli.{name}\n" in done.stderr]
    for name, entry in main.COMMANDS.items():
        assert name in done.stdout
        assert entry.help.split()[0] in done.stdout


def test_version(belljar: Run) -> None:
    assert belljar("--version").stdout == "belljar 0.1.0\n"


def test_an_error_of_ours_is_one_line_and_a_traceback_on_demand(belljar: Run) -> None:
    plain = belljar("run", "--image", "no-such", "-c", "1")
    assert len(plain.stderr.splitlines()) == 1
    assert plain.stderr.startswith("belljar: ")
    assert plain.stdout == ""
    loud = belljar("run", "--image", "no-such", "-c", "1", env={"BELLJAR_DEBUG": "1"})
    assert "Traceback" in loud.stderr
    assert loud.stderr.endswith(plain.stderr)


def test_no_image_says_how_to_build_one(belljar: Run, tmp_path: Path) -> None:
    done = belljar("run", "-c", "1", env={"BELLJAR_HOME": str(tmp_path / "none")})
    assert done.returncode == 3
    assert "belljar image build default" in done.stderr


# --- where values come from -------------------------------------------------------------------------------------------


def limits_of(belljar: Run, *words: str, config: str = "", env: dict[str, str] | None = None) -> dict[str, object]:
    done = belljar(*words, "run", "--json", "-c", "1", env=env)
    assert done.returncode == 0, done.stderr
    limits = json.loads(done.stdout)["limits"]
    assert isinstance(limits, dict)
    return limits


def test_flag_environment_file_and_default_in_this_order(belljar: Run, tmp_path: Path) -> None:
    folder = tmp_path / "config/belljar"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text('[run]\nmemory = "512M"\nfiles-count = 50\ncpus = 0.5\n')
    env = {"XDG_CONFIG_HOME": str(tmp_path / "config"), "BELLJAR_RUN_FILES_COUNT": "60", "BELLJAR_RUN_TIMEOUT": "7"}
    done = belljar("run", "--json", "--timeout", "8", "-c", "1", env=env)
    limits = json.loads(done.stdout)["limits"]
    assert (limits["memory"], limits["files_count"], limits["timeout"], limits["cpus"]) == (512 << 20, 60, 8.0, 0.5)
    assert limits["processes"] == Limits().processes


CONFIGS = {
    "unknown key": ("[run]\ntimeuot = 1\n", "unknown key run.timeuot"),
    "unknown table": ("[rnu]\ntimeout = 1\n", "unknown key rnu"),
    "every unknown key": (
        "x = 1\n[run]\ny = 1\n[image.build]\nz = 1\n",
        "unknown key x; unknown key run.y; unknown key image.build.z",
    ),
    "an option of belljar itself": ('config = "x"\n', "unknown key config"),
    "a table for an option": ("[run.timeout]\nx = 1\n", "run.timeout must be one value"),
    "a list for an option": ("[run]\ntimeout = [1]\n", "run.timeout must be one value"),
    "one value for a list": ('[run]\nfile = "x"\n', "run.file must be a list"),
    "no TOML": ("[run\n", "line 1"),
    "a wrong value": ('[run]\nmemory = "much"\n', "--memory"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_a_wrong_configuration_is_wrong_usage(belljar: Run, tmp_path: Path, case: str) -> None:
    text, words = CONFIGS[case]
    (tmp_path / "c.toml").write_text(text)
    done = belljar("--config", "c.toml", "run", "-c", "1")
    assert done.returncode == 2
    assert words in " ".join(done.stderr.split())


def test_a_configuration_that_was_named_must_exist(belljar: Run) -> None:
    done = belljar("--config", "none.toml", "run", "-c", "1")
    assert (done.returncode, "none.toml" in done.stderr) == (2, True)


# --- text for a terminal ----------------------------------------------------------------------------------------------

TAMED = {
    "plain\ttext\r\n": "plain\ttext\r\n",
    "\x1b[1;31mred\x1b[0m": "\x1b[1;31mred\x1b[0m",
    "\x1b[2K\x1b[1A": "\x1b[2K\x1b[1A",
    "\x1b]0;title\x07": "\\x1b]0;title\\x07",
    "\x1b[21t": "\\x1b[21t",
    "\x1b": "\\x1b",
    "\x9b6n": "\\x9b6n",
}


@pytest.mark.parametrize("text", TAMED)
def test_a_terminal_obeys_only_colours_and_line_editing(text: str) -> None:
    assert output.tame(text) == TAMED[text]


def test_broken_pipe_of_a_help_page_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert main.main(["--version"]) == 0
