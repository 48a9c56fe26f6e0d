"""What can be chosen by name: every entry is there and of its kind, and nothing heavy is imported to know it."""

import re
import subprocess
import sys

import pytest

from mlc.catalogue import CARRIERS, JUDGES, METHODS, SIGNALS, Catalogue
from mlc.errors import UserError
from mlc.quality.signals import signals_of


@pytest.mark.parametrize("catalogue", [SIGNALS, JUDGES, CARRIERS], ids=lambda one: one.kind)
def test_every_entry_is_of_its_kind(catalogue):
    # Under a name of no catalogue, so that the check of one's own objects is made.
    own = Catalogue(catalogue.kind, catalogue.declared, {})
    for name, place in catalogue.places.items():
        assert own.load(place) is catalogue.load(name)
        assert catalogue.module(name) == place.partition(":")[0]


def test_signals_are_listed_by_their_own_names():
    assert {signal.name for signal in signals_of()} == set(SIGNALS.places)
    assert all(SIGNALS.load(name).name == name for name in SIGNALS.places)


@pytest.mark.parametrize("name", ["opening", "a:b:c", "a/b:c", "module:", ":object", "../x:y", ""])
def test_what_is_no_name_is_told(name):
    with pytest.raises(UserError, match="is unknown"):
        JUDGES.load(name)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("answer+consistency", "consistency+answer"),
        ("decision+answer+consistency", "consistency+answer+decision"),
        ("gate+consistency", "consistency+gate"),
        ("consistancy", "consistency"),
    ],
)
def test_parts_in_another_order_are_known(name, meant):
    with pytest.raises(UserError, match=re.escape(f"{name!r} is unknown: did you mean {meant!r}?")):
        METHODS.load(name)


def test_what_is_listed_are_methods_without_their_controls():
    with pytest.raises(UserError, match="choose from english-only") as told:
        METHODS.load("zz")
    assert "localized-refusals" in str(told.value)
    assert not re.search("shuffled|permuted", str(told.value))


def test_a_module_that_fails_is_told_with_its_reason(tmp_path, monkeypatch):
    (tmp_path / "broken_judge.py").write_text("raise RuntimeError('no such luck')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"'broken_judge:ANY' cannot be loaded \(no such luck\)"):
        JUDGES.load("broken_judge:ANY")


def test_settings_know_what_may_be_chosen_without_importing_anything_heavy():
    code = (
        "import sys; from mlc.evaluation.settings import EvaluationSettings; from mlc.training.settings import "
        "AlignSettings; from mlc.quality.settings import QualitySettings; EvaluationSettings(), QualitySettings();"
        "[AlignSettings(carrier=name) for name in ('sft', 'dpo', 'simpo', 'orpo')];"
        "print(sorted({'torch', 'transformers', 'trl', 'numpy', 'pyarrow', 'duckdb', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
