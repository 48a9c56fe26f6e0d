"""The baseline without any term: ordinary training on translated prompts with the English answers."""

from mlc.methods.controls import controls_of, names_of
from mlc.methods.english_only import ENGLISH_ONLY
from mlc.methods.method import Method, Need
from mlc.training.settings import AlignSettings, Control

_READS = ("align", "align.translated")
_NEEDS: frozenset[Need] = frozenset({"english answers", "translated prompts"})


def _alignment(align: AlignSettings, control: Control | None = None) -> AlignSettings:
    return align.with_translated(control)


SHUFFLED, SHUFFLED_WITHIN_CLASS, PERMUTED_LABELS = controls_of(
    "translated-sft", "Translated prompts", _NEEDS, _READS, _alignment
)

TRANSLATED_SFT = Method(
    name="translated-sft",
    label="Translated prompts",
    about="ordinary training on English and translated prompts alike, with the English answers",
    needs=_NEEDS,
    baseline=ENGLISH_ONLY.name,
    controls=names_of((SHUFFLED, SHUFFLED_WITHIN_CLASS, PERMUTED_LABELS)),
    alignment=_alignment,
    reads=_READS,
)
