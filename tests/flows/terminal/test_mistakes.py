"""What a person mistypes, told in one sentence on standard error, with what was meant where it is near."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app
from tasks.runtime.run import PASSING_SERVER

LIBRARIES = re.compile(r"pydantic|Value error|Input should be|Invalid value|validation error|Traceback|╭")


def told(*arguments: str) -> str:
    ended = CliRunner().invoke(app, [*arguments])
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert len(ended.stderr.splitlines()) == 1
    assert ended.stderr.startswith("mlc: ")
    assert not LIBRARIES.search(ended.stderr)
    return ended.stderr.removeprefix("mlc: ").rstrip("\n")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("plann", "No such command 'plann'. Did you mean 'plan'?"),
        ("nonsense", "No such command 'nonsense': see `mlc -h`."),
        ("--verson", "There is no option '--verson': did you mean '--version'?"),
        ("-x plan", "There is no option '-x': see `mlc -h`."),
        ("plan --langauges es", "There is no option '--langauges': did you mean '--languages'?"),
        ("plan -q", "There is no option '-q': see `mlc plan -h`."),
        ("plan a b", "Got unexpected extra argument(s) (b): see `mlc plan -h`."),
        ("why", "Missing argument 'stage': see `mlc why -h`."),
        ("run --port", "Option '--port' requires an argument: see `mlc -h`."),
        ("power --prompts many", "--prompts is 'many', but it must be a whole number."),
        ("power --prompts 0", "--prompts is '0', but it must be at least 1."),
        ("run --wait soon", "--wait is 'soon', but it must be a number."),
        ("show reject", "what is 'reject', which is no choice: did you mean 'rejects'?"),
        (
            "edit zzz x",
            "action is 'zzz', which is no choice: choose from compute, search, merge, revert, show.",
        ),
        ("look x --input-format jsnl", "--input-format is 'jsnl', which is no choice: did you mean 'jsonl'?"),
    ],
)
def test_words_that_cannot_be_understood(line: str, sentence: str) -> None:
    assert told(*line.split()) == sentence


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("plan smok", "smoke"),
        ("plan smoke -s gate=stric", "strict"),
        ("plan smoke -s evaluation.suites=[xtest]", "xstest"),
        ("plan smoke -s models=[english-only,consistancy]", "consistency"),
        ("plan smoke -s candidate=consistancy", "consistency"),
        ("plan smoke -s evaluation.judges=[ruls]", "rules"),
        ("plan smoke -s align.carrier=dppo", "dpo"),
        ("plan smoke -s align.carier=dpo", "align.carrier"),
        ("plan smoke -s quality.more_signals=[meanin]", "meaning"),
        ("plan smoke -s policy.model=shipped:tinny", "tiny"),
        ("compare-methods smoke --methods consistancy", "consistency"),
        ("evaluate shipped:tiny --suite xtest --out OUT", "xstest"),
        ("evaluate shipped:tiny --gate stric", "strict"),
        ("evaluate shipped:tiny --export inspct --out OUT", "inspect"),
        ("judge x.jsonl --judge ruls --out y.jsonl", "rules"),
        ("filter x.csv --out y.csv --signals lenght", "length"),
    ],
)
def test_a_shipped_name_that_is_nearly_right(line: str, name: str, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert told(*line.split()).endswith(f"did you mean {name!r}?")


@pytest.mark.parametrize("line", ["plan smoke -l swahil", "languages swahilli", "translate x.txt --to swahilli"])
def test_a_language_that_is_nearly_right(line: str) -> None:
    assert "did you mean swh_Latn (Swahili)" in told(*line.split())


@pytest.mark.parametrize("line", ["evaluate tinny", "layers tinny", "evaluate shipped:tiny --judge ruls --out OUT"])
def test_a_mistake_leaves_no_empty_folder(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    told(*line.split())
    told(*line.split(), "--out", "mine")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    "line",
    [
        "import no.tar",
        "run smoke -s prompts.path=no.jsonl",
        "run smoke -s policy.model=./no",
        "compare-methods smoke -s evaluation.references=no",
    ],
)
def test_a_mistake_leaves_no_empty_workspace(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.chdir(tmp_path)
    # A run tells Prefect where its server is; what it sets is taken back in the end.
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path_factory.mktemp("prefect")))
    for name in ("PREFECT_API_URL", "PREFECT_CLIENT_MAX_RETRIES", PASSING_SERVER):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    told(*line.split(), "-w", "new/one")
    assert not list(tmp_path.iterdir())
    # What a person has made stays.
    (tmp_path / "new" / "one").mkdir(parents=True)
    told(*line.split(), "-w", "new/one")
    assert (tmp_path / "new" / "one").is_dir()
