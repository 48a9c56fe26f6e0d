"""Which language a text is in: py3langid's answer, for many texts at once."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from py3langid.langid import MODEL_FILE, LanguageIdentifier

from mlc.languages import ENGLISH, all_languages
from mlc.text.codepoints import utf8_of

MIN_LETTERS = 8
"""Below this many letters the identifier is a coin toss, and the signal is NULL."""

NO_LANGUAGE = "zxx"
"""py3langid's label for text that is in no language."""

TEXTS_AT_ONCE = 4096
"""Texts that take their steps together; more would need more memory and be no faster."""

CELLS_AT_ONCE = 500_000
"""Bytes of those that take a step together, the shorter ones filled up."""

LONGEST_TOGETHER = 2000
"""Bytes of the longest text that is read together with others."""

LABELS: dict[str, str | None] = {
    **dict.fromkeys(("acm_Arab", "acq_Arab", "aeb_Arab", "ajp_Arab", "apc_Arab", "arb_Arab", "ars_Arab"), "ar"),
    "ary_Arab": "ary",
    "arz_Arab": "arz",
    "ace_Latn": "ace",
    "crh_Latn": "crh",
    "fuv_Latn": "fuv",
    "grn_Latn": "gug",
    "kab_Latn": "kab",
    "kik_Latn": "kik",
    "lij_Latn": "lij",
    "ltg_Latn": "ltg",
    "nno_Latn": "nn",
    "nob_Latn": "no",
    "nso_Latn": "nso",
    "prs_Arab": "fa",
    "vec_Latn": "vec",
    "yue_Hant": "yue",
    "zho_Hans": "zh",
    "zho_Hant": "zh",
    # The identifier knows these languages in another script only.
    "azb_Arab": None,
    "ckb_Arab": None,
    "kas_Arab": None,
    "kas_Deva": None,
    "knc_Arab": None,
}
"""py3langid's label where it is not the two-letter code of the table; None where it has none."""

FAMILIES: tuple[frozenset[str], ...] = tuple(
    frozenset(family.split())
    for family in (
        "no nn da sv",
        "hr sr bs sl mk",
        "mk bg sr ru",
        "cs sk",
        "id ms jv ace",
        "es gl pt an ext ca",
        "ca oc es",
        "oc fr wa",
        "it lij vec",
        "fr gcf gcr ht wa oc",
        "de lb",
        "nl af fy",
        "ru uk be",
        "tr az crh tk",
        "kk ky tt ba",
        "uz uzs",
        "ar arz ary",
        "fa ps sdh ur",
        "ku sdh",
        "hi ne mr sa gom",
        "bn as",
        "zh wuu yue",
        "xh zu",
        "st nso",
        "rw sw lg ln kik sn",
        "fi et",
        "lv lt ltg",
        "is fo",
        "ga gd",
        "qu gug",
        "he hbo",
        "el grc",
        "en pcm",
        "tl bcl",
        "yo ig guw",
    )
)
"""Languages that the identifier takes for one another; a prediction inside the family is no evidence."""


@cache
def _identifier() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


@cache
def label_of(code: str) -> str | None:
    """Returns py3langid's label for a language, or None where it does not know the language.

    Args:
        code: NLLB code that is in the language table.
    """
    if code in LABELS:
        return LABELS[code]
    label = next(language.iso639_1 for language in all_languages() if language.code == code)
    return label if label in _identifier().labels else None


@cache
def accepted_labels(code: str) -> frozenset[str]:
    """Returns the labels that are no evidence against a language; empty where py3langid does not know it."""
    label = label_of(code)
    if label is None:
        return frozenset()
    return frozenset({label}).union(*(family for family in FAMILIES if label in family))


@dataclass(frozen=True)
class Probabilities:
    """What the identifier thinks of texts."""

    values: NDArray[np.float32]
    """[N, K] probability of each label."""
    labels: tuple[str, ...]
    """[K] distinct labels, without the one for no language."""


def identify(texts: pa.Array) -> Probabilities:
    """Asks which language each text is in: py3langid's own answer, for many texts at once.

    The identifier reads the bytes of a text with an automaton and adds up the log-probabilities of the n-grams that it
    meets (naive Bayes). Here all texts take each step together, and the sum is one sparse matrix product.

    Args:
        texts: [N] strings in Unicode's form NFC, none of them NULL; placeholders are better left out.
    """
    model = _model()
    values = np.empty((len(texts), len(model.labels)), np.float32)
    for start in range(0, len(texts), TEXTS_AT_ONCE):
        part = _without_capitals(texts.slice(start, TEXTS_AT_ONCE))
        values[start : start + len(part)] = model.probabilities(part)
    spoken = [number for number, label in enumerate(model.labels) if label != NO_LANGUAGE]
    return Probabilities(values[:, spoken], tuple(model.labels[number] for number in spoken))


def _without_capitals(texts: pa.Array) -> pa.Array:
    """Texts that are all in capitals in small letters, as py3langid reads them."""
    unchanged = pc.equal(texts, pc.utf8_upper(texts)).to_numpy(zero_copy_only=False)
    capitals = [int(number) for number in np.flatnonzero(unchanged) if texts[int(number)].as_py().isupper()]
    if not capitals:
        return texts
    mask = np.zeros(len(texts), bool)
    mask[capitals] = True
    lowered = pa.array([texts[number].as_py().lower() for number in capitals], pa.string())
    return pc.replace_with_mask(texts, pa.array(mask), lowered)


def judge(found: Probabilities, source_language: str, target_language: str) -> dict[str, pa.Array]:
    """Reads probabilities for one pair of languages.

    Args:
        found: N texts.
        source_language: NLLB code of the source.
        target_language: NLLB code of the target.

    Returns:
        [N] each: ``predicted`` label; probability ``expected`` of the target's family and highest probability
        ``other`` outside it, both NULL where the target is not known; probability ``untranslated`` of the source
        language, NULL where it is not known or taken for the target.
    """
    accepted = accepted_labels(target_language)
    source_label = label_of(source_language)
    inside = np.array([label in accepted for label in found.labels])
    values = found.values
    best = pa.array(values.argmax(axis=1).astype(np.int32))
    expected = np.minimum(values[:, inside].astype(np.float64).sum(axis=1), 1.0)
    outside = np.where(inside, np.float32(-1), values).max(axis=1, initial=-1)
    nothing = pa.nulls(len(values), pa.float64())
    known = bool(accepted)
    told_apart = source_label is not None and source_label not in accepted
    return {
        "predicted": pa.DictionaryArray.from_arrays(best, pa.array(found.labels, pa.string())).cast(pa.string()),
        "expected": pa.array(expected) if known else nothing,
        "other": pa.array(outside.astype(np.float64)) if known else nothing,
        "untranslated": pa.array(values[:, found.labels.index(source_label)].astype(np.float64))
        if told_apart and source_label is not None
        else nothing,
    }


class _Model:
    """The identifier's automaton and tables, as arrays."""

    def __init__(self, identifier: LanguageIdentifier) -> None:
        self.next_state = np.asarray(identifier.tk_nextmove)
        self.row_start = np.asarray(identifier.tk_row).astype(np.int32) << 8
        output = np.asarray(identifier.tk_output, np.int32)
        self.weights = identifier.nb_ptc
        self.no_feature = len(self.weights)
        self.feature = np.where(output < 0, self.no_feature, output).astype(np.int32)
        self.priors = np.asarray(identifier.nb_pc, np.float32)
        self.aliases = identifier._alias_pairs
        dropped = {second for _first, second in self.aliases}
        self.columns = [number for number in range(len(identifier.nb_classes)) if number not in dropped]
        self.labels = tuple(identifier.nb_classes[number] for number in self.columns)
        self.identifier = identifier

    def probabilities(self, texts: pa.Array) -> NDArray[np.float32]:
        """Probability of each label, [N, K]."""
        starts, lengths, content = utf8_of(texts)
        # Longest first: those that still take a step are always the first ones.
        order = np.argsort(-lengths, kind="stable")
        together = order[np.searchsorted(-lengths[order], -LONGEST_TOGETHER) :]
        values = np.empty((len(texts), len(self.columns)), np.float32)
        while len(together):
            chosen = together[: max(1, CELLS_AT_ONCE // max(1, int(lengths[together[0]])))]
            values[chosen] = self._together(starts[chosen], lengths[chosen], content)
            together = together[len(chosen) :]
        for number in np.flatnonzero(lengths > LONGEST_TOGETHER):
            # Steps that few texts still take cost more than the text by itself.
            values[number] = self.identifier._decide(texts[int(number)].as_py())[self.columns]
        return values

    def _together(
        self, starts: NDArray[np.int64], lengths: NDArray[np.int64], content: NDArray[np.uint8]
    ) -> NDArray[np.float32]:
        counts, used = self._counts(starts, lengths, content)
        scores = counts @ self.weights[used].astype(np.float32) + self.priors
        scores[np.diff(counts.indptr) == 0] = 0.0
        scores *= (1.0 / np.sqrt(np.maximum(lengths, 1))).astype(np.float32)[:, None]
        np.exp(scores - scores.max(axis=1, keepdims=True), out=scores)
        scores /= scores.sum(axis=1, keepdims=True)
        for first, second in self.aliases:
            scores[:, first] += scores[:, second]
        kept: NDArray[np.float32] = scores[:, self.columns]
        return kept

    def _counts(
        self, starts: NDArray[np.int64], lengths: NDArray[np.int64], content: NDArray[np.uint8]
    ) -> tuple[Any, NDArray[np.int64]]:
        """log(1 + occurrences) of each feature that is met in each text, as a sparse matrix [N, U], and those [U].

        Texts come longest first.
        """
        from scipy.sparse import csr_array

        met = self._features(starts, lengths, content)
        count, width = met.shape
        # Row by row: short rows are sorted many times faster than one long array.
        met.sort(axis=1)
        changes = np.ones(met.shape, bool)
        np.not_equal(met[:, 1:], met[:, :-1], out=changes[:, 1:])
        first = np.flatnonzero(changes)
        occurrences = np.diff(first, append=met.size)
        features = met.ravel().take(first)
        real = np.flatnonzero(features < self.no_feature)
        first, features = first.take(real), features.take(real)
        seen = np.zeros(self.no_feature, bool)
        seen[features] = True
        place = np.cumsum(seen, dtype=np.int32) - 1
        logarithms = np.log1p(np.arange(width + 1, dtype=np.float32))
        matrix = csr_array(
            (
                logarithms.take(occurrences.take(real)),
                place.take(features),
                np.searchsorted(first, np.arange(count + 1) * width).astype(np.int32),
            ),
            shape=(count, int(place[-1]) + 1),
        )
        return matrix, np.flatnonzero(seen)

    def _features(
        self, starts: NDArray[np.int64], lengths: NDArray[np.int64], content: NDArray[np.uint8]
    ) -> NDArray[np.int32]:
        """What the automaton meets at each byte of each text, [N, B]; ``no_feature`` behind the end."""
        steps = np.arange(int(lengths.max(initial=0)))
        states = np.zeros((len(steps), len(lengths)), np.int32)
        state = states[0] if len(steps) else np.zeros(0, np.int32)
        for step, count in enumerate(np.searchsorted(-lengths, -steps - 1, side="right")):
            letters = content.take(starts[:count] + step)
            state = self.next_state.take(self.row_start.take(state[:count]) + letters)
            states[step, :count] = state
        met = self.feature.take(states.T)
        met[steps >= lengths[:, None]] = self.no_feature
        return met


@cache
def _model() -> _Model:
    return _Model(_identifier())


def identify_rows(connection: duckdb.DuckDBPyConnection) -> None:
    """Fills the table ``identified``, one row a pair with enough letters."""
    rows = connection.sql(
        """
        SELECT row, plain_translation, source_code, target_code FROM texts
        WHERE translation_letters >= ? ORDER BY row
        """,
        params=[MIN_LETTERS],
    ).to_arrow_table()
    texts = rows["plain_translation"].combine_chunks().dictionary_encode()
    found = identify(texts.dictionary)
    pairs = pc.binary_join_element_wise(rows["source_code"], rows["target_code"], " ").combine_chunks()
    pairs = pairs.dictionary_encode()
    of_text, of_pair = (codes.indices.to_numpy(zero_copy_only=False) for codes in (texts, pairs))
    parts = [pa.table({"row": pa.array([], pa.int64()), **judge(_rows_of(found, of_text[:0]), ENGLISH, ENGLISH)})]
    for number, pair in enumerate(pairs.dictionary.to_pylist()):
        chosen = np.flatnonzero(of_pair == number)
        answers = judge(_rows_of(found, of_text[chosen]), *pair.split(" "))
        parts.append(pa.table({"row": rows["row"].combine_chunks().take(pa.array(chosen)), **answers}))
    connection.register("identified", pa.concat_tables(parts))


def _rows_of(found: Probabilities, numbers: NDArray[np.int64]) -> Probabilities:
    return Probabilities(found.values[numbers], found.labels)
