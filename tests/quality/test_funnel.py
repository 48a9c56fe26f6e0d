"""The funnel adds up, and a low yield stops the run in one sentence."""

import pyarrow as pa
import pytest

from mlc.errors import UserError
from mlc.quality.funnel import check_yield, coverage, funnel, sample_rejects
from mlc.quality.settings import QualitySettings


def verdicts(**by_language):
    rows = [
        {"target_language": code, "keep": reason is None, "reason": reason, "reasons": [reason] if reason else []}
        for code, reasons in by_language.items()
        for reason in reasons
    ]
    return pa.Table.from_pylist(rows)


LOW = verdicts(
    swh_Latn=[None] + ["copied"] * 5 + ["empty"] * 3 + ["length"] * 2 + ["numbers"],
    spa_Latn=[None, None, None, "empty"],
)


def test_counts_by_hand():
    assert funnel(LOW).to_pylist()[:2] == [
        {"target_language": "spa_Latn", "reason": "kept", "rows": 3, "share": 0.75},
        {"target_language": "spa_Latn", "reason": "empty", "rows": 1, "share": 0.25},
    ]
    assert [row["reason"] for row in funnel(LOW).to_pylist()[2:]] == ["kept", "copied", "empty", "length", "numbers"]


def test_language_that_keeps_nothing_has_its_row():
    table = funnel(verdicts(swh_Latn=["copied", "copied"])).to_pylist()
    assert table[0] == {"target_language": "swh_Latn", "reason": "kept", "rows": 0, "share": 0.0}


def test_empty_verdicts_make_an_empty_funnel():
    assert funnel(LOW.slice(0, 0)).num_rows == 0
    check_yield(LOW.slice(0, 0), QualitySettings())


@pytest.mark.parametrize("table", [LOW, funnel(LOW)], ids=["verdicts", "funnel"])
def test_low_yield_is_told(table):
    with pytest.raises(UserError) as caught:
        check_yield(table, QualitySettings())
    message = str(caught.value)
    for words in ("swh_Latn", "8.3%", "30.0%", "copied (5), empty (3), length (2)", "allow_low_yield"):
        assert words in message
    assert "numbers" not in message
    assert "spa_Latn" not in message
    assert "\n" not in message


def test_the_worst_language_is_told_and_the_others_counted():
    table = verdicts(swh_Latn=["empty"], spa_Latn=[None] + ["empty"] * 9)
    with pytest.raises(UserError, match=r"^swh_Latn .*1 more"):
        check_yield(table, QualitySettings())


@pytest.mark.parametrize("values", [{"allow_low_yield": True}, {"min_kept_share": 0.08}])
def test_allowed(values):
    check_yield(LOW, QualitySettings.model_validate(values))


def test_exactly_the_minimum_is_enough():
    check_yield(verdicts(swh_Latn=[None, "empty"]), QualitySettings.model_validate({"min_kept_share": 0.5}))


def test_table_without_verdicts_is_told():
    with pytest.raises(UserError, match="lacks keep"):
        funnel(LOW.drop_columns(["keep"]))


def test_coverage_counts_what_is_not_applicable():
    table = pa.table(
        {
            "target_language": ["swh_Latn", "swh_Latn", "spa_Latn"],
            "signal_copied": pa.array([0.5, None, None], pa.float64()),
            "signal_empty": pa.array([True, False, True]),
        }
    )
    assert coverage(table).to_pylist() == [
        {"target_language": "spa_Latn", "signal": "signal_copied", "measured": 0, "not_applicable": 1},
        {"target_language": "spa_Latn", "signal": "signal_empty", "measured": 1, "not_applicable": 0},
        {"target_language": "swh_Latn", "signal": "signal_copied", "measured": 1, "not_applicable": 1},
        {"target_language": "swh_Latn", "signal": "signal_empty", "measured": 2, "not_applicable": 0},
    ]


def test_samples_are_row_numbers_spread_over_the_table():
    table = pa.table({"reason": ["copied", None, *["length"] * 10]})
    assert sample_rejects(table, each=5) == [
        {"reason": "length", "rows": "2, 4, 6, 8, 10", "count": 10},
        {"reason": "copied", "rows": "0", "count": 1},
    ]
