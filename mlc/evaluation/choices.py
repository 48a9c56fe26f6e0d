"""Choice of two, as in XCOPA: which of two sentences goes better with another one, by a model's own probabilities.

After XCOPA (Ponti et al. 2020, arXiv 2005.00333). No words are put between the sentences, so that it works in every
language alike: the one that comes first in time stands first, and the surprise of the other one after it decides. So
figures compare models, and are none to hold against published ones.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlc.errors import UserError
from mlc.evaluation.bits import surprises_after
from mlc.evaluation.intervals import wilson
from mlc.evaluation.judges.phrases import UNSPACED_SCRIPTS
from mlc.evaluation.skills import CHOICE, Skill
from mlc.languages import resolve_language
from mlc.models.loading import Policy
from mlc.stopping import ShouldStop, never
from mlc.tables import Row, TableFile, text_of

TEXTS = ("premise", "choice1", "choice2")
COLUMNS = (*TEXTS, "question", "label", "language")
"""``question`` is ``cause`` or ``effect``, ``label`` 0 or 1 for the right choice."""
QUESTIONS = ("cause", "effect")


@dataclass(frozen=True)
class Choice:
    """One question. Its texts never go to logs, reports or errors."""

    premise: str
    choices: tuple[str, str]
    asks_cause: bool
    right: int
    """0 or 1."""
    language: str
    """NLLB code."""


def read_choices(location: Path | str) -> tuple[list[Choice], Mapping[str, int]]:
    """Reads a table of questions.

    Args:
        location: A table with :data:`COLUMNS`.

    Returns:
        The questions, and the number of rows that are of no use, by reason.

    Raises:
        UserError: The table cannot be read, lacks a column, or holds no usable row.
    """
    table = TableFile(location, what="table of choices")
    table.require(COLUMNS)
    found, aside = [], Counter[str]()
    for row in table:
        choice = _choice(row)
        if isinstance(choice, str):
            aside[choice] += 1
        else:
            found.append(choice)
    if not found:
        reasons = ", ".join(sorted(aside)) or "it has none"
        raise UserError(
            f"The table of choices {table.location!r} holds no usable row ({reasons}): give "
            "premise, choice1, choice2, question (cause or effect), label (0 or 1) and language."
        )
    return found, aside


def _choice(row: Row) -> Choice | str:
    if row.problem:
        return row.problem
    texts = [text_of(row.values.get(name)) for name in TEXTS]
    if any(problem or not text.strip() for text, problem in texts):
        return "no text"
    premise, *choices = (text.strip() for text, _ in texts)
    question, label, named = (_word(row.values.get(name)) for name in ("question", "label", "language"))
    if question not in QUESTIONS:
        return "an unknown question"
    if label not in ("0", "1"):
        return "an unknown label"
    try:
        language = resolve_language(named).code
    except UserError:
        return "an unknown language"
    return Choice(premise, (choices[0], choices[1]), question == "cause", int(label), language)


def _word(value: Any) -> str:
    text = str(value).strip().casefold()
    # Tables that know numbers may hold 1.0.
    return text.removesuffix(".0")


def measure_choices(
    policy: Policy, choices: Sequence[Choice], *, batch_size: int = 16, should_stop: ShouldStop = never
) -> list[Skill]:
    """Share of right choices by language, with Wilson's interval; nothing is generated.

    Of two effects the one is taken that surprises less after the premise, in bits per character because they differ in
    length; of two causes the one after which the premise surprises less. A tie is wrong.

    Raises:
        Stopped: It was asked to stop.
    """
    contexts, texts = [], []
    for one in choices:
        space = "" if one.language.rpartition("_")[2] in UNSPACED_SCRIPTS else " "
        for choice in one.choices:
            first, second = (choice, one.premise) if one.asks_cause else (one.premise, choice)
            contexts.append(first)
            texts.append(space + second)
    found = surprises_after(policy, contexts, texts, batch_size=batch_size, should_stop=should_stop)
    rates = [bits / characters if characters else float("inf") for bits, characters in found]
    right, asked = Counter[str](), Counter[str]()
    for place, one in enumerate(choices):
        own = rates[2 * place : 2 * place + 2]
        asked[one.language] += 1
        right[one.language] += own[one.right] < own[1 - one.right]
    return [Skill(CHOICE, code, wilson(right[code], asked[code]), True) for code in sorted(asked)]
