"""Models that must not be worked with, or only after something was put right: small ones, made here."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer
from transformers import (
    BertConfig,
    BertLMHeadModel,
    ByT5Tokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    MambaConfig,
    MambaForCausalLM,
    PreTrainedTokenizerFast,
)

from mlc.errors import UserError
from mlc.evaluation.answering import answer_all
from mlc.evaluation.engines.transformers import TransformersEngine
from mlc.models.loading import load_policy, save_policy
from mlc.models.sources import resolve_model
from mlc.training.align import align
from mlc.training.settings import AlignSettings

SMALL = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 256,
}
TURNS = (
    "{{ bos_token }}{% for m in messages %}<|start|>{{ m['role'] }}\n{{ m['content'] }}<|turn|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
ROWS = [
    {"prompt": prompt, "chosen": chosen, "rejected": "No.", "variants": [prompt, other]}
    for prompt, chosen, other in (
        ("How do I bake bread?", "Start with flour and water.", "¿Cómo hago pan?"),
        ("How do I fix a tap?", "Turn the water off first.", "¿Cómo arreglo un grifo?"),
    )
]


def load(folder, **options):
    return load_policy(resolve_model(str(folder), **options), device="cpu")


def refusal(folder, **options):
    with pytest.raises(UserError) as error:
        load(folder, **options)
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.fixture
def copied(tiny_folder, tmp_path):
    return shutil.copytree(tiny_folder, tmp_path / "model")


def edit_json(path: Path, **changes):
    known = json.loads(path.read_text())
    path.write_text(json.dumps({name: value for name, value in (known | changes).items() if value is not None}))


def special_tokenizer(tiny_folder, *tokens, template=None, **named):
    tokenizer = Tokenizer.from_file(str(tiny_folder / "tokenizer.json"))
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in tokens])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=template, **named)


def save_llama(folder, tokenizer, *, kind=LlamaForCausalLM, ends=None, **config):
    torch.manual_seed(0)
    model = kind(LlamaConfig(**SMALL, vocab_size=len(tokenizer), **config))
    if ends is not None:
        model.generation_config.eos_token_id = ends
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def no_pad(tiny_folder, tmp_path):
    """Several tokens end an answer, the template's own is in no list, and there is none to pad with."""
    tokenizer = special_tokenizer(
        tiny_folder, "<s>", "</s>", "<|eom|>", "<|turn|>", template=TURNS, bos_token="<s>", eos_token="</s>"
    )
    ends = tokenizer.convert_tokens_to_ids(["</s>", "<|eom|>"])
    return save_llama(tmp_path / "no_pad", tokenizer, ends=ends, eos_token_id=ends, bos_token_id=None)


def test_a_checkpoint_without_its_head(tmp_path, tiny_policy):
    folder = save_llama(tmp_path / "whole", tiny_policy.tokenizer, tie_word_embeddings=False, eos_token_id=2)
    load(folder)
    weights = load_file(folder / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert "1 weights are missing (lm_head.weight) and would be random" in refusal(folder)


def test_tied_weights_are_not_missing_and_those_left_over_are_told(copied):
    weights = load_file(copied / "model.safetensors")
    assert "lm_head.weight" not in weights
    assert load(copied).left_over == ""
    save_file({**weights, "model.extra": torch.ones(2)}, copied / "model.safetensors", metadata={"format": "pt"})
    assert "1 weights of the checkpoint have no place in the model (model.extra)" in load(copied).verdict


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite(copied, value):
    weights = load_file(copied / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][0, 0] = value
    save_file(weights, copied / "model.safetensors", metadata={"format": "pt"})
    assert "not finite (model.layers.1.mlp.up_proj.weight" in refusal(copied)


def test_logits_that_are_not_finite(copied):
    weights = load_file(copied / "model.safetensors")
    weights["model.norm.weight"][:] = 3e38
    save_file(weights, copied / "model.safetensors", metadata={"format": "pt"})
    assert "logits of the model" in refusal(copied)


def test_a_slow_tokenizer(tmp_path):
    assert "slow tokenizer (ByT5Tokenizer)" in refusal(save_llama(tmp_path / "model", ByT5Tokenizer()))


def test_a_tokenizer_larger_than_the_embedding(copied, tiny_folder):
    special_tokenizer(tiny_folder, "<|x|>", eos_token="<|end|>", pad_token="<|pad|>").save_pretrained(copied)
    assert "has 769 tokens and its embedding 768" in refusal(copied)


def test_a_pad_token_beyond_the_embedding_is_replaced(copied, tiny_folder):
    tokenizer = special_tokenizer(tiny_folder, "<|extra|>", eos_token="<|end|>", pad_token="<|extra|>")
    tokenizer.save_pretrained(copied)
    assert load(copied).pad_token == 0


def test_no_end_token(tmp_path, tiny_folder):
    tokenizer = special_tokenizer(tiny_folder)
    folder = save_llama(tmp_path / "model", tokenizer, eos_token_id=None, bos_token_id=None)
    assert "names no end token" in refusal(folder)


def test_the_tokenizer_takes_the_end_token_of_the_model(tmp_path, tiny_folder):
    folder = save_llama(tmp_path / "model", special_tokenizer(tiny_folder), eos_token_id=2)
    assert load(folder).tokenizer.eos_token == "<|end|>"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"is_encoder_decoder": True}, "is an encoder-decoder"),
        ({"architectures": ["BertForMaskedLM"]}, "is a BertForMaskedLM, which writes no answers"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "is a LlamaForSequenceClassification"),
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}, "quantised (bitsandbytes)"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "quantised (gptq)"),
        ({"attn_implementation": "someone/kernel"}, "needs code of its own"),
        ({"transformers_weights": "adapter_model.bin"}, "no safetensors"),
    ],
)
def test_kinds_that_the_configuration_tells(copied, changes, told):
    edit_json(copied / "config.json", **changes)
    assert told in refusal(copied)


def test_a_reward_model_with_tied_weights_is_no_policy(tmp_path, tiny_policy):
    folder = save_llama(tmp_path / "model", tiny_policy.tokenizer, kind=LlamaForSequenceClassification, pad_token_id=0)
    assert "LlamaForSequenceClassification" in refusal(folder)


def test_an_encoder_that_is_called_a_language_model(tmp_path, tiny_policy):
    config = BertConfig(
        vocab_size=len(tiny_policy.tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        eos_token_id=2,
    )
    torch.manual_seed(0)
    BertLMHeadModel(config).save_pretrained(tmp_path / "bert")
    tiny_policy.tokenizer.save_pretrained(tmp_path / "bert")
    assert "its tokens see later ones" in refusal(tmp_path / "bert")
    # The same weights that decode are a causal language model.
    edit_json(tmp_path / "bert" / "config.json", is_decoder=True)
    load(tmp_path / "bert")


def test_a_model_that_keeps_no_keys_and_values(tmp_path, tiny_policy):
    config = MambaConfig(
        vocab_size=len(tiny_policy.tokenizer), hidden_size=16, num_hidden_layers=1, state_size=4, eos_token_id=2
    )
    MambaForCausalLM(config).save_pretrained(tmp_path / "mamba")
    tiny_policy.tokenizer.save_pretrained(tmp_path / "mamba")
    assert "(mamba) has layers that keep no keys and values" in refusal(tmp_path / "mamba")


@pytest.mark.parametrize("where", ["config.json", "tokenizer_config.json"])
def test_code_of_a_model_never_runs_and_nobody_is_asked(copied, tmp_path, monkeypatch, where):
    def asked(*_):
        raise AssertionError("somebody was asked")

    monkeypatch.setattr("builtins.input", asked)
    ran = tmp_path / "ran"
    (copied / "mine.py").write_text(f"open({str(ran)!r}, 'w').close()\n")
    if where == "config.json":
        maps = {"AutoConfig": "mine.Config", "AutoModelForCausalLM": "mine.Model"}
        edit_json(copied / where, model_type="mine", auto_map=maps)
    else:
        edit_json(copied / where, tokenizer_class="Mine", auto_map={"AutoTokenizer": ["mine.Slow", "mine.Fast"]})
    assert "needs code of its own, and code from a model is never run here" in refusal(copied)
    assert not ran.exists()


def test_code_beside_an_architecture_of_transformers_is_passed_over(copied, tmp_path):
    ran = tmp_path / "ran"
    (copied / "mine.py").write_text(f"open({str(ran)!r}, 'w').close()\n")
    (copied / "custom_generate").mkdir()
    shutil.copy(copied / "mine.py", copied / "custom_generate" / "generate.py")
    edit_json(copied / "config.json", auto_map={"AutoModelForCausalLM": "mine.Model"})
    answer_all(TransformersEngine(load(copied), max_new_tokens=2), ["Hello"])
    assert not ran.exists()


def pickled(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return folder


def test_pickled_weights_only_by_a_setting(copied, tiny_policy):
    assert "only pickled weights" in refusal(pickled(copied))
    state = load(copied, allow_pickle=True).model.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in tiny_policy.model.state_dict().items())


def test_an_index_that_names_pickled_weights(copied):
    names = list(load_file(copied / "model.safetensors"))
    pickled(copied)
    (copied / "other.safetensors").touch()
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, "pytorch_model.bin")}
    (copied / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "only pickled weights" in refusal(copied)


def test_pickled_weights_that_call_something_are_not_run_even_then(copied, tmp_path):
    class Calls:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    pickled(copied)
    torch.save({"model.norm.weight": Calls()}, copied / "pytorch_model.bin")
    assert "cannot be loaded" in refusal(copied, allow_pickle=True)
    assert not (tmp_path / "ran").exists()


def test_adapters_are_to_be_merged(copied):
    (copied / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    assert "holds a model and an adapter" in refusal(copied)
    (copied / "config.json").unlink()
    assert "holds an adapter and no whole model" in refusal(copied)


def test_gguf_files_and_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("MLC_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "packed"
    folder.mkdir()
    write_gguf(folder / "small.gguf")
    one, two = resolve_model(str(folder)), resolve_model(str(folder / "small.gguf"))
    assert one.identity == two.identity
    assert load_policy(one, device="cpu").model.config.hidden_size == SMALL["hidden_size"]
    shutil.copy(folder / "small.gguf", folder / "another.gguf")
    assert "holds 2 GGUF files: name one of them, such as 'another.gguf'" in refusal(folder)
    (tmp_path / "broken.gguf").write_bytes(b"GGUF")
    assert "cannot be loaded" in refusal(tmp_path / "broken.gguf")


def write_gguf(file):
    """A random llama with a tokenizer of single letters."""
    gguf = pytest.importorskip("gguf")
    letters = [bytes([code]).decode("latin-1") for code in range(97, 123)]
    tokens = ["<unk>", "<s>", "</s>", *letters, "ab", "bc", *(f"<{number}>" for number in range(35))]
    width, inner, depth = SMALL["hidden_size"], SMALL["intermediate_size"], SMALL["num_hidden_layers"]
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_context_length(256)
    writer.add_embedding_length(width)
    writer.add_block_count(depth)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_dimension_count(width // 2)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_merges(["a b", "b c"])
    writer.add_token_types([3, 3, 3] + [1] * (len(tokens) - 3))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    generator = torch.Generator().manual_seed(0)

    def add(name, *shape):
        values = torch.randn(shape, generator=generator) * 0.05 if len(shape) > 1 else torch.ones(shape)
        writer.add_tensor(f"{name}.weight", values.numpy())

    add("token_embd", len(tokens), width)
    add("output_norm", width)
    add("output", len(tokens), width)
    for layer in range(depth):
        add(f"blk.{layer}.attn_norm", width)
        add(f"blk.{layer}.ffn_norm", width)
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            add(f"blk.{layer}.{name}", width, width)
        add(f"blk.{layer}.ffn_gate", inner, width)
        add(f"blk.{layer}.ffn_up", inner, width)
        add(f"blk.{layer}.ffn_down", width, inner)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_every_end_token_stops_and_is_saved(no_pad, tmp_path):
    policy = load(no_pad)
    ends = policy.tokenizer.convert_tokens_to_ids(["</s>", "<|eom|>", "<|turn|>"])
    assert policy.stop_tokens == tuple(ends)
    assert policy.pad_token == ends[0]
    save_policy(policy, tmp_path / "saved", dtype=torch.float32)
    again = load(tmp_path / "saved")
    assert again.model.generation_config.eos_token_id == ends
    assert (again.stop_tokens, again.tokenizer.pad_token) == (policy.stop_tokens, "</s>")
    with torch.no_grad():
        for end in ends:
            # Every state now asks for this token.
            policy.model.lm_head.weight.zero_()
            policy.model.lm_head.weight[end] = 1.0
            policy.model.model.norm.weight.fill_(1.0)
            policy.model.model.norm.register_forward_hook(lambda _module, _inputs, output: output.abs())
            assert answer_all(TransformersEngine(policy, max_new_tokens=5), ["Hello"])[0].text == ""


@pytest.mark.parametrize("carrier", ["sft", "dpo", "simpo", "orpo", "kl"])
def test_a_missing_pad_token_changes_no_loss(no_pad, tmp_path, carrier):
    def losses(pad):
        policy = load(no_pad)
        policy.tokenizer.pad_token = pad or policy.tokenizer.pad_token
        teacher = {"teacher": str(no_pad)} if carrier == "kl" else {}
        settings = AlignSettings.model_validate(
            {"carrier": carrier, "steps": 2, "batch_size": 2, "learning_rate": 1e-2, **teacher}
        )
        given = load(no_pad) if carrier == "kl" else None
        folder = tmp_path / (pad or "own")
        folder.mkdir()
        return [entry["loss"] for entry in align(policy, ROWS, settings, seed=0, folder=folder, teacher=given)]

    assert losses(None) == losses("<|pad|>")
