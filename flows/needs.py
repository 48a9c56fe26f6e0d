"""What a configuration needs of a machine, and which settings would make it fit: told before anything is spent."""

import importlib.util
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

from flows.configuration.pipeline import PipelineConfig
from mlc.errors import UserError
from mlc.gating.prompt_translation import BATCH as TRANSLATED_TOGETHER
from mlc.machine import Machine
from mlc.methods import BASE, Method, in_order
from mlc.models.sizes import Shape, known_shape, read_shape
from mlc.models.sources import resolve_model
from mlc.models.together import ANSWERED_TOGETHER, READ_TOGETHER
from mlc.settings import Settings
from mlc.training.memory import (
    BYTES,
    GIB,
    SENTENCE,
    Lengths,
    Memory,
    Place,
    adapter_parameters,
    answering_memory,
    checkpoint_bytes,
    progress_bytes,
    training_memory,
    translating_memory,
)

RAM, GPU = "memory", "GPU memory"
_TEXT_COLUMNS = 6
"""So often a text stands in the artifacts of its language: translations, signals, verdicts, and the training set."""
_MOST_CHANGES = 5
_FEWEST_PROMPTS = _FEWEST_ANSWERS = 2
_NAMED = 2
"""So many ways to make it fit are named."""


@dataclass(frozen=True)
class Models:
    """The shapes of the models of a configuration; None where nothing tells."""

    policy: Shape | None
    translator: Shape | None = None
    teacher: Shape | None = None


@dataclass(frozen=True)
class Need:
    """What one kind of work takes."""

    stage: str
    """Of the pipeline, as a plan names it."""
    subject: str
    """The method, where there is one."""
    memory: Memory
    where: str
    """:data:`RAM` or :data:`GPU`."""

    @property
    def label(self) -> str:
        """Name for people."""
        return " · ".join(text for text in (self.stage, self.subject) if text)


@dataclass(frozen=True)
class Prompts:
    """What is known of the texts of a run."""

    lengths: Lengths
    """In tokens."""
    rows: int = 0
    """Training prompts; 0 where they are not known."""
    bytes_a_row: int = 0


@dataclass(frozen=True)
class Needs:
    """What a configuration needs."""

    models: Models
    stages: tuple[Need, ...]
    """Each stage by itself: they take turns."""
    disk: Mapping[str, int]
    """Bytes in the workspace, when everything is made."""
    machine: Machine
    ways: tuple[Mapping[str, Any], ...] = ()
    """Settings that would make it fit, where it does not."""
    adapter: int = 0
    """Weights of the adapter."""

    def room(self, where: str) -> int | None:
        """Bytes that this machine has; None where that is not known."""
        if where == GPU:
            return min((gpu.memory for gpu in self.machine.gpus), default=None)
        return self.machine.memory

    @property
    def too_large(self) -> tuple[Need, ...]:
        """Stages that cannot fit."""
        return tuple(need for need in self.stages if not self._fits(need))

    @property
    def disk_total(self) -> int:
        """Bytes."""
        return sum(self.disk.values())

    @property
    def fits(self) -> bool:
        """Whether everything fits."""
        return not self.too_large and self.disk_total <= self.machine.disk

    def worst(self, where: str) -> Need | None:
        """The stage that needs most of a kind of memory."""
        return max(
            (need for need in self.stages if need.where == where), key=lambda need: need.memory.total, default=None
        )

    def _fits(self, need: Need) -> bool:
        room = self.room(need.where)
        return room is None or need.memory.total <= room


def models_of(config: PipelineConfig, *, offline: bool = False) -> Models:
    """The shapes of the models that a configuration names.

    Args:
        config: The configuration.
        offline: Ask no hub.
    """
    policy, translator = config.policy, config.translator
    found = _shape(policy.model, policy.revision, policy.allow_pickle, offline)
    computes = translator.engine in ("transformers", "ctranslate2")
    return Models(
        found,
        _shape(translator.model, translator.revision, translator.allow_pickle, offline) if computes else None,
        _shape(config.align.teacher, None, policy.allow_pickle, offline) if config.align.teacher else None,
    )


@cache
def _shape(location: str, revision: str | None, allow_pickle: bool, offline: bool) -> Shape | None:
    if known := known_shape(location):
        return known
    if offline and not location.startswith(("shipped:", "package:")) and not Path(location).expanduser().exists():
        return None
    try:
        return read_shape(resolve_model(location, revision=revision, allow_pickle=allow_pickle))
    except UserError:
        return None


def needs_of(config: PipelineConfig, models: Models, prompts: Prompts, machine: Machine) -> Needs:
    """What a configuration needs, beside what a machine has.

    Args:
        config: The configuration.
        models: Shapes of its models.
        prompts: Its texts.
        machine: The machine.
    """
    stages = tuple(_stages(config, models, prompts.lengths, machine))
    adapter = config.align.adapter
    disk = dict(_disk(config, models, prompts)) if models.policy else {}
    own = adapter_parameters(models.policy, adapter) if models.policy and adapter else 0
    needs = Needs(models, stages, disk, machine, adapter=own)
    return replace(needs, ways=tuple(_ways(config, needs, prompts.lengths))) if needs.too_large else needs


def limits_of(config: PipelineConfig) -> Prompts:
    """Texts as long as the settings allow, where nothing is known of them."""
    align = config.align
    return Prompts(Lengths(align.max_prompt_tokens, align.max_answer_tokens))


def require_fit(needs: Needs, stages: Collection[str]) -> None:
    """Refuses a run that cannot fit.

    Args:
        needs: Of its configuration.
        stages: Those that would work; what is there already needs nothing.

    Raises:
        UserError: One of them needs more than this machine has.
    """
    if sentence := refusal(needs, stages):
        raise UserError(sentence)


def refusal(needs: Needs, stages: Collection[str] | None = None) -> str:
    """Why a run cannot fit and what would make it fit, in one sentence; empty where it fits.

    Args:
        needs: Of its configuration.
        stages: Those that would work; None = all.
    """
    wrong = [need for need in needs.too_large if stages is None or need.stage in stages]
    if not wrong:
        return ""
    need = max(wrong, key=lambda one: one.memory.total)
    room = needs.room(need.where) or 0
    ways = ", or ".join(_in_words(way) for way in needs.ways)
    remedy = f"set {ways}" if ways else "no setting makes it fit: take a smaller policy, or a machine with more"
    return (
        f"The stage {need.label} needs {_gib(need.memory.total)} of {need.where}, and there are {_gib(room)}: "
        f"{remedy} "
        "(align.memory: ignore runs it all the same)."
    )


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"


def _in_words(way: Mapping[str, Any]) -> str:
    return " and ".join(
        f"{key}: {str(value).lower() if isinstance(value, bool) else value}" for key, value in way.items()
    )


def _place(config: PipelineConfig, machine: Machine, device: str) -> Place:
    gpu = device.startswith("cuda") or (device == "auto" and bool(machine.gpus))
    return Place(gpu=gpu, eager=config.policy.attention == "eager")


def _stages(config: PipelineConfig, models: Models, lengths: Lengths, machine: Machine) -> Iterator[Need]:
    place = _place(config, machine, config.policy.device)
    where = GPU if place.gpu else RAM
    translator = config.translator
    if models.translator is not None:
        there = _place(config, machine, translator.device)
        precision = translator.precision
        if precision == "auto" and translator.engine == "ctranslate2" and not there.gpu:
            precision = "int8"
        memory = translating_memory(
            models.translator, precision, batch_tokens=translator.batch_tokens, beams=translator.num_beams, place=there
        )
        yield Need("translate", "", memory, GPU if there.gpu else RAM)
    if models.policy is None:
        return
    for method in _trained(config):
        memory = training_memory(
            models.policy,
            method.alignment(config.align),
            lengths,
            languages=len(config.languages) if method.translates else 0,
            teacher=models.teacher,
            place=place,
        )
        yield Need("align", method.name, memory, where)
    evaluation = config.evaluation
    translating = [method for method in in_order(config.models) if config.reads_translations(method)]
    if translating and models.translator is not None:
        yield Need("gated", translating[0].name, _reading_translations(config, models, lengths, place), where)
    answered = [("generate", "", evaluation.batch_size, evaluation.answer_tokens)]
    answered += [
        (stage, method.name, ANSWERED_TOGETHER, config.align.max_answer_tokens)
        for method in _trained(config)
        if (stage := _answers_in(method))
    ]
    for stage, subject, rows, tokens in answered:
        memory = answering_memory(
            models.policy, config.policy.dtype, lengths, rows=rows, answer_tokens=tokens, place=place
        )
        yield Need(stage, subject, memory, where)
    yield from _on_the_host(config, models.policy, place)


def _reading_translations(config: PipelineConfig, models: Models, lengths: Lengths, place: Place) -> Memory:
    """What a gate that reads translations takes: the policy and the translator together."""
    assert models.policy is not None
    assert models.translator is not None
    reading = answering_memory(
        models.policy, config.policy.dtype, lengths, rows=READ_TOGETHER, answer_tokens=0, place=place
    )
    translating = translating_memory(
        models.translator, "auto", batch_tokens=TRANSLATED_TOGETHER * SENTENCE, beams=1, place=place
    )
    parts = {f"translator's {name}": size for name, size in translating.parts.items() if name != "libraries"}
    return Memory({**reading.parts, **parts})


def _answers_in(method: Method) -> str | None:
    """The stage in which a model answers what the method trains on; None where none does."""
    if method.own_pairs:
        return "own_pairs"
    if method.localized:
        return "localized"
    return "own_answers" if method.own_answers else None


def _on_the_host(config: PipelineConfig, policy: Shape, place: Place) -> Iterator[Need]:
    """What goes through the memory of the machine: models on their way to a GPU, adapters on theirs into weights."""
    libraries = {"libraries": Place().libraries}

    def through(stage: str, bytes_a_weight: int) -> Need:
        return Need(stage, "", Memory({"weights": policy.parameters * bytes_a_weight} | libraries), RAM)

    if place.gpu:
        # Each process reads the whole model before it keeps its shard, or its copy, on its GPU.
        yield through("align", BYTES[config.align.training_dtype] * config.align.processes)
    if config.align.adapter and _trained(config):
        # Merged in float32, and only then rounded.
        yield through("generate", 4)
        if config.registry.weights == "merged":
            yield through("register", 4 + BYTES[config.align.saved_dtype])


def _trained(config: PipelineConfig) -> list[Method]:
    return [method for method in in_order(config.models) if method.recipe == "train"]


def _disk(config: PipelineConfig, models: Models, prompts: Prompts) -> Iterator[tuple[str, int]]:
    """What lies in the workspace in the end, and the largest training in progress."""
    shape, align = models.policy, config.align
    assert shape is not None
    methods, seeds = in_order(config.models), len(config.seeds)
    trained = sum(method.recipe == "train" for method in methods) * seeds
    saved = checkpoint_bytes(shape, align.adapter, align.saved_dtype)
    yield "trained models", trained * saved
    written = {"edit": config.edit.saved_dtype, "steer": config.direction.saved_dtype}
    edited = [
        (seeds if method.start != BASE else 1) * checkpoint_bytes(shape, None, written[method.recipe])
        for method in methods
        if method.recipe in written
    ]
    yield "edited models", sum(edited)
    gates = [method for method in methods if method.recipe == "gate"]
    yield "models behind a gate", _behind_gates(config, models, gates)
    yield "a training in progress", progress_bytes(shape, align) if trained else 0
    kept = align.adapter if config.registry.weights == "adapter" else None
    registered = checkpoint_bytes(shape, kept, align.saved_dtype)
    candidate = next((method for method in gates if method.name == config.roles.candidate), None)
    if candidate:
        registered = _policy_of_a_gate(config, models, candidate, registered)
        registered += _translator_of_a_gate(config, models, candidate)
    yield "registered model", registered
    rows = prompts.rows * prompts.bytes_a_row
    yield "prompts and translations", rows * (1 + _TEXT_COLUMNS * len(config.paired_languages))


def _behind_gates(config: PipelineConfig, models: Models, gates: Sequence[Method]) -> int:
    """What gates add: the untouched policy and a translator once for all, and once more while a second gate is made.

    The artifact of a trained model behind a gate holds second names of that model's files.
    """
    added = [
        (_policy_of_a_gate(config, models, method, trained=0), _translator_of_a_gate(config, models, method))
        for method in gates
        for _ in range(1 if method.start == BASE else len(config.seeds))
    ]
    if not added:
        return 0
    kept = max(policy for policy, _ in added) + max(translator for _, translator in added)
    copied = [policy + translator for policy, translator in added if policy or translator]
    return kept + (max(copied) if len(copied) > 1 else 0)


def _policy_of_a_gate(config: PipelineConfig, models: Models, method: Method, trained: int) -> int:
    """Bytes of the model behind a gate: the policy as it is loaded, or a trained one as it is kept."""
    assert models.policy is not None
    return checkpoint_bytes(models.policy, None, config.policy.dtype) if method.start == BASE else trained


def _translator_of_a_gate(config: PipelineConfig, models: Models, method: Method) -> int:
    """Bytes of what translates for a gate."""
    translator = models.translator if config.reads_translations(method) else None
    return checkpoint_bytes(translator, None, "float32") if translator else 0


Change = Callable[[PipelineConfig], Iterator[dict[str, Any]]]
"""Values by dotted key that would make a configuration smaller, the largest first."""


def _adapter(config: PipelineConfig) -> Iterator[dict[str, Any]]:
    if config.align.adapter is None:
        yield {"align.adapter": "lora"}


def _checkpointing(config: PipelineConfig) -> Iterator[dict[str, Any]]:
    if not config.align.gradient_checkpointing:
        yield {"align.gradient_checkpointing": True}


def _batch(config: PipelineConfig) -> Iterator[dict[str, Any]]:
    size, accumulation = config.align.batch_size, config.align.accumulation
    while size > 1 and size % 2 == 0:
        size, accumulation = size // 2, accumulation * 2
        yield {"align.batch_size": size, "align.accumulation": accumulation}


def _variants(config: PipelineConfig) -> Iterator[dict[str, Any]]:
    """Translations of fewer prompts; of two at least, or there is nothing to centre about."""
    align = config.align
    size = align.consistency.prompts_per_step or align.batch_size * align.accumulation
    while size > _FEWEST_PROMPTS:
        size = max(_FEWEST_PROMPTS, size // 2)
        yield {"align.consistency.prompts_per_step": size}


def _sampled(config: PipelineConfig) -> Iterator[dict[str, Any]]:
    """Fewer answers to a prompt; of two at least, or there is nothing to compare."""
    count = config.align.grpo.num_generations
    while config.align.english_loss.samples and count > _FEWEST_ANSWERS:
        count = max(_FEWEST_ANSWERS, count // 2)
        yield {"align.grpo.num_generations": count}


def _registered(config: PipelineConfig) -> Iterator[dict[str, Any]]:
    if config.registry.weights == "merged":
        yield {"registry.weights": "adapter"}


def _training_dtype(config: PipelineConfig) -> Iterator[dict[str, Any]]:
    if config.align.training_dtype != "bfloat16":
        yield {"align.training_dtype": "bfloat16"}


def _optimiser(config: PipelineConfig) -> Iterator[dict[str, Any]]:
    if config.align.optim.startswith("adamw") and not config.align.optim.endswith("8bit"):
        yield {"align.optim": "adafactor"}
        if importlib.util.find_spec("bitsandbytes") is not None:
            yield {"align.optim": "adamw_8bit"}


def _dtype(config: PipelineConfig) -> Iterator[dict[str, Any]]:
    if config.policy.dtype == "float32":
        yield {"policy.dtype": "bfloat16"}


def _evaluated(config: PipelineConfig) -> Iterator[dict[str, Any]]:
    size = config.evaluation.batch_size
    while size > 1:
        size = size // 2
        yield {"evaluation.batch_size": size}


def _translated(config: PipelineConfig) -> Iterator[dict[str, Any]]:
    size = config.translator.batch_tokens
    while size > 512:
        size = size // 2
        yield {"translator.batch_tokens": size}


CHANGES: tuple[tuple[str, Change], ...] = (
    ("align", _adapter),
    ("align", _checkpointing),
    ("align", _batch),
    ("align", _variants),
    ("align", _sampled),
    ("align", _training_dtype),
    ("align", _optimiser),
    ("generate", _dtype),
    ("own_answers", _dtype),
    ("localized", _dtype),
    ("own_pairs", _dtype),
    ("generate", _evaluated),
    ("translate", _translated),
    ("register", _registered),
)
"""What may be changed, by the stage that gets smaller by it; what changes the result least comes not first, but what
people do first."""


def _ways(config: PipelineConfig, needs: Needs, lengths: Lengths) -> list[dict[str, Any]]:
    """The first combinations of changes that make everything fit, the smallest first."""
    stages = {need.stage for need in needs.too_large}
    useful = [change for stage, change in CHANGES if stage in stages]
    found: list[tuple[set[Change], dict[str, Any]]] = []
    for count in range(1, min(_MOST_CHANGES, len(useful)) + 1):
        for chosen in combinations(useful, count):
            if any(earlier <= set(chosen) for earlier, _ in found):
                continue
            way = _first_that_fits(config, needs, lengths, chosen)
            if way is not None:
                found.append((set(chosen), way))
                if len(found) == _NAMED:
                    return [each for _, each in found]
    return [each for _, each in found]


def _first_that_fits(
    config: PipelineConfig, needs: Needs, lengths: Lengths, changes: Sequence[Change]
) -> dict[str, Any] | None:
    first, *rest = changes
    for values in first(config):
        try:
            changed = _with(config, values)
        except ValueError:
            # Settings of which each is allowed, and not together, such as a step too small for its processes.
            continue
        if rest:
            more = _first_that_fits(changed, needs, lengths, rest)
            if more is not None:
                return {**values, **more}
            continue
        stages = tuple(_stages(changed, needs.models, lengths, needs.machine))
        if not replace(needs, stages=stages).too_large:
            return values
    return None


def _with(config: PipelineConfig, values: Mapping[str, Any]) -> PipelineConfig:
    for key, value in values.items():
        section, _, name = key.partition(".")
        config = config.model_copy(update={section: _changed(getattr(config, section), name, value)})
    return config


def _changed(part: Settings, key: str, value: Any) -> Settings:
    name, _, rest = key.partition(".")
    if rest:
        return part.model_copy(update={name: _changed(getattr(part, name), rest, value)})
    # Checked again, so that a word becomes what it stands for.
    return type(part).model_validate({**part.model_dump(), name: value})
