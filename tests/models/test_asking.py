"""Models that are only asked: their own answers, and what asking leaves behind."""

import pytest
import torch

from mlc.evaluation.scoring import score_prompts
from mlc.gating.reading import states_at
from mlc.models.loading import load_policy
from mlc.models.modes import asked_only
from mlc.models.prompts import encode_prompt, pad_prompts
from mlc.models.sampling import own_answers
from mlc.models.sources import resolve_model

QUESTIONS = [
    "How do I bake bread?",
    "Which trees grow by the sea?",
    "What is a good name for a cat?",
    "Why is it dark?",
]


@pytest.fixture
def policy():
    return load_policy(resolve_model("shipped:tiny"), device="cpu")


def modes(model):
    return [module.training for module in model.modules()]


@pytest.mark.parametrize("sample", [False, True])
@pytest.mark.parametrize(
    "own",
    [
        {"repetition_penalty": 1.5},
        {"no_repeat_ngram_size": 2},
        {"do_sample": True, "temperature": 0.3, "top_k": 5},
        {"typical_p": 0.2},
        {"epsilon_cutoff": 0.01},
        {"suppress_tokens": [5, 6, 7]},
    ],
)
def test_what_a_checkpoint_says_of_generation_changes_no_answer(policy, sample, own):
    prompts = pad_prompts([encode_prompt(policy.tokenizer, text) for text in QUESTIONS], policy.pad_token, side="left")

    def answers():
        torch.manual_seed(0)
        return own_answers(policy.model, prompts, 24, sample=sample)

    plain = answers()
    before = policy.model.generation_config
    before.update(**own)
    assert answers() == plain
    assert policy.model.generation_config is before


@pytest.mark.parametrize("sample", [False, True])
def test_the_side_of_the_padding_changes_no_answer(policy, sample):
    encoded = [encode_prompt(policy.tokenizer, text) for text in QUESTIONS]

    def answers(side):
        torch.manual_seed(0)
        return own_answers(policy.model, pad_prompts(encoded, policy.pad_token, side=side), 12, sample=sample)

    assert len({len(prompt.input_ids) for prompt in encoded}) > 1
    assert answers("right") == answers("left")


def test_every_part_is_in_the_mode_that_it_was_in(policy):
    policy.model.train()
    frozen = next(iter(policy.model.get_decoder().layers))
    frozen.eval()
    before = modes(policy.model)
    assert set(before) == {True, False}
    with asked_only(policy.model):
        assert not any(modes(policy.model))
    assert modes(policy.model) == before


def test_dropout_has_no_part_in_scores_and_states(policy):
    openings = {"refusal_openings": ["I cannot"], "compliance_openings": ["Sure, here"]}

    def told():
        scores = score_prompts(policy, QUESTIONS, **openings, layer=-1, batch_size=2)
        return scores.margins, states_at(policy, QUESTIONS, [(1, "last")])[1, "last"]

    policy.model.config.attention_dropout = 0.5
    for layer in policy.model.get_decoder().layers:
        layer.self_attn.attention_dropout = 0.5
    margins, states = told()
    policy.model.train()
    before = modes(policy.model)
    again, states_again = told()
    assert list(again) == list(margins)
    assert torch.equal(states_again, states)
    assert modes(policy.model) == before
