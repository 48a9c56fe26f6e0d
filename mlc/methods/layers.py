"""Layers that settings name, checked against the policy before any work is spent on a run that would end at them."""

from collections.abc import Iterator, Sequence
from typing import Literal

from mlc.choices import Layers
from mlc.errors import UserError
from mlc.methods.method import Method
from mlc.models.bounds import layer_index, resolve_layers
from mlc.training.settings import AlignSettings

Named = tuple[str, int | float | Layers]
"""A setting, and the layer or layers that it names."""


def require_layers(
    depth: int,
    methods: Sequence[Method],
    *,
    align: AlignSettings,
    evaluation: int | float,
    edit: Sequence[Layers],
    direction: int | float,
    gate: int | float | Literal["auto"],
) -> None:
    """Checks that the policy has the layers that the settings name, of those which are read at all.

    Args:
        depth: Layers of the policy, see :func:`mlc.models.bounds.depth_of`.
        methods: All that are made.
        align: The alignment as it is configured.
        evaluation: What ``evaluation.layer`` names.
        edit: What ``edit.layers``, or each value of ``edit.search.layers``.
        direction: What ``direction.layer``.
        gate: What ``serve.layer``.

    Raises:
        UserError: A layer does not exist, or is named twice.
    """
    recipes = {method.recipe for method in methods}
    named: list[Named] = [("evaluation.layer", evaluation)]
    for method in methods:
        if method.own_pairs:
            # It chooses answers by states there.
            named.append(("align.consistency.layer", align.consistency.layer))
        if method.recipe == "train":
            named += _of_training(method.alignment(align))
    if "edit" in recipes:
        named += [("edit.layers", layers) for layers in edit]
    if "steer" in recipes:
        named.append(("direction.layer", direction))
    if "gate" in recipes and gate != "auto":
        named.append(("serve.layer", gate))
    for name, value in named:
        try:
            if isinstance(value, int | float):
                layer_index(value, depth)
            else:
                resolve_layers(value, depth)
        except (ValueError, UserError) as problem:
            told = str(problem).rstrip(".")
            raise UserError(
                f"The setting {name} does not suit the policy: {told[:1].lower()}{told[1:]}. Change {name}."
            ) from None


def _of_training(align: AlignSettings) -> Iterator[Named]:
    if align.consistency.weight > 0:
        yield "align.consistency.layer", align.consistency.layer
    if align.adapter and align.adapter.layers is not None:
        yield "align.adapter.layers", align.adapter.layers
