"""Every known family against its own full forward pass of each prompt alone."""

import functools

import pytest
import torch
import transformers

from mlc.models.states import DECODERS, ENCODERS, prompt_states
from tests.covering import dealt, pairwise

DEPTH = 3
DECODER = {
    "vocab_size": 60,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 1,
}
ENCODER = {
    "vocab_size": 60,
    "d_model": 16,
    "encoder_layers": DEPTH,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 1,
    "decoder_start_token_id": 1,
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
}
T5 = {
    "vocab_size": 60,
    "d_model": 16,
    "num_layers": DEPTH,
    "num_decoder_layers": 1,
    "num_heads": 2,
    "d_kv": 8,
    "d_ff": 32,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "decoder_start_token_id": 0,
}
LOCAL_AND_GLOBAL = {"head_dim": 8, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}
# A window shorter than the prompts, so that padding could shift it, and one that no prompt fills.
NARROW, WIDE = {"sliding_window": 4}, {"sliding_window": 512}
FAMILIES = {
    "gemma": ("Gemma", DECODER | {"head_dim": 8}),
    "gemma2": ("Gemma2", DECODER | LOCAL_AND_GLOBAL | WIDE),
    "gemma2 narrow": ("Gemma2", DECODER | LOCAL_AND_GLOBAL | NARROW),
    "gemma3": ("Gemma3", DECODER | LOCAL_AND_GLOBAL | WIDE),
    "gemma3 narrow": ("Gemma3", DECODER | LOCAL_AND_GLOBAL | NARROW),
    "gemma3 both ways": ("Gemma3", DECODER | LOCAL_AND_GLOBAL | WIDE | {"use_bidirectional_attention": True}),
    "gemma3 with images": ("Gemma3", DECODER | LOCAL_AND_GLOBAL | WIDE),
    "gpt2": ("GPT2", DECODER),
    "gpt_neox": ("GPTNeoX", DECODER),
    "granite": ("Granite", DECODER),
    "llama": ("Llama", DECODER),
    "mistral": ("Mistral", DECODER | WIDE),
    "mistral narrow": ("Mistral", DECODER | NARROW),
    "olmo2": ("Olmo2", DECODER),
    "opt": ("OPT", DECODER | {"ffn_dim": 32, "word_embed_proj_dim": 8}),
    "qwen2": ("Qwen2", DECODER),
    "qwen3": ("Qwen3", DECODER | {"head_dim": 8}),
    "smollm3": ("SmolLM3", DECODER),
    "bart": ("Bart", ENCODER),
    "m2m_100": ("M2M100", ENCODER),
    "marian": ("Marian", ENCODER),
    "mbart": ("MBart", ENCODER),
    "mt5": ("MT5", T5),
    "t5": ("T5", T5),
    "umt5": ("UMT5", T5),
}
SHARES_NOTHING = {"gemma2 narrow", "gemma3 narrow", "gemma3 both ways", "mistral narrow"}

PROMPTS = [[5, 9, 11], [7, 3, 8, 2, 12, 30, 41], [55], [4, 4, 4, 4, 4]]
# Which tokens are the person's own text: never the last one, except in the prompt of one token.
CONTENT = [[0, 1, 0], [0, 1, 1, 0, 1, 1, 0], [1], [1, 1, 0, 0, 0]]
# Long enough to be computed once for all prompts.
SHARED = [17, 4, 23, 8, 42, 15, 16, 3, 9, 31, 33]
PREFIXES = {"nothing shared": [], "shared opening": SHARED}
POOLS = ("last", "last_content", "mean")
OPENED = pytest.mark.parametrize(("family", "opening"), dealt(FAMILIES, PREFIXES), indirect=["family"])


def build(name):
    family, values = FAMILIES[name]
    torch.manual_seed(0)
    if name == "gemma3 with images":
        vision = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
        config = transformers.Gemma3Config(
            text_config=values, vision_config=vision | {"image_size": 8, "patch_size": 4}, mm_tokens_per_image=4
        )
        model = transformers.Gemma3ForConditionalGeneration(config)
    elif name in ("t5", "mt5", "umt5"):
        config = getattr(transformers, f"{family}Config")(**values)
        model = getattr(transformers, f"{family}ForConditionalGeneration")(config)
    elif name in ENCODERS:
        config = getattr(transformers, f"{family}Config")(**values)
        generator = "MTModel" if name == "marian" else "ForConditionalGeneration"
        model = getattr(transformers, f"{family}{generator}")(config)
    else:
        config = transformers.Gemma3TextConfig if family == "Gemma3" else getattr(transformers, f"{family}Config")
        generator = "LMHeadModel" if family == "GPT2" else "ForCausalLM"
        model = getattr(transformers, f"{family}{generator}")(config(**values))
    with torch.no_grad():
        for parameter in model.parameters():
            # The usual 0.02 leaves states so alike that a wrong position would pass.
            if parameter.ndim > 1:
                parameter.normal_(std=0.4)
            else:
                parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return model.eval()


# One family at a time, because the parameters of the tests are sorted by it.
@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def model(family):
    return build(family)


@pytest.fixture(scope="module")
def precise(family):
    """In float64, where rounding does not stand between two ways to one gradient."""
    return build(family).double()


@pytest.fixture(scope="module")
def expected(model):
    """States of a prompt alone, by the whole forward pass, pooled by hand: [N, H]."""

    @functools.cache
    @torch.no_grad()
    def states(opening):
        return [full_pass(model, PREFIXES[opening] + prompt) for prompt in PROMPTS]

    def pooled(opening, layer, pool):
        rows = zip(states(opening), CONTENT, strict=True)
        shift = len(PREFIXES[opening])
        return torch.stack([pool_by_hand(one[layer][0], marks, shift, pool) for one, marks in rows])

    return pooled


def full_pass(model, prompt):
    ids = torch.tensor([prompt])
    if model.config.is_encoder_decoder:
        return model(ids, decoder_input_ids=ids[:, :1], output_hidden_states=True).encoder_hidden_states
    return model(ids, output_hidden_states=True).hidden_states


def pool_by_hand(states, marks, shift, pool):
    content = [shift + position for position, mark in enumerate(marks) if mark]
    return {"last": states[-1], "last_content": states[content[-1]], "mean": states[content].mean(dim=0)}[pool]


def padded(side, opening, rows=(0, 1, 2, 3)):
    prefix = PREFIXES[opening]
    width = max(len(PROMPTS[row]) for row in rows)
    ids, mask, content = [], [], []
    for row in rows:
        gap = [0] * (width - len(PROMPTS[row]))
        head = [0] * len(prefix)
        for target, values in (
            (ids, prefix + PROMPTS[row]),
            (mask, [1] * (len(prefix) + len(PROMPTS[row]))),
            (content, head + CONTENT[row]),
        ):
            target.append(gap + values if side == "left" else values + gap)
    return torch.tensor(ids), torch.tensor(mask), torch.tensor(content).bool()


def test_every_known_family_is_here():
    known = {name.split()[0].replace("gemma3", "gemma3_text") for name in FAMILIES}
    assert known == DECODERS | ENCODERS


@pytest.mark.parametrize(
    ("family", "side", "opening"), pairwise(FAMILIES, ["left", "right"], PREFIXES), indirect=["family"]
)
@torch.no_grad()
def test_equals_the_full_forward_pass_of_each_prompt_alone(model, expected, side, opening):
    ids, mask, content = padded(side, opening)
    for layer in range(DEPTH + 1):
        for pool in POOLS:
            states = prompt_states(model, ids, mask, layer=layer, pool=pool, content_mask=content)
            right = expected(opening, layer, pool)
            assert (right[0] - right[1]).abs().max() > 0.05
            torch.testing.assert_close(states, right, atol=1e-5, rtol=1e-5)


@OPENED
@torch.no_grad()
def test_equals_the_full_forward_pass_without_padding(model, expected, opening):
    for rows in ([1], [2], [0, 0]):
        ids, mask, content = padded("left", opening, rows)
        assert mask.all()
        for layer in range(DEPTH + 1):
            states = prompt_states(model, ids, mask, layer=layer, pool="mean", content_mask=content)
            torch.testing.assert_close(states, expected(opening, layer, "mean")[rows], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_equals_the_full_forward_pass_of_the_same_batch(model):
    # As the issue states it: row for row, at the last token. Padding on the right is what every family can read.
    ids, mask, _ = padded("right", "shared opening")
    options = {"decoder_input_ids": ids[:, :1]} if model.config.is_encoder_decoder else {}
    output = model(ids, attention_mask=mask, output_hidden_states=True, **options)
    full = output.encoder_hidden_states if model.config.is_encoder_decoder else output.hidden_states
    for layer in range(DEPTH + 1):
        states = prompt_states(model, ids, mask, layer=layer)
        right = full[layer][torch.arange(len(ids)), mask.sum(dim=1) - 1]
        torch.testing.assert_close(states, right, atol=1e-5, rtol=1e-5)


def after_the_stack(model):
    """Name of the first module that runs once the states of every layer are known."""
    part = model.get_decoder() if model.config.is_encoder_decoder else model.get_output_embeddings()
    return next(name for name, module in model.named_modules() if module is part)


def names_of_layers(model):
    stack = model.get_encoder() if model.config.is_encoder_decoder else model.get_decoder()
    layers = next(part for part in stack.children() if isinstance(part, torch.nn.ModuleList))
    names = {module: name for name, module in model.named_modules()}
    return names[stack], [names[layer] for layer in layers]


class Calls(list):
    """Names of the modules that run, in order."""

    def __init__(self, model):
        super().__init__()
        self.handles = [
            module.register_forward_pre_hook(lambda *_, name=name: self.append(name))
            for name, module in model.named_modules()
        ]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for handle in self.handles:
            handle.remove()


@OPENED
@torch.no_grad()
def test_only_what_comes_before_the_layer_is_computed(model, opening):
    stack, layers = names_of_layers(model)
    around = {name for name, _ in model.named_modules() if not name or stack.startswith(name + ".")}
    ids, mask, _ = padded("left", opening)
    with Calls(model) as full:
        full_pass(model, PROMPTS[0])
    for index, stop in enumerate([*layers, after_the_stack(model)]):
        with Calls(model) as calls:
            prompt_states(model, ids, mask, layer=index)
        before = set(full[: full.index(stop)]) - around
        assert set(calls) == before
        assert [name for name in calls if name in layers][-index:] == layers[:index]


@torch.no_grad()
def test_a_shared_opening_is_computed_once(model, family):
    sizes = []
    stack = model.get_encoder() if model.config.is_encoder_decoder else model.get_decoder()
    embeddings = stack.get_input_embeddings()
    handle = embeddings.register_forward_hook(lambda module, args, output: sizes.append(list(args[0].shape)))
    ids, mask, _ = padded("left", "shared opening")
    try:
        prompt_states(model, ids, mask, layer=1)
    finally:
        handle.remove()
    shares = family not in SHARES_NOTHING | ENCODERS
    # Then the rows stand one behind the other, without padding.
    assert sizes == ([[1, len(SHARED) + sum(map(len, PROMPTS))]] if shares else [[4, len(SHARED) + 7]])


@pytest.mark.parametrize(
    ("family", "opening", "attention"), dealt(FAMILIES, PREFIXES, ["sdpa", "eager"]), indirect=["family"]
)
@torch.no_grad()
def test_where_rows_cannot_be_packed_the_states_are_the_same(model, monkeypatch, opening, attention):
    before = model.config._attn_implementation
    model.set_attn_implementation(attention)
    try:
        ids, mask, content = padded("left", opening)
        packed = prompt_states(model, ids, mask, layer=2, pool="mean", content_mask=content)
        monkeypatch.setattr("mlc.models.states.pack_rows", lambda *_: None)
        plain = prompt_states(model, ids, mask, layer=2, pool="mean", content_mask=content)
    finally:
        model.set_attn_implementation(before)
    torch.testing.assert_close(packed, plain, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("family", "read"),
    dealt(FAMILIES, [(1, "last", "nothing shared"), (2, "mean", "shared opening"), (DEPTH, "last", "shared opening")]),
    indirect=["family"],
)
def test_the_gradient_is_that_of_the_full_forward_pass(precise, read):
    layer, pool, opening = read

    def gradients(states):
        weights = torch.randn(states.shape, generator=torch.Generator().manual_seed(0))
        precise.zero_grad(set_to_none=True)
        (states * weights).sum().backward()
        found = {name: p.grad for name, p in precise.named_parameters() if p.grad is not None}
        precise.zero_grad(set_to_none=True)
        return found

    states = [full_pass(precise, PREFIXES[opening] + prompt)[layer][0] for prompt in PROMPTS]
    shift = len(PREFIXES[opening])
    right = gradients(
        torch.stack([pool_by_hand(one, marks, shift, pool) for one, marks in zip(states, CONTENT, strict=True)])
    )
    _, layers = names_of_layers(precise)
    for side in ("left", "right"):
        ids, mask, content = padded(side, opening)
        found = gradients(prompt_states(precise, ids, mask, layer=layer, pool=pool, content_mask=content))
        assert found.keys() == right.keys()
        assert all(any(name.startswith(below + ".") for name in found) for below in layers[:layer])
        assert not any(name.startswith(above + ".") for name in found for above in layers[layer:])
        for name, gradient in found.items():
            # Norms and rotations are computed in float32 even so.
            scale = max(1.0, float(right[name].abs().max()))
            torch.testing.assert_close(gradient / scale, right[name] / scale, atol=1e-6, rtol=0, msg=name)


@torch.no_grad()
def test_the_model_is_left_as_it_was(family):
    model = build(family)
    before = {name: dict(vars(module)) for name, module in model.named_modules()}
    ids, mask, _ = padded("left", "shared opening")
    for layer in range(DEPTH + 1):
        prompt_states(model, ids, mask, layer=layer)
    assert {name: dict(vars(module)) for name, module in model.named_modules()} == before
    assert not any(module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("name", sorted(ENCODERS - {"mt5", "t5", "umt5"}))
@torch.no_grad()
def test_no_layer_is_left_out_at_random(name):
    model = build(name)
    ids, mask, _ = padded("left", "nothing shared")
    right = [prompt_states(model, ids, mask, layer=layer) for layer in range(DEPTH + 1)]
    model.train()
    model.get_encoder().layerdrop = 1.0
    found = [prompt_states(model, ids, mask, layer=layer) for layer in range(DEPTH + 1)]
    assert all(map(torch.equal, found, right))
    assert model.get_encoder().layerdrop == 1.0
