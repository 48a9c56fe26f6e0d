"""The command as a whole: what it lists, its version, and what it adds to errors."""

import ast
import importlib
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows import cli, commands
from mlc.errors import UserError
from mlc.packages import VERSION


def test_every_file_of_commands_is_a_command() -> None:
    files = {path.stem.rstrip("_").replace("_", "-") for path in Path(commands.__file__).parent.glob("[!_]*.py")}
    assert {command.name for command in cli.app.registered_commands} == files


def test_version() -> None:
    ended = CliRunner().invoke(cli.app, ["--version"])
    assert (ended.exit_code, ended.stdout) == (0, f"mlc {VERSION}\n")


@pytest.mark.parametrize("arguments", [["-h"], ["layers", "-h"]])
def test_help_in_short(arguments: list[str]) -> None:
    ended = CliRunner().invoke(cli.app, arguments)
    assert ended.exit_code == 0
    assert ended.stdout == CliRunner().invoke(cli.app, [*arguments[:-1], "--help"]).stdout


@pytest.mark.parametrize("about", [*cli.HINTS, None, "something else"])
def test_an_error_gets_the_words_of_the_command_line(about: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise UserError("The [bold] one is wrong: take another.", about=about)

    monkeypatch.setattr("flows.commands.run.run_config", fails)
    monkeypatch.setattr("flows.commands.run.load", lambda *_, **__: None)
    ended = CliRunner().invoke(cli.app, ["run"])
    assert ended.exit_code == 2
    added = f" ({cli.HINTS[about]})" if about in cli.HINTS else ""
    assert ended.stderr == f"mlc: The [bold] one is wrong: take another{added}.\n"


def test_a_package_that_is_missing_is_told_and_a_module_of_ours_is_a_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        importlib.import_module(missing)

    monkeypatch.setattr("flows.commands.run.load", fails)
    missing = "no_such_package.inside"
    ended = CliRunner().invoke(cli.app, ["run"])
    assert (ended.exit_code, ended.stderr) == (
        2,
        "mlc: The package no-such-package is needed for this and is not installed: install it.\n",
    )
    missing = "mlc.no_such_module"
    assert isinstance(CliRunner().invoke(cli.app, ["run"]).exception, ModuleNotFoundError)


def test_every_hint_is_for_an_error_that_there_is() -> None:
    root = Path(cli.__file__).parents[1]
    sources = "\n".join(
        path.read_text(encoding="utf-8") for part in ("mlc", "tasks", "flows") for path in (root / part).rglob("*.py")
    )
    for about in cli.HINTS:
        assert sources.count(f'"{about}"') > 1, about


OPTIONS_OF_OTHERS = ("chat/serving.py", "evaluation/harness.py", "evaluation/harnessed.py", "evaluation/logs.py")
"""They tell commands of inspect_ai, lm-eval and vllm."""


@pytest.mark.parametrize("part", ["mlc", "tasks"])
def test_the_library_knows_no_option_of_the_command_line(part: str) -> None:
    root = Path(cli.__file__).parents[1] / part
    found = [
        (path.relative_to(root).as_posix(), text.value)
        for path in root.rglob("*.py")
        for error in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(error, ast.Raise | ast.Return)
        for text in ast.walk(error)
        if isinstance(text, ast.Constant) and isinstance(text.value, str)
        if re.search(r"(?<!pip install )--[a-z]|`mlc ", text.value)
    ]
    others = ("making/", *OPTIONS_OF_OTHERS)
    assert [(path, text) for path, text in found if not path.startswith(others)] == []
