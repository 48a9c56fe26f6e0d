"""What methods need of the training prompts, checked before any work is spent on them."""

from collections.abc import Sequence

import pyarrow as pa

from mlc.errors import UserError
from mlc.left_out import LeftOut, require_few
from mlc.methods.method import Method
from mlc.prompts import LABELS
from mlc.training.settings import AlignSettings

LABELLED = "shuffled_within_class"
"""The control that needs the label of every prompt."""


def require_data(
    prompts: pa.Table, left_out: Sequence[LeftOut], methods: Sequence[Method], align: AlignSettings
) -> None:
    """Checks that the training prompts hold what methods need.

    Args:
        prompts: The training prompts, with ``label`` and ``rejected`` where the file has them.
        left_out: What reading them left out.
        methods: All that are made.
        align: The alignment as it is configured.

    Raises:
        UserError: Too many rows are set aside, or a method lacks rejected answers or labels.
    """
    require_few([count for count in left_out if count.kind == "set aside"], align.max_dropped)
    for method in methods:
        if method.recipe == "edit":
            _require_both_labels(prompts, method, align)
            continue
        alignment = method.alignment(align)
        if alignment.english_loss.needs_rejected:
            _require_rejected(prompts, alignment)
        if alignment.consistency.weight > 0 and alignment.consistency.control == LABELLED:
            _require_labels(prompts, method)


def _values(prompts: pa.Table, column: str) -> list[str | None]:
    if column not in prompts.column_names:
        return [None] * len(prompts)
    values: list[str | None] = prompts[column].to_pylist()
    return values


def _require_rejected(prompts: pa.Table, align: AlignSettings) -> None:
    lacking = sum(not text for text in _values(prompts, "rejected"))
    if lacking == len(prompts):
        raise UserError(
            f"The carrier {align.carrier} compares answers, and none of the {len(prompts)} training prompts has a "
            "rejected one: add the column rejected, or take a carrier that reads the chosen answers alone, such as sft."
        )
    require_few([LeftOut("no rejected", lacking, len(prompts))], align.max_dropped)


def _require_labels(prompts: pa.Table, method: Method) -> None:
    lacking = _values(prompts, "label").count(None)
    if lacking:
        raise UserError(
            f"The control {LABELLED!r} of the method {method.name!r} needs a label for every training prompt, and "
            f"{lacking} of {len(prompts)} have none: add the column label (harmful or harmless), or use the control "
            "'shuffled'."
        )


def _require_both_labels(prompts: pa.Table, method: Method, align: AlignSettings) -> None:
    labels = _values(prompts, "label")
    for label in LABELS:
        if label not in labels:
            raise UserError(
                f"The method {method.name!r} edits by harmful and harmless prompts, and none of the {len(prompts)} "
                f"training prompts has the label {label}: add the column label, or prompts with that label."
            )
    require_few([LeftOut("no label", labels.count(None), len(prompts))], align.max_dropped)
