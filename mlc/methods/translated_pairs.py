"""The upper bound that methods without answers are measured against: translated prompts with translated answers."""

from mlc.methods.controls import controls_of, names_of
from mlc.methods.english_only import ENGLISH_ONLY
from mlc.methods.method import Method, Need
from mlc.training.settings import AlignSettings, Control

_READS = ("align", "align.translated")
_NEEDS: frozenset[Need] = frozenset({"english answers", "translated prompts", "translated answers"})


def _alignment(align: AlignSettings, control: Control | None = None) -> AlignSettings:
    # Which answers translated examples have is decided by the training set.
    return align.with_translated(control)


SHUFFLED, SHUFFLED_WITHIN_CLASS, PERMUTED_LABELS = controls_of(
    "translated-pairs", "Translated pairs", _NEEDS, _READS, _alignment
)

TRANSLATED_PAIRS = Method(
    name="translated-pairs",
    label="Translated pairs",
    about="ordinary training on English and translated prompts alike, with the answers translated too",
    needs=_NEEDS,
    baseline=ENGLISH_ONLY.name,
    controls=names_of((SHUFFLED, SHUFFLED_WITHIN_CLASS, PERMUTED_LABELS)),
    alignment=_alignment,
    reads=_READS,
)
