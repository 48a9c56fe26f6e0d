"""Alignment: the terms over translations for any training loop, and in the trainers of TRL.

What needs torch or TRL is loaded when it is asked for, because they take seconds to import.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from mlc.training.settings import AlignSettings, AnswerConfig, ConsistencyConfig, DecisionConfig, Terms

if TYPE_CHECKING:
    from mlc.training.cpo import ConsistencyCPOTrainer
    from mlc.training.dpo import ConsistencyDPOTrainer
    from mlc.training.grpo import ConsistencyGRPOTrainer
    from mlc.training.kl import ConsistencyKLTrainer, ConsistencySeq2SeqKLTrainer
    from mlc.training.mixin import ConsistencyMixin
    from mlc.training.orpo import ConsistencyORPOTrainer
    from mlc.training.seq2seq import ConsistencySeq2SeqTrainer
    from mlc.training.sft import ConsistencyLeanSFTTrainer, ConsistencySFTTrainer, LeanSFTTrainer
    from mlc.training.term import ConsistencyTerm, TermOutput
    from mlc.training.terms import TermsOutput, TranslationTerms
    from mlc.training.variants import VariantBatch, Variants, batch_variants, encode_variants

# TRL warns at every import that SimPO and ORPO may change there; their version is pinned for that reason.
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

_VARIANTS = ("VariantBatch", "Variants", "batch_variants", "encode_variants")
_LAZY = {
    "ConsistencyMixin": "mlc.training.mixin",
    "LeanSFTTrainer": "mlc.training.sft",
    "ConsistencyTerm": "mlc.training.term",
    "TermOutput": "mlc.training.term",
    "TermsOutput": "mlc.training.terms",
    "TranslationTerms": "mlc.training.terms",
    "ConsistencyCPOTrainer": "mlc.training.cpo",
    "ConsistencyDPOTrainer": "mlc.training.dpo",
    "ConsistencyGRPOTrainer": "mlc.training.grpo",
    "ConsistencyKLTrainer": "mlc.training.kl",
    "ConsistencyLeanSFTTrainer": "mlc.training.sft",
    "ConsistencyORPOTrainer": "mlc.training.orpo",
    "ConsistencySFTTrainer": "mlc.training.sft",
    "ConsistencySeq2SeqKLTrainer": "mlc.training.kl",
    "ConsistencySeq2SeqTrainer": "mlc.training.seq2seq",
    **dict.fromkeys(_VARIANTS, "mlc.training.variants"),
}

__all__ = [
    "AlignSettings",
    "AnswerConfig",
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
    "DecisionConfig",
    "LeanSFTTrainer",
    "TermOutput",
    "Terms",
    "TermsOutput",
    "TranslationTerms",
    "VariantBatch",
    "Variants",
    "batch_variants",
    "encode_variants",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
