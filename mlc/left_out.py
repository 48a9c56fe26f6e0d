"""What a run goes without: rows and texts that were given and cannot be used, counted so that everybody sees them.

Counts travel in manifests as plain data, and become words here and nowhere else.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mlc.errors import UserError

_WORDS = {
    "set aside": ("rows of the prompt file", "cannot be used and are set aside"),
    "held out": ("prompts", "are held-out prompts as well and are taken out"),
    "validation set aside": ("rows of the validation prompts", "cannot be used and are set aside"),
    "test set aside": ("rows of the test prompts", "cannot be used and are set aside"),
    "no label": ("prompts", "have no label"),
    "no rejected": ("prompts", "have no rejected answer"),
    "feedback set aside": ("answers with feedback", "cannot be used and are set aside"),
    "no own pair": ("prompts", "get no two answers that differ from the model itself"),
    "no own translated pair": ("translated prompts", "get no two answers that differ from the model itself"),
    "no answer": ("prompts", "get no answer from the model itself"),
    "no own answer": (
        "translated harmless prompts",
        "are refused by the model itself, or not answered in their language",
    ),
    "long prompt": ("prompts", "are longer than {limit} tokens"),
    "long answer": ("answers", "are cut at {limit} tokens"),
    "unusable variant": ("texts of the term", "are longer than {limit} tokens, or have no token of their own"),
    "no pair": ("training prompts", "have no translation beside them, so that no term learns from any"),
    "no harmful pair": (
        "training prompts",
        "are harmless or have no translation, so that the answer term learns from none (align.answer.harmless: none)",
    ),
    "long translation": ("translated examples", "are longer than {limit} tokens"),
    "long guided prompt": (
        "translated examples",
        "are longer than {limit} tokens, or with their English prompt and the instruction",
    ),
    "no translation": ("prompts", "have no kept translation into {language}"),
    "no translated chosen": ("translated prompts", "have no kept translation of their answer into {language}"),
    "no translated rejected": (
        "translated prompts",
        "have no kept translation of their rejected answer into {language}",
    ),
    "long translated answer": ("translated answers", "are cut at {limit} tokens"),
    "few languages": ("prompts", "have fewer than {limit} kept translations"),
}
"""What is counted, and what is said of it, by kind."""
_TOLD_ONLY = (
    "held out",
    "no own pair",
    "no own translated pair",
    "no pair",
    "no harmful pair",
    "no answer",
    "no own answer",
    "long answer",
    "long translated answer",
    "no translation",
    "no translated chosen",
    "no translated rejected",
    "few languages",
)
"""Kinds that a setting asks for, such as answers that are cut, and what ``prompts.remove_overlap``, the filter,
``dataset.min_languages`` and answers of the model itself decide."""
_DETAILS = 3
"""Reasons that are told of rows that are set aside, the most frequent ones."""
_HELD_OUT = ("evaluation", "correct the file, or its columns and labels under evaluation")
_FILES = {
    "validation set aside": _HELD_OUT,
    "test set aside": _HELD_OUT,
    "set aside": ("training", "correct the file, or its columns and labels under prompts"),
}
"""Of what too much is left out, and what to do, for rows of files."""
_TRAINING = ("training", "change the prompts or the limits under align")


@dataclass(frozen=True)
class LeftOut:
    """How many of what was given are left out for one reason."""

    kind: str
    """One of the reasons that this module knows."""
    rows: int
    of: int
    """How many were given."""
    limit: int | None = None
    """Where the reason has one: tokens, or languages."""
    language: str | None = None
    """NLLB code, where the reason is about one language."""
    details: str | None = None
    """What is wrong with them, where that differs: ``40 × unknown label, 2 × no text in prompt``."""

    @classmethod
    def of_rows(cls, kind: str, reasons: Mapping[str, int], kept: int, language: str | None = None) -> "LeftOut":
        """Rows of a table that are set aside.

        Args:
            kind: As for the class.
            reasons: How many of them for what reason, in words that hold nothing of the rows.
            kept: How many rows can be used.
            language: As for the class.
        """
        rows = sum(reasons.values())
        most = sorted(reasons.items(), key=lambda one: (-one[1], one[0]))[:_DETAILS]
        details = ", ".join(f"{count} × {reason}" for reason, count in most)
        return cls(kind, rows, rows + kept, language=language, details=details or None)

    @property
    def share(self) -> float:
        """Between 0 and 1."""
        return self.rows / self.of if self.of else 0.0

    @property
    def why(self) -> str:
        """What is said of them, such as ``are longer than 256 tokens``."""
        return _WORDS[self.kind][1].format(limit=self.limit, language=self.language)

    @property
    def what(self) -> str:
        """What is counted, such as ``prompts``."""
        return _WORDS[self.kind][0]

    @property
    def sentence(self) -> str:
        """All of it, without a full stop."""
        return f"{self.rows} of {self.of} {self.what} {self.why}" + (f" ({self.details})" if self.details else "")

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def told(counts: Iterable[LeftOut]) -> list[dict[str, Any]]:
    """Counts as plain data, for a manifest; those of which nothing is left out do not appear."""
    return [count.as_dict() for count in counts if count.rows]


def read_left_out(facts: Mapping[str, Any]) -> list[LeftOut]:
    """The counts in the facts of a manifest; none where an earlier release wrote it, which kept a number there."""
    counts = facts.get("left_out")
    return [LeftOut(**count) for count in counts] if isinstance(counts, list) else []


def require_few(counts: Iterable[LeftOut], limit: float) -> None:
    """Refuses to go on with too little.

    What the filter drops, ``dataset.min_languages`` leaves out or ``align.max_answer_tokens`` cuts is what a
    configuration asks for: it is told, and does not count here.

    Args:
        counts: What is left out.
        limit: ``align.max_dropped``, the largest share of each kind that may be.

    Raises:
        UserError: A larger share is left out.
    """
    for count in counts:
        if count.kind not in _TOLD_ONLY and count.share > limit:
            of, change = _FILES.get(count.kind, _TRAINING)
            raise UserError(
                f"{count.sentence}, which is more than the share of {limit:g} that may be left out of {of}: {change}, "
                "or raise align.max_dropped."
            )
