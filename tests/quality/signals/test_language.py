"""Signal wrong_language: (translation, language, dropped)."""

import pytest

from mlc.languages import all_languages
from mlc.quality.signals.language import FAMILIES, LABELS, _identifier, accepted_labels, label_of

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
