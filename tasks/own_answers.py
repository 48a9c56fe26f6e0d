"""Stage ``own_answers``: what a model itself answers to training prompts, in place of given answers."""

import pyarrow as pa
import pyarrow.parquet as pq

from mlc.errors import UserError
from mlc.evaluation.own_answers import RECORD_FILE, greedy_texts
from mlc.left_out import LeftOut
from mlc.shapes.history import TURNS, conversation
from mlc.store import ArtifactRef, Draft
from tasks.runtime.artifacts import PROMPTS_FILE, note_left_out
from tasks.runtime.models import Model
from tasks.runtime.policies import loaded_policy, source_of
from tasks.runtime.run import Run
from tasks.runtime.stage import Stage, Work, produce, stage_task

STAGE = Stage("own_answers", version=1, module=__name__, libraries=("torch", "transformers"))


@stage_task("own_answers", "own_answers · {about}")
def answer_prompts(run: Run, model: Model, prompts: ArtifactRef, tokens: int, about: str) -> ArtifactRef:
    """Lets a model answer the training prompts, greedily.

    Args:
        run: The run.
        model: The model.
        prompts: Artifact with ``prompts.parquet``.
        tokens: Longest answer.
        about: The label of the model that is to learn from them, for the display.

    Returns:
        ``prompts.parquet`` as it was, but for ``chosen``, which is the model's answer; prompts without any are left
        out.

    Raises:
        UserError: It answers none.
    """
    parts = STAGE.parts(
        {"answer_tokens": tokens, **model.answering}, {"prompts": prompts}, {"model": source_of(run, model).identity}
    )

    def write(draft: Draft) -> None:
        rows = pq.read_table(run.store.folder(prompts) / PROMPTS_FILE)
        asked = [conversation(row["prompt"], row.get(TURNS)) for row in rows.to_pylist()]
        moved = run.display.bar(f"own_answers · {about}", len(asked))
        record = run.store.partial(STAGE.name, parts.key) / RECORD_FILE
        with loaded_policy(run, model, encodes=True) as policy:
            given = greedy_texts(policy, asked, tokens, record=record, moved=moved, should_stop=run.should_stop)
        answers = pa.array(given, pa.string())
        own = rows.set_column(rows.column_names.index("chosen"), "chosen", answers)
        own = own.filter(pa.array([bool(text) for text in answers.to_pylist()]))
        if not len(own):
            raise UserError(
                f"The model {model.label} answers none of the {len(rows)} training prompts, so that it has nothing to "
                "learn from itself: leave the method out, or take another policy."
            )
        pq.write_table(own, draft.path / PROMPTS_FILE)
        draft.rows = len(own)
        note_left_out(run, draft, [LeftOut("no answer", len(rows) - len(own), len(rows))], model.label)

    return produce(run, STAGE, parts, write, subject=about, work=Work(prompts.rows))
