"""A gate on prompts before a model that was made by another method (Aziz et al., arXiv 2606.01196)."""

from mlc.methods.consistency import CONSISTENCY
from mlc.methods.controls import names_of
from mlc.methods.english_only import ENGLISH_ONLY
from mlc.methods.method import BASE, Method

SUFFIX = "+gate"


def gated(method: Method) -> Method:
    """The method that puts a gate before the models of another one.

    Args:
        method: One that starts with a trained or edited model.
    """
    plain = method.name == ENGLISH_ONLY.name
    return Method(
        name="gate" if plain else f"{method.name}{SUFFIX}",
        label="Gate" if plain else f"{method.label}, gate",
        about=f"the {method.name} model behind a gate: a linear classifier on its states refuses prompts",
        needs=method.needs | {"class labels", "translated prompts"},
        recipe="gate",
        start=method.name,
        baseline=ENGLISH_ONLY.name,
        controls=names_of((PERMUTED_LABELS,)) if plain else (),
        reads=(*method.reads, "serve"),
    )


PERMUTED_LABELS = Method(
    name="gate-permuted-labels",
    label="Gate, permuted labels",
    about="gate with labels that are dealt anew, so that the class says nothing",
    needs=ENGLISH_ONLY.needs | {"class labels", "translated prompts"},
    recipe="gate",
    permuted=True,
    start=ENGLISH_ONLY.name,
    baseline=ENGLISH_ONLY.name,
    reads=(*ENGLISH_ONLY.reads, "serve"),
)
GATE = gated(ENGLISH_ONLY)
POLICY_GATE = Method(
    name="policy-gate",
    label="Policy, gate",
    about="the policy itself behind a gate, without any training; its answers stay what they are",
    needs=frozenset({"class labels", "translated prompts"}),
    recipe="gate",
    start=BASE,
    baseline=BASE,
    reads=("serve",),
)
CONSISTENCY_GATE = gated(CONSISTENCY)
