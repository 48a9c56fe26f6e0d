"""Stage ``evaluate``: judges what one model did in one language."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from prefect.runtime import task_run

from mlc.evaluation.judges.openings import judge_opening
from mlc.evaluation.metrics import choose_threshold, summarise
from mlc.evaluation.representation import PairFigures, pair_figures
from mlc.evaluation.results import ANSWERS_FILE, EvaluationResult
from mlc.evaluation.settings import EvaluationSettings
from mlc.store import ArtifactRef, Draft
from tasks.runtime.artifacts import GENERATED_FILE, MARGINS_FILE, STATES_FILE
from tasks.runtime.run import current_run
from tasks.runtime.settings import subject_of
from tasks.runtime.stage import Stage, Work, produce, stage_task

STAGE = Stage("evaluate", version=2, module=__name__, libraries=("numpy",))


def _run_name() -> str:
    given = task_run.parameters
    return f"evaluate · {subject_of(given['role'], given['seed'])} · {given['language']}"


@stage_task("evaluate", _run_name)
def evaluate(
    generated: ArtifactRef,
    role: str,
    seed: int | None,
    language: str,
    english: ArtifactRef | None,
    settings: EvaluationSettings,
) -> ArtifactRef:
    """Judges a model in a language, without the model.

    Args:
        generated: What the model did in the language, of the stage ``generate``.
        role: ``base``, ``english-only``, ``consistency`` or ``edit``.
        seed: Training seed; None for the base model.
        language: NLLB code.
        english: What the same model did in English, which sets the threshold; None for English itself.
        settings: The evaluation.

    Returns:
        ``rows.parquet``, ``summary.json`` and ``answers.parquet`` (texts of the sample with verdicts; never shown).
    """
    inputs = {"generated": generated} | ({"english": english} if english else {})
    facts = {"role": role, "language": language, "evaluation": {"resamples": settings.resamples}}
    parts = STAGE.parts(facts, inputs, seed=seed)

    def write(draft: Draft) -> None:
        store = current_run().store
        own = store.folder(generated)
        scored = pq.read_table(own / MARGINS_FILE)
        calibration = store.folder(english) if english else own
        states = np.load(calibration / STATES_FILE), np.load(own / STATES_FILE)
        pair = pair_figures(*states) if english else None
        answers = pq.read_table(own / GENERATED_FILE)
        verdicts = [judge_opening(answer) for answer in answers["answer"].to_pylist()]
        threshold = _threshold(pq.read_table(calibration / MARGINS_FILE))
        _judge(role, seed, language, scored, pair, verdicts, threshold, settings).write(draft.path)
        judged = answers.append_column("verdict", pa.array(verdicts, pa.string()))
        pq.write_table(judged, draft.path / ANSWERS_FILE)
        draft.rows = len(scored)

    work = Work(generated.rows)
    return produce(STAGE, parts, write, language=language, subject=subject_of(role, seed), work=work)


def _judge(
    role: str,
    seed: int | None,
    language: str,
    scored: pa.Table,
    pair: PairFigures | None,
    verdicts: Sequence[str],
    threshold: float,
    settings: EvaluationSettings,
) -> EvaluationResult:
    matched = pair.matched if pair else [None] * len(scored)
    table = scored.append_column("matched_cosine", pa.array(matched, pa.float64()))
    summary = summarise(
        table,
        model=role,
        seed=seed,
        language=language,
        threshold=threshold,
        resamples=settings.resamples,
        collinearity=pair.collinearity if pair else None,
        centred_collinearity=pair.centred_collinearity if pair else None,
        unmatched_cosine=pair.unmatched if pair else None,
        answers={kind: verdicts.count(kind) for kind in ("refusal", "answer", "invalid")},
    )
    return EvaluationResult(summary, table)


def _threshold(english: pa.Table) -> float:
    """Set on the validation split, which is there in English only."""
    validation = english.filter(pc.equal(english["split"], "validation"))
    harmful = np.array(validation["label"].to_pylist()) == "harmful"
    return float(choose_threshold(validation["margin"].to_numpy(), harmful))
