"""Training on pairs of an English prompt and a translation: what the methods share that read both at once.

N pairs in a batch.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import Trainer

from mlc.left_out import LeftOut
from mlc.models.continuations import answer_tokens
from mlc.models.modes import asked_only
from mlc.models.prompts import EncodedPrompt, PromptBatch, encode_prompt, pad_prompts
from mlc.shapes.history import TURNS, Prompt, conversation
from mlc.training.adapters import with_adapter
from mlc.training.together import mean_of_all, of_all, process_count
from mlc.training.translated import ENGLISH

if TYPE_CHECKING:
    from mlc.models.loading import Policy
    from mlc.training.carriers.carrier import Training

TOKENS_SEEN = "num_tokens"


def asked(row: Mapping[str, Any]) -> Prompt:
    """The prompt of a row as a policy is asked, with what was said before it."""
    return conversation(row["prompt"], row.get(TURNS))


def prompt_ids(tokenizer: Any, prompt: Prompt) -> list[int]:
    """A prompt as tokens, through the chat template where there is one."""
    return list(encode_prompt(tokenizer, prompt).input_ids)


def answer_ids(policy: "Policy", text: str, limit: int) -> list[int]:
    """An answer as tokens, with the one that ends it where it is not cut, see :mod:`mlc.training.cut`.

    Args:
        policy: Whose tokenizer and end are meant.
        text: The answer.
        limit: Longest answer in tokens.
    """
    ids = answer_tokens(policy.tokenizer, text, chat=policy.tokenizer.chat_template is not None)
    return list(ids[:limit]) if len(ids) >= limit else [*ids, policy.stop_token]


def batch_of(sequences: Sequence[Sequence[int]], pad: int, device: Any) -> PromptBatch:
    """Prompts as a batch, padded on the left; of none of their tokens it is told whose text they are."""
    encoded = [EncodedPrompt(tuple(ids), (False,) * len(ids)) for ids in sequences]
    return pad_prompts(encoded, pad).to(device)


def english_rows(rows: Sequence[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], list[int]]:
    """The English rows of pairs, each once, and which of them belongs to each pair."""
    found: dict[int, int] = {}
    own = []
    english: list[Mapping[str, Any]] = []
    for row in rows:
        place = found.setdefault(id(row[ENGLISH]), len(english))
        if place == len(english):
            english.append(row[ENGLISH])
        own.append(place)
    return english, own


class PairTrainer(Trainer, ABC):  # type: ignore[misc]
    """A trainer whose rows are pairs of an English prompt and a translation, as lists of tokens.

    Batches of a step count alike, whatever their length, and so do the processes that train together. There is no
    dropout, as in the trainers of TRL that hold a model against its start: the two would differ from the first step on.
    The number of tokens that the model and what it is held against have read is logged as ``num_tokens``.

    Args:
        **kwargs: Of ``Trainer`` of transformers; ``train_dataset`` holds columns of tokens.

    Raises:
        ValueError: There is a data set to measure on, or no tokenizer.
    """

    def __init__(self, **kwargs: Any) -> None:
        if kwargs.get("eval_dataset") is not None:
            raise ValueError(
                f"{type(self).__name__} measures no data set beside the training: leave eval_dataset out, and evaluate "
                "the model itself."
            )
        if kwargs.get("processing_class") is None:
            raise ValueError(f"{type(self).__name__} needs the policy's tokenizer: give it as processing_class.")
        super().__init__(data_collator=_as_they_are, **kwargs)
        turn_dropout_off(self.model)
        # Losses are means over pairs, not sums over tokens.
        self.model_accepts_loss_kwargs = False
        self.left_out: list[LeftOut] = []
        self._seen = 0
        self._figures: list[dict[str, float]] = []

    @classmethod
    def of(cls, training: "Training", dataset: Any, **kwargs: Any) -> Any:
        """The trainer of a training.

        Args:
            training: What is trained, and how.
            dataset: Columns of tokens.
            **kwargs: Its own.
        """
        from transformers import TrainingArguments

        model = training.policy.model
        if training.adapter:
            model = with_adapter(model, training.adapter, training.options["seed"])
            if training.settings.gradient_checkpointing:
                model.enable_input_require_grads()
        # Prompts and answers were measured before.
        options = {name: value for name, value in training.options.items() if name != "max_length"}
        arguments = replace(training, options=options).arguments(TrainingArguments, remove_unused_columns=False)
        tokenizer = training.policy.tokenizer
        return cls(model=model, args=arguments, train_dataset=dataset, processing_class=tokenizer, **kwargs)

    @abstractmethod
    def loss_of(self, model: Any, pairs: Sequence[Mapping[str, Any]]) -> tuple[Tensor, dict[str, float]]:
        """Loss of a batch, and what to watch beside it: always the same figures, NaN where the batch has none.

        Args:
            model: What is trained, without wrappers for several processes.
            pairs: N rows of the dataset.
        """

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Any,
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The mean loss of the pairs."""
        with self.accelerator.autocast():
            loss, figures = self.loss_of(self.accelerator.unwrap_model(model), inputs["pairs"])
        self._figures.append(figures)
        return (loss, None) if return_outputs else loss

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """One batch; after the last one of a step the gradient is the mean over all processes."""
        loss: Tensor = super().training_step(*args, **kwargs)
        if process_count() > 1 and self.accelerator.sync_gradients and not self.is_fsdp_enabled:
            # The wrapper that would do it sees none of the passes, which go through parts of the model.
            for parameter in self.model.parameters():
                if parameter.requires_grad:
                    gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                    parameter.grad = mean_of_all(gradient)
        return loss

    def _load_from_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_checkpoint(*args, **kwargs)
        # What the start has read is in the log of the training that goes on.
        self._seen = 0

    @torch.no_grad()
    def of_the_start(self, items: Sequence[Any], compute: Callable[[Any, Sequence[Any]], Tensor]) -> Tensor:
        """What is computed of all items by the model before its first step, without a gradient, so many at a time.

        Args:
            items: N of them.
            compute: From the model and some of the items to what is computed of these, [n, …].
        """
        model, size = self.accelerator.unwrap_model(self.model), self.args.per_device_train_batch_size
        with asked_only(model), self.accelerator.autocast():
            parts = [compute(model, items[start : start + size]) for start in range(0, len(items), size)]
        return torch.cat(parts)

    def read(self, *sequences: Sequence[Sequence[int]]) -> None:
        """Counts tokens that a model has read."""
        self._seen += sum(len(ids) for rows in sequences for ids in rows)

    @property
    def pad(self) -> int:
        """Id that fills the padding; its value never reaches a result."""
        tokenizer: Any = self.processing_class
        return int(tokenizer.pad_token_id or 0)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Adds what is watched to the log: means over the batches that have a figure, and nothing where none has."""
        if "loss" in logs:
            for name in self._figures[0] if self._figures else ():
                # All processes have the same names, so that each takes part.
                there = [figures[name] for figures in self._figures if not math.isnan(figures[name])]
                mean = sum(there) / max(len(there), 1)
                means = of_all(torch.tensor([mean, float(bool(there))], device=self.args.device))
                if means[:, 1].any():
                    logs[name] = float(means[:, 0].sum() / means[:, 1].sum())
            seen = torch.tensor(float(self._seen), device=self.args.device, dtype=torch.float64)
            logs[TOKENS_SEEN] = float(of_all(seen).sum())
            self._figures.clear()
        super().log(logs, *args, **kwargs)


def turn_dropout_off(model: nn.Module) -> None:
    """Takes dropout out of a model for good: its modules of that kind, and rates that layers keep as a number."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name in [name for name, value in vars(module).items() if "dropout" in name and isinstance(value, float)]:
            setattr(module, name, 0.0)


def _as_they_are(examples: list[dict[str, Any]]) -> dict[str, Any]:
    return {"pairs": examples}


def tokens_of(pairs: Sequence[Mapping[str, Any]], column: str) -> list[list[int]]:
    """One column of tokens of some pairs."""
    return [list(pair[column]) for pair in pairs]
