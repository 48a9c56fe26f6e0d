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
from mlc.prompts import PromptFile, read_prompts
from mlc.shipped import resolve_path
from mlc.store import ArtifactRef, Draft
from mlc.store.hashing import digest_file, digest_folder
from tasks.runtime.artifacts import PROMPTS_FILE, SET_ASIDE_FILE
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
    path = _file(settings.path)
    source = _digest(path)

    def write(draft: Draft) -> None:
        prompts = read_prompts(path, required=REQUIRED)
        rows = prompts.rows.slice(0, settings.limit)
        pq.write_table(rows, draft.path / PROMPTS_FILE)
        pq.write_table(prompts.rejected, draft.path / SET_ASIDE_FILE)
        draft.rows = len(rows)
        draft.facts["left_out"] = told(_left_out(prompts, rows))
        _tell(run, prompts.rejected)

    parts = STAGE.parts({"format": path.suffix, "required": list(REQUIRED), "limit": settings.limit}, {"file": source})
    return produce(run, STAGE, parts, write, subject="prompts", work=Work(free=True))


@stage_task("ingest", "ingest · held-out · {language}")
def ingest_suite(run: Run, settings: EvaluationSettings, language: str) -> ArtifactRef:
    """Reads the held-out prompts in English, or their human translations in another language.

    Returns:
        ``prompts.parquet`` with ``id``, ``prompt``, ``label``, ``kind``, ``split``.
    """
    validation, test = _file(settings.validation), _file(settings.test)
    inputs = {"validation": _digest(validation), "test": _digest(test)}
    references = None
    if language != ENGLISH and settings.references is not None:
        references = _file(settings.references)
        inputs["references"] = digest_folder(references)

    def write(draft: Draft) -> None:
        suite = read_suite(validation, test, limit=settings.limit)
        if references is not None:
            suite = read_references(suite, references, language)
        pq.write_table(suite, draft.path / PROMPTS_FILE)
        draft.rows = len(suite)

    parts = STAGE.parts({"language": language, "limit": settings.limit}, inputs)
    return produce(run, STAGE, parts, write, language=language, subject="held-out", work=Work(free=True))


def _left_out(file: PromptFile, rows: pa.Table) -> list[LeftOut]:
    # A file without the column is one that nobody wanted labels in.
    unlabelled = rows["label"].null_count if "label" in rows.column_names else 0
    return [
        LeftOut("set aside", len(file.rejected), len(file.rejected) + len(file.rows)),
        LeftOut("no label", unlabelled, len(rows)),
    ]


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


def _file(location: str) -> Path:
    return resolve_path(location, Path.cwd())


def _digest(path: Path) -> str:
    # A file that is not there gets its plain sentence from the reader, in `write`.
    return digest_file(path) if path.is_file() else "missing"
