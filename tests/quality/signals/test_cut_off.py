"""Signal cut_off: what the translator reports, and a missing end."""

import pytest

SOURCE = "The library is closed on Sunday morning, but you can return the books at the entrance."
WHOLE = "La biblioteca está cerrada el domingo por la mañana, pero puede devolver los libros en la entrada."


@pytest.mark.parametrize(("finished", "dropped"), [(True, False), (False, True), (None, False)])
def test_finished(judge, finished, dropped):
    row = judge(SOURCE, WHOLE, "spa_Latn", finished=finished)
    assert row["signal_finished"] is finished
    assert (row["reason"] == "cut_off") is dropped


@pytest.mark.parametrize(
    ("translation", "language", "kept", "dropped"),
    [
        (WHOLE, "spa_Latn", True, False),
        (WHOLE.rstrip("."), "spa_Latn", False, False),
        (WHOLE[:45], "spa_Latn", False, True),
        ("المكتبة مغلقة صباح الأحد، ولكن يمكنك إعادة الكتب عند المدخل؟", "arb_Arab", True, False),
        ("图书馆周日上午关闭，但您可以在门口还书。", "zho_Hans", True, False),
        ("รายการ", "tha_Thai", None, False),
    ],
)
def test_ending(judge, translation, language, kept, dropped):
    row = judge(SOURCE, translation, language)
    assert row["signal_ending_kept"] is kept
    assert ("cut_off" in row["reasons"]) is dropped


def test_source_without_an_end(judge):
    assert judge("A list of books", "Una lista de libros", "spa_Latn")["signal_ending_kept"] is None
