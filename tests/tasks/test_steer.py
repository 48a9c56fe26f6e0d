"""Stage ``steer``: once for real with the tiny policy, and then from the store."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mlc.store import ArtifactRef, ArtifactStore, KeyParts
from tasks.runtime.artifacts import CHECKPOINT_FOLDER, DIRECTION_FILE, PROMPTS_FILE
from tasks.runtime.models import Model
from tasks.runtime.run import Run
from tasks.runtime.settings import DirectionStageSettings, PolicySettings
from tasks.steer import steer_model
from tests.training.runs import make_rows


def test_it_makes_a_plain_checkpoint_and_serves_it(tmp_path: Path) -> None:
    run = Run(ArtifactStore(tmp_path / "workspace"))
    parts = KeyParts("ingest", 1, settings={}, inputs={})
    with run.store.writing("ingest", parts) as draft:
        rows = [{"id": str(n), "prompt": row["prompt"], "label": row["label"]} for n, row in enumerate(make_rows())]
        pq.write_table(pa.Table.from_pylist(rows), draft.path / PROMPTS_FILE)
    prompts = run.store.reference("ingest", parts.key)
    model = Model("policy-refusal-direction", None, PolicySettings(model="shipped:tiny"), "cpu")

    def steered(**values: Any) -> ArtifactRef:
        done: Any = steer_model.fn(run, model, prompts, DirectionStageSettings.model_validate({"layer": 1, **values}))
        return done if isinstance(done, ArtifactRef) else done.data

    first, again = steered(), steered()
    assert first == again
    assert [outcome.state for outcome in run.outcomes] == ["ran", "cached"]
    told = json.loads((run.store.folder(first) / DIRECTION_FILE).read_text())
    assert told["layer"] == 1
    assert 0 <= told["separation"] <= 1
    assert (run.store.folder(first) / CHECKPOINT_FOLDER / "model.safetensors").is_file()
    assert steered(add=2.0).sha256 != first.sha256


def test_a_direction_is_of_the_states_that_it_is_read_from(tmp_path: Path) -> None:
    run = Run(ArtifactStore(tmp_path / "workspace"), planning=True)
    model = Model("policy-refusal-direction", None, PolicySettings(model="shipped:tiny"), "cpu")
    prompts = ArtifactRef("ingest", "0" * 64, "artifacts/ingest/0", "0" * 64, 4)

    def key(model: Model) -> str:
        done: Any = steer_model.fn(run, model, prompts, DirectionStageSettings.model_validate({"layer": 1}))
        return str((done if isinstance(done, ArtifactRef) else done.data).key)

    assert key(replace(model, attention="eager")) != key(model)
    # The stage computes in a type of its own.
    assert key(replace(model, dtype="bfloat16")) == key(model)
