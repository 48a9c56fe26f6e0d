"""The page that tells programs what `mlc status` and `mlc runs` print has every field."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from flows.commands import status
from flows.looking.figures import RunLine
from flows.looking.holdings import Held

PAGE = (Path(__file__).parents[2] / "docs" / "workspace.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("## What programs read")[2].partition("\n## ")[0]
STATUS, RUNS = SECTION.split("`mlc runs --json` prints")


@pytest.mark.parametrize(
    ("section", "told"), [(STATUS, Held), (STATUS, status._Run), (STATUS, status._Version), (RUNS, RunLine)]
)
def test_every_field_is_told(section: str, told: type) -> None:
    assert {field.name for field in fields(told)} <= set(re.findall(r"`(\w+)`", section))


def test_the_table_of_status_has_its_fields(tmp_path: Path) -> None:
    (tmp_path / "artifacts").mkdir()
    rows = re.findall(r"^\| `(\w+)` \|", STATUS, flags=re.MULTILINE)
    assert rows == list(status.plain_status(tmp_path))
    assert f"while `schema` is {status.SCHEMA};" in STATUS.replace("\n", " ")
