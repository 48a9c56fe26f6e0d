"""Stage ``generate``: what one model does with the held-out prompts in one language, before anything is judged."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from prefect.runtime import task_run

from mlc.evaluation.settings import EvaluationSettings
from mlc.languages import ENGLISH
from mlc.models.sources import ModelSource
from mlc.store import ArtifactRef, Draft
from tasks.runtime.artifacts import (
    GENERATED_FILE,
    MARGINS_FILE,
    PROMPTS_FILE,
    STATES_FILE,
    held_out_texts,
)
from tasks.runtime.models import loaded_policy, model_source
from tasks.runtime.run import current_run
from tasks.runtime.settings import PolicySettings, subject_of
from tasks.runtime.stage import Stage, Work, produce, stage_task

STAGE = Stage("generate", version=1, module=__name__, libraries=("torch", "transformers", "numpy"))
READ = ("refusal_openings", "compliance_openings", "layer", "answers_per_language", "answer_tokens")
"""The settings of the evaluation that decide what the model is asked; the others are about judging."""


def _run_name() -> str:
    given = task_run.parameters
    return f"generate · {subject_of(given['role'], given['seed'])} · {given['language']}"


@stage_task("generate", _run_name)
def generate(
    model: PolicySettings | ArtifactRef,
    role: str,
    seed: int | None,
    language: str,
    suite: ArtifactRef,
    texts: ArtifactRef,
    settings: EvaluationSettings,
    device: str = "auto",
) -> ArtifactRef:
    """Runs a model on the held-out prompts. No judge and no threshold has a part in it.

    Args:
        model: The base model, or an aligned checkpoint.
        role: ``base``, ``english-only``, ``consistency`` or ``edit``, for the display.
        seed: Training seed, for the display; None for the base model.
        language: NLLB code.
        suite: Held-out prompts in English, with labels.
        texts: The same prompts in the language: human references, or machine translations.
        settings: The evaluation.
        device: Where to compute.

    Returns:
        ``margins.parquet`` (id, label, kind, split, margin), ``states.npy`` ([test prompts, H]) and
        ``generated.parquet`` (id and answer of the sample; never shown). The validation split is there in English
        only: it is for the threshold.
    """
    source = model_source(model)
    parts = STAGE.parts(
        {"language": language, "evaluation": settings.model_dump(mode="json", include=set(READ))},
        {"suite": suite, "texts": texts},
        {"model": source.identity},
    )
    subject = subject_of(role, seed)

    def write(draft: Draft) -> None:
        store = current_run().store
        rows = pq.read_table(store.folder(suite) / PROMPTS_FILE)
        prompts = list(held_out_texts(store.folder(texts)).values())
        wanted = _asked(rows["split"], language)
        rows, prompts = rows.take(wanted), [prompts[row] for row in wanted]
        label = f"generate · {subject} · {language}"
        margins, states, answers = _run_model(source, rows, prompts, settings, device, label)
        test_rows = np.array(rows["split"].to_pylist()) == "test"
        pq.write_table(
            pa.table({**{name: rows[name] for name in ("id", "label", "kind", "split")}, "margin": margins}),
            draft.path / MARGINS_FILE,
        )
        np.save(draft.path / STATES_FILE, states[test_rows])
        pq.write_table(answers, draft.path / GENERATED_FILE)
        draft.rows = len(rows)

    def asked() -> int:
        rows = pq.read_table(current_run().store.folder(suite) / PROMPTS_FILE, columns=["split"])["split"]
        return len(_asked(rows, language))

    return produce(STAGE, parts, write, language=language, subject=subject, work=Work(texts.rows, new=asked))


def _asked(splits: pa.ChunkedArray, language: str) -> list[int]:
    """Positions of the prompts that the model is asked in a language."""
    return [row for row, split in enumerate(splits.to_pylist()) if language == ENGLISH or split == "test"]


def _run_model(
    source: ModelSource, rows: pa.Table, prompts: list[str], settings: EvaluationSettings, device: str, label: str
) -> tuple[pa.Array, np.ndarray, pa.Table]:
    from mlc.evaluation.scoring import greedy_answers, score_prompts

    sample = _sample(rows, settings.answers_per_language)
    moved = current_run().display.bar(label, len(prompts))
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
    answers = pa.table({"id": rows["id"].take(pa.array(sample, pa.int64())), "answer": pa.array(given, pa.string())})
    return pa.array(scores.margins.tolist(), pa.float64()), scores.states, answers


def _sample(rows: pa.Table, count: int) -> list[int]:
    """Positions of the first test prompts, half of them harmful."""
    facts = list(zip(rows["split"].to_pylist(), rows["label"].to_pylist(), strict=True))
    chosen: list[int] = []
    for label, wanted in (("harmful", (count + 1) // 2), ("harmless", count // 2)):
        chosen += [row for row, fact in enumerate(facts) if fact == ("test", label)][:wanted]
    return chosen
