"""Refusals in each language, and the policy's own answers beside them: no answer is translated, none is in English."""

from mlc.methods.controls import controls_of, names_of
from mlc.methods.english_only import ENGLISH_ONLY
from mlc.methods.method import Method, Need
from mlc.training.settings import AlignSettings, Control

_READS = ("align", "align.translated", "serve")
_NEEDS: frozenset[Need] = frozenset({"english answers", "class labels", "translated prompts"})


def _alignment(align: AlignSettings, control: Control | None = None) -> AlignSettings:
    return align.with_translated(control).model_copy(update={"carrier": "sft", "teacher": None, "warm_start": False})


SHUFFLED, SHUFFLED_WITHIN_CLASS, PERMUTED_LABELS = controls_of(
    "localized-refusals", "Localized refusals", _NEEDS, _READS, _alignment, localized=True
)

LOCALIZED_REFUSALS = Method(
    name="localized-refusals",
    label="Localized refusals",
    about="ordinary training on English and translated prompts alike, harmful translations with a refusal in their "
    "language, harmless ones with what the policy itself answers",
    needs=_NEEDS,
    localized=True,
    baseline=ENGLISH_ONLY.name,
    controls=names_of((SHUFFLED, SHUFFLED_WITHIN_CLASS, PERMUTED_LABELS)),
    alignment=_alignment,
    reads=_READS,
)
