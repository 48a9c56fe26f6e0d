"""Light feedback: a few answers that people called good or bad, beyond a model that another method made."""

from mlc.methods.consistency import CONSISTENCY
from mlc.methods.controls import names_of
from mlc.methods.english_only import ENGLISH_ONLY
from mlc.methods.method import Method, Need
from mlc.training.settings import AlignSettings

_READS = ("align", "align.feedback")
_NEEDS: frozenset[Need] = frozenset({"english answers", "feedback"})

PERMUTED = Method(
    name="feedback-permuted",
    label="Feedback, permuted",
    about="feedback whose verdicts are dealt anew, so that they say nothing of their answers",
    needs=_NEEDS,
    start=ENGLISH_ONLY.name,
    permuted=True,
    baseline=ENGLISH_ONLY.name,
    alignment=AlignSettings.with_feedback,
    reads=_READS,
)

FEEDBACK = Method(
    name="feedback",
    label="Feedback",
    about="the English-only model, trained on single answers that people called good or bad, in any languages",
    needs=_NEEDS,
    start=ENGLISH_ONLY.name,
    baseline=ENGLISH_ONLY.name,
    controls=names_of((PERMUTED,)),
    alignment=AlignSettings.with_feedback,
    reads=_READS,
)

CONSISTENCY_FEEDBACK = Method(
    name="consistency+feedback",
    label="Consistency, feedback",
    about="the consistency model, trained on single answers that people called good or bad, in any languages",
    needs=_NEEDS | CONSISTENCY.needs,
    start=CONSISTENCY.name,
    baseline=ENGLISH_ONLY.name,
    controls=(CONSISTENCY.name, *names_of(())),
    alignment=AlignSettings.with_feedback,
    reads=(*CONSISTENCY.reads, "align.feedback"),
)
