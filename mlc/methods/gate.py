"""A gate on prompts before a model that was made by another method (Aziz et al., arXiv 2606.01196)."""

from mlc.methods.consistency import CONSISTENCY
from mlc.methods.controls import ENGLISH_MORE_STEPS, PERMUTED, with_permuted_labels
from mlc.methods.english_only import ENGLISH_ONLY
from mlc.methods.method import BASE, Method

SUFFIX = "+gate"


def gated(method: Method) -> Method:
    """The method that puts a gate before the models of another one.

    Args:
        method: One that starts with a trained or edited model.
    """
    plain = method.name == ENGLISH_ONLY.name
    name = "gate" if plain else f"{method.name}{SUFFIX}"
    return Method(
        name=name,
        label=f"{method.label} behind a prompt gate",
        about=f"the {method.name} model behind a gate: a linear classifier on its states refuses prompts",
        needs=method.needs | {"class labels", "translated prompts"},
        recipe="gate",
        start=method.name,
        baseline=ENGLISH_ONLY.name,
        controls=(f"{name}{PERMUTED}", ENGLISH_MORE_STEPS.name),
        reads=(*method.reads, "serve"),
    )


GATE = gated(ENGLISH_ONLY)
GATE_PERMUTED = with_permuted_labels(GATE)
POLICY_GATE = Method(
    name="policy-gate",
    label="Policy behind a prompt gate",
    about="the policy itself behind a gate, without any training; its answers stay what they are",
    needs=frozenset({"class labels", "translated prompts"}),
    recipe="gate",
    start=BASE,
    baseline=BASE,
    controls=(f"policy-gate{PERMUTED}",),
    reads=("serve",),
)
TRANSLATE_TEST = Method(
    name="translate-test",
    label="Policy behind a gate on translations",
    about="the policy itself behind a gate that reads prompts in English translation, without any training",
    needs=frozenset({"class labels"}),
    recipe="gate",
    start=BASE,
    baseline=BASE,
    controls=(f"translate-test{PERMUTED}",),
    reads=("serve", "translator"),
    reads_translations=True,
)
TRANSLATE_TEST_PERMUTED = with_permuted_labels(TRANSLATE_TEST)
POLICY_GATE_PERMUTED = with_permuted_labels(POLICY_GATE)
CONSISTENCY_GATE = gated(CONSISTENCY)
CONSISTENCY_GATE_PERMUTED = with_permuted_labels(CONSISTENCY_GATE)
