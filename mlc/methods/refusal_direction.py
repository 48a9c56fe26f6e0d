"""The training-free baseline: the direction of refusal, found in English, added for every language."""

from mlc.methods.controls import PERMUTED, with_permuted_labels
from mlc.methods.english_only import ENGLISH_ONLY
from mlc.methods.method import BASE, Method, Need

_NEEDS: frozenset[Need] = frozenset({"class labels"})

REFUSAL_DIRECTION = Method(
    name="refusal-direction",
    label="Refusal direction",
    about="the English-only model with its own direction of refusal in its weights, read from English prompts alone",
    needs=_NEEDS | ENGLISH_ONLY.needs,
    recipe="steer",
    start=ENGLISH_ONLY.name,
    baseline=ENGLISH_ONLY.name,
    controls=(f"refusal-direction{PERMUTED}",),
    reads=(*ENGLISH_ONLY.reads, "direction"),
)
REFUSAL_DIRECTION_PERMUTED = with_permuted_labels(REFUSAL_DIRECTION)

POLICY_DIRECTION = Method(
    name="policy-refusal-direction",
    label="Refusal direction of the policy",
    about="the policy itself with its direction of refusal in its weights; for one that is safe in English already",
    needs=_NEEDS,
    recipe="steer",
    start=BASE,
    baseline=BASE,
    controls=(f"policy-refusal-direction{PERMUTED}",),
    reads=("direction",),
)
POLICY_DIRECTION_PERMUTED = with_permuted_labels(POLICY_DIRECTION)
