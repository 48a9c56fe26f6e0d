"""YAML that people write, and that others write to do harm."""

import time

import pytest
import yaml

from mlc.shipped import shipped_data
from mlc.yaml_text import YamlProblem, parse_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 1\nb: [x, 2.5, null, true]", {"a": 1, "b": ["x", 2.5, None, True]}),
        ("when: 2001-12-14", {"when": "2001-12-14"}),
        ("when: 2001-99-99", {"when": "2001-99-99"}),
        (
            "[1:30, 190:20:30, 010, 0o10, 08, 1e3, 1.5e-3, 1e-3, 0x1f, 1_000, -7, +.5, 0]",
            ["1:30", "190:20:30", "010", "0o10", "08", 1000.0, 0.0015, 0.001, 31, 1000, -7, 0.5, 0],
        ),
        ("[y, n, yes, no, on, off, .inf, ~]", ["y", "n", True, False, True, False, float("inf"), None]),
        ("a: &x {b: 1}\nc: {<<: *x, b: 2}", {"a": {"b": 1}, "c": {"b": 2}}),
        ("a: &x [1]\nb: *x", {"a": [1], "b": [1]}),
        ("", None),
        (b"a: \xc3\xa9", {"a": "é"}),
    ],
)
def test_plain_values(text, value):
    assert parse_yaml(text) == value


def test_the_shipped_files_read_as_anybody_reads_them():
    text = shipped_data("judges/phrases.yaml").read_bytes()
    assert parse_yaml(text) == yaml.safe_load(text)


LAUGHS = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)
PROBLEMS = {
    "a: 1\nb: 2\na: 3": "names the key 'a' twice, at line 3",
    "x:\n  a: 1\n  a: 1": "names the key 'a' twice, at line 3",
    "1: a\n0x1: b": "names the key '1' twice, at line 2",
    "a: [": "is not valid YAML at line 1",
    "a: !!python/object:os.system {}": "is not valid YAML at line 1",
    "a: !!timestamp 2001-99-99": "a number or a date that cannot be read",
    "a: " + "9" * 5000: "a number or a date that cannot be read",
    "a: " + "[" * 5000: "is nested too deeply",
    "a: " + "{x: " * 5000: "is nested too deeply",
    "a: &a [*a]": "unfolds to more than 100000 values",
    LAUGHS: "unfolds to more than 100000 values",
    "a: " + "x" * (1 << 20): "is longer than",
    "? [a, b]\n: 1\n? {c: d}\n: 2": "is not valid YAML",
    "a: 1\n---\na: 2": "holds two documents or more, the second at line 2",
    b"a: \xff\xfe": "is not valid YAML",
    "a: \0": "is not valid YAML",
}


@pytest.mark.parametrize("text", PROBLEMS, ids=range(len(PROBLEMS)))
def test_what_is_refused(text):
    # Not the time of a clock: other programs may keep the machine busy.
    started = time.process_time()
    with pytest.raises(YamlProblem, match=PROBLEMS[text]):
        parse_yaml(text)
    assert time.process_time() - started < 10
