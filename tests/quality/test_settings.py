"""Thresholds: one declaration, overrides by language, errors."""

import pytest
from pydantic import ValidationError

from mlc.quality.settings import QualitySettings, ThresholdOverrides, Thresholds


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


@pytest.mark.parametrize(
    "values",
    [
        {"languages": {"klingon": {}}},
        {"default": {"lenght_z": 3}},
        {"min_kept_share": 1.5},
        {"default": {"length_z": 0}},
    ],
)
def test_mistakes_are_errors(values):
    with pytest.raises(ValidationError):
        QualitySettings.model_validate(values)
