"""Stage ``ingest``: prompt files become tables, bad rows are set aside."""

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from prefect.artifacts import create_table_artifact

from mlc.evaluation.settings import EvaluationSettings
from mlc.evaluation.suite import read_references, read_suite
from mlc.languages import ENGLISH
from mlc.left_out import LeftOut, told
from mlc.prompts import PromptFile, identify, locate, meaning_of, read_prompts
from mlc.shipped import resolve_path
from mlc.store import ArtifactRef, Draft
from mlc.store.hashing import digest_folder
from mlc.tables.formats import ending_of
from tasks.runtime.artifacts import PROMPTS_FILE, SET_ASIDE_FILE, note_left_out
from tasks.runtime.run import Run
from tasks.runtime.settings import PromptSettings
from tasks.runtime.stage import Stage, Work, produce, shows, stage_task

STAGE = Stage("ingest", version=1, module=__name__, libraries=("pyarrow",))
REQUIRED = ("prompt", "chosen")


@stage_task("ingest", "ingest · prompts")
def ingest(run: Run, settings: PromptSettings) -> ArtifactRef:
    """Reads the training prompts.

    Returns:
        ``prompts.parquet`` and ``rejected.parquet`` (row numbers and reasons).

    Raises:
        UserError: The file cannot be read, lacks a column, or holds no usable row.
    """
    source = locate(settings.path)

    def write(draft: Draft) -> None:
        prompts = read_prompts(source, required=REQUIRED, **meaning_of(settings))
        rows = prompts.rows.slice(0, settings.limit)
        pq.write_table(rows, draft.path / PROMPTS_FILE)
        pq.write_table(prompts.rejected, draft.path / SET_ASIDE_FILE)
        draft.rows = len(rows)
        draft.facts["left_out"] = told(_left_out(prompts, rows))
        for note in prompts.notes:
            run.display.note(note)
        _tell(run, prompts.rejected)

    facts = {"format": ending_of(str(source)), "required": list(REQUIRED), **meaning_of(settings)}
    parts = STAGE.parts({**facts, "limit": settings.limit}, {"file": _digest(source)})
    return produce(run, STAGE, parts, write, subject="prompts", work=Work(free=True))


@stage_task("ingest", "ingest · held-out · {language}")
def ingest_suite(run: Run, settings: EvaluationSettings, language: str, anchor: str = ENGLISH) -> ArtifactRef:
    """Reads the held-out prompts in the anchor language, or their human translations in another one.

    Returns:
        ``prompts.parquet`` with ``id``, ``prompt``, ``label``, ``kind``, ``split``.
    """
    validation, test = locate(settings.validation), locate(settings.test)
    inputs = {"validation": _digest(validation), "test": _digest(test)}
    references = None
    if language != anchor and settings.references is not None:
        references = resolve_path(settings.references, Path.cwd())
        inputs["references"] = digest_folder(references)

    def write(draft: Draft) -> None:
        files: dict[str, PromptFile] = {}
        suite = read_suite(
            validation,
            test,
            limit=settings.limit,
            **meaning_of(settings),
            on_read=files.__setitem__,
        )
        if references is not None:
            suite = read_references(suite, references, language, anchor=anchor, **meaning_of(settings))
        pq.write_table(suite, draft.path / PROMPTS_FILE)
        draft.rows = len(suite)
        # Of every language the same rows are missing.
        left_out = [_set_aside(f"{split} set aside", file) for split, file in files.items() if language == anchor]
        note_left_out(run, draft, left_out, "held-out prompts")

    parts = STAGE.parts({"language": language, "limit": settings.limit, **meaning_of(settings)}, inputs)
    return produce(run, STAGE, parts, write, language=language, subject="held-out", work=Work(free=True))


def _left_out(file: PromptFile, rows: pa.Table) -> list[LeftOut]:
    # A file without the column is one that nobody wanted labels in.
    unlabelled = rows["label"].null_count if "label" in rows.column_names else 0
    return [
        _set_aside("set aside", file),
        LeftOut("no label", unlabelled, len(rows)),
    ]


def _set_aside(kind: str, file: PromptFile) -> LeftOut:
    return LeftOut.of_rows(kind, file.reasons, len(file.rows))


@shows
def _tell(run: Run, rejected: pa.Table) -> None:
    """Shows which rows were set aside, by number and reason."""
    if not len(rejected) or run.planning:
        return
    create_table_artifact(
        key="set-aside-prompts", table=rejected.to_pylist(), description="Rows of the prompt file that are not used."
    )
    counts = Counter(rejected["reason"].to_pylist()).most_common()
    reasons = ", ".join(f"{count} × {reason}" for reason, count in counts)
    run.display.note(f"{len(rejected)} rows of the prompt file are set aside: {reasons}.")


def _digest(location: Path | str) -> str:
    try:
        return identify(location)
    except OSError:
        # A file that is not there gets its plain sentence from the reader, in `write`.
        return "missing"
