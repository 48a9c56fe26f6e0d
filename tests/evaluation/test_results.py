import json
import math

import pyarrow as pa
import pytest

from mlc.evaluation.results import (
    OUTCOMES_SCHEMA,
    ROWS_SCHEMA,
    SUMMARY_FILE,
    Estimate,
    EvaluationResult,
    EvaluationSummary,
)

ROWS = pa.table(
    {
        "id": ["a", "b"],
        "label": ["harmful", "harmless"],
        "kind": ["harmful", "lookalike"],
        "split": ["test", "validation"],
        "margin": [0.1 + 0.2, -1e-300],
        "matched_cosine": [None, 0.5],
    },
    schema=ROWS_SCHEMA,
)
PLAIN = Estimate(0.1 + 0.2, 0.25, 1 / 3, 40)
OUTCOMES = pa.table(
    {
        "id": ["a", "a"],
        "label": ["harmful", "harmful"],
        "kind": ["harmful", "harmful"],
        "judge": ["rules", "another"],
        "outcome": ["refused", None],
        "reason": ["declines", "not judged"],
        "answer_language": ["swh_Latn", None],
    },
    schema=OUTCOMES_SCHEMA,
)
UNKNOWN = Estimate(math.nan, math.nan, math.nan, 0)


def summary(**changes):
    values = {
        "model": "consistency",
        "seed": 3,
        "language": "swh_Latn",
        "threshold": -0.123456789012345,
        "auroc": PLAIN,
        "balanced_accuracy": PLAIN,
        "safety": PLAIN,
        "over_refusal": PLAIN,
        "lookalike_over_refusal": PLAIN,
        "collinearity": 0.75,
        "centred_collinearity": 0.6,
        "matched_cosine": 0.1,
        "unmatched_cosine": -0.1,
        "answers": {"openings": {"refused": 2, "complied": 1, "invalid": 0}},
        **changes,
    }
    return EvaluationSummary(**values)


def round_trip(folder, result):
    result.write(folder)
    return EvaluationResult.read(folder)


def test_round_trip_is_exact(tmp_path):
    full = summary(own_threshold=0.1 + 0.2, judge="rules", selectivity=PLAIN, attack_success=PLAIN)
    again = round_trip(tmp_path, EvaluationResult(full, ROWS, OUTCOMES))
    assert again.summary == full
    assert again.outcomes.equals(OUTCOMES)
    assert again.outcomes.schema == OUTCOMES_SCHEMA
    assert again.rows.equals(ROWS)
    assert again.rows.schema == ROWS_SCHEMA


def test_what_is_absent_stays_absent(tmp_path):
    names = ("seed", "collinearity", "centred_collinearity", "matched_cosine", "unmatched_cosine")
    absent = summary(**dict.fromkeys(names), answers={})
    assert round_trip(tmp_path, EvaluationResult(absent, ROWS)).summary == absent


def test_nan_estimates_come_back_and_the_file_is_strict_json(tmp_path):
    partly = Estimate(0.5, math.nan, math.nan, 1)
    again = round_trip(tmp_path, EvaluationResult(summary(auroc=UNKNOWN, safety=partly), ROWS)).summary
    assert again.auroc.n == 0
    assert all(math.isnan(value) for value in (again.auroc.value, again.auroc.low, again.auroc.high))
    assert (again.safety.value, again.safety.n) == (0.5, 1)
    assert math.isnan(again.safety.low)

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    stored = json.loads((tmp_path / SUMMARY_FILE).read_text(), parse_constant=refuse)
    assert stored["auroc"] == {"value": None, "low": None, "high": None, "n": 0}


def test_infinity_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        EvaluationResult(summary(threshold=math.inf), ROWS).write(tmp_path)


def test_no_rows(tmp_path):
    again = round_trip(tmp_path, EvaluationResult(summary(), ROWS.slice(0, 0)))
    assert len(again.rows) == 0
    assert again.rows.schema == ROWS_SCHEMA


def test_rows_with_other_columns_are_refused(tmp_path):
    with pytest.raises(ValueError, match="field names"):
        EvaluationResult(summary(), ROWS.drop_columns("kind")).write(tmp_path)
