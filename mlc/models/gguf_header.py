"""The header of a GGUF file: sizes and shapes, without its weights (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md)."""

import struct
from pathlib import Path
from typing import Any, BinaryIO

MAGIC = b"GGUF"
_NUMBERS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_SIZES = {
    "block_count": "num_hidden_layers",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "vocab_size": "vocab_size",
}
"""Keys below the architecture's name, and what a ``config.json`` calls them."""
_MODULES = {
    "attn_q": "q_proj",
    "attn_k": "k_proj",
    "attn_v": "v_proj",
    "attn_output": "o_proj",
    "ffn_gate": "gate_proj",
    "ffn_up": "up_proj",
    "ffn_down": "down_proj",
}

Tensors = dict[str, tuple[int, ...]]


def read_gguf_shape(file: Path) -> tuple[dict[str, Any], Tensors] | None:
    """Sizes of a model, and the shapes of its tensors as torch has them.

    Args:
        file: A GGUF file of version 2 or 3.

    Returns:
        Sizes under the names of a ``config.json``, and shapes by name, with the modules of a layer called as in
        transformers; None if the file cannot be read.
    """
    try:
        with file.open("rb") as stream:
            if stream.read(4) != MAGIC:
                return None
            _, tensors, facts = struct.unpack("<IQQ", stream.read(20))
            told = dict(_fact(stream) for _ in range(facts))
            shapes = dict(_tensor(stream) for _ in range(tensors))
    except (OSError, struct.error, ValueError, KeyError):
        return None
    prefix = f"{told.get('general.architecture')}."
    config = {name: told[prefix + key] for key, name in _SIZES.items() if prefix + key in told}
    if "token_embd.weight" in shapes:
        config.setdefault("vocab_size", shapes["token_embd.weight"][0])
    return config, shapes


def _fact(stream: BinaryIO) -> tuple[str, Any]:
    name = _string(stream)
    return name, _value(stream, _number(stream, "<I"))


def _value(stream: BinaryIO, kind: int) -> Any:
    if kind == _STRING:
        return _string(stream)
    if kind == _ARRAY:
        inner, count = _number(stream, "<I"), _number(stream, "<Q")
        if inner in _NUMBERS:
            stream.seek(count * struct.calcsize(_NUMBERS[inner]), 1)
        else:
            for _ in range(count):
                _value(stream, inner)
        # Vocabularies: nothing here is about sizes.
        return None
    return _number(stream, _NUMBERS[kind])


def _tensor(stream: BinaryIO) -> tuple[str, tuple[int, ...]]:
    name = _string(stream)
    dimensions = _number(stream, "<I")
    sizes = struct.unpack(f"<{dimensions}Q", stream.read(8 * dimensions))
    stream.read(12)  # type and place
    module, _, kind = name.rpartition(".")
    layer, _, last = module.rpartition(".")
    renamed = f"{layer}.{_MODULES[last]}.{kind}" if last in _MODULES else name
    # The innermost dimension comes first there.
    return renamed, tuple(reversed(sizes))


def _string(stream: BinaryIO) -> str:
    return stream.read(_number(stream, "<Q")).decode("utf-8", "replace")


def _number(stream: BinaryIO, form: str) -> Any:
    return struct.unpack(form, stream.read(struct.calcsize(form)))[0]
