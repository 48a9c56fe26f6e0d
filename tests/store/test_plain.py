import json
import math

from mlc.store.plain import without_nan


def test_nan_is_null_wherever_it_stands():
    value = {"a": math.nan, "b": (1.0, math.nan, [math.nan, "nan"]), "c": {"d": math.inf, "e": None, "f": True}}
    assert without_nan(value) == {
        "a": None,
        "b": [1.0, None, [None, "nan"]],
        "c": {"d": math.inf, "e": None, "f": True},
    }
    assert json.dumps(without_nan({"a": math.nan}), allow_nan=False) == '{"a": null}'
