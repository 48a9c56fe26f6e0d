"""Alignment: the consistency term for any training loop, and in the trainers of TRL.

What needs torch or TRL is loaded when it is asked for, because they take seconds to import.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from mlc.training.settings import AlignSettings, ConsistencyConfig

if TYPE_CHECKING:
    from mlc.training.carriers import (
        ConsistencyCPOTrainer,
        ConsistencyDPOTrainer,
        ConsistencyGRPOTrainer,
        ConsistencyKLTrainer,
        ConsistencyLeanSFTTrainer,
        ConsistencyORPOTrainer,
        ConsistencySeq2SeqKLTrainer,
        ConsistencySeq2SeqTrainer,
        ConsistencySFTTrainer,
    )
    from mlc.training.mixin import ConsistencyMixin
    from mlc.training.sft import LeanSFTTrainer
    from mlc.training.term import ConsistencyTerm, TermOutput
    from mlc.training.variants import VariantBatch, Variants, batch_variants, encode_variants

# TRL warns at every import that SimPO and ORPO may change there; their version is pinned for that reason.
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

_CARRIERS = (
    "ConsistencyCPOTrainer",
    "ConsistencyDPOTrainer",
    "ConsistencyGRPOTrainer",
    "ConsistencyKLTrainer",
    "ConsistencyLeanSFTTrainer",
    "ConsistencyORPOTrainer",
    "ConsistencySFTTrainer",
    "ConsistencySeq2SeqKLTrainer",
    "ConsistencySeq2SeqTrainer",
)
_VARIANTS = ("VariantBatch", "Variants", "batch_variants", "encode_variants")
_LAZY = {
    "ConsistencyMixin": "mlc.training.mixin",
    "LeanSFTTrainer": "mlc.training.sft",
    "ConsistencyTerm": "mlc.training.term",
    "TermOutput": "mlc.training.term",
    **dict.fromkeys(_CARRIERS, "mlc.training.carriers"),
    **dict.fromkeys(_VARIANTS, "mlc.training.variants"),
}

__all__ = [
    "AlignSettings",
    "ConsistencyCPOTrainer",
    "ConsistencyConfig",
    "ConsistencyDPOTrainer",
    "ConsistencyGRPOTrainer",
    "ConsistencyKLTrainer",
    "ConsistencyLeanSFTTrainer",
    "ConsistencyMixin",
    "ConsistencyORPOTrainer",
    "ConsistencySFTTrainer",
    "ConsistencySeq2SeqKLTrainer",
    "ConsistencySeq2SeqTrainer",
    "ConsistencyTerm",
    "LeanSFTTrainer",
    "TermOutput",
    "VariantBatch",
    "Variants",
    "batch_variants",
    "encode_variants",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
