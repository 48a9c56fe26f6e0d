"""Alignment of a policy: the English loss and the consistency term, on the Trainer of transformers."""

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from mlc.models.loading import Policy
from mlc.models.prefix import split_shared
from mlc.training.settings import AlignSettings, ConsistencySettings
from mlc.training.term import ConsistencyTerm
from mlc.training.variants import AlignmentCollator, ExampleDataset, build_examples, shuffle_variants

LOG_FILE = "training_log.jsonl"

logger = logging.getLogger(__name__)


class AlignmentTrainer(Trainer):  # type: ignore[misc]
    """Cross-entropy of the answers plus lambda times the consistency term.

    Args:
        policy: Model to train, in place.
        term: The term, or None for the English loss alone.
        weight: Lambda.
        **options: Passed to the Trainer of transformers.
    """

    def __init__(self, policy: Policy, term: ConsistencyTerm | None, weight: float, **options: Any) -> None:
        super().__init__(model=policy.model, **options)
        self.term = term.to(self.args.device) if term else None
        self.weight = weight
        # The loss below is a mean over the batch already.
        self.model_accepts_loss_kwargs = False
        self._watched: dict[str, float] = {}

    def create_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """Adds the extractor's parameters to the optimiser."""
        optimizer: torch.optim.Optimizer = super().create_optimizer(*args, **kwargs)
        extra = list(self.term.parameters()) if self.term else []
        if extra:
            optimizer.add_param_group({"params": extra})
        return optimizer

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """L_align + lambda · L_cons (Bu et al., the total loss)."""
        variants = inputs.pop("variants", None)
        loss = answer_loss(model, inputs["input_ids"], inputs["attention_mask"], inputs["labels"])
        self._watched = {"alignment_loss": float(loss.detach())}
        if self.term is not None and variants is not None:
            output = self.term(model, variants.to(loss.device))
            loss = loss + self.weight * output.loss
            self._watched |= {
                "consistency_loss": float(output.loss.detach()),
                "collinearity": output.collinearity,
                "between_prompt_cosine": output.between_prompt_cosine,
            }
        return loss

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Adds the parts of the loss to the log."""
        if "loss" in logs:
            logs.update(self._watched)
        super().log(logs, *args, **kwargs)


def answer_loss(model: nn.Module, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of the labelled tokens, B prompts of T tokens, padded on the left.

    The language-model head runs only where a label needs it.

    Args:
        model: Causal language model.
        input_ids: [B, T].
        attention_mask: [B, T].
        labels: [B, T], −100 where there is nothing to learn.
    """
    learned = labels != -100
    batch = split_shared(model, input_ids, attention_mask, learned)
    labels = labels[:, batch.length :]
    first = int((labels != -100).any(dim=0).nonzero()[0])
    kept = labels.shape[1] - first
    logits = model(**batch.inputs(model), logits_to_keep=kept + 1).logits
    return torch.nn.functional.cross_entropy(
        logits[:, :-1].float().flatten(0, 1), labels[:, first:].flatten(), ignore_index=-100
    )


class _Report(TrainerCallback):  # type: ignore[misc]
    def __init__(self, on_step: Callable[[int, dict[str, float]], None]) -> None:
        self.on_step = on_step

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        if logs and "loss" in logs:
            self.on_step(state.global_step, logs)


def align(
    policy: Policy,
    rows: Sequence[dict[str, Any]],
    settings: AlignSettings,
    *,
    seed: int,
    folder: Path,
    on_step: Callable[[int, dict[str, float]], None] | None = None,
) -> list[dict[str, float]]:
    """Aligns a policy in place.

    Args:
        policy: Model and tokenizer, weights in float32.
        rows: Training rows with ``prompt``, ``chosen``, ``label``, ``variants`` (English first) and ``mask``.
        settings: The alignment.
        seed: Seed of the order of prompts, the extractor and a control's permutation.
        folder: Folder for the Trainer's own files and the log.
        on_step: Called after each step with its number and figures.

    Returns:
        One entry per step: step, loss and its parts, learning rate, gradient norm.

    Raises:
        ValueError: No row is short enough to train on.
    """
    consistency = settings.consistency
    with_term = consistency.weight > 0
    # A copy, because the control must not change what the caller holds.
    prepared = shuffle_variants(rows, consistency.control, seed) if with_term else list(rows)
    examples = build_examples(
        prepared,
        policy.tokenizer,
        policy.stop_token,
        max_prompt_tokens=settings.max_prompt_tokens,
        max_answer_tokens=settings.max_answer_tokens,
        with_variants=with_term,
    )
    if not len(examples):
        raise ValueError(f"none of the {len(rows)} prompts has at most {settings.max_prompt_tokens} tokens.")
    if examples.left_out:
        logger.warning(
            "%d of %d prompts are longer than %d tokens and left out of training.",
            examples.left_out,
            len(rows),
            settings.max_prompt_tokens,
        )
    log: list[dict[str, float]] = []

    def record(step: int, figures: dict[str, float]) -> None:
        log.append({"step": step, **{name: value for name, value in figures.items() if name != "epoch"}})
        if on_step:
            on_step(step, figures)

    trainer = _trainer(policy, examples, settings, seed=seed, folder=folder, on_step=record, languages=_languages(rows))
    trainer.train()
    policy.model.eval()
    (folder / LOG_FILE).write_text("".join(json.dumps(entry) + "\n" for entry in log), encoding="utf-8")
    return log


def _languages(rows: Sequence[dict[str, Any]]) -> int:
    return len(rows[0]["mask"])


def _term(settings: ConsistencySettings, policy: Policy, languages: int, seed: int) -> ConsistencyTerm | None:
    if settings.weight == 0:
        return None
    torch.manual_seed(seed)
    return ConsistencyTerm(settings, policy.model.config.get_text_config().hidden_size, languages)


def _trainer(
    policy: Policy,
    examples: ExampleDataset,
    settings: AlignSettings,
    *,
    seed: int,
    folder: Path,
    on_step: Callable[[int, dict[str, float]], None],
    languages: int,
) -> AlignmentTrainer:
    term = _term(settings.consistency, policy, languages, seed)
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=settings.steps,
        per_device_train_batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        warmup_steps=round(settings.warmup_share * settings.steps),
        lr_scheduler_type="cosine",
        max_grad_norm=settings.max_gradient_norm,
        weight_decay=0.0,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",
        report_to=[],
        seed=seed,
        data_seed=seed,
        remove_unused_columns=False,
        disable_tqdm=True,
        use_cpu=policy.model.device.type == "cpu",
        bf16=settings.autocast == "bfloat16",
        dataloader_pin_memory=False,
    )
    # Several visible GPUs would make the Trainer split each batch among copies of the model, past the term.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    trainer = AlignmentTrainer(
        policy,
        term,
        settings.consistency.weight,
        args=arguments,
        train_dataset=examples,
        data_collator=AlignmentCollator(policy.pad_token, settings.consistency.prompts_per_step if term else 0),
        callbacks=[_Report(on_step)],
    )
    for noisy in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(noisy)
    return trainer
