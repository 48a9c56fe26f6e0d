"""Stage ``edit``: the delta that carries refusal from English to one language, without training."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
from prefect.artifacts import create_table_artifact
from prefect.runtime import task_run

from mlc.evaluation.settings import EvaluationSettings
from mlc.languages import ENGLISH
from mlc.store import ArtifactRef, Draft
from tasks.runtime.artifacts import (
    DELTA_FOLDER,
    PROMPTS_FILE,
    SEARCH_FILE,
    VERDICTS_FILE,
    held_out_texts,
)
from tasks.runtime.models import loaded_policy, model_source
from tasks.runtime.run import current_run
from tasks.runtime.settings import EditStageSettings, PolicySettings
from tasks.runtime.stage import Stage, produce, stage_task

if TYPE_CHECKING:
    from mlc.editing.delta import EditDelta
    from mlc.evaluation.parallel import ParallelPrompts
    from mlc.models.loading import Policy

STAGE = Stage("edit", version=1, module=__name__, libraries=("torch", "transformers"))
NOT_IN_KEY = {"start", "saved_dtype"}
"""Settings that decide which model is read, and how the merged one is saved."""
SCORING = ("refusal_openings", "compliance_openings")
"""Settings of the evaluation that decide a search."""


def _run_name() -> str:
    given = task_run.parameters
    return f"edit · {_subject(given['seed'])} · {given['language']}"


def _subject(seed: int | None) -> str:
    return "policy" if seed is None else f"seed {seed}"


@stage_task("edit", _run_name)
def compute_delta(
    model: PolicySettings | ArtifactRef,
    seed: int | None,
    language: str,
    prompts: ArtifactRef,
    verdicts: ArtifactRef,
    suite: ArtifactRef,
    texts: ArtifactRef,
    settings: EditStageSettings,
    evaluation: EvaluationSettings,
    device: str = "auto",
) -> ArtifactRef:
    """Computes the delta of one language; other languages do not enter it.

    Args:
        model: The policy, or an aligned checkpoint.
        seed: Training seed of the checkpoint; None for the policy.
        language: NLLB code.
        prompts: English training prompts with labels.
        verdicts: Their translations into the language, with the filter's verdicts.
        suite: Held-out prompts in English, with labels; a search reads their validation split.
        texts: The same prompts in the language.
        settings: The edit, and what to search.
        evaluation: How a search measures.
        device: Where to compute.

    Returns:
        The folder ``delta``, and after a search ``search.json`` with every trial. Where no trial of a search keeps the
        limits and is better than the unedited model, the delta is empty.
    """
    source = model_source(model)
    inputs = {"prompts": prompts, "verdicts": verdicts}
    facts: dict[str, Any] = {"language": language, **settings.model_dump(mode="json", exclude=NOT_IN_KEY)}
    if settings.search.wanted:
        inputs |= {"suite": suite, "texts": texts}
        scoring = evaluation.model_dump(mode="json")
        facts |= {name: scoring[name] for name in SCORING}
    else:
        del facts["search"]
    parts = STAGE.parts(facts, inputs, {"model": source.identity}, seed)

    def write(draft: Draft) -> None:
        store = current_run().store
        given = _training_prompts(store.folder(prompts), store.folder(verdicts), language)
        with loaded_policy(source, device) as policy:
            if settings.search.wanted:
                validation = _validation_prompts(store.folder(suite), store.folder(texts), language)
                delta = _searched(policy, given, validation, settings, evaluation, draft.path, language)
            else:
                from mlc.editing.compute import compute_edit

                moved = current_run().display.bar(f"edit · {_subject(seed)} · {language}", _texts(given))
                delta = compute_edit(policy, given, settings.plain(), on_texts=moved)
        delta.save(draft.path / DELTA_FOLDER)
        draft.rows = len(delta.parts)

    return produce(STAGE, parts, write, language=language, subject=_subject(seed))


def _searched(
    policy: "Policy",
    prompts: "ParallelPrompts",
    validation: "ParallelPrompts",
    settings: EditStageSettings,
    evaluation: EvaluationSettings,
    folder: Path,
    language: str,
) -> "EditDelta":
    from mlc.editing.delta import EditDelta
    from mlc.editing.search import search_edits

    plain = settings.plain()
    moved = current_run().display.bar(f"edit · search · {language}", len(settings.search.candidates(plain)))
    found = search_edits(policy, prompts, validation, plain, settings.search, evaluation, on_trial=moved)
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
    current_run().display.note(
        f"No edit for {language} is better than the unedited model within the limits of edit.search: "
        "its delta is empty."
    )
    first = found.deltas[0]
    return EditDelta(first.shape, first.languages, {}, {"model": first.facts["model"], "settings": None})


def _training_prompts(prompts: Path, verdicts: Path, language: str) -> "ParallelPrompts":
    rows = pq.read_table(prompts / PROMPTS_FILE).to_pylist()
    kept = {
        row["id"]: row["translation"]
        for row in pq.read_table(verdicts / VERDICTS_FILE, columns=["id", "translation", "keep"]).to_pylist()
        if row["keep"]
    }
    return _parallel(rows, kept, language)


def _validation_prompts(suite: Path, texts: Path, language: str) -> "ParallelPrompts":
    rows = pq.read_table(suite / PROMPTS_FILE).to_pylist()
    wanted = [row for row in rows if row["split"] == "validation"]
    return _parallel(wanted, held_out_texts(texts), language)


def _parallel(rows: list[dict[str, Any]], translations: Mapping[str, str], language: str) -> "ParallelPrompts":
    from mlc.evaluation.parallel import ParallelPrompts

    return ParallelPrompts(
        ids=tuple(row["id"] for row in rows),
        labels=tuple(row.get("label") for row in rows),
        languages=(ENGLISH, language),
        texts=tuple((row["prompt"], translations.get(row["id"]) or None) for row in rows),
        left_out={},
    )


def _texts(prompts: "ParallelPrompts") -> int:
    return sum(
        text is not None
        for label, row in zip(prompts.labels, prompts.texts, strict=True)
        if label is not None
        for text in row
    )
