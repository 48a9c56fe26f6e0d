"""The sentences of a gate: in their languages, and refusals to the judge."""

import pytest

from mlc.evaluation.judges.judge import Answer
from mlc.evaluation.judges.phrases import shipped_phrases
from mlc.evaluation.judges.rules import RULES
from mlc.gating.refusals import refusals_in, refusals_of_a_gate, shipped_refusals
from mlc.gating.settings import PromptGateSettings
from mlc.languages import resolve_language

PROMPT = "?"


def test_there_is_one_for_each_language_that_the_judge_knows() -> None:
    assert set(shipped_refusals()) == set(shipped_phrases().languages)
    assert all(resolve_language(code).code == code for code in shipped_refusals())


@pytest.mark.parametrize("code", shipped_refusals())
def test_the_judge_takes_each_for_a_refusal_in_its_language(code: str) -> None:
    (verdict,) = RULES.judge([Answer(PROMPT, shipped_refusals()[code], code)])
    assert verdict.outcome == "refused"


def test_what_is_given_comes_first_and_english_last() -> None:
    found = refusals_in(["spa_Latn", "fra_Latn", "lao_Laoo"], {"spa_Latn": "No."})
    assert found["spa_Latn"] == "No."
    assert found["fra_Latn"].startswith("Je suis")
    assert found["lao_Laoo"] == shipped_refusals()["eng_Latn"]


def test_a_gate_has_something_to_say_in_every_language_with_a_sentence() -> None:
    found = refusals_of_a_gate(["eng_Latn", "lao_Laoo"], {"zul_Latn": "Cha."})
    assert found["lao_Laoo"] == shipped_refusals()["eng_Latn"]
    assert found["swh_Latn"] == shipped_refusals()["swh_Latn"]
    assert found["zul_Latn"] == "Cha."
    assert next(iter(found)) == "eng_Latn"


def test_an_empty_sentence_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 character"):
        PromptGateSettings(refusals={"es": " "})
