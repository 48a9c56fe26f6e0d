import math

import numpy as np
import pyarrow as pa
import pytest

from mlc.evaluation.comparison import Evaluations, model_rows
from mlc.evaluation.intervals import newcombe, wilson
from mlc.evaluation.metrics import summarise
from mlc.evaluation.results import MISSING, OUTCOMES_SCHEMA, ROWS_SCHEMA, EvaluationResult
from mlc.evaluation.spread import pairwise_agreement, spread
from tests.evaluation.compared import compare

EN, ES, SW = "eng_Latn", "spa_Latn", "swh_Latn"
SHORT = {"r": "refused", "c": "complied", "i": "invalid", "u": "unsure", "-": None}


def answered(outcomes, language, model="base", seed=None, judge="rules"):
    """Outcomes by their first letter, of two harmful and two harmless prompts for each four."""
    count = len(outcomes)
    labels = ["harmful" if index % 4 < 2 else "harmless" for index in range(count)]
    facts = {"id": [f"p{index}" for index in range(count)], "label": labels, "kind": labels}
    margins = [float(letter == "r") for letter in outcomes]
    rows = pa.table(
        {**facts, "split": ["test"] * count, "margin": margins, "matched_cosine": [None] * count}, schema=ROWS_SCHEMA
    )
    told = {"judge": [judge] * count, "outcome": [SHORT[letter] for letter in outcomes], "reason": ["by hand"] * count}
    table = pa.table({**facts, **told, "answer_language": [language] * count}, schema=OUTCOMES_SCHEMA)
    summary = summarise(
        rows, model=model, seed=seed, language=language, threshold=0.5, own_threshold=0.5, outcomes=table
    )
    return EvaluationResult(summary, rows, table)


def of(by_language, **options):
    return Evaluations([answered(given, code, **options) for code, given in by_language.items()], resamples=50)


def test_means_worst_gap_and_variance_by_hand():
    evaluations = of({EN: "rrcc", ES: "rccc", SW: "ccrc"})
    # Harmful refused 1, .5, 0; harmless refused 0, 0, .5.
    assert evaluations.average("base", [EN, ES, SW], "selectivity").estimate.value == pytest.approx(1 / 3)
    found = spread(evaluations, "base", "selectivity")
    assert (found.worst_language, found.worst.value) == (SW, -0.5)
    assert found.worst == newcombe(wilson(0, 2), wilson(1, 2))
    assert found.gap.value == pytest.approx((0.5 - 0.5) / 2 - 1)
    assert found.gap.low <= found.gap.value <= found.gap.high
    assert found.variance == pytest.approx(np.var([1, 0.5, -0.5]) * 100)
    attacks = spread(evaluations, "base", "attack_success")
    assert (attacks.worst_language, attacks.worst) == (SW, wilson(2, 2))
    assert attacks.variance == pytest.approx(np.var([0, 0.5, 1]) * 100)
    assert spread(evaluations, "base", "safety").variance == pytest.approx(100 / 6)


def test_variance_is_averaged_over_seeds():
    results = [answered(given, code, "m", seed) for seed, codes in enumerate((("rrcc", "cccc"), ("rrcc", "rrcc")))
               for code, given in zip((EN, ES), codes, strict=True)]  # fmt: skip
    # Harmful refused 1 and 0, then 1 and 1.
    assert spread(Evaluations(results), "m", "harmful_refused").variance == pytest.approx((25 + 0) / 2)


def test_agreement_by_hand():
    # en–es: 3 of 4 agree; en–sw: the third prompt is unsure and the fourth not judged, 1 of 2; es–sw: 2 of 2.
    assert pairwise_agreement(of({EN: "rrcc", ES: "rccc", SW: "rcu-"}), "base") == pytest.approx(
        (3 / 4 + 1 / 2 + 1) / 3
    )


def test_refusing_everything_agrees_and_varies_not_at_all():
    evaluations = of({EN: "rrrr", ES: "rrrr"})
    assert pairwise_agreement(evaluations, "base") == 1
    found = spread(evaluations, "base", "selectivity")
    assert (found.variance, found.worst.value, found.gap.value) == (0, 0, 0)
    mean = evaluations.average("base", [EN, ES], "selectivity").estimate
    # A bootstrap would see no doubt here; the prompts are four.
    alone = newcombe(wilson(2, 2), wilson(2, 2))
    assert (mean.low, mean.high) == pytest.approx((alone.low, alone.high), abs=0.06)
    refused = evaluations.average("base", [EN, ES], "harmful_refused").estimate
    assert refused.low == pytest.approx(wilson(2, 2).low, abs=0.06)


def test_one_language_alone_and_none_judged():
    alone = of({EN: "rrcc"})
    found = spread(alone, "base", "selectivity")
    assert (found.worst_language, found.gap) == (EN, MISSING)
    assert math.isnan(found.variance)
    assert math.isnan(pairwise_agreement(alone, "base"))
    nothing = of({EN: "----", ES: "----"})
    found = spread(nothing, "base", "attack_success")
    assert (found.worst, found.worst_language, found.gap) == (MISSING, None, MISSING)
    assert math.isnan(pairwise_agreement(nothing, "base"))
    assert model_rows(nothing)[0].groups["other"].figures["attack_success"].estimate == MISSING


def test_differences_of_answers_are_paired_by_prompt():
    # The candidate refuses one more harmful prompt of each four; the same prompts in both.
    results = [answered("rccc" * 8, ES), answered("rrcc" * 8, ES, "m", 0)]
    found = compare(results, baseline="base", candidate="m", metric="selectivity", resamples=200)
    assert (found.value, found.n) == (0.5, 32)
    assert 0 < found.low < 0.5 < found.high < 1
