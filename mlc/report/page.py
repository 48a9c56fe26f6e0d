"""Puts a report together."""

import base64
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from mlc.errors import UserError
from mlc.evaluation.comparison import Evaluations, model_rows
from mlc.evaluation.metrics import Metric, PromptGroup
from mlc.evaluation.results import Estimate, EvaluationResult
from mlc.report.data import ReportData
from mlc.report.export import funnel_csv, outcomes_csv, results_csv
from mlc.report.outcome_plot import Shares, plot_outcomes
from mlc.report.plots import (
    LanguageRow,
    Pair,
    Plot,
    plot_auroc,
    plot_funnel,
    plot_refusals,
    plot_representation,
    plot_training,
)
from mlc.report.prompts import HELD_OUT, LONGEST_TEXT, SHOWN_ROWS, choices, prompt_rows, texts_of
from mlc.report.tables import (
    CLASSES,
    Table,
    answers_table,
    changes_tables,
    costs_table,
    funnel_table,
    gate_table,
    languages_table,
    left_out_table,
    mean_over_seeds,
    models_table,
    outcome_shares,
    outcomes_table,
    search_table,
    skills_table,
    translators_table,
)
from mlc.report.verdict import champion_sentence, failed_places, gate_sentence, verdict
from mlc.report.wording import language_name, named, setting

PAGE_FILE = "report.html"
RESULTS_FILE = "results.csv"
FUNNEL_FILE = "funnel.csv"
OUTCOMES_FILE = "outcomes.csv"


def render(data: ReportData, folder: Path) -> None:
    """Writes the report of a run.

    ``report.html`` is one self-contained page: its only links are to files beside it, its only script filters a table
    that is whole without it, and nothing is loaded. The plots lie beside it as PNG, and ``results.csv`` has one row for
    each model, seed and language, ``outcomes.csv`` one for each judged answer, ``funnel.csv`` one for each language and
    reason. The same data gives the same bytes, in every order of the results. Safe to call in threads.

    Args:
        data: What to show.
        folder: Where to write; it is made if need be, and files of the same names are replaced.

    Raises:
        UserError: There are no results, or one is given twice.
    """
    if not data.results:
        raise UserError("There are no evaluation results to report: evaluate at least one model first.")
    results = sorted(data.results, key=_result_order)
    evaluations = Evaluations(results, labels=data.labels)
    pair = data.compared if data.compared and set(data.compared) <= set(evaluations.models) else None
    rows = _language_rows(evaluations, data)
    order = [row.code for row in rows]
    plots = list(_plots(evaluations, rows, data, results))
    suites = {name: _suite_tables(data, name, pair[0] if pair else None) for name in sorted(data.suites)}
    folder.mkdir(parents=True, exist_ok=True)
    for plot in plots:
        (folder / plot.file).write_bytes(plot.png)
    every = [*results, *(result for name in sorted(data.suites) for result in _of_suite(data, name))]
    (folder / RESULTS_FILE).write_text(results_csv(every), encoding="utf-8", newline="")
    answered = prompt_rows(every, data.labels)
    downloads = {RESULTS_FILE: "every figure by model, seed and language"}
    if answered:
        (folder / OUTCOMES_FILE).write_text(outcomes_csv(answered), encoding="utf-8", newline="")
        downloads[OUTCOMES_FILE] = "every judged answer by prompt, without texts"
    if data.funnel:
        downloads[FUNNEL_FILE] = "what the filter dropped"
        (folder / FUNNEL_FILE).write_text(funnel_csv(data.funnel), encoding="utf-8", newline="")
    page = _template().render(
        name=data.name,
        verdict=verdict(evaluations, pair, data.controls, data.gate),
        gate=None if data.gate is None else gate_sentence(data.gate),
        allowed=data.gate is not None and data.gate.passed,
        places={} if data.gate is None else failed_places(data.gate),
        live=champion_sentence(evaluations, pair[0], data.champion, data.gate) if data.gate and pair else None,
        made=data.made,
        inputs=[one._replace(name=named(one.name)) for one in data.inputs],
        measured=[row.label for row in rows],
        downloads=downloads | dict(data.beside),
        answered=answered[:SHOWN_ROWS],
        answered_in_all=len(answered),
        choices=choices(answered[:SHOWN_ROWS]),
        texts=texts_of(answered[:SHOWN_ROWS], data.texts, data.labels),
        longest_text=LONGEST_TEXT,
        checks=None if data.gate is None else gate_table(data.gate, order),
        models=models_table(evaluations, model_rows(evaluations, trained_languages=data.trained_languages), pair),
        changes=changes_tables(evaluations, pair, data.champion, order),
        plots=plots,
        sources={plot.file: f"data:image/png;base64,{base64.b64encode(plot.png).decode()}" for plot in plots},
        languages=languages_table(evaluations, rows, results),
        outcomes=outcomes_table(evaluations, rows, pair[0] if pair else None),
        suites=suites,
        skills=skills_table(data.skills),
        costs=costs_table(data.costs, data.labels),
        held_out=HELD_OUT,
        judges=sorted({result.summary.judge for result in results if result.summary.judge}),
        answers=answers_table(evaluations, rows, results),
        funnel=funnel_table(data.funnel),
        translators=translators_table(data.translators),
        left_out=left_out_table(data.left_out),
        searches=search_table(data.searches, data.labels, evaluations.anchor),
        anchor=language_name(evaluations.anchor),
        settings={key: setting(value) for key, value in data.settings.items()},
        machine_translated=sorted(language_name(code) for code in data.machine_translated_languages),
        kept=[named(sentence) for sentence in data.kept],
        set_aside=[(label, name, named(reason)) for label, name, reason in data.set_aside],
        nano=_uses_nano(data.settings),
        results_file=RESULTS_FILE,
    )
    (folder / PAGE_FILE).write_text(page, encoding="utf-8", newline="")


def _template() -> Any:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    source = files("mlc.report") / "report.html.j2"
    return environment.from_string(source.read_text(encoding="utf-8"))


def _result_order(result: EvaluationResult) -> tuple[str, int, str]:
    summary = result.summary
    return (summary.model, -1 if summary.seed is None else summary.seed, summary.language)


def _of_suite(data: ReportData, name: str) -> list[EvaluationResult]:
    return sorted(data.suites[name], key=_result_order)


def _suite_tables(data: ReportData, name: str, first: str | None) -> tuple[Table | None, Table]:
    """What became of the prompts of a suite, and its figures."""
    results = _of_suite(data, name)
    evaluations = Evaluations(results, labels=data.labels)
    # Its own authors translated it.
    rows = _language_rows(evaluations, replace(data, machine_translated_languages=()))
    return outcomes_table(evaluations, rows, first), languages_table(evaluations, rows, results)


def _language_rows(evaluations: Evaluations, data: ReportData) -> list[LanguageRow]:
    """Every language that any model was evaluated in: the anchor, then trained ones, then unseen ones, by name."""
    codes = {code for model in evaluations.models for code in evaluations.languages(model)}
    trained, anchor = data.trained_languages, evaluations.anchor

    def unseen(code: str) -> bool:
        return trained is not None and code != anchor and code not in trained

    ordered = sorted(codes, key=lambda code: (code != anchor, unseen(code), language_name(code)))
    machine = set(data.machine_translated_languages)
    return [
        LanguageRow(
            code, language_name(code) + (" (unseen)" if unseen(code) else "") + ("\u00a0†" if code in machine else "")
        )
        for code in ordered
    ]


def _plots(
    evaluations: Evaluations, rows: Sequence[LanguageRow], data: ReportData, results: Sequence[EvaluationResult]
) -> Iterator[Plot]:
    auroc = _by_language(evaluations, "auroc")
    safety, over_refusal = _by_language(evaluations, "safety"), _by_language(evaluations, "over_refusal")
    refusals = {
        label: {code: (over_refusal[label][code].value, safety[label][code].value) for code in safety[label]}
        for label in safety
    }
    logs = {(evaluations.label(model), seed): log for (model, seed), log in data.training_logs.items()}
    # A model may be trained for another one to start from, without being measured.
    labels = dict.fromkeys([*map(evaluations.label, evaluations.models), *(label for label, _ in logs)])
    anchor = language_name(evaluations.anchor)
    outcomes: dict[PromptGroup, Shares] = {
        group: {
            evaluations.label(model): {
                code: outcome_shares(evaluations, model, code)[group][0] for code in evaluations.languages(model)
            }
            for model in evaluations.models
        }
        for group in CLASSES
    }
    candidates = (
        plot_outcomes(rows, outcomes),
        plot_auroc(rows, auroc),
        plot_refusals(rows, refusals, anchor=anchor),
        plot_representation(rows, _cosines(evaluations, results), anchor=anchor),
        plot_funnel(data.funnel),
        plot_training(logs, list(labels), anchor=anchor),
    )
    yield from (plot for plot in candidates if plot)


def _by_language(evaluations: Evaluations, metric: Metric) -> dict[str, dict[str, Estimate]]:
    return {
        evaluations.label(model): {
            code: evaluations.average(model, [code], metric).estimate for code in evaluations.languages(model)
        }
        for model in evaluations.models
    }


def _cosines(evaluations: Evaluations, results: Sequence[EvaluationResult]) -> dict[str, dict[str, Pair]]:
    pairs: dict[str, dict[str, Pair]] = {}
    for model in evaluations.models:
        own = pairs[evaluations.label(model)] = {}
        for code in evaluations.languages(model):
            matched = mean_over_seeds(results, model, code, lambda summary: summary.matched_cosine)
            unmatched = mean_over_seeds(results, model, code, lambda summary: summary.unmatched_cosine)
            if code != evaluations.anchor and matched is not None:
                own[code] = (math.nan if unmatched is None else unmatched, matched)
    return pairs


def _uses_nano(settings: Mapping[str, Any]) -> bool:
    return any(isinstance(value, str) and "nano" in value for value in settings.values())
