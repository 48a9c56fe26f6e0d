import copy

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM

from mlc.models.continuations import answer_tokens, continue_packed, continue_prompts
from mlc.models.prompts import PromptBatch, encode_prompt, pad_prompts
from mlc.models.states import prompt_states
from mlc.shipped import shipped_data

TEXTS = ["How do I bake bread?", "Hello", "Wo ist der Bahnhof?"]
CONTINUATIONS = [
    [(5, 6, 7), (5, 6, 7), (5, 6, 7)],
    [(9,), (9,), (9,)],
    [(), (30, 31, 32, 33), (12, 13)],
]


SYSTEM = "Each prompt of this table begins with one and the same long opening, which may be computed once for all. "


@pytest.fixture(params=["short opening", "long shared opening"])
def sharp(request, load_tiny):
    """With sharper weights, so that prompts and positions matter; with a short and a long text before each prompt."""
    policy = load_tiny()
    if request.param == "long shared opening":
        policy.tokenizer.chat_template = SYSTEM + policy.tokenizer.chat_template
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.normal_(std=0.25)
    return policy


def batch_of(policy, side="left"):
    return pad_prompts([encode_prompt(policy.tokenizer, text) for text in TEXTS], policy.pad_token, side=side)


def plain(policy, text, tokens):
    """Log-probabilities of tokens after a prompt, from a forward pass over all of it."""
    asked = list(encode_prompt(policy.tokenizer, text).input_ids)
    logits = policy.model(torch.tensor([[*asked, *tokens]])).logits[0]
    return logits[len(asked) - 1 : len(asked) - 1 + len(tokens)]


@pytest.mark.parametrize("packs", [True, False])
@pytest.mark.parametrize("side", ["left", "right"])
def test_each_continuation_is_said_as_after_its_prompt_alone(sharp, monkeypatch, packs, side):
    if not packs:
        monkeypatch.setattr("mlc.models.continuations.pack_rows", lambda *_: None)
    said = continue_prompts(sharp.model, batch_of(sharp, side), CONTINUATIONS, layer=2, pool="last_content")
    means = said.mean_log_probabilities()
    for number, rows in enumerate(CONTINUATIONS):
        logits, there = said.of(number)
        for row, tokens in enumerate(rows):
            assert there[row].sum() == len(tokens)
            expected = plain(sharp, TEXTS[row], tokens)
            torch.testing.assert_close(logits[row, : len(tokens)], expected, rtol=1e-4, atol=1e-4)
            picked = expected.log_softmax(-1)[range(len(tokens)), list(tokens)]
            assert means[row, number].item() == pytest.approx(picked.mean().item() if tokens else 0.0, abs=1e-4)
    batch = batch_of(sharp)
    states = prompt_states(
        sharp.model,
        batch.input_ids,
        batch.attention_mask,
        layer=2,
        pool="last_content",
        content_mask=batch.content_mask,
    )
    torch.testing.assert_close(said.states, states, rtol=1e-4, atol=1e-4)


def test_the_gradient_is_that_of_the_plain_passes(sharp):
    def gradients(loss):
        sharp.model.zero_grad()
        loss.backward()
        return {name: parameter.grad.clone() for name, parameter in sharp.model.named_parameters()}

    ours = gradients(continue_prompts(sharp.model, batch_of(sharp), CONTINUATIONS).mean_log_probabilities().sum())
    passes = [
        plain(sharp, TEXTS[row], tokens).log_softmax(-1)[range(len(tokens)), list(tokens)].mean()
        for rows in CONTINUATIONS
        for row, tokens in enumerate(rows)
        if tokens
    ]
    expected = gradients(torch.stack(passes).sum())
    for name, gradient in expected.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-3, atol=1e-3 * float(gradient.abs().max()))


def test_an_encoder_decoder_reads_the_prompt_and_writes_the_continuation():
    model = AutoModelForSeq2SeqLM.from_pretrained(shipped_data("nano"), dtype=torch.float32).eval()
    ids = torch.tensor([[7, 8, 9, 10], [11, 12, 1, 1]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    said = continue_prompts(model, PromptBatch(ids, mask, mask.bool()), [[(20, 21), (22,)]])
    start = model.config.decoder_start_token_id
    for row, tokens in enumerate([(20, 21), (22,)]):
        own = ids[row : row + 1, : int(mask[row].sum())]
        expected = model(input_ids=own, decoder_input_ids=torch.tensor([[start, *tokens[:-1]]])).logits[0]
        torch.testing.assert_close(said.of(0)[0][row, : len(tokens)], expected, rtol=1e-4, atol=1e-4)


def test_a_family_that_does_not_pack_is_told(tiny_policy):
    assert continue_packed(torch.nn.Linear(2, 2), batch_of(tiny_policy), CONTINUATIONS) is None


def test_there_must_be_something_to_say(tiny_policy):
    with pytest.raises(ValueError, match="at least one token"):
        continue_prompts(tiny_policy.model, batch_of(tiny_policy), [[(), (), ()]])
    with pytest.raises(ValueError, match="one sequence for each of the 3 prompts, not 2"):
        continue_prompts(tiny_policy.model, batch_of(tiny_policy), [[(5,), (), ()], [(5,), (6,)]])


# An answer as tokens.


def test_an_answer_has_the_tokens_that_it_has_behind_a_prompt(tiny_policy):
    tokenizer = copy.deepcopy(tiny_policy.tokenizer)
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "Sure, here"}]
    whole = tokenizer.apply_chat_template(turns, tokenize=True, return_dict=False)
    tokens = answer_tokens(tokenizer, "Sure, here")
    asked = encode_prompt(tokenizer, "?").input_ids
    assert tuple(whole[len(asked) : len(asked) + len(tokens)]) == tokens
    assert tokenizer.decode(tokens) == "Sure, here"


def test_without_a_template_an_answer_is_its_own_tokens(tiny_policy):
    expected = tuple(tiny_policy.tokenizer("Sure", add_special_tokens=False)["input_ids"])
    assert answer_tokens(tiny_policy.tokenizer, "Sure", chat=False) == expected
