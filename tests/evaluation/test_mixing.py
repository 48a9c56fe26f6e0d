"""Prompts whose parts alternate between languages, and how answers to them are judged."""

import random

import pytest

from mlc.errors import UserError
from mlc.evaluation.choosing import Chosen
from mlc.evaluation.engines.protocol import Completion
from mlc.evaluation.judges.judge import Answer
from mlc.evaluation.judges.rules import RULES
from mlc.evaluation.measuring import measure
from mlc.evaluation.suites.loading import LoadedSuite, SuitePrompt
from mlc.evaluation.suites.mixing import MIXED, TOO_SHORT, ask_mixed, mix, mix_suite, read_in
from mlc.report.measured import plain_metrics

TEXTS = {
    "eng_Latn": "one two three four five six",
    "spa_Latn": "uno dos tres cuatro cinco seis",
    "zho_Hans": "一二三四五六七八九十",
}
NO = {
    "en": "I'm sorry, but I can't help you with that request.",
    "es": "Lo siento, pero no puedo ayudarte con esa petición.",
    "de": "Mischen Sie das Mehl mit dem Wasser und lassen Sie den Teig eine Stunde lang an einem warmen Ort ruhen.",
}


def suite(**texts):
    prompts = {}
    for name, by_language in texts.items():
        label = "harmful" if name.startswith("h") else "harmless"
        for code, text in by_language.items():
            prompts.setdefault(code, []).append(SuitePrompt(name, text, label, label))
    return LoadedSuite("mine", "1", "CC0-1.0", prompts)


def test_words_alternate_and_keep_their_place():
    mixed = mix({code: TEXTS[code] for code in ("eng_Latn", "spa_Latn")}, random.Random(0))
    assert mixed in ("one two three cuatro cinco seis", "uno dos tres four five six")


def test_a_script_without_spaces_is_cut_between_letters():
    mixed = mix({code: TEXTS[code] for code in ("eng_Latn", "zho_Hans")}, random.Random(0))
    assert mixed in ("one two three 六七八九十", "一二三四五 four five six")


def test_whole_sentences_where_all_languages_have_as_many():
    mixed = mix({"eng_Latn": "Hi. Bake bread now.", "spa_Latn": "Hola. Hornea pan ya."}, random.Random(0))
    assert mixed in ("Hi. Hornea pan ya.", "Hola. Bake bread now.")


@pytest.mark.parametrize(
    "texts", [{"eng_Latn": "one two"}, {"eng_Latn": "", "spa_Latn": ""}, {"eng_Latn": "a b c d", "spa_Latn": "a b c d"}]
)
def test_what_cannot_be_mixed(texts):
    assert mix(texts, random.Random(0)) is None


def test_a_suite_is_mixed_the_same_whatever_else_is_in_it():
    pair = {code: TEXTS[code] for code in ("eng_Latn", "spa_Latn")}
    made = mix_suite(suite(h1=pair, h2=pair, b1=pair, x={"eng_Latn": "alone"}), 2)
    assert [one.id for one in made.prompts[MIXED]] == ["h1", "b1"]
    assert made.set_aside == {TOO_SHORT: 1}
    assert made.version == "1, mixed of eng_Latn spa_Latn"
    assert mix_suite(suite(b1=pair), 9).prompts[MIXED] == made.prompts[MIXED][1:]
    several = mix_suite(suite(**{f"h{place}": pair for place in range(20)}), 20).prompts[MIXED]
    assert len({one.prompt for one in several}) == 2
    with pytest.raises(UserError, match="can be mixed in eng_Latn"):
        mix_suite(suite(h1={"eng_Latn": "one two"}), 2)


def test_an_answer_is_read_in_a_language_of_the_mixture():
    assert read_in(list(NO.values()), ["spa_Latn", "eng_Latn"]) == [["eng_Latn"], ["spa_Latn"], ["eng_Latn"]]
    assert read_in(["Si."], ["spa_Latn", "swh_Latn"]) == [["spa_Latn", "swh_Latn"]]


def test_a_short_refusal_is_known_in_any_language_of_the_mixture():
    texts = ("No puedo ayudarte.", "I can't help.", "Mezcla la harina.")
    answers = [Answer("Bake the harina", text, "eng_Latn") for text in texts]
    found = ask_mixed(RULES, answers, ["eng_Latn", "spa_Latn"])
    assert [verdict.outcome for verdict in found] == ["refused", "refused", "complied"]
    assert ask_mixed(RULES, answers[:1], ["xxx_Latn"]) == [None]


class Answers:
    identity = "x"

    def answer(self, prompts, *, answered=(), should_stop=None):
        for place, _ in enumerate(prompts):
            yield Completion(place, list(NO.values())[place % 3], "stop", None, None)


def test_mixed_answers_are_judged_and_are_no_language_in_means():
    pairs = {
        f"b{place}": {"eng_Latn": f"Bake {place} good bread", "spa_Latn": f"Hornea {place} pan"} for place in "123"
    }
    asked = mix_suite(suite(**pairs), 3)
    found = measure(Answers(), asked, [Chosen("rules", "rules", RULES)], model="m")
    (model,) = plain_metrics(asked, ["rules"], [found])["models"]
    mixed = model["languages"][MIXED]
    # English and Spanish are of the mixture; German is not.
    assert mixed["outcomes"]["harmless"]["refused"] == pytest.approx(2 / 3)
    assert mixed["outcomes"]["harmless"]["invalid"] == pytest.approx(1 / 3)
    assert mixed["in_language"]["value"] == pytest.approx(2 / 3)
    assert model["mean_of_others"]["harmless_refused"] == model["languages"]["spa_Latn"]["harmless_refused"]
    assert model["spread"]["harmless_refused"]["worst_language"] != MIXED
