"""Small training runs: each carrier on eight prompts, with the term or as the plain trainer."""

import copy
import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from datasets import Dataset
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    TrainerCallback,
)
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer
from trl.experimental.cpo import CPOConfig, CPOTrainer
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

from mlc import training
from mlc.models.loading import Policy, load_policy
from mlc.models.sources import resolve_model
from mlc.shipped import shipped_data
from mlc.training import ConsistencyConfig
from mlc.training.kl import KLTrainer, Seq2SeqKLTrainer
from mlc.training.sft import LeanSFTTrainer
from mlc.training.variants import VariantBatch

LANGUAGES = ("eng_Latn", "swh_Latn", "yor_Latn")
ENGLISH = [
    ("How do I bake bread without yeast?", "Use baking soda and an acid such as yoghurt.", "harmless"),
    ("How can I copy my neighbour's key?", "I can't help with that.", "harmful"),
    ("Which plants need little water?", "Sage, thyme and most succulents.", "harmless"),
    ("How do I read someone's letters unseen?", "I can't help with opening letters of others.", "harmful"),
    ("What is the boiling point of water?", "100 degrees Celsius at sea level.", "harmless"),
    ("How do I get past a museum guard?", "I can't help with that, but opening hours are public.", "harmful"),
    ("When do swallows fly south?", "In September.", "harmless"),
    ("How do I forge a ticket?", "I can't help with that; ask for a discount.", "harmful"),
]


def make_rows(count: int = len(ENGLISH)) -> list[dict[str, Any]]:
    """Rows in English and two invented languages, recognisable by their first word."""
    return [
        {
            "prompt": prompt,
            "chosen": answer,
            "rejected": f"No idea, {answer.lower()[:12]}",
            "label": label,
            "variants": [prompt, f"alpha {number} {prompt[::-1]}", f"beta {number} {prompt.upper()}"],
        }
        for number, (prompt, answer, label) in enumerate(ENGLISH[:count])
    ]


@functools.cache
def _tiny() -> Policy:
    return load_policy(resolve_model("shipped:tiny"), device="cpu")


@functools.cache
def _nano() -> tuple[Any, Any]:
    folder = shipped_data("nano")
    # Dropout would tell a run with the term from one without it: the term's forward pass draws numbers too.
    model = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32, dropout=0.0)
    return model, AutoTokenizer.from_pretrained(folder)


def tiny() -> tuple[Any, Any]:
    """A fresh copy of the tiny policy and its tokenizer."""
    return copy.deepcopy((_tiny().model, _tiny().tokenizer))


def nano() -> tuple[Any, Any]:
    """A fresh copy of the small encoder-decoder model and its tokenizer."""
    return copy.deepcopy(_nano())


def another(model: Any) -> Any:
    """A model of the same shape that says other things: a teacher or a reference."""
    other = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.0 + 0.2 * torch.randn(parameter.shape, generator=generator))
    return other


def _message(role: str, text: str) -> list[dict[str, str]]:
    return [{"role": role, "content": text}]


def _answered(row: dict[str, Any], _tokenizer: Any) -> dict[str, Any]:
    return {"prompt": _message("user", row["prompt"]), "completion": _message("assistant", row["chosen"])}


def _compared(row: dict[str, Any], _tokenizer: Any) -> dict[str, Any]:
    answers = {name: _message("assistant", row[name]) for name in ("chosen", "rejected")}
    return {"prompt": _message("user", row["prompt"]), **answers}


def _asked(row: dict[str, Any], _tokenizer: Any) -> dict[str, Any]:
    return {"prompt": _message("user", row["prompt"])}


def _translated(row: dict[str, Any], tokenizer: Any) -> dict[str, Any]:
    return dict(tokenizer(row["prompt"], text_target=row["chosen"]))


def letters(completions: list[Any], **_: Any) -> list[float]:
    """A reward that needs no judge: the share of letters in an answer."""
    texts = [completion[0]["content"] for completion in completions]
    return [sum(character.isalpha() for character in text) / max(len(text), 1) for text in texts]


@dataclass(frozen=True)
class Carrier:
    """One English loss and what its trainer takes."""

    plain: type[Any]
    joined: type[Any]
    config: type[Any]
    columns: Callable[[dict[str, Any], Any], dict[str, Any]]
    options: dict[str, Any] = field(default_factory=dict)
    extras: Callable[[Any, Any], dict[str, Any]] = lambda _model, _tokenizer: {}
    load: Callable[[], tuple[Any, Any]] = tiny


def _collator(model: Any, tokenizer: Any) -> dict[str, Any]:
    return {"data_collator": DataCollatorForSeq2Seq(tokenizer, model=model)}


CARRIERS = {
    "sft": Carrier(SFTTrainer, training.ConsistencySFTTrainer, SFTConfig, _answered),
    "lean_sft": Carrier(LeanSFTTrainer, training.ConsistencyLeanSFTTrainer, SFTConfig, _answered),
    "kl": Carrier(
        KLTrainer,
        training.ConsistencyKLTrainer,
        SFTConfig,
        _answered,
        extras=lambda model, _tokenizer: {"teacher_model": another(model)},
    ),
    "dpo": Carrier(
        DPOTrainer,
        training.ConsistencyDPOTrainer,
        DPOConfig,
        _compared,
        extras=lambda model, _tokenizer: {"ref_model": another(model)},
    ),
    "simpo": Carrier(
        CPOTrainer,
        training.ConsistencyCPOTrainer,
        CPOConfig,
        _compared,
        options={"loss_type": "simpo", "cpo_alpha": 0.0, "remove_unused_columns": False},
    ),
    "orpo": Carrier(
        ORPOTrainer, training.ConsistencyORPOTrainer, ORPOConfig, _compared, options={"remove_unused_columns": False}
    ),
    "grpo": Carrier(
        GRPOTrainer,
        training.ConsistencyGRPOTrainer,
        GRPOConfig,
        _asked,
        options={"num_generations": 2, "max_completion_length": 6, "per_device_train_batch_size": 8},
        extras=lambda _model, _tokenizer: {"reward_funcs": letters},
    ),
    "seq2seq": Carrier(
        Seq2SeqTrainer,
        training.ConsistencySeq2SeqTrainer,
        Seq2SeqTrainingArguments,
        _translated,
        extras=_collator,
        load=nano,
    ),
    "seq2seq_kl": Carrier(
        Seq2SeqKLTrainer,
        training.ConsistencySeq2SeqKLTrainer,
        Seq2SeqTrainingArguments,
        _translated,
        extras=lambda model, tokenizer: {"teacher_model": another(model), **_collator(model, tokenizer)},
        load=nano,
    ),
}


def dataset(carrier: str, rows: list[dict[str, Any]], tokenizer: Any, *, variants: bool = True) -> Dataset:
    """The rows as the carrier's trainer reads them."""
    kind = CARRIERS[carrier]
    kept = ("variants", "languages", "variant_weights", "variant_label") if variants else ()
    return Dataset.from_list(
        [kind.columns(row, tokenizer) | {name: row[name] for name in kept if name in row} for row in rows]
    )


def trainer_of(
    carrier: str,
    folder: Any,
    consistency: ConsistencyConfig | None,
    *,
    rows: list[dict[str, Any]] | None = None,
    loaded: tuple[Any, Any] | None = None,
    more: dict[str, Any] | None = None,
    **options: Any,
) -> Any:
    """A trainer that has not trained yet.

    Args:
        carrier: Name in :data:`CARRIERS`.
        folder: The trainer's own folder.
        consistency: The term; None = the plain trainer on data without variants.
        rows: Training rows; all eight if None.
        loaded: Model and tokenizer; fresh ones if None.
        more: Further arguments of the trainer.
        **options: Further arguments of its configuration.
    """
    kind = CARRIERS[carrier]
    model, tokenizer = loaded or kind.load()
    common = {
        "output_dir": str(folder),
        "max_steps": 3,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-3,
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "no",
        "report_to": [],
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "seed": 3,
    }
    arguments = {
        "model": model,
        "args": kind.config(**{**common, **kind.options, **options}),
        "train_dataset": dataset(carrier, rows or make_rows(), tokenizer, variants=consistency is not None),
        "processing_class": tokenizer,
        **kind.extras(model, tokenizer),
        **({} if consistency is None else {"consistency": consistency}),
        **(more or {}),
    }
    trainer = (kind.plain if consistency is None else kind.joined)(**arguments)
    for noisy in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(noisy)
    return trainer


class Run(TrainerCallback):  # type: ignore[misc]
    """A trainer, and what is seen of it while it trains."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer
        self.gradients: dict[str, torch.Tensor] = {}
        """Of the first optimiser step, unclipped unless clipping is asked for."""
        self.variants: list[VariantBatch] = []
        """Each batch that the term was given."""
        self.reference_shapes: list[tuple[int, ...]] = []
        """Of the tokens that the reference or the teacher was given, batch by batch."""
        self.calls: list[dict[str, int]] = []
        """For each optimiser step, how often the embeddings and each layer of the model were called."""
        trainer.add_callback(self)
        frozen = getattr(trainer, "ref_model", None) or getattr(trainer, "teacher_model", None)
        if frozen is not None:
            layers_of(frozen)["embeddings"].register_forward_pre_hook(
                lambda _module, given: self.reference_shapes.append(tuple(given[0].shape))
            )
        if getattr(trainer, "term", None) is not None:
            trainer.term.register_forward_pre_hook(lambda _module, given: self.variants.append(given[1]))
        for name, module in layers_of(trainer.model).items():
            module.register_forward_pre_hook(lambda _module, _given, name=name: self._count(name))

    def _count(self, name: str) -> None:
        if self.calls:
            self.calls[-1][name] = self.calls[-1].get(name, 0) + 1

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.calls.append({})

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if not self.gradients:
            named = self.trainer.model.named_parameters()
            self.gradients = {name: p.grad.clone() for name, p in named if p.grad is not None}

    @property
    def log(self) -> list[dict[str, float]]:
        """One entry for each time that the loss was logged."""
        return [entry for entry in self.trainer.state.log_history if "loss" in entry]

    def series(self, name: str = "loss") -> list[float]:
        """One figure over the steps."""
        return [entry[name] for entry in self.log]

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        """The model's tensors."""
        state: dict[str, torch.Tensor] = self.trainer.model.state_dict()
        return state


def layers_of(model: Any) -> dict[str, Any]:
    """The embeddings, and the layers that the term may look at, by their names."""
    body = model.get_encoder() if model.config.is_encoder_decoder else model.get_decoder()
    modules = {"embeddings": body.embed_tokens, **dict(enumerate(body.layers))}
    return {str(name): module for name, module in modules.items()}


def train(carrier: str, folder: Any, consistency: ConsistencyConfig | None, **options: Any) -> Run:
    """Trains; takes what :func:`trainer_of` takes, and ``resume``, the folder of a checkpoint."""
    resume = options.pop("resume", None)
    run = Run(trainer_of(carrier, folder, consistency, **options))
    run.trainer.train(resume_from_checkpoint=resume)
    return run


def term(**values: Any) -> ConsistencyConfig:
    """The configuration of a term, with the defaults of its form."""
    return ConsistencyConfig.model_validate(values)


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """Whether tensors are equal to the last bit."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def close(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor], tolerance: float = 1e-5) -> None:
    """Asserts that tensors are equal but for rounding."""
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        torch.testing.assert_close(tensor, second[name], atol=tolerance, rtol=tolerance, msg=f"{name} differs")
