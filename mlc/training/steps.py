"""Which prompts stand in which step, where each step is to hold harmful and harmless ones in given shares."""

import random
from collections.abc import Iterator, Sequence


def balanced_steps(
    harmful: Sequence[bool],
    lookalike: Sequence[bool],
    *,
    steps: int,
    prompts: int,
    harmless_share: float,
    lookalike_share: float,
    seed: int,
) -> list[int]:
    """Deals prompts to steps.

    Each class is dealt out in an order of its own, and again in another one when all of it was dealt, so that no prompt
    comes back before all others of its class were there.

    Args:
        harmful: For each prompt, whether it is.
        lookalike: Whether it is harmless and only looks harmful.
        steps: Optimiser steps.
        prompts: Prompts of a step, at least 2.
        harmless_share: In (0, 1); each step has at least one harmless and one harmful prompt.
        lookalike_share: Of the harmless ones, those that only look harmful, in [0, 1]; over the steps where a step is
            too small for it. Other harmless prompts stand in for a class that is empty.
        seed: Of all orders.

    Returns:
        Indices of prompts, those of the first step first.

    Raises:
        ValueError: No prompt is harmful, or none is harmless.
    """
    classes = {
        "harmful": [place for place, is_harmful in enumerate(harmful) if is_harmful],
        "lookalike": [place for place, only_looks in enumerate(lookalike) if only_looks and not harmful[place]],
        "plain": [place for place, looks in enumerate(lookalike) if not looks and not harmful[place]],
    }
    if not classes["harmful"]:
        raise ValueError("answers are rewarded for refusing harmful prompts, and no prompt has the label harmful.")
    if not classes["lookalike"] and not classes["plain"]:
        raise ValueError(
            "no prompt has the label harmless, and a policy that is rewarded for refusals alone learns to refuse "
            "everything."
        )
    if not classes["lookalike"] or not classes["plain"]:
        lookalike_share = float(not classes["plain"])
    decks = {name: _deck(places, random.Random(f"{seed} {name}")) for name, places in classes.items()}
    shuffle = random.Random(f"{seed} steps").shuffle
    harmless = min(max(1, round(harmless_share * prompts)), prompts - 1)
    dealt: list[int] = []
    for step in range(steps):
        looking = int((step + 1) * harmless * lookalike_share) - int(step * harmless * lookalike_share)
        counts = {"harmful": prompts - harmless, "lookalike": looking, "plain": harmless - looking}
        chosen = [next(decks[name]) for name, count in counts.items() for _ in range(count)]
        shuffle(chosen)
        dealt += chosen
    return dealt


def _deck(places: Sequence[int], chance: random.Random) -> Iterator[int]:
    while places:
        order = list(places)
        chance.shuffle(order)
        yield from order
