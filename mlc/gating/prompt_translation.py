"""Prompts as gates read them: in the language of the gate, by a checkpoint of NLLB beside it, and in their sentences.

This file is also part of every registered model whose gate reads translations or sentences, so that it needs torch,
transformers and sentencex, and nothing of this project.
"""

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

TRANSLATOR_FOLDER = "translator"
"""In a checkpoint, beside the gate: the checkpoint that translates for it."""
BATCH = 32
"""Sentences in a forward pass."""
LONGEST = 256
"""Tokens of the longest translation of a sentence."""
LONGEST_SENTENCE = 128
"""Tokens of the longest sentence that is read as one, so that its translation has room: what is cut off is not
read."""
CERTAIN = 0.9
"""Probability from which a sentence is taken to be in another language than its text: docs/log.md, 2026-11-27."""
_BOUNDS = tuple(map(re.compile, (r"(?<=[;:,،؛—–])\s+|(?<=[、，；：])", r"\s+")))
_WIDE_SPACE = re.compile(r"[^\S \n]")


def sentences_of(text: str, rules: str) -> list[list[str]]:
    """The sentences of each line of a text.

    Args:
        text: The text.
        rules: Language whose rules split sentences, as sentencex names it.
    """
    from sentencex import segment

    # sentencex 1.0.32 panics at a wide space before a full stop.
    lines = _WIDE_SPACE.sub(" ", text).split("\n")
    split = (segment(rules, line) if line.strip() else [] for line in lines)
    return [[part.strip() for part in line if part.strip()] for line in split]


def parts_of(text: str, rules: str, most: int) -> list[str]:
    """The sentences of a text, neighbours together where there are too many.

    Args:
        text: The text.
        rules: As in :func:`sentences_of`.
        most: Parts at most, at least 1; they then hold as many sentences as each other, or one more.
    """
    sentences = [sentence for line in sentences_of(text, rules) for sentence in line]
    count = min(len(sentences), most)
    ends = [number * len(sentences) // count for number in range(count + 1)] if sentences else []
    return [" ".join(sentences[start:end]) for start, end in pairwise(ends)]


def _nothing_certain(sentences: Sequence[str]) -> list[tuple[str | None, float]]:
    return [(None, 0.0)] * len(sentences)


class PromptTranslator:
    """Translates what people write, sentence by sentence and greedily, so that it comes out the same each time.

    Args:
        folder: A checkpoint of NLLB, with its tokenizer.
        target: NLLB code of the language to translate into.
        segmenters: By NLLB code, the language whose rules split its sentences, as sentencex names it.
        device: Where to compute.

    Raises:
        OSError: There is no checkpoint.
        ValueError: The checkpoint, or ``segmenters``, does not know the target.
    """

    def __init__(self, folder: str | Path, *, target: str, segmenters: Mapping[str, str], device: Any = "cpu") -> None:
        import torch
        from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

        safe = {"trust_remote_code": False, "local_files_only": True}
        self.tokenizer = AutoTokenizer.from_pretrained(folder, **safe)
        dtype = torch.float32 if str(device) == "cpu" else torch.float16
        model = AutoModelForSeq2SeqLM.from_pretrained(folder, use_safetensors=True, dtype=dtype, **safe)
        self.model = model.to(device).eval()
        if target not in segmenters or target not in self.tokenizer.get_vocab():
            raise ValueError(f"The translator does not know {target!r}, or segmenters lacks it: name another target.")
        self.target_code = target
        self.target = self.tokenizer.convert_tokens_to_ids(target)
        self.segmenters = dict(segmenters)
        known = set(self.tokenizer.all_special_tokens)
        self.languages = frozenset(code for code in segmenters if code in known)
        """NLLB codes of the languages that it translates; texts in others stay as they are."""
        # The tokenizer is told the language of what it reads, and servers ask in several threads.
        self._one_language = threading.Lock()

    def translate(
        self,
        texts: Sequence[str],
        languages: Sequence[str | None],
        identify: Callable[[Sequence[str]], Sequence[tuple[str | None, float]]] = _nothing_certain,
    ) -> list[str]:
        """Texts in the target language, lines and order kept; one of which nothing is translated stays as it is.

        Args:
            texts: [N]
            languages: [N] NLLB code of the language of each; None for one that is not known.
            identify: Gives NLLB code and probability of the language of each sentence. One that is surely in another
                language than its text is read in its own: who writes a sentence of Swahili among English ones is
                understood too.

        Raises:
            ValueError: There are not as many languages as texts.
        """
        if isinstance(texts, str) or len(texts) != len(languages):
            raise ValueError(f"{len(languages)} languages are given, one for each of a list of texts: give as many.")
        split = [self._lines(text, code) for text, code in zip(texts, languages, strict=True)]
        spoken = [
            (place, part, code)
            for place, (code, lines) in enumerate(zip(languages, split, strict=True))
            for line in lines
            for part in line
        ]
        found = identify([part for _, part, _ in spoken])
        read = {
            (place, part): own if sure >= CERTAIN and own is not None else code
            for (place, part, code), (own, sure) in zip(spoken, found, strict=True)
        }
        known: dict[tuple[int, str], str] = {}
        for code in sorted(self.languages.intersection(filter(None, read.values())) - {self.target_code}):
            own_places = [where for where, own in read.items() if own == code]
            known |= zip(own_places, self._translated([part for _, part in own_places], code), strict=True)
        touched = {place for place, _ in known}
        return [
            "\n".join(" ".join(known.get((place, part), part) for part in line) for line in lines)
            if place in touched
            else text
            for place, (text, lines) in enumerate(zip(texts, split, strict=True))
        ]

    def _lines(self, text: str, code: str | None) -> list[list[str]]:
        """The sentences of each line; NLLB drops some where it is given several."""
        return sentences_of(text, self.segmenters.get(code or "") or self.segmenters[self.target_code])

    def _translated(self, sentences: Sequence[str], code: str) -> list[str]:
        """Translations of sentences in one language, long ones in parts."""
        parts = [self._parts(sentence) for sentence in sentences]
        distinct = list(dict.fromkeys(part for own in parts for part in own))
        known = dict(zip(distinct, self._sentences(distinct, code), strict=True))
        return [" ".join(known[part] for part in own) for own in parts]

    def _parts(self, sentence: str) -> list[str]:
        """A sentence, or its parts where it is too long: clauses where there are some, else words, else letters."""
        if len(sentence) < 2 or len(self._tokens([sentence])[0]) <= LONGEST_SENTENCE:
            return [sentence]
        middle = len(sentence) // 2
        for bound in _BOUNDS:
            ends = [match.end() for match in bound.finditer(sentence) if match.end() < len(sentence)]
            if ends:
                middle = min(ends, key=lambda end: abs(end - len(sentence) / 2))
                break
        halves = (sentence[:middle].strip(), sentence[middle:].strip())
        return [part for half in halves if half for part in self._parts(half)]

    def _tokens(self, sentences: Sequence[str]) -> list[list[int]]:
        with self._one_language:
            return list(self.tokenizer(list(sentences), add_special_tokens=False, verbose=False)["input_ids"])

    def _sentences(self, sentences: Sequence[str], code: str) -> list[str]:
        import torch

        order = sorted(range(len(sentences)), key=lambda place: len(sentences[place]))
        found = [""] * len(sentences)
        for start in range(0, len(order), BATCH):
            places = order[start : start + BATCH]
            with self._one_language:
                self.tokenizer.src_lang = code
                inputs = self.tokenizer(
                    [sentences[place] for place in places],
                    return_tensors="pt",
                    padding=True,
                )
            with torch.inference_mode():
                output = self.model.generate(
                    input_ids=inputs["input_ids"].to(self.model.device),
                    attention_mask=inputs["attention_mask"].to(self.model.device),
                    forced_bos_token_id=self.target,
                    max_new_tokens=LONGEST,
                    max_length=None,
                    num_beams=1,
                    do_sample=False,
                )
            for place, text in zip(places, self.tokenizer.batch_decode(output, skip_special_tokens=True), strict=True):
                found[place] = text
        return found
