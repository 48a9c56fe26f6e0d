import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from mlc.models.states import depth_of, layer_index, prompt_states

DEPTH = 3
SHAPE = {
    "vocab_size": 60,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
# The windows are shorter than the longest prompt, so that padding could shift them.
FAMILIES = {
    "llama": (LlamaForCausalLM, lambda: LlamaConfig(**SHAPE)),
    "qwen2": (Qwen2ForCausalLM, lambda: Qwen2Config(**SHAPE)),
    "mistral": (MistralForCausalLM, lambda: MistralConfig(**SHAPE, sliding_window=4)),
    "gemma2": (Gemma2ForCausalLM, lambda: Gemma2Config(**SHAPE, head_dim=8, sliding_window=4)),
}
PROMPTS = [[5, 9, 11], [7, 3, 8, 2, 12, 30, 41], [55], [4, 4, 4, 4, 4]]
# Long enough to be computed once for all prompts.
SHARED = [17, 4, 23, 8, 42, 15, 16, 3, 9, 31, 33]
# Which tokens are the person's own text: never the last one, except in the prompt of one token.
CONTENT = [[0, 1, 0], [0, 1, 1, 0, 1, 1, 0], [1], [1, 1, 0, 0, 0]]


@pytest.fixture(scope="module", params=FAMILIES)
def model(request):
    family, config = FAMILIES[request.param]
    torch.manual_seed(0)
    built = family(config()).eval()
    with torch.no_grad():
        for parameter in built.parameters():
            # The usual 0.02 leaves states so alike that a wrong position would pass.
            parameter.normal_(std=0.4)
    return built


def prompts_after(prefix):
    return [(prefix + prompt, [0] * len(prefix) + marks) for prompt, marks in zip(PROMPTS, CONTENT, strict=True)]


def padded(side, prefix=()):
    prompts = prompts_after(list(prefix))
    width = max(len(prompt) for prompt, _ in prompts)
    ids, mask, content = [], [], []
    for prompt, marks in prompts:
        gap = [0] * (width - len(prompt))
        for target, values in ((ids, prompt), (mask, [1] * len(prompt)), (content, marks)):
            target.append(gap + values if side == "left" else values + gap)
    return torch.tensor(ids), torch.tensor(mask), torch.tensor(content).bool()


def plain_states(model, layer, pool, prefix=()):
    """Every prompt alone, the whole forward pass, pooled by hand."""
    pooled = []
    for prompt, marks in prompts_after(list(prefix)):
        states = model(torch.tensor([prompt]), output_hidden_states=True).hidden_states[layer][0]
        content = [position for position, mark in enumerate(marks) if mark]
        choices = {"last": states[-1], "last_content": states[content[-1]], "mean": states[content].mean(dim=0)}
        pooled.append(choices[pool])
    return torch.stack(pooled)


@pytest.mark.parametrize("layer", range(DEPTH + 1))
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("pool", ["last", "last_content", "mean"])
@pytest.mark.parametrize("prefix", [(), SHARED], ids=["nothing shared", "shared opening"])
@torch.no_grad()
def test_equals_the_full_forward_pass_of_each_prompt_alone(model, layer, side, pool, prefix):
    ids, mask, content = padded(side, prefix)
    states = prompt_states(model, ids, mask, layer=layer, pool=pool, content_mask=content)
    expected = plain_states(model, layer, pool, prefix)
    assert (expected[0] - expected[1]).abs().max() > 0.1
    torch.testing.assert_close(states, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("layer", "index"), [(-1, 3), (-2, 2), (-4, 0), (0.0, 0), (0.5, 2), (0.34, 1), (1.0, 3)])
@torch.no_grad()
def test_negative_and_fractional_layers(model, layer, index):
    ids, mask, _ = padded("left")
    states = prompt_states(model, ids, mask, layer=layer)
    torch.testing.assert_close(states, plain_states(model, index, "last"), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pool", ["last_content", "mean"])
@torch.no_grad()
def test_texts_that_begin_alike_are_pooled_whole(model, pool):
    # The persons' own texts are shared here, not only the template.
    ids, mask, _ = padded("left", SHARED)
    content = mask.bool() & (mask.cumsum(dim=1) > 2) & (mask.cumsum(dim=1) <= len(SHARED))
    states = prompt_states(model, ids, mask, layer=2, pool=pool, content_mask=content)
    whole = model(torch.tensor([SHARED]), output_hidden_states=True).hidden_states[2][0]
    expected = whole[-1] if pool == "last_content" else whole[2:].mean(dim=0)
    torch.testing.assert_close(states, expected.expand_as(states), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("layer", [1, DEPTH])
@pytest.mark.parametrize("pool", ["last", "mean"])
@pytest.mark.parametrize("training", [False, True])
def test_the_gradient_is_that_of_the_full_forward_pass(model, layer, pool, training):
    weights = torch.randn(len(PROMPTS), SHAPE["hidden_size"], generator=torch.Generator().manual_seed(0))
    gradients = []
    model.train(training)  # no dropout in these configurations
    try:
        for side in ("left", "right", None):
            model.zero_grad(set_to_none=True)
            if side:
                ids, mask, content = padded(side, SHARED)
                states = prompt_states(model, ids, mask, layer=layer, pool=pool, content_mask=content)
            else:
                states = plain_states(model, layer, pool, SHARED)
            (states * weights).sum().backward()
            gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    finally:
        model.eval()
        model.zero_grad(set_to_none=True)
    *found, expected = gradients
    for one in found:
        for name, gradient in one.items():
            torch.testing.assert_close(gradient, expected[name], atol=1e-3, rtol=1e-3, msg=name)


@pytest.mark.parametrize("layer", range(DEPTH + 1))
def test_layers_above_are_not_computed_for_a_shared_opening_either(model, layer):
    calls = set()
    handles = [
        part.register_forward_hook(lambda *_, name=name: calls.add(name))
        for name, part in enumerate(model.model.layers)
    ]
    ids, mask, _ = padded("left", SHARED)
    try:
        with torch.no_grad():
            prompt_states(model, ids, mask, layer=layer)
    finally:
        for handle in handles:
            handle.remove()
    assert calls == set(range(layer))


@pytest.mark.parametrize("layer", range(DEPTH + 1))
def test_layers_above_are_not_computed(model, layer):
    calls = []
    parts = {**dict(enumerate(model.model.layers)), "head": model.lm_head}
    handles = [part.register_forward_pre_hook(lambda *_, name=name: calls.append(name)) for name, part in parts.items()]
    ids, mask, _ = padded("left")
    try:
        with torch.no_grad():
            prompt_states(model, ids, mask, layer=layer)
    finally:
        for handle in handles:
            handle.remove()
    # The hook of the state's own layer stands before the one that stops.
    assert [name for name in calls if name != layer] == list(range(layer))


@torch.no_grad()
def test_the_model_is_left_as_it_was(model):
    ids, mask, _ = padded("left")
    before = model(ids, attention_mask=mask).logits
    prompt_states(model, ids, mask, layer=1)
    assert torch.equal(model(ids, attention_mask=mask).logits, before)
    assert not any(layer._forward_pre_hooks for layer in model.model.layers)


@torch.no_grad()
def test_the_model_is_left_as_it_was_after_an_error(model):
    with pytest.raises((IndexError, RuntimeError)):
        prompt_states(model, torch.tensor([[10_000]]), torch.tensor([[1]]), layer=1)
    assert not any(layer._forward_pre_hooks for layer in model.model.layers)


@pytest.mark.parametrize("layer", range(DEPTH + 1))
def test_gradient_reaches_every_layer_below_and_none_above(model, layer):
    model.zero_grad(set_to_none=True)
    ids, mask, _ = padded("left")
    prompt_states(model, ids, mask, layer=layer).square().sum().backward()
    assert model.model.embed_tokens.weight.grad.abs().max() > 0
    for index, block in enumerate(model.model.layers):
        for name, parameter in block.named_parameters():
            if index >= layer:
                assert parameter.grad is None, name
            elif not name.startswith("self_attn.k_proj.bias"):  # a key bias cancels in the softmax
                assert parameter.grad is not None, name
                assert parameter.grad.abs().max() > 0, name
    assert (model.model.norm.weight.grad is None) == (layer < DEPTH)
    model.zero_grad(set_to_none=True)


def test_a_model_of_unknown_layout_is_computed_whole_with_a_warning():
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=60, n_embd=16, n_layer=2, n_head=2, n_positions=64)).eval()
    ids, mask, _ = padded("left")
    for layer in range(3):
        with torch.no_grad(), pytest.warns(UserWarning, match="GPT2LMHeadModel: its layers are not known"):
            states = prompt_states(model, ids, mask, layer=layer)
        torch.testing.assert_close(states, plain_states(model, layer, "last"), atol=1e-5, rtol=1e-5)


def test_depth(model):
    assert depth_of(model) == DEPTH


@pytest.mark.parametrize(
    ("layer", "depth", "index"),
    [(0, 30, 0), (30, 30, 30), (-1, 30, 30), (-31, 30, 0), (0.5, 30, 15), (1.0, 4, 4), (1, 4, 1), (0.3, 10, 3)],
)
def test_layer_index_by_hand(layer, depth, index):
    assert layer_index(layer, depth) == index


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (5, "layer 5 does not exist: this model has layers 0 to 4"),
        (-6, "layer -6 does not exist: this model has layers 0 to 4"),
        (1.01, r"layer as a fraction must lie in \[0, 1\], not 1\.01"),
        (-0.5, r"not -0\.5"),
        (float("nan"), "not nan"),
    ],
)
def test_layers_that_do_not_exist(layer, message):
    with pytest.raises(ValueError, match=message):
        layer_index(layer, 4)


@pytest.mark.parametrize(
    ("ids", "mask", "options", "message"),
    [
        ((2, 3), (2, 4), {}, r"must both be \[N, T\], not \[2, 3\] and \[2, 4\]"),
        ((3,), (3,), {}, r"must both be \[N, T\], not \[3\]"),
        ((2, 3), (2, 3), {"pool": "mean"}, "pool='mean' needs content_mask"),
        ((2, 3), (2, 3), {"pool": "last_content"}, "pool='last_content' needs content_mask"),
        (
            (2, 3),
            (2, 3),
            {"pool": "mean", "content_mask": torch.ones(2, 2).bool()},
            r"content_mask must be \[2, 3\], not \[2, 2\]",
        ),
        (
            (1, 3),
            (1, 3),
            {"pool": "last_content", "content_mask": torch.zeros(1, 3).bool()},
            "pool='last_content': a prompt has no token to pool",
        ),
    ],
)
def test_mistakes(model, ids, mask, options, message):
    with pytest.raises(ValueError, match=message):
        prompt_states(model, torch.ones(ids, dtype=torch.long), torch.ones(mask, dtype=torch.long), layer=1, **options)


def test_a_prompt_without_tokens_is_refused(model):
    with pytest.raises(ValueError, match="pool='last': a prompt has no token to pool"):
        prompt_states(model, torch.ones(2, 3, dtype=torch.long), torch.tensor([[1, 1, 1], [0, 0, 0]]), layer=1)


def test_content_that_is_padding_does_not_count(model):
    ids, mask, content = padded("left")
    with torch.no_grad():
        marked = prompt_states(model, ids, mask, layer=1, pool="mean", content_mask=content | (mask == 0))
        plain = prompt_states(model, ids, mask, layer=1, pool="mean", content_mask=content)
    assert torch.equal(marked, plain)
