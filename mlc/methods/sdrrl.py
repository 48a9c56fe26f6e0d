"""Self-distillation (SDRRL) of the English-only model: its own English answers, translated and code-switched."""

from mlc.methods.controls import names_of
from mlc.methods.english_only import ENGLISH_ONLY
from mlc.methods.method import Method
from mlc.training.settings import AlignSettings

SWITCHED = 0.5
"""Share of code-switched prompts where the configuration names none."""


def _alignment(align: AlignSettings) -> AlignSettings:
    own = align.with_translated().model_copy(update={"carrier": "sft", "teacher": None, "warm_start": False})
    changed = {"switched": own.translated.switched or SWITCHED}
    return own.model_copy(update={"translated": own.translated.model_copy(update=changed)})


SDRRL = Method(
    name="sdrrl",
    label="SDRRL",
    about="the English-only model, trained on its own answers, translated, to translated and code-switched prompts",
    needs=frozenset({"english answers", "translated prompts", "translated answers"}),
    start=ENGLISH_ONLY.name,
    own_answers=True,
    baseline=ENGLISH_ONLY.name,
    controls=names_of(()),
    alignment=_alignment,
    reads=("align", "align.translated"),
)
