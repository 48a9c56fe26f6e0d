"""Prompts without a pair in the flow: what is planned for them, which keys they change, who goes without them."""

import json
from pathlib import Path
from typing import Any

import pytest

from flows.configuration.pipeline import PipelineConfig
from flows.configuration.reading import load_config
from flows.steps.held_out import human_references
from flows.steps.summing_up import report_facts
from flows.steps.training_data import take_all_unpaired
from mlc.errors import UserError
from mlc.shipped import shipped_data
from mlc.store import ArtifactStore
from tasks.ingest import ingest_suite
from tasks.runtime.artifacts import HeldOut
from tasks.runtime.run import Notes, Run
from tests.flows.runs import planned_keys

MODELS = ["english-only", "consistency", "own-prompts"]


def write(folder: Path, rows: list[dict[str, str]], name: str = "own") -> str:
    file = folder / f"{name}.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return str(file)


@pytest.fixture
def own(tmp_path: Path) -> str:
    return write(tmp_path, [{"prompt": "¿Qué es un mate?", "chosen": "Una infusión."}] * 2)


def configured(folder: Path, **overrides: Any) -> PipelineConfig:
    return load_config("smoke", workspace=str(folder / "w"), languages=["es,fr"], overrides=overrides)


def test_a_language_of_both_kinds_changes_nothing_for_those_that_need_pairs(tmp_path: Path, own: str) -> None:
    paired = write(tmp_path, [{"id": "train-001", "prompt": "¿Qué?", "chosen": "Nada."}], "paired")
    common = {"prompts.parallel": {"es": paired}, "candidate": "consistency"}
    plain = planned_keys(configured(tmp_path, **common, models=MODELS[:2]))
    both = planned_keys(configured(tmp_path, **common, models=MODELS, **{"prompts.unpaired": {"es": own}}))
    added = {name for name in both.keys() - plain.keys() if not name.startswith(("generate", "evaluate"))}
    assert added == {
        "unpaired · spa_Latn",
        "unpaired · all languages",
        "overlap · spa_Latn",
        "align · own-prompts · seed 0",
    }
    assert {name for name in plain if plain[name] != both[name]} <= {"report", "register", "promote"}


def test_a_language_without_pairs_is_translated_for_nobody(tmp_path: Path, own: str) -> None:
    planned = planned_keys(
        configured(tmp_path, models=MODELS, candidate="consistency", **{"prompts.unpaired": {"es": own}})
    )
    assert "translate · fra_Latn" in planned
    assert "translate · spa_Latn" not in planned
    assert "filter · spa_Latn" not in planned
    # It is measured all the same.
    assert "evaluate · consistency · seed 0 · spa_Latn" in planned


def test_what_the_report_knows(tmp_path: Path, own: str) -> None:
    given = {"models": MODELS, "prompts.unpaired": {"es": own}}
    by_candidate = {}
    for candidate in MODELS[1:]:
        config = configured(tmp_path, candidate=candidate, **given)
        facts = report_facts(config, human_references(config), None, (), {})
        assert facts.roles.trained == facts.trained_languages
        by_candidate[candidate] = facts.trained_languages
    assert by_candidate == {"consistency": ("fra_Latn",), "own-prompts": ("spa_Latn",)}
    assert facts.settings["unpaired prompts"] == "spa_Latn"
    assert facts.settings["not in consistency"] == "spa_Latn"


@pytest.mark.parametrize(
    ("models", "unpaired", "message"),
    [
        (["english-only", "own-prompts"], [], r"'own-prompts' trains on .* in prompts\.unpaired"),
        (["english-only", "consistency"], ["es"], r"No method in models reads prompts\.unpaired"),
        (["english-only", "consistency", "own-prompts"], ["es", "fr"], r"'consistency' needs prompts beside those in"),
        (["english-only", "own-prompts"], ["de"], r"deu_Latn has prompts in prompts\.unpaired but is not trained"),
        (["english-only", "tests.methods.own:BOTH"], ["es"], r"'both' needs unpaired prompts beside translated ones"),
    ],
)
def test_settings_that_do_not_go_together(
    tmp_path: Path, own: str, models: list[str], unpaired: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        configured(tmp_path, models=models, **{"prompts.unpaired": dict.fromkeys(unpaired, own)})


def taken(folder: Path, rows: list[dict[str, str]], **overrides: Any) -> tuple[list[str], int]:
    """What is told of the Spanish prompts, and how many are trained on."""
    given = {"prompts.unpaired": {"es": write(folder, rows)}, **overrides}
    config = configured(folder, models=MODELS, candidate="consistency", **given)
    notes = Notes()
    run = Run(ArtifactStore(folder / "w", looking=True), notes, planning=True, scratch=folder / "scratch")
    suite = ingest_suite.submit(run, config.evaluation, "eng_Latn")
    held_out = {"spa_Latn": HeldOut(suite, ingest_suite.submit(run, config.evaluation, "spa_Latn", "eng_Latn"))}
    found, *_ = take_all_unpaired(run, config, held_out, human_references(config))
    return notes.sentences, found["spa_Latn"].result().rows


def test_they_are_checked_as_all_others_and_left_out_aloud(tmp_path: Path) -> None:
    line = (shipped_data("quickstart/references") / "test.jsonl").read_text(encoding="utf-8").splitlines()[0]
    held_out = {"prompt": json.loads(line)["spa_Latn"], "chosen": "No."}
    rows = [{"prompt": "¿Qué es un mate?", "chosen": "Una infusión."}, held_out]
    told, used = taken(tmp_path, rows, **{"prompts.max_overlap": 0.5})
    without = "its 2 prompts stand beside none in eng_Latn, so that the language is left out of consistency."
    assert f"spa_Latn: {without}" in told
    assert any(note.startswith("spa_Latn: 1 of ") and "held-out test prompts" in note for note in told)
    assert used == 2
    assert taken(tmp_path, rows, **{"prompts.remove_overlap": True})[1] == 1
    with pytest.raises(UserError, match=r"prompts\.max_overlap"):
        taken(tmp_path, rows, **{"prompts.max_overlap": 0.0})
    with pytest.raises(UserError, match="none of the 2 training prompts has a rejected one"):
        taken(tmp_path, rows, **{"align.carrier": "dpo", "prompts.max_overlap": 0.5})
