import math
from dataclasses import astuple
from statistics import NormalDist

import numpy as np
import pyarrow as pa
import pytest

from mlc.errors import UserError
from mlc.evaluation.comparison import Evaluations
from mlc.evaluation.intervals import wilson
from mlc.evaluation.metrics import summarise
from mlc.evaluation.paired import Stratum, change, share
from mlc.evaluation.results import ROWS_SCHEMA, EvaluationResult
from tests.evaluation.compared import compare, model_table

EN, ES, SW = "eng_Latn", "spa_Latn", "swh_Latn"


def make_result(model, seed, language, margins, *, threshold=0.0, cosines=None, ids=None):
    """The first half of the prompts is harmful."""
    count = len(margins)
    labels = ["harmful" if index < count // 2 else "harmless" for index in range(count)]
    rows = pa.table(
        {
            "id": ids or [f"p{index}" for index in range(count)],
            "label": labels,
            "kind": labels,
            "split": ["test"] * count,
            "margin": list(map(float, margins)),
            "matched_cosine": cosines if cosines is not None else [None] * count,
        },
        schema=ROWS_SCHEMA,
    )
    summary = summarise(rows, model=model, seed=seed, language=language, threshold=threshold)
    return EvaluationResult(summary, rows)


def noisy(model, seed, language, shift, *, prompts=40, noise=None, generator_seed=0):
    generator = np.random.default_rng([generator_seed, len(model), seed or 0, *language.encode()])
    base = generator.normal(size=2 * prompts) if noise is None else noise
    return make_result(model, seed, language, base + shift * (np.arange(2 * prompts) < prompts), threshold=shift / 2)


@pytest.fixture(name="by_hand")
def by_hand_fixture():
    return [
        make_result("base", None, EN, [0, 1, 2, 3]),
        make_result("base", None, ES, [1, 0, 1, 0]),  # AUROC .5
        make_result("base", None, SW, [0, 1, 2, 3]),  # AUROC 0
        make_result("consistency", 0, EN, [2, 3, 0, 1]),
        make_result("consistency", 0, ES, [2, 3, 0, 1]),  # AUROC 1
        make_result("consistency", 0, SW, [1, 3, 0, 2]),  # AUROC .75
        make_result("consistency", 1, EN, [2, 3, 0, 1]),
        make_result("consistency", 1, ES, [1, 1, 1, 1]),  # AUROC .5
        make_result("consistency", 1, SW, [2, 3, 0, 1]),  # AUROC 1
    ]


def test_difference_by_hand(by_hand):
    result = compare(by_hand, baseline="base", candidate="consistency", metric="auroc", resamples=50)
    # Gains: seed 0: .5 and .75, seed 1: 0 and 1; English is left out.
    assert result.value == pytest.approx((0.5 + 0.75 + 0 + 1) / 4)
    assert result.n == 4
    assert result.low <= result.value <= result.high


def test_difference_in_listed_languages(by_hand):
    in_english = compare(
        by_hand, baseline="base", candidate="consistency", languages=[EN], metric="auroc", resamples=50
    )
    assert in_english.value == 1.0


def test_rates_count_their_own_prompts(by_hand):
    # Refused is a margin above 0. Spanish, harmful: base 1 of 2, seeds 2 and 2 of 2; Swahili: 1 of 2, 2 and 2 of 2.
    safety = compare(by_hand, baseline="base", candidate="consistency", metric="safety", resamples=50)
    assert (safety.value, safety.n) == (0.5, 2)


def test_equal_seeds_are_compared_with_each_other():
    results = [
        make_result("english-only", 0, ES, [1, 0, 1, 0]),
        make_result("english-only", 7, ES, [0, 1, 2, 3]),
        make_result("consistency", 0, ES, [2, 3, 0, 1]),
        make_result("consistency", 9, ES, [0, 1, 2, 3]),
    ]
    result = compare(results, baseline="english-only", candidate="consistency", metric="auroc", resamples=20)
    assert result.value == 0.5


def test_comparison_is_antisymmetric():
    results = [
        noisy(model, seed, language, shift)
        for model, shift in (("english-only", 0.6), ("consistency", 1.4))
        for seed in (0, 1)
        for language in (ES, SW)
    ]
    forward = compare(results, baseline="english-only", candidate="consistency", metric="auroc")
    backward = compare(results, baseline="consistency", candidate="english-only", metric="auroc")
    assert backward.value == pytest.approx(-forward.value)
    assert (backward.low, backward.high) == pytest.approx((-forward.high, -forward.low))


def test_a_model_does_not_differ_from_itself(by_hand):
    result = compare(by_hand, baseline="consistency", candidate="consistency", metric="auroc", resamples=50)
    assert result.value == 0
    # Few prompts do not prove even that.
    assert -0.9 < result.low < 0 < result.high < 0.9


def test_rounding_noise_is_no_difference():
    """.1 + .2 - .3 is not 0 in floating point; an interval that ends there must not seem to exclude 0."""

    def refusing(model, language, refused):
        return make_result(model, None, language, [1] * refused + [0] * (20 - refused))

    rates = {ES: (0, 1), SW: (0, 2), "deu_Latn": (3, 0)}
    results = [
        refusing(model, language, pair[place])
        for language, pair in rates.items()
        for place, model in enumerate(("base", "consistency"))
    ]
    result = compare(results, baseline="base", candidate="consistency", metric="safety", resamples=200)
    assert result.value == 0
    assert result.low == pytest.approx(-result.high)
    in_resamples = compare(results, baseline="base", candidate="consistency", metric="balanced_accuracy", resamples=200)
    assert all(bound == 0 or abs(bound) > 1e-6 for bound in (in_resamples.low, in_resamples.high))


def test_order_of_results_does_not_matter(by_hand):
    arguments = {"baseline": "base", "candidate": "consistency", "metric": "balanced_accuracy", "resamples": 50}
    assert compare(by_hand, **arguments) == compare(by_hand[::-1], **arguments)


def test_other_models_do_not_change_a_comparison(by_hand):
    arguments = {"baseline": "base", "candidate": "consistency", "metric": "auroc", "resamples": 50}
    more = [*by_hand, make_result("another", 3, ES, [0, 1], ids=["x", "y"])]
    assert compare(more, **arguments) == compare(by_hand, **arguments)


def width(figure):
    return figure.high - figure.low


def test_clusters_are_wider_than_independent_prompts_where_languages_agree():
    """Ten languages that all say the same hold no more than one; naive resampling would take √10 off the width."""
    languages = ["spa_Latn", "swh_Latn", "deu_Latn", "fra_Latn", "nld_Latn"]
    generator = np.random.default_rng(3)
    before, after = generator.normal(size=80), generator.normal(size=80)

    def results(ids):
        return [
            make_result(model, None, language, noise + shift * (np.arange(80) < 40), ids=ids(language))
            for language in languages
            for model, noise, shift in (("base", before, 0.3), ("consistency", after, 1.0))
        ]

    arguments = {"baseline": "base", "candidate": "consistency", "metric": "auroc"}
    clustered = compare(results(lambda _: [f"p{i}" for i in range(80)]), **arguments)
    naive = compare(results(lambda language: [f"{language}{i}" for i in range(80)]), **arguments)
    alone = compare(results(lambda _: [f"p{i}" for i in range(80)]), languages=["spa_Latn"], **arguments)
    assert clustered.value == pytest.approx(naive.value)
    assert width(clustered) == pytest.approx(width(alone))
    assert width(clustered) > 1.7 * width(naive)
    assert (clustered.n, naive.n) == (80, 400)


def test_shared_prompts_cancel_in_the_difference():
    """Two models that agree on which prompts are hard differ by much less than each is uncertain."""
    noise = np.random.default_rng(1).normal(size=80)
    nudge = np.random.default_rng(2).normal(scale=0.1, size=80)
    results = [
        noisy("base", None, ES, 1.0, noise=noise),
        noisy("consistency", 0, ES, 1.2, noise=noise + nudge),
    ]
    difference = compare(results, baseline="base", candidate="consistency", metric="auroc")
    assert width(difference) < width(model_table(results)[0].groups["other"].figures["auroc"].estimate) / 2


def test_intervals_are_for_other_seeds_only_where_there_are_three():
    def results(seeds):
        # Seeds disagree much, prompts little.
        return [
            noisy(model, seed, ES, 0.5 + (model == "consistency") * seed, prompts=100)
            for model in ("english-only", "consistency")
            for seed in seeds
        ]

    arguments = {"baseline": "english-only", "candidate": "consistency", "metric": "auroc"}
    two, three = results((0, 2)), results((0, 1, 2))
    for metric in ("auroc", "safety", "selectivity_at_english_threshold"):
        asked = {**arguments, "metric": metric}
        assert compare(two, other_seeds=True, **asked) == compare(two, **asked)
    with_seeds, without = compare(three, other_seeds=True, **arguments), compare(three, **arguments)
    assert with_seeds.value == pytest.approx(without.value)
    assert width(with_seeds) > 1.5 * width(without)


def test_only_prompts_that_both_models_have_count():
    results = [
        make_result("base", None, ES, [2, 0, 1, 0], ids=["a", "b", "c", "d"]),
        make_result("consistency", 0, ES, [2, 9, 1, 0], ids=["a", "x", "c", "d"]),
    ]
    result = compare(results, baseline="base", candidate="consistency", metric="auroc", resamples=20)
    assert (result.value, result.n) == (0, 3)


def test_matched_cosine():
    results = [
        make_result("base", None, ES, [0, 1, 2, 3], cosines=[0.1, 0.2, 0.3, 0.4]),
        make_result("consistency", 0, ES, [0, 1, 2, 3], cosines=[0.5, 0.6, 0.7, 0.8]),
    ]
    result = compare(results, baseline="base", candidate="consistency", metric="matched_cosine", resamples=50)
    assert (result.value, result.low, result.high) == pytest.approx((0.4, 0.4, 0.4))


def test_an_empty_class_is_a_gap():
    results = [make_result(model, None, ES, [1.0]) for model in ("base", "consistency")]
    result = compare(results, baseline="base", candidate="consistency", metric="auroc", resamples=20)
    assert result.n == 0
    assert math.isnan(result.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"baseline": "sft"}, "no results of the model 'sft': choose from base, consistency"),
        ({"metric": "accuracy"}, "metric 'accuracy' is unknown"),
        ({"languages": ["deu_Latn"]}, "not evaluated in deu_Latn"),
        ({"languages": []}, "No language"),
        ({"languages": "spa_Latn"}, "'other' or a list"),
        ({"languages": [EN, ES], "metric": "matched_cosine"}, "leave eng_Latn out"),
    ],
)
def test_mistakes_are_told(by_hand, changes, message):
    arguments = {"baseline": "base", "candidate": "consistency", "metric": "auroc", "resamples": 5} | changes
    with pytest.raises(UserError, match=message):
        compare(by_hand, **arguments)


def test_models_without_a_common_seed_or_language_are_told():
    results = [make_result("english-only", 0, ES, [1, 0]), make_result("consistency", 1, ES, [1, 0])]
    with pytest.raises(UserError, match=r"\(seeds 0\) and consistency \(seeds 1\) share no seed"):
        compare(results, baseline="english-only", candidate="consistency", metric="auroc")
    results = [make_result("base", None, EN, [1, 0]), make_result("consistency", 1, EN, [1, 0])]
    with pytest.raises(UserError, match="other than English"):
        compare(results, baseline="base", candidate="consistency", metric="auroc")


def test_contradicting_results_are_told(by_hand):
    with pytest.raises(UserError, match="Two results"):
        compare([*by_hand, by_hand[0]], baseline="base", candidate="consistency", metric="auroc")
    flipped = [
        make_result("base", None, ES, [1, 0], ids=["a", "b"]),
        make_result("consistency", 0, ES, [1, 0], ids=["b", "a"]),
    ]
    with pytest.raises(UserError, match="harmful in one evaluation and harmless in another"):
        compare(flipped, baseline="base", candidate="consistency", metric="auroc")
    with pytest.raises(UserError, match="no evaluation results"):
        model_table([])


def test_model_table_by_hand(by_hand):
    base, consistency = model_table(by_hand, trained_languages=[ES], resamples=50)
    assert (base.model, base.seeds) == ("base", (None,))
    assert (consistency.model, consistency.seeds) == ("consistency", (0, 1))
    assert {group: figures.languages for group, figures in base.groups.items()} == {
        "english": (EN,),
        "other": (ES, SW),
        "trained": (ES,),
        "unseen": (SW,),
    }
    auroc = consistency.groups["other"].figures["auroc"]
    assert auroc.by_seed == ((0, 0.875), (1, 0.75))
    assert (auroc.estimate.value, auroc.estimate.n) == (0.8125, 4)
    assert base.groups["other"].figures["auroc"].estimate.value == 0.25
    assert consistency.groups["other"].figures["safety"].estimate.n == 2


def test_rates_of_one_evaluation_have_wilson_intervals_and_others_are_clustered(by_hand):
    base, consistency = model_table(by_hand, resamples=50)
    # Two languages of two seeds, in which both harmful prompts are refused: two prompts, not eight.
    edge = consistency.groups["other"].figures["safety"].estimate
    assert edge == share([Stratum(np.ones((2, 4)))])
    assert edge.low == pytest.approx(wilson(2, 2).low, abs=0.06)
    assert base.groups["english"].figures["safety"].estimate == wilson(1, 2)


def test_model_table_keeps_to_common_languages(by_hand):
    labels = {"base": "Base", "consistency": "Consistency"}
    rows = model_table([*by_hand, make_result("another", 0, EN, [1, 0, 1, 0])], labels=labels, resamples=5)
    assert [row.model for row in rows] == ["base", "consistency", "another"]
    assert all(set(row.groups) == {"english"} for row in rows)


def test_changes_by_language_are_adjusted_for_their_number():
    """Refused is a margin above 0. In Spanish 12 of 20 harmful prompts change, in Swahili 6, in English none."""
    results = []
    for language, gained in ((EN, 0), (ES, 12), (SW, 6)):
        before = [1.0] * 5 + [-1.0] * 35
        after = [1.0] * (5 + gained) + [-1.0] * (35 - gained)
        results += [make_result("base", None, language, before), make_result("consistency", 0, language, after)]
    found = Evaluations(results).by_language(baseline="base", candidate="consistency", metric="safety")
    expected = {}
    for language, gained in ((EN, 0), (ES, 12), (SW, 6)):
        expected[language] = change([Stratum(np.array([[0.0]] * 5 + [[1.0]] * gained + [[0.0]] * (15 - gained)))])
    assert list(found) == [EN, ES, SW]
    for code, one in found.items():
        assert astuple(one.estimate) == pytest.approx(astuple(expected[code].estimate))
    assert found[ES].p == pytest.approx(3 * expected[ES].p)
    assert found[SW].p == pytest.approx(2 * expected[SW].p)
    assert found[EN].p == pytest.approx(1)
    with pytest.raises(ValueError, match="a share or a selectivity"):
        Evaluations(results).by_language(baseline="base", candidate="consistency", metric="auroc")


def test_few_prompts_prove_no_difference_of_areas():
    """Two prompts that one model ranks rightly and the other wrongly: a bootstrap sees no other outcome."""
    results = [
        make_result(model, seed, language, margins)
        for model, margins in (("english-only", [0, 1]), ("consistency", [1, 0]))
        for language in (ES, SW)
        for seed in (0, 1, 2)
    ]
    arguments = {"baseline": "english-only", "candidate": "consistency", "metric": "auroc"}
    for more in ({}, {"other_seeds": True}, {"resamples": 1, "other_seeds": True}):
        found = compare(results, **arguments, **more)
        assert found.value == 1
        assert found.low < 0.3


@pytest.mark.parametrize("shift", [0.0, 0.8])
def test_intervals_of_differences_of_areas_cover(shift):
    generator = np.random.default_rng(0)
    # Areas of normal margins that are so far apart.
    true = sum(sign * NormalDist().cdf(apart / math.sqrt(2)) for sign, apart in ((1, 1.8 + shift), (-1, 1.8)))
    covered = 0
    for _ in range(200):
        common = generator.normal(size=20)
        harmful = np.repeat([1.0, 0.0], 10)
        results = [
            make_result(model, None, ES, list(common + generator.normal(size=20, scale=0.01) + apart * harmful))
            for model, apart in (("base", 1.8), ("other", 1.8 + shift))
        ]
        found = compare(results, baseline="base", candidate="other", metric="auroc", resamples=100)
        covered += found.low <= true <= found.high
    assert covered / 200 > 0.93
