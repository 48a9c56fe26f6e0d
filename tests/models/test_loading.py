import json
import re
import shutil

import pytest
import torch
from safetensors.torch import load_file

from mlc.errors import UserError
from mlc.models.loading import load_policy, save_policy
from mlc.models.sources import resolve_model

IDS = torch.tensor([[1, 20, 30, 40, 2]])


def reload(folder, **options):
    return load_policy(resolve_model(str(folder)), device="cpu", **options)


@torch.no_grad()
def logits(policy):
    return policy.model(IDS).logits


def test_loads_in_float32_and_evaluation_mode(tiny_policy):
    assert {parameter.dtype for parameter in tiny_policy.model.parameters()} == {torch.float32}
    assert not tiny_policy.model.training


def test_loads_in_the_asked_type():
    policy = load_policy(resolve_model("shipped:tiny"), dtype=torch.bfloat16, device="cpu")
    assert {parameter.dtype for parameter in policy.model.parameters()} == {torch.bfloat16}


def test_round_trip_in_float32_is_exact(load_tiny, tmp_path):
    policy = load_tiny()
    with torch.no_grad():
        policy.model.model.layers[1].mlp.up_proj.weight.mul_(3)
    save_policy(policy, tmp_path / "saved", dtype=torch.float32)
    again = reload(tmp_path / "saved")
    assert torch.equal(logits(again), logits(policy))
    assert not torch.equal(logits(again), logits(load_tiny()))
    assert again.tokenizer.chat_template == policy.tokenizer.chat_template
    text = "What is 7 × 8? Où ?"
    assert again.tokenizer(text)["input_ids"] == policy.tokenizer(text)["input_ids"]
    assert (again.stop_tokens, again.pad_token) == (policy.stop_tokens, policy.pad_token) == ((2,), 0)


def test_round_trip_in_bfloat16_rounds_the_saved_weights_only(load_tiny, tmp_path):
    policy = load_tiny()
    before = {name: tensor.clone() for name, tensor in policy.model.state_dict().items()}
    dtype = policy.model.config.dtype
    save_policy(policy, tmp_path / "saved", dtype=torch.bfloat16)
    assert policy.model.config.dtype == dtype
    for name, tensor in policy.model.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, before[name])
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["dtype"] == "bfloat16"
    for name, tensor in reload(tmp_path / "saved").model.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, before[name].bfloat16().float())


def test_the_type_is_restored_when_saving_fails(load_tiny, tmp_path):
    policy = load_tiny()
    dtype = policy.model.config.dtype
    policy.model.save_pretrained = lambda *_, **__: (_ for _ in ()).throw(OSError("disk full"))
    with pytest.raises(OSError, match="disk full"):
        save_policy(policy, tmp_path, dtype=torch.bfloat16)
    assert policy.model.config.dtype == dtype


def test_tied_weights_are_written_once(load_tiny, tmp_path, tiny_folder):
    policy = load_tiny()
    assert policy.model.lm_head.weight is policy.model.model.embed_tokens.weight
    save_policy(policy, tmp_path / "saved", dtype=torch.float32)
    assert (
        load_file(tmp_path / "saved" / "model.safetensors").keys()
        == load_file(tiny_folder / "model.safetensors").keys()
    )
    again = reload(tmp_path / "saved")
    assert again.model.lm_head.weight is again.model.model.embed_tokens.weight


def cut_weights(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def edit_config(old, new):
    def edit(folder):
        text = (folder / "config.json").read_text()
        assert old in text
        (folder / "config.json").write_text(text.replace(old, new))

    return edit


def point(folder):
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n")


CAUSES = {
    "broken config": r"its config\.json is damaged",
    "broken tokenizer": r"The file tokenizer\.json of the model '.*' is no JSON: it is damaged",
    "empty tokenizer": r"The file tokenizer\.json of the model '.*' is empty: get it again",
    "pointer": r"The file model\.safetensors of the model '.*' is a pointer of Git LFS",
    "weights of another shape": r"config\.json of the model '.*' does not belong to its weights: \S+ has the shape \[",
}


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(cut_weights, id="cut weights"),
        pytest.param(lambda folder: (folder / "config.json").write_text("{"), id="broken config"),
        pytest.param(lambda folder: (folder / "tokenizer.json").write_text("{"), id="broken tokenizer"),
        pytest.param(lambda folder: (folder / "tokenizer.json").write_text(""), id="empty tokenizer"),
        pytest.param(lambda folder: (folder / "tokenizer.json").unlink(), id="no tokenizer"),
        pytest.param(point, id="pointer"),
        pytest.param(edit_config('"model_type": "llama"', '"model_type": "nobody"'), id="unknown type"),
        pytest.param(edit_config('"hidden_size": 64', '"hidden_size": 32'), id="weights of another shape"),
    ],
)
def test_what_cannot_be_loaded_gives_one_sentence(tiny_folder, tmp_path, damage, request):
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    damage(folder)
    with pytest.raises(UserError) as error:
        reload(folder)
    text = str(error.value)
    assert repr(str(folder)) in text
    assert re.search(CAUSES.get(request.node.callspec.id, "cannot be loaded as a causal language model"), text)
    assert "\n" not in text


def test_an_encoder_decoder_is_no_causal_model():
    with pytest.raises(UserError, match="'shipped:nano' is an encoder-decoder"):
        load_policy(resolve_model("shipped:nano"), device="cpu")


def test_every_token_that_ends_an_answer(load_tiny):
    policy = load_tiny()
    policy.model.generation_config.eos_token_id = [7, 9, 100_000]
    policy.model.config.eos_token_id = 8
    assert policy.stop_tokens == (7, 9, 8, 2)
    policy.model.generation_config.eos_token_id = policy.model.config.eos_token_id = None
    assert policy.stop_tokens == (2,)


def test_padding_falls_back_to_the_stop_token(load_tiny):
    policy = load_tiny()
    policy.tokenizer.pad_token = None
    assert policy.pad_token == policy.stop_token
