"""Every method that trains, through its stage: once for real with the tiny policy, and then from the store."""

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from mlc.methods import resolve_method
from mlc.store import ArtifactStore, KeyParts
from mlc.training.settings import AlignSettings
from tasks.align import align_model
from tasks.runtime.artifacts import DATASET_FOLDER, TRAINING_LOG_FILE
from tasks.runtime.models import Model
from tasks.runtime.run import Run
from tasks.runtime.settings import PolicySettings
from tests.training.runs import make_rows

SETTINGS = AlignSettings.model_validate({"steps": 2, "batch_size": 4, "learning_rate": 1e-3})
TRAINED = ["decision", "answer", "consistency+answer", "consistency+decision", "answer+decision"]
TRAINED += ["consistency+answer+decision", "translated-sft", "msd"]
CONTROLS = ["decision-permuted-labels", "answer-shuffled-within-class", "translated-sft-shuffled"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(ArtifactStore(tmp_path_factory.mktemp("methods") / "workspace"))


@pytest.fixture(scope="module")
def examples(run: Run) -> Any:
    parts = KeyParts("dataset", 1, settings={"dataset": {}}, inputs={"prompts": "p" * 64})
    rows = [row | {"mask": [True] * 3, "languages": ["eng_Latn", "swh_Latn", "yor_Latn"]} for row in make_rows()]
    with run.store.writing("dataset", parts) as draft:
        Dataset.from_list(rows).save_to_disk(draft.path / DATASET_FOLDER)
    return run.store.reference("dataset", parts.key)


def trained(run: Run, examples: Any, name: str, **changes: Any) -> Any:
    model = Model(name, 0, PolicySettings(model="shipped:tiny"), "cpu")
    settings = resolve_method(name).alignment(SETTINGS.model_copy(update=changes))
    done: Any = align_model.fn(run, model, examples, settings)
    return done.data


@pytest.mark.parametrize("name", [*TRAINED, *CONTROLS])
def test_a_method_trains_and_is_served_from_the_store_then(run: Run, examples: Any, name: str) -> None:
    made = trained(run, examples, name)
    log = (Path(run.store.folder(made)) / TRAINING_LOG_FILE).read_text()
    for term in resolve_method(name).alignment(SETTINGS).terms.active:
        assert f'"{term}_loss"' in log
    # Settings of what it does not have are in no key.
    other = {"consistency": {"form": "released"}} if "consistency" not in name else {"decision": {"delta": 7.0}}
    other = {} if {"consistency", "decision"} <= set(name.split("+")) else other
    changed = SETTINGS.model_validate(SETTINGS.model_dump() | other)
    again = trained(run, examples, name, **{key: getattr(changed, key) for key in other})
    assert again == made
    assert [outcome.state for outcome in run.outcomes[-2:]] == ["ran", "cached"]


def test_methods_and_their_controls_are_different_models(run: Run, examples: Any) -> None:
    keys = [trained(run, examples, name).sha256 for name in (*TRAINED, *CONTROLS)]
    assert len(set(keys)) == len(keys)
