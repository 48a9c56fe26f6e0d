"""Stage ``own_answers``: what a model itself answers to training prompts, in place of given or translated answers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mlc.errors import UserError
from mlc.evaluation.answering import answer_all
from mlc.evaluation.engines.protocol import Completion
from mlc.evaluation.judges.judge import Answer
from mlc.evaluation.judges.rules import Rules
from mlc.gating.refusals import refusals_in, shipped_refusals
from mlc.languages import resolve_language
from mlc.left_out import LeftOut, told
from mlc.shapes.answers import answer_column
from mlc.shapes.history import TURNS, Prompt, conversation, variants_of
from mlc.shapes.labels import LABELS
from mlc.store import ArtifactRef, Draft
from mlc.tables.saved import read_saved, write_saved
from tasks.runtime.artifacts import DATASET_FOLDER, PROMPTS_FILE
from tasks.runtime.models import Model
from tasks.runtime.policies import loaded_policy, source_of
from tasks.runtime.run import Run
from tasks.runtime.stage import Stage, Work, produce, stage_task

STAGE = Stage("own_answers", version=1, module=__name__, libraries=("torch", "transformers"))
BATCH_SIZE = 20
"""Prompts that are answered together; changes nothing but time and memory."""
HARMFUL, HARMLESS = LABELS
UNFIT = ("refused", "invalid")
"""What a harmless prompt must not teach, by the judge ``rules``."""
RECORD_FILE = "answers.jsonl"
"""Answers of an attempt that is not finished; the next one goes on from them."""


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
        answers = pa.array(_answers(run, model, asked, tokens, record, moved), pa.string())
        own = rows.set_column(rows.column_names.index("chosen"), "chosen", answers)
        own = own.filter(pa.array([bool(text) for text in answers.to_pylist()]))
        if not len(own):
            raise UserError(
                f"The model {model.label} answers none of the {len(rows)} training prompts, so that it has nothing to "
                "learn from itself: leave the method out, or take another policy."
            )
        pq.write_table(own, draft.path / PROMPTS_FILE)
        draft.rows = len(own)
        if missing := len(rows) - len(own):
            run.display.note(f"{model.label}: {missing} of {len(rows)} training prompts get no answer from it.")

    return produce(run, STAGE, parts, write, subject=about, work=Work(prompts.rows))


@dataclass(frozen=True)
class LocalizedPlan:
    """How translated prompts are answered in their own languages."""

    languages: tuple[str, ...]
    """NLLB codes of the translations."""
    tokens: int
    """Longest answer of the model."""
    refusals: Mapping[str, str]
    """Sentences in place of shipped ones, by NLLB code."""


@stage_task("own_answers", "own_answers · {about}")
def answer_translations(run: Run, model: Model, examples: ArtifactRef, plan: LocalizedPlan, about: str) -> ArtifactRef:
    """Answers the translations in their languages: harmful ones by a refusal, the others as the model does, greedily.

    Where the model refuses a harmless one, or answers in another language, that is not learned.

    Args:
        run: The run.
        model: Answers the harmless ones.
        examples: The training set of the stage ``dataset``, with labels.
        plan: Languages, refusals and the longest answer.
        about: The method whose models are to learn from them, for the display.

    Returns:
        The folder ``dataset`` as it was, and a column with the chosen answer in each language, empty where there is
        none to learn; in the anchor language it is the given one.

    Raises:
        UserError: The model answers none of the harmless ones, which would leave refusals alone to learn from.
    """
    refusals = refusals_in(plan.languages, plan.refusals)
    parts = STAGE.parts(
        {"answer_tokens": plan.tokens, "refusals": refusals, "judge": Rules().version, **model.answering},
        {"examples": examples},
        {"model": source_of(run, model).identity},
    )

    def write(draft: Draft) -> None:
        rows = [dict(row) for row in read_saved(run.store.folder(examples) / DATASET_FOLDER)]
        asked = [
            (number, place, conversation(text, turns))
            for number, row in enumerate(rows)
            for place, (text, turns) in enumerate(variants_of(row))
            if place and text and row["label"] == HARMLESS
        ]
        languages = [rows[number]["languages"][place] for number, place, _ in asked]
        texts = [rows[number]["variants"][place] for number, place, _ in asked]
        moved = run.display.bar(f"own_answers · {about}", len(asked))
        record = run.store.partial(STAGE.name, parts.key) / RECORD_FILE
        given = _answers(run, model, [prompt for _, _, prompt in asked], plan.tokens, record, moved) if asked else []
        answers = [Answer(*each) for each in zip(texts, given, languages, strict=True)]
        own = {
            (number, place): answer.text
            for (number, place, _), answer, fit in zip(asked, answers, _can_be_learned(answers), strict=True)
            if fit
        }
        if not own:
            raise UserError(
                f"The model {model.label} answers none of the {len(asked)} translated harmless prompts, so that there "
                "are refusals alone to learn from: leave the method out, or take another policy."
            )
        for number, row in enumerate(rows):
            said = refusals if row["label"] == HARMFUL else {}
            others = enumerate(row["languages"][1:], 1)
            chosen = [own.get((number, place), said.get(language, "")) for place, language in others]
            row[answer_column("chosen")] = [row["chosen"], *chosen]
        write_saved(pa.Table.from_pylist(rows), draft.path / DATASET_FOLDER, parts.key)
        draft.rows = len(rows)
        count = LeftOut("no own answer", len(asked) - len(own), len(asked))
        draft.facts["left_out"] = told([count])
        if count.rows:
            run.display.note(f"{model.label}: {count.sentence}.")
        known = {*shipped_refusals(), *plan.refusals}
        if english := [resolve_language(code).english_name for code in plan.languages if code not in known]:
            run.display.note(
                f"No refusal is known in {', '.join(english)}: harmful prompts are declined in English there. Name "
                "sentences in serve.refusals."
            )

    return produce(run, STAGE, parts, write, subject=about, work=Work(examples.rows))


def _can_be_learned(answers: Sequence[Answer]) -> list[bool]:
    """Whether there is an answer that the judge takes for one; in a language that it does not know any will do."""
    judge = Rules()
    known = [answer for answer in answers if answer.language in judge.languages]
    unfit = {id(answer) for answer, verdict in zip(known, judge.judge(known), strict=True) if verdict.outcome in UNFIT}
    return [bool(answer.text) and id(answer) not in unfit for answer in answers]


def _answers(
    run: Run, model: Model, asked: Sequence[Prompt], tokens: int, record: Path, moved: Callable[..., None]
) -> list[str]:
    """What a model answers, greedily; an attempt that was cut off goes on from its record."""
    from mlc.evaluation.engines.transformers import TransformersEngine

    def count(completion: Completion) -> None:
        moved(1, completion.answer_tokens)

    with loaded_policy(run, model, encodes=True) as policy:
        given = answer_all(
            TransformersEngine(policy, max_new_tokens=tokens, batch_size=BATCH_SIZE),
            asked,
            record=record,
            on_answer=count,
            should_stop=run.should_stop,
        )
    return [completion.text.strip() for completion in given]
