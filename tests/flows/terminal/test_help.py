"""The help of every command: as wide as a terminal at most, and with examples that can be typed."""

import re
import shlex
from types import ModuleType
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from flows import cli
from flows.configuration.overrides import parse_overrides
from flows.configuration.reading import load_config

WIDTH = 80
OF_A_PIPELINE = ("run", "plan", "why", "compare-methods", "look")
"""Commands whose option --set is of a whole configuration."""
COMMANDS = {cli.name_of(module): module for module in cli.COMMANDS}


def help_of(*arguments: str) -> list[str]:
    ended = CliRunner().invoke(cli.app, [*arguments, "--help"], env={"COLUMNS": str(WIDTH)})
    assert ended.exit_code == 0, ended.output
    return ended.stdout.splitlines()


def parsed(line: str) -> dict[str, Any]:
    """What the arguments of an example mean."""
    words = shlex.split(line.rpartition("| ")[2])
    assert words[0] == "mlc"
    group: Any = typer.main.get_command(cli.app)
    return group.commands[words[1]].make_context(words[1], words[2:]).params


@pytest.mark.parametrize("name", [None, *COMMANDS])
def test_help_fits_and_nothing_in_it_is_cut(name: str | None) -> None:
    lines = help_of(*filter(None, [name]))
    assert max(map(len, lines)) <= WIDTH
    assert [line for line in lines if re.search(r"\S…", line)] == []
    assert "bool" not in "".join(lines)


def test_each_command_is_told_in_one_line() -> None:
    lines = help_of()
    for name, module in COMMANDS.items():
        first = module.command.__doc__.partition("\n")[0]
        assert [line for line in lines if name in line.split() and first in line], name


@pytest.mark.parametrize("module", cli.COMMANDS, ids=COMMANDS)
def test_each_command_has_examples_that_parse(module: ModuleType) -> None:
    name = cli.name_of(module)
    assert module.EXAMPLES
    shown = help_of(name)
    for line in module.EXAMPLES:
        assert f" {line}" in [text.rstrip() for text in shown]
        assert f"mlc {name}" in line
        settings = parsed(line).get("settings")
        if settings and name in OF_A_PIPELINE:
            load_config("smoke", overrides=parse_overrides(settings))


def test_an_example_that_is_wrong_is_found() -> None:
    for line in ("mlc plan --no-such-option", "mlc show nonsense", "mlc power --prompts many"):
        with pytest.raises(Exception, match=r"No such option|nonsense|valid int"):
            parsed(line)
