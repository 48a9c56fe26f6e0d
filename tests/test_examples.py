"""The scripts under examples/ run as they stand."""

import re
import runpy
import sys
from pathlib import Path

import pytest

from flows.configuration.reading import load_config

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
LOSSES = re.compile(r"step \d: English loss (\d\.\d\d), consistency loss (\d\.\d\d)")


def said(name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> list[str]:
    monkeypatch.setattr(sys, "argv", [name, *words])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("name", ["own_loop.py", "own_model.py"])
def test_both_losses_fall(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    first, last = (tuple(map(float, found)) for found in LOSSES.findall("\n".join(said(name, capsys, monkeypatch))))
    assert last[0] < first[0]
    assert last[1] < first[1]
    assert list(tmp_path.iterdir()) == []


def test_a_language_of_ones_own(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lines = said("own_language.py", capsys, monkeypatch, str(tmp_path))
    assert [line.split()[0] for line in lines[:5]] == ["kept", "kept", "dropped", "dropped", "dropped"]
    assert [line.split()[-1] for line in lines[2:5]] == ["numbers", "copied", "empty"]
    config = load_config(str(tmp_path / "own-language.yaml"))
    assert config.languages == ("swh_Latn",)
    assert config.translator.model == str(tmp_path / "by-people.csv")
    assert len((tmp_path / "by-people.csv").read_text(encoding="utf-8").splitlines()) == 3


def test_each_is_listed_and_short() -> None:
    listed = re.findall(r"^\| \[(\w+\.py)\]", (EXAMPLES / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(path.name for path in EXAMPLES.glob("*.py"))
    assert all(len((EXAMPLES / name).read_text(encoding="utf-8").splitlines()) <= 60 for name in listed)
