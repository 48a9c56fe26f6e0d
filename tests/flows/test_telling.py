"""What a person is told before anything is made."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.configuration.pipeline import PipelineConfig
from flows.configuration.reading import load_config
from flows.steps.checking import tell_of_toy, tell_unread
from mlc.errors import UserError
from mlc.methods import in_order
from mlc.store import ArtifactStore
from tasks.runtime.run import Notes, Run
from tests.flows.runs import plan_run


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


def test_gates_that_read_translations_are_told_apart_and_need_no_translated_prompts(tmp_path: Path) -> None:
    def configured(models: list[str], **serve: Any) -> PipelineConfig:
        given = {"models": models, **{f"serve.{name}": value for name, value in serve.items()}}
        return load_config("smoke", languages=["es"], workspace=str(tmp_path), overrides=given)

    with pytest.raises(UserError, match="policy-gate and translate-test are the same model: name one of them"):
        configured(["english-only", "policy-gate", "translate-test"], reads="translation")
    with pytest.raises(UserError, match=r"serve\.labels is 2, .* what translate-test read is translated into one"):
        configured(["english-only", "translate-test"], labels=2)
    both = configured(["english-only", "policy-gate", "translate-test"], labels=2)
    assert {method.name: both.gate_of(method).labels for method in both.methods[1:]} == {
        "policy-gate": 2,
        "translate-test": 0,
    }
    named, set_up = (
        {task["stage"] for task in plan_run(config)}
        for config in (
            configured(["english-only", "translate-test"]),
            configured(["english-only", "policy-gate"], reads="translation"),
        )
    )
    assert named == set_up
    assert not named & {"translate", "signals", "filter", "dataset"}
    assert "one for all languages" in configured(["translate-test"]).summary()["gate on prompts"]
