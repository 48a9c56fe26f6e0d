"""Controls of methods that train nothing: other labels, another model, and the same one each time."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlc.editing.delta import DELTA_FILE
from mlc.evaluation.settings import EvaluationSettings
from mlc.gating.settings import PromptGateSettings
from mlc.permuted import dealt_anew
from mlc.store import ArtifactRef, ArtifactStore, KeyParts
from tasks.edit import EditPlan, compute_delta
from tasks.gate import GatePlan, fit_prompt_gate
from tasks.runtime.artifacts import DIRECTION_FILE, PROMPT_GATE_FILE, PROMPTS_FILE, VERDICTS_FILE, HeldOut, Translated
from tasks.runtime.models import Model
from tasks.runtime.run import Run
from tasks.runtime.settings import DirectionStageSettings, EditStageSettings, PolicySettings
from tasks.steer import steer_model
from tests.training.runs import make_rows

ROWS = make_rows()
SPANISH = "spa_Latn"
MADE = {"model.safetensors", DELTA_FILE, PROMPT_GATE_FILE, DIRECTION_FILE}
Made = Callable[[Run, bool], ArtifactRef]


def written(run: Run, stage: str, name: str, rows: list[dict[str, Any]]) -> ArtifactRef:
    parts = KeyParts(stage, 1, {})
    with run.store.writing(stage, parts) as draft:
        pq.write_table(pa.Table.from_pylist(rows), draft.path / name)
    return run.store.reference(stage, parts.key)


def data(run: Run) -> Translated:
    prompts = [{"id": str(n), "prompt": row["prompt"], "label": row["label"]} for n, row in enumerate(ROWS)]
    verdicts = [{"id": str(n), "translation": row["variants"][1], "keep": True} for n, row in enumerate(ROWS)]
    return Translated(written(run, "ingest", PROMPTS_FILE, prompts), written(run, "filter", VERDICTS_FILE, verdicts))


def policy(method: str) -> Model:
    return Model(method, None, PolicySettings(model="shipped:tiny"), "cpu")


def edit(run: Run, permuted: bool) -> Any:
    given = data(run)
    plan = EditPlan(EditStageSettings(rank=2), EvaluationSettings(), permuted=permuted)
    held_out = HeldOut(given.prompts, given.prompts)
    return compute_delta.fn(run, policy("policy-edit"), SPANISH, given, held_out, plan)


def steer(run: Run, permuted: bool) -> Any:
    settings = DirectionStageSettings(layer=1)
    return steer_model.fn(run, policy("policy-refusal-direction"), data(run).prompts, settings, permuted=permuted)


def gate(run: Run, permuted: bool) -> Any:
    given, plan = data(run), GatePlan(PromptGateSettings(layer=1, ridge=0.02), permuted=permuted)
    return fit_prompt_gate.fn(run, policy("policy-gate"), given.prompts, {SPANISH: given.verdicts}, plan)


def content(folder: Path, make: Made, *, permuted: bool) -> str:
    """Digest of what a stage makes in a workspace of its own, the checkpoint that it starts from included."""
    run = Run(ArtifactStore(folder))
    made = make(run, permuted)
    place = run.store.folder(getattr(made, "data", made))
    found = hashlib.sha256()
    for path in sorted(place.rglob("*")):
        if path.name in MADE:
            found.update(path.read_bytes())
    return found.hexdigest()


@pytest.mark.parametrize("make", [edit, steer, gate])
def test_other_labels_make_another_model_and_the_same_each_time(tmp_path: Path, make: Made) -> None:
    true, control, again = (
        content(tmp_path / name, make, permuted=name != "true") for name in ("true", "control", "again")
    )
    assert control == again
    assert control != true


def test_labels_are_dealt_by_the_seed() -> None:
    labels = [row["label"] for row in ROWS]
    dealt = {seed: dealt_anew(labels, seed) for seed in (None, 1, 2)}
    assert all(sorted(one) == sorted(labels) and one != labels for one in dealt.values())
    assert dealt[1] != dealt[2]
    assert dealt[None] == dealt_anew(labels, None)


@pytest.mark.parametrize("labels", [["good", "bad"], ["good", "bad", "bad"], ["good", "bad", None]])
def test_the_old_order_does_not_count(labels: list[str | None]) -> None:
    for seed in range(50):
        dealt = dealt_anew(labels, seed)
        assert sorted(map(str, dealt)) == sorted(map(str, labels))
        assert dealt != labels
    assert dealt_anew(["good", "good"], 0) == ["good", "good"]


def test_an_edit_is_of_the_states_that_it_reads(tmp_path: Path) -> None:
    run = Run(ArtifactStore(tmp_path / "workspace"))
    given = data(run)
    plan, held_out = EditPlan(EditStageSettings(rank=2), EvaluationSettings()), HeldOut(given.prompts, given.prompts)

    def key(model: Model) -> str:
        made: Any = compute_delta.fn(run, model, SPANISH, given, held_out, plan)
        return str(getattr(made, "data", made).key)

    usual = policy("policy-edit")
    assert key(replace(usual, attention="eager")) != key(usual)
    # The stage computes in a type of its own.
    assert key(replace(usual, dtype="bfloat16")) == key(usual)
