"""Consistency losses on prompt representations. Needs torch and nothing else."""

from mlc.losses.centering import Centering
from mlc.losses.consistency import ConsistencyLoss, consistency_loss
from mlc.losses.head import ConsistencyHead

__all__ = ["Centering", "ConsistencyHead", "ConsistencyLoss", "consistency_loss"]
