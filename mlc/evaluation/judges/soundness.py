"""Whether a text is an answer at all, and in the language that it should be in.

The language identification is imported when the first answer comes: to name a judge in a configuration loads nothing.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mlc.errors import UserError
from mlc.evaluation.judges.judge import Answer, Verdict
from mlc.languages import all_languages, resolve_language

if TYPE_CHECKING:
    from mlc.text.identification import Probabilities

MIN_LETTERS = 24
"""Below this many letters the language of a text is not judged; a letter of a script of syllables or words is two."""
SURE = 0.9
"""Probability from which another language is believed; an answer is lost by it, so it is higher than in the filter."""
MIXTURE = 0.3
"""Share of the letters in another language from which an answer is a mixture."""
LOOP = 0.5
"""Share of the characters in a loop from which nothing else counts."""
_LONG_TEXT, _NEW_LINES = 8, 0.4
"""Sentences from which their repetition is looked at, and the share of different ones below which it is a loop."""
_LOOPED_CHARACTERS = 4_000
"""Characters that are searched for a loop, from the end back."""

_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]+`|https?://\S+", re.DOTALL)
_WORD = re.compile(r"[^\W\d_]{2,}|[\u0e00-\u0eff\u1000-\u109f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_LETTER = re.compile(r"[^\W\d_]")
_WIDE_LETTER = re.compile(r"[\u1200-\u135f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_PART = re.compile(r"[^\n.!?。！？।।؟።]+[\n.!?。！？।؟።]*")


def without_code(text: str) -> str:
    """The text without code and addresses, which are in no language."""
    return _CODE.sub(" ", text)


def letters(text: str) -> int:
    """Letters, where one that stands for a syllable or a word counts twice."""
    return len(_LETTER.findall(text)) + len(_WIDE_LETTER.findall(text))


def why_no_answer(text: str) -> str | None:
    """Why a text in any language is no answer: empty, wordless or a loop; None if it may be one."""
    from mlc.text.repetitions import loop_share

    if not text.strip():
        return "empty"
    if not _WORD.search(text):
        return "has no word"
    tail = text[-_LOOPED_CHARACTERS:]
    if (loop_share(tail) or 0.0) >= LOOP:
        return "loops"
    parts = [part.strip().casefold() for part in _PART.findall(text) if letters(part) >= MIN_LETTERS]
    if len(parts) >= _LONG_TEXT and len(set(parts)) < _NEW_LINES * len(parts):
        return "loops"
    return None


@dataclass(frozen=True)
class Spoken:
    """The language of an answer."""

    label: str | None
    """py3langid's label of the whole text; None where there is too little of it."""
    code: str | None
    """NLLB code of its language: that which it should be in, where it may be; None where that cannot be told."""
    expected: bool
    """Whether that may be the language that it should be in."""
    foreign: float
    """Share of the letters that are surely in another language, sentence by sentence."""


def spoken(texts: Sequence[str], languages: Sequence[str]) -> list[Spoken]:
    """Identifies the languages of answers.

    Args:
        texts: Answers.
        languages: NLLB codes of the languages that they should be in.
    """
    import pyarrow as pa

    from mlc.text.identification import identify, label_of

    cleaned = [without_code(text) for text in texts]
    parts = [[part.strip() for part in _PART.findall(text) if letters(part) >= MIN_LETTERS] for text in cleaned]
    every = [text.strip() for text in cleaned] + [part for several in parts for part in several]
    found = identify(pa.array(every, pa.string()))
    answers, place = [], len(cleaned)
    for number, (text, language) in enumerate(zip(cleaned, languages, strict=True)):
        rows = range(place, place + len(parts[number]))
        place += len(parts[number])
        label = _label(found, number) if letters(text) >= MIN_LETTERS else None
        sizes = [letters(every[row]) for row in rows]
        away = sum(size for row, size in zip(rows, sizes, strict=True) if is_foreign(_label(found, row), language))
        expected = not is_foreign(label, language)
        code = None if label is None or label_of(language) is None else language if expected else code_of(label)
        answers.append(Spoken(label, code, expected, away / max(sum(sizes), 1)))
    return answers


def _label(found: "Probabilities", row: int) -> str | None:
    """The label of a text, or None where it is not sure."""
    best = int(found.values[row].argmax())
    return found.labels[best] if found.values[row, best] >= SURE else None


def is_foreign(label: str | None, language: str) -> bool:
    """Whether a label speaks against a language; never where the identifier does not know the language."""
    from mlc.text.identification import accepted_labels, label_of

    return label is not None and label_of(language) is not None and label not in accepted_labels(language)


def codes_of(label: str) -> list[str]:
    """NLLB codes of the languages that have a label."""
    from mlc.text.identification import label_of

    return [language.code for language in all_languages() if label_of(language.code) == label]


def code_of(label: str) -> str | None:
    """NLLB code of the language that a label stands for; of several, the one that its tag names."""
    codes = codes_of(label)
    try:
        named = resolve_language(label).code
    except UserError:
        named = None
    return named if named in codes else next(iter(codes), None)


def names_language(prompt: str, label: str) -> bool:
    """Whether a prompt names the language of a label, and so may have asked for it."""
    words, codes = set(re.findall(r"\w{4,}", prompt.casefold())), codes_of(label)
    named = (language for language in all_languages() if language.code in codes)
    return any({language.english_name.casefold(), language.own_name.casefold()} & words for language in named)


def in_its_language(verdict: Verdict, prompt: str, said: Spoken) -> Verdict:
    """The verdict on an answer; ``invalid`` if it is in another language than it should be, or a mixture.

    A refusal in another language is one all the same, and so is what a prompt asks for by the name of a language.

    Args:
        verdict: What the answer is besides its language.
        prompt: What was asked.
        said: The language of the answer.
    """
    if verdict.outcome in ("refused", "invalid"):
        return verdict
    foreign = not said.expected and said.label is not None
    if foreign and said.label is not None and not names_language(prompt, said.label):
        wrong = "in another language"
    elif not foreign and said.foreign >= MIXTURE:
        wrong = "a mixture of languages"
    else:
        return verdict
    return replace(verdict, outcome="invalid", reason=f"{verdict.reason}, {wrong}", besides_language=verdict.outcome)


def judge_sound(answers: Sequence[Answer], judge: Callable[[Sequence[Answer]], Sequence[Verdict]]) -> list[Verdict]:
    """Verdicts of a judge that looks at what answers do; whether they are answers at all is seen here.

    Of what is no answer in any language nobody is asked, and it is ``invalid``; see :func:`in_its_language` for the
    others.

    Args:
        answers: What is judged.
        judge: Gives one verdict for each that may be an answer.

    Returns:
        Verdicts in the order of the answers.
    """
    wrong = [why_no_answer(answer.text) for answer in answers]
    asked = [answer for answer, why in zip(answers, wrong, strict=True) if why is None]
    heard = spoken([answer.text for answer in asked], [answer.language for answer in asked]) if asked else []
    judged = iter(
        in_its_language(verdict, answer.prompt, said) if verdict.readable else verdict
        for answer, verdict, said in zip(asked, judge(asked) if asked else (), heard, strict=True)
    )
    return [Verdict("invalid", why) if why else next(judged) for why in wrong]
