"""Parallel sentences for the nano translator: random compositions of the grammar, some never shown in training."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mlc.languages import ENGLISH
from mlc.making.grammar import LANGUAGES, Grammar
from mlc.translation.sentences import split_sentences

TARGETS = tuple(language for language in LANGUAGES if language != ENGLISH)
ADJUNCT_SHARE = 0.6
OPENER_SHARE = 0.08
WHOLE_SHARE = 0.05
"""Of the compositions with several sentences, those that are learned as one piece and not sentence by sentence."""
FOLLOWING_SHARE = 0.3
"""Of the sentences without an action, those that are kept: there are few different ones."""

Pair = tuple[str, str]
"""Ids of a frame and an action."""


@dataclass(frozen=True)
class Composition:
    """One text of the grammar in every language."""

    wordings: dict[str, str]
    """By NLLB code."""

    def sentences(self) -> list["Composition"]:
        """Splits every wording into sentences, or nothing if the languages differ in their number."""
        split = {language: split_sentences(text, language).sentences for language, text in self.wordings.items()}
        if len({len(parts) for parts in split.values()}) > 1:
            return [self]
        count = len(split[ENGLISH])
        return [Composition({language: parts[index] for language, parts in split.items()}) for index in range(count)]


@dataclass(frozen=True)
class Corpus:
    """An endless source of training sentences, and the pairs that it never uses."""

    grammar: Grammar
    training_pairs: tuple[Pair, ...]
    held_out_pairs: tuple[Pair, ...]

    @classmethod
    def create(cls, grammar: Grammar, *, used: set[Pair], held_out_share: float, seed: int) -> "Corpus":
        """Divides all (frame, action) pairs.

        Args:
            grammar: The parts.
            used: Pairs of the quickstart prompts, held out.
            held_out_share: Share of all pairs that is held out besides.
            seed: Decides which.
        """
        pairs = [(frame, action) for frame in grammar.frames for action in grammar.actions]
        free = [pair for pair in pairs if pair not in used]
        more = set(random.Random(seed).sample(free, round(held_out_share * len(pairs))))
        return cls(
            grammar,
            training_pairs=tuple(pair for pair in free if pair not in more),
            held_out_pairs=tuple(pair for pair in pairs if pair in used or pair in more),
        )

    def training_stream(self, seed: int) -> Iterator[Composition]:
        """Yields sentences of random compositions of training pairs without end.

        The engine translates sentence by sentence, so the model must know sentences; some compositions come whole.
        """
        randomness = random.Random(seed)
        while True:
            pairs = list(self.training_pairs)
            randomness.shuffle(pairs)
            for pair in pairs:
                whole = self._compose(pair, OPENER_SHARE, randomness)
                if randomness.random() < WHOLE_SHARE:
                    yield whole
                    continue
                phrase = self.grammar.actions[pair[1]].forms[ENGLISH]
                for sentence in whole.sentences():
                    if phrase in sentence.wordings[ENGLISH] or randomness.random() < FOLLOWING_SHARE:
                        yield sentence

    def unseen(self, count: int, seed: int) -> list[Composition]:
        """Returns compositions of held-out pairs, with one as often as training had, each pair once while they last."""
        randomness = random.Random(seed)
        pairs = list(self.held_out_pairs)
        randomness.shuffle(pairs)
        return [self._compose(pairs[index % len(pairs)], OPENER_SHARE, randomness) for index in range(count)]

    def _compose(self, pair: Pair, opener_share: float, randomness: random.Random) -> Composition:
        frame, action = pair
        adjunct = randomness.choice(list(self.grammar.adjuncts)) if randomness.random() < ADJUNCT_SHARE else None
        opener = randomness.choice(list(self.grammar.openers)) if randomness.random() < opener_share else None
        return Composition(
            {
                language: self.grammar.compose(language, frame=frame, action=action, adjunct=adjunct, opener=opener)
                for language in LANGUAGES
            }
        )


def vocabulary_sentences(corpus: Corpus, count: int, seed: int) -> list[str]:
    """Returns every part of the grammar and ``count`` training compositions, in all languages.

    The parts are there so that a word which only held-out pairs contain still has its characters in the vocabulary.
    """
    grammar = corpus.grammar
    parts: Sequence[str] = [
        forms[language]
        for group in (
            [action.forms for action in grammar.actions.values()],
            grammar.frames.values(),
            grammar.adjuncts.values(),
            grammar.openers.values(),
        )
        for forms in group
        for language in LANGUAGES
    ]
    stream = corpus.training_stream(seed)
    composed = [wording for _ in range(count) for wording in next(stream).wordings.values()]
    return [*parts, *composed]
