import json
import math

import pytest

from mlc.store.plain import as_cell, without_nan


def test_nan_is_null_wherever_it_stands():
    value = {"a": math.nan, "b": (1.0, math.nan, [math.nan, "nan"]), "c": {"d": math.inf, "e": None, "f": True}}
    assert without_nan(value) == {
        "a": None,
        "b": [1.0, None, [None, "nan"]],
        "c": {"d": math.inf, "e": None, "f": True},
    }
    assert json.dumps(without_nan({"a": math.nan}), allow_nan=False) == '{"a": null}'


@pytest.mark.parametrize("text", ["=1+1", "+cmd", "-x", "@sum", "\tx", "\r=x", "-1-1", "=", "+1+1"])
def test_no_cell_begins_a_formula(text):
    assert as_cell(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "x", "-1", "+2.5", "-1e-05", "a=b", "'=x", "5"])
def test_numbers_and_other_texts_stay(text):
    assert as_cell(text) == text
