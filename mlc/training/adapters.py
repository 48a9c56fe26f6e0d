"""An adapter of PEFT in place of training all weights."""

import logging
import re
from typing import Any

from torch import nn

from mlc.models.bounds import layer_index, resolve_layers
from mlc.models.encoders import is_encoder_decoder
from mlc.models.states import without_wrappers
from mlc.training.settings import AdapterSettings

_LAYER = re.compile(r"\.(?:layers|h|block)\.(\d+)\.")

logger = logging.getLogger(__name__)


def lora_config(settings: AdapterSettings, model: Any) -> Any:
    """What PEFT and the trainers of TRL take.

    Args:
        settings: The adapter.
        model: The model that gets it, whose linear modules are looked up.

    Returns:
        A ``LoraConfig``.

    Raises:
        ValueError: The model has no such module.
        UserError: It has no such layer, or one is named twice.
    """
    from peft import LoraConfig

    own = linear_names(model)
    wanted = own if settings.target_modules == "all-linear" else settings.target_modules
    if unknown := [name for name in wanted if name not in own]:
        raise ValueError(f"align.adapter.target_modules names {unknown[0]!r}; the policy has {', '.join(own)}.")
    depth = without_wrappers(model).config.get_text_config().num_hidden_layers
    return LoraConfig(
        task_type="SEQ_2_SEQ_LM" if is_encoder_decoder(model.config) else "CAUSAL_LM",
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=list(wanted),
        layers_to_transform=None if settings.layers is None else list(resolve_layers(settings.layers, depth)),
        use_dora=settings.use_dora,
        use_rslora=settings.use_rslora,
    )


def with_adapter(model: Any, adapter: Any, seed: int) -> Any:
    """A model with a new adapter, whose weights are those of the seed, as the trainers of TRL make it.

    Args:
        model: Of transformers.
        adapter: From :func:`lora_config`.
        seed: Of the training.
    """
    from peft import get_peft_model
    from transformers import set_seed

    set_seed(seed)
    return get_peft_model(model, adapter)


def linear_names(model: Any) -> tuple[str, ...]:
    """Names of the linear modules in the layers of a model, without its head, sorted: ``down_proj``, ``q_proj`` …"""
    from transformers.pytorch_utils import Conv1D

    head = model.get_output_embeddings()
    found = (
        name for name, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D) and module is not head
    )
    return tuple(sorted({name.rpartition(".")[2] for name in found}))


def reaches_adapter(model: Any, layer: int | float) -> bool:
    """Whether the states at a layer depend on a weight of an adapter: on one of the layers below it.

    Args:
        model: A model with an adapter.
        layer: As in :func:`mlc.models.bounds.layer_index`.
    """
    # States are those of the encoder where there is one.
    stack = ".encoder." if is_encoder_decoder(model.config) else "."
    named = (name for name, parameter in model.named_parameters() if parameter.requires_grad and stack in name)
    trained = (_LAYER.search(name) for name in named)
    places = [int(found[1]) for found in trained if found]
    depth = without_wrappers(model).config.get_text_config().num_hidden_layers
    return any(place < layer_index(layer, depth) for place in places)


def warn_of_idle_term(model: Any, layer: int | float) -> None:
    """Warns where the consistency term moves nothing, because no layer with an adapter lies below its states.

    Args:
        model: A model with an adapter.
        layer: Of the term.
    """
    if not reaches_adapter(model, layer):
        logger.warning(
            "The consistency term moves nothing: no layer with an adapter lies below its layer %s; name lower ones in "
            "align.adapter.layers, or a higher one in align.consistency.layer.",
            layer,
        )
