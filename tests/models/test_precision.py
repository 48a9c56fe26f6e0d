import torch
from transformers import LlamaConfig, LlamaForCausalLM

from mlc.models.precision import use_precise_head


def small(dtype, *, tied=True):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        tie_word_embeddings=tied,
    )
    return LlamaForCausalLM(config).to(dtype).eval()


def test_the_head_of_a_model_in_bfloat16_gives_logits_that_are_not_rounded():
    model = small(torch.bfloat16)
    tokens = torch.arange(10).unsqueeze(0)
    with torch.inference_mode():
        hidden = model.model(tokens).last_hidden_state
        rounded = model(tokens).logits
        use_precise_head(model)
        logits = model(tokens).logits
    assert hidden.dtype == rounded.dtype == torch.bfloat16
    assert torch.equal(logits, hidden.float() @ model.lm_head.weight.float().T)
    assert not torch.equal(logits, logits.bfloat16().float())
    torch.testing.assert_close(logits, rounded.float(), rtol=2**-7, atol=2**-7)


def test_what_the_model_holds_stays_as_it_is():
    model = small(torch.bfloat16)
    before = {name: (value.dtype, value.data_ptr()) for name, value in model.state_dict().items()}
    use_precise_head(model)
    assert {name: (value.dtype, value.data_ptr()) for name, value in model.state_dict().items()} == before
    assert model.lm_head.weight is model.get_input_embeddings().weight


def test_a_model_in_float32_is_left_alone():
    model = small(torch.float32)
    use_precise_head(model)
    assert "forward" not in vars(model.lm_head)
