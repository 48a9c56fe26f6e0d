"""Odds-ratio preference optimisation, and the term."""

from trl.experimental.orpo import ORPOTrainer

from mlc.training.mixin import ConsistencyMixin


class ConsistencyORPOTrainer(ConsistencyMixin, ORPOTrainer):  # type: ignore[misc]
    """Odds-ratio preference optimisation (Hong et al., arXiv 2403.07691) in English, and the term."""
