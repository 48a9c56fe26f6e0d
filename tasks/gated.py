"""Stage ``gated``: what a model behind a gate does, from what it does without one."""

import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mlc.shapes.history import TURNS, conversation
from mlc.store import ArtifactRef, Draft
from tasks.runtime.artifacts import (
    GENERATED_FILE,
    HELD_OUT,
    MARGINS_FILE,
    STATES_FILE,
    HeldOut,
    Suite,
    held_out_texts,
)
from tasks.runtime.models import Model
from tasks.runtime.policies import loaded_policy, source_of
from tasks.runtime.run import Run
from tasks.runtime.stage import Stage, Work, produce, stage_task

STAGE = Stage("gated", version=1, module=__name__, libraries=("torch", "transformers", "sentencex"))


@stage_task("gated", "gated · {suite.lead}{model.label} · {language}")
def pass_gate(
    run: Run, model: Model, language: str, generated: ArtifactRef, held_out: HeldOut, suite: Suite = HELD_OUT
) -> ArtifactRef:
    """Puts the gate's refusals in place of answers, and how far it refuses in place of the margins.

    The gate is not told the language of a prompt: it finds it out, as it would where it is served.

    Args:
        run: The run.
        model: The model with its gate.
        language: NLLB code.
        generated: What the same model does without it, of the stage ``generate``.
        held_out: The prompts.
        suite: What the prompts are called.

    Returns:
        The files of the stage ``generate``. A margin is what the score of a prompt is above its threshold, in nats.
    """
    source = source_of(run, model)
    inputs = {"generated": generated, "texts": held_out.texts}
    parts = STAGE.parts({"language": language, **model.answering}, inputs, {"model": source.identity})
    subject = f"{suite.lead}{model.label}"

    def write(draft: Draft) -> None:
        own = run.store.folder(generated)
        texts = held_out_texts(run.store.folder(held_out.texts), TURNS)
        scored, answered = (pq.read_table(own / name) for name in (MARGINS_FILE, GENERATED_FILE))
        prompts = {name: conversation(*texts[name]) for name in scored["id"].to_pylist()}
        with loaded_policy(run, model) as policy:
            from mlc.gating.gate import PromptGate

            gate = PromptGate.load(Path(source.target))
            translator = gate.load_translator(Path(source.target), policy.model.device)
            asked = list(prompts.values())
            found = gate.margins(policy, asked, translator=translator, should_stop=run.should_stop)
        margins = dict(zip(prompts, found, strict=True))
        refused = {name: gate.refusal(prompts[name]) for name in answered["id"].to_pylist() if margins[name] > 0}
        place = scored.column_names.index("margin")
        pq.write_table(scored.set_column(place, "margin", [pa.array(found, pa.float64())]), draft.path / MARGINS_FILE)
        pq.write_table(_with_refusals(answered, refused), draft.path / GENERATED_FILE)
        shutil.copyfile(own / STATES_FILE, draft.path / STATES_FILE)
        draft.rows = len(scored)

    work = Work(generated.rows)
    return produce(run, STAGE, parts, write, language=language, subject=subject, work=work)


def _with_refusals(answered: pa.Table, refused: dict[str, str]) -> pa.Table:
    """Answers with refusals in place of some; no token of these was generated."""

    def changed(row: dict[str, Any]) -> dict[str, Any]:
        if row["id"] not in refused:
            return row
        return {**row, "answer": refused[row["id"]], "finish": "stop", "answer_tokens": 0}

    return pa.Table.from_pylist([changed(row) for row in answered.to_pylist()], answered.schema)
