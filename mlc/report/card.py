"""The model card of a candidate, in the form that the Hugging Face hub reads."""

import json
from collections.abc import Iterator, Sequence

from mlc.evaluation.comparison import Evaluations
from mlc.evaluation.metrics import Metric
from mlc.evaluation.results import Estimate
from mlc.languages import resolve_language
from mlc.licences import UNKNOWN
from mlc.report.data import ReportData
from mlc.report.verdict import champion_sentence, failed_places, gate_sentence, verdict
from mlc.report.wording import interval, language_name, metric_name, number, setting

CARD_FILE = "model_card.md"
_POLICY, _LICENCE = "policy", "licence of the "
_FIGURES: tuple[Metric, ...] = ("selectivity", "attack_success", "harmless_refused", "harmless_invalid", "auroc")
_LIMITS = (
    "A low attack success says little where many answers are invalid, and a high refusal rate little without "
    "over-refusal: read the figures together.",
    "Intervals are over prompts, with trained models and thresholds as given; they do not cover the noise of training.",
    "Judges err, and what a judge is not sure of is in no outcome but its own.",
    "Safety is shown for the prompts and languages in the tables and for nothing else.",
)


def model_card(data: ReportData) -> str:
    """Writes the card: languages, licences, methods, figures with 95 % intervals, what the gate says, and limits.

    Args:
        data: Of the report. ``compared`` names the candidate; ``settings`` hold ``policy`` and ``licence of the ROLE``.

    Returns:
        Markdown with YAML at its head, ended by a line feed.

    Raises:
        UserError: The results hold one evaluation twice.
        ValueError: Nothing is compared, so there is no candidate.
    """
    if data.compared is None:
        raise ValueError("A model card needs a candidate.")
    evaluations = Evaluations(data.results, labels=data.labels)
    candidate = data.compared[0]
    codes = [evaluations.anchor, *(code for code in evaluations.languages() if code != evaluations.anchor)]
    parts = [
        "\n".join(_head(data, codes)),
        f"# {evaluations.label(candidate)} of {setting(data.settings.get(_POLICY))}",
        verdict(evaluations, data.compared, data.controls, data.gate).sentence,
        "## May it be released?",
        *_decision(data, evaluations, candidate),
        "## Languages",
        _languages(data, codes),
        "## Figures",
        "Held-out prompts; in brackets 95 % intervals; n: distinct prompts.",
        "\n".join(_figures(evaluations, candidate, codes)),
        *_suites(data, candidate),
        "## Licences",
        "\n".join(_licences(data)),
        "## How it was made",
        "\n".join(_settings(data)),
        "## Limits",
        "\n".join(f"- {limit}" for limit in [*_LIMITS, *_translated(data)]),
    ]
    return "\n\n".join(parts) + "\n"


def _head(data: ReportData, codes: Sequence[str]) -> Iterator[str]:
    licence = str(data.settings.get(f"{_LICENCE}{_POLICY}", UNKNOWN)).partition(" (")[0]
    model = str(data.settings.get(_POLICY, ""))
    yield "---"
    yield "language:"
    for code in dict.fromkeys(map(_short, codes)):
        yield f"- {json.dumps(code)}"
    yield f"license: {json.dumps(licence)}"
    if "/" in model and ":" not in model:
        yield f"base_model: {json.dumps(model)}"
    yield "pipeline_tag: text-generation"
    yield "tags:"
    yield from ("- safety", "- multilingual", "- alignment")
    yield "---"


def _short(code: str) -> str:
    """ISO 639-1, or 639-3 where there is none, as the hub wants it."""
    return resolve_language(code).iso639_1 or code.partition("_")[0]


def _decision(data: ReportData, evaluations: Evaluations, candidate: str) -> Iterator[str]:
    if data.gate is None:
        yield "No gate has decided."
        return
    yield gate_sentence(data.gate)
    if places := failed_places(data.gate):
        yield "\n".join(f"- not kept: {condition}: {where}" for condition, where in places.items())
    yield champion_sentence(evaluations, candidate, data.champion, data.gate)


def _languages(data: ReportData, codes: Sequence[str]) -> str:
    trained = set(codes if data.trained_languages is None else data.trained_languages)
    aligned = [language_name(code) for code in codes if code in trained]
    measured = ", ".join(map(language_name, codes))
    return f"Measured: {measured}. Trained on translations into: {', '.join(aligned) or 'none'}."


def _figures(evaluations: Evaluations, candidate: str, codes: Sequence[str]) -> Iterator[str]:
    heads = ["language", *(metric_name(metric, evaluations.anchor) for metric in _FIGURES)]
    yield _row(heads)
    yield _row(["---"] * len(heads))
    for code in codes:
        cells = [_figure(evaluations.average(candidate, [code], metric).estimate) for metric in _FIGURES]
        yield _row([language_name(code), *cells])


def _suites(data: ReportData, candidate: str) -> Iterator[str]:
    for name in sorted(data.suites):
        evaluations = Evaluations(data.suites[name], labels=data.labels)
        if candidate in evaluations.models:
            yield f"### Suite {name}"
            yield "\n".join(_figures(evaluations, candidate, evaluations.languages(candidate)))


def _figure(estimate: Estimate) -> str:
    return f"{number(estimate.value)} {interval(estimate)}, n {estimate.n}" if estimate.n else "not measured"


def _licences(data: ReportData) -> Iterator[str]:
    for key, told in data.settings.items():
        if key.startswith(_LICENCE):
            role = key.removeprefix(_LICENCE)
            yield f"- {role} ({setting(data.settings.get(role))}): {setting(told)}"


def _settings(data: ReportData) -> Iterator[str]:
    for key, value in {**data.made, **data.settings}.items():
        if not key.startswith(_LICENCE):
            yield f"- {key}: {setting(value)}"
    for one in data.inputs:
        yield f"- {one.name}: {'' if one.rows is None else f'{one.rows} rows, '}sha256 {one.sha256}"


def _translated(data: ReportData) -> Iterator[str]:
    if data.machine_translated_languages:
        names = ", ".join(map(language_name, data.machine_translated_languages))
        yield f"The test prompts in {names} were translated by machine; its errors count as errors of the model."


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
