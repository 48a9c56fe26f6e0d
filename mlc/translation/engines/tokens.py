"""Sentences to the tokens of an NLLB checkpoint and back, and the batches that are made of them."""

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MAX_SOURCE_TOKENS = 512
"""NLLB saw no longer sentences in training; the rest of a longer one is not read, and its translation is unfinished."""
LONGEST_SENTENCE = 200
"""Near this many tokens NLLB loses quality, so longer sentences are split before they are translated."""

_LANGUAGE_CODE = re.compile(r"[a-z]{3}_[A-Z][a-z]{3}")


class NllbTokens:
    """The tokenizer of an NLLB checkpoint; threads may share it.

    Args:
        tokenizer: Tokenizer with NLLB language codes.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self.tokenizer = tokenizer
        # The source language is a state of the tokenizer, so no two threads may use it at once.
        self._lock = threading.Lock()
        self.language_ids: dict[str, int] = {
            token: index for token, index in tokenizer.get_added_vocab().items() if _LANGUAGE_CODE.fullmatch(token)
        }

    @property
    def languages(self) -> tuple[str, ...]:
        """NLLB codes that the checkpoint knows, sorted."""
        return tuple(sorted(self.language_ids))

    def encode(self, sentences: Sequence[str], source: str) -> list[list[int]]:
        """Token ids of each sentence, as ``<language> tokens </s>``, however long."""
        if not sentences:
            return []
        with self._lock:
            # An argument src_lang= of the call is ignored by transformers 5; only the attribute works.
            self.tokenizer.src_lang = source
            encoded: list[list[int]] = self.tokenizer(list(sentences), verbose=False)["input_ids"]
        return encoded

    def decode(self, ids: Sequence[int]) -> str:
        """The text of generated tokens, without special ones."""
        with self._lock:
            return str(self.tokenizer.decode(list(ids), skip_special_tokens=True)).strip()


def cut(ids: Sequence[int]) -> list[int]:
    """The tokens that the model reads: the first ones and ``</s>``."""
    return list(ids) if len(ids) <= MAX_SOURCE_TOKENS else [*ids[: MAX_SOURCE_TOKENS - 1], ids[-1]]


def batches(lengths: Mapping[str, int], *, targets: int, budget: int) -> Iterator[list[str]]:
    """Groups sentences of like length, so that little is computed on padding; the longest come first.

    The groups depend on the arguments alone, not on the order of the sentences.

    Args:
        lengths: Tokens of each sentence.
        targets: Number of target languages.
        budget: Longest sentence times sentences times targets; a sentence beyond it is a group of its own.
    """
    group: list[str] = []
    longest = 0
    for sentence in sorted(lengths, key=lambda sentence: (-min(lengths[sentence], MAX_SOURCE_TOKENS), sentence)):
        longest = longest or min(lengths[sentence], MAX_SOURCE_TOKENS)
        if group and (len(group) + 1) * longest * targets > budget:
            yield group
            group, longest = [], min(lengths[sentence], MAX_SOURCE_TOKENS)
        group.append(sentence)
    if group:
        yield group
