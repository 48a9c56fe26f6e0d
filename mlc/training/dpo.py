"""Direct preference optimisation, and the term."""

from trl import DPOTrainer

from mlc.training.mixin import ConsistencyMixin


class ConsistencyDPOTrainer(ConsistencyMixin, DPOTrainer):  # type: ignore[misc]
    """Direct preference optimisation (Rafailov et al., arXiv 2305.18290) in English, and the term.

    Give ``ref_model``: without one, ``DPOTrainer`` loads the reference anew from the name of the policy.
    """
