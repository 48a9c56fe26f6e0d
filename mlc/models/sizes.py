"""How large a model is, from its ``config.json`` and the headers of its weights: nothing is loaded, without torch."""

import json
import math
import re
import struct
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from mlc.cache import cache_folder
from mlc.models.encoders import is_encoder_decoder
from mlc.models.gguf_header import read_gguf_shape
from mlc.models.sources import ModelSource
from mlc.shipped import shipped_data

KNOWN_SHAPES = "model_shapes.json"
"""Of hub models that shipped configurations name: the part of their ``config.json`` that is read here."""
_LAYER = re.compile(r"(?:^|\.)(?:layers|h|block|blk)\.(\d+)\.")
_HEADS = ("lm_head", "embed_out", "output")
_EMBEDDINGS = ("embed", "wte", "wpe", "shared", "token_embd")
_LLAMA_LIKE = ("llama", "mistral", "qwen2", "qwen3", "smollm3", "gemma", "gemma2")
"""Families whose weights follow from their configuration."""
_SEQ2SEQ = ("m2m_100", "mbart")
_T5 = ("t5", "mt5", "umt5")
_TIED = ("gemma", "gemma2")
"""Families that tie their embeddings unless they say otherwise."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a transformer."""

    parameters: int
    """Weights, each counted once where the head is the embedding."""
    layers: int
    """Of the decoder."""
    hidden: int
    intermediate: int
    """Width of the MLP."""
    heads: int
    key_value_heads: int
    head: int
    """Width of a head."""
    vocabulary: int
    embedding: int = 0
    """Weights of embeddings and head, which an adapter leaves alone and which are not quantised."""
    linears: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Inputs and outputs of the linear modules of one layer, by the last part of their names."""
    gated: bool = True
    """Whether the MLP multiplies two branches."""
    encoder_layers: int = 0
    """Of an encoder-decoder; 0 for a model that only decodes."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """How many of each of :attr:`linears` there are in all layers; one in each where it is not said."""

    @property
    def key_value(self) -> int:
        """Width of all keys of a token, and of all values."""
        return self.key_value_heads * self.head


def read_shape(source: ModelSource) -> Shape | None:
    """The shape of a model.

    What lies on this machine is read from its headers; of another hub model the configuration is known, or asked for.

    Args:
        source: The model; of an adapter, the model that it belongs to is meant.

    Returns:
        None where nothing tells.
    """
    if source.base is not None:
        return read_shape(source.base)
    if source.kind == "hub":
        return _hub_shape(source.target, source.revision)
    folder = Path(source.target)
    if source.kind == "gguf":
        folder = cache_folder() / f"gguf-{source.identity[:16]}"
        if not (folder / "config.json").is_file():
            return _gguf(source.target)
    return folder_shape(folder)


def known_shape(model: str) -> Shape | None:
    """The shape of a hub model that is known without asking the hub.

    Args:
        model: Its id.
    """
    known: dict[str, Any] = json.loads(shipped_data(KNOWN_SHAPES).read_text(encoding="utf-8"))
    config = known.get(model)
    return shape_of(config) if config else None


def folder_shape(folder: Path) -> Shape | None:
    """The shape of a model in a folder, by the headers of its weights where they tell, else by its configuration."""
    config = _json(folder / "config.json")
    if config is None:
        return None
    tensors = dict(_tensors(folder))
    return _counted(config, tensors) if tensors else shape_of(config)


def shape_of(config: Mapping[str, Any]) -> Shape | None:
    """The shape of a model by its configuration alone; None for families whose weights do not follow from it."""
    config = config.get("text_config") or config
    family = config.get("model_type")
    if family in _LLAMA_LIKE:
        return _llama_like(config)
    if family in _SEQ2SEQ:
        return _seq2seq(config)
    if family in _T5:
        return _t5(config)
    return None


def _llama_like(config: Mapping[str, Any]) -> Shape:
    sizes = _sizes(config)
    hidden, inner = sizes["hidden"], sizes["intermediate"]
    queries, keys = sizes["heads"] * sizes["head"], sizes["key_value_heads"] * sizes["head"]
    linears = {
        "q_proj": (hidden, queries),
        "k_proj": (hidden, keys),
        "v_proj": (hidden, keys),
        "o_proj": (queries, hidden),
        "gate_proj": (hidden, inner),
        "up_proj": (hidden, inner),
        "down_proj": (inner, hidden),
    }
    family = config["model_type"]
    biased = set(linears) & {"q_proj", "k_proj", "v_proj"} if family == "qwen2" else set()
    if config.get("attention_bias"):
        biased |= {"q_proj", "k_proj", "v_proj", "o_proj"}
    if config.get("mlp_bias"):
        biased |= {"gate_proj", "up_proj", "down_proj"}
    norms = {"gemma2": 4}.get(family, 2) * hidden + (2 * sizes["head"] if family == "qwen3" else 0)
    layer = sum(math.prod(shape) for shape in linears.values()) + sum(linears[name][1] for name in biased) + norms
    tied = config.get("tie_word_embeddings", family in _TIED)
    embedding = sizes["vocabulary"] * hidden * (1 if tied else 2)
    return Shape(embedding + sizes["layers"] * layer + hidden, embedding=embedding, linears=linears, **sizes)


def _seq2seq(config: Mapping[str, Any]) -> Shape:
    """M2M100, NLLB and mBART (Fan et al., arXiv 2010.11125): biases everywhere, two or three norms a layer."""
    sizes = _sizes(config)
    hidden, inner = sizes["hidden"], sizes["intermediate"]
    attention = 4 * (hidden * hidden + hidden)
    norm = 2 * hidden
    mlp = 2 * hidden * inner + inner + hidden
    encoders = int(config["encoder_layers"])
    embedding = sizes["vocabulary"] * hidden
    parameters = (
        embedding
        + encoders * (attention + mlp + 2 * norm)
        + sizes["layers"] * (2 * attention + mlp + 3 * norm)
        + 2 * norm
    )
    if config["model_type"] == "mbart":
        # Learned places, two more than there are, and a norm behind each embedding.
        places = 2 * (int(config["max_position_embeddings"]) + 2) * hidden
        parameters += places + 2 * norm
    linears = dict.fromkeys(("q_proj", "k_proj", "v_proj", "out_proj"), (hidden, hidden))
    linears |= {"fc1": (hidden, inner), "fc2": (inner, hidden)}
    counts = _twice(linears, ("fc1", "fc2"), encoders, sizes["layers"])
    return Shape(
        parameters, embedding=embedding, linears=linears, gated=False, encoder_layers=encoders, counts=counts, **sizes
    )


def _t5(config: Mapping[str, Any]) -> Shape:
    """T5 and its multilingual kin (Raffel et al., arXiv 1910.10683): no biases, and one table of distances a stack."""
    sizes = _sizes(config)
    hidden, inner, queries = sizes["hidden"], sizes["intermediate"], sizes["heads"] * sizes["head"]
    gated = str(config.get("feed_forward_proj", "")).startswith("gated")
    linears = dict.fromkeys(("q", "k", "v"), (hidden, queries)) | {"o": (queries, hidden)}
    inwards = ("wi_0", "wi_1") if gated else ("wi",)
    linears |= {**dict.fromkeys(inwards, (hidden, inner)), "wo": (inner, hidden)}
    encoders, decoders = int(config["num_layers"]), sizes["layers"]
    counts = _twice(linears, (*inwards, "wo"), encoders, decoders)
    matrices = sum(counts[name] * math.prod(shape) for name, shape in linears.items())
    norms = (2 * encoders + 3 * decoders + 2) * hidden
    # Those of umt5 have one in each layer.
    tables = encoders + decoders if config["model_type"] == "umt5" else 2
    distances = tables * int(config.get("relative_attention_num_buckets", 32)) * sizes["heads"]
    tied = config.get("tie_word_embeddings", config["model_type"] == "t5")
    embedding = sizes["vocabulary"] * hidden * (1 if tied else 2)
    return Shape(
        embedding + matrices + norms + distances,
        embedding=embedding,
        linears=linears,
        gated=gated,
        encoder_layers=encoders,
        counts=counts,
        **sizes,
    )


def _twice(linears: Mapping[str, Any], once: Collection[str], encoders: int, decoders: int) -> dict[str, int]:
    """How many of each there are where a layer of the decoder attends twice."""
    return {name: encoders + decoders * (1 if name in once else 2) for name in linears}


def _counted(config: Mapping[str, Any], tensors: Mapping[str, tuple[int, ...]]) -> Shape:
    linears: dict[str, tuple[int, int]] = {}
    counts: Counter[str] = Counter()
    embedding = 0
    for name, shape in tensors.items():
        module = name.removesuffix(".weight").rpartition(".")[2]
        if len(shape) == 2 and _LAYER.search(name):
            # Tables of distances are embeddings in a layer.
            if "bias" not in module:
                linears[module] = (shape[1], shape[0])
                counts[module] += 1
        elif len(shape) == 2 and (module in _HEADS or any(word in module for word in _EMBEDDINGS)):
            embedding += math.prod(shape)
    sizes = _sizes(config.get("text_config") or config)
    encodes = is_encoder_decoder(config)
    return Shape(
        sum(map(math.prod, tensors.values())),
        embedding=embedding,
        linears=linears,
        gated=not linears.keys().isdisjoint(("gate_proj", "wi_1")),
        encoder_layers=int(config.get("encoder_layers") or config.get("num_layers") or 0) if encodes else 0,
        counts=dict(counts) if encodes else {},
        **sizes,
    )


def _sizes(config: Mapping[str, Any]) -> dict[str, Any]:
    def first(*names: str, default: int = 0) -> int:
        return int(next((config[name] for name in names if config.get(name)), default))

    hidden = first("hidden_size", "n_embd", "d_model")
    heads = first("num_attention_heads", "n_head", "decoder_attention_heads", "num_heads", default=1)
    return {
        "layers": first("decoder_layers", "num_decoder_layers", "num_hidden_layers", "n_layer", "num_layers"),
        "hidden": hidden,
        "intermediate": first("intermediate_size", "n_inner", "decoder_ffn_dim", "d_ff", default=4 * hidden),
        "heads": heads,
        "key_value_heads": first("num_key_value_heads", default=heads),
        "head": first("head_dim", "d_kv", default=hidden // heads),
        "vocabulary": first("vocab_size"),
    }


def _tensors(folder: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of the tensors of all safetensors files of a folder; nothing of one that is damaged."""
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with path.open("rb") as file:
                (length,) = struct.unpack("<Q", file.read(8))
                header = json.loads(file.read(length)) if length < path.stat().st_size else {}
        except (OSError, ValueError, struct.error):
            continue
        for name, facts in header.items():
            if name != "__metadata__":
                yield name, tuple(facts["shape"])


@cache
def _gguf(file: str) -> Shape | None:
    found = read_gguf_shape(Path(file))
    return _counted(*found) if found else None


@cache
def _hub_shape(model: str, revision: str | None) -> Shape | None:
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    cached = try_to_load_from_cache(model, "config.json", revision=revision)
    if isinstance(cached, str):
        return folder_shape(Path(cached).parent)
    if known := known_shape(model):
        return known
    try:
        config = _json(Path(hf_hub_download(model, "config.json", revision=revision)))
    except Exception:  # every way in which a hub can be out of reach; who loads the model tells it
        return None
    return shape_of(config) if config else None


def _json(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
