import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mlc.translation.sentences import split_sentences


@pytest.mark.parametrize(
    ("text", "language", "sentences"),
    [
        ("One. Two?  Three!", "eng_Latn", ("One.", "Two?", "Three!")),
        ("Ask Dr. Smith today.", "eng_Latn", ("Ask Dr. Smith today.",)),
        ("She saw Ms. Lee and Mx. Poe. Then she left.", "eng_Latn", ("She saw Ms. Lee and Mx. Poe.", "Then she left.")),
        ("Thank you, Ms.", "eng_Latn", ("Thank you, Ms.",)),
        ("Voici M. Roy. Il est là.", "fra_Latn", ("Voici M. Roy.", "Il est là.")),
        ("It is new to me. Write it down.", "eng_Latn", ("It is new to me.", "Write it down.")),
        ("See no. 5 and Me. Smith.", "eng_Latn", ("See no. 5 and Me. Smith.",)),
        ("Das ist neu für mich. Was nun?", "deu_Latn", ("Das ist neu für mich.", "Was nun?")),
        ("Creo que no. ¿Y tú?", "spa_Latn", ("Creo que no.", "¿Y tú?")),
        ("पहला वाक्य। दूसरा वाक्य?", "hin_Deva", ("पहला वाक्य।", "दूसरा वाक्य?")),
        ("你好。再见。", "zho_Hans", ("你好。", "再见。")),
        ("- milk\n- eggs", "eng_Latn", ("- milk", "- eggs")),
        ("", "eng_Latn", ()),
        (" \n\t ", "eng_Latn", ()),
    ],
)
def test_splits(text, language, sentences):
    assert split_sentences(text, language).sentences == sentences


@given(st.text(alphabet=st.sampled_from("aB. ?!\n\r\t\u2028\x1c\u00a0\u3000。🙂é"), max_size=40))
@example("  a.\n\n b.  ")
@example("B\u3000.")
@example("B\u00a0.")
def test_nothing_is_lost(text):
    split = split_sentences(text, "eng_Latn")
    assert len(split.separators) == len(split.sentences) + 1
    pieces = [split.separators[0]]
    for sentence, separator in zip(split.sentences, split.separators[1:], strict=True):
        assert sentence == sentence.strip() != ""
        assert not separator.strip()
        pieces += [sentence, separator]
    assert "".join(pieces) == text


def test_rejoin_keeps_the_white_space():
    split = split_sentences(" One.\n\nTwo?  Three! ", "eng_Latn")
    assert split.rejoin(["A.", "B?", "C!"], target="deu_Latn") == " A.\n\nB?  C! "


def test_rejoin_puts_a_space_where_the_target_needs_one():
    split = split_sentences("你好。再见。", "zho_Hans")
    assert split.rejoin(["Hello.", "Bye."], target="eng_Latn") == "Hello. Bye."
    assert split.rejoin(["你好。", "再見。"], target="zho_Hant") == "你好。再見。"
