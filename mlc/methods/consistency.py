"""English training beside the Multi-Lingual Consistency term (Bu et al., arXiv 2602.16660), and its controls."""

from mlc.methods.controls import controls_of, names_of
from mlc.methods.english_only import ENGLISH_ONLY
from mlc.methods.method import Method, Need
from mlc.training.settings import AlignSettings, Control

_READS = ("align", "align.consistency")
_NEEDS: frozenset[Need] = frozenset({"english answers", "translated prompts"})


def _alignment(align: AlignSettings, control: Control | None = None) -> AlignSettings:
    return align.with_terms("consistency", control=control)


SHUFFLED, SHUFFLED_WITHIN_CLASS, PERMUTED_LABELS = controls_of("consistency", "Consistency", _NEEDS, _READS, _alignment)

CONSISTENCY = Method(
    name="consistency",
    label="Consistency",
    about="training on the English answers, and a term that pulls the states of a prompt and its translations together",
    needs=_NEEDS,
    baseline=ENGLISH_ONLY.name,
    controls=names_of((SHUFFLED, SHUFFLED_WITHIN_CLASS, PERMUTED_LABELS)),
    alignment=_alignment,
    reads=_READS,
)
