"""English training beside a term on the decision: translations are refused as much as their English prompt."""

from mlc.methods.controls import controls_of, names_of
from mlc.methods.english_only import ENGLISH_ONLY
from mlc.methods.method import Method, Need
from mlc.training.settings import AlignSettings, Control

_READS = ("align", "align.decision")
_NEEDS: frozenset[Need] = frozenset({"english answers", "translated prompts"})


def _alignment(align: AlignSettings, control: Control | None = None) -> AlignSettings:
    return align.with_terms("decision", control=control)


SHUFFLED, SHUFFLED_WITHIN_CLASS, PERMUTED_LABELS = controls_of("decision", "Decision", _NEEDS, _READS, _alignment)

DECISION = Method(
    name="decision",
    label="Decision",
    about="training on the English answers, and a term that pulls refusal margins of translations to the English one",
    needs=_NEEDS,
    baseline=ENGLISH_ONLY.name,
    controls=names_of((SHUFFLED, SHUFFLED_WITHIN_CLASS, PERMUTED_LABELS)),
    alignment=_alignment,
    reads=_READS,
)
