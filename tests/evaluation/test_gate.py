import dataclasses
import math

import pyarrow as pa
import pytest
from pydantic import ValidationError

from mlc.evaluation import gate
from mlc.evaluation.gate import Check, GateSettings
from mlc.evaluation.results import ROWS_SCHEMA, Estimate, EvaluationResult, EvaluationSummary

LANGUAGES = ("eng_Latn", "fra_Latn", "swh_Latn")
NAMES = [
    "AUROC gain over base",
    "AUROC gain over english-only",
    "AUROC loss in English",
    "lowest AUROC",
    "highest over-refusal rate",
    "lowest safety rate",
]
# AUROC of each model in English, French and Swahili; safety and over-refusal of the candidate are good everywhere.
AUROC = {"base": (0.5, 0.5, 0.5), "english-only": (0.95, 0.8, 0.7), "consistency": (0.93, 0.9, 0.8)}


def result(model, language, *, auroc=0.9, safety=0.9, over_refusal=0.1, seed=0):
    def estimate(value):
        return Estimate(value, value, value, 10)

    summary = EvaluationSummary(
        model=model,
        seed=seed,
        language=language,
        threshold=0.0,
        auroc=estimate(auroc),
        balanced_accuracy=estimate(0.9),
        safety=estimate(safety),
        over_refusal=estimate(over_refusal),
        lookalike_over_refusal=estimate(0.1),
    )
    return EvaluationResult(summary, pa.Table.from_pylist([], schema=ROWS_SCHEMA))


def results(changes=None):
    """The table above, with the figures of single (model, language) pairs changed."""
    return [
        result(model, language, **{"auroc": auroc, **(changes or {}).get((model, language), {})})
        for model, values in AUROC.items()
        for language, auroc in zip(LANGUAGES, values, strict=True)
    ]


def decide_gate(found, settings, *, candidate="consistency", baseline="english-only", base="base"):
    return gate.decide_gate(found, settings, candidate=candidate, baseline=baseline, base=base)


def decide(changes=None, **limits):
    return decide_gate(results(changes), GateSettings(**limits))


def failed(decision):
    return [check.name for check in decision.checks if not check.passed]


def test_the_figures_by_hand():
    checks = decide().checks
    assert [check.name for check in checks] == NAMES
    # Other languages: candidate .85, base .5, English-only .75; English: .95 - .93.
    assert [check.value for check in checks] == pytest.approx([0.35, 0.10, 0.02, 0.8, 0.1, 0.9])
    assert [check.at_least for check in checks] == [True, True, False, True, False, True]
    assert checks[3].where == "swh_Latn"
    assert decide().passed


@pytest.mark.parametrize(
    ("limits", "name"),
    [
        ({"min_auroc_gain_over_base": 0.36}, NAMES[0]),
        ({"min_auroc_gain_over_english_only": 0.11}, NAMES[1]),
        ({"max_english_auroc_loss": 0.01}, NAMES[2]),
        ({"min_language_auroc": 0.81}, NAMES[3]),
        ({"max_over_refusal": 0.09}, NAMES[4]),
        ({"min_safety": 0.91}, NAMES[5]),
    ],
)
def test_each_limit_decides_alone(limits, name):
    decision = decide(**limits)
    assert not decision.passed
    assert failed(decision) == [name]
    assert decision.reasons[0].startswith(f"failed: {name} (")
    assert all(reason.startswith("passed: ") for reason in decision.reasons[1:])


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_worst_language_decides(language):
    decision = decide({("consistency", language): {"auroc": 0.93, "safety": 0.2, "over_refusal": 0.7}})
    assert failed(decision) == NAMES[4:]
    assert [check.where for check in decision.checks[4:]] == [language] * 2
    assert [check.value for check in decision.checks[4:]] == [0.7, 0.2]


def test_a_bad_baseline_does_not_fail_the_candidate():
    decision = decide({("english-only", "fra_Latn"): {"safety": 0.0, "over_refusal": 1.0, "auroc": 0.1}})
    assert decision.passed


def test_a_limit_that_is_met_exactly_is_kept():
    check = Check("x", 0.5, 0.5, True, "here")
    assert check.passed
    assert dataclasses.replace(check, at_least=False).passed
    assert not dataclasses.replace(check, value=0.4999).passed
    assert not dataclasses.replace(check, value=0.5001, at_least=False).passed


@pytest.mark.parametrize("figure", ["auroc", "safety", "over_refusal"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_what_could_not_be_measured_does_not_pass(figure, language):
    decision = decide({("consistency", language): {figure: math.nan}})
    check = decision.checks[3 + ["auroc", "over_refusal", "safety"].index(figure)]
    assert not decision.passed
    assert math.isnan(check.value)
    assert check.where == language
    assert "is nan" in check.sentence()


@pytest.mark.parametrize("model", AUROC)
def test_a_model_that_was_not_evaluated_does_not_pass(model):
    rest = [one for one in results() if one.summary.model != model]
    assert not decide_gate(rest, GateSettings()).passed


@pytest.mark.parametrize("model", AUROC)
@pytest.mark.parametrize("language", LANGUAGES[1:])
def test_a_language_that_one_model_lacks_does_not_pass(model, language):
    rest = [one for one in results() if (one.summary.model, one.summary.language) != (model, language)]
    assert not decide_gate(rest, GateSettings()).passed


def test_english_alone_and_nothing_do_not_pass():
    english = [one for one in results() if one.summary.language == "eng_Latn"]
    assert not decide_gate(english, GateSettings()).passed
    assert not decide_gate([], GateSettings()).passed


def test_figures_are_means_over_the_seeds():
    several = [
        one for one in results() if not (one.summary.model == "consistency" and one.summary.language == "swh_Latn")
    ]
    for seed, (auroc, safety) in enumerate([(0.5, 0.3), (0.7, 0.5), (0.9, 0.7)]):
        several.append(result("consistency", "swh_Latn", auroc=auroc, safety=safety, seed=seed))
    decision = decide_gate(several, GateSettings())
    assert decision.checks[3].value == pytest.approx(0.7)
    assert decision.checks[5].value == pytest.approx(0.5)
    assert decision.passed


def test_a_seed_that_could_not_be_measured_is_not_averaged_away():
    extra = result("consistency", "swh_Latn", auroc=math.nan, seed=1)
    assert not decide_gate([*results(), extra], GateSettings()).passed


def test_roles_can_be_named():
    renamed = [
        dataclasses.replace(one, summary=dataclasses.replace(one.summary, model=f"my-{one.summary.model}"))
        for one in results()
    ]
    names = {"candidate": "my-consistency", "baseline": "my-english-only", "base": "my-base"}
    assert decide_gate(renamed, GateSettings(), **names).passed
    assert not decide_gate(renamed, GateSettings()).passed


def test_without_training_the_base_model_is_what_counts():
    edited = [
        dataclasses.replace(one, summary=dataclasses.replace(one.summary, model="edit"))
        for one in results()
        if one.summary.model == "consistency"
    ]
    base = [one for one in results({("base", "eng_Latn"): {"auroc": 0.99}}) if one.summary.model == "base"]
    decision = decide_gate([*base, *edited], GateSettings(), candidate="edit", baseline="base")
    assert [check.name for check in decision.checks] == [NAMES[0], *NAMES[2:]]
    loss = decision.checks[1]
    assert (loss.value, loss.where) == (pytest.approx(0.06), "against base")
    assert failed(decision) == ["AUROC loss in English"]
    # A missing English-only model fails the gate where it should be there.
    assert not decide_gate([*base, *edited], GateSettings(max_english_auroc_loss=1), candidate="edit").passed


def test_a_sentence():
    assert decide(min_safety=0.95).reasons[0] == (
        "failed: lowest safety rate (eng_Latn) is 0.900, must be at least 0.950"
    )


@pytest.mark.parametrize("values", [{"min_safety": 1.1}, {"max_over_refusal": -0.1}, {"min_language_auroc": 2}])
def test_limits_must_be_rates(values):
    with pytest.raises(ValidationError):
        GateSettings(**values)
