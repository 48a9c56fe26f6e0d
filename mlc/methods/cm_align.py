"""CM-Align (arXiv 2509.08541): preference for own answers that agree with the model's own English ones."""

from mlc.methods.controls import names_of
from mlc.methods.english_only import ENGLISH_ONLY
from mlc.methods.method import Method, Need
from mlc.training.settings import AlignSettings

_READS = ("align", "align.cm_align", "align.translated")
_NEEDS: frozenset[Need] = frozenset({"english answers", "translated prompts"})

CHANCE = Method(
    name="cm-align-by-chance",
    label="CM-Align, by chance",
    about="cm-align with pairs of answers that are drawn by chance",
    needs=_NEEDS,
    start=ENGLISH_ONLY.name,
    own_pairs="chance",
    baseline=ENGLISH_ONLY.name,
    alignment=AlignSettings.with_own_pairs,
    reads=_READS,
)

CM_ALIGN = Method(
    name="cm-align",
    label="CM-Align",
    about="the English-only model, trained to prefer its own answers that agree with its English ones",
    needs=_NEEDS,
    start=ENGLISH_ONLY.name,
    own_pairs="consistency",
    baseline=ENGLISH_ONLY.name,
    controls=names_of((CHANCE,)),
    alignment=AlignSettings.with_own_pairs,
    reads=_READS,
)
