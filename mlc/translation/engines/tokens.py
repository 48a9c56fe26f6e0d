"""Sentences to the tokens of a translation checkpoint and back, and the batches that are made of them.

Families tell the model the languages in different ways, see :mod:`mlc.translation.engines.families`; for each way there
is a class here.
"""

import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlc.errors import UserError
from mlc.translation.engines.protocol import require_languages

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MAX_SOURCE_TOKENS = 512
"""NLLB saw no longer sentences in training; the rest of a longer one is not read, and its translation is unfinished."""
LONGEST_SENTENCE = 200
"""Near this many tokens NLLB loses quality, so longer sentences are split before they are translated."""

MADLAD_MARKER = re.compile(r"<2([A-Za-z]\w*)>")
"""What tells MADLAD-400 the target, and in a few cases the script or the region."""


class CheckpointTokens(ABC):
    """The tokenizer of a translation checkpoint; threads may share it.

    Args:
        tokenizer: Tokenizer of transformers.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self.tokenizer: Any = tokenizer
        # The source language is a state of the tokenizer, so no two threads may use it at once.
        self._lock = threading.Lock()

    @property
    @abstractmethod
    def languages(self) -> tuple[str, ...]:
        """NLLB codes that the checkpoint knows on either side, sorted."""

    @abstractmethod
    def start(self, target: str) -> int | None:
        """The token that a translation into a language begins with; None where there is none."""

    @abstractmethod
    def encode(self, sentences: Sequence[str], source: str, targets: Sequence[str]) -> list[list[int]]:
        """Token ids of each sentence as the model reads them, however long.

        What looks like a special token in a sentence, such as ``</s>``, is text like any other.

        Args:
            sentences: The sentences.
            source: NLLB code of their language.
            targets: One of the :meth:`groups`.
        """

    def groups(self, targets: Sequence[str]) -> list[tuple[str, ...]]:
        """The targets for which the model reads the same source, together."""
        return [tuple(targets)] if targets else []

    def require(self, name: str, source: str, targets: Sequence[str]) -> None:
        """Checks that the checkpoint translates from one language into the others.

        Raises:
            UserError: It does not.
        """
        require_languages(name, self.languages, (source, *targets))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of generated tokens, without special ones."""
        with self._lock:
            return str(self.tokenizer.decode(list(ids), skip_special_tokens=True)).strip()

    def _ids(self, sentences: Iterable[str]) -> list[list[int]]:
        texts = list(sentences)
        if not texts:
            return []
        ids: list[list[int]] = self.tokenizer(texts, verbose=False, split_special_tokens=True)["input_ids"]
        return ids


class LanguageTokens(CheckpointTokens):
    """Tokenizers of NLLB, M2M100 and mBART-50, with a token for every language.

    Args:
        tokenizer: Tokenizer with the attribute ``src_lang``.
        tags: How the tokenizer writes each language, by NLLB code.
        ids: The token of each language, by NLLB code.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", tags: Mapping[str, str], ids: Mapping[str, int]) -> None:
        super().__init__(tokenizer)
        self._tags = tags
        self.language_ids = ids

    @property
    def languages(self) -> tuple[str, ...]:
        return tuple(sorted(self.language_ids))

    def start(self, target: str) -> int:
        return self.language_ids[target]

    def encode(self, sentences: Sequence[str], source: str, targets: Sequence[str]) -> list[list[int]]:
        with self._lock:
            # An argument src_lang= of the call is ignored by transformers 5; only the attribute works.
            self.tokenizer.src_lang = self._tags[source]
            return self._ids(sentences)


class PrefixTokens(CheckpointTokens):
    """Tokenizers of families that read the target before the source, or know one target only.

    Args:
        tokenizer: The tokenizer.
        prefixes: What stands before a sentence that is translated into a language, by NLLB code.
        source: NLLB code of the one language that is translated from, empty if it is none of NLLB's; None where every
            language with a prefix will do.
        pieces: Special tokens that are pieces like any other in the vocabulary; one inside a sentence would be read as
            what it stands for, so a space is put into it.
    """

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerBase",
        prefixes: Mapping[str, str],
        source: str | None = None,
        pieces: Iterable[str] = (),
    ) -> None:
        super().__init__(tokenizer)
        self.source = source
        self._prefixes = prefixes
        self._pieces = re.compile("|".join(f"(?<={re.escape(piece[0])}){re.escape(piece[1:])}" for piece in pieces))

    @property
    def languages(self) -> tuple[str, ...]:
        return tuple(sorted({*self._prefixes, *([self.source] if self.source else [])}))

    def start(self, target: str) -> None:
        return None

    def groups(self, targets: Sequence[str]) -> list[tuple[str, ...]]:
        return [(target,) for target in targets]

    def encode(self, sentences: Sequence[str], source: str, targets: Sequence[str]) -> list[list[int]]:
        prefix = self._prefixes[targets[0]] if targets else ""
        plain = sentences
        if self._pieces.pattern:
            plain = [self._pieces.sub(lambda found: f" {found[0]}", sentence) for sentence in sentences]
        with self._lock:
            return self._ids(prefix + sentence for sentence in plain)

    def require(self, name: str, source: str, targets: Sequence[str]) -> None:
        if self.source is None:
            super().require(name, source, targets)
        elif source != self.source or not set(targets) <= set(self._prefixes):
            raise UserError(
                f"The translator {name!r} translates from {self.source} into {', '.join(sorted(self._prefixes))}, "
                f"not from {source} into {', '.join(targets)}: name another checkpoint or other languages."
            )


class MarkerTokens(PrefixTokens):
    """Tokenizers of MADLAD-400, whose source begins with a marker of the target, such as ``<2de>``.

    Args:
        tokenizer: The tokenizer.
        markers: Marker of each language, by NLLB code.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", markers: Mapping[str, str]) -> None:
        others = [token for token in tokenizer.get_vocab() if MADLAD_MARKER.fullmatch(token)]
        prefixes = {code: f"{marker} " for code, marker in markers.items()}
        super().__init__(tokenizer, prefixes, pieces=[*others, *tokenizer.all_special_tokens])
        self._ids_of = {code: self.tokenizer.convert_tokens_to_ids(marker) for code, marker in markers.items()}

    def encode(self, sentences: Sequence[str], source: str, targets: Sequence[str]) -> list[list[int]]:
        encoded = super().encode(sentences, source, targets)
        marker = self._ids_of[targets[0]] if targets else None
        # Copies of the checkpoint declare the markers as special tokens, which are read as text.
        return [ids if marker is None or marker in ids else [marker, *ids] for ids in encoded]


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
