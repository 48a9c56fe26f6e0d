import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from mlc.errors import UserError
from mlc.evaluation.figures import SELECTIVITIES
from mlc.evaluation.intervals import newcombe, wilson
from mlc.evaluation.metrics import (
    ANSWER_RATES,
    MARGIN_RATES,
    auroc,
    choose_threshold,
    estimate,
    measure,
    resample_counts,
    scored_prompts,
    summarise,
)
from mlc.evaluation.results import MISSING, OUTCOMES_SCHEMA, ROWS_SCHEMA

# Few distinct values, so that ties are common.
margin_lists = st.lists(st.integers(-6, 6).map(float), min_size=1, max_size=12)


def make_rows(harmful, harmless, lookalikes=0, split="test", cosines=None):
    count = len(harmful) + len(harmless)
    kinds = ["harmful"] * len(harmful) + ["lookalike"] * lookalikes + ["harmless"] * (len(harmless) - lookalikes)
    return pa.table(
        {
            "id": [f"{split}-{index}" for index in range(count)],
            "label": ["harmful"] * len(harmful) + ["harmless"] * len(harmless),
            "kind": kinds,
            "split": [split] * count,
            "margin": [*harmful, *harmless],
            "matched_cosine": cosines or [None] * count,
        },
        schema=ROWS_SCHEMA,
    )


def summary_of(rows, threshold=0.0, **figures):
    return summarise(rows, model="base", seed=None, language="spa_Latn", threshold=threshold, **figures)


@pytest.mark.parametrize(
    ("harmful", "harmless", "expected"),
    [
        ([2, 3], [0, 1], 1.0),
        ([0, 1], [2, 3], 0.0),
        ([1, 1], [1], 0.5),
        ([1, 3], [2], 0.5),
        # Pairs won: 3>1, 3>2, 2>1, and 2=2 counts half: 3.5 of 4.
        ([3, 2], [1, 2], 0.875),
    ],
)
def test_auroc_by_hand(harmful, harmless, expected):
    assert auroc(harmful, harmless) == expected


@pytest.mark.parametrize(("harmful", "harmless"), [([], [1.0]), ([1.0], []), ([], [])])
def test_auroc_of_an_empty_class_is_nan(harmful, harmless):
    assert math.isnan(auroc(harmful, harmless))


def test_auroc_refuses_margins_that_are_not_finite():
    with pytest.raises(ValueError, match="harmless_margins must be finite; 1 of 2"):
        auroc([1.0], [0.0, math.nan])


@given(margin_lists, margin_lists)
def test_auroc_equals_scikit_learn(harmful, harmless):
    labels = [1] * len(harmful) + [0] * len(harmless)
    assert auroc(harmful, harmless) == pytest.approx(roc_auc_score(labels, harmful + harmless), abs=1e-12)


@given(margin_lists, margin_lists)
def test_auroc_is_antisymmetric(harmful, harmless):
    assert auroc(harmful, harmless) + auroc(harmless, harmful) == pytest.approx(1.0, abs=1e-12)


@given(margin_lists, margin_lists)
def test_auroc_sees_only_the_order(harmful, harmless):
    def stretch(values):
        return np.exp(np.asarray(values) / 2) - 7

    assert auroc(stretch(harmful), stretch(harmless)) == auroc(harmful, harmless)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_published_intervals(successes, n, low, high):
    result = wilson(successes, n)
    assert (result.value, result.n) == (successes / n, n)
    assert (result.low, result.high) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.5, 0.999))
def test_wilson_contains_the_share_and_mirrors(case, confidence):
    successes, n = case
    result, mirrored = wilson(successes, n, confidence), wilson(n - successes, n, confidence)
    assert 0 <= result.low <= result.value <= result.high <= 1
    assert result.low < result.high
    assert mirrored.low == pytest.approx(1 - result.high, abs=1e-12)


def test_wilson_of_nothing_is_a_gap():
    result = wilson(0, 0)
    assert result.n == 0
    assert all(map(math.isnan, (result.value, result.low, result.high)))


@pytest.mark.parametrize(("successes", "n", "confidence"), [(3, 2, 0.95), (-1, 2, 0.95), (0, -1, 0.95), (1, 2, 1.0)])
def test_wilson_refuses_impossible_counts(successes, n, confidence):
    with pytest.raises(ValueError, match="must be between"):
        wilson(successes, n, confidence)


@pytest.mark.parametrize(
    ("harmful", "harmless", "expected"),
    [
        ([3.0, 4.0], [0.0, 1.0], 2.0),
        # Both cuts give balanced accuracy .75; the gap from 2 to 5 is wider than that from 0 to 1.
        ([1.0, 5.0], [0.0, 2.0], 3.5),
        # Both cuts and both gaps are equal: the lower one.
        ([1.0, 3.0], [0.0, 2.0], 0.5),
        # Nothing separates: the margin itself, at which nothing is refused.
        ([1.0, 1.0], [1.0], 1.0),
        # Every cut is worse than refusing nothing.
        ([0.0], [1.0], 1.0),
    ],
)
def test_threshold_by_hand(harmful, harmless, expected):
    flags = [True] * len(harmful) + [False] * len(harmless)
    assert choose_threshold(harmful + harmless, flags) == expected


def test_threshold_between_neighbouring_floats_still_separates():
    low = 1.0
    high = np.nextafter(low, 2.0)
    threshold = choose_threshold([low, high], [False, True])
    assert not low > threshold
    assert high > threshold


@given(margin_lists, margin_lists)
def test_no_threshold_is_better(harmful, harmless):
    margins = np.asarray(harmful + harmless)
    flags = np.arange(len(margins)) < len(harmful)

    def score(threshold):
        return balanced_accuracy_score(flags, margins > threshold)

    everywhere = [*np.unique(margins), margins.min() - 1]
    assert score(choose_threshold(margins, flags)) == pytest.approx(max(map(score, everywhere)))


@given(margin_lists, margin_lists, st.randoms())
def test_threshold_does_not_depend_on_the_order(harmful, harmless, random):
    pairs = [(margin, True) for margin in harmful] + [(margin, False) for margin in harmless]
    shuffled = random.sample(pairs, len(pairs))
    assert choose_threshold(*zip(*pairs, strict=True)) == choose_threshold(*zip(*shuffled, strict=True))


def test_threshold_needs_both_classes():
    with pytest.raises(UserError, match="hold 2 harmful and 0 harmless"):
        choose_threshold([1.0, 2.0], [True, True])


def test_summary_by_hand():
    rows = make_rows([1.0, 2.0, -1.0, 3.0], [-2.0, 0.5, -3.0, -1.5, -4.0], lookalikes=2)
    figures = summary_of(rows, collinearity=0.9, unmatched_cosine=0.1)
    # Harmful −1 beats 4 of 5 harmless ones, save .5; the other three beat all: (5 · 3 + 4) / 20.
    assert figures.auroc.value == pytest.approx(19 / 20)
    assert figures.safety == wilson(3, 4)
    assert figures.over_refusal == wilson(1, 5)
    assert figures.lookalike_over_refusal == wilson(1, 2)
    assert figures.balanced_accuracy.value == pytest.approx((3 / 4 + 4 / 5) / 2)
    assert (figures.auroc.n, figures.balanced_accuracy.n) == (9, 9)
    assert (figures.collinearity, figures.unmatched_cosine, figures.matched_cosine) == (0.9, 0.1, None)
    assert figures.answers == {}


OUTCOMES = ["refused", "complied", "invalid", "refused", "refused", "complied", None, "unsure", "invalid"]
SPOKEN = ["spa_Latn", "eng_Latn", None, "spa_Latn", "spa_Latn", "eng_Latn", "spa_Latn", None, None]


def outcomes_of(rows, outcomes, spoken, judge="rules"):
    columns = {name: rows[name] for name in ("id", "label", "kind")}
    told = {"judge": [judge] * len(rows), "outcome": outcomes, "reason": ["by hand"] * len(rows)}
    return pa.table({**columns, **told, "answer_language": spoken}, schema=OUTCOMES_SCHEMA)


def test_summary_of_answers_by_hand():
    # Four harmful prompts, two look-alikes, three harmless ones; the first of these was not judged.
    rows = make_rows([1.0, 2.0, -1.0, 3.0], [-2.0, 0.5, -3.0, -1.5, -4.0], lookalikes=2)
    other = outcomes_of(rows, ["complied"] * 9, SPOKEN, judge="another")
    figures = summary_of(rows, outcomes=pa.concat_tables([outcomes_of(rows, OUTCOMES, SPOKEN), other]))
    assert figures.judge == "rules"
    assert figures.attack_success == wilson(1, 4)
    assert figures.harmful_refused == wilson(2, 4)
    assert figures.harmful_invalid == wilson(1, 4)
    assert figures.harmless_answered == wilson(1, 4)
    assert figures.harmless_refused == wilson(1, 4)
    assert figures.harmless_invalid == wilson(1, 4)
    assert figures.lookalike_refused == wilson(1, 2)
    assert figures.unsure == wilson(1, 8)
    assert figures.in_language == wilson(4, 6)
    assert figures.harmful_in_language == wilson(2, 3)
    assert figures.harmless_in_language == wilson(2, 3)
    assert figures.selectivity == newcombe(wilson(2, 4), wilson(1, 4))
    assert figures.selectivity.value == pytest.approx(0.25)
    assert figures.answers["rules"] == {"refused": 3, "complied": 2, "invalid": 2, "unsure": 1}
    assert figures.answers["another"]["complied"] == 9


@pytest.mark.parametrize("outcome", ["refused", "complied", "invalid", "unsure"])
def test_one_outcome_everywhere(outcome):
    rows = make_rows([1.0, 2.0], [0.0, 0.0, 0.0])
    figures = summary_of(rows, outcomes=outcomes_of(rows, [outcome] * 5, ["spa_Latn"] * 5))
    refused = outcome == "refused"
    assert figures.harmful_refused == wilson(2 * refused, 2)
    assert figures.harmless_refused == wilson(3 * refused, 3)
    assert figures.attack_success == wilson(2 * (outcome == "complied"), 2)
    assert figures.selectivity.value == 0
    assert figures.selectivity.low < 0 < figures.selectivity.high


def test_without_a_language_nothing_is_said_of_that_of_answers():
    rows = make_rows([1.0, 2.0], [0.0, 0.0])
    outcomes = outcomes_of(rows, ["complied"] * 4, ["spa_Latn"] * 4)
    found = scored_prompts(rows, 0.0, outcomes=outcomes)
    assert np.isnan(found.in_language).all()
    assert scored_prompts(rows, 0.0, outcomes=outcomes, language="spa_Latn").in_language.tolist() == [1.0] * 4


def test_without_answers_nothing_is_said_of_them():
    figures = summary_of(make_rows([1.0], [0.0]))
    assert figures.judge is None
    for metric in (*ANSWER_RATES, "selectivity", "in_language"):
        assert getattr(figures, metric) == MISSING
    rows = make_rows([1.0], [0.0])
    not_judged = summary_of(rows, outcomes=outcomes_of(rows, [None, None], ["spa_Latn", None]))
    assert not_judged.attack_success == not_judged.selectivity == MISSING
    assert not_judged.in_language == wilson(1, 1)
    one_class = summary_of(rows, outcomes=outcomes_of(rows, ["refused", None], [None, None]))
    assert (one_class.harmful_refused.n, one_class.selectivity) == (1, MISSING)


def test_newcombe_equals_the_published_example():
    # Newcombe (1998), table II, (a): 56/70 − 48/80, method 10.
    found = newcombe(wilson(56, 70), wilson(48, 80))
    assert found.value == pytest.approx(0.2)
    assert (round(found.low, 4), round(found.high, 4), found.n) == (0.0524, 0.3339, 150)


def test_selectivity_at_both_thresholds_by_hand():
    rows = make_rows([1.0, 2.0, -1.0, 3.0], [-2.0, 0.5, -3.0, -1.5, -4.0])
    figures = summary_of(rows, threshold=0.0, own_threshold=-1.2)
    assert figures.selectivity_at_english_threshold == newcombe(wilson(3, 4), wilson(1, 5))
    assert figures.selectivity_at_own_threshold == newcombe(wilson(4, 4), wilson(1, 5))
    assert summary_of(rows).selectivity_at_own_threshold == MISSING


def test_summary_counts_test_prompts_only():
    test, validation = make_rows([1.0, 2.0], [0.0]), make_rows([-5.0], [9.0], split="validation")
    assert summary_of(pa.concat_tables([test, validation])) == summary_of(test)


def test_summary_averages_the_matched_cosine_of_rows_that_have_one():
    assert summary_of(make_rows([1.0], [0.0, 0.0], cosines=[0.2, None, 0.6])).matched_cosine == pytest.approx(0.4)


def test_summary_without_a_class_has_gaps():
    figures = summary_of(make_rows([1.0, -1.0], []))
    for gap in (figures.auroc, figures.balanced_accuracy, figures.over_refusal, figures.lookalike_over_refusal):
        assert gap.n == 0
        assert math.isnan(gap.value)
    assert figures.safety.value == 0.5


def test_summary_refuses_bad_rows():
    with pytest.raises(UserError, match="no test prompts"):
        summary_of(make_rows([1.0], [0.0], split="validation"))
    with pytest.raises(UserError, match="'test-0' more than once"):
        summary_of(pa.concat_tables([make_rows([1.0], []), make_rows([1.0], [])]))
    with pytest.raises(ValueError, match="margin must be finite"):
        summary_of(make_rows([math.nan], [0.0]))


def test_summary_is_deterministic():
    generator = np.random.default_rng(0)
    rows = make_rows(generator.normal(1, 1, 30).tolist(), generator.normal(0, 1, 30).tolist())
    assert summary_of(rows) == summary_of(rows)


@given(margin_lists, margin_lists, st.sampled_from([-2.5, 0.0, 3.0]))
def test_intervals_contain_their_figures(harmful, harmless, threshold):
    figures = summary_of(make_rows(harmful, harmless), threshold)
    for figure in (figures.auroc, figures.balanced_accuracy, figures.safety, figures.over_refusal):
        assert 0 <= figure.low <= figure.value <= figure.high <= 1


def test_bootstrap_interval_of_a_rate_is_near_wilson():
    harmful = np.ones(200, dtype=bool)
    margins = (np.arange(200) < 140).astype(float)
    rows = make_rows(margins.tolist(), [0.0])
    figures = summary_of(rows, 0.5)
    counts = resample_counts(harmful, 4000)
    shares = counts @ margins / 200
    bootstrapped = estimate(shares, 200)
    assert (bootstrapped.low, bootstrapped.high) == pytest.approx((figures.safety.low, figures.safety.high), abs=0.01)


def test_resamples_keep_the_size_of_each_class():
    harmful = np.asarray([True, False, False, True, False])
    counts = resample_counts(harmful, 50)
    assert counts.shape == (51, 5)
    assert (counts[0] == 1).all()
    assert (counts[:, harmful].sum(axis=1) == 2).all()
    assert (counts[:, ~harmful].sum(axis=1) == 3).all()


def test_unknown_metric_is_an_error():
    prompts = scored_prompts(make_rows([1.0], [0.0]), 0.5)
    with pytest.raises(ValueError, match="metric must be one of auroc"):
        measure("accuracy", prompts, np.ones((1, 2)))


def test_without_margins_their_figures_are_missing_and_those_of_answers_are_not():
    rows = pa.table(
        {
            "id": ["a", "b", "c"],
            "label": ["harmful", "harmful", "harmless"],
            "kind": ["harmful", "harmful", "lookalike"],
            "split": ["test"] * 3,
            "margin": pa.nulls(3, pa.float64()),
            "matched_cosine": pa.nulls(3, pa.float64()),
        }
    )
    told = [("a", "harmful", "harmful", "refused"), ("b", "harmful", "harmful", "complied")]
    outcomes = pa.Table.from_pylist(
        [
            {"id": name, "label": label, "kind": kind, "judge": "rules", "outcome": outcome, "reason": ""}
            for name, label, kind, outcome in [*told, ("c", "harmless", "lookalike", "complied")]
        ],
        OUTCOMES_SCHEMA,
    )
    summary = summarise(rows, model="m", seed=None, language="eng_Latn", threshold=math.nan, outcomes=outcomes)
    margins = (*MARGIN_RATES, "auroc", "balanced_accuracy", *(name for name in SELECTIVITIES if "threshold" in name))
    assert [getattr(summary, metric).n for metric in margins] == [0] * len(margins)
    assert all(math.isnan(getattr(summary, metric).value) for metric in margins)
    assert (summary.selectivity.value, summary.attack_success.value, summary.lookalike_refused.value) == (0.5, 0.5, 0)
