"""`mlc deploy` before it asks any server; tests/flows/test_deployment.py has the rest."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows import cli
from mlc.chat.tethered import free_port


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> str:
    address = f"http://127.0.0.1:{free_port()}/api"
    monkeypatch.setenv("PREFECT_API_URL", address)
    return address


def told(*arguments: str) -> str:
    ended = CliRunner().invoke(cli.app, ["deploy", "--config", "smoke", *arguments])
    assert ended.exit_code == 2, ended.output
    return " ".join(ended.stderr.split())


def test_no_server_is_one_sentence(no_server: str, tmp_path: Path) -> None:
    assert told("--workspace", str(tmp_path)) == (
        f"mlc: No Prefect server answers at {no_server}: start one with `prefect server start`, or name another one in "
        "PREFECT_API_URL."
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--config", "no-such"), "no-such"),
        (("--languages", "klingon"), "klingon"),
        (("--hours", "0"), "The time limit is 0 hours: give a number above 0."),
    ],
)
def test_mistakes_are_told_before_a_server_is_asked(arguments: tuple[str, ...], words: str) -> None:
    assert words in told(*arguments)


def test_a_template_is_checked(tmp_path: Path) -> None:
    from flows.commands.deploy import _read_template
    from mlc.errors import UserError

    file = tmp_path / "template.json"
    for text, words in (("{", "cannot be read as JSON"), (json.dumps({"variables": {}}), "job_configuration")):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=words):
            _read_template(file)
