"""Two runs beside each other: settings, languages, and the candidates' figures on the prompts that both have."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from flows.looking.figures import run_line
from flows.looking.reading import RunReader, candidate_of
from mlc.errors import UserError
from mlc.evaluation.comparison import Evaluations
from mlc.evaluation.metrics import LOWER_IS_BETTER, Metric
from mlc.evaluation.paired import Change
from mlc.evaluation.results import Estimate, EvaluationResult, anchor_of
from mlc.languages import resolve_language
from mlc.store import ArtifactStore
from mlc.store.runs import RunRecord
from mlc.urls import redacted

ANSWERED: tuple[Metric, ...] = ("selectivity", "attack_success", "harmless_refused", "harmless_invalid")
"""What is compared where both candidates answered."""
UNANSWERED: tuple[Metric, ...] = ("selectivity_at_english_threshold", "safety", "over_refusal")
"""What is compared where one of them did not."""
NOT_COMPARED = {"name", "workspace"}
"""Settings that say nothing of a result."""
BEFORE, AFTER = "before", "after"
CHANCE = 0.05
"""p-value below which a difference is shown."""


@dataclass(frozen=True)
class SettingChange:
    """A setting that the two runs have different values of."""

    key: str
    before: str | None
    """As JSON; None where the run has no such setting."""
    after: str | None


@dataclass(frozen=True)
class LanguageFigures:
    """One figure of both candidates in one language, on the prompts that both have."""

    before: Estimate
    after: Estimate
    change: Change
    """The second minus the first; its p-value is adjusted for the number of languages (Holm, 1979)."""

    def tone(self, metric: Metric) -> Literal["better", "worse"] | None:
        """What the difference is, where one is shown; None elsewhere."""
        if math.isnan(self.change.p) or self.change.p >= CHANCE:
            return None
        return "better" if (self.change.estimate.value > 0) is (metric not in LOWER_IS_BETTER) else "worse"


@dataclass(frozen=True)
class Comparison:
    """Two runs."""

    runs: tuple[int, int]
    candidates: tuple[str, str]
    gates: tuple[str | None, str | None]
    """``passed`` or ``failed``; None where a run came to no decision."""
    versions: tuple[str | None, str | None]
    """Registered versions."""
    settings: tuple[SettingChange, ...]
    gained: tuple[str, ...]
    """NLLB codes that only the second candidate was evaluated in."""
    lost: tuple[str, ...]
    """Those that only the first one was."""
    notes: tuple[str, ...]
    """What is not alike and cannot be seen in the settings, in sentences."""
    anchor: str
    """NLLB code of the language that thresholds were set in."""
    figures: Mapping[Metric, Mapping[str, LanguageFigures]]
    """By metric and language."""
    mean: Mapping[Metric, Estimate]
    """The difference averaged over the languages that both have, English included."""


def compare_runs(store: ArtifactStore, first: RunRecord, second: RunRecord) -> Comparison:
    """Holds the candidate of one run against that of another.

    Args:
        store: The workspace.
        first: The run to subtract.
        second: The run to judge.

    Raises:
        UserError: It is one run, a candidate was not evaluated, or they share no language or no prompt.
    """
    if first.number == second.number:
        raise UserError(f"Both are run {first.number}: name two runs.")
    readers = RunReader(store, first), RunReader(store, second)
    candidates, lines = (candidate_of(first), candidate_of(second)), (run_line(store, first), run_line(store, second))
    before, after = (reader.evaluations(name) for reader, name in zip(readers, candidates, strict=True))
    languages = [{result.summary.language for result in results} for results in (before, after)]
    both = sorted(languages[0] & languages[1])
    if not both:
        raise UserError(
            f"The candidates of runs {first.number} and {second.number} share no language: nothing to compare."
        )
    notes = _judges(before, after)
    shared = {code: _shared(*readers, code) for code in both}
    notes += [note for code in both for note in _difference(shared[code], code, (before, after))]
    before, after, seeds = _with_seeds_in_common(before, after)
    evaluations = Evaluations([*_named(before, BEFORE, shared), *_named(after, AFTER, shared)])
    metrics = compared_metrics(before, after)
    return Comparison(
        runs=(first.number, second.number),
        candidates=candidates,
        gates=(lines[0].gate, lines[1].gate),
        versions=(lines[0].version, lines[1].version),
        settings=changed_settings(first.config, second.config),
        gained=tuple(sorted(languages[1] - languages[0])),
        lost=tuple(sorted(languages[0] - languages[1])),
        notes=(*notes, *seeds),
        anchor=anchor_of([*before, *after]),
        figures={metric: _figures(evaluations, metric) for metric in metrics},
        mean={
            metric: evaluations.compare(baseline=BEFORE, candidate=AFTER, languages=both, metric=metric)
            for metric in metrics
        },
    )


def compared_metrics(before: Sequence[EvaluationResult], after: Sequence[EvaluationResult]) -> tuple[Metric, ...]:
    """What two candidates can be compared by: their answers, where both answered."""
    return ANSWERED if all(len(result.outcomes) for result in (*before, *after)) else UNANSWERED


def figures_of_both(
    before: Sequence[EvaluationResult], after: Sequence[EvaluationResult], shared: Mapping[str, set[str]]
) -> dict[Metric, dict[str, LanguageFigures]]:
    """What two models did, on prompts that both have, by metric and language.

    Args:
        before: Of one model and seed, a result for each language.
        after: Of the other one.
        shared: Ids of the prompts that are the same, by language.
    """
    evaluations = Evaluations([*_named(before, BEFORE, shared), *_named(after, AFTER, shared)])
    return {metric: _figures(evaluations, metric) for metric in compared_metrics(before, after)}


def changed_settings(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[SettingChange, ...]:
    """Settings of two configurations that differ, by dotted key; secrets in addresses are hidden."""
    flat = [flat_settings(config) for config in (before, after)]
    keys = sorted(flat[0].keys() | flat[1].keys())
    values = [(key, flat[0].get(key), flat[1].get(key)) for key in keys if key not in NOT_COMPARED]
    return tuple(SettingChange(key, old, new) for key, old, new in values if old != new)


def flat_settings(config: Mapping[str, Any]) -> dict[str, str]:
    """Every setting as JSON, by dotted key; secrets in addresses are hidden."""
    return dict(_flat(config))


def _flat(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        return [
            line for name, inner in value.items() for line in _flat(inner, f"{prefix}.{name}" if prefix else str(name))
        ]
    return [(prefix, redacted(json.dumps(value, ensure_ascii=False)))]


def _judges(before: Sequence[EvaluationResult], after: Sequence[EvaluationResult]) -> list[str]:
    judges = [sorted({result.summary.judge or "none" for result in results}) for results in (before, after)]
    if judges[0] == judges[1]:
        return []
    told = " and by ".join(", ".join(names) for names in judges)
    return [f"The answers were judged by {told}, so that a difference may be one of the judges."]


def _shared(first: RunReader, second: RunReader, language: str) -> set[str]:
    """Ids of the held-out prompts that both have in a language, word for word."""
    texts, others = first.held_out(language), second.held_out(language)
    return {name for name, text in texts.items() if others.get(name) == text}


def _difference(
    shared: set[str], language: str, results: tuple[Sequence[EvaluationResult], Sequence[EvaluationResult]]
) -> list[str]:
    """What to say of the test prompts of a language; nothing if they are the same."""
    ids = [
        {name for result in one if result.summary.language == language for name in _test_ids(result)} for one in results
    ]
    name, both = resolve_language(language).english_name, len(ids[0] & ids[1] & shared)
    if not both:
        raise UserError(
            f"The two runs share no held-out prompt in {name} ({language}), so that nothing can be compared: evaluate "
            "both on the same prompts."
        )
    if ids[0] == ids[1] and both == len(ids[0]):
        return []
    return [
        f"The held-out prompts in {name} differ: of {len(ids[0])} and {len(ids[1])} test prompts, the {both} that are "
        "the same in both are compared."
    ]


def _test_ids(result: EvaluationResult) -> list[str]:
    ids: list[str] = result.rows.filter(pc.equal(result.rows["split"], "test"))["id"].to_pylist()
    return ids


def _with_seeds_in_common(
    before: list[EvaluationResult], after: list[EvaluationResult]
) -> tuple[list[EvaluationResult], list[EvaluationResult], list[str]]:
    """Results whose seeds can be paired: where no seed is in both, they are numbered in their order."""
    seeds = [sorted({result.summary.seed for result in results}, key=str) for results in (before, after)]
    if set(seeds[0]) & set(seeds[1]) or None in (*seeds[0], *seeds[1]):
        return before, after, []
    numbered = [
        [replace(one, summary=replace(one.summary, seed=own.index(one.summary.seed))) for one in results]
        for own, results in zip(seeds, (before, after), strict=True)
    ]
    told = " with ".join(", ".join(map(str, own)) for own in seeds)
    return numbered[0], numbered[1], [f"The runs share no seed: seeds {told} are compared in their order."]


def _named(results: Sequence[EvaluationResult], name: str, shared: Mapping[str, set[str]]) -> list[EvaluationResult]:
    """Results under another name, of the shared languages, with the shared prompts alone."""
    return [
        EvaluationResult(
            replace(result.summary, model=name),
            _with_ids(result.rows, shared[result.summary.language]),
            _with_ids(result.outcomes, shared[result.summary.language]),
        )
        for result in results
        if result.summary.language in shared
    ]


def _with_ids(rows: pa.Table, ids: set[str]) -> pa.Table:
    return rows.filter(pc.is_in(rows["id"], value_set=pa.array(sorted(ids), pa.string())))


def _figures(evaluations: Evaluations, metric: Metric) -> dict[str, LanguageFigures]:
    changes = evaluations.by_language(baseline=BEFORE, candidate=AFTER, metric=metric)
    return {
        code: LanguageFigures(
            before=evaluations.average(BEFORE, [code], metric).estimate,
            after=evaluations.average(AFTER, [code], metric).estimate,
            change=change,
        )
        for code, change in changes.items()
    }
