"""Texts from outside in a terminal: shown as they are, and able to do nothing."""

import pytest
from rich.cells import cell_len

from flows.terminal.texts import escaped, one_line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("two\nlines\t\x1b[31m", "two\\nlines\\t\\x1b[31m"),
        ("back\\slash", "back\\\\slash"),
        ("a\u202eb\u2069c\u2028d", "a\\u202eb\\u2069c\\u2028d"),
        ("می\u200cخواهم क\u094dषि", "می\u200cخواهم क\u094dषि"),
        ("\ud800", "\\ud800"),
    ],
)
def test_invisible_characters_are_written_out_but_for_those_that_words_need(text: str, shown: str) -> None:
    assert escaped(text) == shown


def test_texts_from_right_to_left_are_isolated_and_others_are_not() -> None:
    assert one_line("שלום", None) == "\u2068שלום\u2069"
    assert one_line("hello", None) == "hello"


@pytest.mark.parametrize("text", ["word " * 40, "漢字" * 40, "مرحبا " * 40])
def test_a_text_is_cut_to_the_cells_that_it_may_take(text: str) -> None:
    line = one_line(text, 30)
    assert 26 <= cell_len(line.strip("\u2068\u2069")) <= 30
    assert line.strip("\u2069").endswith("…")
    assert line.endswith("\u2069") == line.startswith("\u2068")
