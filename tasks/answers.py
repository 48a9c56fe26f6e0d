"""Stage ``answers``: the answers of the training prompts, taken out to be translated, and put beside the variants."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mlc.left_out import LeftOut
from mlc.shapes.answers import answer_column
from mlc.store import ArtifactRef, Draft
from mlc.tables.saved import read_saved, write_saved
from tasks.runtime.artifacts import DATASET_FOLDER, PROMPTS_FILE, VERDICTS_FILE, note_left_out
from tasks.runtime.run import Run
from tasks.runtime.stage import Stage, Work, produce, stage_task

STAGE = Stage("answers", version=1, module=__name__, libraries=("datasets", "pyarrow"))


@stage_task("answers", "answers · {about}")
def take_answers(run: Run, prompts: ArtifactRef, column: str, about: str) -> ArtifactRef:
    """Makes a table of answers that the translator reads as it reads prompts.

    Args:
        run: The run.
        prompts: Artifact with ``prompts.parquet``.
        column: ``chosen`` or ``rejected``.
        about: Whose answers they are, for the display.

    Returns:
        ``prompts.parquet`` with ``id``, that of the prompt, and ``prompt``, its answer; without those that have none.
    """

    def write(draft: Draft) -> None:
        rows = pq.read_table(run.store.folder(prompts) / PROMPTS_FILE)
        answers = rows[column].to_pylist() if column in rows.column_names else []
        found = [(name, text) for name, text in zip(rows["id"].to_pylist(), answers, strict=False) if text]
        table = {
            "id": pa.array([name for name, _ in found], pa.string()),
            "prompt": pa.array([text for _, text in found], pa.string()),
        }
        pq.write_table(pa.table(table), draft.path / PROMPTS_FILE)
        draft.rows = len(found)

    parts = STAGE.parts({"column": column}, {"prompts": prompts})
    return produce(run, STAGE, parts, write, subject=about, work=Work(prompts.rows, free=True))


@stage_task("answers", "answers · {about} joined")
def join_answers(
    run: Run, examples: ArtifactRef, verdicts: Mapping[str, Mapping[str, ArtifactRef]], about: str
) -> ArtifactRef:
    """Puts the kept translations of answers beside the variants of their prompts.

    Args:
        run: The run.
        examples: The training set of the stage ``dataset``.
        verdicts: The filter's verdicts on translated answers, by column and by NLLB code.
        about: Whose answers they are, for the display.

    Returns:
        The folder ``dataset`` with one column more for each column of answers, such as ``variant_chosen``: the answer
        in each of ``languages``, empty where it is missing.
    """
    inputs = {f"{column} {code}": ref for column, found in sorted(verdicts.items()) for code, ref in found.items()}
    parts = STAGE.parts({"columns": sorted(verdicts)}, {"examples": examples, **inputs})

    def write(draft: Draft) -> None:
        rows = [dict(row) for row in read_saved(run.store.folder(examples) / DATASET_FOLDER)]
        left_out = []
        for column, found in sorted(verdicts.items()):
            kept = {code: _kept(run, ref) for code, ref in found.items()}
            for row in rows:
                row[answer_column(column)] = _in_languages(row, column, kept)
            left_out += _left_out(rows, column)
        table = pa.Table.from_pylist(rows)
        write_saved(table, draft.path / DATASET_FOLDER, parts.key)
        draft.rows = len(rows)
        note_left_out(run, draft, left_out, "training set with answers")

    return produce(run, STAGE, parts, write, subject=f"{about} joined", work=Work(examples.rows))


def _kept(run: Run, verdicts: ArtifactRef) -> dict[str, str]:
    rows = pq.read_table(run.store.folder(verdicts) / VERDICTS_FILE, columns=["id", "translation", "keep"])
    return {row["id"]: row["translation"] for row in rows.to_pylist() if row["keep"]}


def _in_languages(row: Mapping[str, Any], column: str, kept: Mapping[str, Mapping[str, str]]) -> list[str]:
    _, *others = row["languages"]
    return [row.get(column) or "", *(kept.get(code, {}).get(row["id"], "") for code in others)]


def _left_out(rows: Sequence[Mapping[str, Any]], column: str) -> list[LeftOut]:
    """How many translated prompts are without a translated answer, by language."""
    counts = []
    for place, code in enumerate(rows[0]["languages"][1:], start=1):
        there = [row[answer_column(column)][place] for row in rows if row["mask"][place]]
        counts.append(LeftOut(f"no translated {column}", sum(not text for text in there), len(there), language=code))
    return counts
