"""Texts that are there twice: word for word, but for how they are written, or nearly.

Nearly is a Jaccard similarity of their runs of five characters of at least :data:`NEAR`. Pairs that may be that similar
are found by MinHash signatures that are cut into bands (Broder, 1997; Leskovec, Rajaraman, Ullman: Mining of Massive
Datasets, chapter 3), and each of them is then measured exactly. Of two texts as similar as :data:`NEAR`, 99.8 % meet in
a band. Time grows with the number of texts, and memory by about 200 bytes a text beside the texts themselves.
"""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mlc.shapes.labels import LABELS

Kind = Literal["exact", "normalized", "near"]
"""The same text, the same but for :func:`normalized`, or one that is about as long and says about the same."""
KINDS: tuple[Kind, ...] = ("exact", "normalized", "near")
NEAR = 0.8
"""Similarity from which two texts count as nearly the same, 0 to 1."""
MOST_COMPARED = 64
"""With how many known texts one is compared at most, those first that share most bands with it."""

_RUN = 5
_BANDS, _IN_BAND = 16, 5
_CHUNK = 2_000
_NO_LETTER = re.compile(r"[\W_]+")
_LATIN_MARKS = range(0x300, 0x370)
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Repeat:
    """A text that is there already."""

    place: int
    """Of the text."""
    of: int
    """Place of the one that it repeats."""
    kind: Kind
    similarity: float
    """Between :data:`NEAR` and 1."""


def normalized(text: str) -> str:
    """A text without what a copy may change: capitals, accents, punctuation, white space and forms of characters.

    Vowel signs of scripts that write them as marks stay, since words differ by them. A text that has no letter and no
    digit stays as it is.
    """
    if text.isascii():
        return _NO_LETTER.sub("", text.casefold()) or text
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold())
    return "".join(filter(_counts, folded)) or text


def repeats_within(texts: Sequence[str]) -> list[Repeat]:
    """Texts that repeat one before them, in order.

    Of texts that meet in a band, each is compared with the first and with the one right before it, so that a large
    family of like texts costs no more than others; near repeats are therefore at least as many as are found.
    """
    if not texts:
        return []
    forms = [normalized(text) for text in texts]
    found = _equal(texts, forms, _first_places(texts), _first_places(forms))
    for band in _signatures(forms).T:
        order, ranked = _sorted(band)
        new = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
        first = np.repeat(order[new], np.diff(np.r_[new, len(order)]))
        later = np.flatnonzero(first != order)
        for place, *others in zip(order[later].tolist(), first[later].tolist(), order[later - 1].tolist(), strict=True):
            if place not in found and (repeat := _nearest(place, set(others), forms, forms)):
                found[place] = repeat
    return [found[place] for place in sorted(found)]


def repeats_of(texts: Sequence[str], known: Sequence[str]) -> list[Repeat]:
    """Texts that repeat a known one, in order, each with the most similar one.

    Args:
        texts: Texts; ``place`` counts in them.
        known: Other texts; ``of`` counts in them.
    """
    forms, known_forms = [normalized(text) for text in texts], [normalized(text) for text in known]
    places = _first_places(known), _first_places(known_forms)
    found = _equal(texts, forms, *places, within=False)
    known_bands = [_sorted(band) for band in _signatures(known_forms).T]
    for start in range(0, len(forms), _CHUNK):
        met: dict[int, Counter[int]] = {}
        for band, (order, ranked) in zip(_signatures(forms[start : start + _CHUNK]).T, known_bands, strict=True):
            begins, ends = np.searchsorted(ranked, band), np.searchsorted(ranked, band, side="right")
            for row in np.flatnonzero(ends > begins).tolist():
                if start + row not in found:
                    others = order[begins[row] : min(ends[row], begins[row] + MOST_COMPARED)]
                    met.setdefault(start + row, Counter()).update(others.tolist())
        for place, counts in met.items():
            others = {of for of, _ in counts.most_common(MOST_COMPARED)}
            if repeat := _nearest(place, others, forms, known_forms):
                found[place] = repeat
    return [found[place] for place in sorted(found)]


def kinds_in(repeats: Sequence[Repeat]) -> dict[str, int]:
    """How many there are of each kind."""
    counts = Counter(repeat.kind for repeat in repeats)
    return {kind: counts[kind] for kind in KINDS}


def with_both_labels(repeats: Sequence[Repeat], labels: Sequence[str | None], known: Sequence[str | None] = ()) -> int:
    """How many texts have one label at one place and another at another; near repeats say something else, and may.

    Args:
        repeats: Of :func:`repeats_within`, or of :func:`repeats_of` with ``known``.
        labels: Of the texts; None where there is none.
        known: Of the known texts, if these are others.
    """
    others = known or labels
    firsts: dict[int, int] = {}
    found: set[int] = set()
    for repeat in repeats:
        if repeat.kind == "near":
            continue
        first = repeat.of
        if not known:
            first = firsts[repeat.place] = firsts.get(repeat.of, repeat.of)
        if {labels[repeat.place], others[first]} == set(LABELS):
            found.add(first)
    return len(found)


def _counts(character: str) -> bool:
    if unicodedata.category(character)[0] == "M":
        return ord(character) not in _LATIN_MARKS
    return character.isalnum()


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).digest()


def _first_places(texts: Sequence[str]) -> dict[bytes, int]:
    places: dict[bytes, int] = {}
    for place, text in enumerate(texts):
        places.setdefault(_digest(text), place)
    return places


def _equal(
    texts: Sequence[str],
    forms: Sequence[str],
    places: Mapping[bytes, int],
    form_places: Mapping[bytes, int],
    *,
    within: bool = True,
) -> dict[int, Repeat]:
    """Exact and normalised repeats by place; within one list of texts each is the first of its kind itself."""
    found = {}
    for place, (text, form) in enumerate(zip(texts, forms, strict=True)):
        whole, bare = places.get(_digest(text)), form_places.get(_digest(form))
        if whole is not None and not (within and whole == place):
            found[place] = Repeat(place, whole, "exact", 1.0)
        elif bare is not None and not (within and bare == place):
            found[place] = Repeat(place, bare, "normalized", 1.0)
    return found


def _nearest(place: int, others: Collection[int], forms: Sequence[str], known: Sequence[str]) -> Repeat | None:
    runs = _runs(forms[place])
    best, of = max((_jaccard(runs, _runs(known[other])), -other) for other in others)
    return Repeat(place, -of, "near", best) if best >= NEAR else None


def _sorted(band: Any) -> tuple[Any, Any]:
    order = np.argsort(band, kind="stable")
    return order, band[order]


def _runs(form: str) -> set[str]:
    return {form[start : start + _RUN] for start in range(max(1, len(form) - _RUN + 1))}


def _jaccard(some: set[str], others: set[str]) -> float:
    shared = len(some & others)
    return shared / (len(some) + len(others) - shared)


def _signatures(forms: Sequence[str]) -> "np.ndarray[Any, np.dtype[np.uint64]]":
    """[N, bands] of 64 bits: texts with an equal value in a band may be similar."""
    bands = np.zeros((len(forms), _BANDS), np.uint64)
    multipliers, offsets = _hash_family()
    for start in range(0, len(forms), _CHUNK):
        hashes, begins = _hashed_runs(forms[start : start + _CHUNK])
        values = bands[start : start + _CHUNK]
        for number, (multiplier, offset) in enumerate(zip(multipliers, offsets, strict=True)):
            smallest = np.minimum.reduceat((hashes * multiplier + offset) >> np.uint64(32), begins)
            band = values[:, number // _IN_BAND]
            band *= _MULTIPLIER
            band ^= smallest + (smallest << np.uint64(31))
    return bands


def _hash_family() -> Iterator[Any]:
    generator = np.random.default_rng(0)
    count = _BANDS * _IN_BAND
    yield generator.integers(1, 1 << 63, count, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    yield generator.integers(1, 1 << 63, count, dtype=np.uint64)


def _hashed_runs(forms: Sequence[str]) -> tuple[Any, Any]:
    """The runs of texts as hashes of 64 bits, one text after the other, and where each text begins."""
    padded = [form if len(form) >= _RUN else form.ljust(_RUN, "\0") for form in forms]
    characters = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    hashes = np.zeros(len(characters) - _RUN + 1, np.uint64)
    for step in range(_RUN):
        hashes = hashes * _MULTIPLIER + characters[step : step + len(hashes)]
    hashes ^= hashes >> np.uint64(29)
    hashes *= _MULTIPLIER
    hashes ^= hashes >> np.uint64(32)
    lengths = np.array([len(form) for form in padded])
    ends = np.cumsum(lengths)
    own = np.ones(len(hashes), bool)
    for step in range(1, _RUN):
        # Runs that would begin in one text and end in the next.
        own[(ends[:-1] - step)] = False
    counts = lengths - _RUN + 1
    return hashes[own], np.r_[0, np.cumsum(counts)[:-1]]
