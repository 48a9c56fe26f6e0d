"""What every engine does, and what comes out of it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from mlc.errors import UserError
from mlc.store.hashing import digest_data

Batch = dict[str, "SentenceTranslation"]
"""Translations of one batch of sentences into one language, by sentence."""


@dataclass(frozen=True, slots=True)
class SentenceTranslation:
    """The translation of one sentence."""

    text: str
    logprob_sum: float | None
    """Natural log-probabilities of the generated tokens, added up, ``</s>`` counted and the forced language token not;
    None where the engine does not tell."""
    tokens: int
    """Generated tokens; 0 where the engine does not tell."""
    finished: bool
    """Whether the sentence was read to its end and the translation ended by itself."""
    refusal: str | None = None
    """Why there is no translation, in a few words that hold nothing of the sentence; the text is then empty. None where
    there is one."""


class Engine(Protocol):
    """Translates sentences into several languages at once.

    An engine gives the same translation of a sentence whatever else it is given with it. Threads may share one.
    """

    @property
    def identity(self) -> str:
        """Digest of everything that decides a translation: the content of the model and the decoding settings."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the identity is made of, as plain data for people: ``engine``, ``version``, ``model``, ``decoding``."""

    @property
    def languages(self) -> tuple[str, ...] | None:
        """NLLB codes that it knows, sorted; None where it does not tell."""

    @property
    def whole_texts(self) -> bool:
        """Whether it wants whole texts as they are, and not sentences."""

    @property
    def remembers(self) -> bool:
        """Whether what it makes is worth a place in the translation memory."""

    @property
    def longest_sentence(self) -> int | None:
        """Longest sentence that it translates well, in its own tokens; None where any will do."""

    def lengths(self, sentences: Sequence[str], *, source: str) -> list[int]:
        """Number of tokens of each sentence; 0 where the engine does not tell."""

    def translate(
        self, sentences: Sequence[str], *, source: str, targets: Sequence[str]
    ) -> Iterator[tuple[str, Batch]]:
        """Translates distinct sentences into all targets.

        Args:
            sentences: Distinct sentences, none of them blank.
            source: NLLB code of their language.
            targets: NLLB codes, distinct.

        Yields:
            Target and translations of each batch as soon as it is done; at the end every sentence has come once for
            every target, except those that the engine has no translation of.

        Raises:
            UserError: A language is not known, or translating failed for good.
        """

    def refusals(self, done: Mapping[str, SentenceTranslation], *, source: str, target: str) -> Mapping[str, str]:
        """Which translations are none, because the model declined to translate, or did not.

        Apart from translating, so that what a refusal is taken for may change and nothing is translated again.

        Args:
            done: Translations by sentence; those with a refusal of their own are left out.
            source: NLLB code.
            target: NLLB code.

        Returns:
            Why, in a few words, by sentence.
        """


def identity_of(facts: Mapping[str, Any]) -> str:
    """The identity of an engine, from its facts."""
    return digest_data(dict(facts))


def require_languages(name: str, known: Sequence[str] | None, codes: Iterable[str]) -> None:
    """Checks languages before any work is spent on them.

    Args:
        name: The model, as a person knows it.
        known: NLLB codes that it knows; None where it does not tell.
        codes: Languages that are wanted.

    Raises:
        UserError: One of them is not known.
    """
    unknown = [] if known is None else [code for code in codes if code not in known]
    if known is None or not unknown:
        return
    shown = ", ".join(known[:12]) + (", …" if len(known) > 12 else "")
    raise UserError(
        f"The translator {name!r} has no language {', '.join(map(repr, unknown))}; "
        f"it has {shown}. Write NLLB codes, or name another translator."
    )
