"""What follows from verdicts: which prompts stay, with which translations and weights."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import load_from_disk

from mlc.errors import UserError
from mlc.left_out import read_left_out
from mlc.store import ArtifactRef, ArtifactStore, KeyParts
from tasks.dataset import build_dataset
from tasks.runtime.artifacts import DATASET_FOLDER, PROMPTS_FILE, VERDICTS_FILE
from tasks.runtime.run import Run
from tasks.runtime.settings import DatasetSettings

VERDICTS = {
    "deu_Latn": [("a", "eins", 0.9, True), ("b", "zwei", 0.2, False), ("c", "drei", 0.7, True)],
    "swh_Latn": [("a", "moja", 0.4, True), ("b", "mbili", 0.1, False), ("c", "tatu", 0.3, False)],
}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(ArtifactStore(tmp_path))


def artifact(run: Run, stage: str, file: str, table: pa.Table, **settings: Any) -> ArtifactRef:
    parts = KeyParts(stage, 1, settings=settings)
    with run.store.writing(stage, parts) as draft:
        pq.write_table(table, draft.path / file)
    return run.store.reference(stage, parts.key)


def built(run: Run, settings: DatasetSettings) -> list[dict[str, Any]]:
    prompts = artifact(
        run, "ingest", PROMPTS_FILE, pa.table({"id": ["a", "b", "c"], "prompt": ["one", "two", "three"]})
    )
    verdicts = {
        language: artifact(
            run,
            "filter",
            VERDICTS_FILE,
            pa.Table.from_pylist(
                [dict(zip(("id", "translation", "quality", "keep"), row, strict=True)) for row in rows]
            ),
            language=language,
        )
        for language, rows in VERDICTS.items()
    }
    done = build_dataset.fn(run, prompts, verdicts, settings)
    ref = done if isinstance(done, ArtifactRef) else done.data
    return [dict(row) for row in load_from_disk(run.store.folder(ref) / DATASET_FOLDER)]


def test_what_is_missing_is_counted_in_the_manifest(run: Run) -> None:
    built(run, DatasetSettings(min_languages=1))
    (manifest,) = run.store.manifests("dataset")
    assert [count.sentence for count in read_left_out(manifest["facts"])] == [
        "1 of 3 prompts have fewer than 1 kept translations",
        "1 of 2 prompts have no kept translation into swh_Latn",
    ]


def test_a_prompt_keeps_its_other_languages(run: Run) -> None:
    rows = built(run, DatasetSettings())
    assert [row["variants"] for row in rows] == [["one", "eins", "moja"], ["two", "", ""], ["three", "drei", ""]]
    assert [row["mask"] for row in rows] == [[True, True, True], [True, False, False], [True, True, False]]
    assert "variant_weights" not in rows[0]


@pytest.mark.parametrize(("least", "ids"), [(0, ["a", "b", "c"]), (1, ["a", "c"]), (2, ["a"])])
def test_prompts_below_the_least_number_of_languages_leave(run: Run, least: int, ids: list[str]) -> None:
    assert [row["id"] for row in built(run, DatasetSettings(min_languages=least))] == ids


def test_no_prompt_left_is_told(run: Run) -> None:
    with pytest.raises(UserError, match="min_languages"):
        built(run, DatasetSettings(min_languages=3))


def test_quality_is_the_weight_where_it_is_asked_for(run: Run) -> None:
    rows = built(run, DatasetSettings(quality_weights=True))
    assert [row["variant_weights"] for row in rows] == [[1.0, 0.9, 0.4], [1.0, 0.0, 0.0], [1.0, 0.7, 0.0]]
