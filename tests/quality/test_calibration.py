"""The calibrated quality: its formula, its monotone terms, how it is fitted, and what it is worth on judged rows."""

import json
import math

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import spearmanr

from mlc.errors import UserError
from mlc.making.calibrate import (
    PENALTY,
    SHAPES,
    VERSION,
    Rows,
    Shape,
    fit,
    fit_steps,
    is_good,
    read_judged,
    without_model,
)
from mlc.making.calibrate import _steps as steps_of
from mlc.making.calibrate import _term as term_of
from mlc.quality.calibration import (
    QUALITY_MODEL,
    Confidence,
    Guard,
    QualityModel,
    Term,
    quality_expression,
    quality_model,
    quality_of,
    read_quality_model,
)
from mlc.quality.measuring.tables import compute_signals
from mlc.quality.reliability import calibration_error, reliability_bins
from mlc.quality.signals import SIGNAL_COLUMNS, SIGNALS, Direction

SMALL = QualityModel(
    version=1,
    fitted_on="nothing",
    intercept=1.0,
    terms=(
        Term(
            column="signal_copied",
            points=((0.5, 0.0), (1.0, -4.0)),
            guard=Guard(column="signal_source_letters", least=12),
        ),
        Term(column="signal_length_z", points=((-4.0, -3.0), (-2.0, -1.0), (0.0, 0.0), (2.0, -2.0))),
    ),
    confidence=Confidence(
        intercept=2.0, slope=0.5, term=Term(column="signal_logprob", points=((-1.0, -3.0), (0.0, 0.0)))
    ),
)


def sigmoid(value):
    return 1 / (1 + math.exp(-value))


def row(**columns):
    return pa.Table.from_pylist([columns])


@pytest.mark.parametrize(
    ("columns", "log_odds"),
    [
        ({}, 1.0),
        ({"signal_copied": 0.75, "signal_source_letters": 12}, 1.0 - 2.0),
        ({"signal_copied": 1.0, "signal_source_letters": 30}, 1.0 - 4.0),
        ({"signal_copied": 1.0, "signal_source_letters": 11}, 1.0),
        ({"signal_copied": 1.0}, 1.0),
        ({"signal_length_z": 0.0}, 1.0),
        ({"signal_length_z": 1.0}, 1.0 - 1.0),
        ({"signal_length_z": -3.0}, 1.0 - 2.0),
        ({"signal_length_z": -99.0}, 1.0 - 3.0),
        ({"signal_length_z": 99.0}, 1.0 - 2.0),
        ({"signal_logprob": -0.5}, 2.0 - 1.5),
        ({"signal_logprob": -0.5, "signal_length_z": 2.0}, 2.0 - 1.5 - 0.5 * 2.0),
    ],
)
def test_quality_by_hand(columns, log_odds):
    assert quality_of(row(signal_empty=False, **columns), SMALL).to_pylist() == [pytest.approx(sigmoid(log_odds))]


def test_no_translation_has_quality_zero():
    assert quality_of(row(signal_empty=True, signal_logprob=-0.1), SMALL).to_pylist() == [0.0]


def test_without_confidence_the_log_probability_is_not_read():
    plain = SMALL.model_copy(update={"confidence": None})
    assert quality_of(row(signal_empty=False, signal_logprob=-9.0), plain).to_pylist() == [pytest.approx(sigmoid(1.0))]
    assert "signal_logprob" not in plain.columns()


def test_order_of_the_rows_is_kept_and_an_empty_table_has_no_quality():
    table = pa.table({"signal_length_z": [0.0, 2.0, None, 1.0]})
    found = quality_of(table, SMALL).to_pylist()
    assert found == pytest.approx([sigmoid(1), sigmoid(-1), sigmoid(1), sigmoid(0)])
    assert quality_of(table.slice(0, 0), SMALL).to_pylist() == []


def test_the_expression_is_the_function():
    table = pa.table({name: pa.array([None, None], pa.float64()) for name in quality_model().columns()})
    table = table.set_column(table.column_names.index("signal_length_z"), "signal_length_z", pa.array([-3.0, 0.5]))
    table = table.set_column(table.column_names.index("signal_empty"), "signal_empty", pa.array([False, False]))
    with duckdb.connect() as connection:
        connection.register("signals", table)
        found = connection.sql(f"SELECT {quality_expression()} FROM signals").fetchall()
    assert [value for (value,) in found] == quality_of(table).to_pylist()


def test_shipped_terms_are_best_at_zero_and_fall_away_from_it():
    directions = {column.name: column.direction for signal in SIGNALS for column in signal.columns}
    model = quality_model()
    assert model.version == VERSION
    assert set(model.columns()) <= set(SIGNAL_COLUMNS)
    assert [term.column for term in model.terms] == [shape.column for shape in SHAPES]
    for term in (*model.terms, model.confidence.term):
        heights = [height for _, height in term.points]
        assert max(heights) == 0, term.column
        if directions[term.column] is Direction.HIGHER_IS_WORSE:
            assert heights == sorted(heights, reverse=True), term.column
        elif directions[term.column] is Direction.HIGHER_IS_BETTER:
            assert heights == sorted(heights), term.column
        else:
            assert directions[term.column] is Direction.TWO_SIDED
            best = dict(term.points)[0.0]
            assert best == 0
            below = [height for signal, height in term.points if signal <= 0]
            above = [height for signal, height in term.points if signal >= 0]
            assert below == sorted(below)
            assert above == sorted(above, reverse=True)


NUMBER = st.none() | st.floats(-20, 20)


@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {name: NUMBER for name in quality_model().columns() if name != "signal_empty"}
            | {"signal_empty": st.booleans()}
        ),
        min_size=1,
        max_size=5,
    )
)
@settings(max_examples=10)
def test_quality_is_between_zero_and_one_and_never_null(rows):
    for quality in quality_of(pa.Table.from_pylist(rows)).to_pylist():
        assert quality is not None
        assert 0 <= quality <= 1


def test_a_worse_signal_never_raises_the_shipped_quality():
    directions = {column.name: column.direction for signal in SIGNALS for column in signal.columns}
    cases = []
    for shape in SHAPES:
        values = [0.0, 0.3, 1.0, 3.0, 5.0]
        if directions[shape.column] is Direction.HIGHER_IS_BETTER:
            values.reverse()
        cases.extend((shape.column, value) for value in values)
    fixed = {"signal_empty": False, "signal_source_letters": 50, "signal_translation_letters": 50}
    columns = dict.fromkeys(quality_model().columns())
    table = pa.Table.from_pylist([{**columns, **fixed, column: value} for column, value in cases])
    found = quality_of(table).to_pylist()
    for start in range(0, len(cases), 5):
        assert found[start : start + 5] == sorted(found[start : start + 5], reverse=True), cases[start]
        assert found[start] > found[start + 4], cases[start]


def test_steps_and_term_by_hand():
    shape = Shape("signal_length_z", (-2.0, -1.0, 0.0, 3.0))
    steps = steps_of(pa.table({"signal_length_z": [0.0, -1.5, 1.5, 9.0, None]}), shape)
    assert steps.tolist() == [[0, 0, 0], [0.5, 1, 0], [0, 0, 0.5], [0, 0, 1], [0, 0, 0]]
    term = term_of(shape, np.array([-1.0, -2.0, -4.0]))
    assert term.points == ((-2.0, -3.0), (-1.0, -2.0), (0.0, 0.0), (3.0, -4.0))


def test_steps_of_a_signal_that_is_better_when_higher():
    shape = Shape("signal_script", (0.0, 0.5, 1.0))
    steps = steps_of(pa.table({"signal_script": [1.0, 0.75, 0.0]}), shape)
    assert steps.tolist() == [[0, 0], [0, 0.5], [1, 1]]
    assert term_of(shape, np.array([-1.0, -2.0])).points == ((0.0, -3.0), (0.5, -2.0), (1.0, 0.0))


def test_guarded_steps_are_zero_below_the_count():
    shape = Shape("signal_copied", (0.0, 1.0), Guard(column="signal_source_letters", least=12))
    table = pa.table({"signal_copied": [1.0, 1.0, 1.0], "signal_source_letters": [11, 12, None]})
    assert steps_of(table, shape).tolist() == [[0], [1], [0]]


def test_fit_agrees_with_an_independent_optimiser():
    draw = np.random.default_rng(0)
    X, free = draw.random((400, 4)), draw.integers(2, size=(400, 1)).astype(float)
    offset, weight = draw.normal(size=400), draw.random(400)
    chance = 1 / (1 + np.exp(-(0.5 + X @ [-3, 1.5, -0.4, 0] + free[:, 0] + offset)))
    good = (draw.random(400) < chance).astype(float)
    intercept, sizes = fit_steps(X, good, weight, offset=offset, free=free)
    share = weight / weight.sum()

    def loss(values):
        z = values[0] + values[1] * free[:, 0] + X @ values[2:] + offset
        return share @ (np.logaddexp(0, z) - good * z) + PENALTY / 2 * values[2:] @ values[2:]

    bounds = [(None, None)] * 2 + [(None, 0)] * 4
    reference = minimize(loss, np.zeros(6), method="SLSQP", bounds=bounds, options={"ftol": 1e-14, "maxiter": 1000}).x
    assert intercept == pytest.approx(reference[0], abs=1e-3)
    assert sizes == pytest.approx(reference[2:], abs=1e-3)
    assert sizes[1] == 0  # It would rise, which is not allowed.


def test_fit_finds_what_was_planted():
    """Lost placeholders are always bad; a sure translator is better within a pair, and one pair is surer and worse."""
    draw = np.random.default_rng(2)
    count = 2000
    pair = draw.integers(2, size=count)
    sure = draw.normal(size=count)
    good = draw.random(count) < 1 / (1 + np.exp(-(2 * sure - 2 * pair)))
    lost = draw.random(count) < 0.2
    columns = dict.fromkeys(quality_model().columns(), pa.nulls(count, pa.float64()))
    table = pa.table(
        {
            **columns,
            "signal_empty": pa.array([False] * count),
            "signal_placeholders": np.where(lost, 0.0, 1.0),
            "signal_logprob": np.clip(-0.6 + 0.15 * sure + 0.2 * pair, -1.2, -0.1),
            "human": np.where(good & ~lost, 80.0, 40.0),
            "pair": [f"pair {number}" for number in pair],
        }
    )
    model = fit(Rows(table.select(list(columns)), is_good(table), np.ones(count)), table, "planted")
    terms = {term.column: term.points for term in model.terms}
    assert terms["signal_placeholders"][0][1] < -3
    assert all(height == 0 for name, points in terms.items() if name != "signal_placeholders" for _, height in points)
    heights = [height for _, height in model.confidence.term.points]
    assert heights == sorted(heights)
    assert heights[0] < -0.5
    both = quality_of(table, model).to_numpy()
    for number in (0, 1):
        # Without lost placeholders the log-probability orders the rows of a pair.
        chosen = (pair == number) & ~lost
        assert spearmanr(both[chosen], sure[chosen])[0] > 0.9
    assert calibration_error(reliability_bins(both, is_good(table))) < 0.1


def test_a_file_without_coefficients_is_told(tmp_path):
    path = tmp_path / "other.json"
    path.write_text(json.dumps({"version": 1}), encoding="utf-8")
    with pytest.raises(UserError, match="holds no coefficients of the quality"):
        read_quality_model(path)
    assert read_quality_model(QUALITY_MODEL) == quality_model()


def test_held_out_judgements(shared_data):
    """Floors a little under the figures of docs/filter-quality.md, on the rows that were not fitted on."""
    signals = compute_signals(read_judged(shared_data("mlqe_pe")).half(1))
    human, pair, good = signals["human"].to_numpy(), np.array(signals["pair"].to_pylist()), is_good(signals)
    from_text, from_both = quality_of(without_model(signals)).to_numpy(), quality_of(signals).to_numpy()
    assert calibration_error(reliability_bins(from_text, good)) < 0.06
    assert calibration_error(reliability_bins(from_both, good)) < 0.06
    for code, floor in {"enzh": 0.4, "eten": 0.44, "roen": 0.58, "ruen": 0.53, "sien": 0.38}.items():
        chosen = pair == code
        assert spearmanr(from_both[chosen], human[chosen])[0] >= floor, code
        assert spearmanr(from_text[chosen], human[chosen])[0] > 0, code
