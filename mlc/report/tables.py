"""The tables of a report, as cells of text."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, Literal

from mlc.evaluation.comparison import TABLE_METRICS, Evaluations, Figure, Group, ModelRow
from mlc.evaluation.judges.judge import OUTCOMES, Outcome
from mlc.evaluation.metrics import Metric, PromptGroup
from mlc.evaluation.paired import Change
from mlc.evaluation.results import Estimate, EvaluationResult, EvaluationSummary
from mlc.evaluation.skills import Skills, figure_of, lines_of
from mlc.evaluation.spread import pairwise_agreement, spread
from mlc.languages import ENGLISH
from mlc.left_out import LeftOut
from mlc.report.data import FunnelRow, Gate, MethodCost, TranslatorRow
from mlc.report.plots import KEPT, LanguageRow, reason_name, reasons_by_rows
from mlc.report.wording import (
    NOTHING,
    chance,
    check_words,
    checks_in_order,
    cost_cells,
    count,
    interval,
    language_name,
    language_place,
    metric_name,
    number,
    percent,
    setting,
    signed,
)

CHANGE_METRICS: tuple[Metric, ...] = ("selectivity", "attack_success", "harmless_refused", "harmless_invalid")
"""What the table of changes by language shows, on judged answers."""

_GROUP_METRICS: Mapping[Group, tuple[Metric, ...]] = {
    "english": TABLE_METRICS,
    "other": TABLE_METRICS,
    "trained": ("selectivity", "attack_success", "harmless_refused", "auroc"),
    "unseen": ("selectivity", "attack_success", "harmless_refused", "auroc"),
}
CLASSES: tuple[PromptGroup, ...] = ("harmful", "harmless")
_SPREAD_METRICS: tuple[Metric, ...] = ("selectivity", "attack_success", "harmless_refused", "auroc", "safety")
_REPRESENTATION: Mapping[str, Callable[[EvaluationSummary], float | None]] = {
    "Matched cosine": lambda summary: summary.matched_cosine,
    "Unmatched cosine": lambda summary: summary.unmatched_cosine,
    "Collinearity, raw": lambda summary: summary.collinearity,
    "Collinearity, centred": lambda summary: summary.centred_collinearity,
}

Tone = Literal["good", "bad", "void"]
_TONES: Mapping[tuple[PromptGroup, Outcome], Tone] = {
    ("harmful", "refused"): "good",
    ("harmful", "complied"): "bad",
    ("harmless", "refused"): "bad",
    ("harmless", "complied"): "good",
}
"""What an answer is to the person who decides; any other one is void."""
_SHOWN: tuple[tuple[PromptGroup, Outcome], ...] = (
    *(("harmful", "complied"), ("harmless", "refused")),
    *(("harmful", "refused"), ("harmless", "complied")),
    *((group, outcome) for outcome in ("invalid", "unsure") for group in CLASSES),
)
"""Columns of the heat map: what a release owner asks first, where a narrow screen shows it."""


@dataclass(frozen=True)
class Cell:
    """One figure in a table."""

    text: str
    small: tuple[str, ...] = ()
    """Lines below it in small print, such as the interval."""
    tone: Tone | None = None
    """What its colour says; none, if left out."""
    share: float = 0.0
    """How strong the colour is, 0 to 1."""


@dataclass(frozen=True)
class Line:
    """One row of a table: its head, then its cells."""

    head: str
    cells: tuple[Cell, ...]
    note: str = ""


@dataclass(frozen=True)
class Block:
    """Rows of a table under one heading."""

    title: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Table:
    """A table with blocks of rows."""

    columns: tuple[Cell, ...]
    blocks: tuple[Block, ...]


def models_table(evaluations: Evaluations, rows: Sequence[ModelRow], pair: tuple[str, str] | None) -> Table:
    """The models side by side, figures from top to bottom, and the difference that the verdict is about.

    What decides comes first, where a narrow screen shows it: the candidate, the difference, then the other models.
    """
    columns = [Cell("n"), *(Cell(evaluations.label(row.model), (_seeds(row),)) for row in rows)]
    if pair:
        columns.append(Cell("Difference", (" − ".join(map(evaluations.label, pair)),)))
    blocks = [
        Block(
            _group_title(group, rows[0].groups[group].languages),
            tuple(_group_lines(evaluations, rows, group, pair)),
        )
        for group in rows[0].groups
    ]
    lines = _spread_lines(evaluations, rows, padded=pair is not None)
    if lines:
        blocks.append(Block("Over all languages", tuple(lines)))
    return _ordered(Table(tuple(columns), tuple(blocks)), _deciding_first([row.model for row in rows], pair))


def _deciding_first(models: Sequence[str], pair: tuple[str, str] | None) -> list[int]:
    """Order of the columns n, models, difference: candidate, difference, other models, n."""
    places = {model: place for place, model in enumerate(models, start=1)}
    first = [places.pop(pair[0]), len(models) + 1] if pair else []
    return [*first, *places.values(), 0]


def _ordered(table: Table, order: Sequence[int]) -> Table:
    """A table with its columns in another order."""

    def cells(given: tuple[Cell, ...]) -> tuple[Cell, ...]:
        return tuple(given[place] for place in order)

    blocks = (
        Block(block.title, tuple(replace(line, cells=cells(line.cells)) for line in block.lines))
        for block in table.blocks
    )
    return Table(cells(table.columns), tuple(blocks))


def gate_table(gate: Gate, order: Sequence[str] = (ENGLISH,)) -> Table:
    """Every check of the gate, failed ones first; few columns, so that a narrow screen shows what decides.

    Args:
        gate: The decision.
        order: Languages as the other tables have them, see :func:`mlc.report.wording.language_place`.
    """
    blocks = []
    for passed, title in ((False, "Failed"), (True, "Passed")):
        lines = []
        for row in checks_in_order(gate.checks, order):
            if row["passed"] == passed:
                name, place, value, bounds, demand, verdict, n = check_words(row)
                cells = (Cell(place), Cell(value, () if bounds == NOTHING else (bounds,)), Cell(verdict))
                lines.append(Line(name, (*cells, Cell(n)), demand))
        if lines:
            blocks.append(Block(title, tuple(lines)))
    columns = tuple(map(Cell, ("where", "value", "verdict", "n")))
    return Table(columns, tuple(blocks))


def changes_tables(
    evaluations: Evaluations, pair: tuple[str, str] | None, champion: str | None, order: Sequence[str] = (ENGLISH,)
) -> dict[str, Table]:
    """What changed in each language, by what it is held against: the live champion, then the baseline.

    Nothing stands for a model where no answers were judged.
    """
    if pair is None:
        return {}
    candidate, baseline = pair
    others = {champion: "the live champion"} if champion in evaluations.models else {}
    tables = {}
    for other, called in {**others, baseline: evaluations.label(baseline)}.items():
        if table := _changes_table(evaluations, candidate, str(other), order):
            tables[called] = table
    return tables


def _changes_table(evaluations: Evaluations, candidate: str, other: str, order: Sequence[str]) -> Table | None:
    changes = {
        metric: evaluations.by_language(baseline=other, candidate=candidate, metric=metric) for metric in CHANGE_METRICS
    }
    lines = []
    for code in sorted(changes["selectivity"], key=lambda code: language_place(code, order)):
        found = [changes[metric][code] for metric in CHANGE_METRICS]
        if any(one.estimate.n for one in found):
            lines.append(Line(language_name(code), tuple(map(_change_cell, found))))
    if not lines:
        return None
    columns = tuple(Cell(metric_name(metric, evaluations.anchor)) for metric in CHANGE_METRICS)
    return Table(columns, (Block(" − ".join(map(evaluations.label, (candidate, other))), tuple(lines)),))


def _spread_lines(evaluations: Evaluations, rows: Sequence[ModelRow], *, padded: bool) -> list[Line]:
    """Worst language, gap to the anchor and variance of the main figures, and the agreement between languages."""
    padding = (Cell(""),) if padded else ()
    anchor = language_name(evaluations.anchor)
    lines = []
    for metric in _SPREAD_METRICS:
        spreads = [spread(evaluations, row.model, metric) for row in rows]
        if all(math.isnan(found.variance) for found in spreads):
            continue
        name = metric_name(metric, evaluations.anchor)
        worst = [
            Cell(number(found.worst.value), tuple(filter(None, (interval(found.worst), _name(found.worst_language)))))
            for found in spreads
        ]
        lines.append(Line(f"{name}, worst language", (Cell(NOTHING), *worst, *padding)))
        gaps = [_difference_cell(found.gap) for found in spreads]
        lines.append(Line(f"{name}, gap to {anchor}", (Cell(NOTHING), *gaps, *padding), f"others − {anchor}"))
        variances = [Cell(number(found.variance)) for found in spreads]
        lines.append(Line(f"{name}, variance", (Cell(NOTHING), *variances, *padding), "over languages, × 100"))
    agreements = [pairwise_agreement(evaluations, row.model) for row in rows]
    if not all(map(math.isnan, agreements)):
        cells = (Cell(NOTHING), *(Cell(number(value)) for value in agreements), *padding)
        lines.append(Line("Same outcome in two languages", cells, "PAG"))
    return lines


def _name(code: str | None) -> str:
    return language_name(code) if code else ""


def languages_table(
    evaluations: Evaluations, languages: Sequence[LanguageRow], results: Sequence[EvaluationResult]
) -> Table:
    """Every language with every model, averaged over seeds."""
    representation = {
        name: read for name, read in _REPRESENTATION.items() if any(read(r.summary) is not None for r in results)
    }
    metrics = [metric for metric in TABLE_METRICS if any(_there(result, metric) for result in results)]
    columns = (
        *(Cell(metric_name(metric, evaluations.anchor)) for metric in metrics),
        *(Cell(name) for name in representation),
    )
    blocks = []
    for row in languages:
        lines = []
        for model in evaluations.models:
            if row.code not in evaluations.languages(model):
                continue
            figures = [evaluations.average(model, [row.code], metric).estimate for metric in metrics]
            states = [mean_over_seeds(results, model, row.code, read) for read in representation.values()]
            cells = (*map(_estimate_cell, figures), *(Cell(number(value)) for value in states))
            lines.append(Line(evaluations.label(model), cells))
        blocks.append(Block(f"{row.label} · {row.code}", tuple(lines)))
    return Table(columns, tuple(blocks))


def outcomes_table(
    evaluations: Evaluations, languages: Sequence[LanguageRow], first: str | None = None
) -> Table | None:
    """A heat map of what became of the prompts of each class, by model and language; None without answers.

    Shares of the answers that the deciding judge judged, over all seeds.

    Args:
        evaluations: Of all models.
        languages: From top to bottom.
        first: The model that is shown first; in their own order, if left out.
    """
    blocks = []
    for model in sorted(evaluations.models, key=lambda name: name != first):
        lines = []
        for row in languages:
            if row.code not in evaluations.languages(model):
                continue
            found = outcome_shares(evaluations, model, row.code)
            if not any(total for _, total in found.values()):
                continue
            cells = [_share_cell(group, outcome, found[group][0][outcome]) for group, outcome in _SHOWN]
            counts = " / ".join(str(total) for _, total in found.values())
            lines.append(Line(row.label, (*cells, Cell(counts))))
        if lines:
            blocks.append(Block(evaluations.label(model), tuple(lines)))
    if not blocks:
        return None
    columns = [Cell(f"{group}: {outcome}") for group, outcome in _SHOWN]
    return Table((*columns, Cell("judged", (" / ".join(CLASSES),))), tuple(blocks))


def _share_cell(group: PromptGroup, outcome: Outcome, share: float) -> Cell:
    if math.isnan(share):
        return Cell(NOTHING)
    return Cell(percent(share), tone=_TONES.get((group, outcome), "void"), share=share)


def outcome_shares(
    evaluations: Evaluations, model: str, language: str
) -> dict[PromptGroup, tuple[dict[Outcome, float], int]]:
    """Share of each outcome among the judged answers of a class of prompts, over all seeds, and their number."""
    found: dict[PromptGroup, tuple[dict[Outcome, float], int]] = {}
    for group in CLASSES:
        given: list[str | None] = []
        for seed in evaluations.seeds(model):
            prompts = evaluations.prompts(model, seed, language)
            given += [outcome for outcome in prompts.outcomes[prompts.group(group)] if outcome is not None]
        total = len(given)
        found[group] = {name: given.count(name) / total if total else math.nan for name in OUTCOMES}, total
    return found


def answers_table(
    evaluations: Evaluations, languages: Sequence[LanguageRow], results: Sequence[EvaluationResult]
) -> Table | None:
    """Counts of answers by judge and outcome, summed over seeds; None where fewer than two judges judged."""
    judges = sorted({judge for result in results for judge in result.summary.answers})
    if len(judges) < 2:
        return None
    blocks = []
    for judge in judges:
        lines = []
        for row in languages:
            cells = []
            for model in evaluations.models:
                counts = [
                    result.summary.answers[judge]
                    for result in results
                    if (result.summary.model, result.summary.language) == (model, row.code)
                    and any(result.summary.answers.get(judge, {}).values())
                ]
                totals = [str(sum(answers.get(outcome, 0) for answers in counts)) for outcome in OUTCOMES]
                cells.append(Cell(" / ".join(totals) if counts else NOTHING))
            lines.append(Line(row.label, tuple(cells)))
        blocks.append(Block(f"Judge: {judge}", tuple(lines)))
    return Table(tuple(Cell(evaluations.label(model)) for model in evaluations.models), tuple(blocks))


def funnel_table(rows: Sequence[FunnelRow]) -> Table | None:
    """Rows kept and dropped by language and reason; None where nothing was filtered."""
    if not rows:
        return None
    counts = {(row.language, row.reason): row for row in rows}
    reasons = [KEPT, *reasons_by_rows(rows)]
    lines = []
    for code in sorted({row.language for row in rows}, key=language_name):
        total = sum(row.rows for row in rows if row.language == code)
        kept = counts.get((code, KEPT))
        cells = [Cell(str(counts[code, reason].rows) if (code, reason) in counts else "0") for reason in reasons]
        share = f"{100 * kept.share:.1f} %" if kept else NOTHING
        lines.append(Line(language_name(code), (Cell(str(total)), *cells, Cell(share))))
    columns = ("translated", *(reason_name(reason) for reason in reasons), "kept share")
    return Table(tuple(Cell(column) for column in columns), (Block("", tuple(lines)),))


def translators_table(rows: Sequence[TranslatorRow]) -> Table | None:
    """What each translator brought, by language; None where one was asked and refused nothing."""
    if not rows:
        return None
    blocks: dict[str, list[Line]] = {}
    for row in sorted(rows, key=lambda row: language_name(row.language)):
        cells = tuple(Cell(str(count)) for count in (row.asked, row.refused, row.kept))
        blocks.setdefault(language_name(row.language), []).append(Line(row.translator, cells))
    columns = tuple(map(Cell, ("prompts asked", "refused", "kept")))
    return Table(columns, tuple(Block(language, tuple(lines)) for language, lines in blocks.items()))


def left_out_table(left_out: Sequence[tuple[str, LeftOut]]) -> Table | None:
    """What the run went without, by the part of it; None where nothing is left out."""
    if not left_out:
        return None
    blocks: dict[str, list[Line]] = {}
    for where, given in left_out:
        named = replace(given, language=given.language and language_name(given.language))
        cells = (Cell(str(given.rows)), Cell(str(given.of)), Cell(f"{100 * given.share:.1f} %"))
        blocks.setdefault(where, []).append(Line(f"{named.what} that {named.why}", cells))
    columns = tuple(map(Cell, ("left out", "of", "share")))
    return Table(columns, tuple(Block(where, tuple(lines)) for where, lines in blocks.items()))


def skills_table(skills: Skills) -> Table | None:
    """What models can do beside refusing, a line for each measure and language; None where nothing was measured."""
    if not skills:
        return None
    blocks: dict[str, list[Line]] = {}
    for measure, language, higher in lines_of(skills):
        figures = (figure_of(own, measure, language) for own in skills.values())
        cells = [Cell(NOTHING) if figure is None else _estimate_cell(figure) for figure in figures]
        title = f"{measure}, {'higher' if higher else 'lower'} is better" if language else "Tasks of the harness"
        head = _name(language) or f"{measure}, {'higher' if higher else 'lower'} is better"
        blocks.setdefault(title, []).append(Line(head, tuple(cells)))
    return Table(tuple(map(Cell, skills)), tuple(Block(title, tuple(lines)) for title, lines in blocks.items()))


def costs_table(costs: Sequence[MethodCost], labels: Mapping[str, str]) -> Table | None:
    """What one model of each method takes; None where nobody knows."""
    if not costs:
        return None

    lines = [
        Line(labels.get(cost.method, cost.method), tuple(map(Cell, cost_cells(cost, cost.needs)))) for cost in costs
    ]
    heads = ("Seconds", "Seconds of its own", "Tokens", "GiB", "Data beside the policy")
    return Table(tuple(map(Cell, heads)), (Block("", tuple(lines)),))


def search_table(
    searches: Mapping[tuple[str, int | None, str], Sequence[Mapping[str, Any]]],
    labels: Mapping[str, str],
    anchor: str = ENGLISH,
) -> Table | None:
    """Every trial of every search, the winner marked; None where nothing was searched."""
    if not searches:
        return None
    names = ("layers", "gamma", "ridge", "rank")
    figures = {
        "Margin AUROC": "auroc",
        "Margin safety rate": "safety",
        "Margin over-refusal": "over_refusal",
        "Bits per character": "bits",
    }
    own = {f"Margin AUROC, {language_name(anchor)}": "auroc", f"Bits, {language_name(anchor)}": "bits"}
    blocks = []
    several = len({model for model, _, _ in searches}) > 1
    for (model, seed, code), rows in sorted(searches.items(), key=_search_order):
        lines = []
        for row in rows:
            cells = [Cell(setting(row.get(name)) if name in row else "") for name in names]
            cells += [Cell(number(row[f"{figure}.{code}"])) for figure in figures.values()]
            cells += [Cell(number(row[f"{figure}.{anchor}"])) for figure in own.values()]
            cells.append(Cell("best" if row["best"] else row["broken"]))
            lines.append(Line(row["trial"], tuple(cells)))
        title = [language_name(code), *([labels.get(model, model)] if several else [])]
        title += [] if seed is None else [f"seed {seed}"]
        blocks.append(Block(" · ".join(title), tuple(lines)))
    columns = (*names, *figures, *own, "")
    return Table(tuple(Cell(column) for column in columns), tuple(blocks))


def _search_order(item: tuple[tuple[str, int | None, str], Any]) -> tuple[str, int, str]:
    (model, seed, code), _ = item
    return model, seed or 0, language_name(code)


def mean_over_seeds(
    results: Sequence[EvaluationResult],
    model: str,
    language: str,
    read: Callable[[EvaluationSummary], float | None],
) -> float | None:
    """Mean of a figure of the summaries over the seeds that have it; None where none has."""
    summaries = [r.summary for r in results if (r.summary.model, r.summary.language) == (model, language)]
    values = [value for value in map(read, summaries) if value is not None and not math.isnan(value)]
    return fmean(values) if values else None


def _group_title(group: Group, languages: Sequence[str]) -> str:
    titles = {
        "english": ", ".join(map(language_name, languages)),
        "other": f"Mean of {count(len(languages), 'other language')}",
        "trained": f"Of these, {count(len(languages), 'trained language')}",
        "unseen": f"Of these, {count(len(languages), 'unseen language')}",
    }
    return titles[group]


def _group_lines(
    evaluations: Evaluations, rows: Sequence[ModelRow], group: Group, pair: tuple[str, str] | None
) -> list[Line]:
    lines = []
    for metric in _GROUP_METRICS[group]:
        figures = [row.groups[group].figures[metric] for row in rows]
        if all(figure.estimate.n == 0 for figure in figures):
            continue
        cells = [Cell(_span([figure.estimate.n for figure in figures])), *map(_figure_cell, figures)]
        if pair:
            candidate, baseline = pair
            languages = rows[0].groups[group].languages
            cells.append(
                _difference_cell(
                    evaluations.compare(baseline=baseline, candidate=candidate, languages=languages, metric=metric)
                )
            )
        lines.append(Line(metric_name(metric, evaluations.anchor), tuple(cells)))
    return lines


def _there(result: EvaluationResult, metric: Metric) -> bool:
    figure: Estimate = getattr(result.summary, metric)
    return figure.n > 0


def _estimate_cell(figure: Estimate) -> Cell:
    return Cell(number(figure.value), tuple(filter(None, [interval(figure)])))


def _figure_cell(figure: Figure) -> Cell:
    cell = _estimate_cell(figure.estimate)
    values = [value for _, value in figure.by_seed]
    if len(values) < 2 or not cell.small:
        return cell
    return Cell(cell.text, (*cell.small, f"seeds {number(min(values))} to {number(max(values))}"))


def _change_cell(change: Change) -> Cell:
    cell = _difference_cell(change.estimate)
    return replace(cell, small=(*cell.small, f"p {chance(change.p)}")) if change.estimate.n else cell


def _difference_cell(change: Estimate) -> Cell:
    return Cell(signed(change.value), tuple(filter(None, [interval(change)])))


def _seeds(row: ModelRow) -> str:
    seeds = [seed for seed in row.seeds if seed is not None]
    return count(len(seeds), "seed") if seeds else "no seed"


def _span(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low} to {high}"
