"""Bits per character against each text alone, token by token."""

import math

import pytest
import torch

from mlc.evaluation.bits import bits_per_character

TEXTS = ["How do I bake bread?", "Hola", "Ninawezaje kuoka mkate nyumbani?", "ab"]


def test_equals_each_text_alone(tiny_policy):
    bits, characters = 0.0, 0
    for text in TEXTS:
        encoded = tiny_policy.tokenizer(text, return_offsets_mapping=True)
        ids = encoded["input_ids"]
        with torch.no_grad():
            logits = tiny_policy.model(torch.tensor([ids])).logits[0].double()
        for place in range(1, len(ids)):
            bits -= float(torch.log_softmax(logits[place - 1], dim=-1)[ids[place]]) / math.log(2)
        characters += len(text) - encoded["offset_mapping"][0][1]
    for batch_size in (1, 3, 10):
        assert bits_per_character(tiny_policy, TEXTS, batch_size=batch_size) == pytest.approx(
            bits / characters, rel=1e-5
        )


def test_a_model_that_knows_nothing_needs_the_bits_of_its_vocabulary(load_tiny):
    policy = load_tiny()
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.zero_()
    count = len(policy.tokenizer("How do I bake bread?")["input_ids"])
    first = policy.tokenizer("How do I bake bread?", return_offsets_mapping=True)["offset_mapping"][0][1]
    expected = (count - 1) * math.log2(policy.model.config.vocab_size) / (20 - first)
    assert bits_per_character(policy, ["How do I bake bread?"]) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("texts", [[], [""]])
def test_nothing_to_predict(tiny_policy, texts):
    assert math.isnan(bits_per_character(tiny_policy, texts))
