"""Verdicts on real rows, as they were before the rules stood with their signals: ``verdicts.json`` holds figures only.

Rows of MLQE-PE and of damaged NTREX-128 that between them fail every rule that text alone can fail, with their signals,
and what four sets of thresholds made of them.
"""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from mlc.quality.deciding import decide
from mlc.quality.settings import QualitySettings
from mlc.quality.signals import RULES, SIGNALS

STORED = json.loads(Path(__file__).with_name("verdicts.json").read_text(encoding="utf-8"))
KINDS = {"BIGINT": pa.int64(), "BOOLEAN": pa.bool_(), "DOUBLE": pa.float64(), "VARCHAR": pa.string()}
TYPES = {column.name: KINDS[column.kind] for signal in SIGNALS for column in signal.columns}


@pytest.fixture(scope="module")
def signals():
    columns = STORED["signals"]
    return pa.table({name: pa.array(values, TYPES.get(name, pa.string())) for name, values in columns.items()})


@pytest.mark.parametrize("case", STORED["cases"], ids=range(len(STORED["cases"])))
def test_verdicts_are_those_of_before(signals, case):
    found = decide(signals, QualitySettings.model_validate(case["settings"]))
    assert found["reasons"].to_pylist() == case["reasons"]
    assert found["quality"].to_pylist() == case["quality"]
    assert found["reason"].to_pylist() == [reasons[0] if reasons else None for reasons in case["reasons"]]
    assert found["keep"].to_pylist() == [not reasons for reasons in case["reasons"]]


def test_every_rule_of_real_rows_is_among_them():
    failed = {reason for case in STORED["cases"] for reasons in case["reasons"] for reason in reasons}
    # A corpus that people keep has no row that cannot be read, none without a word, and no estimator was asked.
    assert failed == set(RULES) - {"unusable", "invented", "estimate"}


def test_rules_that_were_asked_for_decide_alone(signals):
    case = STORED["cases"][1]
    found = decide(signals, QualitySettings.model_validate(case["settings"]), rules=["length", "numbers"])
    expected = [[one for one in reasons if one in ("length", "numbers")] for reasons in case["reasons"]]
    assert found["reasons"].to_pylist() == expected
