"""Suites that are asked beside the held-out prompts: what is planned for them, and what of them is wrong."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.configuration.pipeline import PipelineConfig
from flows.configuration.reading import load_config
from mlc.errors import UserError
from mlc.shipped import shipped_data
from tests.flows.runs import planned_keys

MODELS = ("base", "english-only · seed 0", "consistency · seed 0")


def written(folder: Path, name: str = "own", languages: tuple[str, ...] = ("en", "es", "yo")) -> Path:
    rows = [
        {"id": f"{label} {number}", "label": label, **{code: f"{code} {label} {number}" for code in languages}}
        for label in ("harmful", "harmless")
        for number in range(3)
    ]
    table = folder / f"{name}.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    suite = folder / f"{name}.yaml"
    suite.write_text(yaml.safe_dump({"source": table.name, "languages": "columns"}), encoding="utf-8")
    return suite


def configured(workspace: Path, **overrides: Any) -> PipelineConfig:
    return load_config("smoke", workspace=str(workspace), languages=["es"], overrides=overrides)


def planned(workspace: Path, *suites: Path) -> dict[str, str]:
    return planned_keys(configured(workspace, **{"evaluation.suites": list(map(str, suites))}))


def test_a_suite_reruns_nothing_but_itself_and_the_end(tmp_path: Path) -> None:
    own, other = written(tmp_path), written(tmp_path, "other", ("en",))
    plain, one, two = planned(tmp_path), planned(tmp_path, own), planned(tmp_path, own, other)
    asked = ("eng_Latn", "spa_Latn")
    assert one.keys() - plain.keys() == {"overlap · suite own", *(f"suite · own · {code}" for code in asked)} | {
        f"{stage} · suite own · {model} · {code}"
        for stage in ("generate", "evaluate")
        for model in MODELS
        for code in asked
    }
    for before, after in ((plain, one), (one, two)):
        assert {name.split(" · ")[0] for name in before if before[name] != after[name]} <= {"report", "promote"}
    assert all("eng_Latn" in name for name in two.keys() - one.keys() - {"overlap · suite other"})
    # A text that changes in one language leaves the others.
    table = own.with_suffix(".jsonl")
    table.write_text(table.read_text(encoding="utf-8").replace("es harmful 0", "es harmful zero"), encoding="utf-8")
    changed = planned(tmp_path, own)
    again = {name for name in one if one[name] != changed[name] and name.startswith("generate")}
    assert again == {f"generate · suite own · {model} · spa_Latn" for model in MODELS}


def test_a_suite_that_is_trained_on_is_refused_or_taken_out(tmp_path: Path) -> None:
    table = tmp_path / "own.csv"
    table.write_text(
        "id,label,prompt\na,harmless,One of our own.\nb,harmful,Another one of our own.\n", encoding="utf-8"
    )
    lines = (shipped_data("quickstart") / "train.jsonl").read_text(encoding="utf-8").splitlines()
    train = [json.loads(line) for line in lines[:24]]
    train[0]["prompt"] = "One of our own."
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in train), encoding="utf-8")
    suite = tmp_path / "own.yaml"
    suite.write_text("source: own.csv\n", encoding="utf-8")
    given = {"prompts.path": str(path), "evaluation.suites": [str(suite)]}
    with pytest.raises(UserError, match=r"1 of 2 held-out test prompts are training prompts as well"):
        planned_keys(configured(tmp_path, **given))
    plain, without = (
        planned_keys(configured(tmp_path, **more, **{"prompts.remove_overlap": True}))
        for more in ({"prompts.path": str(path)}, given)
    )
    assert plain["translate · spa_Latn"] != without["translate · spa_Latn"]


def test_suites_are_found_from_the_configuration(tmp_path: Path) -> None:
    written(tmp_path)
    values = {
        "name": "mine",
        "prompts": {"path": "shipped:quickstart/train.jsonl"},
        "languages": ["es"],
        "evaluation": {"suites": ["own.yaml", "xstest"]},
        "gate": {"conditions": [{"figure": "attack_success", "suite": "own", "at_most": 0.5}]},
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    config = load_config(str(tmp_path / "mine.yaml"))
    assert config.suites == {"own": str(tmp_path / "own.yaml"), "xstest": "xstest"}
    assert config.gate.suites == ("own",)


@pytest.mark.parametrize(
    ("suites", "told"),
    [
        (["nowhere.yaml"], "no suite 'nowhere.yaml'"),
        (["xstest", "xstest"], "called 'xstest'"),
        (["quickstart"], "condition on the suite 'own', which is not asked"),
    ],
)
def test_what_is_wrong_is_told_before_any_work(tmp_path: Path, suites: list[str], told: str) -> None:
    gate = {"conditions": [{"figure": "attack_success", "suite": "own", "at_most": 0.5}]}
    with pytest.raises(UserError, match=told):
        configured(tmp_path, **{"evaluation.suites": suites, "gate": gate})


def test_a_suite_in_no_measured_language_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none of them is measured"):
        planned(tmp_path, written(tmp_path, languages=("yo",)))
