"""Lines of JSON that are added one at a time, whatever became of the last one."""

import pytest

from mlc.store.lines import append_line, read_lines


def test_entries_come_back_in_order(tmp_path):
    path = tmp_path / "lines.jsonl"
    assert read_lines(path) == []
    entries = [{"n": 1}, {"text": "good → better\u2028next\x85"}, {"list": [None]}]
    for entry in entries:
        append_line(path, entry)
    assert read_lines(path) == entries
    assert len(path.read_bytes().split(b"\n")) == len(entries) + 1


# Twelve bytes end within the arrow.
@pytest.mark.parametrize("kept", [1, 12, 14])
def test_a_line_that_was_cut_off_costs_no_other(tmp_path, kept):
    path = tmp_path / "lines.jsonl"
    append_line(path, {"n": 1})
    whole = path.read_bytes()
    append_line(path, {"text": "→"})
    path.write_bytes(path.read_bytes()[: len(whole) + kept])
    append_line(path, {"n": 2})
    assert read_lines(path) == [{"n": 1}, {"n": 2}]
