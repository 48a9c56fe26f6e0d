"""Signal collapsed: one translation for several sources, within a target language."""

import pyarrow as pa

from mlc.quality.filtering import filter_pairs
from mlc.quality.settings import QualitySettings

SAME = "Lo siento, no puedo ayudarle."


def judged(rows, **settings):
    sources, translations, languages = zip(*rows, strict=True)
    table = pa.table(
        {
            "source": pa.array(sources, pa.string()),
            "translation": pa.array(translations, pa.string()),
            "source_language": ["eng_Latn"] * len(rows),
            "target_language": pa.array(languages, pa.string()),
        }
    )
    return filter_pairs(table, QualitySettings.model_validate(settings)).to_pylist()


def counts(rows):
    return [row["signal_collapsed_sources"] for row in judged(rows)]


def test_counted_by_hand():
    rows = [
        ("Where is the station?", SAME, "spa_Latn"),
        ("How do I bake bread?", SAME.upper(), "spa_Latn"),
        ("What time is it now?", "lo siento no puedo ayudarle", "spa_Latn"),
        ("What time is it now!", SAME, "spa_Latn"),
        ("Where is the station?", SAME, "fra_Latn"),
        ("Tell me a short story", "Cuéntame un cuento corto", "spa_Latn"),
        ("What time is it now?", None, "spa_Latn"),
    ]
    # The third and the fourth source differ in punctuation only, so three sources share the translation.
    assert counts(rows) == [3, 3, 3, 3, 1, 1, None]
    assert ["collapsed" in row["reasons"] for row in judged(rows)] == [True] * 4 + [False] * 3


def test_paraphrases_do_not_collapse():
    said = ("I don't understand the question", "I do not understand the question.", "I can't understand your question")
    rows = [(source, "No entiendo la pregunta", "spa_Latn") for source in said]
    assert counts(rows) == [1] * 3
    others = [(source, "No entiendo la pregunta", "spa_Latn") for source in ("Where is the station", "Bake some bread")]
    assert counts([*rows, *others]) == [3] * 5


def test_a_translation_of_very_many_sources_collapses_whatever_they_share():
    rows = [(f"Please bake bread number {'abcdefghij'[n % 10] * (n // 10 + 1)}", SAME, "spa_Latn") for n in range(60)]
    assert counts(rows) == [60] * 60


def test_equal_sources_do_not_collapse():
    assert counts([("Good morning to all of you", "Buenos días a todos", "spa_Latn")] * 5) == [1] * 5


def test_two_sources_are_below_the_limit_and_a_stricter_one_finds_them():
    rows = [("Thanks a lot, my dear", "Muchas gracias amigo", "spa_Latn")]
    rows += [("Many thanks, my friend", "Muchas gracias amigo", "spa_Latn")]
    assert all("collapsed" not in row["reasons"] for row in judged(rows))
    assert all("collapsed" in row["reasons"] for row in judged(rows, default={"collapsed_sources": 2}))


def test_short_answers_may_be_shared():
    rows = [(source, "Hola", "spa_Latn") for source in ("Hello", "Hi", "Hey there", "Hiya")]
    found = judged(rows)
    assert [row["signal_collapsed_sources"] for row in found] == [4] * 4
    assert all("collapsed" not in row["reasons"] for row in found)


def test_numbers_and_scripts_without_spaces_tell_translations_apart():
    rows = [(f"Give me {n} examples of it", f"给我{n}个例子，谢谢你的帮助吧", "zho_Hans") for n in range(5)]
    assert counts(rows) == [1] * 5
    rows = [(f"Give me {n} examples of it", "给我一个例子，谢谢你的帮助吧", "zho_Hans") for n in range(5)]
    assert counts(rows) == [5] * 5
