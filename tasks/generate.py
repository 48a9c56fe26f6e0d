"""Stage ``generate``: what one model does with the held-out prompts in one language, before anything is judged."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mlc.evaluation.settings import EvaluationSettings
from mlc.languages import ENGLISH
from mlc.shapes.history import TURNS, Prompt, conversation, last_text
from mlc.stopping import ShouldStop
from mlc.store import ArtifactRef, Draft
from tasks.runtime.artifacts import (
    GENERATED_FILE,
    MARGINS_FILE,
    PROMPTS_FILE,
    STATES_FILE,
    HeldOut,
    held_out_texts,
)
from tasks.runtime.models import Model
from tasks.runtime.policies import SYSTEM_MOVED, loaded_policy, source_of
from tasks.runtime.run import Run
from tasks.runtime.stage import Stage, Work, produce, shows, stage_task

if TYPE_CHECKING:
    from mlc.models.loading import Policy

STAGE = Stage("generate", version=2, module=__name__, libraries=("torch", "transformers", "numpy"))
READ = ("refusal_openings", "compliance_openings", "layer", "answers_per_language", "answer_tokens")
"""The settings of the evaluation that decide what the model is asked; the others are about judging."""


@stage_task("generate", "generate · {model.label} · {language}")
def generate(
    run: Run, model: Model, language: str, held_out: HeldOut, settings: EvaluationSettings, anchor: str = ENGLISH
) -> ArtifactRef:
    """Runs a model on the held-out prompts. No judge and no threshold has a part in it.

    Args:
        run: The run.
        model: The model; its method and seed are for the display.
        language: NLLB code.
        held_out: The prompts.
        settings: The evaluation.
        anchor: NLLB code of the language that the threshold is set in.

    Returns:
        ``margins.parquet`` (id, label, kind, split, margin), ``states.npy`` ([test prompts, H]) and
        ``generated.parquet`` (id, prompt and answer of the sample; never shown). The validation split is there in
        the anchor only: it is for the threshold.
    """
    parts = STAGE.parts(
        {"language": language, "evaluation": settings.model_dump(mode="json", include=set(READ))},
        {"suite": held_out.suite, "texts": held_out.texts},
        {"model": source_of(run, model).identity},
    )

    def write(draft: Draft) -> None:
        rows = pq.read_table(run.store.folder(held_out.suite) / PROMPTS_FILE)
        texts = held_out_texts(run.store.folder(held_out.texts), TURNS).values()
        prompts = [conversation(text, turns) for text, turns in texts]
        wanted = _asked(rows["split"], language, anchor)
        rows, prompts = rows.take(wanted), [prompts[row] for row in wanted]
        moved = run.display.bar(f"generate · {model.label} · {language}", len(prompts))
        with loaded_policy(run, model) as policy:
            _tell_of_system(run, policy, prompts)
            margins, states, answers = _ask(policy, rows, prompts, settings, moved, run.should_stop)
        test_rows = np.array(rows["split"].to_pylist()) == "test"
        pq.write_table(
            pa.table({**{name: rows[name] for name in ("id", "label", "kind", "split")}, "margin": margins}),
            draft.path / MARGINS_FILE,
        )
        np.save(draft.path / STATES_FILE, states[test_rows])
        pq.write_table(answers, draft.path / GENERATED_FILE)
        draft.rows = len(rows)

    def asked() -> int:
        rows = pq.read_table(run.store.folder(held_out.suite) / PROMPTS_FILE, columns=["split"])["split"]
        return len(_asked(rows, language, anchor))

    work = Work(held_out.texts.rows, new=asked)
    return produce(run, STAGE, parts, write, language=language, subject=model.label, work=work)


@shows
def _tell_of_system(run: Run, policy: "Policy", prompts: list[Prompt]) -> None:
    from mlc.models.prompts import moves_system

    if moves_system(policy.tokenizer, prompts):
        run.display.note(SYSTEM_MOVED)


def _asked(splits: pa.ChunkedArray, language: str, anchor: str) -> list[int]:
    """Positions of the prompts that the model is asked in a language."""
    return [row for row, split in enumerate(splits.to_pylist()) if language == anchor or split == "test"]


def _ask(
    policy: "Policy",
    rows: pa.Table,
    prompts: list[Prompt],
    settings: EvaluationSettings,
    moved: Callable[[int], None],
    should_stop: ShouldStop,
) -> tuple[pa.Array, np.ndarray, pa.Table]:
    from mlc.evaluation.scoring import greedy_answers, score_prompts

    sample = _sample(rows, settings.answers_per_language)
    scores = score_prompts(
        policy,
        prompts,
        refusal_openings=settings.refusal_openings,
        compliance_openings=settings.compliance_openings,
        layer=settings.layer,
        batch_size=settings.batch_size,
        on_progress=moved,
        should_stop=should_stop,
    )
    asked = [prompts[row] for row in sample]
    given = greedy_answers(policy, asked, max_new_tokens=settings.answer_tokens, should_stop=should_stop)
    ids = rows["id"].take(pa.array(sample, pa.int64()))
    answers = pa.table(
        {"id": ids, "prompt": pa.array(map(last_text, asked), pa.string()), "answer": pa.array(given, pa.string())}
    )
    return pa.array(scores.margins.tolist(), pa.float64()), scores.states, answers


def _sample(rows: pa.Table, count: int) -> list[int]:
    """Positions of the first test prompts, half of them harmful."""
    facts = list(zip(rows["split"].to_pylist(), rows["label"].to_pylist(), strict=True))
    chosen: list[int] = []
    for label, wanted in (("harmful", (count + 1) // 2), ("harmless", count // 2)):
        chosen += [row for row, fact in enumerate(facts) if fact == ("test", label)][:wanted]
    return chosen
