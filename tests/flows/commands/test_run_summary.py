"""What `mlc run` says at its end."""

import io
from typing import Any

import pytest

from flows.commands.run import _tell, run_config
from flows.configuration.reading import load_config
from flows.terminal.output import Output
from mlc.errors import UserError


@pytest.mark.parametrize("waits", [False, True])
def test_a_version_that_waits_is_told_with_the_command_that_promotes_it(waits: bool) -> None:
    summary: dict[str, Any] = {
        "tasks": [],
        "model_version": {"name": "policy", "version": "7", "run_id": "r"},
        "gate": {"passed": True, "policy": "strict", "checks": [], "waits": waits},
        "set_aside": {},
        "left_out": ["2 of 24 prompts have no kept translation into fra_Latn"],
        "report": "/w/report.html",
        "number": 3,
        "seconds": 1.0,
        "seconds_saved": 0.0,
    }
    file = io.StringIO()
    _tell(summary, "my workspace", Output(file=file))
    lines = file.getvalue().splitlines()
    assert "Registered policy version 7; gate strict passed." in lines
    assert "Left out · 2 of 24 prompts have no kept translation into French." in lines
    told = "It waits for a person: mlc promote 7 --workspace 'my workspace' --reason '…'"
    assert (told in lines) == waits


def test_bars_of_libraries_are_off_before_anything_imports_them(monkeypatch: pytest.MonkeyPatch) -> None:
    came = []

    def licences(_: Any) -> None:
        came.append("licences")
        raise UserError("Enough.")

    monkeypatch.setattr("flows.commands.run.be_quiet", lambda: came.append("quiet"))
    monkeypatch.setattr("flows.licences.require_licences", licences)
    with pytest.raises(UserError, match="Enough"):
        run_config(load_config("smoke"), console=Output(file=io.StringIO()))
    assert came == ["quiet", "licences"]
