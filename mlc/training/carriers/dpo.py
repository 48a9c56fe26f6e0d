"""Direct preference optimisation: the chosen answers before the rejected ones."""

import copy
from typing import Any

from mlc.training.carriers.carrier import Carrier, Training


def _trainer(training: Training) -> Any:
    from trl import DPOConfig

    from mlc.training.dpo import ConsistencyDPOTrainer

    # Left to itself, TRL would load the reference anew from where the policy came from. Beside an adapter it is the
    # policy without the adapter.
    reference = None if training.adapter else copy.deepcopy(training.policy.model)
    weight = training.settings.nll_weight
    # Named only where it is wanted, so that nothing changes elsewhere.
    beside = {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, weight]} if weight else {}
    arguments = training.arguments(DPOConfig, beta=training.settings.strength, **beside)
    return ConsistencyDPOTrainer(args=arguments, ref_model=reference, **training.given())


DPO = Carrier(trainer=_trainer, needs_rejected=True, warm_start=False, beta=0.1)
