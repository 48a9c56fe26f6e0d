"""Stage ``own_answers``: what a model has to learn from itself, and what it is told where it has nothing."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlc.errors import UserError
from mlc.store import ArtifactStore, KeyParts
from tasks.own_answers import answer_prompts
from tasks.runtime.artifacts import PROMPTS_FILE
from tasks.runtime.models import Model
from tasks.runtime.run import Run
from tasks.runtime.settings import PolicySettings
from tests.training.runs import make_rows


def test_a_model_that_answers_nothing_is_refused_in_one_sentence(tmp_path: Path) -> None:
    run = Run(ArtifactStore(tmp_path / "workspace"))
    parts = KeyParts("ingest", 1, settings={}, inputs={})
    names = ("prompt", "chosen", "label")
    rows = [{"id": str(n), **{name: row[name] for name in names}} for n, row in enumerate(make_rows(3))]
    with run.store.writing("ingest", parts) as draft:
        pq.write_table(pa.Table.from_pylist(rows), draft.path / PROMPTS_FILE)
    model = Model("base", None, PolicySettings(model="shipped:tiny"), "cpu")
    with pytest.raises(UserError, match="The model base answers none of the 3 training prompts"):
        answer_prompts.fn(run, model, run.store.reference("ingest", parts.key), 4, "sdrrl")
    assert not (run.store.workspace / "artifacts" / "own_answers").is_dir()
