"""`mlc promote` on versions that two runs registered."""

import json
from pathlib import Path

import pytest

from tests.flows.conftest import Mlc


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
        (("1", "--force"), "needs --reason"),
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
