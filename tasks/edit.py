"""Stage ``edit``: the delta that carries refusal from English to one language, without training."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
from prefect.artifacts import create_table_artifact

from mlc.evaluation.settings import EvaluationSettings
from mlc.languages import ENGLISH
from mlc.permuted import dealt_anew
from mlc.shapes.history import TURNS, Prompt, conversation
from mlc.store import ArtifactRef, Draft
from tasks.runtime.artifacts import (
    DELTA_FOLDER,
    PROMPTS_FILE,
    SEARCH_FILE,
    VERDICTS_FILE,
    HeldOut,
    Translated,
    held_out_texts,
)
from tasks.runtime.memory import remembering_memory
from tasks.runtime.models import Model
from tasks.runtime.policies import loaded_policy, source_of
from tasks.runtime.run import Run
from tasks.runtime.settings import EditStageSettings
from tasks.runtime.stage import Stage, produce, stage_task

if TYPE_CHECKING:
    from mlc.editing.delta import EditDelta
    from mlc.evaluation.parallel import ParallelPrompts
    from mlc.models.loading import Policy

STAGE = Stage("edit", version=1, module=__name__, libraries=("torch", "transformers"))
NOT_IN_KEY = {"saved_dtype"}
"""How the merged model is saved."""
SCORING = ("refusal_openings", "compliance_openings")
"""Settings of the evaluation that decide a search."""


@dataclass(frozen=True)
class EditPlan:
    """How an edit is computed."""

    edit: EditStageSettings
    """The edit, and what to search."""
    evaluation: EvaluationSettings
    """How a search measures."""
    anchor: str = ENGLISH
    """NLLB code of the language that refusal is carried from."""
    permuted: bool = False
    """Whether labels of training prompts are dealt anew, by the seed of the model: a control."""


@stage_task("edit", "edit · {model.label} · {language}")
def compute_delta(
    run: Run, model: Model, language: str, training: Translated, held_out: HeldOut, settings: EditPlan
) -> ArtifactRef:
    """Computes the delta of one language; other languages do not enter it.

    Args:
        run: The run.
        model: The model to edit.
        language: NLLB code.
        training: The training prompts.
        held_out: The held-out prompts; a search reads their validation split.
        settings: The edit, and how a search measures.

    Returns:
        The folder ``delta``, and after a search ``search.json`` with every trial. Where no trial of a search keeps the
        limits and is better than the unedited model, the delta is empty.
    """
    edit = settings.edit
    inputs = {"prompts": training.prompts, "verdicts": training.verdicts}
    facts: dict[str, Any] = {"language": language, **edit.model_dump(mode="json", exclude=NOT_IN_KEY)}
    facts |= {} if settings.anchor == ENGLISH else {"anchor": settings.anchor}
    facts |= {"permuted": True} if settings.permuted else {}
    facts |= model.attending
    if edit.search.wanted:
        inputs |= {"suite": held_out.suite, "texts": held_out.texts}
        scoring = settings.evaluation.model_dump(mode="json")
        facts |= {name: scoring[name] for name in SCORING}
    else:
        del facts["search"]
    parts = STAGE.parts(facts, inputs, {"model": source_of(run, model).identity}, model.seed)

    label = f"edit · {model.label} · {language}"

    def write(draft: Draft) -> None:
        with loaded_policy(run, model, dtype="float32") as policy, remembering_memory(draft.facts, model.device):
            given = _training_prompts(run, training, (settings.anchor, language))
            if settings.permuted:
                given = replace(given, labels=tuple(dealt_anew(given.labels, model.seed)))
            if edit.search.wanted:
                validation = _validation_prompts(run, held_out, (settings.anchor, language))
                delta = _searched(run, policy, given, validation, settings, draft.path, label)
            else:
                from mlc.editing.compute import compute_edit

                moved = run.display.bar(label, _texts(given))
                delta = compute_edit(policy, given, edit.plain(), on_texts=moved, should_stop=run.should_stop)
        delta.save(draft.path / DELTA_FOLDER)
        draft.rows = len(delta.parts)

    return produce(run, STAGE, parts, write, language=language, subject=model.label)


def _searched(
    run: Run,
    policy: "Policy",
    prompts: "ParallelPrompts",
    validation: "ParallelPrompts",
    settings: EditPlan,
    folder: Path,
    label: str,
) -> "EditDelta":
    from mlc.editing.delta import EditDelta
    from mlc.editing.search import search_edits

    language, plain, search = prompts.languages[1], settings.edit.plain(), settings.edit.search
    moved = run.display.bar(label, len(search.candidates(plain)))
    found = search_edits(
        policy,
        prompts,
        validation,
        plain,
        search,
        settings.evaluation,
        on_trial=moved,
        should_stop=run.should_stop,
    )
    rows = found.rows()
    (folder / SEARCH_FILE).write_text(json.dumps(rows, indent=1, allow_nan=False), encoding="utf-8")
    # Prefect's artifacts are found by key, and keys are lower-case with hyphens.
    create_table_artifact(
        key=f"edit-search-{language.replace('_', '-').lower()}",
        table=rows,
        description="Every trial of the search, on the validation prompts.",
    )
    if found.best is not None:
        return found.deltas[found.best]
    run.display.note(
        f"No edit for {language} is better than the unedited model within the limits of edit.search: "
        "its delta is empty."
    )
    first = found.deltas[0]
    return EditDelta(first.shape, first.languages, {}, {"model": first.facts["model"], "settings": None})


def _training_prompts(run: Run, training: Translated, languages: tuple[str, str]) -> "ParallelPrompts":
    rows = pq.read_table(run.store.folder(training.prompts) / PROMPTS_FILE).to_pylist()
    verdicts = pq.read_table(run.store.folder(training.verdicts) / VERDICTS_FILE).to_pylist()
    kept = {row["id"]: (row["translation"], row.get(TURNS)) for row in verdicts if row["keep"]}
    return _parallel(rows, kept, languages)


def _validation_prompts(run: Run, held_out: HeldOut, languages: tuple[str, str]) -> "ParallelPrompts":
    rows = pq.read_table(run.store.folder(held_out.suite) / PROMPTS_FILE).to_pylist()
    wanted = [row for row in rows if row["split"] == "validation"]
    return _parallel(wanted, held_out_texts(run.store.folder(held_out.texts), TURNS), languages)


def _parallel(
    rows: list[dict[str, Any]], translations: Mapping[str, tuple[str, str | None]], languages: tuple[str, str]
) -> "ParallelPrompts":
    from mlc.evaluation.parallel import ParallelPrompts

    def translated(name: str) -> Prompt | None:
        text, turns = translations.get(name, ("", None))
        return conversation(text, turns) if text else None

    return ParallelPrompts(
        ids=tuple(row["id"] for row in rows),
        labels=tuple(row.get("label") for row in rows),
        languages=languages,
        texts=tuple((conversation(row["prompt"], row.get(TURNS)), translated(row["id"])) for row in rows),
        left_out={},
    )


def _texts(prompts: "ParallelPrompts") -> int:
    return sum(
        text is not None
        for label, row in zip(prompts.labels, prompts.texts, strict=True)
        if label is not None
        for text in row
    )
