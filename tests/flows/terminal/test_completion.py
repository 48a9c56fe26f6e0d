"""What a shell offers, as it asks for it."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app
from flows.stages import STAGES
from flows.terminal import completion
from tests.flows.made import made_run


def offered(line: str) -> list[str]:
    """What bash gets for the last word of a line."""
    words = line.split(" ")
    asked = {"_MLC_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    return CliRunner().invoke(app, [], env=asked, prog_name="mlc").stdout.split()


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("mlc comp", ["compare", "compare-methods"]),
        ("mlc plan --det", ["--detailed-exitcode"]),
        ("mlc plan sm", ["smoke"]),
        ("mlc why align --config qui", ["quickstart"]),
        ("mlc plan smoke -l es,sw", ["es,sw"]),
        ("mlc plan smoke -l es,+sw", ["es,+sw"]),
        ("mlc why mod", ["model_signals"]),
        ("mlc keep al", ["align", "all"]),
        ("mlc compare-methods --methods own-prompts,english-m", ["own-prompts,english-more-steps"]),
        ("mlc evaluate model --suite xst", ["xstest"]),
        ("mlc evaluate model --suite xstest,multi", ["xstest,multijail"]),
        ("mlc evaluate model --gate mar", ["margins"]),
        ("mlc judge file --judge rul", ["rules"]),
        ("mlc translate file --to sw", ["sw"]),
    ],
)
def test_names_that_ship(line: str, names: list[str]) -> None:
    assert offered(line) == names


def test_runs_are_those_of_the_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):
        made_run(tmp_path / "place", {}, lambda run: None)
    assert offered(f"mlc compare -w {tmp_path / 'place'} ") == ["1", "2", "champion", "last"]
    monkeypatch.chdir(tmp_path)
    assert offered("mlc export ") == ["last"]


def test_stages_are_those_of_the_flow() -> None:
    assert tuple(stage.name for stage in STAGES) == completion.STAGES
