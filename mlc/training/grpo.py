"""Group relative policy optimisation, and the term."""

from trl import GRPOTrainer

from mlc.training.mixin import ConsistencyMixin


class ConsistencyGRPOTrainer(ConsistencyMixin, GRPOTrainer):  # type: ignore[misc]
    """Group relative policy optimisation (Shao et al., arXiv 2402.03300) on English prompts, and the term.

    A prompt whose answers are sampled several times enters the term once.
    """
