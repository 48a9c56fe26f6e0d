"""What a person is told before anything is made."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.configuration.pipeline import PipelineConfig
from flows.configuration.reading import load_config
from flows.steps.checking import tell_of_toy, tell_unread
from mlc.methods import in_order
from mlc.store import ArtifactStore
from tasks.runtime.run import Notes, Run


def notes_of(
    tell: Callable[[Run, PipelineConfig], None], models: list[str], settings: dict[str, Any], folder: Path
) -> list[str]:
    """What is told of a configuration."""
    overrides = {"models": models, "candidate": models[-1], **settings}
    config = load_config("smoke", workspace=str(folder / "workspace"), overrides=overrides)
    notes = Notes()
    tell(Run(ArtifactStore(folder / "workspace"), notes), config)
    return notes.sentences


@pytest.mark.parametrize(
    ("models", "settings", "told"),
    [
        (["english-only", "translated-pairs", "mpo"], {}, "for translated-pairs and mpo."),
        (["english-only", "translated-pairs"], {"translator.model": "facebook/nllb-200-distilled-600M"}, None),
        (["english-only", "translated-sft"], {}, None),
    ],
)
def test_answers_that_the_shipped_translator_would_invent(
    models: list[str], settings: dict[str, str], told: str | None, tmp_path: Path
) -> None:
    sentences = notes_of(lambda run, config: tell_of_toy(run, config, in_order(models)), models, settings, tmp_path)
    assert [sentence.rpartition("translator.model ")[2] for sentence in sentences] == ([told] if told else [])


@pytest.mark.parametrize(
    ("models", "settings", "told"),
    [
        (["english-only", "consistency"], {}, None),
        (["english-only", "consistency"], {"align.consistency.weight": 0.5}, None),
        (["english-only", "consistency"], {"align.decision.weight": 0.5}, "align.decision (decision would)"),
        (["english-only", "consistency+decision"], {"align.decision.weight": 0.5}, None),
        (["english-only"], {"align.consistency.weight": 0.5}, "align.consistency (consistency would)"),
        (["english-only", "consistency"], {"align.balance.weigh": "temperature"}, None),
        (["english-only", "consistency"], {"align.balance.weigh": "risk", "align.decision.delta": 2.0}, None),
        (
            ["english-only", "consistency"],
            {"edit.rank": 3, "serve.rank": 3},
            "edit (policy-edit would), serve (policy-gate would)",
        ),
        (["english-only", "consistency", "edit", "gate"], {"edit.rank": 3, "serve.rank": 3}, None),
        (["english-only", "consistency"], {"serve.gate": True, "serve.rank": 3}, None),
        (["english-only", "consistency"], {"prompts.feedback": "said.jsonl"}, "prompts.feedback (feedback would)"),
    ],
)
def test_settings_that_no_method_reads(
    models: list[str], settings: dict[str, Any], told: str | None, tmp_path: Path
) -> None:
    assert notes_of(tell_unread, models, settings, tmp_path) == (
        [f"No method of models reads what is set in {told}."] if told else []
    )
