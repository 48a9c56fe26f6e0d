"""Stage ``parallel``: prompts of a language that people wrote, by the ids of the English ones."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlc.errors import UserError
from mlc.prompts import read_prompts
from mlc.quality.settings import QualitySettings
from mlc.store import ArtifactRef, KeyParts
from mlc.translation.table import SCHEMA
from tasks.parallel import MISSING, OTHER_TURNS, take_parallel
from tasks.runtime.artifacts import PROMPTS_FILE, SIGNALS_FILE, TRANSLATIONS_FILE
from tasks.runtime.run import Notes, Run
from tasks.runtime.settings import PromptSettings
from tasks.signals import measure_signals

ENGLISH = {"a": "Where is the library?", "b": "I have a quick question.", "c": "What time is it?"}


@pytest.fixture
def prompts(run: Run) -> ArtifactRef:
    parts = KeyParts("ingest", 1, settings={})
    with run.store.writing("ingest", parts) as draft:
        pq.write_table(pa.table({"id": list(ENGLISH), "prompt": list(ENGLISH.values())}), draft.path / PROMPTS_FILE)
    return run.store.reference("ingest", parts.key)


def own(folder: Path, rows: list[dict[str, Any]]) -> str:
    file = folder / "sw.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return str(file)


def given_by(location: str, **more: Any) -> PromptSettings:
    return PromptSettings(path="english.jsonl", parallel={"swh_Latn": location}, **more)


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
    ref = reference(take_parallel.fn(run, prompts, "swh_Latn", given_by(location)))
    table = pq.read_table(run.store.folder(ref) / TRANSLATIONS_FILE)
    assert table.schema.names == ["id", *SCHEMA.names]
    rows = table.to_pylist()
    assert [row["source"] for row in rows] == list(ENGLISH.values())
    assert [row["translation"] for row in rows] == ["Maktaba iko wapi?", "", "Ni saa ngapi sasa?"]
    assert [row["refusal"] for row in rows] == [None, MISSING, None]
    assert [row["finished"] for row in rows] == [True, False, True]
    assert notes.sentences == [
        "swh_Latn: 1 of 3 prompts are not in its own file, and 1 rows of that belong to no prompt."
    ]
    signals = reference(measure_signals.fn(run, ref, "swh_Latn", QualitySettings()))
    assert len(pq.read_table(run.store.folder(signals) / SIGNALS_FILE)) == 3
    assert reference(take_parallel.fn(run, prompts, "swh_Latn", given_by(location))).key == ref.key
    changed = own(tmp_path, [{"id": "a", "prompt": "Maktaba iko wapi hapa?"}])
    assert reference(take_parallel.fn(run, prompts, "swh_Latn", given_by(changed))).key != ref.key


def test_conversations_are_taken_with_all_their_turns(run: Run, notes: Notes, tmp_path: Path) -> None:
    def talk(*texts: str) -> list[dict[str, str]]:
        return [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(texts)]

    before = [json.dumps(talk("Hallo.", "Ja?")), None, json.dumps(talk("Hallo.", "Bitte?"))]
    parts = KeyParts("ingest", 1, settings={})
    with run.store.writing("ingest", parts) as draft:
        table = pa.table({"id": list("abc"), "prompt": ["A?", "B?", "C?"], "turns": before})
        pq.write_table(table, draft.path / PROMPTS_FILE)
    prompts = run.store.reference("ingest", parts.key)
    said = {"a": talk("Habari.", "Ndiyo?", "Eh?"), "b": "Bi?", "c": "Si?"}
    given = [{"id": name, "prompt": prompt} for name, prompt in said.items()]
    ref = reference(take_parallel.fn(run, prompts, "swh_Latn", given_by(own(tmp_path, given)), "deu_Latn"))
    rows = pq.read_table(run.store.folder(ref) / TRANSLATIONS_FILE).to_pylist()
    assert [row["translation"] for row in rows] == ["Eh?", "Bi?", ""]
    assert [row["refusal"] for row in rows] == [None, None, OTHER_TURNS]
    assert [row["source_turns"] for row in rows] == before
    assert [row["turns"] and json.loads(row["turns"]) for row in rows] == [talk("Habari.", "Ndiyo?"), None, None]
    assert {row["source_language"] for row in rows} == {"deu_Latn"}
    assert notes.sentences == ["swh_Latn: 1 prompts have other turns before them in its own file."]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"id": "x", "prompt": "Habari?"}], "share no id with those in eng_Latn"),
        ([{"prompt": "Habari?"}], r"have ids and the prompts '.*sw\.jsonl' in swh_Latn have none"),
    ],
)
def test_what_cannot_be_used(
    run: Run, prompts: ArtifactRef, tmp_path: Path, rows: list[dict[str, str]], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        take_parallel.fn(run, prompts, "swh_Latn", given_by(own(tmp_path, rows)))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [{"id": str(place), "prompt": "Habari?"} for place in range(3)],
            "have ids and the prompts in eng_Latn have none",
        ),
        ([{"prompt": "Habari?"}] * 2, "have no ids, and 3 and 2 rows"),
        ([{"prompt": "Habari?"}] * 3, None),
    ],
)
def test_row_numbers_pair_nothing_but_row_numbers(
    run: Run, notes: Notes, tmp_path: Path, rows: list[dict[str, str]], message: str | None
) -> None:
    file = tmp_path / "english.jsonl"
    file.write_text('{"prompt": "One?"}\n' * 3, encoding="utf-8")
    parts = KeyParts("ingest", 1, settings={})
    with run.store.writing("ingest", parts) as draft:
        pq.write_table(read_prompts(file).rows.slice(0, 2), draft.path / PROMPTS_FILE)
    asked = run.store.reference("ingest", parts.key), "swh_Latn", given_by(own(tmp_path, rows))
    if message is not None:
        with pytest.raises(UserError, match=message):
            take_parallel.fn(run, *asked)
        return
    take_parallel.fn(run, *asked)
    assert "rows with the same number are taken for one prompt" in " ".join(notes.sentences)


def test_a_file_that_is_not_there(run: Run, prompts: ArtifactRef, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nothing\.jsonl"):
        take_parallel.fn(run, prompts, "swh_Latn", given_by(str(tmp_path / "nothing.jsonl")))


def test_what_is_said_of_columns_and_labels_counts_here_too(
    run: Run, notes: Notes, prompts: ArtifactRef, tmp_path: Path
) -> None:
    rows = [
        {"name": "a", "goal": "Maktaba iko wapi?", "label": "0"},
        {"name": "c", "goal": "Ni saa ngapi?", "label": "1"},
    ]
    meaning = {
        "columns": {"id": "name", "prompt": "goal", "chosen": "response"},
        "labels": {"0": "harmless", "1": "harmful"},
    }
    ref = reference(take_parallel.fn(run, prompts, "swh_Latn", given_by(own(tmp_path, rows), **meaning)))
    found = pq.read_table(run.store.folder(ref) / TRANSLATIONS_FILE).to_pylist()
    assert [row["translation"] for row in found] == ["Maktaba iko wapi?", "", "Ni saa ngapi?"]
    # Without the labels both rows would be set aside.
    assert "set aside" not in " ".join(notes.sentences)
    # A file whose columns speak for themselves needs none of them.
    plain = [{"id": "a", "prompt": "Maktaba iko wapi?"}]
    ref = reference(
        take_parallel.fn(run, prompts, "swh_Latn", given_by(own(tmp_path, plain), columns=meaning["columns"]))
    )
    assert pq.read_table(run.store.folder(ref) / TRANSLATIONS_FILE)["translation"][0].as_py() == "Maktaba iko wapi?"
