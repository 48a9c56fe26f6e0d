"""English training beside a term on the answer: after a translation it begins as after the English prompt."""

from mlc.methods.controls import controls_of, names_of
from mlc.methods.english_only import ENGLISH_ONLY
from mlc.methods.method import Method, Need
from mlc.training.settings import AlignSettings, Control

_READS = ("align", "align.answer")
_NEEDS: frozenset[Need] = frozenset({"english answers", "translated prompts", "class labels"})


def _alignment(align: AlignSettings, control: Control | None = None) -> AlignSettings:
    return align.with_terms("answer", control=control)


SHUFFLED, SHUFFLED_WITHIN_CLASS, PERMUTED_LABELS = controls_of("answer", "Answer", _NEEDS, _READS, _alignment)

ANSWER = Method(
    name="answer",
    label="Answer",
    about="training on the English answers, and a term that makes answers to translations begin as in English",
    needs=_NEEDS,
    baseline=ENGLISH_ONLY.name,
    controls=names_of((SHUFFLED, SHUFFLED_WITHIN_CLASS, PERMUTED_LABELS)),
    alignment=_alignment,
    reads=_READS,
)
