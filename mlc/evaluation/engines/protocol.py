"""What every engine does, and what comes out of it. Light to import."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from mlc.stopping import ShouldStop, never

Messages = Sequence[Mapping[str, str]]
"""Messages with ``role`` and ``content``, the last one of the person, or of whoever is to be judged."""


@dataclass(frozen=True)
class Rendered:
    """A whole prompt as the model reads it: no chat template is put around it."""

    text: str


Prompt = str | Messages | Rendered
"""What is asked: a person's text, a conversation, or a rendered prompt."""
Finish = Literal["stop", "length", "filter"]
"""Why an answer ends: by itself, at the longest that was allowed, or because a server withheld it."""


@dataclass(frozen=True)
class Completion:
    """One answer. Its text never goes to logs, reports or errors."""

    position: int
    """Place of the prompt among those asked, from 0."""
    text: str
    finish: Finish
    prompt_tokens: int | None
    """None where the engine does not tell."""
    answer_tokens: int | None
    """Tokens generated, the one that ends the answer included; None where the engine does not tell."""


class AnswerEngine(Protocol):
    """Answers prompts.

    How long answers may be and how tokens are chosen is decided when an engine is made, and in its identity.
    """

    @property
    def identity(self) -> str:
        """Digest of all that decides an answer: the model and the way of decoding, not the size of batches."""

    def answer(
        self, prompts: Sequence[Prompt], *, answered: Collection[int] = (), should_stop: ShouldStop = never
    ) -> Iterator[Completion]:
        """Answers prompts.

        Args:
            prompts: Any number, in any order; the engine orders them as it likes.
            answered: Places of those whose answers are known from an earlier attempt.
            should_stop: Looked at again and again, at least after each step of a batch.

        Yields:
            One completion for each other prompt, as soon as it is there, in any order.

        Raises:
            Stopped: It was asked to stop; what was yielded is whole.
        """


def in_language(engine: AnswerEngine, language: str) -> AnswerEngine:
    """An engine for prompts in a language: another one, where its model is told the language of what it reads.

    Args:
        engine: Answers prompts.
        language: NLLB code.
    """
    told = getattr(engine, "in_language", None)
    other: AnswerEngine = engine if told is None else told(language)
    return other
