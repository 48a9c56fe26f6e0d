"""Stage ``ability``: what one model can do beside refusing, in every language and by tasks of a harness."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlc.evaluation.settings import AbilitySettings
from mlc.evaluation.skills import Skill, plain_skills
from mlc.prompts import identify, locate
from mlc.store import ArtifactRef, Draft
from mlc.store.plain import without_nan
from tasks.runtime.artifacts import PROMPTS_FILE, SKILLS_FILE, HeldOut, held_out_texts
from tasks.runtime.models import Model
from tasks.runtime.policies import loaded_policy, source_of
from tasks.runtime.run import Run
from tasks.runtime.stage import Stage, Work, produce, stage_task

if TYPE_CHECKING:
    from mlc.models.loading import Policy

STAGE = Stage("ability", version=1, module=__name__, libraries=("torch", "transformers", "numpy"))


@stage_task("ability", "ability · {model.label}")
def measure_skills(
    run: Run, model: Model, held_out: Mapping[str, HeldOut], settings: AbilitySettings, batch_size: int
) -> ArtifactRef:
    """Measures what a model can do; nothing is generated but what a task of the harness asks for.

    Args:
        run: The run.
        model: The model.
        held_out: The held-out prompts by language, of which the harmless test prompts are the neutral texts where the
            settings say so.
        settings: What is measured.
        batch_size: Texts in a forward pass.

    Returns:
        ``skills.json``: rows of :func:`mlc.evaluation.skills.plain_skills`.
    """
    inputs: dict[str, ArtifactRef | str] = {name: _digest(location) for name, location in settings.tables.items()}
    if settings.reads_held_out:
        inputs |= {f"suite {language}": own.suite for language, own in held_out.items()}
        inputs |= {f"texts {language}": own.texts for language, own in held_out.items()}
    parts = STAGE.parts(
        {"ability": settings.facts, "languages": sorted(held_out), **model.answering},
        inputs,
        {"model": source_of(run, model).identity},
    )

    def write(draft: Draft) -> None:
        with loaded_policy(run, model) as policy:
            skills = _neutral(run, policy, held_out, settings)
            skills += _choices(run, policy, settings, batch_size)
            skills += _tasks(policy, settings, batch_size)
        rows = [without_nan(row) for row in plain_skills({model.label: skills})]
        (draft.path / SKILLS_FILE).write_text(json.dumps(rows, indent=1, allow_nan=False), encoding="utf-8")
        draft.rows = len(rows)

    return produce(run, STAGE, parts, write, subject=model.label, work=Work(len(held_out)))


def _digest(location: str) -> str:
    try:
        return identify(locate(location))
    except OSError:
        # A file that is not there gets its plain sentence from the reader, in `write`.
        return "missing"


def _neutral(run: Run, policy: "Policy", held_out: Mapping[str, HeldOut], settings: AbilitySettings) -> list[Skill]:
    from mlc.evaluation.ability import measure_ability, neutral_skills, read_neutral

    if settings.neutral is None:
        return []
    if settings.reads_held_out:
        texts: dict[str, list[str]] = {language: _harmless(run, own) for language, own in held_out.items()}
    else:
        read, aside = read_neutral(settings.neutral, tuple(held_out))
        _tell_aside(run, "Neutral texts", aside)
        texts = {code: list(own) for code, own in read.items()}
    return neutral_skills(measure_ability(policy, texts, model="", should_stop=run.should_stop))


def _harmless(run: Run, prompts: HeldOut) -> list[str]:
    rows = pq.read_table(run.store.folder(prompts.suite) / PROMPTS_FILE)
    wanted = rows.filter(pc.and_(pc.equal(rows["split"], "test"), pc.equal(rows["label"], "harmless")))
    texts: dict[str, Any] = held_out_texts(run.store.folder(prompts.texts), "")
    return [texts[name][0] for name in wanted["id"].to_pylist() if texts[name][0].strip()]


def _choices(run: Run, policy: "Policy", settings: AbilitySettings, batch_size: int) -> list[Skill]:
    from mlc.evaluation.choices import measure_choices, read_choices

    if settings.choices is None:
        return []
    choices, aside = read_choices(locate(settings.choices))
    _tell_aside(run, "Choices", aside)
    return measure_choices(policy, choices, batch_size=batch_size, should_stop=run.should_stop)


def _tell_aside(run: Run, what: str, aside: Mapping[str, int]) -> None:
    for reason, count in aside.items():
        run.display.note(f"{what} set aside, {count}: {reason}.")


def _tasks(policy: "Policy", settings: AbilitySettings, batch_size: int) -> list[Skill]:
    from mlc.evaluation.harnessed import measure_tasks

    if not settings.harness:
        return []
    return measure_tasks(policy, settings.harness, batch_size=batch_size, limit=settings.harness_limit)
