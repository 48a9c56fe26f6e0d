"""Licences in `mlc plan`, and those that a configuration refuses."""

from pathlib import Path

import pytest

from flows.commands.plan import foresee
from flows.configuration.reading import load_config
from flows.licences import require_licences
from flows.steps.held_out import human_references
from flows.steps.summing_up import report_facts
from mlc.errors import UserError

TOLD = {"policy": "apache-2.0 (by model card)", "translator": "apache-2.0 (by model card)"}


def test_they_are_told_in_the_report_and_the_registry(tmp_path: Path) -> None:
    config = load_config("smoke", workspace=str(tmp_path))
    licences = require_licences(config)
    assert licences == TOLD
    facts = report_facts(config, human_references(config), None, (), licences)
    assert facts.settings["licence of the translator"] == TOLD["translator"]
    assert facts.settings["licence of the policy"] == TOLD["policy"]


def test_a_teacher_has_one_too(tmp_path: Path) -> None:
    config = load_config("smoke", overrides={"align.carrier": "kl", "align.teacher": "some/unknown"})
    assert require_licences(config) == TOLD | {"teacher": "unknown"}


def test_a_denied_licence_ends_a_plan_before_anything_is_there(tmp_path: Path) -> None:
    overrides = {"policy.licences.deny": ["cc-by-nc-*"], "translator.licence": "CC-BY-NC-4.0"}
    config = load_config("smoke", workspace=str(tmp_path / "w"), overrides=overrides)
    with pytest.raises(UserError, match=r"^The translator 'shipped:nano' has the licence cc-by-nc-4\.0"):
        foresee(config)
    assert not list((tmp_path / "w").rglob("*.parquet"))


def test_a_licence_is_in_no_key_of_what_is_computed(tmp_path: Path) -> None:
    def keys(**overrides: str) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for outcome in foresee(load_config("smoke", workspace=str(tmp_path), overrides=overrides)).outcomes:
            found.setdefault(outcome.stage, set()).add(outcome.key)
        return found

    before, after = keys(), keys(**{"translator.licence": "mit", "policy.licence": "mit"})
    assert {stage for stage in before if before[stage] != after[stage]} == {"report"}
