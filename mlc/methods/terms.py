"""English training beside terms on translations: what such methods have in common."""

from mlc.methods.controls import controls_of, names_of
from mlc.methods.english_only import ENGLISH_ONLY
from mlc.methods.method import Method, Need
from mlc.training.settings import AlignSettings, Control, TermName

_LABELLED: frozenset[TermName] = frozenset({"answer"})
"""Terms that do something else on harmful prompts than on harmless ones."""


def beside_english(*terms: TermName, label: str, about: str) -> tuple[Method, Method, Method, Method]:
    """Training on the English answers with terms beside it, from one pass over the translations.

    Args:
        *terms: One or more; joined by ``+`` they name the method.
        label: As people read it.
        about: What the terms do, in words that follow "training on the English answers, and".

    Returns:
        The method, and its controls: shuffled, shuffled within the class, permuted labels.
    """

    def alignment(align: AlignSettings, control: Control | None = None) -> AlignSettings:
        return align.with_terms(*terms, control=control)

    name = "+".join(terms)
    needs: frozenset[Need] = frozenset({"english answers", "translated prompts"})
    if _LABELLED.intersection(terms):
        needs |= {"class labels"}
    reads = ("align", *(f"align.{term}" for term in terms))
    controls = controls_of(name, label, needs, reads, alignment)
    method = Method(
        name=name,
        label=label,
        about=f"training on the English answers, and {about}",
        needs=needs,
        baseline=ENGLISH_ONLY.name,
        controls=names_of(controls),
        alignment=alignment,
        reads=reads,
    )
    return method, *controls
