"""Controls: methods that share the costs of another one and lack its idea."""

from collections.abc import Callable
from dataclasses import replace

from mlc.methods.english_only import ENGLISH_ONLY
from mlc.methods.method import BASE, Method, Need
from mlc.training.settings import LABELLED_CONTROLS, AlignSettings, Control

MORE_STEPS = 2
"""How many times the steps of the English-only model; a step with a term takes about twice as long as one without."""


def _more_steps(align: AlignSettings) -> AlignSettings:
    return align.without_consistency().model_copy(update={"steps": MORE_STEPS * align.steps})


ENGLISH_MORE_STEPS = Method(
    name="english-more-steps",
    label="English-only, twice the steps",
    about=f"ordinary training on the English answers in {MORE_STEPS} times the steps: the same time spent on English",
    needs=ENGLISH_ONLY.needs,
    baseline=ENGLISH_ONLY.name,
    alignment=_more_steps,
)

_SAID = {
    "shuffled": ("shuffled", "with the translations of another prompt"),
    "shuffled_within_class": ("shuffled within class", "with the translations of another prompt of the same class"),
    "permuted_labels": ("permuted labels", "with labels that are dealt anew, so that the class says nothing"),
}


def controls_of(
    name: str,
    label: str,
    needs: frozenset[Need],
    reads: tuple[str, ...],
    alignment: Callable[[AlignSettings, Control], AlignSettings],
    start: str = BASE,
    *,
    own_answers: bool = False,
    localized: bool = False,
) -> tuple[Method, Method, Method]:
    """The controls of a method that reads translations: shuffled, shuffled within the class, permuted labels.

    Args:
        name: Of the method.
        label: Of the method.
        needs: Of the method.
        reads: Of the method.
        alignment: Its alignment with a control.
        start: Of the method.
        own_answers: Of the method.
        localized: Of the method.
    """

    def controlled(control: Control) -> Method:
        short, about = _SAID[control]
        return Method(
            name=f"{name}-{control.replace('_', '-')}",
            label=f"{label}, {short}",
            about=f"{name} {about}",
            needs=needs | {"class labels"} if control in LABELLED_CONTROLS else needs,
            start=start,
            own_answers=own_answers,
            localized=localized,
            baseline=ENGLISH_ONLY.name,
            alignment=lambda align: alignment(align, control),
            reads=reads,
        )

    return controlled("shuffled"), controlled("shuffled_within_class"), controlled("permuted_labels")


def names_of(controls: tuple[Method, ...]) -> tuple[str, ...]:
    """The names of controls, and that of more steps in English, which belongs to all methods."""
    return (*(control.name for control in controls), ENGLISH_MORE_STEPS.name)


PERMUTED = "-permuted-labels"
"""Behind the name of a method: its control with labels that say nothing."""


def with_permuted_labels(method: Method) -> Method:
    """The control of a method that trains nothing: the labels are dealt anew, all else is the same.

    Args:
        method: One of the recipes ``edit``, ``steer`` or ``gate``.
    """
    return replace(
        method,
        name=f"{method.name}{PERMUTED}",
        label=f"{method.label}, {_SAID['permuted_labels'][0]}",
        about=f"{method.name} {_SAID['permuted_labels'][1]}",
        controls=(),
        permuted=True,
    )
