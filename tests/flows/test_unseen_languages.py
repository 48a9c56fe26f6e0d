"""Languages that are measured and not trained: what is planned for them, and what the report knows of them."""

from pathlib import Path
from typing import Any

import pytest

from flows.configuration.pipeline import PipelineConfig
from flows.configuration.reading import load_config
from flows.steps.held_out import human_references
from flows.steps.summing_up import report_facts
from mlc.errors import UserError
from tests.flows.runs import planned_keys


def configured(workspace: Path, **overrides: Any) -> PipelineConfig:
    return load_config("smoke", workspace=str(workspace), languages=["es"], overrides=overrides)


def stages(names: set[str]) -> set[str]:
    return {name.split(" · ")[0] for name in names}


def test_they_are_answered_and_judged_and_nothing_of_the_training_changes(tmp_path: Path) -> None:
    plain, more = (
        planned_keys(configured(tmp_path)),
        planned_keys(configured(tmp_path, **{"evaluation.languages": ["fr", "Spanish"]})),
    )
    added = more.keys() - plain.keys()
    assert stages(added) == {"ingest", "generate", "evaluate"}
    assert all(name.endswith("fra_Latn") for name in added)
    assert not plain.keys() - more.keys()
    assert stages({name for name in plain if plain[name] != more[name]}) <= {"report", "register", "promote"}


def test_another_engine_asks_and_judges_anew_and_trains_nothing(tmp_path: Path) -> None:
    engine = {"kind": "http", "serve": "serve {path} --port {port}"}
    plain, served = (planned_keys(configured(tmp_path, **more)) for more in ({}, {"evaluation.engine": engine}))
    again = stages({name for name in plain if plain[name] != served[name]})
    assert again - {"report", "register", "promote"} == {"generate", "evaluate"}


def test_without_references_their_held_out_prompts_are_translated(tmp_path: Path) -> None:
    overrides = {"evaluation.references": None, "evaluation.languages": ["fr"]}
    added = set(planned_keys(configured(tmp_path, **overrides)))
    assert "translate · held-out · fra_Latn" in added
    assert "translate · fra_Latn" not in added


def test_the_report_tells_them_from_trained_ones(tmp_path: Path) -> None:
    config = configured(tmp_path, **{"evaluation.languages": ["fr", "yo"]})
    facts = report_facts(config, human_references(config), None, (), {})
    assert facts.trained_languages == ("spa_Latn",)
    assert facts.machine_translated_languages == ("yor_Latn",)
    assert facts.settings["measured, not trained"] == "fra_Latn, yor_Latn"
    assert facts.roles.trained == ("spa_Latn",)


def test_english_is_always_measured(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="English"):
        configured(tmp_path, **{"evaluation.languages": ["en"]})
