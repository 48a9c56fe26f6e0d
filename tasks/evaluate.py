"""Stage ``evaluate``: one model in one language, on the held-out prompts."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from prefect.runtime import task_run

from mlc.evaluation.metrics import choose_threshold, summarise
from mlc.evaluation.representation import PairFigures, pair_figures
from mlc.evaluation.results import ANSWERS_FILE, EvaluationResult
from mlc.evaluation.settings import EvaluationSettings
from mlc.models.sources import ModelSource, artifact_model, resolve_model
from mlc.store import ArtifactRef, Draft
from tasks.compute import loaded_policy
from tasks.files import CHECKPOINT_FOLDER, PROMPTS_FILE, STATES_FILE, TRANSLATIONS_FILE
from tasks.running import current_run
from tasks.settings import PolicySettings
from tasks.stage import Stage, produce, stage_task

STAGE = Stage("evaluate", version=1, module=__name__, libraries=("torch", "transformers", "numpy"))
NOT_IN_KEY = {"validation", "test", "references", "limit", "batch_size"}
"""Settings of the evaluation that enter through the inputs, or change no result."""


def _run_name() -> str:
    given = task_run.parameters
    return f"evaluate · {_subject(given['role'], given['seed'])} · {given['language']}"


def _subject(role: str, seed: int | None) -> str:
    return role if seed is None else f"{role} · seed {seed}"


@stage_task("evaluate", _run_name)
def evaluate(
    model: PolicySettings | ArtifactRef,
    role: str,
    seed: int | None,
    language: str,
    suite: ArtifactRef,
    texts: ArtifactRef,
    english: ArtifactRef | None,
    settings: EvaluationSettings,
    device: str = "auto",
) -> ArtifactRef:
    """Measures a model in a language.

    Args:
        model: The base model, or an aligned checkpoint.
        role: ``base``, ``english-only``, ``consistency`` or ``edit``.
        seed: Training seed; None for the base model.
        language: NLLB code.
        suite: Held-out prompts in English, with labels.
        texts: The same prompts in the language: human references, or machine translations.
        english: This model's evaluation in English, which holds the threshold and the English states; None for
            English itself.
        settings: The evaluation.
        device: Where to compute.

    Returns:
        ``rows.parquet``, ``summary.json``, ``answers.parquet`` (texts of the sample; never shown) and,
        in English, ``states.npy`` ([test prompts, H]).
    """
    source = _source(model)
    inputs = {"suite": suite, "texts": texts} | ({"english": english} if english else {})
    facts = {"role": role, "language": language, **settings.model_dump(mode="json", exclude=NOT_IN_KEY)}
    parts = STAGE.parts(facts, inputs, {"model": source.identity}, seed)
    subject = _subject(role, seed)

    def write(draft: Draft) -> None:
        run = current_run()
        rows = pq.read_table(run.store.folder(suite) / PROMPTS_FILE)
        prompts = _texts(run.store.folder(texts))
        if english:
            # The validation split is for the threshold, and that is English.
            test = [row for row, split in enumerate(rows["split"].to_pylist()) if split == "test"]
            rows, prompts = rows.take(test), [prompts[row] for row in test]
        calibration = run.store.folder(english) if english else None
        result, states, answers = _measure(
            source, role, seed, language, rows, prompts, calibration, settings, device, subject
        )
        result.write(draft.path)
        if english is None:
            np.save(draft.path / STATES_FILE, states)
        pq.write_table(answers, draft.path / ANSWERS_FILE)
        draft.rows = len(rows)

    return produce(STAGE, parts, write, language=language, subject=subject)


def _source(model: PolicySettings | ArtifactRef) -> ModelSource:
    if isinstance(model, ArtifactRef):
        return artifact_model(current_run().store.folder(model) / CHECKPOINT_FOLDER, model.sha256)
    return resolve_model(model.model, revision=model.revision)


def _texts(folder: Path) -> list[str]:
    if (folder / PROMPTS_FILE).is_file():
        texts: list[str] = pq.read_table(folder / PROMPTS_FILE)["prompt"].to_pylist()
        return texts
    texts = pq.read_table(folder / TRANSLATIONS_FILE)["translation"].to_pylist()
    return texts


def _measure(
    source: ModelSource,
    role: str,
    seed: int | None,
    language: str,
    rows: pa.Table,
    prompts: list[str],
    calibration: Path | None,
    settings: EvaluationSettings,
    device: str,
    subject: str,
) -> tuple[EvaluationResult, np.ndarray, pa.Table]:
    from mlc.evaluation.judges.openings import judge_opening
    from mlc.evaluation.scoring import greedy_answers, score_prompts

    sample = _sample(rows, settings.answers_per_language)
    moved = current_run().display.bar(f"evaluate · {subject} · {language}", len(prompts))
    with loaded_policy(source, device) as policy:
        scores = score_prompts(
            policy,
            prompts,
            refusal_openings=settings.refusal_openings,
            compliance_openings=settings.compliance_openings,
            layer=settings.layer,
            batch_size=settings.batch_size,
            on_progress=moved,
        )
        given = greedy_answers(policy, [prompts[row] for row in sample], max_new_tokens=settings.answer_tokens)
    verdicts = [judge_opening(answer) for answer in given]
    test = np.array(rows["split"].to_pylist()) == "test"
    pair = _pair(calibration, scores.states)
    margins = scores.margins.tolist()
    table = pa.table(
        {
            **{name: rows[name] for name in ("id", "label", "kind", "split")},
            "margin": pa.array(margins, pa.float64()),
            "matched_cosine": pa.array(pair.matched if pair else [None] * len(rows), pa.float64()),
        }
    )
    summary = summarise(
        table,
        model=role,
        seed=seed,
        language=language,
        threshold=_threshold(calibration, table),
        resamples=settings.resamples,
        collinearity=pair.collinearity if pair else None,
        centred_collinearity=pair.centred_collinearity if pair else None,
        unmatched_cosine=pair.unmatched if pair else None,
        answers={kind: verdicts.count(kind) for kind in ("refusal", "answer", "invalid")},
    )
    answers = pa.table(
        {
            "id": rows["id"].take(pa.array(sample, pa.int64())),
            "answer": pa.array(given, pa.string()),
            "verdict": pa.array(verdicts, pa.string()),
        }
    )
    return EvaluationResult(summary, table), scores.states[test], answers


def _sample(rows: pa.Table, count: int) -> list[int]:
    """Positions of the first test prompts, half of them harmful."""
    facts = list(zip(rows["split"].to_pylist(), rows["label"].to_pylist(), strict=True))
    chosen: list[int] = []
    for label, wanted in (("harmful", (count + 1) // 2), ("harmless", count // 2)):
        chosen += [row for row, fact in enumerate(facts) if fact == ("test", label)][:wanted]
    return chosen


def _pair(calibration: Path | None, states: np.ndarray) -> PairFigures | None:
    return None if calibration is None else pair_figures(np.load(calibration / STATES_FILE), states)


def _threshold(calibration: Path | None, table: pa.Table) -> float:
    if calibration is not None:
        return EvaluationResult.read(calibration).summary.threshold
    validation = table.filter(pc.equal(table["split"], "validation"))
    harmful = np.array(validation["label"].to_pylist()) == "harmful"
    return float(choose_threshold(validation["margin"].to_numpy(), harmful))
