"""Code-mixed prompts: parts of a prompt in several of the languages that a suite has it in.

After Multilingual Blending (Song et al. 2024, arXiv 2407.07342), which translates token by token into random languages
and keeps what a back-translation confirms. Here nothing is translated: the suite's own parallel texts are cut into
as many parts each, and each part is taken from one of them. Order of words differs between languages, so that a part
may be there twice or not at all; sentences, where a prompt has several in all of its languages, are cut nowhere.
"""

import random
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import replace

from mlc.errors import UserError
from mlc.evaluation.judges.judge import Answer, Judge, Verdict, ask
from mlc.evaluation.judges.phrases import UNSPACED_SCRIPTS
from mlc.evaluation.judges.soundness import is_foreign, spoken
from mlc.evaluation.suites.loading import LoadedSuite, SuitePrompt, first_prompts
from mlc.languages import ENGLISH

MIXED = "mixed"
"""Stands where the code of a language stands, for prompts in several."""
SEED = 0
TOO_SHORT = "prompts that are too short, or in too few languages, to be mixed"
_WORDS_A_PART = 3
_SENTENCE = re.compile(r"[^.!?。！？।؟።]+[.!?。！？।؟።]+\s*|[^.!?。！？।؟።]+$")


def mix_suite(suite: LoadedSuite, count: int, *, seed: int = SEED) -> LoadedSuite:
    """Adds code-mixed prompts to a suite, as if in a language of their own.

    Args:
        suite: The prompts, in the languages that are to be mixed.
        count: How many mixed prompts, the first ones, half of them harmful; all that can be mixed if there are fewer.
        seed: Decides which part is in which language; a prompt is mixed the same whatever others there are.

    Returns:
        The suite with prompts in :data:`MIXED`; its version, too, names the languages that are mixed.

    Raises:
        UserError: No prompt of the suite can be mixed.
    """
    texts: dict[str, dict[str, str]] = {}
    facts: dict[str, SuitePrompt] = {}
    for code, own in suite.prompts.items():
        for one in own:
            texts.setdefault(one.id, {})[code] = one.prompt
            facts.setdefault(one.id, one)
    mixed = {name: mix(found, random.Random(f"{seed}:{name}")) for name, found in texts.items()}
    made = [replace(facts[name], prompt=text) for name, text in mixed.items() if text is not None]
    if not made:
        raise UserError(
            f"No prompt of the suite {suite.name!r} can be mixed in {', '.join(suite.prompts)}: take a suite whose "
            "prompts are there in two or more of the languages."
        )
    aside = dict(suite.set_aside)
    if len(made) < len(mixed):
        aside[TOO_SHORT] = len(mixed) - len(made)
    return replace(
        suite,
        version=f"{suite.version}, mixed of {' '.join(suite.prompts)}",
        prompts={**suite.prompts, MIXED: first_prompts(made, count)},
        set_aside=aside,
        mixed_of=tuple(suite.prompts),
    )


def mix(texts: Mapping[str, str], chance: random.Random) -> str | None:
    """One prompt whose parts alternate between its languages.

    Args:
        texts: The prompt by NLLB code.
        chance: Decides the order of the languages.

    Returns:
        None where it would not be in two languages.
    """
    codes = sorted(texts)
    chance.shuffle(codes)
    if len(codes) < 2:
        return None
    units = {code: _SENTENCE.findall(texts[code]) for code in codes}
    parts = len(units[codes[0]])
    if parts < 2 or any(len(own) != parts for own in units.values()):
        units = {code: _words(texts[code], code) for code in codes}
        parts = max(2, min(map(len, units.values())) // _WORDS_A_PART)
    taken = []
    for place in range(parts):
        code = codes[place % len(codes)]
        own = units[code]
        piece = "".join(own[place * len(own) // parts : (place + 1) * len(own) // parts]).strip()
        if piece:
            taken.append((code, piece))
    mixed = " ".join(piece for _, piece in taken)
    # Languages may share what stands in a part, such as a name.
    return mixed if len({code for code, _ in taken}) > 1 and mixed not in texts.values() else None


def _words(text: str, code: str) -> list[str]:
    """Words with the spaces behind them; letters with their marks where a script writes no spaces."""
    if code.rpartition("_")[2] not in UNSPACED_SCRIPTS:
        return re.findall(r"\S+\s*", text)
    letters: list[str] = []
    for letter in text:
        if letters and (unicodedata.category(letter).startswith("M") or letter.isspace()):
            letters[-1] += letter
        else:
            letters.append(letter)
    return letters


def read_in(answers: Sequence[str], pool: Sequence[str]) -> list[list[str]]:
    """The languages in which each answer to a mixed prompt may be read: those of the mixture that it may be in.

    So an answer in any language of the mixture is in its language, and one in another language is not. A short answer
    may be in any of them, because its language cannot be told.

    Args:
        answers: Texts.
        pool: NLLB codes of the mixture.

    Returns:
        Of each at least one language, English first; English, or else the first of the pool, where it is in none.
    """
    fallback = ENGLISH if ENGLISH in pool else pool[0]
    order = [fallback, *(code for code in pool if code != fallback)]
    heard = spoken(answers, [fallback] * len(answers))
    return [[code for code in order if not is_foreign(said.label, code)] or [fallback] for said in heard]


def ask_mixed(judge: Judge, answers: Sequence[Answer], pool: Sequence[str]) -> list[Verdict | None]:
    """Verdicts on answers to mixed prompts, by the languages of :func:`read_in`.

    Args:
        judge: Asked about each answer in each language that it may be in.
        answers: In any language.
        pool: NLLB codes of the mixture.

    Returns:
        Of each the first verdict that it refuses, because nobody else knows the phrases of a language, else the first
        verdict; None where the judge declares none of the languages.
    """
    several = read_in([answer.text for answer in answers], pool)
    readings = [
        (place, replace(answer, language=code))
        for place, (answer, codes) in enumerate(zip(answers, several, strict=True))
        for code in codes
    ]
    found: list[Verdict | None] = [None] * len(answers)
    verdicts = ask(judge, [answer for _, answer in readings])
    for (place, _), verdict in zip(readings, verdicts, strict=True):
        before = found[place]
        if verdict and (before is None or (verdict.outcome == "refused" != before.outcome)):
            found[place] = verdict
    return found
