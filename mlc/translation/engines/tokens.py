"""Sentences to the tokens of a translation checkpoint and back, and the batches that are made of them.

Families tell the model the languages in different ways: NLLB and M2M100 begin the source with a token of its language
and the translation with one of the target; Marian knows one source, and either one target or a target code before the
source.
"""

import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlc.errors import UserError
from mlc.languages import resolve_language
from mlc.translation.engines.protocol import require_languages

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MAX_SOURCE_TOKENS = 512
"""NLLB saw no longer sentences in training; the rest of a longer one is not read, and its translation is unfinished."""
LONGEST_SENTENCE = 200
"""Near this many tokens NLLB loses quality, so longer sentences are split before they are translated."""

_NLLB_CODE = re.compile(r"[a-z]{3}_[A-Z][a-z]{3}")
_MARIAN_CODE = re.compile(r">>(\w+)<<")
_MAIN_FORMS = {"zh": "zho_Hans", "no": "nob_Latn"}
"""What a checkpoint writes whose tag could mean several languages of NLLB."""


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
    """Tokenizers of NLLB and M2M100, with a token for every language.

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


class MarianTokens(CheckpointTokens):
    """Tokenizers of Marian, such as those of OPUS-MT.

    Args:
        tokenizer: Tokenizer with ``source_lang`` and ``target_lang``, or with target codes such as ``>>fra<<``.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        super().__init__(tokenizer)
        self.source = _nllb_code(str(self.tokenizer.source_lang))
        tags = [match[1] for code in self.tokenizer.supported_language_codes if (match := _MARIAN_CODE.fullmatch(code))]
        self._prefixes = {code: f">>{tag}<< " for tag in tags if (code := _nllb_code(tag))}
        if not self._prefixes and (target := _nllb_code(str(self.tokenizer.target_lang))):
            self._prefixes = {target: ""}

    @property
    def languages(self) -> tuple[str, ...]:
        return tuple(sorted({*self._prefixes, *([self.source] if self.source else [])}))

    def start(self, target: str) -> None:
        return None

    def groups(self, targets: Sequence[str]) -> list[tuple[str, ...]]:
        return [(target,) for target in targets]

    def encode(self, sentences: Sequence[str], source: str, targets: Sequence[str]) -> list[list[int]]:
        prefix = self._prefixes[targets[0]] if targets else ""
        with self._lock:
            return self._ids(prefix + sentence for sentence in sentences)

    def require(self, name: str, source: str, targets: Sequence[str]) -> None:
        if source != self.source or not set(targets) <= set(self._prefixes):
            raise UserError(
                f"The translator {name!r} translates from {self.source} into {', '.join(sorted(self._prefixes))}, "
                f"not from {source} into {', '.join(targets)}: name another checkpoint or other languages."
            )


def tokens_of(tokenizer: Any) -> CheckpointTokens | None:
    """Wraps a tokenizer according to the way in which it names languages; None if it names none."""
    nllb = {token: index for token, index in tokenizer.get_added_vocab().items() if _NLLB_CODE.fullmatch(token)}
    if nllb and hasattr(tokenizer, "src_lang"):
        return LanguageTokens(tokenizer, {code: code for code in nllb}, nllb)
    if tags := getattr(tokenizer, "lang_code_to_id", None):
        known = {code: tag for tag in tags if (code := _nllb_code(tag))}
        return LanguageTokens(tokenizer, known, {code: tags[tag] for code, tag in known.items()})
    if hasattr(tokenizer, "supported_language_codes") and tokenizer.source_lang:
        tokens = MarianTokens(tokenizer)
        return tokens if len(tokens.languages) > 1 else None
    return None


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


def _nllb_code(tag: str) -> str:
    """The NLLB code of the tag of a checkpoint; empty where NLLB has no such language, or the tag is of a group."""
    try:
        return resolve_language(_MAIN_FORMS.get(tag, tag)).code
    except UserError:
        return ""
