import warnings

import pytest
import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PegasusConfig,
    PegasusForConditionalGeneration,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import BaseModelOutput

from mlc.models.bounds import layer_index
from mlc.models.states import prompt_states

DEPTH = 3
PROMPTS = [[5, 9, 11], [7, 3, 8, 2, 12, 30, 41], [55], [4, 4, 4, 4, 4]]
# Long enough to be computed once for all prompts.
SHARED = [17, 4, 23, 8, 42, 15, 16, 3, 9, 31, 33]
# Which tokens are the person's own text: never the last one, except in the prompt of one token.
CONTENT = [[0, 1, 0], [0, 1, 1, 0, 1, 1, 0], [1], [1, 1, 0, 0, 0]]
POOLS = ("last", "last_content", "mean")


def widened(model):
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            # The usual 0.02 leaves states so alike that a wrong position would pass.
            parameter.normal_(std=0.4)
    return model.eval()


@pytest.fixture(scope="module")
def model():
    config = LlamaConfig(
        vocab_size=60,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=DEPTH,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        pad_token_id=0,
    )
    return widened(LlamaForCausalLM(config))


def padded(side, prefix=()):
    prompts = [list(prefix) + prompt for prompt in PROMPTS]
    width = max(map(len, prompts))
    ids, mask, content = [], [], []
    for prompt, marks in zip(prompts, CONTENT, strict=True):
        gap = [0] * (width - len(prompt))
        for target, values in ((ids, prompt), (mask, [1] * len(prompt)), (content, [0] * len(prefix) + marks)):
            target.append(gap + values if side == "left" else values + gap)
    return torch.tensor(ids), torch.tensor(mask), torch.tensor(content).bool()


def last_states(model, layer):
    """Every prompt alone, the whole forward pass."""
    return torch.stack(
        [model(torch.tensor([one]), output_hidden_states=True).hidden_states[layer][0, -1] for one in PROMPTS]
    )


@pytest.mark.parametrize(("layer", "index"), [(-1, 3), (-2, 2), (-4, 0), (0.0, 0), (0.5, 2), (0.34, 1), (1.0, 3)])
@torch.no_grad()
def test_negative_and_fractional_layers(model, layer, index):
    ids, mask, _ = padded("left")
    states = prompt_states(model, ids, mask, layer=layer)
    torch.testing.assert_close(states, last_states(model, index), atol=1e-5, rtol=1e-5)


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


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("dtype", [torch.bool, torch.int32, torch.float32])
@torch.no_grad()
def test_masks_of_any_type(model, pool, dtype):
    for prefix in ((), SHARED):
        ids, mask, content = padded("left", prefix)
        plain = prompt_states(model, ids, mask, layer=2, pool=pool, content_mask=content)
        other = prompt_states(model, ids, mask.to(dtype), layer=2, pool=pool, content_mask=content.to(dtype))
        assert torch.equal(other, plain)


@torch.no_grad()
def test_a_prompt_given_twice_has_one_state(model):
    ids, mask, _ = padded("left")
    states = prompt_states(model, ids[[1, 1]], mask[[1, 1]], layer=2)
    assert torch.equal(states[0], states[1])


@torch.no_grad()
def test_the_mean_of_a_long_bfloat16_text_is_that_of_its_states():
    config = LlamaConfig(
        vocab_size=60,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=512,
    )
    model = widened(LlamaForCausalLM(config)).bfloat16()
    ids = torch.randint(60, (1, 500), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mean = prompt_states(model, ids, mask, layer=0, pool="mean", content_mask=mask)
    # bfloat16 cannot count beyond 256 one by one.
    exact = model.model.embed_tokens(ids).double().mean(dim=1)
    assert mean.dtype == torch.bfloat16
    assert torch.equal(mean, exact.bfloat16())


@torch.no_grad()
def test_the_model_is_left_as_it_was_after_an_error(model):
    with pytest.raises((IndexError, RuntimeError)):
        prompt_states(model, torch.tensor([[10_000]]), torch.tensor([[1]]), layer=1)
    assert not any(layer._forward_pre_hooks for layer in model.model.layers)


class Sums(PreTrainedModel):
    """State of a token: the sum of the ids up to it, times the layer. Takes no position and no cache."""

    config_class = PreTrainedConfig

    def __init__(self, config):
        super().__init__(config)
        self.scale = torch.nn.Parameter(torch.ones(()))
        self.post_init()

    def forward(self, input_ids, attention_mask, output_hidden_states, return_dict):
        sums = (input_ids * attention_mask).cumsum(dim=1).unsqueeze(-1) * self.scale
        return BaseModelOutput(hidden_states=tuple(sums * layer for layer in range(3)))


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_family_of_ones_own_by_hand(side):
    ids, mask, content = padded(side)
    model = type("Own", (Sums,), {})(PreTrainedConfig())
    with pytest.warns(UserWarning, match="Own: its layers are not known, so the whole forward pass is computed"):
        states = prompt_states(model, ids, mask, layer=-1)
    assert states.tolist() == [[50.0], [206.0], [110.0], [40.0]]
    mean = prompt_states(model, ids, mask, layer=0.5, pool="mean", content_mask=content)
    assert mean.tolist() == [[14.0], [(10 + 18 + 32 + 62) / 4], [55.0], [6.0]]
    mean.sum().backward()
    assert model.scale.grad == 14 + 30.5 + 55 + 6


class Silent(Sums):
    def forward(self, **inputs):
        return BaseModelOutput()


@pytest.mark.filterwarnings("ignore:.*layers are not known")
def test_a_model_without_hidden_states_is_refused():
    with pytest.raises(ValueError, match="Silent returns no hidden states"):
        prompt_states(Silent(PreTrainedConfig()), *padded("left")[:2], layer=1)


def unknown_decoder():
    # Its attention reads distances off the mask; it has no position_ids.
    return BloomForCausalLM(BloomConfig(vocab_size=60, hidden_size=16, n_layer=2, n_head=2))


def unknown_encoder():
    config = PegasusConfig(
        vocab_size=60,
        d_model=16,
        encoder_layers=2,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        max_position_embeddings=32,
    )
    return PegasusForConditionalGeneration(config)


@pytest.mark.filterwarnings("ignore:.*layers are not known")
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("build", [unknown_decoder, unknown_encoder])
@torch.no_grad()
def test_an_unknown_family_is_computed_whole_and_right(build, side, pool):
    model = widened(build())
    ids, mask, content = padded(side)
    for layer in range(3):
        states = prompt_states(model, ids, mask, layer=layer, pool=pool, content_mask=content)
        for row, (prompt, marks) in enumerate(zip(PROMPTS, CONTENT, strict=True)):
            run = model.get_encoder() if model.config.is_encoder_decoder else model
            whole = run(torch.tensor([prompt]), output_hidden_states=True).hidden_states[layer][0]
            own = [place for place, mark in enumerate(marks) if mark]
            expected = {"last": whole[-1], "last_content": whole[own[-1]], "mean": whole[own].mean(dim=0)}[pool]
            torch.testing.assert_close(states[row], expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_an_unknown_family_is_warned_of_once():
    first, second = (type(name, (Sums,), {})(PreTrainedConfig()) for name in ("First", "Second"))
    ids, mask, _ = padded("left")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for model in (first, first, second, first, second):
            prompt_states(model, ids, mask, layer=1)
    assert [str(warning.message).split(":")[0] for warning in caught] == ["First", "Second"]
    assert {warning.filename for warning in caught} == {__file__}


@torch.no_grad()
def test_a_known_family_is_not_warned_of(model):
    ids, mask, _ = padded("left")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prompt_states(model, ids, mask, layer=1)


@torch.no_grad()
def test_a_known_name_with_other_parts_is_computed_whole():
    class Renamed(GPT2LMHeadModel):
        pass

    model = widened(Renamed(GPT2Config(vocab_size=60, n_embd=16, n_layer=2, n_head=2, n_positions=64)))
    model.config.model_type = "something_else"
    ids, mask, _ = padded("left")
    with pytest.warns(UserWarning, match="Renamed: its layers are not known"):
        states = prompt_states(model, ids, mask, layer=1)
    torch.testing.assert_close(states, last_states(model, 1), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("layer", "depth", "index"),
    [(0, 30, 0), (30, 30, 30), (-1, 30, 30), (-31, 30, 0), (0.5, 30, 15), (1.0, 4, 4), (1, 4, 1), (0.3, 10, 3)],
)
def test_layer_index_by_hand(layer, depth, index):
    assert layer_index(layer, depth) == index


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (4, "layer 4 does not exist: this model has layers 0 to 3"),
        (-5, "layer -5 does not exist: this model has layers 0 to 3"),
        (1.01, r"layer as a fraction must lie in \[0, 1\], not 1\.01"),
        (-0.5, r"not -0\.5"),
        (float("nan"), "not nan"),
        (float("inf"), "not inf"),
        (True, "layer must be a whole number or a fraction of the depth, not True"),
    ],
)
def test_layers_that_do_not_exist(model, layer, message):
    with pytest.raises(ValueError, match=message):
        layer_index(layer, DEPTH)
    with pytest.raises(ValueError, match=message):
        prompt_states(model, *padded("left")[:2], layer=layer)


ONES = torch.ones(2, 3, dtype=torch.long)
SECOND_IS_EMPTY = torch.tensor([[1, 1, 1], [0, 0, 0]])
PADDED_LEFT = torch.tensor([[1, 1, 1], [0, 0, 1]])


@pytest.mark.parametrize(
    ("ids", "mask", "options", "message"),
    [
        (ONES, ONES[:, :2], {}, r"must both be \[N, T\], not \[2, 3\] and \[2, 2\]"),
        (ONES[0], ONES[0], {}, r"must both be \[N, T\], not \[3\] and \[3\]"),
        (ONES[None], ONES[None], {}, r"must both be \[N, T\], not \[1, 2, 3\]"),
        (ONES[:0], ONES[:0], {}, r"input_ids must hold at least one prompt, not \[0, 3\]"),
        (ONES[:, :0], ONES[:, :0], {}, "attention_mask: prompt 0 has no token to pool"),
        (ONES, SECOND_IS_EMPTY, {}, "attention_mask: prompt 1 has no token to pool"),
        (ONES, ONES, {"pool": "first"}, "pool must be one of last, last_content, mean, not 'first'"),
        (ONES, ONES, {"pool": "mean"}, "pool='mean' needs content_mask"),
        (ONES, ONES, {"pool": "last_content"}, "pool='last_content' needs content_mask"),
        (ONES, ONES, {"pool": "mean", "content_mask": ONES[:, :2]}, r"content_mask must be \[2, 3\], not \[2, 2\]"),
        (ONES, ONES, {"pool": "mean", "content_mask": SECOND_IS_EMPTY}, "content_mask: prompt 1 has no token to pool"),
        (ONES, PADDED_LEFT, {"pool": "mean", "content_mask": ONES}, "content_mask marks padding: token 0 of prompt 1"),
    ],
)
def test_mistakes(model, ids, mask, options, message):
    with pytest.raises(ValueError, match=message):
        prompt_states(model, ids, mask, layer=1, **options)
