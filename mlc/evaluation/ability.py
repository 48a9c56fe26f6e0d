"""How well a model still knows each language: bits per character of neutral texts, with intervals."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mlc.errors import UserError
from mlc.evaluation.bits import surprises
from mlc.evaluation.intervals import Floats, half_width
from mlc.evaluation.results import MISSING, Estimate
from mlc.evaluation.skills import BITS, Skill
from mlc.evaluation.suites.loading import LoadedSuite
from mlc.languages import resolve_language
from mlc.models.loading import Policy
from mlc.stopping import ShouldStop, never
from mlc.store.drafts import draft_file
from mlc.store.hashing import digest_data
from mlc.tables import TableFile, text_of

ABILITY_FILE = "neutral.parquet"
"""Surprise of every text, without the texts."""
OF_THE_SUITE = "suite"
"""Names the harmless prompts of the suite as neutral texts."""
SCHEMA = pa.schema(
    [
        ("model", pa.string()),
        ("language", pa.string()),
        ("text", pa.string()),  # Digest.
        ("bits", pa.float64()),
        ("characters", pa.int64()),
    ]
)

Texts = Mapping[str, Sequence[str]]
"""Neutral texts by NLLB code. They never go to logs, reports or errors."""


@dataclass(frozen=True)
class Ability:
    """What one model makes of neutral texts."""

    model: str
    by_language: Mapping[str, Mapping[str, tuple[float, int]]]
    """Bits and characters of each text that can be predicted, by NLLB code and digest of the text."""


def neutral_texts(named: str, suite: LoadedSuite) -> tuple[Texts, Mapping[str, int]]:
    """Neutral texts in the languages of a suite.

    Args:
        named: ``suite`` for its harmless prompts, or a table with the columns ``text`` and ``language``.
        suite: Says the languages.

    Returns:
        The texts, each once a language, and the number of rows that are of no use, by reason.

    Raises:
        UserError: The table cannot be read, or there is no text in any of the languages.
    """
    if named != OF_THE_SUITE:
        return read_neutral(named, tuple(suite.prompts))
    texts = {
        code: list(dict.fromkeys(one.prompt for one in own if one.label == "harmless"))
        for code, own in suite.prompts.items()
    }
    return _there(named, texts), {}


def read_neutral(location: str, languages: Sequence[str]) -> tuple[Texts, Mapping[str, int]]:
    """Neutral texts of a table.

    Args:
        location: A table with the columns ``text`` and ``language``.
        languages: NLLB codes of those that are wanted.

    Returns:
        As :func:`neutral_texts`.

    Raises:
        UserError: The table cannot be read, or there is no text in any of the languages.
    """
    aside: dict[str, int] = {}
    table = TableFile(location, what="table of neutral texts")
    table.require(("text", "language"))
    found: dict[str, dict[str, None]] = {code: {} for code in languages}
    for row in table:
        text, problem = text_of(row.values.get("text"))
        code = _code(row.values.get("language"))
        problem = row.problem or problem or (None if code else "an unknown language")
        if code in found and not problem:
            found[code][text] = None
        else:
            reason = problem or "a language that is not evaluated"
            aside[reason] = aside.get(reason, 0) + 1
    return _there(location, {code: list(own) for code, own in found.items()}), aside


def _there(named: str, texts: Texts) -> Texts:
    there = {code: own for code, own in texts.items() if own}
    if not there:
        raise UserError(
            f"There is no neutral text in {', '.join(texts)} by {named!r}: name a table with texts in one of these "
            "languages, or a suite with harmless prompts."
        )
    return there


def measure_ability(policy: Policy, texts: Texts, *, model: str, should_stop: ShouldStop = never) -> Ability:
    """Reads neutral texts with a model; nothing is generated.

    Raises:
        Stopped: It was asked to stop.
    """
    found = {
        code: {
            digest_data(text): pair
            for text, pair in zip(own, surprises(policy, own, should_stop=should_stop), strict=True)
            if pair[1]
        }
        for code, own in texts.items()
    }
    return Ability(model, found)


def neutral_skills(ability: Ability) -> list[Skill]:
    """Bits per character of a model by language, as lines of the table of all that it can do."""
    return [Skill(BITS, language, bits_of(own), False) for language, own in ability.by_language.items()]


def bits_of(texts: Mapping[str, tuple[float, int]]) -> Estimate:
    """Bits per character over all texts together; lower is better.

    The interval is that of a ratio of two means over texts, by linearisation (Cochran 1977, section 2.11), with
    Student's t. Of one text there is none: its ends are NaN.

    Args:
        texts: Bits and characters by text.
    """
    if not texts:
        return MISSING
    pairs = np.asarray(list(texts.values()), dtype=float)
    value, residuals = _ratio(pairs)
    return _estimate(value, residuals)


def bits_change(candidate: Mapping[str, tuple[float, int]], baseline: Mapping[str, tuple[float, int]]) -> Estimate:
    """Bits per character of one model less those of another one, paired by text.

    Args:
        candidate: Bits and characters by text.
        baseline: The same of the other model; only texts that both have count.
    """
    both = [text for text in candidate if text in baseline]
    if not both:
        return MISSING
    new, old = (_ratio(np.asarray([own[text] for text in both], dtype=float)) for own in (candidate, baseline))
    return _estimate(new[0] - old[0], new[1] - old[1])


def _ratio(pairs: Floats) -> tuple[float, Floats]:
    """Bits over characters, and what each text adds to the error of it."""
    bits, characters = pairs.sum(axis=0)
    value = float(bits / characters)
    return value, (pairs[:, 0] - value * pairs[:, 1]) / characters


def _estimate(value: float, residuals: Floats) -> Estimate:
    n = len(residuals)
    if n == 1:
        return Estimate(value, math.nan, math.nan, n)
    half = half_width(math.sqrt(n / (n - 1) * float((residuals**2).sum())), n - 1)
    return Estimate(value, value - half, value + half, n)


def plain_ability(named: str, abilities: Sequence[Ability]) -> dict[str, Any]:
    """Bits per character as plain data; what is missing is NaN.

    Args:
        named: Where the texts come from.
        abilities: Of the model, and perhaps of the one that it is held against.
    """
    first, *others = abilities
    return {
        "texts": named,
        "models": [
            {"model": one.model, "languages": {code: asdict(bits_of(own)) for code, own in one.by_language.items()}}
            for one in abilities
        ],
        "differences": [
            {
                "model": first.model,
                "against": other.model,
                "languages": {
                    code: asdict(bits_change(own, other.by_language.get(code, {})))
                    for code, own in first.by_language.items()
                },
            }
            for other in others
        ],
    }


def write_abilities(folder: Path, abilities: Sequence[Ability]) -> None:
    """Writes the surprise of every text, without any text, as in :data:`SCHEMA`."""
    rows = [
        {"model": one.model, "language": code, "text": text, "bits": bits, "characters": characters}
        for one in abilities
        for code, own in one.by_language.items()
        for text, (bits, characters) in own.items()
    ]
    with draft_file(folder / ABILITY_FILE) as draft:
        pq.write_table(pa.Table.from_pylist(rows, SCHEMA), draft)


def read_ability(folder: Path, model: str) -> Ability:
    """What an earlier evaluation wrote; of several models the first one counts.

    Args:
        folder: Of the evaluation.
        model: What tables shall call it.

    Raises:
        UserError: It measured no neutral texts, or the file cannot be read.
    """
    try:
        rows = pq.read_table(folder / ABILITY_FILE).cast(SCHEMA).to_pylist()
    except (OSError, pa.ArrowException, ValueError):
        raise UserError(
            f"The evaluation in {str(folder)!r} has no figures of neutral texts: evaluate again with such texts."
        ) from None
    found: dict[str, dict[str, tuple[float, int]]] = {}
    for row in rows:
        if row["model"] == rows[0]["model"]:
            found.setdefault(row["language"], {})[row["text"]] = row["bits"], row["characters"]
    return Ability(model, found)


def _code(name: Any) -> str | None:
    try:
        return resolve_language(text_of(name)[0]).code
    except UserError:
        return None
