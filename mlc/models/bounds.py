"""What a model has by its configuration: layers, and tokens that it reads at once.

Without torch, so that a plan can tell what does not exist.
"""

from collections.abc import Mapping
from typing import Any

from mlc.choices import Layers
from mlc.errors import UserError
from mlc.models.encoders import is_encoder_decoder

_DECODERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
_ENCODERS = ("encoder_layers", "num_layers")
"""What families call the number of layers in their ``config.json``."""
_CONTEXTS = ("max_position_embeddings", "n_positions", "max_seq_len")
"""What they call the longest text."""
_DISTANCES = ("t5", "mt5", "umt5")


def depth_of(config: Mapping[str, Any]) -> int:
    """Number of the layers whose states are read: those of the encoder, where there is one; 0 where nothing tells.

    Args:
        config: A model's ``config.json``.
    """
    own = config.get("text_config") or config
    names = _ENCODERS if is_encoder_decoder(config) else _DECODERS
    return int(next((own[name] for name in names if own.get(name)), 0))


def context_of(config: Mapping[str, Any]) -> int | None:
    """Most tokens that a model reads at once, a prompt and its answer together; of an encoder-decoder, each alone.

    Args:
        config: A model's ``config.json``.

    Returns:
        None where nothing bounds them, as where tokens have distances in place of positions.
    """
    own = config.get("text_config") or config
    if own.get("model_type") in _DISTANCES:
        return None
    context = next((int(own[name]) for name in _CONTEXTS if int(own.get(name) or 0) > 0), None)
    scaling = own.get("rope_scaling") or own.get("rope_parameters") or {}
    # Some checkpoints name the length before positions were stretched (YaRN, Peng et al., arXiv 2309.00071).
    stretched = int(float(scaling.get("factor") or 1) * int(scaling.get("original_max_position_embeddings") or 0))
    return None if context is None else max(context, stretched)


def layer_index(layer: int | float, depth: int) -> int:
    """Turns a layer as people write it into an index of Hugging Face's ``hidden_states`` tuple.

    Args:
        layer: Index (0 = embeddings, ``depth`` = after the last layer and the final norm; negative counts from
            the end), or a fraction of the depth as a float in [0, 1].
        depth: Number of layers.

    Raises:
        ValueError: The layer does not exist.
    """
    if isinstance(layer, bool):
        raise ValueError(f"layer must be a whole number or a fraction of the depth, not {layer}.")
    if isinstance(layer, float):
        if not 0.0 <= layer <= 1.0:
            raise ValueError(f"layer as a fraction must lie in [0, 1], not {layer}.")
        return round(layer * depth)
    index = layer if layer >= 0 else depth + 1 + layer
    if not 0 <= index <= depth:
        raise ValueError(f"layer {layer} does not exist: this model has layers 0 to {depth}.")
    return index


def resolve_layers(layers: Layers, depth: int) -> tuple[int, ...]:
    """Layers whose weights are changed, as people write them, as sorted numbers from 0.

    Args:
        layers: See :class:`mlc.editing.settings.EditSettings`.
        depth: Layers of the model.

    Raises:
        UserError: A layer does not exist or is named twice.
    """
    if layers == "all":
        return tuple(range(depth))
    if layers == "middle":
        # At least one layer, in a model of one layer too.
        return tuple(range(depth // 4, max(depth // 4 + 1, depth - depth // 4)))
    numbers: list[int] = []
    for layer in layers:
        number = layer if layer >= 0 else depth + layer
        if not 0 <= number < depth:
            raise UserError(f"The layer {layer} does not exist: this model has layers 0 to {depth - 1}.")
        if number in numbers:
            raise UserError(f"The layer {number} is named twice: name each once.")
        numbers.append(number)
    return tuple(sorted(numbers))
