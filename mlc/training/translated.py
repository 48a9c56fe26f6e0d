"""Translated prompts as ordinary training examples, with the answers of their English prompts, or with their own."""

import random
from collections.abc import Sequence
from typing import Any

from mlc.shapes.answers import ANSWERS, answer_column
from mlc.shapes.history import TURNS, VARIANT_TURNS
from mlc.shapes.spoken import LANGUAGE
from mlc.training.preparation import permutation
from mlc.training.settings import TranslatedSettings
from mlc.training.switching import switched

ENGLISH = "english"
"""In a translated row, the row of its English prompt."""


Row = dict[str, Any]


def translated_rows(rows: Sequence[Row], settings: TranslatedSettings, *, seed: int) -> list[Row]:
    """One row for each translation of each prompt; nothing but the prompt differs from the English row.

    Where rows bring their answers in the languages of the variants (see :mod:`mlc.shapes.answers`), a translated prompt
    has the answer of its language, and one without any is left out.

    Args:
        rows: English rows with ``variants``, English first, empty where one is missing; with ``label`` for controls by
            class; with ``variant_turns`` where conversations are translated.
        settings: The control, how many prompts are code-switched, and the share; nothing is made where that is 0.
        seed: Seed of a control's permutation, and of the choice of what is code-switched.

    Returns:
        The rows, whose own variants are empty, so that no term reads them; :data:`ENGLISH` holds the English row.

    Raises:
        ValueError: No prompt has a translation.
        UserError: The control needs labels that are not there.
    """
    if not settings.share:
        return []
    givers = list(range(len(rows)))
    if settings.control != "none":
        givers = permutation([row.get("label") for row in rows], settings.control, seed)
    chance = random.Random(seed)
    made = [
        {
            **row,
            **own,
            ENGLISH: row,
            "prompt": switched(rows[giver]["prompt"], text, chance) if chance.random() < settings.switched else text,
            TURNS: turns,
            "variants": [""] * len(row["variants"]),
            LANGUAGE: language,
            VARIANT_TURNS: None,
        }
        for row, giver in zip(rows, givers, strict=True)
        for (text, turns, language), own in zip(_translations(rows[giver]), _answers(row), strict=True)
        if text and own.get("chosen", True)
    ]
    if not made:
        raise ValueError(f"none of the {len(rows)} prompts has a translation to train on.")
    return made


def _translations(row: Row) -> list[tuple[str, str | None, str | None]]:
    """The translations of a prompt, each with what was said before it and its language, where that is known."""
    texts = row["variants"]
    nothing = [None] * len(texts)
    return list(zip(texts, row.get(VARIANT_TURNS) or nothing, row.get("languages") or nothing, strict=True))[1:]


def _answers(row: Row) -> list[Row]:
    """For each translation the answers in its language; nothing where a row brings none."""
    own: list[Row] = [{} for _ in row["variants"]]
    for name in ANSWERS:
        for answers, text in zip(own, row.get(answer_column(name)) or (), strict=False):
            answers[name] = text
    return own[1:]


def mixed_rows(english: Sequence[Row], translated: Sequence[Row], share: float) -> list[Row]:
    """English and translated rows, of which about a share are translated: English ones are repeated.

    Args:
        english: English rows.
        translated: Translated ones.
        share: In (0, 1); either alone stays as it is.
    """
    if not translated or not english:
        return [*english, *translated]
    copies = max(1, round(len(translated) * (1 - share) / (share * len(english))))
    return [*english] * copies + [*translated]
