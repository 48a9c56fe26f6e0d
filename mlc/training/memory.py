"""How much memory a training, an evaluation and a translation take, from shapes and settings alone.

Bytes everywhere. What is counted is what lives at the same time at the worst moment of a step; what libraries hold of
their own is :data:`PROCESS` on a CPU and :data:`CONTEXT` on a GPU. The figures stand beside measured peaks in
docs/sizing.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil

from mlc.choices import InferenceType
from mlc.errors import UserError
from mlc.models.sizes import Shape
from mlc.training.settings import AdapterSettings, AlignSettings

BYTES: Mapping[str, int] = {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 1}
"""Of a number."""
MIB, GIB = 2**20, 2**30
PROCESS = 900 * MIB
"""Of a process with torch, transformers, TRL, Prefect and MLflow, before it has a model."""
CONTEXT = 600 * MIB
"""That a GPU's own libraries and kernels take."""
FOUR_BITS = 4.127 / 8
"""Bytes of a weight in NF4 with its constants quantised twice (Dettmers et al., arXiv 2305.14314, section 3)."""
TILE = 64 * MIB
"""What a head holds that computes logits in small tiles, as on a GPU for ``sft``."""
TILED = ("dpo", "grpo")
"""Carriers whose trainers compute logits in tiles of at most :data:`TILE_TOKENS` and :data:`TILE_COLUMNS`."""
TILE_TOKENS, TILE_COLUMNS = 4096, 32_768
TILE_COPIES = 8.25
"""Of a tile that are held at once where there is no Triton: itself, scaled twice, log-probabilities, probabilities,
their gradient, and the target's difference from them and its product, in float32; and where the target is, in bytes."""
HEAP_OF_ALL, HEAP_OF_ADAPTER = 0.35, 0.73
"""What the heap of a CPU's process holds besides in free blocks, as a share of what all layers would keep without
checkpointing, as measured where all weights are trained and where an adapter is.

Each layer leaves blocks behind that the next one cannot take: glibc's ``posix_memalign``, which torch calls, looks for
more than the size that it gives, so that a freed block is too small for a tensor like the one before. Checkpointing
frees more and leaves no fewer of them; an adapter's own products are freed beside. Gradients find room in them. Blocks
of more than 32 MiB, such as logits, are not of the heap, and go back at once."""
HEAD_COPIES: Mapping[str, int] = {"kl": 6, "orpo": 4, "simpo": 4}
"""Numbers that live for each logit of a carrier that holds all of them: logits, log-probabilities and their gradients;
of ``kl`` the teacher's too."""
KEPT = "keys and values"
"""Of attention, for tokens that were read or written."""
OPENING_TOKENS = 28
"""Of all openings of an evaluation together, as they are by default."""


@dataclass(frozen=True)
class Memory:
    """What something needs, in parts."""

    parts: Mapping[str, int]
    """Bytes by what they are for."""

    @property
    def total(self) -> int:
        """Bytes."""
        return sum(self.parts.values())


@dataclass(frozen=True)
class Lengths:
    """How long texts are, in tokens, template included."""

    prompt: int
    """Of a long prompt."""
    answer: int
    """Of a long answer."""
    variant: int = 0
    """Of a long translated prompt; 0 = as a prompt."""

    def within(self, settings: AlignSettings) -> "Lengths":
        """The lengths that are left by the limits of an alignment."""
        sampled = settings.grpo.max_completion_length if settings.english_loss.samples else None
        return Lengths(
            min(self.prompt, settings.max_prompt_tokens),
            sampled or min(self.answer, settings.max_answer_tokens),
            self.variant or self.prompt,
        )


@dataclass(frozen=True)
class Place:
    """Where it is computed."""

    gpu: bool = False
    eager: bool = False
    """Whether attention keeps its scores."""
    host: int = field(default=PROCESS)
    """Bytes of the process itself; on a GPU it has :data:`CONTEXT` there."""

    @property
    def libraries(self) -> int:
        """Bytes that are taken before there is a model."""
        return CONTEXT if self.gpu else self.host


def adapted_linears(shape: Shape, adapter: AdapterSettings) -> Mapping[str, tuple[int, int]]:
    """The linear modules that get an adapter, with their inputs and outputs.

    Args:
        shape: The model.
        adapter: The adapter.

    Raises:
        UserError: The model has no such module.
    """
    if adapter.target_modules == "all-linear" or not shape.linears:
        return shape.linears
    for name in adapter.target_modules:
        if name not in shape.linears:
            raise UserError(
                f"align.adapter.target_modules names {name!r}, and the policy has {', '.join(sorted(shape.linears))}: "
                "name some of these, or all-linear."
            )
    return {name: shape.linears[name] for name in adapter.target_modules}


def adapter_parameters(shape: Shape, adapter: AdapterSettings) -> int:
    r"""Weights of an adapter.

    These are :math:`r (d_{in} + d_{out})` of each linear module that gets one (Hu et al., arXiv 2106.09685, section
    4.1), and with DoRA one more for each output.

    Args:
        shape: The model.
        adapter: The adapter.

    Raises:
        UserError: The model has no such module.
    """

    def count(name: str) -> int:
        every = shape.counts.get(name, shape.layers)
        return every if adapter.layers is None else every * len(adapter.layers) // shape.layers

    return sum(
        count(name) * (adapter.r * (inputs + outputs) + (outputs if adapter.use_dora else 0))
        for name, (inputs, outputs) in adapted_linears(shape, adapter).items()
    )


def training_memory(
    shape: Shape,
    settings: AlignSettings,
    lengths: Lengths,
    *,
    languages: int = 0,
    teacher: Shape | None = None,
    place: Place = Place(),
) -> Memory:
    """What one training needs at the worst moment of a step: when the backward pass begins.

    With P weights of b bytes, T of them trained: weights P·b, gradients T·b, optimiser 2·T·b (AdamW), one frozen copy
    P·b where a loss compares with one, activations as in :func:`layer_activations` for each token and layer, and the
    numbers of the head. Several processes share the prompts of a batch, and with FSDP also weights, gradients and
    optimiser: the figure is that of one of them on its own GPU, or of all together on a CPU. There the heap holds more
    than is used, see :data:`HEAP_OF_ALL`.

    Args:
        shape: The policy.
        settings: The alignment, of one method.
        lengths: Of its texts.
        languages: Languages beside the anchor, for the terms.
        teacher: The model of the carrier ``kl``, where there is one.
        place: Where it is trained.
    """
    lengths, adapter = lengths.within(settings), settings.adapter
    size = BYTES[settings.training_dtype]
    trained = shape.parameters if adapter is None else adapter_parameters(shape, adapter)
    # An adapter is trained in float32, whatever its model is in.
    own = size if adapter is None else 4
    parts = {
        "weights": _weights(shape, settings),
        "adapter": trained * own if adapter else 0,
        "gradients": trained * own,
        "optimiser": _optimiser(settings, trained, own),
        "frozen copy": _frozen(shape, settings, teacher, size),
    }
    shards = settings.processes if settings.sharded else 1
    parts = {name: ceil(bytes_ / shards) for name, bytes_ in parts.items()}
    if settings.autocast == "bfloat16" and size == 4:
        # Autocast keeps a copy of each weight until the step ends.
        parts["weights"] += 2 * (shape.parameters - shape.embedding) // shards
    batch_size, batches = settings.share_of_a_step(settings.processes)
    rows = batch_size * _answers(settings)
    parts["activations"] = _texts(shape, settings, rows, lengths, place)
    parts["logits"] = _logits(shape, settings, rows, lengths, place)
    parts["terms"] = _terms(shape, settings, lengths, languages, place)
    if settings.english_loss.samples:
        written = _writing(shape, size, rows=rows * batches, prompt=lengths.prompt, answer=lengths.answer, scored=1)
        # All answers of a step are sampled before anything is kept for a backward pass.
        if sum(written.values()) > parts["activations"] + parts["logits"] + parts["terms"]:
            parts |= {"terms": 0, **written}
    if not place.gpu:
        left = _heap(shape, settings, rows, lengths, languages, place)
        parts["heap"] = max(0, left - parts["gradients"])
    parts["libraries"] = place.libraries
    together = 1 if place.gpu else settings.processes
    return Memory({name: together * bytes_ for name, bytes_ in parts.items() if bytes_})


def layer_activations(shape: Shape, settings: AlignSettings) -> int:
    """Bytes that one layer keeps of one token for its backward pass, without scores of attention.

    With H states, Q queries, I units of the MLP and b bytes a number: two norms keep their input in float32, what they
    scale, and what they give, 2·(4 + 2·b)·H; attention keeps queries, keys and values of all heads and what it gives
    twice, 5·b·Q; a gated MLP keeps both branches, the one that was activated, and their product, 4·b·I. Frozen weights
    need no inputs, but an adapter reads them in float32.

    Args:
        shape: The model.
        settings: The alignment.
    """
    size = 2 if settings.autocast == "bfloat16" else BYTES[settings.training_dtype]
    hidden, inner, queries = shape.hidden, shape.intermediate, shape.heads * shape.head
    branches = 3 if shape.gated else 1
    if settings.adapter is None:
        return 2 * (4 + 2 * size) * hidden + 5 * size * queries + (branches + 1) * size * inner
    # Norms whose weights stay keep no more than their input, and modules with an adapter share one input.
    kept = 2 * 4 * hidden + 4 * size * queries + branches * size * inner
    chosen = adapted_linears(shape, settings.adapter)
    if size == 4:
        return kept + 4 * (2 * hidden + queries + inner) + 4 * settings.adapter.r * len(chosen)
    # Rounded inputs are turned into float32 once for each module.
    return kept + 4 * sum(inputs for inputs, _ in chosen.values()) + 4 * settings.adapter.r * len(chosen)


def bytes_of(dtype: InferenceType) -> int:
    """Bytes of a weight; ``auto`` is taken for bfloat16."""
    return BYTES["bfloat16" if dtype == "auto" else dtype]


def checkpoint_bytes(shape: Shape, adapter: AdapterSettings | None, dtype: InferenceType) -> int:
    """What a saved model takes on the disk: all weights, or the adapter alone, in float32.

    Args:
        shape: The policy.
        adapter: The adapter, where there is one.
        dtype: Of the saved weights.
    """
    return adapter_parameters(shape, adapter) * 4 if adapter else shape.parameters * bytes_of(dtype)


def progress_bytes(shape: Shape, settings: AlignSettings) -> int:
    """What a training in progress keeps on the disk to go on from: what is trained, and the optimiser's numbers.

    Args:
        shape: The policy.
        settings: The alignment.
    """
    adapter = settings.adapter
    trained = adapter_parameters(shape, adapter) if adapter else shape.parameters
    own = 4 if adapter else BYTES[settings.training_dtype]
    return trained * own + _optimiser(settings, trained, own)


def answering_memory(
    shape: Shape,
    dtype: InferenceType,
    lengths: Lengths,
    *,
    rows: int,
    answer_tokens: int,
    place: Place = Place(),
) -> Memory:
    """What scoring and answering a batch needs: weights, keys and values 2·layers·width a token, logits in float32.

    Args:
        shape: The model.
        dtype: Of its weights; ``auto`` is taken for bfloat16.
        lengths: Of the prompts.
        rows: Prompts in a forward pass.
        answer_tokens: Longest answer.
        place: Where it is computed.
    """
    size = bytes_of(dtype)
    prompt = lengths.variant or lengths.prompt
    written = _writing(shape, size, rows=rows, prompt=prompt, answer=answer_tokens, scored=OPENING_TOKENS)
    # The head computes in float32, with weights of its own.
    head = 4 * shape.vocabulary * shape.hidden if size < 4 else 0
    return Memory({"weights": shape.parameters * size + head, **written, "libraries": place.libraries})


def _writing(shape: Shape, size: int, *, rows: int, prompt: int, answer: int, scored: int) -> dict[str, int]:
    """What reading prompts and writing answers takes beside weights; logits are held for ``scored`` tokens a row."""
    return {
        KEPT: 2 * shape.layers * shape.key_value * size * rows * (prompt + answer),
        # One layer at a time, and nothing is kept for a backward pass.
        "activations": rows * prompt * size * (4 * shape.hidden + 3 * shape.intermediate),
        # Logits, the same in float32, and their log-probabilities.
        "logits": rows * scored * shape.vocabulary * (size + 4 + 4),
    }


def translating_memory(
    shape: Shape, precision: str, *, batch_tokens: int, beams: int, place: Place = Place()
) -> Memory:
    """What a batch of translations needs: weights, keys and values of encoder and decoder, logits of every beam.

    Args:
        shape: An encoder-decoder.
        precision: As in ``translator.precision``; ``auto`` is float16 on a GPU, else float32.
        batch_tokens: Tokens of a batch, over all its rows.
        beams: Width of the beam.
        place: Where it is computed.
    """
    size = BYTES[("float16" if place.gpu else "float32") if precision == "auto" else precision]
    state = max(size, 2)
    cached = 2 * 2 * shape.layers * shape.hidden * state * batch_tokens * beams
    rows = max(1, batch_tokens // SENTENCE)
    return Memory(
        {
            "weights": shape.parameters * size,
            KEPT: cached,
            "logits": 3 * rows * beams * shape.vocabulary * 4,
            "libraries": place.libraries,
        }
    )


SENTENCE = 24
"""Tokens of an ordinary sentence, which says how many of them a batch has."""


def _weights(shape: Shape, settings: AlignSettings) -> int:
    size, adapter = BYTES[settings.training_dtype], settings.adapter
    if adapter is None or adapter.kind == "lora":
        return shape.parameters * size
    return ceil((shape.parameters - shape.embedding) * FOUR_BITS) + shape.embedding * size


def _optimiser(settings: AlignSettings, trained: int, size: int) -> int:
    if settings.optim == "adafactor":
        # A row and a column for each matrix.
        return trained * size // 256
    return trained * 2 * (1 if settings.optim.endswith("8bit") else size)


def _frozen(shape: Shape, settings: AlignSettings, teacher: Shape | None, size: int) -> int:
    """Copies that a loss compares with; without its adapter a policy is one itself."""
    copied = 0
    compares = settings.carrier == "dpo" or (settings.english_loss.samples and settings.grpo.beta > 0)
    if compares and settings.adapter is None:
        copied += shape.parameters * size
    if teacher is not None:
        copied += teacher.parameters * 4
    if settings.answer.weight > 0 and settings.answer.teacher == "start":
        copied += shape.parameters * size
    return copied


def _activations(shape: Shape, settings: AlignSettings, tokens: int, layers: int, place: Place, longest: int) -> int:
    size = BYTES[settings.training_dtype]
    layer = tokens * layer_activations(shape, settings)
    if place.eager:
        layer += 2 * tokens * longest * shape.heads * size
    if not settings.gradient_checkpointing:
        return layers * layer
    return layers * tokens * shape.hidden * size + layer


def _texts(shape: Shape, settings: AlignSettings, rows: int, lengths: Lengths, place: Place) -> int:
    """Activations of prompts and answers."""
    if not shape.encoder_layers:
        longest = lengths.prompt + lengths.answer
        return _activations(shape, settings, rows * longest, shape.layers, place, longest)
    asked, said = rows * lengths.prompt, rows * lengths.answer
    size = 2 if settings.autocast == "bfloat16" else BYTES[settings.training_dtype]
    queries = shape.heads * shape.head
    # A decoder's layer attends to the prompt too: a norm, queries and what it gives, and the prompt's keys and values.
    across = said * ((4 + 2 * size) * shape.hidden + 3 * size * queries) + asked * 2 * size * queries
    # Dropout keeps what it multiplied the output of each part by.
    dropped = size * shape.hidden * (2 * asked * shape.encoder_layers + 3 * said * shape.layers)
    if not (place.gpu or place.eager):
        # With dropout, attention keeps its scores on a CPU.
        scores = asked * lengths.prompt * shape.encoder_layers + said * (lengths.answer + lengths.prompt) * shape.layers
        dropped += 2 * size * shape.heads * scores
    if "wo" in shape.linears:
        # T5 drops inside the MLP too.
        dropped += size * shape.intermediate * (asked * shape.encoder_layers + said * shape.layers)
    if settings.gradient_checkpointing:
        across, dropped = across // shape.layers, dropped // (shape.layers + shape.encoder_layers)
    return (
        _activations(shape, settings, asked, shape.encoder_layers, place, lengths.prompt)
        + _activations(shape, settings, said, shape.layers, place, lengths.answer)
        + across * shape.layers
        + dropped
    )


def _heap(shape: Shape, settings: AlignSettings, rows: int, lengths: Lengths, languages: int, place: Place) -> int:
    plain = settings.model_copy(update={"gradient_checkpointing": False})
    kept = _texts(shape, plain, rows, lengths, place)
    kept += _terms(shape, plain, lengths, languages, place)
    return ceil((HEAP_OF_ADAPTER if settings.adapter else HEAP_OF_ALL) * kept)


def _logits(shape: Shape, settings: AlignSettings, rows: int, lengths: Lengths, place: Place) -> int:
    copies = HEAD_COPIES.get(settings.carrier)
    if shape.encoder_layers:
        # The decoder says something about the tokens of the answers alone, all of them.
        return rows * lengths.answer * shape.vocabulary * 4 * (copies or 4)
    if copies:
        return rows * (lengths.prompt + lengths.answer) * shape.vocabulary * 4 * copies
    if settings.carrier in TILED:
        return _tile(shape, settings, rows, lengths, place)
    if place.gpu or settings.carrier != "sft":
        return TILE
    # On a CPU the head runs at the tokens of the answers: logits, log-probabilities, and two of their size to watch.
    return rows * lengths.answer * shape.vocabulary * 4 * 4


def _tile(shape: Shape, settings: AlignSettings, rows: int, lengths: Lengths, place: Place) -> int:
    columns = min(shape.vocabulary, TILE_COLUMNS)
    if place.gpu:
        return min(rows * lengths.answer, TILE_TOKENS) * columns * BYTES[settings.training_dtype]
    # Without Triton the prompts' tokens are scored too.
    return ceil(TILE_COPIES * 4 * min(rows * (lengths.prompt + lengths.answer), TILE_TOKENS) * columns)


def _terms(shape: Shape, settings: AlignSettings, lengths: Lengths, languages: int, place: Place) -> int:
    active = settings.terms.active
    if not active or not languages:
        return 0
    prompts = ceil(min(settings.terms.prompts_per_step or _step(settings), _step(settings)) / settings.processes)
    variant = min(lengths.variant, settings.terms.max_tokens)
    rows = prompts * (languages + 1)
    if active.keys() == {"consistency"}:
        return _activations(shape, settings, rows * variant, _depth(shape, settings), place, variant)
    said = OPENING_TOKENS + (settings.answer.tokens if "answer" in active else 0)
    head = rows * said * shape.vocabulary * 4 * 4
    if shape.encoder_layers:
        return head + _texts(shape, settings, rows, Lengths(variant, said), place)
    return head + _activations(shape, settings, rows * (variant + said), shape.layers, place, variant)


def _answers(settings: AlignSettings) -> int:
    """Answers to a prompt that are read at once."""
    if settings.english_loss.samples:
        return settings.grpo.num_generations
    return 2 if settings.english_loss.needs_rejected else 1


def _step(settings: AlignSettings) -> int:
    return settings.batch_size * settings.accumulation


def _depth(shape: Shape, settings: AlignSettings) -> int:
    """Layers up to the states of the consistency term."""
    layer = settings.consistency.layer
    layers = shape.encoder_layers or shape.layers
    depth = round(layer * layers) if isinstance(layer, float) else layer
    return depth if depth >= 0 else layers + 1 + depth
