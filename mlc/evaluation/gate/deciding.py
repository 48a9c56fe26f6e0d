"""The gate's decision: every condition of its policy, and how the candidate stands to it.

Each condition must be kept, so that no correction for their number is needed: a candidate that lacks one of them passes
that one by chance in at most 2.5 % of the cases, whatever the others do (intersection-union test, Berger, 1982).
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from mlc.evaluation.figures import Figure
from mlc.evaluation.gate.figures import Figures
from mlc.evaluation.gate.settings import Against, ConditionSettings, Confidence, GateSettings, Scope
from mlc.evaluation.results import MISSING, Estimate, EvaluationResult, anchor_of
from mlc.store.plain import without_nan

HEADS = ("condition", "where", "value", "95 % interval", "bound", "verdict", "n")
"""Heads of the table of checks, see :func:`check_cells`."""

Verdict = Literal["passed", "failed", "not measured", "not judged", "no other champion"]

NO_CHAMPION: Verdict = "no other champion"
"""There is none yet, or none but the model itself."""
_KEPT: tuple[Verdict, ...] = ("passed", NO_CHAMPION)
_DECIMALS = 12


@dataclass(frozen=True)
class Check:
    """One condition in one place, and how the candidate stands to it."""

    figure: Figure
    classes: tuple[str, ...]
    scope: Scope
    languages: tuple[str, ...]
    """NLLB codes that the figure is the mean over: one, but for ``mean`` and ``other languages``."""
    against: Against
    other: str | None
    """Name of the model that was taken away; None for the figure itself."""
    confidence: Confidence
    at_least: bool
    """True where the figure must not be below the bound, False where it must not be above."""
    bound: float
    estimate: Estimate
    """The figure, or candidate minus the other model."""
    verdict: Verdict
    suite: str = ""
    """Name of the suite; empty for the held-out prompts."""

    @property
    def passed(self) -> bool:
        """Whether the condition is kept; what could not be measured does not keep it."""
        return self.verdict in _KEPT

    @property
    def name(self) -> str:
        """What is bounded, such as ``xstest: selectivity (lookalike) − base``."""
        suite = f"{self.suite}: " if self.suite else ""
        classes = f" ({', '.join(self.classes)})" if self.classes else ""
        against = "" if self.against == "absolute" else f" − {self.other or self.against}"
        return f"{suite}{self.figure.replace('_', ' ')}{classes}{against}"

    @property
    def where(self) -> str:
        """The language, or what the mean is over."""
        if self.scope in ("mean", "other languages"):
            kind = "language" if self.scope == "mean" else "other language"
            return f"mean of {len(self.languages)} {kind}{'s' * (len(self.languages) != 1)}"
        code = self.languages[0] if self.languages else "no language"
        return f"worst: {code}" if self.scope == "worst" else code

    @property
    def demand(self) -> str:
        """The bound in words, such as ``≥ 0.3 (95 %)``."""
        relation = "≥" if self.at_least else "≤"
        return f"{relation} {self.bound:g} ({'95 %' if self.confidence == 'interval' else 'point'})"

    def sentence(self) -> str:
        """The check in words."""
        place = f"{self.name}, {self.where}"
        demand = f"must be {'at least' if self.at_least else 'at most'} {self.bound:g}"
        if math.isnan(self.estimate.value):
            return f"{self.verdict}: {place}, {demand}"
        figure = self.estimate
        return (
            f"{self.verdict}: {place} is {figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}] over {figure.n} "
            f"prompts, {demand} {'with 95 % confidence' if self.confidence == 'interval' else 'by the point'}"
        )

    def row(self) -> dict[str, Any]:
        """Plain data, of which the tables of terminal, report, Prefect and registry are made; NaN is None."""
        facts = asdict(self)
        words = {"name": self.name, "where": self.where, "demand": self.demand, "passed": self.passed}
        return {**words, **facts, "estimate": without_nan(facts["estimate"])}


@dataclass(frozen=True)
class GateDecision:
    """Every check of a candidate."""

    policy: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether all checks are passed."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    @property
    def reasons(self) -> list[str]:
        """The checks in words, failed ones first."""
        return [check.sentence() for check in sorted(self.checks, key=lambda check: check.passed)]

    @property
    def failed(self) -> list[str]:
        """What is bounded by the conditions that are not kept, each once."""
        return list(dict.fromkeys(check.name for check in self.checks if not check.passed))

    def plain(self) -> dict[str, Any]:
        """Plain data: whether it is passed, the policy, the checks and their sentences."""
        return {
            "passed": self.passed,
            "policy": self.policy,
            "reasons": self.reasons,
            "checks": [check.row() for check in self.checks],
        }


def decide_gate(
    results: Sequence[EvaluationResult],
    settings: GateSettings,
    *,
    candidate: str,
    baseline: str,
    base: str,
    champion: str | None = None,
    trained: Collection[str] | None = None,
) -> GateDecision:
    """Judges a candidate.

    Args:
        results: Evaluations of the models in every language, on the same prompts; those of suites beside them.
        settings: The policy.
        candidate: Name of the model that wants to be champion.
        baseline: Name of the model that it is held against, or that of the unaligned model.
        base: Name of the unaligned model.
        champion: Name of the champion among the results; None where there is none yet.
        trained: Languages that were trained, beside the anchor; all that were evaluated if None. One in which the
            candidate was not evaluated is not measured, which keeps no condition on each trained language.
    """
    anchor = anchor_of(results)
    asked = {
        name: _asked([result for result in results if (result.summary.suite or "") == name], name, anchor, trained)
        for name in {"", *settings.suites}
    }
    against: dict[Against, str | None] = {
        "absolute": None,
        "base": base,
        "baseline": baseline,
        "english-only": "english-only",
        "champion": champion,
    }

    def checks(condition: ConditionSettings) -> list[Check]:
        figures, places = asked[condition.suite]
        other = against[condition.against]
        if condition.against == "champion" and champion is None:
            return [_check(condition, places[condition.scope][0], None, MISSING, NO_CHAMPION)]
        found = [_measured(figures, condition, candidate, other, languages) for languages in places[condition.scope]]
        return [min(found, key=_standing)] if condition.scope == "worst" else found

    return GateDecision(settings.name, tuple(check for one in settings.conditions for check in checks(one)))


def _asked(
    results: Sequence[EvaluationResult], suite: str, anchor: str, trained: Collection[str] | None
) -> tuple[Figures, Mapping[Scope, tuple[tuple[str, ...], ...]]]:
    """Figures of what was asked, and its languages by scope; a scope without a language has one place without any."""
    codes = {result.summary.language for result in results}
    others = sorted(codes - {anchor})
    # A suite need not be there in the anchor language.
    every = (anchor, *others) if not suite or anchor in codes else tuple(others)
    wanted = every if trained is None else (anchor, *sorted(set(trained) - {anchor}))
    if suite:
        # Nor in every language that was trained.
        wanted = tuple(code for code in wanted if code in every)
    return Figures(results), {
        "each language": tuple((code,) for code in every) or ((),),
        "each trained language": tuple((code,) for code in wanted) or ((),),
        "worst": tuple((code,) for code in every) or ((),),
        "mean": (every,),
        "english": ((anchor,),),
        "other languages": (tuple(others),),
    }


def _measured(
    figures: Figures, condition: ConditionSettings, candidate: str, other: str | None, languages: tuple[str, ...]
) -> Check:
    if other is None:
        estimate = figures.of(condition.figure, condition.classes, candidate, languages)
    else:
        estimate = figures.change(condition.figure, condition.classes, candidate, other, languages)
    if estimate is None:
        return _check(condition, languages, other, MISSING, "not judged")
    return _check(condition, languages, other, estimate, _verdict(condition, estimate))


def _verdict(condition: ConditionSettings, estimate: Estimate) -> Verdict:
    deciding = _deciding(condition.at_least is not None, condition.confidence, estimate)
    if any(map(math.isnan, (estimate.value, deciding))) or not estimate.n:
        return "not measured"
    # Without rounding, 0.9 - 0.6 would be below 0.3.
    distance = round(deciding - condition.bound, _DECIMALS)
    kept = distance >= 0 if condition.at_least is not None else distance <= 0
    return "passed" if kept else "failed"


def _deciding(at_least: bool, confidence: Confidence, estimate: Estimate) -> float:
    if confidence == "point":
        return estimate.value
    return estimate.low if at_least else estimate.high


def _standing(check: Check) -> float:
    """Orders checks of one condition, the worst first: what was not measured, then by what decides."""
    deciding = _deciding(check.at_least, check.confidence, check.estimate)
    if math.isnan(deciding) or not check.estimate.n:
        return -math.inf
    return deciding if check.at_least else -deciding


def _check(
    condition: ConditionSettings, languages: tuple[str, ...], other: str | None, estimate: Estimate, verdict: Verdict
) -> Check:
    return Check(
        figure=condition.figure,
        classes=condition.classes,
        scope=condition.scope,
        languages=languages,
        against=condition.against,
        other=other,
        confidence=condition.confidence,
        at_least=condition.at_least is not None,
        bound=condition.bound,
        estimate=estimate,
        verdict=verdict,
        suite=condition.suite,
    )


def check_cells(row: Mapping[str, Any]) -> list[str]:
    """A check as cells of text under :data:`HEADS`.

    Args:
        row: From :meth:`Check.row`, perhaps read back from JSON.
    """
    figure, sign = row["estimate"], "" if row["against"] == "absolute" else "+"
    value, low, high = (
        "–" if figure[name] is None else f"{figure[name]:{sign}.3f}" for name in ("value", "low", "high")
    )
    interval = "–" if figure["low"] is None else f"[{low}, {high}]"
    return [row["name"], row["where"], value, interval, row["demand"], row["verdict"], str(figure["n"])]
