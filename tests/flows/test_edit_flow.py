"""The pipeline with `method: edit`, and what adding a language costs it."""

import json
import shutil
from pathlib import Path

import pytest

from mlc.editing import EditDelta
from tests.flows.smoked import Ended, Mlc, Smoked
from tests.flows.test_smoke import Read, ran, states

pytestmark = pytest.mark.slow

OPTIONS = (
    "--set", "method=edit", "--set", "edit.start=policy", "--set", "edit.rank=2", "--set", "edit.search.gammas=[1,100]",
    "--set", "edit.search.max_bits_gain=100", "--set", "edit.search.max_over_refusal_gain=1", "--json",
)  # fmt: skip


@pytest.fixture(scope="module")
def workspace(smoked: Smoked, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(smoked.one, tmp_path_factory.mktemp("edit") / "workspace"))


@pytest.fixture(scope="module")
def first(mlc: Mlc, workspace: Path) -> Ended:
    return mlc("run", "smoke", "--languages", "es", "--workspace", str(workspace), *OPTIONS)


@pytest.fixture(scope="module")
def second(mlc: Mlc, workspace: Path, first: Ended) -> Ended:
    return mlc("run", "smoke", "--languages", "es,fr", "--workspace", str(workspace), *OPTIONS)


def artifact(workspace: Path, ended: Ended, stage: str, language: str | None = None) -> Path:
    key = next(task["key"] for task in ended.result["tasks"] if (task["stage"], task["language"]) == (stage, language))
    return workspace / "artifacts" / stage / key


def test_nothing_is_trained(first: Ended, task_runs: Read) -> None:
    found = states(task_runs, first)
    # What a run by another method made is there.
    assert ran(found) == {
        "edit · policy-edit · spa_Latn",
        "merge · policy-edit",
        *(f"{stage} · policy-edit · {code}" for stage in ("generate", "evaluate") for code in ("eng_Latn", "spa_Latn")),
        "report",
        "register · multilingual-policy",
        "promote · multilingual-policy",
    }
    assert not {name for name in found if name.startswith("align")}
    assert {name for name in found if name.startswith("evaluate")} == {
        f"evaluate · {model} · {code}" for model in ("base", "policy-edit") for code in ("eng_Latn", "spa_Latn")
    }


def test_adding_a_language_adds_its_delta(second: Ended, task_runs: Read) -> None:
    found = states(task_runs, second)
    touched = {
        "ingest · held-out · fra_Latn",
        "translate · fra_Latn",
        "signals · fra_Latn",
        "filter · fra_Latn",
        "generate · base · fra_Latn",
        "evaluate · base · fra_Latn",
        "dataset",
        "edit · policy-edit · fra_Latn",
        "merge · policy-edit",
        *(f"generate · policy-edit · {code}" for code in ("eng_Latn", "spa_Latn", "fra_Latn")),
        "evaluate · policy-edit · fra_Latn",
        "report",
        "register · multilingual-policy",
        "promote · multilingual-policy",
    }
    # If the tiny model says the same as before, there is nothing new to judge.
    assert touched <= ran(found) <= touched | {f"evaluate · policy-edit · {code}" for code in ("eng_Latn", "spa_Latn")}
    assert found["edit · policy-edit · spa_Latn"] == "Cached"


def test_the_deltas_and_the_whole_search_are_there(workspace: Path, second: Ended) -> None:
    merged = artifact(workspace, second, "merge")
    searches = json.loads((merged / "search.json").read_text(encoding="utf-8"))
    assert set(searches) == {"spa_Latn", "fra_Latn"}
    for language, rows in searches.items():
        assert [row["trial"] for row in rows] == ["unedited", "1", "2"]
        assert [row["gamma"] for row in rows[1:]] == [1, 100]
        delta = EditDelta.load(artifact(workspace, second, "edit", language) / "delta")
        assert delta.languages == (language,)
        assert delta.empty == (not any(row["best"] for row in rows))
    kept = {path.name for path in (merged / "checkpoint" / "edits").iterdir()}
    assert kept == {"edits.json", "originals.safetensors", "000-fra_Latn", "001-spa_Latn"}
    page = Path(second.result["report"]).read_text(encoding="utf-8")
    assert "Search for the edit" in page
    assert "Edited" in page


def test_the_edited_model_is_judged_and_registered(second: Ended, workspace: Path) -> None:
    gate = second.result["gate"]
    # Two conditions in each of three languages, one of their mean, English against the base model, and the champion.
    assert len(gate["reasons"]) == len(gate["checks"]) == 9
    assert any("selectivity − base, eng_Latn" in reason for reason in gate["reasons"])
    assert not any("english-only" in reason for reason in gate["reasons"])
    assert second.result["model_version"]["version"] == "3"
    assert set(second.result["metrics"]) == {"models", "policy_edit_minus_base"}
    assert set(second.result["metrics"]["models"]) == {"base", "policy-edit"}


def test_plan_foresees_an_edit_after_alignment(mlc: Mlc, workspace: Path, second: Ended) -> None:
    arguments = ("smoke", "--languages", "es,fr", "--workspace", str(workspace), "--set", "method=consistency+edit")
    planned = mlc("plan", *arguments, "--json").result["tasks"]
    would_run = [(task["stage"], task["language"], task["subject"]) for task in planned if task["action"] == "run"]
    assert [entry for entry in would_run if entry[0] in ("align", "edit", "merge")] == [
        # The one on English alone is there.
        ("align", None, "consistency · seed 0"),
        ("edit", "fra_Latn", "consistency+edit · seed 0"),
        ("edit", "spa_Latn", "consistency+edit · seed 0"),
        ("merge", None, "consistency+edit · seed 0"),
    ]


def test_no_prompt_is_shown(first: Ended, second: Ended, workspace: Path) -> None:
    import pyarrow.parquet as pq

    texts = pq.read_table(artifact(workspace, second, "filter", "fra_Latn") / "verdicts.parquet")
    shown = json.dumps([first.out, first.err, second.out, second.err])
    for language in ("fra_Latn", "spa_Latn"):
        shown += (artifact(workspace, second, "edit", language) / "delta" / "delta.json").read_text(encoding="utf-8")
    for text in (*texts["source"].to_pylist(), *texts["translation"].to_pylist()):
        assert not text or text not in shown
