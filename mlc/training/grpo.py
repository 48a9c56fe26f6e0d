"""Group relative policy optimisation, and the term."""

from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn
from torch.utils.data import Sampler
from trl import GRPOTrainer
from trl.trainer.utils import add_fused_lm_head

from mlc.training.mixin import ConsistencyMixin
from mlc.training.sharding import prepare_frozen


class ConsistencyGRPOTrainer(ConsistencyMixin, GRPOTrainer):  # type: ignore[misc]
    """Group relative policy optimisation (Shao et al., arXiv 2402.03300) on English prompts, and the term.

    A prompt whose answers are sampled several times enters the term once.
    """


class DealtGRPOTrainer(GRPOTrainer):  # type: ignore[misc]
    """``GRPOTrainer`` that takes prompts in a given order, and its reference as ``DPOTrainer`` does.

    Args:
        *args: Of ``GRPOTrainer``.
        dealt: Rows of the training set, those of the first optimiser step first, for all steps.
        ref_model: What the divergence is measured from, frozen here; None = the model without its adapter. Left to
            itself, ``GRPOTrainer`` loads it anew from where the policy came from.
        **kwargs: Of ``GRPOTrainer``, with ``args``, whose ``shuffle_dataset`` must be off.
    """

    def __init__(self, *args: Any, dealt: Sequence[int], ref_model: nn.Module | None = None, **kwargs: Any) -> None:
        self._dealt = dealt
        arguments = kwargs["args"]
        beta, arguments.beta = arguments.beta, 0.0
        super().__init__(*args, **kwargs)
        arguments.beta = self.beta = beta
        if ref_model is not None:
            add_fused_lm_head(ref_model, temperature=self.temperature)
            self.ref_model = prepare_frozen(self, ref_model)

    def _get_train_sampler(self, dataset: Any = None) -> "Sampler[int]":
        return _Dealt(super()._get_train_sampler(self._dealt), self._dealt)


class ConsistencyDealtGRPOTrainer(ConsistencyMixin, DealtGRPOTrainer):
    """The same with the term; what the pipeline trains with. Takes ``dealt`` and ``ref_model``."""


class _Dealt(Sampler[int]):
    """The rows at the places that another sampler names.

    Args:
        places: Names places, each as often as its prompt is answered.
        rows: The row at each place.
    """

    def __init__(self, places: "Sampler[int]", rows: Sequence[int]) -> None:
        self.places, self.rows = places, rows

    def __iter__(self) -> Iterator[int]:
        return (self.rows[place] for place in self.places)

    def __len__(self) -> int:
        return len(self.places)  # type: ignore[arg-type]
