"""Losses on representations, decisions and answers of prompts in several languages. Needs torch and nothing else."""

from mlc.losses.answer import answer_loss
from mlc.losses.centering import Centering
from mlc.losses.consistency import ConsistencyLoss, collinearity, consistency_loss
from mlc.losses.decision import DecisionLoss, decision_loss
from mlc.losses.head import ConsistencyHead

__all__ = [
    "Centering",
    "ConsistencyHead",
    "ConsistencyLoss",
    "DecisionLoss",
    "answer_loss",
    "collinearity",
    "consistency_loss",
    "decision_loss",
]
