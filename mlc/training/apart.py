"""Prompts that are set aside from training, to measure the risk of languages on."""

import random
from collections.abc import Sequence

from mlc.errors import UserError

MOST = 0.25
"""Largest share of the prompts of a class that is set aside to measure the risk on."""


def set_aside(harmful: Sequence[bool | None], prompts: int, seed: int) -> list[int]:
    """Which prompts the risk is measured on, and not trained on: half of them of each class, at most a quarter of it.

    Args:
        harmful: Label of each prompt; None where it has none.
        prompts: How many.
        seed: Of the choice.

    Raises:
        UserError: There are fewer than four labelled prompts of a class.
    """
    found: list[int] = []
    chance = random.Random(seed)
    for wanted in (True, False):
        members = [place for place, label in enumerate(harmful) if label is wanted]
        count = min(prompts // 2, int(MOST * len(members)))
        if not count:
            raise UserError(
                f"The risk of languages is measured on labelled prompts, and {len(members)} are "
                f"{'harmful' if wanted else 'harmless'}: label more, or set align.balance.weigh to equal."
            )
        found += chance.sample(members, count)
    return sorted(found)
