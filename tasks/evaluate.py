"""Stage ``evaluate``: judges what one model did in one language."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlc.evaluation.judges.openings import judge_opening
from mlc.evaluation.metrics import choose_threshold, summarise
from mlc.evaluation.representation import PairFigures, pair_figures
from mlc.evaluation.results import ANSWERS_FILE, EvaluationResult
from mlc.evaluation.settings import EvaluationSettings
from mlc.store import ArtifactRef, Draft
from tasks.runtime.artifacts import GENERATED_FILE, MARGINS_FILE, STATES_FILE
from tasks.runtime.models import Model
from tasks.runtime.run import Run
from tasks.runtime.stage import Stage, Work, produce, stage_task

STAGE = Stage("evaluate", version=2, module=__name__, libraries=("numpy",))


@stage_task("evaluate", "evaluate · {model.label} · {language}")
def evaluate(
    run: Run,
    model: Model,
    language: str,
    generated: ArtifactRef,
    english: ArtifactRef | None,
    settings: EvaluationSettings,
) -> ArtifactRef:
    """Judges a model in a language, without the model.

    Args:
        run: The run.
        model: The model; its weights are not read.
        language: NLLB code.
        generated: What the model did in the language, of the stage ``generate``.
        english: What the same model did in English, which sets the threshold; None for English itself.
        settings: The evaluation.

    Returns:
        ``rows.parquet``, ``summary.json`` and ``answers.parquet`` (texts of the sample with verdicts; never shown).
    """
    inputs = {"generated": generated} | ({"english": english} if english else {})
    facts = {"role": model.method, "language": language, "evaluation": {"resamples": settings.resamples}}
    parts = STAGE.parts(facts, inputs, seed=model.seed)

    def write(draft: Draft) -> None:
        store = run.store
        own = store.folder(generated)
        scored = pq.read_table(own / MARGINS_FILE)
        calibration = store.folder(english) if english else own
        states = np.load(calibration / STATES_FILE), np.load(own / STATES_FILE)
        pair = pair_figures(*states) if english else None
        answers = pq.read_table(own / GENERATED_FILE)
        verdicts = [judge_opening(answer) for answer in answers["answer"].to_pylist()]
        threshold = _threshold(pq.read_table(calibration / MARGINS_FILE))
        _judge(model, language, scored, pair, verdicts, threshold, settings).write(draft.path)
        judged = answers.append_column("verdict", pa.array(verdicts, pa.string()))
        pq.write_table(judged, draft.path / ANSWERS_FILE)
        draft.rows = len(scored)

    work = Work(generated.rows)
    return produce(run, STAGE, parts, write, language=language, subject=model.label, work=work)


def _judge(
    model: Model,
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
        model=model.method,
        seed=model.seed,
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
