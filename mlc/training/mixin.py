"""The terms over translations in any trainer of transformers or TRL."""

import logging
import math
from collections.abc import Iterable, Iterator, MutableMapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from torch import Tensor, nn

from mlc.left_out import LeftOut
from mlc.models.prefix import is_sharded
from mlc.training.preparation import (
    COLUMNS,
    NAMES,
    TEXTS,
    TOKENS,
    WEIGHTS,
    nothing_to_read,
    own_labels,
    prepare_variants,
    variant_counts,
    variants_of,
    with_prompts_apart,
)
from mlc.training.settings import AnswerConfig, BalanceSettings, ConsistencyConfig, DecisionConfig, Terms
from mlc.training.sharding import shard_on_cpus
from mlc.training.term import ConsistencyTerm
from mlc.training.terms import ALL_FIGURES, TranslationTerms, readable_tokens
from mlc.training.together import of_all
from mlc.training.variants import Variants, batch_variants

if TYPE_CHECKING:
    from transformers import Trainer as _Base
else:
    _Base = object

logger = logging.getLogger(__name__)

BATCH_KEY = "consistency_variants"
VARIANT_TOKENS = "variant_tokens"
"""In a training log: tokens of prompts in all languages that the terms have read so far."""
MEASURED = "language_balance"
"""In that file: weights of languages by their risk, as they were measured last."""
STATE_FILE = "consistency.safetensors"
"""Extractor and running means, beside a checkpoint."""


class VariantCollator:
    """Lets the carrier's own collator make the batch, and carries the variants along.

    Args:
        inner: The carrier's collator, which never sees the columns of the variants.
    """

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __call__(self, examples: Sequence[dict[str, Any]]) -> Any:
        """The carrier's batch; where that is a mapping, with the variants of its prompts."""
        if not examples or TOKENS not in examples[0]:
            return self.inner(examples)
        batch = self.inner([{k: v for k, v in example.items() if k not in COLUMNS} for example in examples])
        variants = _distinct(variants_of(example) for example in examples)
        # Trainers that sample answers get their rows as a list; the variants then wait in the first of them.
        target = batch if isinstance(batch, MutableMapping) else batch[0]
        target[BATCH_KEY] = variants
        return batch


class ConsistencyMixin(_Base):  # type: ignore[misc]
    r"""Adds :math:`\lambda L_{cons}` (Bu et al., arXiv 2602.16660), and terms on decisions and answers, to a loss.

    To be named before a trainer of transformers or TRL: ``class MyTrainer(ConsistencyMixin, SFTTrainer)``. The
    training set needs a column ``variants``, see :mod:`mlc.training.preparation`; ``processing_class`` must be a fast
    tokenizer. The rest is the carrier's own, and with all weights 0 the trainer *is* the carrier, to the last bit.

    The terms are computed once per optimiser step, over the prompts of all its accumulated batches, so that centring
    and contrast do not depend on how a step is cut into batches. Where one is off (``every``, ``warmup_steps``) nothing
    of it is computed. The variants never enter the carrier's own forward passes or its reference model.

    With several processes each one computes the terms on its own prompts; means for centring and the number of prompts
    are taken over all of them, contrasts are made within a process.

    Args:
        model: To be trained.
        consistency: The term on states; None = without it.
        decision: The term on the decision to refuse; None = without it.
        answer: The term on the answer; None = without it. It reads labels and English answers of the training set, see
            :mod:`mlc.training.preparation`.
        balance: How much each language counts in the terms; None = equally.
        **kwargs: Of the carrier, by name.

    Raises:
        UserError: Languages weigh by their risk, and too few prompts have a label.
        ValueError: The training set has no variants, the data is packed, or there is no tokenizer.
    """

    def __init__(
        self,
        model: Any = None,
        *,
        consistency: ConsistencyConfig | None = None,
        decision: DecisionConfig | None = None,
        answer: AnswerConfig | None = None,
        balance: BalanceSettings | None = None,
        **kwargs: Any,
    ) -> None:
        none = Terms()
        terms = Terms(
            consistency or none.consistency,
            decision or none.decision,
            answer or none.answer,
            balance or none.balance,
        )
        self.terms: TranslationTerms | None = None
        self.term: ConsistencyTerm | None = None
        self._variants: list[Variants] | None = None
        self._figures: list[tuple[float, dict[str, float]]] = []
        self._carrier_losses: list[Tensor] = []
        self._steps = 0
        self._variant_tokens = 0
        self.left_out: list[LeftOut] = []
        """Variants that count as missing, and what leaves a term nothing to read; nothing without the terms."""
        languages: tuple[str, ...] = ()
        counts: list[float] = []
        probed: tuple[Variants, ...] = ()
        chat = True
        if terms.active:
            _check_carrier(kwargs)
            seed = kwargs["args"].seed if kwargs.get("args") else 0
            longest = readable_tokens(terms, model, kwargs["processing_class"])
            prepared = prepare_variants(
                kwargs["train_dataset"], kwargs["processing_class"], terms, seed=seed, max_tokens=longest
            )
            kwargs["train_dataset"], languages, chat = prepared.dataset, prepared.languages, prepared.chat
            self.left_out = [prepared.left_out]
            counts = variant_counts(prepared)
            if terms.measures_risk:
                kwargs["train_dataset"], probed = with_prompts_apart(prepared, terms.balance.prompts, seed)
            for unread in nothing_to_read(kwargs["train_dataset"], terms):
                self.left_out.append(unread)
                logger.warning("%s.", unread.sentence)
        for split in ("train_dataset", "eval_dataset"):
            kwargs[split] = _without_texts(kwargs.get(split))
        super().__init__(model=model, **kwargs)
        if languages:
            self.terms = TranslationTerms(
                terms,
                self.accelerator.unwrap_model(self.model),
                languages,
                tokenizer=self.processing_class,
                chat=chat,
                seed=self.args.seed,
                across_processes=self._processes > 1,
            ).to(self.args.device)
            self._require_company()
            self.terms.weigh_by(counts, probed)
            self.term = self.terms.consistency
            self.data_collator: Any = VariantCollator(self.data_collator)

    def _require_company(self) -> None:
        together = self.args.train_batch_size * self.args.gradient_accumulation_steps * self._processes
        consistency = self.terms.terms.consistency if self.terms else None
        if consistency and consistency.weight > 0 and together == 1 and consistency.centres_alone_away:
            raise ValueError(
                "with one prompt in a step the mean of its states is the prompt's own, so that the consistency term "
                "has nothing to learn from: take larger batches, accumulate some, or take another center."
            )

    @property
    def _processes(self) -> int:
        return int(self.accelerator.num_processes)

    def create_accelerator_and_postprocess(self) -> None:
        """Makes the accelerator, which shares the model out as ``accelerate launch`` was told."""
        super().create_accelerator_and_postprocess()
        shard_on_cpus(self)

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        if self.terms is not None:
            self._signature_columns: list[str] = [*dict.fromkeys([*self._signature_columns, *COLUMNS])]

    def create_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """Adds the extractor's parameters to the optimiser."""
        optimizer: torch.optim.Optimizer = super().create_optimizer(*args, **kwargs)
        known = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        extra = [parameter for parameter in self._own_parameters() if id(parameter) not in known]
        if extra:
            optimizer.add_param_group({"params": extra, "weight_decay": 0.0})
        return optimizer

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Tensor | int | None]:
        """Takes the variants of a whole optimiser step out of its batches."""
        samples, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        self._steps += 1
        for parameter in self._own_parameters():
            # The Trainer clears the gradients of its model only.
            parameter.grad = None
        self._variants = _distinct(self._first_of_step([_taken_out(batch) for batch in samples]))
        return samples, items

    def _first_of_step(self, batches: Sequence[list[Variants]]) -> Iterator[Variants]:
        """The prompts of this process that are among the first ``prompts_per_step`` of all processes."""
        limit = None if self.terms is None else self.terms.terms.prompts_per_step
        if self._processes == 1 or limit is None:
            yield from (prompt for batch in batches for prompt in batch)
            return
        usable = [[prompt for prompt in batch if prompt.usable] for batch in batches]
        # Batches are dealt to the processes in turn.
        counts = of_all(torch.tensor([len(batch) for batch in usable], device=self.args.device)).T
        before = (counts.flatten().cumsum(0).view_as(counts) - counts)[:, self.accelerator.process_index]
        for batch, others in zip(usable, before.tolist(), strict=True):
            yield from batch[: max(0, limit - others)]

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """One batch of the carrier; after the last one of a step the extractor's gradient is that of all processes."""
        loss: Tensor = super().training_step(*args, **kwargs)
        if self._processes > 1 and self.accelerator.sync_gradients:
            self._share_own_gradients()
        return loss

    def _share_own_gradients(self) -> None:
        own = self._own_parameters()
        moved = any(parameter.grad is not None for parameter in own)
        # Where the term is off nobody has a gradient, and the optimiser leaves the extractor alone.
        if not own or not float(self._summed(torch.tensor(float(moved), device=self.args.device))):
            return
        for parameter in own:
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            parameter.grad = self._summed(gradient) / self._processes

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Any,
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The carrier's loss plus the terms, each times its weight."""
        variants = inputs.pop(BATCH_KEY, None) if isinstance(inputs, MutableMapping) else None
        if self._variants is not None:
            variants, self._variants = self._variants, None
        result = super().compute_loss(
            model, inputs, return_outputs=return_outputs, num_items_in_batch=num_items_in_batch
        )
        if self.terms is None or not self.model.training:
            return result
        loss = result[0] if return_outputs else result
        # Trainers that count tokens themselves sum the batches of a step, others average them.
        batches = self.current_gradient_accumulation_steps if self._averages_batches(num_items_in_batch) else 1
        self._carrier_losses.append(loss.detach() / batches)
        computed = self._computed_terms(variants) if variants is not None else None
        if computed is None:
            return result
        loss = loss + batches * computed.to(loss.dtype)
        return (loss, *result[1:]) if return_outputs else loss

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Adds what is watched to the log."""
        if self.terms is not None and "loss" in logs:
            logs.update(self._watched())
        super().log(logs, *args, **kwargs)

    def _watched(self) -> dict[str, float]:
        """Means over the processes and the optimiser steps since the last log; a term's over those with the term."""
        carrier = self._summed(sum(self._carrier_losses, torch.zeros((), device=self.args.device)))
        figures = {"alignment_loss": float(carrier) / (self._processes * max(self._steps, 1))}
        for name in ALL_FIGURES if self._figures else ():
            values = [(share, step.get(name, math.nan)) for share, step in self._figures]
            seen = [(0.0, 0.0) if math.isnan(value) else (share * value, share) for share, value in values]
            totals = self._summed(torch.tensor(seen, device=self.args.device))
            there = totals[totals[:, 1] > 0]
            if len(there):
                figures[name] = float((there[:, 0] / there[:, 1]).mean())
        read = self._summed(torch.tensor(float(self._variant_tokens), device=self.args.device, dtype=torch.float64))
        figures[VARIANT_TOKENS] = float(read)
        if self.terms is not None:
            figures |= self.terms.told_weights()
        self._steps = 0
        self._carrier_losses.clear()
        self._figures.clear()
        return figures

    def _summed(self, tensor: Tensor) -> Tensor:
        """The sum over all processes."""
        if self._processes > 1:
            torch.distributed.all_reduce(tensor)
        return tensor

    def save_consistency(self, folder: str | Path) -> None:
        """Writes the extractor and the running means, which no shipped model needs.

        Args:
            folder: Folder of a checkpoint; ``consistency.safetensors`` is written into it.
        """
        from safetensors.torch import save_file

        if state := self._own_state():
            save_file({name: tensor.contiguous() for name, tensor in state.items()}, str(Path(folder) / STATE_FILE))

    def _own_state(self) -> dict[str, Tensor]:
        state = {} if self.term is None else dict(self.term.state_dict())
        if self.terms is not None and self.terms.measured is not None:
            state[MEASURED] = self.terms.measured
        return state

    def load_consistency(self, folder: str | Path) -> None:
        """Reads what :meth:`save_consistency` wrote.

        Raises:
            FileNotFoundError: The checkpoint was written without the term.
        """
        from safetensors.torch import load_file

        if not self._own_state():
            return
        path = Path(folder) / STATE_FILE
        if not path.is_file():
            raise FileNotFoundError(
                f"The checkpoint {Path(folder).name!r} holds no {STATE_FILE}: resume from one that was trained with "
                "the consistency term."
            )
        state = load_file(str(path))
        if self.terms is not None and MEASURED in state:
            self.terms.balance(state.pop(MEASURED))
        if self.term is not None:
            self.term.load_state_dict(state)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        if self.args.should_save:
            self.save_consistency(Path(self._get_output_dir(trial=trial)) / f"checkpoint-{self.state.global_step}")

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self.load_consistency(resume_from_checkpoint)

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        extra = self._own_parameters()
        if not extra:
            return super()._clip_grad_norm(model)
        return self.accelerator.clip_grad_norm_([*model.parameters(), *extra], self.args.max_grad_norm)

    def _own_parameters(self) -> list[nn.Parameter]:
        return [] if self.term is None else list(self.term.parameters())

    def _averages_batches(self, num_items_in_batch: Tensor | int | None) -> bool:
        counted = self.model_accepts_loss_kwargs and num_items_in_batch is not None
        return not counted and self.compute_loss_func is None

    def _computed_terms(self, variants: Sequence[Variants]) -> Tensor | None:
        """The terms of an optimiser step; None where all are off, or none of its prompts has a translation."""
        assert self.terms is not None
        step = self.state.global_step
        if not self.terms.weights(step):
            return None
        with self.accelerator.autocast():
            self.terms.reweigh(self.accelerator.unwrap_model(self.model), step)
        pad = getattr(self.processing_class, "pad_token_id", None) or 0
        batch = batch_variants(variants, pad, limit=self.terms.terms.prompts_per_step)
        share, elsewhere = self._share(0 if batch is None else len(batch.mask))
        model = self.accelerator.unwrap_model(self.model)
        if batch is None:
            # Layers in shards are gathered by all processes or none.
            idle = None
            if elsewhere and is_sharded(model):
                with self.accelerator.autocast():
                    idle = self.terms.idle(model, pad, self.args.device, step)
            self.terms.take_part(step)
            self._figures.append((share, {}))
            return idle
        self._variant_tokens += int(batch.prompts.attention_mask.sum())
        # The carrier's forward is wrapped for mixed precision, the part of the model that the terms call is not.
        with self.accelerator.autocast():
            output = self.terms(model, batch.to(self.args.device), step)
        if output is None:
            self._figures.append((share, {}))
            return None
        self._figures.append((share, output.figures))
        loss: Tensor = output.loss * share
        return loss

    def _share(self, prompts: int) -> tuple[float, bool]:
        """What the mean of this process counts for, so that the mean over processes is that over all prompts.

        And whether any process has prompts.
        """
        if self._processes == 1:
            return 1.0, prompts > 0
        total = float(self._summed(torch.tensor(float(prompts), device=self.args.device)))
        return prompts * self._processes / max(total, 1.0), total > 0


def _without_texts(dataset: Any) -> Any:
    """A dataset whose variants no one is to see, such as one for evaluation."""
    if isinstance(dataset, dict):
        return {name: _without_texts(part) for name, part in dataset.items()}
    columns = getattr(dataset, "column_names", None) or []
    if TEXTS not in columns:
        return dataset
    own = [name for name in (TEXTS, WEIGHTS, NAMES) if name in columns]
    return dataset.remove_columns([*own, *own_labels(dataset)])


def _check_carrier(options: dict[str, Any]) -> None:
    if not isinstance(options.get("train_dataset"), Dataset):
        raise ValueError("train_dataset must be a Dataset of the library datasets, with a column 'variants'.")
    if options.get("processing_class") is None:
        raise ValueError("processing_class must be the policy's tokenizer: the variants are encoded with it.")
    if getattr(options.get("args"), "packing", False):
        raise ValueError("packing=True joins prompts into one row, so that variants cannot follow theirs; use False.")


def _taken_out(batch: Any) -> list[Variants]:
    rows = batch if isinstance(batch, list) else [batch]
    return [prompt for row in rows if BATCH_KEY in row for prompt in row.pop(BATCH_KEY)]


def _distinct(variants: Iterable[Variants]) -> list[Variants]:
    # Trainers that sample several answers repeat a prompt.
    return list(dict.fromkeys(variants))
