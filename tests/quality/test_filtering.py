"""Measuring and deciding: columns, order, priority, errors, properties."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlc.errors import UserError
from mlc.quality.deciding import decide
from mlc.quality.filtering import filter_pairs
from mlc.quality.measuring.tables import compute_signals
from mlc.quality.settings import QualitySettings
from mlc.quality.signals import RULES, SIGNAL_COLUMNS, SIGNALS, TEXT_COLUMNS, TEXT_SIGNALS, Direction

DEFAULT = QualitySettings()
ENGLISH = "The library is closed on Sunday morning."
SPANISH = "La biblioteca está cerrada el domingo por la mañana."


def pairs(*rows, **columns):
    sources, translations = zip(*rows, strict=True) if rows else ((), ())
    count = len(rows)
    return pa.table(
        {
            "source": pa.array(sources, pa.string()),
            "translation": pa.array(translations, pa.string()),
            "source_language": pa.array(["eng_Latn"] * count, pa.string()),
            "target_language": pa.array(["spa_Latn"] * count, pa.string()),
            **columns,
        }
    )


def test_declared_columns_are_the_ones_measured():
    table = compute_signals(pairs((ENGLISH, SPANISH)))
    assert tuple(table.column_names[4:]) == TEXT_COLUMNS
    assert len(set(SIGNAL_COLUMNS)) == len(SIGNAL_COLUMNS)
    assert all(name.startswith("signal_") for name in SIGNAL_COLUMNS)
    assert all(signal.source and column.meaning for signal in SIGNALS for column in signal.columns)
    assert all(isinstance(column.direction, Direction) for signal in SIGNALS for column in signal.columns)


def test_other_columns_pass_unchanged():
    tags = pa.array([["a"], None], pa.list_(pa.string()))
    table = pairs((ENGLISH, SPANISH), (ENGLISH, None), row=pa.array([7, 7]), tags=tags)
    judged = filter_pairs(table, DEFAULT)
    assert judged.select(table.column_names).equals(table)


def test_reason_is_the_first_by_priority():
    judged = filter_pairs(pairs(("Tell me about 3 cats, please.", "Tell me about 4 cats, please.")), DEFAULT)
    row = judged.to_pylist()[0]
    assert row["reasons"] == ["copied", "wrong_language", "numbers"]
    assert row["reason"] == "copied"
    assert row["keep"] is False


def test_kept_row_has_no_reason():
    row = filter_pairs(pairs((ENGLISH, SPANISH)), DEFAULT).to_pylist()[0]
    assert (row["keep"], row["reason"], row["reasons"]) == (True, None, [])


def test_decision_needs_only_stored_signals():
    table = pairs((ENGLISH, SPANISH), (ENGLISH, ENGLISH), (ENGLISH, None), (ENGLISH, "Sí."))
    stored = compute_signals(table).select(["source_language", "target_language", *TEXT_COLUMNS])
    strict = QualitySettings.model_validate({"default": {"length_z": 0.01}})
    verdict = ["quality", "keep", "reason", "reasons"]
    for chosen in (DEFAULT, strict):
        assert decide(stored, chosen).select(verdict).equals(filter_pairs(table, chosen).select(verdict))
    assert decide(stored, strict)["reason"][0].as_py() == "length"


def test_override_holds_for_its_language_only():
    table = pairs((ENGLISH, SPANISH), (ENGLISH, SPANISH)).set_column(
        3, "target_language", pa.array(["spa_Latn", "glg_Latn"])
    )
    chosen = QualitySettings.model_validate({"languages": {"glg_Latn": {"length_z": 0.01}}})
    assert filter_pairs(table, chosen)["reason"].to_pylist() == [None, "length"]


def test_empty_table():
    judged = filter_pairs(pairs(), DEFAULT)
    assert judged.num_rows == 0
    assert judged.column_names[-4:] == ["quality", "keep", "reason", "reasons"]


def test_empty_and_full_tables_have_the_same_types():
    assert filter_pairs(pairs(), DEFAULT).schema.equals(filter_pairs(pairs((ENGLISH, SPANISH)), DEFAULT).schema)


def test_large_and_dictionary_strings_are_read():
    table = pairs((ENGLISH, SPANISH))
    table = table.set_column(1, "translation", table["translation"].cast(pa.large_string()))
    table = table.set_column(3, "target_language", table["target_language"].dictionary_encode())
    assert filter_pairs(table, DEFAULT)["keep"].to_pylist() == [True]


def test_long_text_is_measured():
    table = pairs((ENGLISH * 200, SPANISH * 200))
    assert filter_pairs(table, DEFAULT).num_rows == 1


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (pairs((ENGLISH, SPANISH)).drop_columns(["source"]), ["lacks source"]),
        (pairs((None, SPANISH)), ["source", "1 empty"]),
        (
            pairs((ENGLISH, SPANISH)).set_column(3, "target_language", pa.array(["tlh_Latn"])),
            ["'tlh_Latn'", "NLLB codes such as"],
        ),
    ],
)
def test_mistakes_are_told_in_one_sentence(table, words):
    with pytest.raises(UserError) as caught:
        compute_signals(table)
    assert all(word in str(caught.value) for word in words)
    assert "\n" not in str(caught.value)
    assert SPANISH not in str(caught.value)


def test_missing_signal_is_told():
    with pytest.raises(UserError, match="lacks signal_copied"):
        decide(compute_signals(pairs((ENGLISH, SPANISH))).drop_columns(["signal_copied"]), DEFAULT)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
LANGUAGES = st.sampled_from(["spa_Latn", "arb_Arab", "zho_Hans", "tha_Thai", "ewe_Latn", "kor_Hang"])


@given(
    rows=st.lists(
        st.tuples(TEXT, st.none() | TEXT, LANGUAGES, st.none() | st.booleans(), st.none() | st.floats()), max_size=12
    )
)
@settings(max_examples=8)
def test_properties(rows):
    table = pa.table(
        {
            "id": pa.array(range(len(rows), 0, -1), pa.int64()),
            "source": pa.array([row[0] for row in rows], pa.string()),
            "translation": pa.array([row[1] for row in rows], pa.string()),
            "source_language": pa.array(["eng_Latn"] * len(rows), pa.string()),
            "target_language": pa.array([row[2] for row in rows], pa.string()),
            "finished": pa.array([row[3] for row in rows], pa.bool_()),
            "logprob": pa.array([row[4] for row in rows], pa.float64()),
        }
    )
    judged = filter_pairs(table, DEFAULT)
    before = table.select(["id", "source", "translation"])
    assert judged.select(before.column_names).equals(before)
    # The given log-probabilities aside: one that is not a number is not equal to itself.
    again = filter_pairs(judged, DEFAULT)
    assert again.drop_columns(["logprob"]).equals(judged.drop_columns(["logprob"]))
    order = list(RULES)
    for row in judged.to_pylist():
        assert row["keep"] == (row["reasons"] == [])
        assert row["reason"] == (row["reasons"][0] if row["reasons"] else None)
        assert row["reasons"] == sorted(row["reasons"], key=order.index)
        for signal in TEXT_SIGNALS:
            for column in signal.columns:
                value = row[column.name]
                if value is not None:
                    assert column.low is None or value >= column.low - 1e-9, column.name
                    assert column.high is None or value <= column.high + 1e-9, column.name
