"""Signal confidence: off by default, by language where it is set."""

import math

import pytest

from mlc.quality.settings import QualitySettings


def test_off_by_default(judge):
    row = judge("Good morning", "Buenos días", "spa_Latn", logprob=-9.0)
    assert row["signal_logprob"] == -9.0
    assert row["keep"]


@pytest.mark.parametrize(("logprob", "dropped"), [(-0.9, False), (-1.0, False), (-1.1, True)])
def test_threshold(judge, logprob, dropped):
    settings = QualitySettings.model_validate({"default": {"logprob": -1.0}})
    assert (
        "confidence" in judge("Good morning", "Buenos días", "spa_Latn", logprob=logprob, settings=settings)["reasons"]
    ) is dropped


@pytest.mark.parametrize("logprob", [math.nan, -math.inf, None])
def test_not_a_number_is_not_applicable(judge, logprob):
    assert judge("Good morning", "Buenos días", "spa_Latn", logprob=logprob)["signal_logprob"] is None
