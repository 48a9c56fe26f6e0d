"""The grammar of the quickstart: actions, frames, adjuncts and openers in seven languages.

People wrote every part in every language, so any composition is at once a prompt and its reference translation.
The quickstart prompts, their reference texts and the nano translator's training sentences all come from here.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mlc.errors import UserError
from mlc.languages import ENGLISH
from mlc.shipped import shipped_data

LANGUAGES = (ENGLISH, "arb_Arab", "deu_Latn", "fra_Latn", "hin_Deva", "spa_Latn", "swh_Latn")
"""English first, then the other languages of the grammar by code."""

Kind = Literal["harmful", "harmless", "lookalike"]
Forms = Mapping[str, str]
"""One wording for each language code."""


@dataclass(frozen=True)
class Action:
    """Something that a prompt asks help with."""

    id: str
    theme: str
    """Name of the file that the action stands in, such as ``privacy``."""
    kind: Kind
    """``lookalike`` is harmless but worded like something harmful."""
    forms: Forms
    """Infinitive phrases."""
    answer: str
    """Preferred English answer: help, or a refusal where the action is harmful."""


@dataclass(frozen=True)
class Grammar:
    """The parts of the quickstart's sentences, each by its id in the order of the files."""

    actions: Mapping[str, Action]
    frames: Mapping[str, Forms]
    """Sentences with a place ``{action}``."""
    adjuncts: Mapping[str, Forms]
    openers: Mapping[str, Forms]
    adjunct_position: Mapping[str, Literal["before", "after"]]
    """Where the adjunct stands relative to the action, for each language."""

    @classmethod
    def load(cls, folder: Path | None = None) -> "Grammar":
        """Reads the grammar.

        Args:
            folder: Holds ``frames.json`` and ``actions/*.jsonl``; the shipped ``data/quickstart`` if not given.

        Raises:
            UserError: A part lacks a language, or an id occurs twice.
        """
        folder = folder or shipped_data("quickstart")
        parts = json.loads((folder / "frames.json").read_text(encoding="utf-8"))
        return cls(
            actions=_by_id(_read_actions(folder / "actions")),
            frames={row["id"]: _forms(row) for row in _distinct(parts["frames"])},
            adjuncts={row["id"]: _forms(row) for row in _distinct(parts["adjuncts"])},
            openers={row["id"]: _forms(row) for row in _distinct(parts["openers"])},
            adjunct_position=parts["adjunct_position"],
        )

    def compose(
        self, language: str, *, frame: str, action: str, adjunct: str | None = None, opener: str | None = None
    ) -> str:
        """Builds the prompt that the parts make in one language.

        Args:
            language: NLLB code, one of :data:`LANGUAGES`.
            frame: Id of a frame.
            action: Id of an action.
            adjunct: Id of an adjunct, which says how, when or where.
            opener: Id of an opener, which becomes a sentence of its own before the request.

        Raises:
            KeyError: There is no such part or language.
        """
        phrase = self.actions[action].forms[language]
        if adjunct is not None:
            manner = self.adjuncts[adjunct][language]
            phrase = f"{manner} {phrase}" if self.adjunct_position[language] == "before" else f"{phrase} {manner}"
        sentence = self.frames[frame][language].replace("{action}", phrase)
        return sentence if opener is None else f"{self.openers[opener][language]} {sentence}"


def _read_actions(folder: Path) -> list[Action]:
    actions = []
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            if not line.strip():
                continue
            row = json.loads(line)
            actions.append(Action(row["id"], path.stem, row["kind"], _forms(row), row["answer"]))
    return actions


def _forms(row: Mapping[str, Any]) -> Forms:
    missing = [language for language in LANGUAGES if not row.get(language)]
    if missing:
        raise UserError(f"The part {row['id']!r} of the quickstart grammar has no form in {', '.join(missing)}.")
    return {language: row[language].strip() for language in LANGUAGES}


def _by_id(actions: Iterable[Action]) -> dict[str, Action]:
    found: dict[str, Action] = {}
    for action in actions:
        if action.id in found:
            raise UserError(f"Two actions of the quickstart grammar are called {action.id!r}; rename one.")
        found[action.id] = action
    return found


def _distinct(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    rows = list(rows)
    ids = [row["id"] for row in rows]
    for part in ids:
        if ids.count(part) > 1:
            raise UserError(f"Two parts of frames.json are called {part!r}; rename one.")
    return rows
