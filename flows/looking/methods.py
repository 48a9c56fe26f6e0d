"""The methods of one run beside each other: what their models do, and what each of them cost."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from flows.looking.reading import RunReader, method_of
from mlc.errors import UserError
from mlc.evaluation.comparison import Evaluations, GroupFigures, model_rows
from mlc.evaluation.metrics import Metric
from mlc.evaluation.results import Estimate
from mlc.evaluation.skills import read_skills
from mlc.evaluation.spread import pairwise_agreement, spread
from mlc.methods import BASE, BASE_LABEL, in_order, resolve_method
from mlc.methods.needs import needs_of
from mlc.store import ArtifactStore
from mlc.store.runs import RunRecord
from tasks.runtime.artifacts import SKILLS_FILE
from tasks.runtime.costs import Cost, cost_of, costs_of


@dataclass(frozen=True)
class MethodLine:
    """One method."""

    method: str
    label: str
    about: str
    needs: tuple[str, ...]
    """Data that it takes beside the policy, sorted."""
    seeds: tuple[int | None, ...]
    groups: Mapping[str, Mapping[Metric, Estimate]]
    """By group of languages (``english``, ``other``, ``trained``, ``unseen``); groups without languages are absent."""
    by_seed: Mapping[str, Mapping[Metric, tuple[tuple[int | None, float], ...]]]
    """The same for each seed."""
    variance: float
    """Of the selectivity over the languages, English included, × 100; see :class:`mlc.evaluation.spread.Spread`."""
    pairwise_agreement: float
    """See :func:`mlc.evaluation.spread.pairwise_agreement`."""
    cost: Cost


AbilityGroup = Literal["english", "other"] | None


@dataclass(frozen=True)
class Ability:
    """One figure of what the methods' models can do beside refusing, see :class:`mlc.evaluation.skills.Skill`."""

    measure: str
    group: AbilityGroup
    """``english`` is the anchor language; None for a measure that is of no one language."""
    higher_is_better: bool
    values: Mapping[str, float]
    """By method: the mean over its seeds and the languages of the group."""


@dataclass(frozen=True)
class SetAside:
    """A method that the run went on without."""

    method: str
    label: str
    about: str
    reason: str
    """Why it could not be made or measured, in a sentence."""


@dataclass(frozen=True)
class MethodComparison:
    """All methods of a run on the same held-out prompts."""

    run: int
    candidate: str
    """Name of the method that the run judges; empty where its record does not say."""
    anchor: str
    """NLLB code."""
    languages: Mapping[str, tuple[str, ...]]
    """NLLB codes by group."""
    methods: tuple[MethodLine, ...]
    """The policy first, then as the configuration lists them."""
    set_aside: tuple[SetAside, ...] = ()
    """Those that could not be made or measured, as the configuration lists them."""
    abilities: tuple[Ability, ...] = ()
    """What the configuration asks for in ``evaluation.ability``."""


def compare_methods(store: ArtifactStore, record: RunRecord) -> MethodComparison:
    """Reads what a run measured of all its methods.

    Args:
        store: The workspace.
        record: The run.

    Raises:
        UserError: It evaluated nothing, or an artifact is no longer there.
    """
    reader = RunReader(store, record)
    there = {method_of(str(task["subject"])) for task in reader.tasks("evaluate")}
    listed = {resolve_method(name).name: resolve_method(name) for name in record.config.get("models", ())}
    names = [BASE, *(name for name in listed if name not in record.set_aside)]
    missing = [name for name in names if name not in there]
    if missing:
        raise UserError(f"Run {record.number} did not evaluate {missing[0]!r}: choose another run, or run again.")
    results = [result for name in names for result in reader.evaluations(name)]
    labels = {BASE: BASE_LABEL, **{name: method.label for name, method in listed.items()}}
    evaluations = Evaluations(results, labels=labels)
    trained = tuple(record.config.get("languages", ()))
    rows = {row.model: row for row in model_rows(evaluations, trained_languages=trained)}
    # A method of one's own is found where the configuration says, and not by its name.
    made_for = ([method.name for method in in_order([name])] for name in record.config.get("models", ()))
    chains = {chain[-1]: chain for chain in made_for}
    reads = record.config.get("serve", {}).get("reads", "prompt")
    costs = costs_of(store, ((task["stage"], task["subject"], task["key"]) for task in record.tasks))
    return MethodComparison(
        run=record.number,
        candidate=_candidate(record),
        anchor=evaluations.anchor,
        languages={group: members.languages for group, members in rows[BASE].groups.items()},
        methods=tuple(
            MethodLine(
                method=name,
                label=labels[name],
                about=listed[name].about if name in listed else "the policy as it is",
                needs=tuple(sorted(needs_of(listed[name], reads))) if name in listed else (),
                seeds=rows[name].seeds,
                groups={group: _estimates(members) for group, members in rows[name].groups.items()},
                by_seed={
                    group: {metric: figure.by_seed for metric, figure in members.figures.items()}
                    for group, members in rows[name].groups.items()
                },
                variance=spread(evaluations, name, "selectivity").variance,
                pairwise_agreement=pairwise_agreement(evaluations, name),
                cost=cost_of(chains.get(name, (name,)), costs),
            )
            for name in names
        ),
        set_aside=tuple(
            SetAside(name, method.label, method.about, record.set_aside[name])
            for name, method in listed.items()
            if name in record.set_aside
        ),
        abilities=_abilities(reader, evaluations.anchor),
    )


def _candidate(record: RunRecord) -> str:
    place = record.config.get("candidate")
    return resolve_method(place).name if place else ""


def _abilities(reader: RunReader, anchor: str) -> tuple[Ability, ...]:
    found: dict[tuple[str, AbilityGroup, bool], dict[str, list[float]]] = {}
    for task in (task for task in reader.record.tasks if task["stage"] == "ability"):
        rows = json.loads((reader.folder(task) / SKILLS_FILE).read_text(encoding="utf-8"))
        for skill in (one for own in read_skills(rows).values() for one in own):
            group: AbilityGroup = ("english" if skill.language == anchor else "other") if skill.language else None
            methods = found.setdefault((skill.measure, group, skill.higher_is_better), {})
            values = methods.setdefault(method_of(str(task["subject"])), [])
            if not math.isnan(skill.estimate.value):
                values.append(skill.estimate.value)
    return tuple(
        Ability(*place, {name: fmean(values) for name, values in methods.items() if values})
        for place, methods in found.items()
    )


def _estimates(members: GroupFigures) -> dict[Metric, Estimate]:
    return {metric: figure.estimate for metric, figure in members.figures.items()}
