"""Translated prompts as ordinary training examples, with the answers of their English prompts."""

from collections.abc import Sequence
from typing import Any

from mlc.shapes.history import TURNS, VARIANT_TURNS
from mlc.training.preparation import permutation
from mlc.training.settings import TranslatedSettings

Row = dict[str, Any]


def translated_rows(rows: Sequence[Row], settings: TranslatedSettings, *, seed: int) -> list[Row]:
    """One row for each translation of each prompt; nothing but the prompt differs from the English row.

    Args:
        rows: English rows with ``variants``, English first, empty where one is missing; with ``label`` for controls by
            class; with ``variant_turns`` where conversations are translated.
        settings: The control, and the share; nothing is made where that is 0.
        seed: Seed of a control's permutation.

    Returns:
        The rows, whose own variants are empty, so that no term reads them.

    Raises:
        ValueError: No prompt has a translation.
        UserError: The control needs labels that are not there.
    """
    if not settings.share:
        return []
    givers = list(range(len(rows)))
    if settings.control != "none":
        givers = permutation([row.get("label") for row in rows], settings.control, seed)
    made = [
        {**row, "prompt": text, TURNS: turns, "variants": [""] * len(row["variants"]), VARIANT_TURNS: None}
        for row, giver in zip(rows, givers, strict=True)
        for text, turns in _translations(rows[giver])
        if text
    ]
    if not made:
        raise ValueError(f"none of the {len(rows)} prompts has a translation to train on.")
    return made


def _translations(row: Row) -> list[tuple[str, str | None]]:
    """The translations of a prompt, each with what was said before it."""
    texts = row["variants"]
    return list(zip(texts, row.get(VARIANT_TURNS) or [None] * len(texts), strict=True))[1:]


def mixed_rows(english: Sequence[Row], translated: Sequence[Row], share: float) -> list[Row]:
    """English and translated rows, of which about a share are translated: English ones are repeated.

    Args:
        english: English rows.
        translated: Translated ones; none = the English rows as they are.
        share: In (0, 1).
    """
    if not translated:
        return list(english)
    copies = max(1, round(len(translated) * (1 - share) / (share * len(english))))
    return [*english] * copies + [*translated]
