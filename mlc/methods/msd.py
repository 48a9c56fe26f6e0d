"""Self-distillation (MSD, arXiv 2605.02971) of the English-only model, whose start sees the English prompt too."""

from mlc.methods.controls import controls_of, names_of
from mlc.methods.english_only import ENGLISH_ONLY
from mlc.methods.method import Method, Need
from mlc.training.settings import AlignSettings, Control

_READS = ("align", "align.msd")
_NEEDS: frozenset[Need] = frozenset({"english answers", "translated prompts"})


def _alignment(align: AlignSettings, control: Control | None = None) -> AlignSettings:
    return align.with_pairs("msd", control)


SHUFFLED, SHUFFLED_WITHIN_CLASS, PERMUTED_LABELS = controls_of(
    "msd", "MSD", _NEEDS, _READS, _alignment, start=ENGLISH_ONLY.name
)

MSD = Method(
    name="msd",
    label="MSD",
    about="the English-only model, trained to answer a translation as it does when it sees the English prompt too",
    needs=_NEEDS,
    start=ENGLISH_ONLY.name,
    baseline=ENGLISH_ONLY.name,
    controls=names_of((SHUFFLED, SHUFFLED_WITHIN_CLASS, PERMUTED_LABELS)),
    alignment=_alignment,
    reads=_READS,
)
