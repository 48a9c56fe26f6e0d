import dataclasses
import json
import math
import os
import subprocess
import sys
from importlib import metadata

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mlc.store import KeyParts
from mlc.store.hashing import canonical_json, digest_data, digest_folder
from mlc.store.keys import PENDING, library_versions

BASE = KeyParts(
    stage="filter",
    version=2,
    settings={"length": {"low": 0.4, "high": 2.5}, "signals": ["empty", "script"], "limit": None},
    inputs={"prompts": "a" * 64, "translations": "b" * 64},
    sources={"mlc/quality/filtering.py": "c" * 64},
    libraries={"duckdb": "2.0"},
    models={"translator": "d" * 64},
    seed=0,
    rule=2,
)

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
plain_data = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=8
)
settings_parts = st.dictionaries(st.text(), plain_data, max_size=4)
digests = st.dictionaries(st.text(), st.text(), max_size=3)
key_parts = st.builds(
    KeyParts,
    stage=st.text(),
    version=st.integers(),
    settings=settings_parts,
    inputs=digests,
    sources=digests,
    libraries=digests,
    models=digests,
    seed=st.none() | st.integers(),
    rule=st.integers(min_value=1),
)


def reversed_dicts(value):
    if isinstance(value, dict):
        return {name: reversed_dicts(inner) for name, inner in reversed(value.items())}
    return [reversed_dicts(inner) for inner in value] if isinstance(value, list) else value


@given(key_parts)
def test_the_order_of_names_does_not_matter(parts):
    turned = KeyParts(**{name: reversed_dicts(value) for name, value in dataclasses.asdict(parts).items()})
    assert turned.key == parts.key
    assert turned.differences(parts) == []


@given(key_parts)
def test_a_key_survives_the_manifest(parts):
    assert KeyParts(**json.loads(json.dumps(dataclasses.asdict(parts)))).key == parts.key


@given(key_parts, key_parts)
def test_different_parts_have_different_keys(first, second):
    assume(canonical_json(dataclasses.asdict(first)) != canonical_json(dataclasses.asdict(second)))
    assert first.key != second.key


CHANGES = {
    "stage": "translate",
    "version": 3,
    "settings": {**BASE.settings, "length": {"low": 0.4, "high": 2.6}},
    "inputs": {**BASE.inputs, "prompts": "e" * 64},
    "sources": {"mlc/quality/filtering.py": "e" * 64},
    "libraries": {"duckdb": "2.1"},
    "models": {"translator": "e" * 64},
    "seed": 1,
    "rule": 3,
}


@pytest.mark.parametrize("name", CHANGES)
def test_each_part_decides(name):
    assert dataclasses.replace(BASE, **{name: CHANGES[name]}).key != BASE.key


def test_every_part_was_tried():
    assert CHANGES.keys() == {field.name for field in dataclasses.fields(KeyParts)}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"a": 1}, {"a": "1"}),
        ({"a": 1}, {"a": 1.5}),
        ({"a": True}, {"a": 1}),
        ({"a": None}, {}),
        ({"a": []}, {"a": {}}),
        ({"a": [1, 2]}, {"a": [2, 1]}),
        ({"a": {"b": 1}}, {"a.b": 1}),
        ({"a": "x", "b": ""}, {"a": "", "b": "x"}),
    ],
)
def test_values_that_look_alike_stay_apart(first, second):
    assert KeyParts("s", 1, settings=first).key != KeyParts("s", 1, settings=second).key


def test_an_input_does_not_pass_for_a_model():
    assert KeyParts("s", 1, inputs={"x": "y"}).key != KeyParts("s", 1, models={"x": "y"}).key


def test_the_same_key_in_other_processes():
    code = (
        "import dataclasses, json, sys; from mlc.store import KeyParts;"
        "parts = json.loads(sys.argv[1]);"
        "print(KeyParts(**{name: parts[name] for name in set(parts)}).key)"
    )
    arguments = [sys.executable, "-c", code, json.dumps(dataclasses.asdict(BASE))]
    keys = {
        subprocess.run(
            arguments, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout.strip()
        for seed in ("0", "1", "4242")
    }
    assert keys == {BASE.key}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nan_has_no_key(value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        _ = KeyParts("s", 1, settings={"x": value}).key


def test_only_plain_data_has_a_key():
    with pytest.raises(TypeError):
        _ = KeyParts("s", 1, settings={"x": {1, 2}}).key


def test_digest_by_hand():
    # printf '{"a":[1,2],"b":"é"}' | sha256sum
    assert canonical_json({"b": "é", "a": [1, 2]}) == '{"a":[1,2],"b":"é"}'
    assert digest_data({"b": "é", "a": [1, 2]}) == "d902c5ef87c42c33059e8d7b7aa30485809a5c0ff84b8d0d285616d5b03f23ea"


def test_folder_digest_counts_names_and_contents_only(tmp_path):
    for place in ("one", "two"):
        (tmp_path / place / "inner").mkdir(parents=True)
        (tmp_path / place / "inner" / "file.txt").write_text("text")
    os.utime(tmp_path / "two" / "inner" / "file.txt", (0, 0))
    first = digest_folder(tmp_path / "one")
    assert digest_folder(tmp_path / "two") == first
    (tmp_path / "two" / "inner" / "file.txt").rename(tmp_path / "two" / "file.txt")
    assert digest_folder(tmp_path / "two") != first
    (tmp_path / "one" / "inner" / "file.txt").write_text("Text")
    assert digest_folder(tmp_path / "one") != first


# What changed, in words.


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, []),
        ({"settings": CHANGES["settings"]}, ["configuration length.high 2.5 → 2.6"]),
        ({"settings": {**BASE.settings, "limit": 8}}, ["configuration limit None → 8"]),
        ({"settings": {**BASE.settings, "share": 0.5}}, ["configuration share is new"]),
        (
            {"settings": {"signals": ["empty", "script"], "limit": None}},
            ["configuration length.high is gone", "configuration length.low is gone"],
        ),
        (
            {"settings": {**BASE.settings, "signals": ["empty"]}},
            ["configuration signals ['empty', 'script'] → ['empty']"],
        ),
        ({"inputs": CHANGES["inputs"]}, ["input prompts changed"]),
        ({"inputs": {**BASE.inputs, "swh_Latn": "e" * 64}}, ["input swh_Latn is new"]),
        ({"inputs": {"prompts": "a" * 64}}, ["input translations is gone"]),
        ({"inputs": {}}, ["input prompts is gone", "input translations is gone"]),
        ({"inputs": {**BASE.inputs, "prompts": f"{PENDING}xyz"}}, ["input prompts changed"]),
        ({"sources": CHANGES["sources"]}, ["source file mlc/quality/filtering.py changed"]),
        ({"libraries": {"duckdb": "2.1"}}, ["library duckdb 2.0 → 2.1"]),
        ({"models": CHANGES["models"]}, ["model translator changed"]),
        ({"models": {"translator": "hub:a/b@1"}}, ["model translator changed"]),
        ({"seed": 1}, ["seed 0 → 1"]),
        ({"seed": None}, ["seed 0 → None"]),
        ({"version": 3}, ["stage version 2 → 3"]),
        ({"rule": 3}, ["keys are made in another way since this release"]),
        ({"rule": 3, "sources": {}}, ["keys are made in another way since this release"]),
        (
            {"rule": 3, "sources": {}, "libraries": {"duckdb": "2.1"}, "seed": 1},
            ["seed 0 → 1", "library duckdb 2.0 → 2.1", "keys are made in another way since this release"],
        ),
        (
            {"version": 3, "seed": 1, "settings": CHANGES["settings"], "inputs": CHANGES["inputs"]},
            ["configuration length.high 2.5 → 2.6", "input prompts changed", "seed 0 → 1", "stage version 2 → 3"],
        ),
    ],
)
def test_differences_in_words(change, words):
    assert dataclasses.replace(BASE, **change).differences(BASE) == words


def test_a_manifest_from_before_rules_had_numbers_keeps_its_key():
    stored = dataclasses.asdict(BASE)
    del stored["rule"]
    assert KeyParts(**stored).key == digest_data(stored)
    assert KeyParts(**stored).rule == 1


@pytest.mark.parametrize("name", CHANGES)
def test_what_makes_it_other_work(name):
    found = dataclasses.replace(BASE, **{name: CHANGES[name]}).differences_of_work(BASE)
    assert bool(found) == (name in ("settings", "inputs", "models", "seed"))


def test_a_first_input_is_new_and_nothing_is_gone():
    assert KeyParts("s", 1, inputs={"x": "y"}).differences(KeyParts("s", 1)) == ["input x is new"]
    assert KeyParts("s", 1).differences(KeyParts("s", 1, settings={"x": 1})) == ["configuration x is gone"]


def test_minor_versions():
    versions = library_versions(("numpy", "torch"))
    assert metadata.version("numpy").startswith(versions["numpy"] + ".")
    assert versions["numpy"].count(".") == versions["torch"].count(".") == 1
    assert "+" not in versions["torch"]


def test_a_tuple_is_no_change_from_the_list_that_a_manifest_holds():
    stored = json.loads(json.dumps(dataclasses.asdict(KeyParts("s", 1, settings={"x": ("a", "b"), "y": {"z": ()}}))))
    parts = KeyParts("s", 1, settings={"x": ("a", "b"), "y": {"z": ()}})
    assert parts.key == KeyParts(**stored).key
    assert parts.differences(KeyParts(**stored)) == []
