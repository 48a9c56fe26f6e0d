import json

import pytest

from mlc.errors import UserError
from mlc.making.grammar import LANGUAGES, Grammar

FORMS = {language: f"{language} thing" for language in LANGUAGES}


def grammar_folder(tmp_path, *, actions=(), frames=()):
    (tmp_path / "actions").mkdir()
    lines = "".join(json.dumps(action) + "\n" for action in actions)
    (tmp_path / "actions" / "kitchen.jsonl").write_text(lines, encoding="utf-8")
    parts = {
        "frames": list(frames),
        "adjuncts": [{"id": "a1", **FORMS, "eng_Latn": "at home", "deu_Latn": "zu Hause", "hin_Deva": "घर पर"}],
        "openers": [{"id": "o1", **FORMS, "eng_Latn": "Hello.", "deu_Latn": "Hallo.", "hin_Deva": "नमस्ते।"}],
        "adjunct_position": {
            language: "before" if language in ("deu_Latn", "hin_Deva") else "after" for language in LANGUAGES
        },
    }
    (tmp_path / "frames.json").write_text(json.dumps(parts), encoding="utf-8")
    return tmp_path


ACTION = {
    "id": "tea",
    "kind": "harmless",
    **FORMS,
    "eng_Latn": "make tea",
    "deu_Latn": "Tee kochen",
    "hin_Deva": "चाय बनाने",
    "answer": "Boil water.",
}
FRAME = {
    "id": "f1",
    **FORMS,
    "eng_Latn": "How can I {action}?",
    "deu_Latn": "Wie kann ich {action}?",
    "hin_Deva": "{action} का सबसे अच्छा तरीका क्या है?",
}


@pytest.fixture
def grammar(tmp_path):
    return Grammar.load(grammar_folder(tmp_path, actions=[ACTION], frames=[FRAME]))


@pytest.mark.parametrize(
    ("language", "adjunct", "opener", "expected"),
    [
        ("eng_Latn", None, None, "How can I make tea?"),
        ("eng_Latn", "a1", None, "How can I make tea at home?"),
        ("eng_Latn", "a1", "o1", "Hello. How can I make tea at home?"),
        ("deu_Latn", "a1", "o1", "Hallo. Wie kann ich zu Hause Tee kochen?"),
        ("hin_Deva", None, "o1", "नमस्ते। चाय बनाने का सबसे अच्छा तरीका क्या है?"),
        ("hin_Deva", "a1", None, "घर पर चाय बनाने का सबसे अच्छा तरीका क्या है?"),
    ],
)
def test_composes_as_a_person_would(grammar, language, adjunct, opener, expected):
    assert grammar.compose(language, frame="f1", action="tea", adjunct=adjunct, opener=opener) == expected


def test_an_action_knows_its_file(grammar):
    assert grammar.actions["tea"].theme == "kitchen"
    assert grammar.actions["tea"].answer == "Boil water."


def test_unknown_parts_are_key_errors(grammar):
    with pytest.raises(KeyError):
        grammar.compose("eng_Latn", frame="f9", action="tea")
    with pytest.raises(KeyError):
        grammar.compose("zul_Latn", frame="f1", action="tea")


def test_a_missing_language_is_named(tmp_path):
    incomplete = {key: value for key, value in ACTION.items() if key != "swh_Latn"}
    with pytest.raises(UserError, match=r"'tea'.*swh_Latn"):
        Grammar.load(grammar_folder(tmp_path, actions=[incomplete], frames=[FRAME]))


def test_a_repeated_id_is_named(tmp_path):
    with pytest.raises(UserError, match="'tea'"):
        Grammar.load(grammar_folder(tmp_path, actions=[ACTION, ACTION], frames=[FRAME]))


def test_a_repeated_frame_is_named(tmp_path):
    with pytest.raises(UserError, match="'f1'"):
        Grammar.load(grammar_folder(tmp_path, actions=[ACTION], frames=[FRAME, FRAME]))


def test_the_shipped_grammar_is_complete_and_its_sentences_end():
    grammar = Grammar.load()
    assert len(grammar.actions) == 360
    assert set(grammar.adjunct_position) == set(LANGUAGES)
    for frame, forms in grammar.frames.items():
        for language in LANGUAGES:
            assert forms[language].count("{action}") == 1, (frame, language)
            assert forms[language][-1] in ".?!؟।", (frame, language)
