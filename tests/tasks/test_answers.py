"""Stage ``answers``: answers taken out for the translator, and put back beside the variants of their prompts."""

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, load_from_disk

from mlc.methods import resolve_method
from mlc.methods.needs import translated_columns
from mlc.store import ArtifactRef, KeyParts
from mlc.training.settings import AlignSettings
from tasks.align import align_model
from tasks.answers import join_answers, take_answers
from tasks.runtime.artifacts import DATASET_FOLDER, PROMPTS_FILE, VERDICTS_FILE, left_out_of
from tasks.runtime.models import Model
from tasks.runtime.run import Notes, Run
from tasks.runtime.settings import PolicySettings
from tests.training.runs import LANGUAGES, make_rows

SETTINGS = AlignSettings.model_validate({"steps": 1, "batch_size": 4, "learning_rate": 1e-3})


def made(run: Run, kind: str, name: str, write: Any) -> ArtifactRef:
    parts = KeyParts(kind, 1, settings={"name": name}, inputs={})
    with run.store.writing(kind, parts) as draft:
        write(draft.path)
    return run.store.reference(kind, parts.key)


def rows() -> list[dict[str, Any]]:
    found = [{"id": str(n), **row, "languages": LANGUAGES, "mask": [True] * 3} for n, row in enumerate(make_rows())]
    return [row | {"rejected": ""} if row["id"] == "1" else row for row in found]


def prompts(run: Run) -> ArtifactRef:
    table = pa.Table.from_pylist(
        [{name: row[name] for name in ("id", "prompt", "chosen", "rejected")} for row in rows()]
    )
    return made(run, "ingest", "prompts", lambda path: pq.write_table(table, path / PROMPTS_FILE))


def examples(run: Run) -> ArtifactRef:
    table = Dataset.from_list(rows())
    return made(run, "dataset", "examples", lambda path: table.save_to_disk(path / DATASET_FOLDER))


def verdicts(run: Run, column: str, code: str, kept: list[bool]) -> ArtifactRef:
    table = pa.Table.from_pylist(
        [
            {"id": row["id"], "translation": f"{code} {column} {row['id']}", "keep": keep}
            for row, keep in zip(rows(), kept, strict=True)
        ]
    )
    return made(run, "filter", f"{column} {code}", lambda path: pq.write_table(table, path / VERDICTS_FILE))


def data_of(done: Any) -> ArtifactRef:
    return done if isinstance(done, ArtifactRef) else done.data


def test_answers_are_prompts_to_the_translator(run: Run) -> None:
    given = prompts(run)
    for column, count in (("chosen", 8), ("rejected", 7)):
        ref = data_of(take_answers.fn(run, given, column, "answers"))
        table = pq.read_table(run.store.folder(ref) / PROMPTS_FILE).to_pylist()
        assert len(table) == ref.rows == count
        wanted = {row["id"]: row[column] for row in rows() if row[column]}
        assert {row["id"]: row["prompt"] for row in table} == wanted


def joined(run: Run, *columns: str) -> ArtifactRef:
    found = {
        column: {
            "swh_Latn": verdicts(run, column, "swh_Latn", [True] * 8),
            "yor_Latn": verdicts(run, column, "yor_Latn", [False] * 3 + [True] * 5),
        }
        for column in columns
    }
    return data_of(join_answers.fn(run, examples(run), found, "answers"))


def test_kept_answers_stand_beside_the_variants(run: Run, notes: Notes) -> None:
    ref = joined(run, "chosen")
    table = [dict(row) for row in load_from_disk(run.store.folder(ref) / DATASET_FOLDER)]
    assert table[0]["variant_chosen"] == [table[0]["chosen"], "swh_Latn chosen 0", ""]
    assert table[7]["variant_chosen"] == [table[7]["chosen"], "swh_Latn chosen 7", "yor_Latn chosen 7"]
    assert "variant_rejected" not in table[0]
    assert [(count.rows, count.of, count.language) for count in left_out_of(run.store, ref)] == [(3, 8, "yor_Latn")]
    assert any("3 of 8 translated prompts have no kept translation of their answer" in note for note in notes.sentences)


BOTH = ("chosen", "rejected")


@pytest.mark.parametrize(
    ("name", "carrier", "columns"),
    [("translated-pairs", "sft", ("chosen",)), ("translated-pairs", "orpo", BOTH), ("mpo", "sft", BOTH)],
)
def test_it_trains_on_them_and_is_served_from_the_store_then(
    run: Run, name: str, carrier: str, columns: tuple[str, ...]
) -> None:
    method = resolve_method(name)
    configured = SETTINGS.model_copy(update={"carrier": carrier})
    assert translated_columns(method, configured) == columns
    given = joined(run, *columns)
    model = Model(method.name, 0, PolicySettings(model="shipped:tiny"), "cpu")
    first, again = (data_of(align_model.fn(run, model, given, method.alignment(configured))) for _ in range(2))
    assert first == again
    assert [outcome.state for outcome in run.outcomes[-2:]] == ["ran", "cached"]
    # The same training with English answers is another model.
    other = data_of(align_model.fn(run, model, examples(run), method.alignment(configured)))
    assert other.sha256 != first.sha256
