"""Whether what a translator wrote is a refusal in place of a translation. Light to import.

Models that are tuned for safety decline to translate harmful prompts, and what they say then is fluent, of the right
length and often in the right language, so that no quality signal drops it.
"""

from collections.abc import Sequence
from typing import NamedTuple

from mlc.evaluation.judges.judge import Answer
from mlc.evaluation.judges.phrases import plain
from mlc.evaluation.judges.rules import RULES, Rules
from mlc.languages import ENGLISH

CODE_VERSION = 1
"""Goes up with every change of what is read; changes of the judge and of the phrases count by themselves."""
DECLINES = "declines"
UNTRANSLATED = "stays in the source language"
_OPENING = 40
"""Characters in which an apology opens a text."""


class Attempt(NamedTuple):
    """What a translator was given and what it wrote. Its texts never go to logs, reports or errors."""

    source: str
    text: str
    source_language: str
    """NLLB code."""
    target_language: str
    """NLLB code."""


class RefusalReader:
    """Reads attempts with the phrases and the language identification of the judge ``rules``.

    An attempt is a refusal if the judge takes it for one, as an answer in the target language or in that of the source,
    and does not say the same of the source itself: a prompt that quotes a refusal is translated into one. It is one too
    if it opens with an apology and the source has none, or if it is another text than the source and surely in the
    source language.

    Args:
        rules: The judge.
    """

    def __init__(self, rules: Rules) -> None:
        self._rules = rules

    @property
    def version(self) -> str:
        """Changes with the phrases and the judge's code."""
        return f"{CODE_VERSION}.{self._rules.version}"

    def read(self, attempts: Sequence[tuple[str, str, str, str]]) -> list[str | None]:
        """Reads attempts.

        Args:
            attempts: The fields of :class:`Attempt`.

        Returns:
            For each why it is no translation, in a few words that hold nothing of it; None where it may be one.
        """
        read = [Attempt(*attempt) for attempt in attempts]
        declined = self._declines([(attempt.text, attempt.target_language) for attempt in read])
        also = self._declines([(attempt.text, attempt.source_language) for attempt in read])
        quoted = self._declines([(attempt.source, attempt.source_language) for attempt in read])
        untranslated = _in_the_source_language(read)
        sorry = map(self._apologises, read)
        reasons = zip(declined, also, sorry, quoted, untranslated, strict=True)
        return [
            DECLINES if sorry or ((here or there) and not source) else UNTRANSLATED if same else None
            for here, there, sorry, source, same in reasons
        ]

    def _apologises(self, attempt: Attempt) -> bool:
        books = self._rules.book.languages
        own = books.get(attempt.source_language)
        if own is None or own.find("regrets", plain(attempt.source)):
            return False
        opening = plain(attempt.text[:_OPENING])
        others = (books.get(code) for code in (attempt.target_language, attempt.source_language))
        return any(book is not None and book.find("regrets", opening) for book in others)

    def _declines(self, texts: Sequence[tuple[str, str]]) -> list[bool]:
        known = self._rules.languages
        answers = [Answer("", text, language if language in known else ENGLISH) for text, language in texts]
        return [verdict.outcome == "refused" for verdict in self._rules.judge(answers)]


def _in_the_source_language(attempts: Sequence[Attempt]) -> list[bool]:
    # It brings the identifier.
    from mlc.evaluation.judges.soundness import is_foreign, spoken
    from mlc.text.identification import accepted_labels

    heard = spoken([attempt.text for attempt in attempts], [attempt.target_language for attempt in attempts])
    return [
        said.label is not None
        and is_foreign(said.label, attempt.target_language)
        and said.label in accepted_labels(attempt.source_language)
        and attempt.text.split() != attempt.source.split()
        for attempt, said in zip(attempts, heard, strict=True)
    ]


READER = RefusalReader(RULES)
