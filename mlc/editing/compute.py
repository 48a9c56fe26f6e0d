"""From parallel prompts to a delta: statistics, safety units, closed form."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from mlc.editing.apply import AppliedEdit, apply_deltas
from mlc.editing.architecture import PROJECTIONS, EditableMLP, editable_mlps
from mlc.editing.collect import BATCH_SIZE, LayerStatistics, check_prompts, collect_statistics
from mlc.editing.delta import EditDelta, Place, ProjectionDelta, Shape
from mlc.editing.settings import EditSettings
from mlc.editing.solve import factorise, solve
from mlc.editing.units import SafetyUnits, choose_units
from mlc.evaluation.parallel import ParallelPrompts
from mlc.models.bounds import resolve_layers
from mlc.models.loading import Policy
from mlc.models.prefix import unwrapped
from mlc.stopping import ShouldStop, never


def compute_edit(
    policy: Policy,
    prompts: ParallelPrompts,
    settings: EditSettings,
    *,
    batch_size: int = BATCH_SIZE,
    on_texts: Callable[[int], None] | None = None,
    should_stop: ShouldStop = never,
) -> EditDelta:
    """Computes the edit that makes harmful prompts in other languages act on the safety units as in English.

    Several languages give one delta that fits all of their prompts together; for deltas that can be added and taken
    out apart, call this once a language.

    Args:
        policy: The model; the same afterwards.
        prompts: Parallel prompts with labels, English first.
        settings: The edit.
        batch_size: Texts in a forward pass.
        on_texts: Called with the number of texts just read; each text is read once, or once a layer and once more if
            the layers are sequential.
        should_stop: Looked at before each batch.

    Returns:
        The delta; empty where no layer has a safety unit. Its facts hold the settings, the numbers of prompts, and by
        layer the share of safety units, the Jaccard index between the units found in English and in each language,
        the penalties of the formula, and rank and kept share of each projection.

    Raises:
        UserError: The model cannot be edited, the prompts do not suffice, or the edit has no unique solution.
        Stopped: It was asked to stop.
    """
    mlps = editable_mlps(policy.model)
    layers = resolve_layers(settings.layers, len(mlps))
    check_prompts(prompts, settings)
    collect = partial(
        collect_statistics,
        policy,
        prompts,
        settings=settings,
        batch_size=batch_size,
        on_texts=on_texts,
        should_stop=should_stop,
    )
    statistics = collect(layers)
    if not settings.sequential:
        return solve_delta(policy, statistics, prompts, settings)
    units = {layer: units_by_language(found, settings) for layer, found in statistics.items()}
    parts: dict[Place, ProjectionDelta] = {}
    facts: list[dict[str, Any]] = []
    applied: list[AppliedEdit] = []
    try:
        for layer in layers:
            if applied:
                statistics = collect([layer], applied=applied)
            solved, told = _solve_layer(mlps[layer], statistics[layer], units[layer], settings)
            facts.append(told)
            parts |= solved
            if solved:
                applied.append(apply_deltas(policy.model, [_delta(policy, mlps, prompts, settings, solved, [])]))
    finally:
        for one in reversed(applied):
            one.revert()
    return _delta(policy, mlps, prompts, settings, parts, facts)


def solve_delta(
    policy: Policy, statistics: Mapping[int, LayerStatistics], prompts: ParallelPrompts, settings: EditSettings
) -> EditDelta:
    """The edit of layers whose statistics are there, each on the inputs that the unedited model gives.

    Args:
        policy: The model.
        statistics: From :func:`mlc.editing.collect.collect_statistics`; layers that the settings do not name are left
            out.
        prompts: The prompts that they were made from.
        settings: The edit.

    Raises:
        UserError: The edit has no unique solution.
    """
    mlps = editable_mlps(policy.model)
    parts: dict[Place, ProjectionDelta] = {}
    facts = []
    for layer in resolve_layers(settings.layers, len(mlps)):
        found = statistics[layer]
        solved, told = _solve_layer(mlps[layer], found, units_by_language(found, settings), settings)
        parts |= solved
        facts.append(told)
    return _delta(policy, mlps, prompts, settings, parts, facts)


def units_by_language(statistics: LayerStatistics, settings: EditSettings) -> dict[str, SafetyUnits]:
    """The safety units of a layer as each language's own prompts show them; the edit takes those of the first.

    Languages without a prompt of either class are left out.
    """
    return {
        language: choose_units(found, settings.units)
        for language, found in statistics.units.items()
        if found.harmful["gate_proj"].count and found.harmless["gate_proj"].count
    }


def _solve_layer(
    mlp: EditableMLP, statistics: LayerStatistics, units: Mapping[str, SafetyUnits], settings: EditSettings
) -> tuple[dict[Place, ProjectionDelta], dict[str, Any]]:
    anchor = next(iter(units))
    english = units[anchor]
    gamma, ridge = statistics.edit.scaled(settings.gamma, settings.ridge, settings.scale)
    told: dict[str, Any] = {
        "layer": mlp.layer,
        "share_of_units": english.share,
        "jaccard_with_english": {code: one.jaccard(english) for code, one in units.items() if code != anchor},
        "gamma": gamma,
        "ridge": ridge,
    }
    parts: dict[Place, ProjectionDelta] = {}
    if not english.count:
        return parts, told
    r_DD = factorise(statistics.edit, gamma, ridge)
    for name in PROJECTIONS:
        units_m = english.indices[name]
        told[name] = {"units": len(units_m), "rank": 0, "kept": 1.0}
        if not len(units_m):
            continue
        weights_Dm = mlp.projection(name).weight.detach()[units_m].T
        found = solve(r_DD, statistics.edit, weights_Dm, settings.rank)
        told[name] |= {"rank": found.rank, "kept": found.kept}
        # Where the inputs are the same in both languages there is nothing to repair.
        if found.rank:
            parts[mlp.layer, name] = ProjectionDelta(units_m.cpu(), found.left_Dr.cpu(), found.right_rm.cpu())
    return parts, told


def _delta(
    policy: Policy,
    mlps: Sequence[EditableMLP],
    prompts: ParallelPrompts,
    settings: EditSettings,
    parts: Mapping[Place, ProjectionDelta],
    layers: Sequence[Mapping[str, Any]],
) -> EditDelta:
    counts = {
        language: {
            label: sum(
                found == label and texts[column] is not None
                for found, texts in zip(prompts.labels, prompts.texts, strict=True)
            )
            for label in ("harmful", "harmless")
        }
        for column, language in enumerate(prompts.languages)
    }
    facts = {
        "model": policy.source.identity,
        "settings": settings.model_dump(mode="json"),
        "prompts": counts,
        "layers": [dict(one) for one in layers],
    }
    return EditDelta(Shape.of(unwrapped(policy.model), mlps), prompts.languages[1:], dict(parts), facts)
