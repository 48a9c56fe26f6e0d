"""Any set of methods in one run: an own one is added by its object alone, and each is cached by itself."""

import json
import shutil
from pathlib import Path

import pytest

from tests.flows.smoked import Ended, Mlc, Smoked
from tests.flows.test_smoke import Read, ran, states

pytestmark = pytest.mark.slow

OWN = "tests.methods.own:SLOW"


@pytest.fixture(scope="module")
def workspace(smoked: Smoked, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(smoked.one, tmp_path_factory.mktemp("methods") / "workspace"))


def options(workspace: Path, *models: str) -> list[str]:
    chosen = f"models={json.dumps(models)}"
    return ["smoke", "--languages", "es", "--workspace", str(workspace), "--set", chosen, "--json"]


@pytest.fixture(scope="module")
def first(mlc: Mlc, workspace: Path) -> Ended:
    return mlc("run", *options(workspace, "english-only", OWN))


@pytest.fixture(scope="module")
def second(mlc: Mlc, workspace: Path, first: Ended) -> Ended:
    # The policy answers nothing, so that it cannot learn from itself.
    models = ("english-only", OWN, "sdrrl", "sdrrl+gate", "translated-sft")
    return mlc("run", *options(workspace, *models), "--set", "failures=set_aside")


def test_a_method_of_ones_own_is_planned(mlc: Mlc, tmp_path: Path) -> None:
    planned = mlc("plan", *options(tmp_path / "w", "english-only", OWN)).result["tasks"]
    trained = [task["subject"] for task in planned if task["stage"] == "align"]
    assert trained == ["english-only · seed 0", "slow · seed 0"]


def test_what_no_method_needs_is_not_made(first: Ended, task_runs: Read) -> None:
    found = states(task_runs, first)
    assert {name.split(" · ")[1] for name in ran(found) if name.startswith(("align", "generate", "evaluate"))} == {
        "slow"
    }
    assert not {name for name in found if name.startswith(("translate", "signals", "filter", "dataset"))}
    trained = {name for name in found if name.startswith("align")}
    assert trained == {"align · english-only · seed 0", "align · slow · seed 0"}


def test_a_method_of_ones_own_is_reported_judged_and_registered(first: Ended) -> None:
    assert set(first.result["metrics"]) == {"models", "slow_minus_base"}
    assert set(first.result["metrics"]["models"]) == {"base", "english-only", "slow"}
    assert any("selectivity − base" in reason for reason in first.result["gate"]["reasons"])
    assert first.result["model_version"]["version"] == "2"
    page = Path(first.result["report"]).read_text(encoding="utf-8")
    assert "Slow" in page
    assert "English-only" in page


def test_a_gate_on_translations_takes_english_prompts_alone(
    mlc: Mlc, workspace: Path, first: Ended, task_runs: Read
) -> None:
    ended = mlc("run", *options(workspace, "english-only", "translate-test"))
    made = ran(states(task_runs, ended))
    assert {"gate · translate-test", "gated · translate-test · eng_Latn", "gated · translate-test · spa_Latn"} <= made
    assert not {name for name in made if name.startswith(("translate ", "filter", "dataset", "align", "generate"))}
    assert ended.result["model_version"]["version"] == "3"
    planned = mlc("plan", *options(workspace, "english-only", "translate-test")).result["tasks"]
    assert {task["action"] for task in planned if task["stage"] in ("gate", "gated", "evaluate")} == {"cached"}
    # A language more is nothing to a gate that reads it in English.
    more = mlc("plan", *options(workspace, "english-only", "translate-test"), "--languages", "es,fr").result["tasks"]
    told = {(task["stage"], task["language"]): task["action"] for task in more if task["subject"] == "translate-test"}
    assert told[("gate", None)] == told[("gated", "spa_Latn")] == "cached"
    assert told[("gated", "fra_Latn")] == "run"


@pytest.mark.full
def test_another_method_costs_itself_and_the_comparison(second: Ended, task_runs: Read) -> None:
    # What is set aside failed, and what waited for it was never ready.
    found = states(task_runs, second, also=("Failed", "NotReady"))
    models = {name.split(" · ")[1] for name in ran(found) if name.startswith(("align", "generate", "evaluate"))}
    assert models == {"translated-sft"}
    assert "report" in ran(found)
    aside = second.result["set_aside"]
    assert "answers none of the 24 training prompts" in aside["sdrrl"]
    assert aside["sdrrl+gate"] == "It starts from sdrrl, which is set aside."
    assert second.result["model_version"]["version"] == "3"
