"""Signal wrong_language: (translation, language, dropped)."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlc.languages import all_languages
from mlc.text.identification import (
    FAMILIES,
    LABELS,
    LONGEST_TOGETHER,
    NO_LANGUAGE,
    _identifier,
    accepted_labels,
    identify,
    label_of,
)

SOURCE = "The library is closed on Sunday morning."
LANGUAGE_CASES = [
    ("La bibliothèque est fermée le dimanche matin.", "fra_Latn", False),
    ("La bibliothèque est fermée le dimanche matin.", "deu_Latn", True),
    ("Die Bibliothek ist am Sonntagmorgen geschlossen.", "swh_Latn", True),
    ("Maktaba imefungwa siku ya Jumapili asubuhi na mapema.", "swh_Latn", False),
    ("The library is closed on Sunday morning.", "spa_Latn", True),
    ("Biblioteket er stengt søndag morgen hele sommeren.", "dan_Latn", False),
    ("Biblioteket er stengt søndag morgen hele sommeren.", "nno_Latn", False),
    ("Knjižnica je zatvorena u nedjelju ujutro.", "bos_Latn", False),
    ("پرتقال‌ها را در یخچال نگه دارید تا تازه بمانند.", "arb_Arab", True),
    ("The library is closed on Sunday morning.", "ewe_Latn", True),
]
CASES = [(SOURCE, *case) for case in LANGUAGE_CASES]


@pytest.mark.parametrize(("source", "translation", "language", "dropped"), CASES)
def test_cases(judged, source, translation, language, dropped):
    row = judged[source, translation, language]
    assert ("wrong_language" in row["reasons"]) is dropped


def test_unknown_language_has_no_probability(judge):
    row = judge("The library is closed on Sunday.", "Wotu agbalẽdzraɖoƒea le Kɔsiɖagbe ŋdi.", "ewe_Latn")
    assert row["signal_language_expected"] is None
    assert row["signal_language_other"] is None
    assert row["signal_language_source"] < 0.6


@pytest.mark.parametrize("translation", ["Sí.", "12345", "{first_name} {last_name}"])
def test_short_text_is_not_applicable(judge, translation):
    row = judge("Yes.", translation, "spa_Latn")
    assert row["signal_language_predicted"] is None
    assert row["signal_language_other"] is None


def test_language_short_of_the_minimum_is_not_dropped(judge):
    row = judge("Close the door", "Close the door", "deu_Latn")
    assert row["signal_language_source"] is not None
    assert "wrong_language" not in row["reasons"]


def test_tables_name_only_what_exists():
    codes = {language.code for language in all_languages()}
    labels = set(_identifier().labels)
    assert set(LABELS) <= codes
    assert {label for label in LABELS.values() if label} <= labels
    assert set().union(*FAMILIES) <= labels


def test_labels():
    assert label_of("swh_Latn") == "sw"
    assert label_of("ewe_Latn") is None
    assert accepted_labels("nob_Latn") == {"no", "nn", "da", "sv"}
    assert accepted_labels("ewe_Latn") == frozenset()


def by_the_library(text):
    return {label: chance for label, chance in _identifier().rank(text) if label != NO_LANGUAGE}


def agree(texts):
    found = identify(pa.array(texts, pa.string()))
    for row, text in zip(found.values, texts, strict=True):
        expected = by_the_library(text)
        np.testing.assert_allclose(row, [expected[label] for label in found.labels], atol=2e-4)
        assert found.labels[row.argmax()] == max(expected, key=expected.get)


def test_many_texts_at_once_are_identified_as_the_library_does():
    # Capitals, scripts of every width, no features, and one text that is too long to be read with the others.
    agree([case[0] for case in LANGUAGE_CASES] + [
        "DIE BIBLIOTHEK IST AM SONNTAG GESCHLOSSEN", "ΚΑΛΗΜΕΡΑ ΣΑΣ", "图书馆周日上午关闭", "ห้องสมุดปิดวันอาทิตย์",
        "पुस्तकालय रविवार को बंद है", "", "1", "👍🏽", "a", "Straße ﬁn ǅ", "Die Bibliothek ist geschlossen. " * 200,
    ])  # fmt: skip
    assert len("Die Bibliothek ist geschlossen. " * 200) > LONGEST_TOGETHER


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), max_size=6))
@settings(max_examples=30)
def test_any_text_is_identified_as_the_library_does(texts):
    import unicodedata

    agree([unicodedata.normalize("NFC", text) for text in texts])


def test_what_is_relied_on_of_the_library_is_there():
    """Tables and methods of py3langid that are not documented, for which its version is pinned."""
    library = _identifier()
    states, labels = len(library.tk_row), len(library.nb_classes)
    # The automaton: a row of 256 next states for each class of states, and the feature that a state completes.
    assert len(library.tk_nextmove) % 256 == 0
    assert 0 <= max(library.tk_row) < len(library.tk_nextmove) // 256
    assert max(library.tk_nextmove) < states == len(library.tk_output)
    # Naive Bayes: log-probabilities of features by label, and of the labels.
    assert library.nb_ptc.shape == (max(library.tk_output) + 1, labels)
    assert library.nb_pc.shape == (labels,)
    # Labels that stand for one language: the second is added to the first and left out.
    dropped = [second for _, second in library._alias_pairs]
    assert [name for place, name in enumerate(library.nb_classes) if place not in dropped] == list(library.labels)
    # What is asked about long texts is a probability of each label.
    assert library._decide("The library is closed.").shape == (labels,)
    assert float(library._decide("The library is closed.").sum()) >= 0.999
