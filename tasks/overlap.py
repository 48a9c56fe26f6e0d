"""Stage ``overlap``: training prompts that are held-out prompts too are counted, and left out where that is asked."""

import pyarrow as pa
import pyarrow.parquet as pq

from mlc.errors import UserError
from mlc.evaluation.overlap import told
from mlc.evaluation.overlapping import find_overlaps, held_out_rows
from mlc.left_out import LeftOut
from mlc.left_out import told as left_out_told
from mlc.store import ArtifactRef, Draft
from tasks.runtime.artifacts import PROMPTS_FILE
from tasks.runtime.run import Run
from tasks.runtime.settings import PromptSettings
from tasks.runtime.stage import Stage, Work, produce, stage_task

STAGE = Stage("overlap", version=1, module=__name__, libraries=("numpy", "pyarrow"))


@stage_task("overlap", "overlap")
def separate(
    run: Run,
    prompts: ArtifactRef,
    suite: ArtifactRef,
    settings: PromptSettings,
    language: str | None = None,
    subject: str | None = None,
) -> ArtifactRef:
    """Compares the training prompts with the held-out ones, word for word, normalised, and nearly.

    Args:
        run: The run.
        prompts: The training prompts.
        suite: The held-out prompts in the same language.
        settings: Whether what overlaps is left out.
        language: NLLB code, where it is not the anchor.
        subject: What the held-out prompts are called, where they are those of a suite.

    Returns:
        The counts are in the manifest. With ``remove_overlap`` also ``prompts.parquet``, the training prompts that are
        none of the held-out ones; the counts are then those of what is left.
    """
    inputs = {"prompts": prompts, "suite": suite}

    def write(draft: Draft) -> None:
        rows = pq.read_table(run.store.folder(prompts) / PROMPTS_FILE)
        held_out = pq.read_table(run.store.folder(suite) / PROMPTS_FILE)
        left = rows
        if settings.remove_overlap:
            places = set(held_out_rows(rows, held_out))
            left = rows.filter(pa.array([place not in places for place in range(len(rows))], pa.bool_()))
            if not len(left):
                raise UserError(
                    f"All {len(rows)} training prompts are held-out prompts as well, and prompts.remove_overlap takes "
                    "them out: take other prompts."
                )
            pq.write_table(left, draft.path / PROMPTS_FILE)
            draft.facts["left_out"] = left_out_told([LeftOut("held out", len(places), len(rows))])
        draft.rows = len(left)
        draft.facts["overlaps"] = told(find_overlaps(left, held_out))

    parts = STAGE.parts({"remove": settings.remove_overlap}, inputs)
    return produce(run, STAGE, parts, write, language=language, subject=subject, work=Work(prompts.rows, free=True))
