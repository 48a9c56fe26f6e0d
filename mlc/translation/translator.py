"""Texts in, translations out: split, look up, translate what is missing, remember, join."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlc.stopping import ShouldStop, never, stop_if
from mlc.translation.engines import load_engine
from mlc.translation.engines.protocol import Batch, Engine, SentenceTranslation
from mlc.translation.memory import TranslationMemory
from mlc.translation.protection import around_spans, has_words, lost_kinds
from mlc.translation.sentences import WINDOW, SplitText, has_sentences, split_clauses, split_texts
from mlc.translation.settings import TranslatorSettings

Known = dict[str, Batch]
"""Translations of sentences by target language."""


@dataclass(frozen=True)
class Translation:
    """The translation of one text."""

    text: str
    """Empty if a part of it has no translation."""
    logprob: float | None
    """Mean natural log-probability of a generated token over the whole text, ``</s>`` counted and the forced language
    token not; 0 if nothing was generated, None if the engine does not tell."""
    finished: bool
    """Whether every sentence was read to its end and its translation ended by itself. If not, part of the text is lost
    or the model ran into a loop."""
    sentences_in: int
    """Sentences that the text has; 0 for one without words, which is its own translation."""
    sentences_out: int
    """Sentences that got a translation that is not blank."""
    logprobs: tuple[float | None, ...] = ()
    """Sum of the log-probabilities of each sentence."""
    lost: tuple[str, ...] = ()
    """Kinds of protected parts of which some did not come through, such as ``number``; see
    :mod:`mlc.translation.protection`."""
    repaired: int = 0
    """Sentences that were translated around a protected part, because it did not survive in the whole."""
    refusal: str | None = None
    """Why the translator refused a sentence, the first of them if it refused several; the text is then empty."""


@dataclass(frozen=True)
class Step:
    """What has just been done, for people who wait."""

    texts: int = 0
    """Texts that now have their translations into all languages."""
    split: int = 0
    """Texts that were split into sentences."""
    planned: int = 0
    """Distinct sentences that were found in them; each is to be translated into every language."""
    target: str = ""
    """The language of the sentences below."""
    sentences: int = 0
    """Sentences that now have a translation."""
    tokens: int = 0
    """Tokens that were generated for them; 0 if they were known before."""


OnProgress = Callable[[Step], None]


class Translator:
    """Translates texts, sentence by sentence, each distinct sentence once.

    Args:
        engine: What translates sentences.
        memory: Where sentences are remembered and looked up; nothing is kept between calls without one. An engine
            whose work is not worth remembering uses none.
    """

    def __init__(self, engine: Engine, memory: TranslationMemory | None = None) -> None:
        self.engine = engine
        self.memory = memory if engine.remembers else None

    @classmethod
    def from_settings(cls, settings: TranslatorSettings, memory: Path | None = None) -> "Translator":
        """Loads the translator that the configuration names.

        Args:
            settings: The configuration.
            memory: Folder of all translation memories.

        Raises:
            UserError: It cannot be loaded, or the folder cannot be written.
        """
        engine = load_engine(settings)
        return cls(engine, TranslationMemory(memory, engine.identity, engine.facts) if memory else None)

    @property
    def facts(self) -> Mapping[str, Any]:
        """Engine, model identity and decoding settings."""
        return self.engine.facts

    def translate(
        self,
        texts: Sequence[str],
        *,
        source: str,
        target: str,
        on_progress: OnProgress | None = None,
        should_stop: ShouldStop = never,
    ) -> list[Translation]:
        """Translates texts into one language; see :meth:`stream`.

        Returns:
            One translation for each text, in order.
        """
        stream = self.stream(texts, source=source, targets=(target,), on_progress=on_progress, should_stop=should_stop)
        return [row[target] for row in stream]

    def stream(
        self,
        texts: Iterable[str],
        *,
        source: str,
        targets: Sequence[str],
        on_progress: OnProgress | None = None,
        should_stop: ShouldStop = never,
    ) -> Iterator[dict[str, Translation]]:
        """Translates texts into several languages, which share the reading of each sentence.

        With a memory, what is held at once does not grow with the number of texts.

        Args:
            texts: Texts in the source language. One without words comes back as it is, and no engine sees it.
            source: NLLB code of their language.
            targets: NLLB codes to translate into.
            on_progress: Called when texts are split, and after each batch.
            should_stop: Looked at after each batch, when the memory has it.

        Yields:
            The translations of each text by language, in the order of the texts.

        Raises:
            UserError: The engine does not know a language, or fails for good.
            Stopped: It was asked to stop.
        """
        # An engine checks the languages when it is asked, even for nothing.
        for _ in self.engine.translate([], source=source, targets=targets):
            pass
        for window in _windows(texts, WINDOW if self.memory else None):
            report = on_progress or (lambda step: None)
            yield from self._translate_window(window, source, tuple(targets), report, should_stop)

    def fill(
        self,
        texts: Iterable[str],
        *,
        source: str,
        targets: Sequence[str],
        on_progress: OnProgress | None = None,
        should_stop: ShouldStop = never,
    ) -> None:
        """Translates texts for the memory alone; arguments as in :meth:`stream`."""
        for _ in self.stream(texts, source=source, targets=targets, on_progress=on_progress, should_stop=should_stop):
            pass

    def _translate_window(
        self,
        texts: Sequence[str],
        source: str,
        targets: tuple[str, ...],
        report: OnProgress,
        should_stop: ShouldStop,
    ) -> Iterator[dict[str, Translation]]:
        split = self._split(texts, source)
        progress = _Progress(split, targets, report)
        known: Known = {target: {} for target in targets}
        sentences = list(dict.fromkeys(sentence for parts in split for sentence in parts.sentences))
        self._complete(dict.fromkeys(targets, sentences), source, known, progress.done, should_stop)
        self._mark_refusals(known, source)
        repaired = {} if self.engine.whole_texts else self._repair(source, known, should_stop)
        progress.end()
        for parts in split:
            yield {target: _assemble(parts, known[target], repaired.get(target, {}), target) for target in targets}

    def _split(self, texts: Sequence[str], source: str) -> list[SplitText]:
        if self.engine.whole_texts:
            return [SplitText((text,), ("", "")) if has_sentences(text) else SplitText((), (text,)) for text in texts]
        return [self._split_long(parts, source) for parts in split_texts(texts, source)]

    def _split_long(self, parts: SplitText, source: str) -> SplitText:
        limit = self.engine.longest_sentence

        def fits(sentence: str) -> bool:
            # No tokenizer makes more tokens than bytes, besides the language and the end.
            if limit is None or len(sentence.encode("utf-8", "surrogatepass")) + 2 <= limit:
                return True
            return self.engine.lengths([sentence], source=source)[0] <= limit

        if all(map(fits, parts.sentences)):
            return parts
        sentences: list[str] = []
        separators = [parts.separators[0]]
        for sentence, separator in zip(parts.sentences, parts.separators[1:], strict=True):
            clauses = split_clauses(sentence, fits).without_wordless()
            separators[-1] += clauses.separators[0]
            sentences += clauses.sentences
            separators += clauses.separators[1:]
            separators[-1] += separator
        return SplitText(tuple(sentences), tuple(separators))

    def _complete(
        self,
        wanted: Mapping[str, Sequence[str]],
        source: str,
        known: Known,
        done: Callable[[str, Batch, bool], None],
        should_stop: ShouldStop,
    ) -> None:
        """Adds to ``known`` the translations of distinct sentences by language, from the memory or the engine.

        Languages that want the same sentence share the reading of it.
        """
        missing: dict[str, list[str]] = {}
        for target, sentences in wanted.items():
            if self.memory:
                known[target].update(self.memory.lookup(sentences, source=source, target=target))
            done(target, known[target], True)
            for sentence in sentences:
                if sentence not in known[target]:
                    missing.setdefault(sentence, []).append(target)
        # After a kill some languages may be further than others.
        groups: dict[tuple[str, ...], list[str]] = {}
        for sentence, languages in missing.items():
            groups.setdefault(tuple(languages), []).append(sentence)
        for group, members in groups.items():
            for target, batch in self.engine.translate(members, source=source, targets=group):
                if self.memory:
                    self.memory.store(batch, source=source, target=target)
                known[target].update(batch)
                done(target, batch, False)
                stop_if(should_stop)

    def _mark_refusals(self, known: Known, source: str) -> None:
        for target, batch in known.items():
            given = {sentence: row for sentence, row in batch.items() if row.text and row.refusal is None}
            for sentence, reason in self.engine.refusals(given, source=source, target=target).items():
                batch[sentence] = replace(batch[sentence], text="", finished=False, refusal=reason)

    def _repair(self, source: str, known: Known, should_stop: ShouldStop) -> Known:
        """Translates sentences that lost a protected part in pieces around it, and puts the part itself between.

        Returns:
            The repaired translations by language; a number that was lost is not repaired.
        """
        pieces = {
            target: {
                sentence: _pieces(sentence)
                for sentence, row in batch.items()
                if row.refusal is None and set(lost_kinds(sentence, row.text)) - {"number"}
            }
            for target, batch in known.items()
        }
        words = {
            target: list(dict.fromkeys(text for parts in broken.values() for kept, text in parts if not kept))
            for target, broken in pieces.items()
            if broken
        }
        own: Known = {target: {} for target in words}
        self._complete(words, source, own, lambda target, batch, remembered: None, should_stop)
        self._mark_refusals(own, source)
        return {
            target: {sentence: _join(parts, own[target], known[target][sentence]) for sentence, parts in broken.items()}
            for target, broken in pieces.items()
        }


def _pieces(sentence: str) -> list[tuple[bool, str]]:
    """Protected parts, white space and whatever has no words (True), and the words between (False)."""
    pieces: list[tuple[bool, str]] = []
    for kept, text in around_spans(sentence):
        core = text.strip()
        if kept or not has_words(core):
            pieces.append((True, text))
            continue
        start = text.index(core)
        pieces += [(True, text[:start]), (False, core), (True, text[start + len(core) :])]
    return pieces


def _join(pieces: Sequence[tuple[bool, str]], done: Batch, whole: SentenceTranslation) -> SentenceTranslation:
    words = [done[text] for kept, text in pieces if not kept]
    if any(row.refusal for row in words):
        # What was refused in pieces was translated as a whole, but for a protected part.
        return whole
    sums = [row.logprob_sum for row in words]
    return SentenceTranslation(
        text="".join(text if kept else done[text].text for kept, text in pieces),
        logprob_sum=sum(value for value in sums if value is not None) if None not in sums else None,
        tokens=sum(row.tokens for row in words),
        finished=all(row.finished for row in words) if words else whole.finished,
    )


def _windows(texts: Iterable[str], size: int | None) -> Iterator[list[str]]:
    remaining = iter(texts)
    while window := list(itertools.islice(remaining, size)):
        yield window


class _Progress:
    """Counts the sentences, and the texts that have all their sentences in all languages."""

    def __init__(self, split: Sequence[SplitText], targets: Sequence[str], report: OnProgress) -> None:
        self._report = report
        self._texts: dict[str, list[int]] = {}
        self._left: dict[int, int] = {}
        for index, parts in enumerate(split):
            distinct = dict.fromkeys(parts.sentences)
            for sentence in distinct:
                self._texts.setdefault(sentence, []).append(index)
            if distinct:
                self._left[index] = len(distinct) * len(targets)
        report(Step(texts=len(split) - len(self._left), split=len(split), planned=len(self._texts)))

    def done(self, target: str, batch: Batch, remembered: bool) -> None:
        if not batch:
            return
        before = len(self._left)
        for sentence in batch:
            for index in self._texts.get(sentence, ()):
                self._left[index] -= 1
                if not self._left[index]:
                    del self._left[index]
        tokens = 0 if remembered else sum(row.tokens for row in batch.values())
        self._report(Step(texts=before - len(self._left), target=target, sentences=len(batch), tokens=tokens))

    def end(self) -> None:
        """Texts without a translation are done too."""
        if self._left:
            self._report(Step(texts=len(self._left)))


def _assemble(parts: SplitText, known: Batch, repaired: Batch, target: str) -> Translation:
    told = [repaired.get(sentence) or known.get(sentence) for sentence in parts.sentences]
    rows = [None if row is None or row.refusal else row for row in told]
    found = [row for row in rows if row is not None]
    sums = tuple(row.logprob_sum if row else None for row in rows)
    tokens = sum(row.tokens for row in found)
    text = parts.rejoin([row.text for row in found], target=target) if len(found) == len(rows) else ""
    lost = (lost_kinds(sentence, row.text) for sentence, row in zip(parts.sentences, rows, strict=True) if row)
    return Translation(
        text=text,
        logprob=None if None in sums else sum(filter(None, sums)) / tokens if tokens else 0.0,
        finished=len(found) == len(rows) and all(row.finished for row in found),
        sentences_in=len(rows),
        sentences_out=sum(bool(row.text) for row in found),
        logprobs=sums,
        lost=tuple(sorted(set(itertools.chain.from_iterable(lost)))),
        repaired=sum(sentence in repaired for sentence in parts.sentences),
        refusal=next((row.refusal for row in told if row and row.refusal), None),
    )
