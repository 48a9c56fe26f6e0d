"""Stage ``own_pairs``: a model's own answers in every language, as pairs of a preferred and a rejected one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from mlc.choices import OwnPairs
from mlc.evaluation.own_answers import RECORD_FILE
from mlc.left_out import LeftOut
from mlc.shapes.answers import answer_column
from mlc.store import ArtifactRef, Draft
from mlc.tables.saved import read_saved, write_saved
from tasks.runtime.artifacts import DATASET_FOLDER, note_left_out
from tasks.runtime.models import Model
from tasks.runtime.policies import loaded_policy, source_of
from tasks.runtime.run import Run
from tasks.runtime.stage import Stage, Work, produce, stage_task

STAGE = Stage("own_pairs", version=2, module=__name__, libraries=("torch", "transformers", "datasets"))


@dataclass(frozen=True)
class PairPlan:
    """How pairs are made."""

    answers: int
    """That are sampled for each prompt and language."""
    tokens: int
    """Longest answer."""
    layer: int | float
    """Of the states by which answers are compared."""
    chosen_by: OwnPairs = "consistency"


@stage_task("own_pairs", "own_pairs · {model.label}")
def make_pairs(run: Run, model: Model, examples: ArtifactRef, plan: PairPlan) -> ArtifactRef:
    """Samples answers of a model to the training prompts and their translations, and chooses pairs.

    Args:
        run: The run.
        model: The model, named and seeded as the one that is to be trained on the pairs.
        examples: The training set of the stage ``dataset``.
        plan: How pairs are made.

    Returns:
        The folder ``dataset`` as it was, but for ``chosen`` and ``rejected``, with columns of both in each language;
        empty where a language has no pair; prompts without any are left out.

    Raises:
        UserError: There is no pair.
    """
    facts = {"answers": plan.answers, "tokens": plan.tokens, "layer": plan.layer, "chosen_by": plan.chosen_by}
    parts = STAGE.parts(
        {**facts, **model.answering}, {"examples": examples}, {"model": source_of(run, model).identity}, model.seed
    )

    def write(draft: Draft) -> None:
        from mlc.models.consistent_pairs import consistent_pairs

        rows = [dict(row) for row in read_saved(run.store.folder(examples) / DATASET_FOLDER)]
        moved = run.display.bar(f"own_pairs · {model.label}", plan.answers * sum(sum(row["mask"]) for row in rows))
        with loaded_policy(run, model) as policy:
            made = consistent_pairs(
                policy,
                rows,
                answers=plan.answers,
                tokens=plan.tokens,
                layer=plan.layer,
                chosen_by=plan.chosen_by,
                seed=model.seed or 0,
                record=run.store.partial(STAGE.name, parts.key) / RECORD_FILE,
                on_answers=moved,
                should_stop=run.should_stop,
            )
        write_saved(pa.Table.from_pylist(made), draft.path / DATASET_FOLDER, parts.key)
        draft.rows = len(made)
        note_left_out(run, draft, without_pairs(len(rows), made), model.label)

    effort = plan.answers * (examples.rows or 0)
    return produce(run, STAGE, parts, write, subject=model.label, work=Work(examples.rows, effort=effort))


def without_pairs(prompts: int, made: Sequence[Mapping[str, Any]]) -> list[LeftOut]:
    """Prompts without a pair in English, and translations without one of those that have any.

    Args:
        prompts: How many were answered.
        made: The rows that have a pair in any language.
    """
    translations = sum(there for row in made for there in row["mask"][1:])
    pairs = sum(bool(answer) for row in made for answer in row[answer_column("chosen")][1:])
    return [
        LeftOut("no own pair", prompts - sum(bool(row[answer_column("chosen")][0]) for row in made), prompts),
        LeftOut("no own translated pair", translations - pairs, translations),
    ]
