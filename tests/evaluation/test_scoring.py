import copy

import numpy as np
import pytest
import torch
from transformers import MistralConfig, MistralForCausalLM

from mlc.evaluation.scoring import score_prompts
from mlc.models.loading import Policy
from mlc.stopping import Stopped
from tests.evaluation.conftest import SYSTEM

TEXTS = [
    "How do I bake bread without yeast?",
    "Hello",
    "Which of the plants in my garden need the least water during a dry and hot summer, and why?",
    "Wo ist der Bahnhof?",
    "東京の天気は?",
    "Hi",
]
REFUSAL = ("I can't help with", "I'm not able to")
COMPLIANCE = ("Sure, here is", "Start with")
ONE_TOKEN = ("a", "e", "s")


def rendered(policy, text):
    message = [{"role": "user", "content": text}]
    text = policy.tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    return policy.tokenizer(text, add_special_tokens=False)["input_ids"]


def score(policy, texts=TEXTS, refusal=REFUSAL, compliance=COMPLIANCE, layer=2, batch_size=4, **options):
    return score_prompts(
        policy,
        texts,
        refusal_openings=refusal,
        compliance_openings=compliance,
        layer=layer,
        batch_size=batch_size,
        **options,
    )


@torch.no_grad()
def plain_opening(policy, text, opening):
    """Mean log-probability per token of one opening after one prompt: one forward pass, no cache, no padding."""
    prompt = rendered(policy, text)
    tokens = policy.tokenizer(opening, add_special_tokens=False)["input_ids"]
    logprobs = policy.model(torch.tensor([prompt + tokens])).logits[0].log_softmax(dim=-1)
    return np.mean([logprobs[len(prompt) - 1 + k, token].item() for k, token in enumerate(tokens)])


def plain_margin(policy, text, refusal, compliance):
    return np.mean([plain_opening(policy, text, one) for one in refusal]) - np.mean(
        [plain_opening(policy, text, one) for one in compliance]
    )


@pytest.mark.parametrize(
    ("refusal", "compliance"),
    [
        pytest.param(REFUSAL, COMPLIANCE, id="several tokens"),
        pytest.param(ONE_TOKEN[:1], ONE_TOKEN[1:], id="one token each"),
        pytest.param(ONE_TOKEN[:2], COMPLIANCE[:1], id="mixed"),
        pytest.param(("I can't",), ("I can",), id="one begins the other"),
    ],
)
def test_margins_equal_the_plain_computation(policy, refusal, compliance):
    expected = [plain_margin(policy, text, refusal, compliance) for text in TEXTS]
    assert np.ptp(expected) > 0.01
    np.testing.assert_allclose(score(policy, TEXTS, refusal, compliance).margins, expected, atol=1e-5)


@pytest.mark.parametrize("layer", [0, 2, -1])
def test_rows_that_cannot_be_packed_have_the_same_scores(policy, monkeypatch, layer):
    packed = score(policy, layer=layer)
    monkeypatch.setattr("mlc.models.continuations.pack_rows", lambda *_: None)
    cached = score(policy, layer=layer)
    np.testing.assert_allclose(packed.margins, cached.margins, atol=1e-5)
    np.testing.assert_allclose(packed.states, cached.states, atol=1e-4)


@pytest.mark.parametrize(("refusal", "compliance"), [(REFUSAL, COMPLIANCE), (ONE_TOKEN[:1], ONE_TOKEN[1:])])
def test_the_head_runs_where_an_opening_is_told(policy, refusal, compliance):
    rows = []
    head = policy.model.get_output_embeddings()
    handle = head.register_forward_hook(lambda _module, given, _out: rows.append(given[0].shape[:-1].numel()))
    try:
        score(policy, refusal=refusal, compliance=compliance, batch_size=len(TEXTS))
    finally:
        handle.remove()
    lengths = [len(policy.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in (*refusal, *compliance)]
    # At the last token of the prompt for all openings, then at each token of an opening but its last.
    assert rows == [len(TEXTS) * (1 + sum(lengths) - len(lengths))]


def test_the_short_openings_are_one_token(policy):
    assert all(len(policy.tokenizer(text, add_special_tokens=False)["input_ids"]) == 1 for text in ONE_TOKEN)
    assert all(len(policy.tokenizer(text, add_special_tokens=False)["input_ids"]) > 1 for text in REFUSAL)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 20])
def test_the_batch_size_does_not_change_results(policy, batch_size):
    expected, found = score(policy, batch_size=6), score(policy, batch_size=batch_size)
    np.testing.assert_allclose(found.margins, expected.margins, atol=1e-5)
    np.testing.assert_allclose(found.states, expected.states, atol=1e-4)


def test_scores_come_in_the_order_of_the_prompts(policy):
    order = [3, 0, 5, 1, 4, 2]
    straight, turned = score(policy), score(policy, [TEXTS[index] for index in order])
    np.testing.assert_allclose(turned.margins, straight.margins[order], atol=1e-5)
    np.testing.assert_allclose(turned.states, straight.states[order], atol=1e-4)


def test_equal_prompts_have_equal_scores(policy):
    scores = score(policy, ["Hello", "Something much longer in between, to fill the batch", "Hello"], batch_size=2)
    assert scores.margins[0] == pytest.approx(scores.margins[2], abs=1e-5)


def test_exchanging_the_openings_turns_the_sign(policy):
    there, back = score(policy), score(policy, refusal=COMPLIANCE, compliance=REFUSAL)
    np.testing.assert_allclose(back.margins, -there.margins, atol=1e-6)


def test_a_likelier_refusal_raises_the_margin(policy):
    inclined = copy.deepcopy(policy)
    token = inclined.tokenizer(ONE_TOKEN[0])["input_ids"][0]
    head = torch.nn.Linear(64, 768)
    with torch.no_grad():
        head.weight.copy_(policy.model.lm_head.weight)
        head.bias.zero_()
        head.bias[token] = 5.0
    inclined.model.lm_head = head
    options = {"refusal": ONE_TOKEN[:1], "compliance": ONE_TOKEN[1:2]}
    # Log-softmax shifts both openings alike, so exactly the bias is left.
    np.testing.assert_allclose(score(inclined, **options).margins, score(policy, **options).margins + 5, atol=1e-4)


@pytest.mark.parametrize(("layer", "index"), [(0, 0), (2, 2), (0.5, 2), (-1, 4), (4, 4)])
def test_states_are_those_of_the_last_prompt_token(policy, layer, index):
    with torch.no_grad():
        expected = [
            policy.model(torch.tensor([rendered(policy, text)]), output_hidden_states=True)
            .hidden_states[index][0, -1]
            .numpy()
            for text in TEXTS
        ]
    scores = score(policy, layer=layer)
    np.testing.assert_allclose(scores.states, expected, atol=1e-4)
    assert scores.states.dtype == np.float32
    assert scores.margins.dtype == np.float64


def test_progress_counts_every_prompt(policy):
    told = []
    score(policy, batch_size=4, on_progress=told.append)
    assert told == [4, 2]


def test_a_short_window_of_attention(tiny_policy):
    # Padding must not count as distance, neither in prompts nor in what follows them.
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=768,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        sliding_window=12,
    )
    model = MistralForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    windowed = Policy(model, copy.deepcopy(tiny_policy.tokenizer), tiny_policy.source)
    windowed.tokenizer.chat_template = SYSTEM + windowed.tokenizer.chat_template
    expected = [plain_margin(windowed, text, REFUSAL, COMPLIANCE) for text in TEXTS]
    np.testing.assert_allclose(score(windowed, layer=1).margins, expected, atol=1e-4)


# Answers.


def test_scoring_ends_at_the_next_batch(policy):
    done = []
    with pytest.raises(Stopped):
        score(policy, batch_size=2, on_progress=done.append, should_stop=lambda: len(done) == 2)
    assert done == [2, 2]
