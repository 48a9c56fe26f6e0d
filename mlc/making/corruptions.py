"""Damages clean translations in known ways, to see what a filter finds.

Each kind takes a clean pair, makes it suitable first where it lacks what the damage needs (a second sentence, an
address), and returns the suitable pair with its damaged translation. Everything is drawn from a seed, the kind, the
language and the row, so that the same corpus gives the same damage in any order.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random
from string import ascii_uppercase

import pyarrow as pa

from mlc.languages import ENGLISH
from mlc.making.length_table import visible_length

UNSPACED_SCRIPTS = frozenset({"Hans", "Hant", "Jpan", "Thai", "Laoo", "Khmr", "Mymr", "Tibt"})
"""Scripts that put no space between sentences or words."""

BOILERPLATES = 3
"""Different boilerplate texts in a language."""

_ENDED = re.compile(r"[.!?…。！？।؟۔][\"'”’»)]*$")
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class Corpus:
    """English sentences and their clean translations, aligned by row."""

    sources: Sequence[str]
    translations: Mapping[str, Sequence[str]]
    """By NLLB code; each as long as ``sources``."""

    def __post_init__(self) -> None:
        for code, texts in self.translations.items():
            if len(texts) != len(self.sources):
                raise ValueError(f"{code} has {len(texts)} translations of {len(self.sources)} sources.")

    def rows(self, start: int, step: int) -> "Corpus":
        """Returns every ``step``-th row from ``start`` on, so that thresholds and figures use different rows."""
        return Corpus(
            self.sources[start::step], {code: texts[start::step] for code, texts in self.translations.items()}
        )

    @cached_property
    def near_in_length(self) -> dict[str, list[int]]:
        """For each language and row another row whose translation is about as long, each used once."""
        return {code: _next_of([visible_length(text) for text in texts]) for code, texts in self.translations.items()}


@dataclass(frozen=True)
class Case:
    """A row of a corpus in one language, and the chance that belongs to it."""

    corpus: Corpus
    language: str
    row: int
    random: Random

    @property
    def source(self) -> str:
        return self.corpus.sources[self.row]

    @property
    def translation(self) -> str:
        return self.translation_of(self.row)

    @property
    def spaced(self) -> bool:
        return _script(self.language) not in UNSPACED_SCRIPTS

    def translation_of(self, row: int) -> str:
        """Returns the clean translation of another row."""
        return self.corpus.translations[self.language][row]

    def other_row(self) -> int:
        """Returns any other row."""
        count = len(self.corpus.sources)
        return (self.row + self.random.randrange(1, count)) % count

    def pieces(self, text: str) -> list[str]:
        """Splits a text into words, or into characters where the script has no spaces."""
        return text.split() if self.spaced else list(text)

    def together(self, pieces: Sequence[str]) -> str:
        """Puts pieces or sentences together again."""
        return (" " if self.spaced else "").join(pieces)


@dataclass(frozen=True)
class Damaged:
    """A clean pair and its damaged translation."""

    source: str
    clean: str
    translation: str | None


Damage = Callable[[Case], Damaged | None]
"""Damages a case; None where it cannot be made suitable."""


@dataclass(frozen=True)
class Corruption:
    """One kind of damage."""

    name: str
    meaning: str
    text_shows: bool
    """Whether the text alone can show it. What only the meaning shows has to be told by a model."""
    damage: Damage


def _same_pair(case: Case, translation: str | None) -> Damaged | None:
    if translation is not None and translation == case.translation:
        return None
    return Damaged(case.source, case.translation, translation)


def _source_copied(case: Case) -> Damaged | None:
    return _same_pair(case, case.source)


def _wrong_language(case: Case) -> Damaged | None:
    """In the same script where the corpus has such a language."""
    others = sorted(set(case.corpus.translations) - {case.language})
    akin = [code for code in others if _script(code) == _script(case.language)] or others
    return _same_pair(case, case.corpus.translations[case.random.choice(akin)][case.row])


def _wrong_script(case: Case) -> Damaged | None:
    others = sorted(code for code in case.corpus.translations if _script(code) != _script(case.language))
    return _same_pair(case, case.corpus.translations[case.random.choice(others)][case.row]) if others else None


def _half_cut(case: Case) -> Damaged | None:
    return _same_pair(case, case.translation[: len(case.translation) // 2])


def _two_sentences(case: Case, between: str | None = None) -> tuple[str, str, str, str] | None:
    """Returns source and translation of two rows put together, and the two translations."""
    second = (case.row + 1) % len(case.corpus.sources)
    texts = (case.source, case.corpus.sources[second], case.translation, case.translation_of(second))
    if not all(_ENDED.search(text.strip()) for text in texts):
        return None
    source = (between or " ").join(texts[:2])
    return source, between.join(texts[2:]) if between else case.together(texts[2:]), texts[2], texts[3]


def _sentence_dropped(case: Case) -> Damaged | None:
    joined = _two_sentences(case)
    return Damaged(joined[0], joined[1], case.random.choice(joined[2:])) if joined else None


def _lines_joined(case: Case) -> Damaged | None:
    joined = _two_sentences(case, between="\n")
    return Damaged(joined[0], joined[1], joined[1].replace("\n", " ")) if joined else None


def _looped_tail(case: Case) -> Damaged | None:
    tail = case.translation[-case.random.randint(4, 24) :]
    return _same_pair(case, case.translation + tail * case.random.randint(4, 10))


def _number_changed(case: Case) -> Damaged | None:
    """Only pairs that have the same number, in digits, on both sides."""
    wanted = {int(match[0]) for match in _NUMBER.finditer(case.source)}
    shared = [match for match in _NUMBER.finditer(case.translation) if int(match[0]) in wanted]
    if not shared:
        return None
    chosen = case.random.choice(shared)
    other = _other_number(chosen[0], case.random)
    return _same_pair(case, case.translation[: chosen.start()] + other + case.translation[chosen.end() :])


def _other_number(number: str, random: Random) -> str:
    """Another number of as many digits, in the same script, that does not differ by zeros at an end alone."""
    zero = ord(number[0]) - unicodedata.decimal(number[0])
    low = 10 ** (len(number) - 1) if len(number) > 1 else 1
    while True:
        other = str(random.randrange(low, 10 ** len(number)))
        if other.strip("0") != str(int(number)).strip("0"):
            return "".join(chr(zero + int(digit)) for digit in other)


def _with_mark(case: Case, mark: str, damaged: str) -> Damaged:
    """Puts a mark that must survive at the end of both sides, and what became of it at the end of the damaged one."""
    source, translation = case.source.rstrip(), case.translation.rstrip()
    return Damaged(f"{source} {mark}", f"{translation} {mark}", f"{translation} {damaged}".rstrip())


def _url_lost(case: Case) -> Damaged | None:
    letters = "".join(case.random.choices("abcdefghijklmnopqrstuvwxyz", k=6))
    url = f"https://www.example.org/{letters}"
    return _with_mark(case, url, case.random.choice(["", url[:-3]]))


def _placeholder_lost(case: Case) -> Damaged | None:
    mark, changed = case.random.choice(
        [("{name}", "{nombre}"), ("%(count)s", "%(total)s"), ("<b>", "<B >"), ("%s", "% s")]
    )
    return _with_mark(case, mark, case.random.choice(["", changed]))


def _mojibake(case: Case) -> Damaged | None:
    """UTF-8 read as Windows-1252; bytes that it lacks are read as Latin-1, as browsers do."""
    octets = case.translation.encode("utf-8")
    return _same_pair(case, "".join(_windows_character(octet) for octet in octets))


def _windows_character(octet: int) -> str:
    try:
        return bytes([octet]).decode("cp1252")
    except UnicodeDecodeError:
        return chr(octet)


def _control_characters(case: Case) -> Damaged | None:
    text = case.translation
    for _ in range(case.random.randint(1, 3)):
        position = case.random.randrange(len(text))
        text = text[:position] + case.random.choice("\x01\x07\x08\x1b\x7f\x9d\ufffd\ue000") + text[position:]
    return _same_pair(case, text)


def _boilerplate(case: Case) -> Damaged | None:
    """Without its first word, so that it is nobody's right translation."""
    rows = Random(case.language).sample(range(len(case.corpus.sources)), BOILERPLATES)
    return _same_pair(case, case.together(case.pieces(case.translation_of(case.random.choice(rows)))[1:]))


def _other_translation(case: Case) -> Damaged | None:
    return _same_pair(case, case.translation_of(case.corpus.near_in_length[case.language][case.row]))


def _pair_shuffled(case: Case) -> Damaged | None:
    # One shift for the whole language, so that no translation is used twice.
    count = len(case.corpus.sources)
    return _same_pair(case, case.translation_of((case.row + 1 + Random(case.language).randrange(count - 1)) % count))


def _caps_noise(case: Case) -> Damaged | None:
    noise = case.random.choices(ascii_uppercase, k=len(case.translation))
    return _same_pair(case, "".join(map(_in_place_of, case.translation, noise)))


def _letters_shuffled(case: Case) -> Damaged | None:
    letters = [character for character in case.translation if character.isalpha()]
    case.random.shuffle(letters)
    left = iter(letters)
    return _same_pair(case, "".join(next(left) if c.isalpha() else c for c in case.translation))


def _in_place_of(character: str, letter: str) -> str:
    return letter if unicodedata.category(character)[0] in "LM" else character


def _empty(case: Case) -> Damaged | None:
    return _same_pair(case, case.random.choice([None, "", "  ", "\u200b", "...", "\u3000\n"]))


def _tail_added(case: Case) -> Damaged | None:
    return _same_pair(case, case.together([case.translation, case.translation_of(case.other_row())]))


def _half_translated(case: Case) -> Damaged | None:
    """The second half stays in the source language."""
    left, right = case.pieces(case.translation), case.source.split()
    return _same_pair(case, case.together(left[: len(left) // 2]) + " " + " ".join(right[len(right) // 2 :]))


def _words_dropped(case: Case) -> Damaged | None:
    pieces = case.pieces(case.translation)
    return _same_pair(case, case.together([piece for piece in pieces if case.random.random() >= 0.3]))


def _words_shuffled(case: Case) -> Damaged | None:
    pieces = case.pieces(case.translation)
    case.random.shuffle(pieces)
    return _same_pair(case, case.together(pieces))


CORRUPTIONS: tuple[Corruption, ...] = (
    Corruption("source_copied", "The source, untranslated.", True, _source_copied),
    Corruption(
        "wrong_language", "The translation into another language, of the same script if any.", True, _wrong_language
    ),
    Corruption("wrong_script", "The translation into a language of another script.", True, _wrong_script),
    Corruption("half_cut", "The first half of the characters.", True, _half_cut),
    Corruption("sentence_dropped", "One of two sentences.", True, _sentence_dropped),
    Corruption("looped_tail", "The last 4 to 24 characters, 4 to 10 times more.", True, _looped_tail),
    Corruption("number_changed", "One number that both sides have, replaced by another.", True, _number_changed),
    Corruption("url_lost", "A URL that is gone or shortened.", True, _url_lost),
    Corruption("placeholder_lost", "A placeholder or tag that is gone or changed.", True, _placeholder_lost),
    Corruption("mojibake", "UTF-8 read as Windows-1252.", True, _mojibake),
    Corruption(
        "control_characters", "One to three control, replacement or private characters.", True, _control_characters
    ),
    Corruption("lines_joined", "Two lines made one.", True, _lines_joined),
    Corruption("boilerplate", "One of three texts, whatever the source.", True, _boilerplate),
    Corruption("caps_noise", "A random Latin capital for every letter.", True, _caps_noise),
    Corruption("empty", "Nothing, spaces, invisible characters, dots.", True, _empty),
    Corruption("pair_shuffled", "The translation of another row.", False, _pair_shuffled),
    Corruption(
        "other_translation", "The translation of another row, as long as the right one.", False, _other_translation
    ),
    Corruption("tail_added", "The right translation, and that of another row after it.", False, _tail_added),
    Corruption("half_translated", "The second half left in the source language.", False, _half_translated),
    Corruption("words_dropped", "Three words in ten left out.", False, _words_dropped),
    Corruption("words_shuffled", "The words in any order.", False, _words_shuffled),
    Corruption("letters_shuffled", "The letters in any order.", False, _letters_shuffled),
)
"""Every kind of damage."""

SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("source", pa.string()),
        ("translation", pa.string()),
        ("clean", pa.string()),
        ("source_language", pa.string()),
        ("target_language", pa.string()),
    ]
)


def corrupt(corruption: Corruption, corpus: Corpus, *, seed: int) -> pa.Table:
    """Damages every row of a corpus that the kind can be made suitable for.

    Args:
        corruption: The kind.
        corpus: Clean pairs.
        seed: Seed of everything that is drawn.

    Returns:
        ``row`` of the corpus, ``source``, ``translation`` (damaged), ``clean`` (of the suitable pair),
        ``source_language``, ``target_language``; languages in the order of the corpus.
    """
    rows = [
        (row, damaged.source, damaged.translation, damaged.clean, ENGLISH, language)
        for language in corpus.translations
        for row, damaged in _damaged_rows(corruption, corpus, language, seed)
    ]
    columns = list(zip(*rows, strict=True)) or [()] * len(SCHEMA)
    return pa.table(
        [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)], schema=SCHEMA
    )


def batches(
    corpus: Corpus, *, seed: int, around: Corpus | None = None, corruptions: Sequence[Corruption] = CORRUPTIONS
) -> Iterator[pa.Table]:
    """Mixes all kinds into batches as a filter would meet them.

    Some signals compare a row with the others of its batch, and a batch of nothing but cut translations would look
    as if translations were usually that short. So in each batch one half of the corpus is clean and the other half
    damaged, every row by one kind, and the kinds take turns. The halves do not mix: a text that was taken from
    another row would make that row look like a copy. Over all batches every row has had every kind, and its clean
    pair as made suitable for it.

    Args:
        corpus: Clean pairs to report on.
        seed: Seed of everything that is drawn.
        around: Clean pairs that are added to each batch, to be left out of the count.
        corruptions: The kinds.

    Returns:
        ``kind`` (``around`` for those pairs), ``row``, ``damaged`` (bool) and the required columns of the filter;
        twice as many batches as kinds.
    """
    halves = [_by_turn(corpus.rows(start, 2), seed, corruptions) for start in (0, 1)]
    added = [] if around is None else [_labelled("around", corrupt(_UNDAMAGED, around, seed=seed), damaged=False)]
    for turn in range(len(corruptions)):
        for clean, damaged in (halves, halves[::-1]):
            parts = [
                _labelled(kind, tables[turn], damaged=side is damaged)
                for side in (clean, damaged)
                for kind, tables in side.items()
            ]
            yield pa.concat_tables([*parts, *added])


def _by_turn(corpus: Corpus, seed: int, corruptions: Sequence[Corruption]) -> dict[str, list[pa.Table]]:
    """For each kind its damaged rows, divided over the turns so that a row has another kind in each."""
    count = len(corruptions)
    first = [Random(f"{seed} {row}").sample(range(count), count) for row in range(len(corpus.sources))]
    divided = {}
    for place, corruption in enumerate(corruptions):
        table = corrupt(corruption, corpus, seed=seed)
        turns = [first[row][place] for row in table["row"].to_pylist()]
        divided[corruption.name] = [
            table.filter(pa.array([turn == chosen for turn in turns], pa.bool_())) for chosen in range(count)
        ]
    return divided


def _labelled(kind: str, table: pa.Table, *, damaged: bool) -> pa.Table:
    pairs = (
        table if damaged else table.set_column(table.column_names.index("translation"), "translation", table["clean"])
    )
    return (
        pairs.drop_columns(["clean"])
        .add_column(0, "kind", pa.array([kind] * table.num_rows, pa.string()))
        .append_column("damaged", pa.array([damaged] * table.num_rows, pa.bool_()))
    )


_UNDAMAGED = Corruption(
    "undamaged", "The clean pair.", True, lambda case: Damaged(case.source, case.translation, case.translation)
)


def _damaged_rows(corruption: Corruption, corpus: Corpus, language: str, seed: int) -> Iterator[tuple[int, Damaged]]:
    for row, source in enumerate(corpus.sources):
        if not source.strip() or not corpus.translations[language][row].strip():
            continue
        case = Case(corpus, language, row, Random(f"{seed} {corruption.name} {language} {row}"))
        damaged = corruption.damage(case)
        if damaged is not None:
            yield row, damaged


def _script(code: str) -> str:
    return code.split("_")[1]


def _next_of(lengths: Sequence[int]) -> list[int]:
    """For each row the next one in order of length; the longest row gets the shortest."""
    order = sorted(range(len(lengths)), key=lambda row: (lengths[row], row))
    after = [0] * len(lengths)
    for row, following in zip(order, [*order[1:], order[0]], strict=True):
        after[row] = following
    return after
