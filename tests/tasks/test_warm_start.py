"""From which checkpoint an alignment starts, on synthetic artifacts; and once for real with the tiny policy."""

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from mlc.models.loading import load_policy
from mlc.models.sources import artifact_model
from mlc.store import ArtifactRef, ArtifactStore, KeyParts
from mlc.training.settings import AlignSettings
from tasks.align import align_model
from tasks.runtime.artifacts import CHECKPOINT_FOLDER, DATASET_FOLDER, TRAINING_LOG_FILE
from tasks.runtime.models import Model
from tasks.runtime.run import Run
from tasks.runtime.settings import PolicySettings
from tasks.runtime.warm_start import ROLE, find_warm_start

VERDICTS = {"deu_Latn": "d" * 64, "fra_Latn": "f" * 64, "spa_Latn": "s" * 64, "swh_Latn": "w" * 64}


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "workspace")


def put(store: ArtifactStore, parts: KeyParts) -> ArtifactRef:
    with store.writing(parts.stage, parts) as draft:
        (draft.path / "file.txt").write_text(parts.key)
    return store.reference(parts.stage, parts.key)


def training_set(store: ArtifactStore, *languages: str, min_languages: int = 0, **verdicts: str) -> ArtifactRef:
    inputs = {"prompts": "p" * 64, **{language: VERDICTS[language] for language in languages}, **verdicts}
    settings = {"dataset": {"min_languages": min_languages}}
    return put(store, KeyParts("dataset", 1, settings=settings, inputs=inputs))


def cold(examples: ArtifactRef, steps: int = 8, seed: int = 0, policy: str = "m" * 64) -> KeyParts:
    settings = {"align": {"steps": steps}}
    return KeyParts("align", 1, settings, {"examples": examples.sha256}, models={"policy": policy}, seed=seed)


def warm(examples: ArtifactRef, start: ArtifactRef) -> KeyParts:
    settings = {"align": {"steps": 8, "warm_start": True, "warm_start_share": 0.25}}
    models = {"policy": "m" * 64, ROLE: start.sha256}
    return KeyParts("align", 1, settings, {"examples": examples.sha256}, models=models, seed=0)


def test_the_checkpoint_with_the_most_of_these_languages(store: ArtifactStore) -> None:
    for languages in (("fra_Latn",), ("fra_Latn", "spa_Latn"), ("deu_Latn", "fra_Latn", "spa_Latn")):
        put(store, cold(training_set(store, *languages)))
    examples = training_set(store, "fra_Latn", "spa_Latn", "swh_Latn")
    found = find_warm_start(store, examples, cold(examples))
    assert found is not None
    assert found.languages == ("fra_Latn", "spa_Latn")


def test_the_oldest_of_equals_and_then_the_same_for_ever(store: ArtifactStore) -> None:
    first = put(store, cold(training_set(store, "fra_Latn")))
    put(store, cold(training_set(store, "spa_Latn")))
    examples = training_set(store, "fra_Latn", "spa_Latn", "swh_Latn")
    found = find_warm_start(store, examples, cold(examples))
    assert found is not None
    assert found.checkpoint == first
    put(store, warm(examples, first))
    # A better start that came later does not make the finished alignment void.
    put(store, cold(training_set(store, "fra_Latn", "spa_Latn")))
    again = find_warm_start(store, examples, cold(examples))
    assert again == found


def test_a_warm_checkpoint_may_be_started_from(store: ArtifactStore) -> None:
    first = put(store, cold(training_set(store, "fra_Latn")))
    second = put(store, warm(training_set(store, "fra_Latn", "spa_Latn"), first))
    examples = training_set(store, "fra_Latn", "spa_Latn", "swh_Latn")
    found = find_warm_start(store, examples, cold(examples))
    assert found is not None
    assert found.checkpoint == second


@pytest.mark.parametrize(
    "earlier",
    [
        lambda store: cold(training_set(store, "fra_Latn", "deu_Latn")),
        lambda store: cold(training_set(store, "fra_Latn", "spa_Latn")),
        lambda store: cold(training_set(store, fra_Latn="other verdicts")),
        lambda store: cold(training_set(store, "fra_Latn", prompts="other prompts")),
        lambda store: cold(training_set(store, "fra_Latn", min_languages=1)),
        lambda store: cold(training_set(store, "fra_Latn"), steps=9),
        lambda store: cold(training_set(store, "fra_Latn"), seed=1),
        lambda store: cold(training_set(store, "fra_Latn"), policy="another"),
    ],
    ids=["language gone", "same set", "verdicts", "prompts", "settings of the set", "steps", "seed", "policy"],
)
def test_more_than_languages_changed(store: ArtifactStore, earlier: Any) -> None:
    put(store, earlier(store))
    examples = training_set(store, "fra_Latn", "spa_Latn")
    assert find_warm_start(store, examples, cold(examples)) is None


def test_a_training_set_that_is_only_planned(store: ArtifactStore) -> None:
    planned = ArtifactRef("dataset", "k", "artifacts/dataset/k", "pending:k")
    assert find_warm_start(store, planned, cold(planned)) is None


# For real.

SETTINGS = AlignSettings(steps=4, batch_size=2, learning_rate=1e-3, saved_dtype="float32", warm_start=True)


@pytest.fixture
def run(store: ArtifactStore) -> Run:
    return Run(store)


def real_set(store: ArtifactStore, *languages: str) -> ArtifactRef:
    inputs = {"prompts": "p" * 64, **{language: VERDICTS[language] for language in languages}}
    parts = KeyParts("dataset", 1, settings={"dataset": {}}, inputs=inputs)
    rows = [
        {
            "prompt": f"Question {number}",
            "chosen": "An answer.",
            "variants": [f"Question {number}", *(f"{language} {number}" for language in languages)],
            "mask": [True] * (1 + len(languages)),
        }
        for number in range(4)
    ]
    with store.writing("dataset", parts) as draft:
        Dataset.from_list(rows).save_to_disk(draft.path / DATASET_FOLDER)
    return store.reference("dataset", parts.key)


def trained(run: Run, examples: ArtifactRef, settings: AlignSettings, method: str = "consistency") -> ArtifactRef:
    start = Model(method, 0, PolicySettings(model="shipped:tiny"), "cpu")
    done: Any = align_model.fn(run, start, examples, settings)
    return done.data


def facts(store: ArtifactStore, ref: ArtifactRef) -> dict[str, Any]:
    found: dict[str, Any] = store.manifest(ref.kind, ref.key)["facts"]
    return {name: found[name] for name in ("started_from", "steps")}


def test_training_goes_on_from_the_checkpoint(run: Run) -> None:
    store = run.store
    first = trained(run, real_set(store, "fra_Latn"), SETTINGS)
    assert facts(store, first) == {"started_from": None, "steps": 4}
    # Nothing to start from: the same artifact as without the setting.
    off = SETTINGS.model_copy(update={"warm_start": False})
    assert trained(run, real_set(store, "fra_Latn"), off) == first

    both = real_set(store, "fra_Latn", "spa_Latn")
    second = trained(run, both, SETTINGS)
    assert facts(store, second) == {"started_from": ["fra_Latn"], "steps": 1}
    parts = store.manifest("align", second.key)["parts"]
    assert parts["models"][ROLE] == first.sha256
    assert parts["settings"]["align"]["warm_start_share"] == 0.25
    assert len((store.folder(second) / TRAINING_LOG_FILE).read_text().splitlines()) == 1
    assert trained(run, both, SETTINGS) == second
    assert run.outcomes[-1].state == "cached"

    cold_one = trained(run, both, off)
    assert facts(store, cold_one) == {"started_from": None, "steps": 4}
    # What was trained in full is there now, and is served.
    assert trained(run, both, SETTINGS) == cold_one
    start, moved = (weights(store, ref) for ref in (first, second))
    untouched = weights(store, None)
    assert distance(moved, start) < distance(moved, untouched)


def weights(store: ArtifactStore, ref: ArtifactRef | None) -> dict[str, Any]:
    from mlc.models.sources import resolve_model

    source = resolve_model("shipped:tiny")
    if ref:
        source = artifact_model(store.folder(ref) / CHECKPOINT_FOLDER, ref.sha256)
    state: dict[str, Any] = load_policy(source, device="cpu").model.state_dict()
    return state


def distance(first: dict[str, Any], second: dict[str, Any]) -> float:
    return sum(float((first[name] - second[name]).square().sum()) for name in first)
