"""Stage ``localized``: translations answered in their languages, by refusals and by what a model itself answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from mlc.errors import UserError
from mlc.evaluation.judges.judge import Answer
from mlc.evaluation.judges.rules import Rules
from mlc.evaluation.own_answers import RECORD_FILE, greedy_texts
from mlc.gating.refusals import refusals_in, shipped_refusals
from mlc.languages import resolve_language
from mlc.left_out import LeftOut
from mlc.shapes.answers import answer_column
from mlc.shapes.history import conversation, variants_of
from mlc.shapes.labels import LABELS
from mlc.store import ArtifactRef, Draft
from mlc.tables.saved import read_saved, write_saved
from tasks.runtime.artifacts import DATASET_FOLDER, note_left_out
from tasks.runtime.models import Model
from tasks.runtime.policies import loaded_policy, source_of
from tasks.runtime.run import Run
from tasks.runtime.stage import Stage, Work, produce, stage_task

STAGE = Stage("localized", version=1, module=__name__, libraries=("torch", "transformers"))
HARMFUL, HARMLESS = LABELS
UNFIT = ("refused", "invalid")
"""What a harmless prompt must not teach, by the judge ``rules``."""


@dataclass(frozen=True)
class LocalizedPlan:
    """How translated prompts are answered in their own languages."""

    languages: tuple[str, ...]
    """NLLB codes of the translations."""
    tokens: int
    """Longest answer of the model."""
    refusals: Mapping[str, str]
    """Sentences in place of shipped ones, by NLLB code."""


@stage_task("localized", "localized · {about}")
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
            if place and text and row.get("label") == HARMLESS
        ]
        languages = [rows[number]["languages"][place] for number, place, _ in asked]
        texts = [rows[number]["variants"][place] for number, place, _ in asked]
        moved = run.display.bar(f"localized · {about}", len(asked))
        record = run.store.partial(STAGE.name, parts.key) / RECORD_FILE
        prompts = [prompt for _, _, prompt in asked]
        given: list[str] = []
        if prompts:
            with loaded_policy(run, model, encodes=True) as policy:
                given = greedy_texts(
                    policy, prompts, plan.tokens, record=record, moved=moved, should_stop=run.should_stop
                )
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
        counts = [
            LeftOut("no own answer", len(asked) - len(own), len(asked)),
            LeftOut("no label", sum(row["label"] not in LABELS for row in rows), len(rows)),
        ]
        note_left_out(run, draft, counts, model.label)
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
