"""What a person is told before anything is made."""

from pathlib import Path

import pytest

from flows.align_flow import tell_of_toy
from flows.config import load_config
from mlc.methods import in_order
from mlc.store import ArtifactStore
from tasks.runtime.run import Notes, Run


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
    overrides = {"models": models, "candidate": models[-1], **settings}
    config = load_config("smoke", workspace=str(tmp_path / "workspace"), overrides=overrides)
    notes = Notes()
    tell_of_toy(Run(ArtifactStore(tmp_path / "workspace"), notes), config, in_order(models))
    assert [sentence.rpartition("translator.model ")[2] for sentence in notes.sentences] == ([told] if told else [])
