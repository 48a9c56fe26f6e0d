"""Loading of policy models."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mlc.cache import cache_folder
from mlc.choices import Attention, InferenceType
from mlc.devices import pick_device
from mlc.errors import UserError
from mlc.models.adapters import (
    in_shards,
    is_adapted,
    merged_dtype,
    save_adapter,
    whole,
    with_adapter,
    with_adapter_merged,
)
from mlc.models.check import (
    cannot_load,
    end_tokens,
    read_config,
    require_cache,
    require_kind,
    require_opening,
    require_readable,
    require_sound,
    require_tokenizer,
    require_whole,
)
from mlc.models.encoders import is_encoder_decoder, open_answers
from mlc.models.sources import PICKLED, ModelSource
from mlc.models.templates import use_trained_template
from mlc.store.drafts import draft_folder

if TYPE_CHECKING:
    import torch

_SAFE = {"trust_remote_code": False}
"""Given to whatever loads: else it asks on standard input whether code of the model may run."""


@dataclass
class Policy:
    """A causal language model, or an encoder-decoder, with its tokenizer."""

    model: Any
    tokenizer: Any
    source: ModelSource

    lead: str = ""
    """White space that is part of the first token of an answer, see :class:`mlc.models.templates.AnswerPlace`."""
    left_over: str = ""
    """What the checkpoint holds and the model has no place for, in words."""
    date: str = ""
    """Date in its prompts, where its chat template asks for one."""

    @property
    def encodes(self) -> bool:
        """Whether it has an encoder, which reads the prompt, and a decoder, which writes the answer."""
        return is_encoder_decoder(self.model.config)

    @property
    def stop_tokens(self) -> tuple[int, ...]:
        """Ids of the tokens that end an answer."""
        return tuple(end_tokens(self.model, self.tokenizer))

    @property
    def stop_token(self) -> int:
        """The first of them."""
        return self.stop_tokens[0]

    @property
    def pad_token(self) -> int:
        """Id used for padding; its value never reaches a result."""
        pad = self.tokenizer.pad_token_id
        return self.stop_token if pad is None else int(pad)

    @property
    def verdict(self) -> str:
        """What was checked when it was loaded, in one line."""
        weights = sum(parameter.numel() for parameter in self.model.parameters())
        ends = ", ".join(map(repr, self.tokenizer.convert_ids_to_tokens(list(self.stop_tokens))))
        told = [
            f"{weights:,} weights, all there and finite",
            f"{len(self.tokenizer):,} tokens, answers end with {ends}",
        ]
        told += [f"the date in its prompts is always {self.date}"] if self.date else []
        return "; ".join([*told, self.left_over] if self.left_over else told)


def load_policy(
    source: ModelSource,
    *,
    dtype: "torch.dtype | InferenceType | None" = None,
    device: str = "auto",
    attention: Attention = "sdpa",
    trains_adapter: bool = False,
    four_bits: bool = False,
    encodes: bool = False,
) -> Policy:
    """Loads a language model in evaluation mode, and checks it.

    An adapter is merged into the weights in memory, so that what comes is a model like any other.

    Its chat template opens answers as they stand in training, see :mod:`mlc.models.templates`; its tokenizer has a
    token to pad with, and its generation settings name every token that ends an answer, so that all of this is in a
    checkpoint that is saved of it. Code of the model is never run.

    Args:
        source: Where it is, from :func:`mlc.models.sources.resolve_model`.
        dtype: Type of the weights in memory; as torch or its name has it; float32 if None, that
            of the checkpoint if ``auto``.
        device: ``auto``, ``cpu``, ``cuda`` or any device of torch.
        attention: How attention is computed; ``sdpa`` is what transformers takes by itself, ``eager`` for families
            without it.
        trains_adapter: The adapter of the source stays one, to be trained on; the policy's source is then the model
            that it belongs to.
        four_bits: The weights of the model are 4-bit numbers (NF4, bitsandbytes) that multiply in bfloat16, for an
            adapter to be trained on.
        encodes: Whether an encoder-decoder will do too, see :mod:`mlc.models.encoders`.

    Raises:
        UserError: It cannot be loaded, is of another kind, does not pass a check of :mod:`mlc.models.check`, or the
            device is not there.
    """
    how = _How(dtype, device, attention, trains_adapter, four_bits, encodes)
    model, tokenizer, left_over = _load_checked(source, how)
    if is_encoder_decoder(model.config):
        require_opening(source, model, tokenizer)
        open_answers(model, tokenizer)
    else:
        require_cache(source, model, tokenizer)
    answers = use_trained_template(tokenizer, source.location, source.chat_template_kwargs)
    ends = end_tokens(model, tokenizer, answers.closing)
    model.generation_config.eos_token_id = ends[0] if len(ends) == 1 else ends
    owner = source.base if trains_adapter and source.base else source
    return Policy(model, tokenizer, owner, answers.lead, left_over, answers.date)


def load_checked(
    source: ModelSource, *, dtype: "torch.dtype | InferenceType | None" = None, device: str = "auto"
) -> tuple[Any, Any, str]:
    """Loads a causal language model and its tokenizer as they are, and checks both.

    Args:
        source: As of :func:`load_policy`.
        dtype: As of :func:`load_policy`.
        device: As of :func:`load_policy`.

    Returns:
        The model in evaluation mode, its tokenizer, and what was left over in the checkpoint, in words.

    Raises:
        UserError: As of :func:`load_policy`, but for the chat template.
    """
    return _load_checked(source, _How(dtype, device))


@dataclass(frozen=True)
class _How:
    """Arguments of :func:`load_policy`."""

    dtype: "torch.dtype | InferenceType | None" = None
    device: str = "auto"
    attention: Attention = "sdpa"
    trains_adapter: bool = False
    four_bits: bool = False
    encodes: bool = False


def _load_checked(source: ModelSource, how: _How) -> tuple[Any, Any, str]:
    import torch

    dtype = _type(how.dtype)
    if source.base is None:
        model, tokenizer, left_over = _read(source, how, dtype)
    elif how.trains_adapter:
        model, _, left_over = _read(source.base, how, dtype)
        model, tokenizer = with_adapter(model, Path(source.target)), _tokenizer(source)
    else:
        # Merged before it is rounded.
        model, _, left_over = _read(source.base, how, torch.float32)
        folder = Path(source.target)
        own = getattr(torch, merged_dtype(folder)) if dtype == "auto" else dtype
        model, tokenizer = with_adapter_merged(model, folder, own), _tokenizer(source)
    # Weights of four bits lie on their device already.
    model = (model if how.four_bits else model.to(pick_device(how.device))).eval()
    require_tokenizer(source, model, tokenizer)
    require_sound(source, model, tokenizer)
    return model, tokenizer, left_over


def _type(dtype: "torch.dtype | InferenceType | None") -> "torch.dtype | Literal['auto']":
    import torch

    if dtype == "auto":
        return "auto"
    number: torch.dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype or torch.float32
    return number


def _read(source: ModelSource, how: _How, dtype: "torch.dtype | Literal['auto']") -> tuple[Any, Any, str]:
    """A whole model and its tokenizer as they are, and what was left over in the checkpoint."""
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer, PretrainedConfig

    place, options = source.target, {**_SAFE, **_reading(source)}
    config: dict[str, Any] = {}
    more: dict[str, Any] = {} if how.attention == "sdpa" else {"attn_implementation": how.attention}
    if how.four_bits:
        more |= _four_bits(how.device)
    try:
        if source.kind == "gguf":
            place = str(converted_gguf(source))
        elif source.kind == "folder":
            config = read_config(source)
        else:
            config = PretrainedConfig.get_config_dict(place, revision=source.revision)[0]
        require_kind(source, config, encodes=how.encodes)
        kind: Any = AutoModelForSeq2SeqLM if is_encoder_decoder(config) else AutoModelForCausalLM
        tokenizer = AutoTokenizer.from_pretrained(place, **options)
        model, loading = kind.from_pretrained(
            place,
            dtype=dtype,
            use_safetensors=None if source.allow_pickle else True,
            output_loading_info=True,
            # Told below, in a sentence.
            ignore_mismatched_sizes=True,
            **options,
            **more,
        )
    except UserError:
        raise
    except Exception as error:  # the libraries below raise errors of many kinds
        if source.kind == "hub" and "use_safetensors" in str(error):
            raise UserError(f"The model {source.location!r} has {PICKLED}.") from None
        require_readable(source)
        raise cannot_load(source, error) from None
    return model, tokenizer, require_whole(source, loading)


def _tokenizer(adapter: ModelSource) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(adapter.target, **_SAFE, **_reading(adapter))
    except Exception as error:  # the libraries below raise errors of many kinds
        require_readable(adapter)
        raise cannot_load(adapter, error) from None


def _four_bits(device: str) -> dict[str, Any]:
    import torch
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return {"quantization_config": config, "device_map": {"": pick_device(device)}}


def _reading(source: ModelSource) -> dict[str, Any]:
    return {"revision": source.revision} if source.kind == "hub" else {"local_files_only": True}


def save_policy(policy: Policy, folder: Path, *, dtype: "torch.dtype", writes: bool = True) -> None:
    """Writes a checkpoint that ``from_pretrained`` of transformers loads.

    Args:
        policy: Model and tokenizer; left as they are. Of a model with an adapter the adapter alone is written, see
            :mod:`mlc.models.adapters`, which ``from_pretrained`` of PEFT loads.
        folder: Folder to write into.
        dtype: Type of the saved weights; of an adapter, of the model that it will be merged into.
        writes: Whether this process writes. Of a model in shards all processes have to call this, and one writes.
    """
    if is_adapted(policy.model):
        words = str(dtype).removeprefix("torch.")
        save_adapter(policy.model, policy.tokenizer, policy.source, folder, dtype=words, writes=writes)
        return
    # Tied weights stay one tensor, so that they are written once.
    converted: dict[tuple[Any, ...], torch.Tensor] = {}
    state = {}
    for name, tensor in policy.model.state_dict().items():
        local = tensor.to_local() if in_shards(tensor) else tensor
        place = (local.data_ptr(), tensor.shape, tensor.stride())
        if place not in converted:
            converted[place] = whole(tensor).detach().to("cpu", dtype)
        state[name] = converted[place]
    if not writes:
        return
    config = policy.model.config
    previous = config.dtype
    try:
        policy.model.save_pretrained(folder, state_dict=state)
        # The line above names the type of the model in memory.
        config.dtype = dtype
        config.save_pretrained(folder)
    finally:
        config.dtype = previous
    policy.tokenizer.save_pretrained(folder)


def place_of(source: ModelSource) -> tuple[str, str | None]:
    """Where transformers and PEFT find a model, and which commit of a hub model it is.

    Args:
        source: The model.

    Raises:
        UserError: It is an adapter itself.
    """
    if source.base is not None:
        raise UserError(
            f"The model {source.location!r} is an adapter itself, so that no other adapter can name it as its model: "
            "set registry.weights to merged."
        )
    return str(converted_gguf(source)) if source.kind == "gguf" else source.target, source.revision


def converted_gguf(source: ModelSource) -> Path:
    """Converts a GGUF file to an ordinary model folder, once for each content.

    Args:
        source: Of the kind ``gguf``.

    Returns:
        The folder.
    """
    folder = cache_folder() / f"gguf-{source.identity[:16]}"
    if (folder / "config.json").is_file():
        return folder
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    gguf = Path(source.target)
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.float32,
        local_files_only=True,
        **_SAFE,
    )
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, local_files_only=True, **_SAFE)
    # Another process may be faster; its result is as good.
    with draft_folder(folder) as draft:
        model.save_pretrained(draft)
        tokenizer.save_pretrained(draft)
    return folder
