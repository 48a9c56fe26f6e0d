"""English training beside the Multi-Lingual Consistency term (Bu et al., arXiv 2602.16660), and its controls."""

from mlc.methods.english_only import ENGLISH_ONLY
from mlc.methods.method import Method, Need
from mlc.training.settings import AlignSettings, Control

_READS = ("align", "align.consistency")


def _controlled(control: Control) -> Method:
    def alignment(settings: AlignSettings) -> AlignSettings:
        term = settings.consistency.model_copy(update={"control": control})
        return settings.model_copy(update={"consistency": term, "warm_start": False})

    within = control == "shuffled_within_class"
    needs: frozenset[Need] = frozenset({"english answers", "translated prompts"})
    return Method(
        name=f"consistency-{control.replace('_', '-')}",
        label="Consistency, shuffled within class" if within else "Consistency, shuffled",
        about=f"the consistency term over the translations of another prompt{' of the same class' if within else ''}",
        needs=needs | {"class labels"} if within else needs,
        baseline=ENGLISH_ONLY.name,
        alignment=alignment,
        reads=_READS,
    )


SHUFFLED = _controlled("shuffled")
SHUFFLED_WITHIN_CLASS = _controlled("shuffled_within_class")

CONSISTENCY = Method(
    name="consistency",
    label="Consistency",
    about="training on the English answers, and a term that pulls the states of a prompt and its translations together",
    needs=frozenset({"english answers", "translated prompts"}),
    baseline=ENGLISH_ONLY.name,
    controls=(SHUFFLED.name, SHUFFLED_WITHIN_CLASS.name),
    reads=_READS,
)
