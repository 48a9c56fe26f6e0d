"""Stage ``localized``: what translations are answered with, and what is told where there is nothing."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from datasets import Dataset

from mlc.errors import UserError
from mlc.gating.refusals import shipped_refusals
from mlc.methods import resolve_method
from mlc.models.loading import load_policy, save_policy
from mlc.models.prompts import encode_prompt
from mlc.models.sources import resolve_model
from mlc.store import ArtifactRef, ArtifactStore, KeyParts
from mlc.tables.saved import read_saved
from mlc.training.settings import AlignSettings
from mlc.training.translated import translated_rows
from tasks.align import align_model
from tasks.localized import LocalizedPlan, answer_translations
from tasks.runtime.artifacts import DATASET_FOLDER
from tasks.runtime.models import Model
from tasks.runtime.run import Run
from tasks.runtime.settings import PolicySettings
from tests.tasks.launching import Watching

BREAD, SEA = "¿Cómo horneo pan?", "Dime algo del mar."
ANSWER = "Mezcla la harina con agua y sal, y hornea la masa durante una hora."


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The tiny policy, taught what to answer to two Spanish prompts: bread is baked, and of the sea nothing is said."""
    policy = load_policy(resolve_model("shipped:tiny"), device="cpu")
    said = {BREAD: ANSWER, SEA: shipped_refusals()["spa_Latn"]}
    examples = []
    for asked, answer in said.items():
        before = list(encode_prompt(policy.tokenizer, asked).input_ids)
        after = policy.tokenizer(answer, add_special_tokens=False)["input_ids"]
        ids = torch.tensor([[*before, *after, policy.stop_tokens[0]]])
        examples.append({"input_ids": ids, "labels": ids.masked_fill(torch.arange(ids.shape[1]) < len(before), -100)})
    optimiser = torch.optim.Adam(policy.model.parameters(), lr=3e-3)
    for _ in range(150):
        for example in examples:
            policy.model(**example).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    folder = tmp_path_factory.mktemp("taught")
    save_policy(policy, folder, dtype=policy.model.dtype)
    return str(folder)


def policy_of(location: str, seed: int | None = None) -> Model:
    return Model("base", seed, PolicySettings(model=location), "cpu")


def localized(run: Run, rows: list[dict[str, Any]], policy: str, **plan: Any) -> ArtifactRef:
    parts = KeyParts("dataset", 1, settings={"rows": len(rows)}, inputs={})
    with run.store.writing("dataset", parts) as draft:
        Dataset(pa.Table.from_pylist(rows), fingerprint="0" * 16).save_to_disk(draft.path / DATASET_FOLDER)
    given = {"languages": ("spa_Latn", "swh_Latn"), "tokens": 60, "refusals": {}, **plan}
    examples = run.store.reference("dataset", parts.key)
    made: Any = answer_translations.fn(run, policy_of(policy), examples, LocalizedPlan(**given), "localized-refusals")
    return made if isinstance(made, ArtifactRef) else made.data


def training_set() -> list[dict[str, Any]]:
    """A harmful prompt, two harmless ones without a Swahili translation, and one without a label."""
    given = [
        ("harmful", ["a", "b", "c"]),
        ("harmless", ["d", BREAD, ""]),
        ("harmless", ["e", SEA, ""]),
        (None, ["f", "g", "h"]),
    ]
    languages = ["eng_Latn", "spa_Latn", "swh_Latn"]
    return [
        {
            "id": str(n),
            "prompt": texts[0],
            "chosen": "given",
            "languages": languages,
            "label": label,
            "variants": texts,
            "mask": [*map(bool, texts)],
        }
        for n, (label, texts) in enumerate(given)
    ]


def test_translations_are_answered_in_their_languages(tmp_path: Path, taught: str) -> None:
    display = Watching()
    run = replace(Run(ArtifactStore(tmp_path / "workspace")), display=display)
    made = localized(run, training_set(), taught, refusals={"swh_Latn": "Hapana."})
    rows = [dict(row) for row in read_saved(run.store.folder(made) / DATASET_FOLDER)]
    harmful, answered, refused, unlabelled = (row["variant_chosen"] for row in rows)
    assert harmful == ["given", shipped_refusals()["spa_Latn"], "Hapana."]
    assert answered == ["given", ANSWER, ""]
    # That the model refuses a harmless prompt is nothing to learn.
    assert refused == unlabelled == ["given", "", ""]
    assert [sentence for sentence in display.sentences if "1 of 2 translated harmless prompts are refused" in sentence]
    assert "base: 1 of 4 prompts have no label." in display.sentences
    trained = translated_rows(rows, resolve_method("localized-refusals").alignment(AlignSettings()).translated, seed=0)
    assert [row["chosen"] for row in trained] == [*harmful[1:], ANSWER]
    settings = AlignSettings.model_validate({"steps": 2, "batch_size": 2})
    align_model.fn(run, policy_of(taught, seed=0), made, resolve_method("localized-refusals").alignment(settings))
    assert [(outcome.stage, outcome.state) for outcome in run.outcomes] == [("localized", "ran"), ("align", "ran")]
    assert localized(run, training_set(), taught, refusals={"swh_Latn": "Hapana."}) == made
    assert localized(run, training_set(), taught).key != made.key


def test_a_language_without_a_refusal_is_told(tmp_path: Path, taught: str) -> None:
    display = Watching()
    run = replace(Run(ArtifactStore(tmp_path / "workspace")), display=display)
    rows = [
        {
            **row,
            "languages": ["eng_Latn", "fao_Latn", "spa_Latn"],
            "variants": [row["variants"][0], "b", row["variants"][1]],
        }
        for row in training_set()
    ]
    made = localized(run, rows, taught, languages=("fao_Latn", "spa_Latn"))
    first = next(iter(read_saved(run.store.folder(made) / DATASET_FOLDER)))
    assert first["variant_chosen"][1] == shipped_refusals()["eng_Latn"]
    assert [sentence for sentence in display.sentences if "No refusal is known in Faroese" in sentence]


def test_refusals_alone_are_nothing_to_learn_from(tmp_path: Path) -> None:
    run = Run(ArtifactStore(tmp_path / "workspace"))
    with pytest.raises(UserError, match="answers none of the 2 translated harmless prompts"):
        localized(run, training_set(), "shipped:tiny")
