"""The consistency term with weights for languages: by their risk, and by how much of them there is."""

from collections.abc import Callable
from typing import Literal

from mlc.methods.consistency import CONSISTENCY
from mlc.methods.controls import names_of
from mlc.methods.english_only import ENGLISH_ONLY
from mlc.methods.method import Method
from mlc.training.settings import AlignSettings

_READS = (*CONSISTENCY.reads, "align.balance")


def _weighing(by: Literal["temperature", "risk"]) -> Callable[[AlignSettings], AlignSettings]:
    def alignment(align: AlignSettings) -> AlignSettings:
        own = CONSISTENCY.alignment(align)
        return own.model_copy(update={"balance": own.balance.model_copy(update={"weigh": by}), "warm_start": False})

    return alignment


CONSISTENCY_BY_RISK = Method(
    name="consistency-by-risk",
    label="Consistency, by risk",
    about="consistency with languages weighted by their attack success, estimated anew during training",
    needs=CONSISTENCY.needs | {"class labels"},
    baseline=ENGLISH_ONLY.name,
    controls=(CONSISTENCY.name, *names_of(())),
    alignment=_weighing("risk"),
    reads=_READS,
)

CONSISTENCY_BY_TEMPERATURE = Method(
    name="consistency-by-temperature",
    label="Consistency, by temperature",
    about="consistency with languages weighted by how many of their translations there are",
    needs=CONSISTENCY.needs,
    baseline=ENGLISH_ONLY.name,
    controls=(CONSISTENCY.name, *names_of(())),
    alignment=_weighing("temperature"),
    reads=_READS,
)
