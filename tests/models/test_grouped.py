"""Attention of one token a row over keys that heads share, in a batch with padding, against that of transformers."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from mlc.models.begun import Begun
from mlc.models.grouped import grouped_attention

SIZES = {
    "vocab_size": 60,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma2", "granite"])
@pytest.mark.parametrize("room", [0, 5])
@torch.inference_mode()
def test_tokens_one_by_one_are_those_of_the_whole_pass(family, room, monkeypatch):
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **SIZES, attn_implementation="sdpa")
    model = AutoModelForCausalLM.from_config(config).eval()
    ids = torch.randint(1, 60, (3, 12))
    mask = torch.ones_like(ids)
    mask[0, :4], mask[1, :2] = 0, 0
    places = (mask.cumsum(dim=1) - 1).clamp(min=0)
    whole = model(input_ids=ids, attention_mask=mask, position_ids=places).logits
    begun = model(input_ids=ids[:, :7], attention_mask=mask[:, :7], position_ids=places[:, :7], use_cache=True)
    cache = begun.past_key_values
    if room:
        Begun(cache, mask[:, :7], places[:, 6:7], begun.logits[:, -1]).make_room(room)
    shared = []
    plain = torch.nn.functional.scaled_dot_product_attention

    def seen(query, key, *rest, **options):
        shared.append(query.shape[1] == key.shape[1] == 2)
        return plain(query, key, *rest, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", seen)
    with grouped_attention(model):
        for step in range(7, 12):
            kept = {"attention_mask": mask[:, : step + 1], "position_ids": places[:, step : step + 1]}
            one = model(input_ids=ids[:, step : step + 1], past_key_values=cache, use_cache=True, **kept)
            torch.testing.assert_close(one.logits[:, 0], whole[:, step], atol=1e-5, rtol=1e-4)
            if step == 9:
                cache.batch_select_indices(torch.tensor([0, 2]))
                ids, mask, places, whole = (part[[0, 2]] for part in (ids, mask, places, whole))
    assert shared
    assert all(shared)
    assert model.config._attn_implementation == "sdpa"


def test_other_attention_is_left_alone(tiny_policy):
    before = tiny_policy.model.config._attn_implementation
    tiny_policy.model.config._attn_implementation = "eager"
    try:
        with grouped_attention(tiny_policy.model):
            assert tiny_policy.model.config._attn_implementation == "eager"
    finally:
        tiny_policy.model.config._attn_implementation = before
