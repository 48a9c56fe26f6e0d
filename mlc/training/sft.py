"""Supervised fine-tuning as TRL does it, with less to compute on a CPU."""

from typing import Any

import torch
from torch import Tensor, nn
from trl import SFTTrainer

from mlc.models.packing import head_only_at, pack_rows
from mlc.models.states import known_decoder, without_wrappers
from mlc.training.mixin import ConsistencyMixin

_COLUMNS = {"input_ids", "attention_mask", "labels"}


class LeanSFTTrainer(SFTTrainer):  # type: ignore[misc]
    """``SFTTrainer`` of TRL that computes on a CPU only what the loss asks for.

    The tokens that all rows begin with are computed once a batch, nothing is computed for padding, and the head runs
    at the positions of labelled tokens; ``SFTTrainer`` runs it everywhere, and again for the gradient, where there is
    no Triton. Loss, gradients and what is logged are the same but for rounding.

    Everything is left to ``SFTTrainer`` where that would not be so, or is not for this class to decide: on a GPU, with
    other losses than the plain cross-entropy, with images, padding-free batches or parallel sequences, with dropout,
    with a compiled model, and with models that :func:`mlc.models.packing.can_pack` refuses.
    """

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The mean cross-entropy of the labelled tokens."""
        body = None if return_outputs or not self._is_plain(inputs) else known_decoder(model)
        packed = None
        if body is not None:
            labels = inputs["labels"].clone()
            # Nothing stands before a first token that could tell its label.
            labels[:, 0] = -100
            packed = pack_rows(body, inputs["input_ids"], inputs["attention_mask"], labels != -100)
        if packed is None:
            return super().compute_loss(
                model, inputs, return_outputs=return_outputs, num_items_in_batch=num_items_in_batch
            )
        labels = packed.take(labels, -100)
        # What tells a label stands right before it in the pack too.
        telling = torch.zeros_like(labels, dtype=torch.bool)
        telling[:, :-1] = labels[:, 1:] != -100
        targets = labels[labels != -100]
        with head_only_at(without_wrappers(model), telling):
            logits = model(**packed.inputs(body)).logits
        log_probabilities = logits.float().log_softmax(dim=-1)
        told = log_probabilities.gather(-1, targets.unsqueeze(-1))
        self._watch(log_probabilities.detach(), targets, inputs["attention_mask"].sum())
        count = torch.as_tensor(len(targets) if num_items_in_batch is None else num_items_in_batch)
        loss = -told.sum() / count.clamp(min=1)
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            # Counted over all processes, whose gradients are averaged.
            loss = loss * self.accelerator.num_processes
        return loss

    def _is_plain(self, inputs: dict[str, Any]) -> bool:
        return (
            self.args.device.type == "cpu"
            and inputs.keys() == _COLUMNS
            and _is_padded_right(inputs)
            and self.args.loss_type == "nll"
            and self.compute_loss_func is None
            and self.label_smoother is None
            and not self.aux_loss_enabled
            # Its noise depends on how a batch is padded.
            and not self.args.neftune_noise_alpha
            and not self.args.torch_compile
            and self.accelerator.parallelism_config is None
        )

    @torch.no_grad()
    def _watch(self, log_probabilities: Tensor, targets: Tensor, tokens: Tensor) -> None:
        """What ``SFTTrainer`` logs beside the loss; log-probabilities are [labelled tokens, vocabulary]."""
        mode = "train" if self.model.training else "eval"
        sums = {
            "entropy": -(log_probabilities.exp() * log_probabilities).sum(),
            "mean_token_accuracy": (log_probabilities.argmax(dim=-1) == targets).sum(),
        }
        count = self._over_processes(torch.tensor(len(targets), device=targets.device))
        for name, total in sums.items():
            self._metrics[mode][name].append(self._over_processes(total) / count if count else 0.0)
        if mode == "train":
            self._total_train_tokens += self._over_processes(tokens)
        self._metrics[mode]["num_tokens"] = [self._total_train_tokens]

    def _over_processes(self, figure: Tensor) -> Any:
        return self.accelerator.gather_for_metrics(figure).sum().item()


class ConsistencySFTTrainer(ConsistencyMixin, SFTTrainer):  # type: ignore[misc]
    """Supervised fine-tuning on English answers, and the term."""


class ConsistencyLeanSFTTrainer(ConsistencyMixin, LeanSFTTrainer):
    """The same with less to compute on a CPU; what the pipeline trains with."""


def _is_padded_right(inputs: dict[str, Any]) -> bool:
    """Whether rows are as TRL's collator pads them: each from the first place on, and without labels on padding."""
    mask = inputs["attention_mask"].bool()
    lengths = mask.sum(dim=1, keepdim=True)
    ordered = torch.arange(mask.shape[1], device=mask.device) < lengths
    return bool((mask == ordered).all() and (lengths > 0).all() and (inputs["labels"][~mask] == -100).all())
