"""English training beside the terms on states and on decisions, from one pass over the translations."""

from mlc.methods.controls import controls_of, names_of
from mlc.methods.english_only import ENGLISH_ONLY
from mlc.methods.method import Method, Need
from mlc.training.settings import AlignSettings, Control

_READS = ("align", "align.consistency", "align.decision")
_NEEDS: frozenset[Need] = frozenset({"english answers", "translated prompts"})


def _alignment(align: AlignSettings, control: Control | None = None) -> AlignSettings:
    return align.with_terms("consistency", "decision", control=control)


SHUFFLED, SHUFFLED_WITHIN_CLASS, PERMUTED_LABELS = controls_of(
    "consistency+decision", "Consistency and decision", _NEEDS, _READS, _alignment
)

CONSISTENCY_DECISION = Method(
    name="consistency+decision",
    label="Consistency and decision",
    about="training on the English answers, and the terms of consistency and of decision together",
    needs=_NEEDS,
    baseline=ENGLISH_ONLY.name,
    controls=names_of((SHUFFLED, SHUFFLED_WITHIN_CLASS, PERMUTED_LABELS)),
    alignment=_alignment,
    reads=_READS,
)
