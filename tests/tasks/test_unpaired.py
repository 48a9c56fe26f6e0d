"""Stage ``unpaired``: prompts of a language that say the same as no English one, from the file to a trained model."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from mlc.errors import UserError
from mlc.left_out import LeftOut
from mlc.methods import resolve_method
from mlc.store import ArtifactRef
from mlc.training.settings import AlignSettings
from tasks.align import align_model
from tasks.ingest import ingest
from tasks.runtime.artifacts import PROMPTS_FILE, SET_ASIDE_FILE, facts_of, left_out_of
from tasks.runtime.models import Model
from tasks.runtime.run import Notes, Run
from tasks.runtime.settings import PolicySettings, PromptSettings
from tasks.unpaired import add_unpaired, take_unpaired

ENGLISH = [
    {"id": "1", "prompt": "Where is the library?", "chosen": "Behind the school.", "topic": "places"},
    {"id": "2", "prompt": "What time is it?", "chosen": "Ten past four.", "topic": "time"},
]
SWAHILI = [
    {"id": "1", "prompt": "Chai?", "chosen": "Ni kinywaji.", "rejected": "Hapana.", "label": "harmless", "topic": 7},
    {"id": "2", "prompt": "Nipe shairi fupi.", "chosen": ""},
    {"id": "3", "prompt": "Habari gani?", "chosen": "Nzuri sana.", "rejected": "Hapana.", "label": "harmless"},
]
SETTINGS = AlignSettings.model_validate({"steps": 2, "batch_size": 4, "learning_rate": 1e-3})


def table(file: Path, rows: list[dict[str, Any]]) -> str:
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return str(file)


def said(location: str, **more: Any) -> PromptSettings:
    return PromptSettings(path="english.jsonl", unpaired={"swh_Latn": location}, **more)


def reference(done: Any) -> ArtifactRef:
    return done if isinstance(done, ArtifactRef) else done.data


def rows_of(run: Run, ref: ArtifactRef, name: str = PROMPTS_FILE) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(run.store.folder(ref) / name).to_pylist()
    return rows


def test_rows_are_read_or_set_aside_with_a_reason(run: Run, notes: Notes, tmp_path: Path) -> None:
    ref = reference(take_unpaired.fn(run, "swh_Latn", said(table(tmp_path / "sw.jsonl", SWAHILI))))
    assert [row["id"] for row in rows_of(run, ref)] == ["1", "3"]
    assert [row["row"] for row in rows_of(run, ref, SET_ASIDE_FILE)] == [2]
    assert left_out_of(run.store, ref) == [
        LeftOut("set aside", 1, 3, language="swh_Latn", details="1 × no text in chosen")
    ]
    assert notes.sentences == [
        "swh_Latn: 1 of 3 rows of the prompt file cannot be used and are set aside (1 × no text in chosen)."
    ]
    assert reference(take_unpaired.fn(run, "swh_Latn", said(str(tmp_path / "sw.jsonl")))).key == ref.key
    changed = table(tmp_path / "sw.jsonl", SWAHILI[:1])
    assert reference(take_unpaired.fn(run, "swh_Latn", said(changed))).key != ref.key


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"id": "1", "prompt": "Chai ni nini?"}], "chosen"),
        ([{"id": "1", "prompt": "Chai ni nini?", "chosen": " "}], "no usable prompt"),
    ],
)
def test_what_cannot_be_used(run: Run, tmp_path: Path, rows: list[dict[str, str]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        take_unpaired.fn(run, "swh_Latn", said(table(tmp_path / "sw.jsonl", rows)))
    with pytest.raises(UserError, match=r"nothing\.jsonl"):
        take_unpaired.fn(run, "swh_Latn", said(str(tmp_path / "nothing.jsonl")))


def test_a_policy_is_trained_on_them_as_on_the_english_ones(run: Run, tmp_path: Path) -> None:
    prompts = reference(ingest.fn(run, PromptSettings(path=table(tmp_path / "en.jsonl", ENGLISH))))
    own = reference(take_unpaired.fn(run, "swh_Latn", said(table(tmp_path / "sw.jsonl", SWAHILI))))
    examples = reference(add_unpaired.fn(run, prompts, {"swh_Latn": own}))
    together = rows_of(run, examples)
    assert [row["id"] for row in together] == ["1", "2", "swh_Latn:1", "swh_Latn:3"]
    assert [row["chosen"] for row in together[2:]] == ["Ni kinywaji.", "Nzuri sana."]
    assert [row["rejected"] for row in together] == [None, None, "Hapana.", "Hapana."]
    assert [row["label"] for row in together] == [None, None, "harmless", "harmless"]
    assert [row["prompt_language"] for row in together] == [None, None, "swh_Latn", "swh_Latn"]
    # A column of two files may mean two things.
    assert [row["topic"] for row in together] == ["places", "time", None, None]
    assert facts_of(run.store, examples)["unpaired"] == {"swh_Latn": 2}
    settings = resolve_method("own-prompts").alignment(SETTINGS)
    assert not settings.terms.active
    model = Model("own-prompts", 0, PolicySettings(model="shipped:tiny"), "cpu")
    made = reference(align_model.fn(run, model, examples, settings))
    alone = reference(align_model.fn(run, model, prompts, settings))
    assert made.sha256 != alone.sha256


def test_what_is_said_of_columns_and_labels_counts_here_too(run: Run, notes: Notes, tmp_path: Path) -> None:
    rows = [
        {"goal": "Chai?", "answer": "Ni kinywaji.", "label": "0"},
        {"goal": "Nifundishe kuiba.", "answer": "Siwezi.", "label": "1"},
        {"goal": "Habari?", "answer": "Nzuri.", "label": "2"},
    ]
    file = table(tmp_path / "sw.jsonl", rows)
    meaning = {"columns": {"prompt": "goal", "chosen": "answer"}, "labels": {"0": "harmless", "1": "harmful"}}
    ref = reference(take_unpaired.fn(run, "swh_Latn", said(file, **meaning)))
    assert [(row["prompt"], row["label"]) for row in rows_of(run, ref)] == [
        ("Chai?", "harmless"),
        ("Nifundishe kuiba.", "harmful"),
    ]
    assert "1 × unknown label" in notes.sentences[-1]
    turned = {**meaning, "labels": {"0": "harmful", "1": "harmless"}}
    assert reference(take_unpaired.fn(run, "swh_Latn", said(file, **turned))).key != ref.key
