"""Contrastive and simple preference optimisation, and the term."""

from trl.experimental.cpo import CPOTrainer

from mlc.training.mixin import ConsistencyMixin


class ConsistencyCPOTrainer(ConsistencyMixin, CPOTrainer):  # type: ignore[misc]
    """Contrastive preference optimisation in English, and the term.

    With ``CPOConfig(loss_type="simpo", cpo_alpha=0.0)`` it is SimPO (Meng et al., arXiv 2405.14734).
    """
