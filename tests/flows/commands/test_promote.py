"""`mlc promote` on versions that two runs registered."""

import json
from pathlib import Path

import pytest

from tests.flows.smoked import Mlc


@pytest.mark.slow
def test_a_person_makes_a_version_champion(mlc: Mlc, copy: Path) -> None:
    told = mlc("promote", "1", "--force", "--reason", "a trial", "--workspace", str(copy))
    assert told.code == 0, told.err
    assert "Version 1 of" in told.out
    assert "is champion" in told.out
    last = json.loads((copy / "promotions.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    assert (last["version"], last["by"], last["reasons"]) == ("1", "person", ["a trial"])
    status = mlc("status", "--workspace", str(copy))
    assert "Last promotion: version 1" in status.out
    assert "by person" in status.out
    versions = [line.split() for line in status.out.splitlines()]
    assert [line[0] for line in versions if line and line[-1] == "champion"] == ["1"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("99",), "no version '99'"),
        (("1", "--force"), "needs a reason, which is written into the promotion record (--reason)"),
        (("1", "--name", "nobody"), "no version '1' of 'nobody'"),
    ],
)
def test_mistakes(mlc: Mlc, workspace: Path, arguments: tuple[str, ...], words: str) -> None:
    before = (workspace / "promotions.jsonl").read_bytes() if (workspace / "promotions.jsonl").exists() else None
    ended = mlc("promote", *arguments, "--workspace", str(workspace))
    assert ended.code == 2
    assert words in ended.err
    after = (workspace / "promotions.jsonl").read_bytes() if (workspace / "promotions.jsonl").exists() else None
    assert after == before


@pytest.mark.slow
def test_another_champion_needs_a_reason_and_a_rollback_goes_back(mlc: Mlc, copy: Path) -> None:
    place = ("--workspace", str(copy))
    first = mlc("promote", "1", "--force", "--reason", "a trial", *place)
    assert first.code == 0, first.err
    again = mlc("promote", "2", "--force", *place)
    assert again.code == 2
    assert "needs a reason" in again.err
    assert mlc("promote", "2", "--force", "--reason", "a better one", *place).code == 0
    back = mlc("rollback", "--reason", "complaints", *place)
    assert "Version 1 of multilingual-policy is champion again, in place of version 2." in back.out, back.err
    lines = [json.loads(line) for line in (copy / "promotions.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(line["version"], line["previous"], line["by"]) for line in lines[-2:]] == [
        ("2", "1", "person"),
        ("1", "2", "person"),
    ]
    assert lines[-1]["reasons"] == ["rollback from version 2", "complaints"]
    shown = [line.split() for line in mlc("status", *place).out.splitlines()]
    assert [line[0] for line in shown if line and line[-1] == "champion"] == ["1"]
    assert [line[0] for line in shown if line and line[-1] == "candidate"] == ["2"]


@pytest.mark.slow
def test_nothing_to_go_back_to(mlc: Mlc, copy: Path) -> None:
    (copy / "promotions.jsonl").unlink(missing_ok=True)
    ended = mlc("rollback", "--workspace", str(copy))
    assert ended.code == 2
    assert "no champion of 'multilingual-policy' to go back to" in ended.err
    assert mlc("promote", "1", "--force", "--reason", "a trial", "--workspace", str(copy)).code == 0
    ended = mlc("rollback", "--workspace", str(copy))
    assert (ended.code, "no earlier champion of 'multilingual-policy' than version 1" in ended.err) == (2, True)
