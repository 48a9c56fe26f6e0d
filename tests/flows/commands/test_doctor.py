"""`mlc doctor`: what is there, and what is missing with its remedy."""

import importlib.util
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app
from flows.commands import doctor


def examined(workspace: Path) -> tuple[int, list[str]]:
    ended = CliRunner().invoke(app, ["doctor", "--workspace", str(workspace)])
    return ended.exit_code, ended.stdout.splitlines()


@pytest.fixture(autouse=True)
def enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine may be smaller than what the quickstart needs."""
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(doctor, "NEEDED_MEMORY_GIB", 0)
    monkeypatch.setattr(doctor, "NEEDED_DISK_GIB", 0)


def test_a_machine_that_can_run_the_pipeline(tmp_path: Path) -> None:
    code, lines = examined(tmp_path / "workspace")
    assert code == 0, lines
    found = {line[2:25].strip() for line in lines if line[0] == "✓"}
    assert found >= {"Python", *doctor.LIBRARIES, "nano translator", "device", "memory", "disk", "workspace"}
    assert not (tmp_path / "workspace").exists()


def test_what_is_missing_has_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "NEEDED_MEMORY_GIB", 10**6)
    monkeypatch.setattr(doctor, "LIBRARIES", ("no-such-library",))
    code, lines = examined(tmp_path)
    assert code == 1
    missing = {lines[place][2:25].strip(): lines[place + 1] for place, line in enumerate(lines) if line[0] == "✗"}
    assert missing.keys() == {"no-such-library", "memory"}
    assert all(remedy.startswith("  → ") for remedy in missing.values())


def test_runners_that_are_not_installed_are_told_and_not_required(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "prefect_ray" else there(name))
    code, lines = examined(tmp_path)
    assert code == 0
    place = next(number for number, line in enumerate(lines) if line.startswith("! runner ray"))
    assert lines[place].endswith("not installed")
    assert lines[place + 1] == "  → run `pip install 'mlc-align[ray]'`"
    assert any(line.split() == ["✓", "runners", "threads,", "processes"] for line in lines)
