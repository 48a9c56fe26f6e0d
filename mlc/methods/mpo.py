"""Reward-gap optimisation (MPO, arXiv 2505.16869) of the English-only model, which is its own reference."""

from mlc.methods.controls import controls_of, names_of
from mlc.methods.english_only import ENGLISH_ONLY
from mlc.methods.method import Method, Need
from mlc.training.settings import AlignSettings, Control

_READS = ("align", "align.mpo")
_NEEDS: frozenset[Need] = frozenset({"english answers", "translated prompts", "translated answers"})


def _alignment(align: AlignSettings, control: Control | None = None) -> AlignSettings:
    return align.with_pairs("mpo", control)


SHUFFLED, SHUFFLED_WITHIN_CLASS, PERMUTED_LABELS = controls_of(
    "mpo", "MPO", _NEEDS, _READS, _alignment, start=ENGLISH_ONLY.name
)

MPO = Method(
    name="mpo",
    label="MPO",
    about="the English-only model, trained to give translated answers the reward gaps that it gave English ones",
    needs=_NEEDS,
    start=ENGLISH_ONLY.name,
    baseline=ENGLISH_ONLY.name,
    controls=names_of((SHUFFLED, SHUFFLED_WITHIN_CLASS, PERMUTED_LABELS)),
    alignment=_alignment,
    reads=_READS,
)
