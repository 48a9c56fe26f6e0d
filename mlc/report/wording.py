"""Numbers and names as people read them."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mlc.evaluation.gate.deciding import check_cells
from mlc.evaluation.metrics import Metric
from mlc.evaluation.results import Estimate
from mlc.languages import ENGLISH, all_languages
from mlc.store.plain import rounded

NOTHING = "–"
"""Shown where there is no figure."""

_METRIC_NAMES: Mapping[Metric, str] = {
    "selectivity": "Selectivity",
    "attack_success": "Attack success",
    "harmful_refused": "Harmful refused",
    "harmful_invalid": "Harmful, answer invalid",
    "harmless_answered": "Harmless answered",
    "harmless_refused": "Over-refusal",
    "lookalike_refused": "Over-refusal, look-alikes",
    "harmless_invalid": "Harmless, answer invalid",
    "unsure": "Judge unsure",
    "in_language": "Answers in the prompt's language",
    "harmful_in_language": "Harmful, in the prompt's language",
    "harmless_in_language": "Harmless, in the prompt's language",
    "auroc": "Margin AUROC",
    "selectivity_at_english_threshold": "Margin selectivity, {anchor} threshold",
    "selectivity_at_own_threshold": "Margin selectivity, own threshold",
    "balanced_accuracy": "Margin balanced accuracy",
    "safety": "Margin safety rate",
    "over_refusal": "Margin over-refusal",
    "lookalike_over_refusal": "Margin over-refusal, look-alikes",
    "matched_cosine": "Matched cosine",
}

_NO_BREAK = "\u00a0"
_LANGUAGE_NAMES = {language.code: language.english_name for language in all_languages()}
_CODE = re.compile(r"(?<![\w/.'-])[a-z]{3}_[A-Z][a-z]{3}(?![\w/'-]|\.\w)")
"""Not where it is a part of a path, a file's name or a quoted word."""


def language_name(code: str) -> str:
    """English name of a language; a code that is not in the table stays a code."""
    return _LANGUAGE_NAMES.get(code, code)


def named(text: str) -> str:
    """A sentence or a list with the names of languages in place of their codes."""
    return _CODE.sub(lambda code: language_name(code[0]), text)


def metric_name(metric: Metric, anchor: str) -> str:
    """What a metric is called.

    Args:
        metric: Which one.
        anchor: NLLB code of the language that thresholds were set in.
    """
    return _METRIC_NAMES[metric].format(anchor=language_name(anchor))


def decimals(value: float, digits: int = 0) -> str:
    """A finite figure with a minus sign of its own, such as ``−0.53`` or ``48``."""
    return f"{rounded(value, digits)}".replace("-", "−")


def number(value: float | None, digits: int = 2) -> str:
    """A figure without its leading zero, such as ``.91``, ``−.03`` or ``1.00``."""
    if value is None or math.isnan(value):
        return NOTHING
    return re.sub(r"^(−?)0\.", r"\1.", decimals(value, digits))


def percentage(share: float | None) -> str:
    """A share in whole per cent without the sign for it, for a table whose head says so."""
    return NOTHING if share is None or math.isnan(share) else decimals(100 * share)


def percent(share: float) -> str:
    """A share in whole per cent."""
    return f"{percentage(share)} %"


def signed(value: float, digits: int = 2) -> str:
    """A difference with its sign, such as ``+.08``; without one where it rounds to zero."""
    text = number(value, digits)
    return f"+{text}" if value > 0 and re.search("[1-9]", text) else text


def chance(p: float) -> str:
    """The p-value of a difference, such as ``.031``; one that rounds to zero is ``< .001``."""
    return "< .001" if p < 0.001 else number(p, 3)


def interval(figure: Estimate, digits: int = 2) -> str:
    """The interval of a figure, such as ``[.88, .94]``; it does not break, and is empty where there is no figure."""
    if math.isnan(figure.low) or math.isnan(figure.high):
        return ""
    return f"[{number(figure.low, digits)},{_NO_BREAK}{number(figure.high, digits)}]"


def direction(difference: Estimate) -> int:
    """1 where the whole interval is above zero, −1 where it is below, else 0."""
    return int(difference.low > 0) - int(difference.high < 0)


def difference(figure: Estimate) -> str:
    """A difference with its interval, such as ``+.08 [.03, .13]``.

    A third digit is shown where two would let a bound look like zero although it is not.
    """
    nearest = min(abs(figure.low), abs(figure.high))
    digits = 3 if direction(figure) and nearest < 0.005 else 2
    return f"{signed(figure.value, digits)} {interval(figure, digits)}".strip()


def count(amount: int, singular: str, plural: str | None = None) -> str:
    """A number with its noun, such as ``2 seeds``."""
    return f"{amount} {singular if amount == 1 else plural or singular + 's'}"


def listed(parts: Sequence[str]) -> str:
    """Parts of a sentence as a list, such as ``a, b and c``."""
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last


def needs_in_words(needs: Iterable[str]) -> str:
    """The data that a method takes beside the policy."""
    return ", ".join(sorted(needs)) or "nothing"


COST_HEADS = ("seconds", "own", "tokens", "GiB", "data beside the policy")
"""Heads of :func:`cost_cells`."""


def cost_cells(cost: Any, needs: Iterable[str]) -> tuple[str, ...]:
    """What one model of a method takes, as cells of text.

    Args:
        cost: With ``seconds``, ``own_seconds``, ``tokens`` and ``peak_memory_bytes``; None is what nobody measured.
        needs: Data that it takes beside the policy.
    """

    def shown(value: float | None, unit: float = 1.0, digits: int = 0) -> str:
        return NOTHING if value is None else f"{rounded(value / unit, digits):,}"

    memory = shown(cost.peak_memory_bytes, 2**30, 1)
    return *map(shown, (cost.seconds, cost.own_seconds, cost.tokens)), memory, needs_in_words(needs)


def check_name(row: Mapping[str, Any]) -> str:
    """What a check of the gate bounds, such as ``xstest: Over-refusal (lookalike) − base``; figures by their names."""
    # What another release decided may be of a figure that this one does not know.
    figure = _METRIC_NAMES.get(row.get("figure", ""))
    if figure is None:
        return str(row["name"])
    suite = f"{row['suite']}: " if row.get("suite") else ""
    raw, name = row["figure"].replace("_", " "), str(row["name"]).removeprefix(suite)
    return f"{suite}{figure.format(anchor='anchor')}{name.removeprefix(raw)}"


def check_place(row: Mapping[str, Any]) -> str:
    """Where a check of the gate stands, see :meth:`mlc.evaluation.gate.deciding.Check.row`; languages by name."""
    codes = row["languages"]
    return str(row["where"]).replace(codes[0], language_name(codes[0])) if len(codes) == 1 else str(row["where"])


def check_demand(row: Mapping[str, Any]) -> str:
    """The bound of a check of the gate, such as ``≥ −0.03 (point)``."""
    return str(row["demand"]).replace("-", "−")


def check_words(row: Mapping[str, Any]) -> list[str]:
    """As :func:`mlc.evaluation.gate.deciding.check_cells`, for people: names of figures and languages, minus signs."""
    _, _, value, bounds, _, verdict, count = check_cells(row)
    figures = (cell.replace("-", "−") for cell in (value, bounds))
    return [check_name(row), check_place(row), *figures, check_demand(row), verdict, count]


def checks_in_order(checks: Iterable[Mapping[str, Any]], first: Sequence[str] = (ENGLISH,)) -> list[Mapping[str, Any]]:
    """Checks by condition: those with a failed one first, else as they come; of each the languages in order.

    Args:
        checks: See :meth:`mlc.evaluation.gate.deciding.Check.row`.
        first: See :func:`language_place`.
    """
    conditions: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for check in sorted(checks, key=lambda check: bool(check["passed"])):
        conditions.setdefault((check["name"], check["demand"]), []).append(check)
    return [
        check
        for own in conditions.values()
        for check in sorted(own, key=lambda one: language_place(next(iter(one["languages"]), ""), first))
    ]


def language_place(code: str, first: Sequence[str] = (ENGLISH,)) -> tuple[int, str]:
    """A key that sorts languages as all tables do: the anchor first, then by name.

    Args:
        code: NLLB code.
        first: The anchor; or languages that are in order already.
    """
    return first.index(code) if code in first else len(first), language_name(code)


def setting(value: Any) -> str:
    """The value of a setting as text."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {setting(item)}" for key, item in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(setting(item) for item in value) or "none"
    return named(str(value))
