"""Thresholds: one declaration, overrides by language, errors."""

import re

import pyarrow as pa
import pytest
from pydantic import ValidationError

from mlc.quality.deciding import rules_in_key
from mlc.quality.filtering import filter_pairs
from mlc.quality.settings import SCRIPT_GROUPS, QualitySettings, ThresholdOverrides, Thresholds
from mlc.quality.signals import SIGNALS, chosen_signals, rules_of


def test_every_threshold_can_be_overridden_and_is_documented():
    assert list(Thresholds.model_fields) == list(ThresholdOverrides.model_fields)
    assert all(field.description for field in Thresholds.model_fields.values())
    assert all(field.default is None for field in ThresholdOverrides.model_fields.values())


@pytest.mark.parametrize("part", ["default", "languages"])
@pytest.mark.parametrize(
    ("name", "value"), [("script_share", 1.1), ("length_z", 0), ("numbers_changed", -1), ("logprob", 0.1)]
)
def test_overrides_are_bounded_as_the_thresholds_are(part, name, value):
    values = {name: value} if part == "default" else {"spa_Latn": {name: value}}
    with pytest.raises(ValidationError):
        QualitySettings.model_validate({part: values})


def test_override_changes_only_what_it_sets():
    settings = QualitySettings.model_validate({"languages": {"swh_Latn": {"length_z": 9.0}}})
    changed = settings.thresholds("swh_Latn").model_dump()
    assert changed.pop("length_z") == 9.0
    assert changed.items() <= settings.default.model_dump().items()
    assert settings.thresholds("spa_Latn") == settings.default


def test_language_may_be_written_as_people_do():
    settings = QualitySettings.model_validate({"languages": {"swahili": {"length_z": 9.0}}})
    assert settings.thresholds("swh_Latn").length_z == 9.0


def test_the_most_specific_threshold_counts():
    settings = QualitySettings.model_validate(
        {
            "default": {"length_z": 1.0, "script_share": 0.1},
            "scripts": {"cjk": {"length_z": 2.0, "lines_share": 0.2}, "jpan": {"length_z": 3.0}},
            "languages": {"ja": {"length_z": 4.0}},
            "pairs": {"en-ja": {"length_z": 5.0}, "zh-Hant-ja": {"length_z": 6.0}},
        }
    )

    def length_z(target, source="eng_Latn"):
        return settings.thresholds(target, source).length_z

    assert length_z("spa_Latn") == 1.0
    assert length_z("zho_Hans") == 2.0
    assert length_z("jpn_Jpan", "deu_Latn") == 4.0
    assert length_z("jpn_Jpan") == 5.0
    assert length_z("jpn_Jpan", "zho_Hant") == 6.0
    japanese = settings.thresholds("jpn_Jpan")
    assert (japanese.script_share, japanese.lines_share) == (0.1, 0.2)


def test_settings_of_one_language_leave_out_the_others():
    settings = QualitySettings.model_validate(
        {
            "scripts": {"cjk": {"length_z": 2.0}, "Arab": {"length_z": 3.0}},
            "languages": {"ja": {"length_z": 4.0}, "ar": {"length_z": 4.0}},
            "pairs": {"en-ja": {"length_z": 5.0}, "de-ja": {"length_z": 5.0}, "en-ar": {"length_z": 5.0}},
        }
    )
    own = settings.only_for("jpn_Jpan")
    assert (set(own.scripts), set(own.languages), set(own.pairs)) == ({"cjk"}, {"jpn_Jpan"}, {"eng_Latn-jpn_Jpan"})
    assert own.thresholds("jpn_Jpan") == settings.thresholds("jpn_Jpan")


def test_no_script_is_in_two_groups():
    scripts = [script for group in SCRIPT_GROUPS.values() for script in group]
    assert len(set(scripts)) == len(scripts)


def test_every_threshold_is_declared_once_and_read_by_the_rule_that_declares_it():
    rules = rules_of(SIGNALS)
    declared = [threshold.name for rule in rules for threshold in rule.thresholds]
    assert declared == list(Thresholds.model_fields)
    assert len(set(declared)) == len(declared)
    for rule in rules:
        assert set(re.findall(r"limits\.(\w+)", rule.condition)) == {one.name for one in rule.thresholds}, rule.name


def test_a_rule_reads_its_own_columns_and_those_it_names():
    for signal in SIGNALS:
        own = {column.name for one in (signal, *chosen_signals(signal.uses, SIGNALS)) for column in one.columns}
        assert set(re.findall(r"signal_\w+", signal.condition)) <= own, signal.name


def test_no_two_rules_have_one_priority():
    priorities = [rule.priority for rule in rules_of(SIGNALS)]
    assert priorities == sorted(set(priorities))


@pytest.mark.parametrize(
    "values",
    [
        {"languages": {"klingon": {}}},
        {"scripts": {"Latin1": {}}},
        {"pairs": {"en": {}}},
        {"pairs": {"en-klingon": {}}},
        {"model_signals": ["length"]},
        {"length_batch_rows": 1},
        {"default": {"lenght_z": 3}},
        {"min_kept_share": 1.5},
        {"default": {"length_z": 0}},
    ],
)
def test_mistakes_are_errors(values):
    with pytest.raises(ValidationError):
        QualitySettings.model_validate(values)


OWN = """
from mlc.quality.signals.signal import Column, Direction, Share, Signal, Threshold

OWN = Signal(
    name="own",
    source="Ours.",
    columns=(Column("signal_own", Direction.HIGHER_IS_WORSE, "What it is.", 0),),
    measure="SELECT row, 0.5 AS signal_own FROM texts",
    condition="signal_own {comparison} limits.own",
    thresholds=(Threshold("own", Share, 0.5, "Dropped beyond."),),
)
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    for name, comparison in (("own_above", ">"), ("own_below", "<"), ("own_from", ">=")):
        (tmp_path / f"{name}.py").write_text(OWN.format(comparison=comparison))
    monkeypatch.syspath_prepend(tmp_path)


def test_signals_of_ones_own_bring_their_thresholds(own):
    values = {"more_signals": ["own_above:OWN"], "default": {"length_z": 2}, "languages": {"sw": {"own": 0.1}}}
    settings = QualitySettings.model_validate(values)
    assert (settings.default.own, settings.default.length_z) == (0.5, 2)
    assert (settings.thresholds("swh_Latn").own, settings.thresholds("spa_Latn").own) == (0.1, 0.5)
    again = QualitySettings.model_validate(settings.model_dump(mode="json"))
    assert again == settings
    assert again.thresholds("swh_Latn").own == 0.1
    for wrong in ({"default": {"own": 2}}, {"languages": {"sw": {"own": -1}}}, {"default": {"onw": 1}}):
        with pytest.raises(ValidationError):
            QualitySettings.model_validate({**values, **wrong})


def test_what_a_rule_says_is_in_the_key_of_what_decides(own):
    plain, above, below = (
        rules_in_key(QualitySettings.model_validate({"more_signals": more}))
        for more in ([], ["own_above:OWN"], ["own_below:OWN"])
    )
    assert above.keys() - plain.keys() == {"own"}
    assert above["own"]["condition"] != below["own"]["condition"]
    assert {name: above[name] for name in plain} == plain == {name: below[name] for name in plain}


def test_a_rule_of_ones_own_decides(own):
    for name, dropped in (("own_above", False), ("own_below", False), ("own_from", True)):
        row = {"source": "Good morning.", "translation": "Buenos días.", "source_language": "eng_Latn"}
        pairs = pa.Table.from_pylist([{**row, "target_language": "spa_Latn"}])
        found = filter_pairs(pairs, QualitySettings.model_validate({"more_signals": [f"{name}:OWN"]})).to_pylist()[0]
        assert (found["signal_own"], found["reasons"]) == (0.5, ["own"] if dropped else [])
