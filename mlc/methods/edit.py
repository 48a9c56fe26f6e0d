"""Sparse weight editing (arXiv 2602.22554) of the policy, of the English-only model, or of the consistency model."""

from mlc.methods.consistency import CONSISTENCY
from mlc.methods.controls import PERMUTED, with_permuted_labels
from mlc.methods.english_only import ENGLISH_ONLY
from mlc.methods.method import BASE, Method, Need

_NEEDS: frozenset[Need] = frozenset({"translated prompts", "class labels"})

EDIT = Method(
    name="edit",
    label="Edited",
    about="the English-only model with edited weights, one delta a language",
    needs=_NEEDS | ENGLISH_ONLY.needs,
    recipe="edit",
    start=ENGLISH_ONLY.name,
    baseline=ENGLISH_ONLY.name,
    controls=(f"edit{PERMUTED}",),
    reads=(*ENGLISH_ONLY.reads, "edit"),
)
EDIT_PERMUTED = with_permuted_labels(EDIT)

POLICY_EDIT = Method(
    name="policy-edit",
    label="Edited policy",
    about="the policy itself with edited weights, without any training; for one that is safe in English already",
    needs=_NEEDS,
    recipe="edit",
    start=BASE,
    baseline=BASE,
    controls=(f"policy-edit{PERMUTED}",),
    reads=("edit",),
)
POLICY_EDIT_PERMUTED = with_permuted_labels(POLICY_EDIT)

CONSISTENCY_EDIT = Method(
    name="consistency+edit",
    label="Consistency, edited",
    about="the consistency model with edited weights, one delta a language",
    needs=_NEEDS | CONSISTENCY.needs,
    recipe="edit",
    start=CONSISTENCY.name,
    baseline=ENGLISH_ONLY.name,
    controls=(f"consistency+edit{PERMUTED}",),
    reads=(*CONSISTENCY.reads, "edit"),
)
CONSISTENCY_EDIT_PERMUTED = with_permuted_labels(CONSISTENCY_EDIT)
