"""Self-distillation (SDRRL) of the English-only model: its own English answers, translated and code-switched."""

from mlc.methods.controls import controls_of, names_of
from mlc.methods.english_only import ENGLISH_ONLY
from mlc.methods.method import Method, Need
from mlc.training.settings import AlignSettings, Control

SWITCHED = 0.5
"""Share of code-switched prompts where the configuration names none."""
_READS = ("align", "align.translated")
_NEEDS: frozenset[Need] = frozenset({"english answers", "translated prompts", "translated answers"})


def _alignment(align: AlignSettings, control: Control | None = None) -> AlignSettings:
    own = align.with_translated(control).model_copy(update={"carrier": "sft", "teacher": None, "warm_start": False})
    changed = {"switched": own.translated.switched or SWITCHED}
    return own.model_copy(update={"translated": own.translated.model_copy(update=changed)})


SHUFFLED, SHUFFLED_WITHIN_CLASS, PERMUTED_LABELS = controls_of(
    "sdrrl", "SDRRL", _NEEDS, _READS, _alignment, start=ENGLISH_ONLY.name, own_answers=True
)

SDRRL = Method(
    name="sdrrl",
    label="SDRRL",
    about="the English-only model, trained on its own answers, translated, to translated and code-switched prompts",
    needs=_NEEDS,
    start=ENGLISH_ONLY.name,
    own_answers=True,
    baseline=ENGLISH_ONLY.name,
    controls=names_of((SHUFFLED, SHUFFLED_WITHIN_CLASS, PERMUTED_LABELS)),
    alignment=_alignment,
    reads=_READS,
)
