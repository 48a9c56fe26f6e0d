"""The representation of a prompt at one layer, without computing the layers above it."""

import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, get_args

import torch
from torch import Tensor, nn

from mlc.choices import Pool
from mlc.models.bounds import layer_index
from mlc.models.encoders import ENCODERS, is_encoder_decoder
from mlc.models.packing import pack_rows
from mlc.models.prefix import split_shared, through_root, unwrapped

DECODERS = frozenset(
    {
        "gemma",
        "gemma2",
        "gemma3_text",
        "gpt2",
        "gpt_neox",
        "granite",
        "llama",
        "mistral",
        "olmo2",
        "opt",
        "qwen2",
        "qwen3",
        "smollm3",
    }
)
"""``model_type`` of the decoders whose layers are known; the tests compare each with its full forward pass."""
_LAYER_NAMES = ("layers", "h", "block")

# These change the forward pass of the whole model, or need an argument that only the whole model takes.
_WHOLE_MODEL_ADAPTERS = frozenset({"ADAPTION_PROMPT", "POLY", "SHADOW", "XLORA"})

_warned: set[type] = set()


class _LayerReached(Exception):
    """Carries the state out of the forward pass at the chosen layer."""

    def __init__(self, hidden: Tensor) -> None:
        super().__init__("the chosen layer was reached")
        self.hidden = hidden


@dataclass(frozen=True)
class _Stack:
    """The part of a model whose states are asked for: the decoder, or the encoder where there is one."""

    body: Any
    layers: nn.ModuleList | None
    """None for a family that is not known."""
    is_encoder: bool


def prompt_states(
    model: nn.Module,
    input_ids: Tensor,
    attention_mask: Tensor,
    *,
    layer: int | float,
    pool: Pool = "last",
    content_mask: Tensor | None = None,
) -> Tensor:
    """Hidden state of each prompt at one layer; the forward pass stops there.

    N prompts, T tokens, H hidden size. Equal to ``hidden_states[layer]`` of the full forward pass of each prompt
    alone, pooled. An encoder-decoder model gives the states of its encoder. The full forward pass is computed, with
    one warning, for a family that is in neither :data:`DECODERS` nor :data:`ENCODERS`.

    ``DistributedDataParallel``, ``torch.compile`` and PEFT are looked through: adapters act, but no forward pass of
    the wrapper runs. So mixed precision must be on around the call, because Accelerate puts its own into the
    wrapper's forward pass. And under ``DistributedDataParallel`` gradients are averaged over the processes only if
    the loss also holds what came through the wrapper's forward pass: call ``backward`` once, on the sum. Checkpoints
    must then not be reentrant, and with ``find_unused_parameters`` the wrapper's forward pass must use every
    parameter that the states use; torch raises an error otherwise. Of a model that ``fully_shard`` has sharded (FSDP2)
    the forward pass of the whole runs, and ends at the layer; all processes have to call this equally often.

    Args:
        model: A causal language model or an encoder-decoder model of transformers.
        input_ids: [N, T] int64.
        attention_mask: [N, T], 1 for real tokens; padding on either side.
        layer: Index of the ``hidden_states`` tuple, or a fraction of the depth such as 0.5.
        pool: ``last``: the last prompt token (Bu et al., arXiv 2602.16660); ``last_content``: the last token of the
            person's own text; ``mean``: the mean over the tokens of that text. The last two are ours.
        content_mask: [N, T] bool, needed for ``last_content`` and ``mean``.

    Returns:
        [N, H] states, with gradient where gradient is enabled. In training mode no layer is left out at random
        (LayerDrop), because a state would then not be that of its layer.

    Raises:
        ValueError: A shape is wrong, the layer does not exist, a prompt has no token to pool, the model has an adapter
            of which the layers alone know nothing, such as prompt tuning, or it returns no hidden states.
    """
    mask = pool_mask(input_ids, attention_mask, pool, content_mask)
    bare = without_wrappers(model)
    stack = _stack(bare)
    if stack.layers is not None and not stack.is_encoder:
        index = layer_index(layer, len(stack.layers))
        with _decoding(stack, index, input_ids, attention_mask, None if pool == "last" else mask) as decoding:
            return pool_states(*decoding.placed(through_root(model, decoding.run), mask), pool)
    # With the padding on the right every row begins at position 0, whatever the model makes of positions.
    order = attention_mask.long().argsort(dim=1, descending=True, stable=True)
    inputs = {"input_ids": input_ids.gather(1, order), "attention_mask": attention_mask.gather(1, order)}
    if stack.layers is not None:
        with _stopping(stack.body, stack.layers, layer_index(layer, len(stack.layers))) as run:
            hidden = through_root(model, partial(run, **inputs))
    else:
        hidden = _whole_pass(bare, stack, inputs, layer)
    return pool_states(hidden, mask.gather(1, order), pool)


def state_size(model: Any, layer: int | float) -> int:
    """H of the states at a layer: some models (OPT) have a narrower last one.

    Args:
        model: A model of transformers, wrapped or not.
        layer: As in :func:`prompt_states`.
    """
    config = unwrapped(model).config.get_text_config()
    size = int(config.hidden_size)
    projected = int(getattr(config, "word_embed_proj_dim", None) or size)
    if projected == size or layer_index(layer, config.num_hidden_layers) < config.num_hidden_layers:
        return size
    return projected


def module_inputs(
    model: nn.Module,
    modules: Sequence[nn.Module],
    input_ids: Tensor,
    attention_mask: Tensor,
    *,
    layer: int | float,
    pool: Pool,
    content_mask: Tensor | None = None,
) -> list[Tensor]:
    """What modules inside a decoder are given for a prompt, computed as :func:`prompt_states` computes its states.

    Args:
        model: A causal language model of one of :data:`DECODERS`.
        modules: Modules that are called once, with [rows, tokens, D]; all of them before the chosen layer.
        input_ids: As in :func:`prompt_states`, as are the following.
        attention_mask: [N, T].
        layer: Nothing beyond it is computed.
        pool: Which tokens stand for a prompt.
        content_mask: [N, T] bool.

    Returns:
        [N, D] for each module.

    Raises:
        ValueError: As in :func:`prompt_states`, or the model is another one.
    """
    mask = pool_mask(input_ids, attention_mask, pool, content_mask)
    stack = _stack(without_wrappers(model))
    if stack.layers is None or stack.is_encoder:
        raise ValueError(f"{type(model).__name__} is no decoder of a known family: {', '.join(sorted(DECODERS))}")
    index = layer_index(layer, len(stack.layers))
    seen: dict[int, Tensor] = {}

    def keep(_module: nn.Module, inputs: tuple[Any, ...], *, number: int) -> None:
        seen[number] = inputs[0]

    with ExitStack() as undo:
        for number, module in enumerate(modules):
            undo.callback(module.register_forward_pre_hook(partial(keep, number=number)).remove)
        own = None if pool == "last" else mask
        decoding = undo.enter_context(_decoding(stack, index, input_ids, attention_mask, own))
        through_root(model, decoding.run)
        return [pool_states(*decoding.placed(seen[number], mask), pool) for number in range(len(modules))]


def pool_mask(input_ids: Tensor, attention_mask: Tensor, pool: Pool, content_mask: Tensor | None) -> Tensor:
    """The tokens that a pooling may take.

    Args:
        input_ids: [N, T] int64.
        attention_mask: [N, T], 1 for real tokens.
        pool: As in :func:`prompt_states`.
        content_mask: [N, T] bool, needed for ``last_content`` and ``mean``.

    Returns:
        [N, T] bool.

    Raises:
        ValueError: As in :func:`prompt_states`.
    """
    if input_ids.shape != attention_mask.shape or input_ids.ndim != 2:
        raise ValueError(
            f"input_ids and attention_mask must both be [N, T], not {list(input_ids.shape)} and "
            f"{list(attention_mask.shape)}."
        )
    if not len(input_ids):
        raise ValueError(f"input_ids must hold at least one prompt, not {list(input_ids.shape)}.")
    if pool not in get_args(Pool):
        raise ValueError(f"pool must be one of {', '.join(get_args(Pool))}, not {pool!r}.")
    real = attention_mask.bool()
    if pool == "last":
        return _with_tokens("attention_mask", real)
    if content_mask is None:
        raise ValueError(f"pool={pool!r} needs content_mask.")
    if content_mask.shape != real.shape:
        raise ValueError(f"content_mask must be {list(real.shape)}, not {list(content_mask.shape)}.")
    content = content_mask.bool()
    if bool((content & ~real).any()):
        row, column = (content & ~real).nonzero()[0].tolist()
        raise ValueError(f"content_mask marks padding: token {column} of prompt {row}.")
    return _with_tokens("content_mask", content)


def _with_tokens(name: str, mask: Tensor) -> Tensor:
    filled = mask.any(dim=1)
    if not bool(filled.all()):
        raise ValueError(f"{name}: prompt {int(filled.long().argmin())} has no token to pool.")
    return mask


def pool_states(hidden: Tensor, mask: Tensor, pool: Pool) -> Tensor:
    """Pools the vectors of tokens to one a prompt.

    Args:
        hidden: [N, T, H]; what the mask leaves out may be anything, NaN too.
        mask: [N, T] bool, from :func:`pool_mask`.
        pool: As in :func:`prompt_states`.

    Returns:
        [N, H].
    """
    if pool == "mean":
        precise = torch.promote_types(hidden.dtype, torch.float32)
        total = hidden.masked_fill(~mask.unsqueeze(-1), 0.0).sum(dim=1, dtype=precise)
        return (total / mask.sum(dim=1, keepdim=True)).to(hidden.dtype)
    positions = torch.arange(mask.shape[1], device=mask.device)
    last = torch.where(mask, positions, -1).amax(dim=1)
    return hidden[torch.arange(len(hidden), device=hidden.device), last]


def known_decoder(model: Any) -> Any:
    """The decoder of a model whose family is in :data:`DECODERS`; None for others.

    Args:
        model: A model of transformers, wrapped or not, with adapters or not.
    """
    try:
        bare = without_wrappers(model)
    except ValueError:
        return None
    stack = _stack(bare)
    return None if stack.layers is None or stack.is_encoder else stack.body


def without_wrappers(model: Any) -> Any:
    """The model itself; raises ValueError for an adapter that acts outside its layers."""
    model = unwrapped(model)
    peft: Any = sys.modules.get("peft")
    # While another thread imports peft it may lack them still, and then no model is one of them.
    wrappers = tuple(getattr(peft, name) for name in ("PeftModel", "PeftMixedModel") if hasattr(peft, name))
    if not isinstance(model, wrappers):
        return model
    adapters = [model.peft_config[name] for name in model.active_adapters]
    if not getattr(model, "_adapters_disabled", False):
        for adapter in adapters:
            _check_adapter(adapter)
    takes_model_itself = any(adapter.is_prompt_learning for adapter in adapters)
    return without_wrappers(model.base_model if takes_model_itself else model.base_model.model)


def _check_adapter(adapter: Any) -> None:
    kind = getattr(adapter.peft_type, "value", adapter.peft_type)
    if getattr(adapter, "alora_invocation_tokens", None):
        kind = "activated LoRA"
    elif not adapter.is_prompt_learning and kind not in _WHOLE_MODEL_ADAPTERS:
        return
    raise ValueError(
        f"prompt_states does not know adapters of type {kind}, which act outside the layers; use one that acts in "
        "them, such as LoRA, or disable it."
    )


def _stack(model: Any) -> _Stack:
    if is_encoder_decoder(getattr(model, "config", None)):
        body, known, is_encoder = model.get_encoder(), ENCODERS, True
    else:
        body, known, is_encoder = model.get_decoder() if hasattr(model, "get_decoder") else model, DECODERS, False
    lists = (getattr(body, name, None) for name in _LAYER_NAMES)
    layers = next((found for found in lists if isinstance(found, nn.ModuleList)), None)
    is_known = getattr(getattr(body, "config", None), "model_type", None) in known
    return _Stack(body, layers if is_known else None, is_encoder)


@contextmanager
def _stopping(body: Any, layers: nn.ModuleList, index: int) -> Iterator[Callable[..., Tensor]]:
    """The stack as a function from its inputs to the states at one layer; nothing beyond them is computed."""
    layer = layers[index] if index < len(layers) else None

    def run(**inputs: Any) -> Tensor:
        try:
            states: Tensor = body(**inputs, return_dict=True).last_hidden_state
        except _LayerReached as reached:
            return reached.hidden
        assert layer is None, "the chosen layer was never called"
        return states

    with ExitStack() as undo:
        undo.enter_context(_set(body, "layerdrop", 0.0))
        if layer is not None:
            # Else the hook runs, and raises, inside torch's checkpoint of a layer that is not computed.
            undo.enter_context(_set(layer, "gradient_checkpointing", False))
            undo.callback(layer.register_forward_pre_hook(_stop_here, prepend=True, with_kwargs=True).remove)
        yield run


@dataclass(frozen=True)
class _Decoding:
    """A batch on its way through a decoder, packed or with what its rows share computed apart."""

    run: Callable[[], Tensor]
    """Computes the states at the chosen layer, in the order of the computation."""
    placed: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    """Puts values in that order, and a mask [N, T], side by side, row for row."""


@contextmanager
def _decoding(
    stack: _Stack, index: int, input_ids: Tensor, attention_mask: Tensor, own: Tensor | None
) -> Iterator[_Decoding]:
    assert stack.layers is not None
    packed = pack_rows(stack.body, input_ids, attention_mask, own)
    if packed is not None:
        with _stopping(stack.body, stack.layers, index) as run:
            yield _Decoding(
                lambda: run(**packed.inputs(stack.body)),
                lambda values, mask: (packed.give_back(values, input_ids.shape), mask),
            )
        return
    batch = split_shared(stack.body, input_ids, attention_mask, own)
    with _stopping(stack.body, stack.layers, index) as run:
        # No pooling asks for the shared tokens.
        yield _Decoding(lambda: run(**batch.inputs(run)), lambda values, mask: (values, mask[:, batch.length :]))


def _stop_here(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    raise _LayerReached(args[0] if args else kwargs["hidden_states"])


@contextmanager
def _set(module: nn.Module, name: str, value: Any) -> Iterator[None]:
    """Sets an attribute for a while, where it exists."""
    before = getattr(module, name, value)
    if before == value:
        yield
        return
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


def _whole_pass(model: nn.Module, stack: _Stack, inputs: dict[str, Tensor], layer: int | float) -> Tensor:
    _warn_of_whole_pass(type(model))
    run = stack.body if stack.is_encoder else model
    states = run(**inputs, output_hidden_states=True, return_dict=True).hidden_states
    if states is None:
        raise ValueError(f"{type(model).__name__} returns no hidden states.")
    hidden: Tensor = states[layer_index(layer, len(states) - 1)]
    return hidden


def _warn_of_whole_pass(family: type) -> None:
    # Python's own filter may be set to show it at every step.
    if family in _warned:
        return
    warnings.warn(f"{family.__name__}: its layers are not known, so the whole forward pass is computed.", stacklevel=4)
    _warned.add(family)
