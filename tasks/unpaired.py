"""Stage ``unpaired``: prompts of other languages that stand beside no other prompt, with answers of their own."""

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.parquet as pq

from mlc.left_out import LeftOut
from mlc.prompts import locate_own, meaning_of, read_beside
from mlc.shapes.history import TURNS
from mlc.shapes.spoken import LANGUAGE
from mlc.store import ArtifactRef, Draft
from tasks.runtime.artifacts import PROMPTS_FILE, SET_ASIDE_FILE, note_left_out
from tasks.runtime.run import Run
from tasks.runtime.settings import PromptSettings
from tasks.runtime.stage import Stage, Work, produce, stage_task

STAGE = Stage("unpaired", version=1, module=__name__, libraries=("pyarrow",))
REQUIRED = ("prompt", "chosen")
TRAINED = ("id", "prompt", "chosen", "rejected", "label", TURNS)
"""Columns that training reads; others of two files may mean two things."""


@stage_task("unpaired", "unpaired · {language}")
def take_unpaired(run: Run, language: str, settings: PromptSettings) -> ArtifactRef:
    """Reads the prompts of one language that say the same as no prompt of the anchor.

    Args:
        run: The run.
        language: NLLB code.
        settings: Names the language's table, with ``prompt`` and ``chosen`` in the language; ``rejected``, ``label``
            and ``id`` are kept where they are there. It also says what columns and labels are called in all tables.

    Returns:
        ``prompts.parquet`` and ``rejected.parquet`` (row numbers and reasons).

    Raises:
        UserError: The table cannot be read, lacks a column, or holds no usable row.
    """
    file, digest = locate_own(settings.unpaired[language], language, "prompts.unpaired")

    def write(draft: Draft) -> None:
        prompts = read_beside(file, required=REQUIRED, **meaning_of(settings))
        rows = prompts.rows.select([name for name in TRAINED if name in prompts.rows.column_names])
        pq.write_table(rows, draft.path / PROMPTS_FILE)
        pq.write_table(prompts.rejected, draft.path / SET_ASIDE_FILE)
        draft.rows = len(rows)
        count = LeftOut.of_rows("set aside", prompts.reasons, len(rows), language)
        for note in prompts.notes:
            run.display.note(note)
        note_left_out(run, draft, [count], language)

    parts = STAGE.parts(
        {"required": list(REQUIRED), **{name: said for name, said in meaning_of(settings).items() if said}},
        {"file": digest},
    )
    return produce(run, STAGE, parts, write, language=language, work=Work(free=True))


@stage_task("unpaired", "unpaired · all languages")
def add_unpaired(run: Run, prompts: ArtifactRef, unpaired: Mapping[str, ArtifactRef]) -> ArtifactRef:
    """Puts the prompts of other languages after those of the anchor, as rows like any other.

    Args:
        run: The run.
        prompts: Artifact with ``prompts.parquet``, in the anchor language.
        unpaired: One of :func:`take_unpaired` by NLLB code.

    Returns:
        ``prompts.parquet`` with all of them; the id of an added row begins with its language, which is also in the
        column ``prompt_language``, empty for the others.
    """

    def rows_of(ref: ArtifactRef) -> pa.Table:
        return pq.read_table(run.store.folder(ref) / PROMPTS_FILE)

    def write(draft: Draft) -> None:
        tables = [rows_of(prompts)]
        for language, ref in sorted(unpaired.items()):
            rows = rows_of(ref)
            ids = pa.array([f"{language}:{name}" for name in rows["id"].to_pylist()], pa.string())
            rows = rows.set_column(rows.column_names.index("id"), "id", ids)
            tables.append(rows.append_column(LANGUAGE, pa.array([language] * len(rows), pa.string())))
        together = pa.concat_tables(tables, promote_options="default")
        pq.write_table(together, draft.path / PROMPTS_FILE)
        draft.rows = len(together)
        draft.facts["unpaired"] = {language: ref.rows for language, ref in sorted(unpaired.items())}

    parts = STAGE.parts({}, {"prompts": prompts, **unpaired})
    return produce(run, STAGE, parts, write, subject="all languages", work=Work(free=True))
