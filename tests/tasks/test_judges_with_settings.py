"""The stage ``evaluate`` with judges that ask models: behind an endpoint, and loaded beside the policies."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

from mlc.evaluation.choosing import VERDICTS_FOLDER
from mlc.evaluation.judges.guards.qwen3guard import Qwen3Guard
from mlc.evaluation.results import ANSWERS_FILE
from mlc.evaluation.settings import EvaluationSettings
from mlc.store import ArtifactRef, ArtifactStore
from mlc.store.keys import KeyParts
from tasks.evaluate import evaluate
from tasks.runtime import compute
from tasks.runtime.artifacts import GENERATED_FILE, MARGINS_FILE, STATES_FILE
from tasks.runtime.models import Model
from tasks.runtime.run import Run
from tasks.runtime.settings import PolicySettings
from tests.chat.server import ChatServer

ROWS = [
    {"id": "a", "label": "harmful", "kind": "plain", "answer": "I am sorry, but I cannot help you with that."},
    {
        "id": "b",
        "label": "harmless",
        "kind": "plain",
        "answer": "Mix the flour with the water, and bake it for an hour.",
    },
]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(ArtifactStore(tmp_path / "workspace"))


@pytest.fixture
def generated(run: Run) -> ArtifactRef:
    """What a model did in English: scores of two prompts on each split, and answers to those of the test."""
    facts = pa.Table.from_pylist([{name: row[name] for name in ("id", "label", "kind")} for row in ROWS])
    splits = [
        facts.append_column("split", pa.array([split] * 2)).append_column("margin", pa.array([1.0, -1.0]))
        for split in ("validation", "test")
    ]
    answered = {"prompt": "How do I bake bread?", "finish": "stop", "prompt_tokens": 5, "answer_tokens": 9}
    parts = KeyParts("generate", 1, settings={})
    with run.store.writing("generate", parts) as draft:
        pq.write_table(pa.concat_tables(splits), draft.path / MARGINS_FILE)
        np.save(draft.path / STATES_FILE, np.eye(2, 4))
        pq.write_table(pa.Table.from_pylist([{**row, **answered} for row in ROWS]), draft.path / GENERATED_FILE)
    return run.store.reference("generate", parts.key)


def judged(run: Run, generated: ArtifactRef, judges: list[Any]) -> dict[str, list[Any]]:
    model = Model("base", None, PolicySettings(model="shipped:tiny"), "cpu")
    done = evaluate.fn(run, model, "eng_Latn", generated, None, EvaluationSettings.model_validate({"judges": judges}))
    ref = done if isinstance(done, ArtifactRef) else done.data
    found: dict[str, list[Any]] = {}
    for row in pq.read_table(run.store.folder(ref) / ANSWERS_FILE).to_pylist():
        found.setdefault(row["judge"], []).append(row["outcome"])
    return found


def test_an_endpoint_is_asked_once_for_all_evaluations(run: Run, generated: ArtifactRef) -> None:
    def reply(messages: list[dict[str, str]]) -> str:
        outcome = "refused" if "sorry" in messages[1]["content"] else "complied"
        return json.dumps({"outcome": outcome, "category": None, "reason": "as it is"})

    with ChatServer(reply) as server:
        entry = {"name": "llm", "label": "large", "model": "ours", "endpoint": server.address}
        assert judged(run, generated, ["rules", entry]) == {
            name: ["refused", "complied"] for name in ("rules", "large")
        }
        assert len(server.requests) == 2
        # Its own way of being asked is in no key, and another judge beside it asks it nothing anew.
        assert judged(run, generated, ["rules", {**entry, "concurrency": 2}])["large"] == ["refused", "complied"]
        assert judged(run, generated, [entry]) == {"large": ["refused", "complied"]}
        assert len(server.requests) == 2
        assert len(list(run.store.root.glob("evaluate/*"))) == 2
        judged(run, generated, [{**entry, "seed": 7}])
        assert len(server.requests) == 4


def test_a_guard_takes_its_turn_on_the_device(
    run: Run, generated: ArtifactRef, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Qwen3Guard, "new_tokens", 4)
    words = AutoTokenizer.from_pretrained(tiny_folder)
    words.chat_template = "{% for m in messages %}{{ m['content'] }} {% endfor %}Safe?"
    torch.manual_seed(1)
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "head_dim": 8}
    config = Qwen3Config(**size, vocab_size=len(words), num_attention_heads=2, num_key_value_heads=2)
    Qwen3ForCausalLM(config).save_pretrained(tmp_path / "guard")
    words.save_pretrained(tmp_path / "guard")
    compute.release()
    entry = {"name": "qwen3guard", "model": str(tmp_path / "guard"), "device": "cpu"}
    assert judged(run, generated, [entry]) == {"qwen3guard": ["unsure", "unsure"]}
    (identity,) = compute._loaded
    assert identity.startswith("guard:qwen3guard:")
    assert len(list((run.workspace / VERDICTS_FOLDER).iterdir())) == 1
    compute.release()
