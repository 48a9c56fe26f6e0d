"""What the engines that compute a checkpoint of transformers have in common."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from mlc.translation.engines.protocol import Batch, SentenceTranslation, identity_of
from mlc.translation.engines.tokens import LONGEST_SENTENCE, CheckpointTokens, batches


class CheckpointEngine(ABC):
    """Translates sentences with an encoder-decoder checkpoint, in batches of like length.

    Args:
        name: The checkpoint, as a person knows it.
        tokens: Its tokenizer.
        batch_tokens: Longest sentence in tokens, times sentences, times target languages, in one batch.
    """

    whole_texts = False
    remembers = True
    longest_sentence = LONGEST_SENTENCE

    def __init__(self, name: str, tokens: CheckpointTokens, batch_tokens: int) -> None:
        self.name = name
        self.tokens = tokens
        self.batch_tokens = batch_tokens

    @property
    @abstractmethod
    def facts(self) -> Mapping[str, Any]:
        """What the identity is made of."""

    @abstractmethod
    def _translate_ids(
        self, batch: Mapping[str, list[int]], source: str, targets: Sequence[str]
    ) -> Iterator[tuple[str, Batch]]:
        """Translates a batch of encoded sentences into targets of one group."""

    @cached_property
    def identity(self) -> str:
        """Digest of the facts."""
        return identity_of(self.facts)

    @property
    def languages(self) -> tuple[str, ...]:
        """NLLB codes that the checkpoint knows, sorted."""
        return self.tokens.languages

    def lengths(self, sentences: Sequence[str], *, source: str) -> list[int]:
        """Number of tokens of each sentence."""
        return list(map(len, self.tokens.encode(sentences, source, ())))

    def refusals(self, done: Mapping[str, SentenceTranslation], *, source: str, target: str) -> Mapping[str, str]:
        """None: nothing here declines."""
        return {}

    def translate(
        self, sentences: Sequence[str], *, source: str, targets: Sequence[str]
    ) -> Iterator[tuple[str, Batch]]:
        """Translates distinct sentences, see :class:`mlc.translation.engines.protocol.Engine`."""
        self.tokens.require(self.name, source, targets)
        for group in self.tokens.groups(targets):
            encoded = dict(zip(sentences, self.tokens.encode(sentences, source, group), strict=True))
            lengths = {sentence: len(ids) for sentence, ids in encoded.items()}
            for batch in batches(lengths, targets=len(group), budget=self.batch_tokens):
                yield from self._translate_ids({sentence: encoded[sentence] for sentence in batch}, source, group)
