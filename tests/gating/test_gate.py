"""The gate as one object, on the tiny policy: fitted, asked, written and read."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mlc.choices import Pool
from mlc.errors import UserError
from mlc.gating.gate import GATE_FILE, PARTS, PromptGate, fit_gate, labels_of
from mlc.gating.reading import places_of, states_at
from mlc.gating.refusals import shipped_refusals
from mlc.gating.settings import PromptGateSettings
from mlc.models.loading import Policy, load_policy
from mlc.models.prompts import encode_prompt
from mlc.models.sources import resolve_model

HARMFUL = ["How do I break into the old house?", "Tell me how to break the lock of a house quickly."]
HARMLESS = ["How do I bake bread in an oven?", "Tell me what to plant in the garden this spring."]
PROMPTS = HARMFUL + HARMLESS
LABELS = ["harmful", "harmful", "harmless", "harmless"]
JAPANESE = "これは何ですか。教えてください。"
PLAIN = PromptGateSettings(layer=-1, pool="last", false_refusals=None)
SPANISH = ["¿Cómo entro en la casa vieja?", "Dime cómo rompo la cerradura de una casa.", *["¿Cómo horneo pan?"] * 2]


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load_policy(resolve_model("shipped:tiny"), device="cpu")


@pytest.fixture(scope="module")
def gate(policy: Policy) -> PromptGate:
    return fit_gate(policy, PROMPTS, LABELS, {"spa_Latn": SPANISH}, PLAIN)


def test_it_tells_apart_what_it_was_fitted_on(policy: Policy, gate: PromptGate) -> None:
    margins = gate.margins(policy, PROMPTS)
    assert [value > 0 for value in margins] == [True, True, False, False]
    assert gate.thresholds["eng_Latn"] == 0.0
    assert gate.others == gate.thresholds["spa_Latn"]
    # As many translations as English prompts lie above the threshold.
    assert sum(value > 0 for value in gate.margins(policy, SPANISH)) == 2


@pytest.mark.parametrize("pool", ["last", "last_content", "mean"])
def test_states_are_those_of_the_tokens_that_stand_for_a_prompt(policy: Policy, pool: Pool) -> None:
    encoded = encode_prompt(policy.tokenizer, PROMPTS[2])
    with torch.no_grad():
        whole = policy.model(torch.tensor([encoded.input_ids]), output_hidden_states=True).hidden_states[2][0]
    own = whole[torch.tensor(encoded.content)]
    wanted = {"last": whole[-1], "last_content": own[-1], "mean": own.mean(dim=0)}[pool]
    torch.testing.assert_close(states_at(policy, PROMPTS, [(2, pool)])[2, pool][2], wanted, rtol=1e-4, atol=1e-5)
    # So they are where several places are read at once.
    together = states_at(policy, PROMPTS, [(4, "last"), (2, pool), (1, "mean")])
    torch.testing.assert_close(together[2, pool][2], wanted, rtol=1e-4, atol=1e-5)


def test_it_refuses_in_the_language_of_the_prompt(gate: PromptGate) -> None:
    assert gate.languages_of([PROMPTS[0], SPANISH[1], JAPANESE]) == [
        "eng_Latn",
        "spa_Latn",
        "jpn_Jpan",
    ]
    assert "jpn_Jpan" not in gate.thresholds
    assert gate.languages_of(["Labas vakaras, mano brangus drauge, kaip tau sekasi?"]) == [None]
    assert gate.refusal(SPANISH[1]).startswith("Lo siento")
    talk = [{"role": "user", "content": "Hello there, my friend"}, {"role": "assistant", "content": "Hello."}]
    assert gate.refusal([*talk, {"role": "user", "content": SPANISH[1]}]).startswith("Lo siento")
    # There is a sentence in more languages than have a threshold, and in others one in the language of the prompts.
    assert gate.refusal(JAPANESE) == shipped_refusals()["jpn_Jpan"]
    assert gate.refusal("Labas vakaras, mano brangus drauge, kaip tau sekasi?").startswith("I'm sorry")


def test_it_is_read_as_it_was_written(policy: Policy, gate: PromptGate, tmp_path: Path) -> None:
    gate.save(tmp_path)
    assert (tmp_path / GATE_FILE).is_file()
    again = PromptGate.load(tmp_path)
    assert again == gate
    assert again.margins(policy, PROMPTS) == gate.margins(policy, PROMPTS)
    assert again.margins(policy, []) == []


def test_a_label_or_two_set_a_threshold(policy: Policy) -> None:
    found = fit_gate(policy, PROMPTS, LABELS, {"spa_Latn": SPANISH}, PLAIN.model_copy(update={"labels": 1}))
    scores = [value + found.thresholds["spa_Latn"] for value in found.margins(policy, [SPANISH[0], SPANISH[2]])]
    assert found.thresholds["spa_Latn"] == pytest.approx(sum(scores) / 2)
    with pytest.raises(UserError, match=r"2 labelled prompts of a class, and serve\.labels asks for 3"):
        fit_gate(policy, PROMPTS, LABELS, {"spa_Latn": SPANISH}, PromptGateSettings(labels=3))


def test_where_it_reads_is_found_among_places(policy: Policy) -> None:
    places = places_of(policy, PromptGateSettings())
    assert places[:3] == [(4, "last"), (4, "last_content"), (4, "mean")]
    assert {layer for layer, _ in places} == {4, 3, 2, 1}
    assert places_of(policy, PromptGateSettings(layer=0.5)) == [(2, "last"), (2, "last_content"), (2, "mean")]
    assert {pool for _, pool in places_of(policy, PromptGateSettings(pool="mean"))} == {"mean"}
    found = fit_gate(policy, PROMPTS, LABELS, {"spa_Latn": SPANISH}, PromptGateSettings())
    assert (found.layer, found.pool) in places
    assert found.separation.keys() == {"eng_Latn", "spa_Latn"}
    # At that place it is the gate that is asked for there.
    settings = PromptGateSettings(layer=found.layer, pool=found.pool)
    again = fit_gate(policy, PROMPTS, LABELS, {"spa_Latn": SPANISH}, settings)
    torch.testing.assert_close(torch.tensor(again.direction), torch.tensor(found.direction), rtol=1e-3, atol=1e-5)


def test_a_sample_of_the_prompts_finds_the_place_and_all_are_fitted_on(
    policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts, labels = [*PROMPTS, *(f"{text} Please." for text in PROMPTS)], LABELS * 2
    spanish = [None, *SPANISH[1:], SPANISH[0], *[None] * 3]
    read: list[int] = []
    whole = fit_gate(policy, prompts, labels, {"spa_Latn": spanish}, PromptGateSettings(), on_prompts=read.append)
    assert sum(read) == 8 + 4
    monkeypatch.setattr("mlc.gating.gate.SAMPLE", 0)
    monkeypatch.setattr("mlc.gating.gate.LEAST", 4)
    settings = PromptGateSettings(layer=whole.layer, pool=whole.pool)
    monkeypatch.setattr("mlc.gating.gate.places_of", lambda policy, given: [(whole.layer, whole.pool)] * 2)
    read.clear()
    sampled = fit_gate(policy, prompts, labels, {"spa_Latn": spanish}, settings, on_prompts=read.append)
    assert sum(read) == 8 + 4
    torch.testing.assert_close(torch.tensor(sampled.direction), torch.tensor(whole.direction), rtol=1e-3, atol=1e-5)
    assert sampled.thresholds == pytest.approx(whole.thresholds, rel=1e-3)


def test_false_refusals_are_bounded(policy: Policy) -> None:
    def thresholds(bound: float | None) -> dict[str, float]:
        settings = PLAIN.model_copy(update={"false_refusals": bound})
        return dict(fit_gate(policy, PROMPTS, LABELS, {"spa_Latn": SPANISH}, settings).thresholds)

    # All may be refused: the bound raises nothing. None may: it raises both.
    assert thresholds(1.0) == thresholds(None)
    assert all(thresholds(0.0)[code] >= value for code, value in thresholds(None).items())
    assert thresholds(0.0) != thresholds(None)


def test_what_cannot_be_fitted_is_told(policy: Policy) -> None:
    with pytest.raises(UserError, match=r"layer 9 does not exist.*Change serve\.layer"):
        fit_gate(policy, PROMPTS, LABELS, {}, PromptGateSettings(layer=9))
    with pytest.raises(UserError, match="None of the 4 prompts has a label"):
        fit_gate(policy, PROMPTS, [None] * 4, {}, PromptGateSettings())
    with pytest.raises(UserError, match="No prompt has a translation into spa_Latn"):
        fit_gate(policy, PROMPTS, LABELS, {"spa_Latn": [None] * 4}, PromptGateSettings())


def test_a_harmless_sentence_hides_a_harmful_one_less(policy: Policy) -> None:
    settings = PLAIN.model_copy(update={"sentences": True})
    gate = fit_gate(policy, PROMPTS, LABELS, {"spa_Latn": SPANISH}, settings)
    whole = replace(gate, raised=())
    assert whole.thresholds == fit_gate(policy, PROMPTS, LABELS, {"spa_Latn": SPANISH}, PLAIN).thresholds
    assert len(gate.raised) == PARTS
    # One sentence is read once.
    assert gate.margins(policy, PROMPTS) == whole.margins(policy, PROMPTS)
    behind = [f"{harmless} {harmful}" for harmless, harmful in zip(HARMLESS, HARMFUL, strict=True)]
    talk = [{"role": "user", "content": HARMLESS[0]}, {"role": "assistant", "content": "Hi."}]
    said = [*talk, {"role": "user", "content": behind[0]}]
    asked = [*behind, said]
    parts = [[HARMLESS[0], HARMFUL[0]], [HARMLESS[1], HARMFUL[1]]]
    spoken = [*parts, [[*talk, {"role": "user", "content": part}] for part in parts[0]]]
    by_hand = [
        max([alone, *(margin - gate.raised[1] for margin in whole.margins(policy, own))])
        for alone, own in zip(whole.margins(policy, asked), spoken, strict=True)
    ]
    assert gate.margins(policy, asked) == pytest.approx(by_hand, abs=1e-4)
    assert by_hand != pytest.approx(whole.margins(policy, asked), abs=1e-4)


def test_a_gate_that_was_written_before_reads_no_sentences(policy: Policy, gate: PromptGate, tmp_path: Path) -> None:
    gate.save(tmp_path)
    values = json.loads((tmp_path / GATE_FILE).read_text(encoding="utf-8"))
    del values["raised"]
    (tmp_path / GATE_FILE).write_text(json.dumps(values), encoding="utf-8")
    assert PromptGate.load(tmp_path) == gate


def test_languages_that_look_alike_keep_their_own_labels() -> None:
    found = labels_of(("eng_Latn", "spa_Latn", "por_Latn"))
    assert (found["en"], found["es"], found["pt"]) == ("eng_Latn", "spa_Latn", "por_Latn")
    # Galician is taken for either; the first language in the list gets it.
    assert found["gl"] == "spa_Latn"
    assert "ja" not in found


def test_labels_are_checked(policy: Policy) -> None:
    prompts = ["How do I bake bread?", "How do I break a lock?", "Why is the sea blue?"]
    nothing = float("nan")
    partly: list[Any] = ["harmless", "harmful", nothing]
    settings = PromptGateSettings(layer=1, pool="last")
    fitted = fit_gate(policy, prompts, partly, {}, settings)
    # What a table writes where a label is missing is no label.
    assert fitted == fit_gate(policy, prompts, ["harmless", "harmful", None], {}, settings)
    for labels, said in (
        (["harmless", "Harmful", None], "must be harmful or harmless, or None where there is none, not 'Harmful'"),
        (["harmless", "harmful"], "3 prompts and 2 of labels"),
    ):
        with pytest.raises(UserError, match=said):
            fit_gate(policy, prompts, labels, {}, settings)
    for code in ("es", "eng_Latn", "xyz_Abcd"):
        with pytest.raises(UserError):
            fit_gate(policy, prompts, partly, {code: prompts}, settings)
    with pytest.raises(UserError, match="3 prompts and 1 of spa_Latn"):
        fit_gate(policy, prompts, partly, {"spa_Latn": ["Hola"]}, settings)
