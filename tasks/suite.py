"""Stage ``suite``: the prompts of a suite in one language."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mlc.evaluation.suites.finding import find_suite, local_copy
from mlc.evaluation.suites.loading import first_prompts, identify_suite, load_suite
from mlc.left_out import LeftOut
from mlc.store import ArtifactRef, Draft
from tasks.runtime.artifacts import PROMPTS_FILE, note_left_out
from tasks.runtime.run import Run
from tasks.runtime.stage import Stage, Work, produce, stage_task

STAGE = Stage("suite", version=1, module=__name__, libraries=("pyarrow",))


@stage_task("suite", "suite · {name} · {language}")
def take_suite(run: Run, name: str, location: str, language: str, limit: int | None) -> ArtifactRef:
    """Reads the prompts of a suite in one language.

    Args:
        run: The run.
        name: What the suite is called.
        location: Name of a shipped suite, or a YAML file.
        language: NLLB code; the suite must have prompts in it.
        limit: Only so many prompts, the first ones, half of them harmful; None for all.

    Returns:
        ``prompts.parquet`` as the stage ``ingest`` writes it for held-out prompts; all of them are test prompts.

    Raises:
        UserError: The suite cannot be read.
    """
    settings, base = find_suite(location, Path.cwd())
    copy = local_copy(settings.name)

    def write(draft: Draft) -> None:
        suite = load_suite(settings, base, local=copy)
        prompts = first_prompts(suite.prompts[language], limit)
        columns = {
            column: [getattr(one, column) for one in prompts] for column in ("id", "prompt", "label", "kind")
        } | {"split": ["test"] * len(prompts)}
        pq.write_table(
            pa.table({column: pa.array(values, pa.string()) for column, values in columns.items()}),
            draft.path / PROMPTS_FILE,
        )
        draft.rows = len(prompts)
        # Of the whole suite, in all of its languages.
        count = LeftOut.of_rows("set aside", suite.set_aside, sum(map(len, suite.prompts.values())))
        note_left_out(run, draft, [count], f"suite {name}")

    parts = STAGE.parts(
        {"suite": settings.model_dump(mode="json"), "language": language, "limit": limit},
        {"files": identify_suite(settings, base, local=copy)},
    )
    return produce(run, STAGE, parts, write, language=language, subject=name, work=Work(free=True))
