"""What a carrier declares. Light to import: its trainer is imported when a training begins."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datasets import Dataset

    from mlc.models.loading import Policy
    from mlc.training.settings import AlignSettings


@dataclass(frozen=True)
class Training:
    """One training, ready but for its English loss."""

    policy: "Policy"
    """Model and tokenizer."""
    teacher: "Policy | None"
    """The frozen safe model, for a carrier that needs one."""
    dataset: "Dataset"
    """Columns as the trainers of TRL read them, or for an encoder-decoder those of transformers, and those of the term;
    empty for a carrier that reads pairs."""
    settings: "AlignSettings"
    options: Mapping[str, Any]
    """Arguments of every trainer: steps, batch size, learning rate and so on."""
    adapter: Any = None
    """A ``LoraConfig`` of PEFT that the trainer puts beside the weights; None where all weights are trained, and where
    the policy has its adapter already."""
    pairs: Sequence[Mapping[str, Any]] = ()
    """Rows of translated prompts, each with its English row, for a carrier that reads pairs."""

    def given(self) -> dict[str, Any]:
        """What every trainer with the term takes, beside its arguments."""
        return {
            "model": self.policy.model,
            "train_dataset": self.dataset,
            "processing_class": self.policy.tokenizer,
            "consistency": self.settings.consistency,
            "decision": self.settings.decision,
            "answer": self.settings.answer,
            "balance": self.settings.balance,
            **({"peft_config": self.adapter} if self.adapter else {}),
        }

    def arguments(self, kind: type[Any], **more: Any) -> Any:
        """Arguments of a trainer.

        Args:
            kind: Class of the arguments, such as ``trl.SFTConfig``.
            **more: The carrier's own.
        """
        arguments = kind(**self.options, **more)
        # Several visible GPUs would make the Trainer split each batch among copies of the model, past the term.
        arguments._n_gpu = min(arguments.n_gpu, 1)
        return arguments


@dataclass(frozen=True, kw_only=True)
class Carrier:
    """An English loss: what it needs, and its trainer."""

    trainer: Callable[[Training], Any]
    """Makes the trainer, which has :class:`mlc.training.mixin.ConsistencyMixin` before it."""
    encoder_trainer: Callable[[Training], Any] | None = None
    """The same for an encoder-decoder, see :mod:`mlc.training.carriers.encoded`; None where it has none."""
    needs_rejected: bool = False
    """Whether it compares the chosen answers with rejected ones; else it reads the chosen ones alone."""
    needs_teacher: bool = False
    """Whether it needs ``align.teacher``; else there may be none."""
    samples: bool = False
    """Whether it samples answers of its own, and has a judge reward them; it reads prompts and their labels alone."""
    reads_pairs: bool = False
    """Whether it reads each translation beside its English prompt, in place of English examples; it carries no term,
    and is what one method trains with."""
    reads_feedback: bool = False
    """For one that reads pairs: whether its rows are single answers with what people said of them instead."""
    warm_start: bool = True
    """Whether it may start from an aligned checkpoint; not where the start is its reference."""
    beta: float | None = None
    """Default of ``align.beta``; None where it has no such strength."""
