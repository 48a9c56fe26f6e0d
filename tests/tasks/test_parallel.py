"""Stage ``parallel``: prompts of a language that people wrote, by the ids of the English ones."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlc.errors import UserError
from mlc.quality.settings import QualitySettings
from mlc.store import ArtifactRef, ArtifactStore, KeyParts
from mlc.translation.table import SCHEMA
from tasks.parallel import MISSING, take_parallel
from tasks.runtime.artifacts import PROMPTS_FILE, SIGNALS_FILE, TRANSLATIONS_FILE
from tasks.runtime.run import Run, Silent
from tasks.signals import measure_signals

ENGLISH = {"a": "Where is the library?", "b": "I have a quick question.", "c": "What time is it?"}


class Notes(Silent):
    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def run(tmp_path: Path, notes: Notes) -> Run:
    return Run(ArtifactStore(tmp_path / "workspace"), notes)


@pytest.fixture
def prompts(run: Run) -> ArtifactRef:
    parts = KeyParts("ingest", 1, settings={})
    with run.store.writing("ingest", parts) as draft:
        pq.write_table(pa.table({"id": list(ENGLISH), "prompt": list(ENGLISH.values())}), draft.path / PROMPTS_FILE)
    return run.store.reference("ingest", parts.key)


def own(folder: Path, rows: list[dict[str, str]]) -> str:
    file = folder / "sw.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return str(file)


def reference(done: Any) -> ArtifactRef:
    return done if isinstance(done, ArtifactRef) else done.data


def test_they_stand_beside_the_english_ones(run: Run, notes: Notes, prompts: ArtifactRef, tmp_path: Path) -> None:
    location = own(
        tmp_path,
        [
            {"id": "c", "prompt": "Ni saa ngapi sasa?"},
            {"id": "a", "prompt": "Maktaba iko wapi?"},
            {"id": "z", "prompt": "Habari za asubuhi."},
        ],
    )
    ref = reference(take_parallel.fn(run, prompts, "swh_Latn", location))
    table = pq.read_table(run.store.folder(ref) / TRANSLATIONS_FILE)
    assert table.schema.names == ["id", *SCHEMA.names]
    rows = table.to_pylist()
    assert [row["source"] for row in rows] == list(ENGLISH.values())
    assert [row["translation"] for row in rows] == ["Maktaba iko wapi?", "", "Ni saa ngapi sasa?"]
    assert [row["refusal"] for row in rows] == [None, MISSING, None]
    assert [row["finished"] for row in rows] == [True, False, True]
    assert notes.said == [
        "swh_Latn: 1 of 3 prompts are not in its own file, and 1 rows of that belong to no English prompt."
    ]
    signals = reference(measure_signals.fn(run, ref, "swh_Latn", QualitySettings()))
    assert len(pq.read_table(run.store.folder(signals) / SIGNALS_FILE)) == 3
    assert reference(take_parallel.fn(run, prompts, "swh_Latn", location)).key == ref.key
    changed = own(tmp_path, [{"id": "a", "prompt": "Maktaba iko wapi hapa?"}])
    assert reference(take_parallel.fn(run, prompts, "swh_Latn", changed)).key != ref.key


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"id": "x", "prompt": "Habari?"}], "share no id with the English ones"),
        ([{"prompt": "Habari?"}], "id"),
    ],
)
def test_what_cannot_be_used(
    run: Run, prompts: ArtifactRef, tmp_path: Path, rows: list[dict[str, str]], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        take_parallel.fn(run, prompts, "swh_Latn", own(tmp_path, rows))


def test_a_file_that_is_not_there(run: Run, prompts: ArtifactRef, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nothing\.jsonl"):
        take_parallel.fn(run, prompts, "swh_Latn", str(tmp_path / "nothing.jsonl"))
