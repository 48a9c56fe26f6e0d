"""Labels that are dealt anew: what a model is made from then says nothing of the class, which makes it a control."""

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")
NO_SEED = 0
"""Of models that have none, as the policy: the same every time, too."""


def dealt_anew(labels: Sequence[T], seed: int | None) -> list[T]:
    """The same labels in another order, by the seed of the model that is made from them.

    Of few labels an order may be the old one, and the control then the method itself: such an order does not count.
    Labels that are all the same have no other.
    """
    dealt, generator = list(labels), random.Random(NO_SEED if seed is None else seed)
    generator.shuffle(dealt)
    while dealt == list(labels) and len(set(labels)) > 1:
        generator.shuffle(dealt)
    return dealt
