"""What is checked of a policy when it is loaded, before any work is spent on it; every failure is one sentence.

A model with a random head, with numbers that are not finite, or without an end for its answers would be trained,
evaluated and registered like any other, and every figure about it would be wrong.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlc.errors import UserError
from mlc.models.encoders import ENCODERS, is_encoder_decoder
from mlc.models.sources import ModelSource
from mlc.tables.foreign import pointer_in

if TYPE_CHECKING:
    import torch

_OTHER_HEADS = ("ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering", "ForMaskedLM")
_PROBE = "How do I bake bread?"
_SEES_AHEAD = 1e-4
"""Share of the largest logit by which logits may move with a later token; where that is masked they do not at all."""
_HEAD_BYTES = 1_000
_NAMED = 3
"""So many weights are named in an error."""


def require_kind(source: ModelSource, config: Mapping[str, Any], *, encodes: bool = False) -> None:
    """Checks that a model is one that can be aligned, by its configuration alone.

    Args:
        source: The model.
        config: Its ``config.json``.
        encodes: Whether an encoder-decoder will do, of the families in :data:`mlc.models.encoders.ENCODERS`.

    Raises:
        UserError: It is of another kind, is quantised, or needs code of its own.
    """
    name = repr(source.location)
    if is_encoder_decoder(config) and not encodes:
        raise UserError(
            f"The model {name} is an encoder-decoder, and what is asked for needs a model that only decodes: give a "
            "causal language model; encoder-decoders can be trained and evaluated."
        )
    if is_encoder_decoder(config) and config.get("model_type") not in ENCODERS:
        raise UserError(
            f"The model {name} is an encoder-decoder of the type {config.get('model_type')!r}, and those that can be "
            f"aligned are {', '.join(sorted(ENCODERS))}: give one of these, or a causal language model."
        )
    architectures = [str(architecture) for architecture in config.get("architectures") or ()]
    other = next((found for found in architectures if found.endswith(_OTHER_HEADS)), None)
    if other:
        raise UserError(f"The model {name} is a {other}, which writes no answers: give a causal language model.")
    if config.get("quantization_config"):
        kind = dict(config["quantization_config"]).get("quant_method", "unknown")
        raise UserError(
            f"The weights of the model {name} are quantised ({kind}), and such weights cannot be trained, edited or "
            "saved in full: give the model that it was made from, or a copy that was dequantised and saved."
        )
    if "/" in str(config.get("attn_implementation") or config.get("_attn_implementation") or ""):
        raise _own_code(name)
    if not str(config.get("transformers_weights") or ".safetensors").endswith(
        (".safetensors", ".safetensors.index.json")
    ):
        raise UserError(f"The configuration of the model {name} names weights that are no safetensors: save it anew.")
    if config.get("auto_map"):
        from transformers import CONFIG_MAPPING

        if config.get("model_type") not in CONFIG_MAPPING:
            raise _own_code(name)


def read_config(source: ModelSource) -> dict[str, Any]:
    """The ``config.json`` of a model in a folder.

    Raises:
        UserError: It cannot be read.
    """
    try:
        config = json.loads((Path(source.target) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        config = None
    if not isinstance(config, dict):
        raise cannot_load(source, "its config.json is damaged")
    return config


def known_config(source: ModelSource) -> dict[str, Any]:
    """The ``config.json`` of a model that is on this machine; empty for a GGUF file, and for one that is not.

    Args:
        source: The model; of an adapter, the model that it belongs to is meant.

    Raises:
        UserError: It cannot be read.
    """
    if source.base is not None:
        return known_config(source.base)
    if source.kind == "folder":
        return read_config(source)
    if source.kind == "hub":
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(source.target, "config.json", revision=source.revision)
        if isinstance(cached, str):
            return read_config(replace(source, kind="folder", target=str(Path(cached).parent)))
    return {}


def require_readable(source: ModelSource) -> None:
    """Checks why a model in a folder cannot be loaded, by the beginnings of its files.

    Args:
        source: The model, after loading it failed.

    Raises:
        UserError: One of them is something else than its name says, or is damaged.
    """
    if source.kind != "folder":
        return
    for path in sorted(Path(source.target).glob("*")):
        if path.suffix not in (".json", ".safetensors", ".bin") or not path.is_file():
            continue
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
        problem = pointer_in(head) or (None if head else "is empty: get it again")
        if problem is None and path.suffix == ".json":
            try:
                json.loads(path.read_text(encoding="utf-8"))
            except (ValueError, RecursionError):
                problem = "is no JSON: it is damaged; get it again"
        if problem is not None:
            raise UserError(f"The file {path.name} of the model {source.location!r} {problem}.")


def cannot_load(source: ModelSource, error: Exception | str) -> UserError:
    """The failure to load a model, in one sentence.

    Args:
        source: The model.
        error: What went wrong.
    """
    reason = str(error).strip().partition("\n")[0].rstrip(".:") or type(error).__name__
    if "trust_remote_code" in str(error):
        return _own_code(repr(source.location))
    return UserError(
        f"The model {source.location!r} cannot be loaded as a causal language model or an encoder-decoder ({reason}): "
        "give a folder or hub id that AutoModelForCausalLM or AutoModelForSeq2SeqLM of transformers loads."
    )


def _own_code(name: str) -> UserError:
    return UserError(
        f"The model {name} needs code of its own, and code from a model is never run here: give a model of an "
        "architecture that transformers has."
    )


def require_whole(source: ModelSource, loading: Mapping[str, Any]) -> str:
    """Checks that every weight of the architecture was in the checkpoint.

    Args:
        source: The model.
        loading: What ``from_pretrained`` tells with ``output_loading_info``.

    Returns:
        What was left over in the checkpoint, in words; empty where nothing was.

    Raises:
        UserError: Weights are missing or have another shape, so that they would be random.
    """
    if unlike := sorted(loading.get("mismatched_keys") or (), key=lambda key: str(key[0])):
        name, there, wanted = unlike[0]
        raise UserError(
            f"The config.json of the model {source.location!r} does not belong to its weights: {name} has the shape "
            f"{list(there)} in the checkpoint and {list(wanted)} by config.json, and so have {len(unlike) - 1} more "
            "another one: put the config.json beside it that was saved with it."
        )
    if missing := sorted(loading.get("missing_keys") or ()):
        raise UserError(
            f"The checkpoint of the model {source.location!r} is not whole: {len(missing)} weights are missing "
            f"({_some(missing)}) and would be random: give a checkpoint that was saved with its head."
        )
    if loading.get("error_msgs"):
        raise cannot_load(source, str(loading["error_msgs"][0]))
    extra = sorted(loading.get("unexpected_keys") or ())
    return f"{len(extra)} weights of the checkpoint have no place in the model ({_some(extra)})" if extra else ""


def _some(names: list[str]) -> str:
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def require_tokenizer(source: ModelSource, model: Any, tokenizer: Any) -> None:
    """Checks that a tokenizer is fast and fits the model, and gives it a token to pad with.

    Args:
        source: The model.
        model: The model.
        tokenizer: Its tokenizer; without a usable pad token it pads with its end token, which masks keep apart.

    Raises:
        UserError: It is slow, has tokens that the model has not, or there is no end token.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise UserError(
            f"The model {source.location!r} has a slow tokenizer ({type(tokenizer).__name__}), which cannot tell where "
            "a text's tokens stand: give a model with a tokenizer.json."
        )
    size = model.get_input_embeddings().weight.shape[0]
    pad = tokenizer.pad_token_id
    ids = set(tokenizer.get_vocab().values())
    beyond = {number for number in ids if number >= size}
    if beyond - {pad}:
        raise UserError(
            f"The tokenizer of the model {source.location!r} has {max(ids) + 1} tokens and its embedding {size}: they "
            "do not belong together; give the tokenizer that the model was trained with, or resize the embedding."
        )
    config = model.config.get_text_config()
    ends = end_tokens(model, tokenizer)
    if not ends:
        raise UserError(
            f"The model {source.location!r} names no end token, neither in generation_config.json nor in its "
            "tokenizer, so that no answer would ever end: set eos_token in the tokenizer."
        )
    if tokenizer.eos_token_id not in ends:
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(ends[0])
    if pad is None or pad >= size:
        configured = config.pad_token_id
        known = isinstance(configured, int) and 0 <= configured < size and configured in ids
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(configured) if known else tokenizer.eos_token


def require_opening(source: ModelSource, model: Any, tokenizer: Any) -> None:
    """Checks that an encoder-decoder reads bare prompts, and that its decoder has a token to begin with.

    Args:
        source: The model.
        model: The model.
        tokenizer: Its tokenizer.

    Raises:
        UserError: There is a chat template, or no such token.
    """
    if tokenizer.chat_template is not None:
        raise UserError(
            f"The model {source.location!r} is an encoder-decoder with a chat template, and the prompts of such models "
            "are read as they are: take the template out of its tokenizer."
        )
    if model.config.decoder_start_token_id is None:
        raise UserError(
            f"The model {source.location!r} names no token that its decoder begins with: set decoder_start_token_id in "
            "its config.json."
        )


def end_tokens(model: Any, tokenizer: Any, closing: str = "") -> list[int]:
    """Every token that ends an answer.

    Args:
        model: Its generation settings and its configuration name one or several.
        tokenizer: Its end token is one.
        closing: What the chat template puts after an answer; its first token is one, if it is no ordinary text.
    """
    size = model.get_input_embeddings().weight.shape[0]
    named = [model.generation_config.eos_token_id, model.config.get_text_config().eos_token_id, tokenizer.eos_token_id]
    found = [number for entry in named for number in (entry if isinstance(entry, list | tuple) else [entry])]
    # Some write the token itself.
    found = [tokenizer.convert_tokens_to_ids(number) if isinstance(number, str) else number for number in found]
    following = tokenizer(closing.lstrip(), add_special_tokens=False)["input_ids"][:1]
    found += [number for number in following if number in tokenizer.added_tokens_decoder]
    return list(dict.fromkeys(int(number) for number in found if number is not None and 0 <= number < size))


def require_sound(source: ModelSource, model: Any, tokenizer: Any) -> None:
    """Checks that weights and logits are finite, and that no token sees a later one.

    Args:
        source: The model.
        model: The model, on its device.
        tokenizer: Its tokenizer.

    Raises:
        UserError: One of them is not so.
    """
    import torch

    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise UserError(
                f"The weights of the model {source.location!r} are not finite ({name} holds NaN or infinity): give a "
                "checkpoint from before its training went wrong."
            )
    ids = tokenizer(_PROBE, add_special_tokens=False)["input_ids"]
    logits = _logits(model, [[*ids[:-1], last] for last in (ids[-1], ids[0])])
    if not bool(torch.isfinite(logits).all()):
        raise UserError(
            f"The logits of the model {source.location!r} are not finite, though its weights are: load it in another "
            "type, such as float32."
        )
    moved = (logits[0, :-1] - logits[1, :-1]).abs().max()
    if bool(moved > _SEES_AHEAD * logits.abs().max()):
        raise UserError(
            f"The model {source.location!r} is no causal language model: its tokens see later ones, as those of an "
            "encoder do; give a model that decodes."
        )


def require_cache(source: ModelSource, model: Any, tokenizer: Any) -> None:
    """Checks that a decoder keeps what it read in a cache that rows can be taken from: answers and margins go on there.

    Args:
        source: The model.
        model: A model that only decodes, on its device.
        tokenizer: Its tokenizer.

    Raises:
        UserError: A layer keeps nothing, or nothing of which there can be several copies.
    """
    import torch

    ids = tokenizer(_PROBE, add_special_tokens=False, return_tensors="pt")["input_ids"].to(model.device)
    with torch.inference_mode():
        cache = getattr(model(input_ids=ids, use_cache=True), "past_key_values", None)
        try:
            cache.batch_repeat_interleave(2)  # type: ignore[union-attr]
            cache.batch_select_indices(torch.tensor([0], device=model.device))  # type: ignore[union-attr]
        except (AttributeError, NotImplementedError, ValueError):
            kind = model.config.get_text_config().model_type
            raise UserError(
                f"The model {source.location!r} ({kind}) has layers that keep no keys and values of what they read, as "
                "state-space models and linear attention have, and margins and answers are computed from these: give "
                "a model with attention in every layer."
            ) from None


def _logits(model: Any, rows: list[list[int]]) -> "torch.Tensor":
    import torch

    with torch.inference_mode():
        ids = torch.tensor(rows, device=model.device)
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if is_encoder_decoder(model.config):
            # One prompt for all, so that nothing but the tokens of the decoder differs.
            inputs = {name: values[:1].expand_as(values) for name, values in inputs.items()}
            inputs["decoder_input_ids"] = ids
        logits: torch.Tensor = model(**inputs, use_cache=False).logits.float()
    return logits
