"""Stage ``ability``: bits per character of held-out prompts and of a table, and choices, for one model."""

import json
from pathlib import Path
from typing import Any

import pytest

from mlc.evaluation.bits import bits_per_character
from mlc.evaluation.settings import AbilitySettings
from mlc.evaluation.skills import BITS, CHOICE
from mlc.store import ArtifactStore
from tasks.ability import measure_skills
from tasks.runtime.artifacts import SKILLS_FILE, HeldOut
from tasks.runtime.compute import release
from tasks.runtime.policies import loaded_policy
from tasks.runtime.run import Run, Silent
from tests.tasks.test_generate import MODEL, TEXTS, made, suite


@pytest.fixture
def run(tmp_path: Path) -> Any:
    release()
    yield Run(ArtifactStore(tmp_path / "workspace"), Silent())
    release()


def rows(run: Run, settings: AbilitySettings) -> list[dict[str, Any]]:
    english, spanish = suite(run, "eng_Latn"), suite(run, "spa_Latn", "Oh! ")
    held_out = {"eng_Latn": HeldOut(english, english), "spa_Latn": HeldOut(english, spanish)}
    ref = made(measure_skills.fn(run, MODEL, held_out, settings, 3))
    read: list[dict[str, Any]] = json.loads((run.store.folder(ref) / SKILLS_FILE).read_text(encoding="utf-8"))
    return read


def test_neutral_texts_and_choices(run: Run, tmp_path: Path) -> None:
    choice = {"premise": "It rained.", "choice1": "It is wet.", "choice2": "It is dry.", "question": "effect"}
    table = tmp_path / "choices.jsonl"
    table.write_text(json.dumps({**choice, "label": 0, "language": "en"}) + "\n", encoding="utf-8")
    found = rows(run, AbilitySettings(neutral="held-out", choices=str(table)))
    assert [(row["measure"], row["language"], row["n"]) for row in found] == [
        (BITS, "eng_Latn", 2),
        (BITS, "spa_Latn", 2),
        (CHOICE, "eng_Latn", 1),
    ]
    with loaded_policy(run, MODEL) as policy:
        # The harmless ones among the test prompts.
        assert found[0]["value"] == pytest.approx(bits_per_character(policy, [TEXTS[1], TEXTS[3]]))
    neutral = tmp_path / "neutral.jsonl"
    neutral.write_text(json.dumps({"text": TEXTS[0], "language": "es"}) + "\n", encoding="utf-8")
    (only,) = rows(run, AbilitySettings(neutral=str(neutral)))
    assert (only["language"], only["n"], only["low"]) == ("spa_Latn", 1, None)
