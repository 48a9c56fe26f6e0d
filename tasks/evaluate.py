"""Stage ``evaluate``: judges what one model did in one language."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlc.catalogue import JUDGES
from mlc.evaluation.choosing import VERDICTS_FOLDER, Surroundings, choose
from mlc.evaluation.judges.judge import OUTCOMES, Answer, Verdict, ask
from mlc.evaluation.metrics import choose_threshold, summarise
from mlc.evaluation.representation import PairFigures, pair_figures
from mlc.evaluation.results import ANSWERS_FILE, EvaluationResult
from mlc.evaluation.settings import EvaluationSettings
from mlc.store import ArtifactRef, Draft
from tasks.runtime.artifacts import GENERATED_FILE, MARGINS_FILE, STATES_FILE
from tasks.runtime.models import Model
from tasks.runtime.run import Run
from tasks.runtime.stage import Stage, Work, produce, stage_task

STAGE = Stage("evaluate", version=3, module=__name__, libraries=("numpy",))
JUDGED_COLUMNS = ("id", "answer", "judge", "outcome", "reason", "category", "raw")


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
        ``rows.parquet``, ``summary.json`` and ``answers.parquet`` (texts of the sample, with a row for each judge
        and answer; never shown).
    """
    inputs = {"generated": generated} | ({"english": english} if english else {})
    chosen = choose(settings.judges, Surroundings(run.workspace / VERDICTS_FOLDER, run.should_stop))
    facts = {
        "role": model.method,
        "language": language,
        "evaluation": {"resamples": settings.resamples},
        "judges": {one.label: one.key for one in chosen},
    }
    parts = STAGE.parts(facts, inputs, seed=model.seed, modules=[JUDGES.module(one.name) for one in chosen])

    def write(draft: Draft) -> None:
        store = run.store
        own = store.folder(generated)
        scored = pq.read_table(own / MARGINS_FILE)
        calibration = store.folder(english) if english else own
        states = np.load(calibration / STATES_FILE), np.load(own / STATES_FILE)
        pair = pair_figures(*states) if english else None
        sample = pq.read_table(own / GENERATED_FILE)
        answers = [Answer(row["prompt"], row["answer"], language) for row in sample.to_pylist()]
        verdicts = {one.label: ask(one.judge, answers) for one in chosen}
        threshold = _threshold(pq.read_table(calibration / MARGINS_FILE))
        _judge(model, language, scored, pair, verdicts, threshold, settings).write(draft.path)
        pq.write_table(_judged(sample, verdicts), draft.path / ANSWERS_FILE)
        draft.rows = len(scored)

    work = Work(generated.rows)
    return produce(run, STAGE, parts, write, language=language, subject=model.label, work=work)


def _judge(
    model: Model,
    language: str,
    scored: pa.Table,
    pair: PairFigures | None,
    verdicts: Mapping[str, Sequence[Verdict | None]],
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
        answers={judge: _counts(given) for judge, given in verdicts.items()},
    )
    return EvaluationResult(summary, table)


def _counts(verdicts: Sequence[Verdict | None]) -> dict[str, int]:
    found = Counter(verdict.outcome for verdict in verdicts if verdict)
    return {outcome: found[outcome] for outcome in OUTCOMES}


def _judged(sample: pa.Table, verdicts: Mapping[str, Sequence[Verdict | None]]) -> pa.Table:
    """A row for each judge and answer; the outcome of an answer that was not judged is NULL."""
    rows = [
        {
            "id": row["id"],
            "answer": row["answer"],
            "judge": judge,
            "outcome": verdict.outcome if verdict else None,
            "reason": verdict.reason if verdict else "not judged: the judge does not know the language",
            "category": verdict.category if verdict else None,
            "raw": verdict.raw if verdict else None,
        }
        for judge, given in verdicts.items()
        for row, verdict in zip(sample.to_pylist(), given, strict=True)
    ]
    return pa.Table.from_pylist(rows, pa.schema([(name, pa.string()) for name in JUDGED_COLUMNS]))


def _threshold(english: pa.Table) -> float:
    """Set on the validation split, which is there in English only."""
    validation = english.filter(pc.equal(english["split"], "validation"))
    harmful = np.array(validation["label"].to_pylist()) == "harmful"
    return float(choose_threshold(validation["margin"].to_numpy(), harmful))
