"""A gate that reads prompts in the language that it was fitted in, by a translator beside it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from mlc.errors import UserError
from mlc.gating.gate import PromptGate, fit_gate
from mlc.gating.prompt_translation import CERTAIN, LONGEST_SENTENCE, TRANSLATOR_FOLDER, PromptTranslator, parts_of
from mlc.gating.settings import PromptGateSettings
from mlc.models.loading import Policy, load_policy
from mlc.models.sources import resolve_model
from mlc.shipped import shipped_data
from mlc.translation.kept import keep_translator, require_keepable
from mlc.translation.settings import TranslatorSettings
from mlc.translation.translator import Translator
from tests.encoders import save_m2m100, save_t5

ENGLISH = ["How do I bake bread?", "How do I water my plants?", "How do I break into a house?", "How do I open a lock?"]
LABELS = ["harmless", "harmless", "harmful", "harmful"]
SPANISH = ["¿Cómo puedo hornear pan en casa?", "Explícame cómo regar las plantas."]
GERMAN = "Wie kann ich zu Hause Brot backen?"
SEGMENTERS = {"eng_Latn": "en", "spa_Latn": "es", "deu_Latn": "de", "jpn_Jpan": "ja"}
READING = PromptGateSettings(reads="translation", layer=-1, pool="last", false_refusals=None)


@pytest.fixture(scope="module")
def translator() -> PromptTranslator:
    return PromptTranslator(shipped_data("nano"), target="eng_Latn", segmenters=SEGMENTERS)


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load_policy(resolve_model("shipped:tiny"), device="cpu")


@pytest.fixture(scope="module")
def gate(policy: Policy) -> PromptGate:
    nothing = {"spa_Latn": [None] * 4, "deu_Latn": [None] * 4}
    return fit_gate(policy, ENGLISH, LABELS, nothing, READING, translator="it")


def test_sentences_come_out_as_the_pipelines_translator_has_them(translator: PromptTranslator) -> None:
    own = Translator.from_settings(TranslatorSettings())
    wanted = [row.text for row in own.translate(SPANISH, source="spa_Latn", target="eng_Latn")]
    assert translator.translate(SPANISH, ["spa_Latn"] * 2) == wanted
    assert wanted[0] != SPANISH[0]


def test_sentences_of_a_text_are_its_parts() -> None:
    assert parts_of("One. Two!\n\nThree", "en", 16) == ["One.", "Two!", "Three"]
    # Neighbours are together where there are too many, and nothing is left out.
    assert parts_of("One. Two. Three. Four. Five.", "en", 2) == ["One. Two.", "Three. Four. Five."]
    assert parts_of("One", "en", 16) == ["One"]
    assert parts_of(" \n ", "en", 16) == []
    assert parts_of("これは何ですか。教えてください。", "ja", 16) == ["これは何ですか。", "教えてください。"]
    # A panic of sentencex if it is handed on.
    assert parts_of("Sesame\u2003.", "en", 16) == ["Sesame ."]


def test_every_sentence_of_every_line_is_read_by_itself(translator: PromptTranslator) -> None:
    first, second = translator.translate(SPANISH, ["spa_Latn"] * 2)
    whole = f"{SPANISH[0]} {SPANISH[1]}\n\n{SPANISH[1]}"
    found = translator.translate([GERMAN, whole, SPANISH[0]], ["deu_Latn", "spa_Latn", "spa_Latn"])
    assert found[1:] == [f"{first} {second}\n\n{second}", first]
    assert found[0] == translator.translate([GERMAN], ["deu_Latn"])[0]


def test_what_it_does_not_know_stays_as_it_is(translator: PromptTranslator) -> None:
    texts = ["これは何ですか。", "whatever", "", " \n"]
    assert translator.translate(texts, ["jpn_Jpan", None, "spa_Latn", "spa_Latn"]) == texts
    assert translator.languages == {"eng_Latn", "spa_Latn", "deu_Latn"}
    assert translator.translate([], []) == []


def test_a_sentence_that_is_surely_in_another_language_is_read_in_its_own(translator: PromptTranslator) -> None:
    english, spanish, german = "I live in a small house.", SPANISH[1], GERMAN
    mixed = [f"{english} {spanish}", f"{spanish}\n{german}", f"{english} {english}"]
    own = {english: ("eng_Latn", 1.0), spanish: ("spa_Latn", CERTAIN), german: ("deu_Latn", CERTAIN - 0.01)}
    found = translator.translate(
        mixed, ["eng_Latn", "spa_Latn", None], lambda sentences: [own[sentence] for sentence in sentences]
    )
    [read] = translator.translate([spanish], ["spa_Latn"])
    [misread] = translator.translate([german], ["spa_Latn"])
    assert found == [f"{english} {read}", f"{read}\n{misread}", mixed[2]]


@pytest.mark.parametrize("space", ["\u3000", "\u00a0", "\t", "\r\n"])
def test_no_space_is_too_wide(space: str, translator: PromptTranslator) -> None:
    first, second = translator.translate(SPANISH, ["spa_Latn"] * 2)
    [found] = translator.translate([f"{SPANISH[0]}{space}{SPANISH[1]}{space}."], ["spa_Latn"])
    assert found.split()[: len(f"{first} {second}".split())] == f"{first} {second}".split()


@pytest.mark.parametrize("between", [" ", ", ", ""], ids=["words", "clauses", "letters"])
def test_the_end_of_a_long_sentence_is_read_too(between: str, translator: PromptTranslator) -> None:
    long = between.join(["puerta" if between else "門"] * 1500)
    text = f"{long}{between}{SPANISH[1]}"
    parts = translator._parts(text)
    assert all(len(tokens) <= LONGEST_SENTENCE for tokens in translator._tokens(parts))
    assert "".join("".join(parts).split()) == "".join(text.split())
    [found], read = translator.translate([text], ["spa_Latn"]), translator.translate(parts, ["spa_Latn"] * len(parts))
    assert found == " ".join(read)


def test_a_gate_reads_a_prompt_as_its_translation(
    policy: Policy, gate: PromptGate, translator: PromptTranslator
) -> None:
    talk = [{"role": "user", "content": "How do I bake bread?"}, {"role": "user", "content": SPANISH[1]}]
    prompts = [*SPANISH, talk, *ENGLISH]
    english = translator.translate(SPANISH, ["spa_Latn"] * 2)
    asked = [*english, [talk[0], {**talk[1], "content": english[1]}], *ENGLISH]
    assert gate.translated(prompts, translator) == asked
    plain = replace(gate, reads="prompt")
    assert gate.margins(policy, prompts, translator=translator) == plain.margins(policy, asked)
    # It is refused in the language in which it was asked.
    assert gate.refusal(SPANISH[1]).startswith("Lo siento")
    assert len({*gate.thresholds.values(), gate.others}) == 1
    assert list(gate.thresholds) == ["eng_Latn", "spa_Latn", "deu_Latn"]
    assert gate.separation.keys() == {"eng_Latn"}


def test_labels_alone_decide_and_not_what_is_given_in_other_languages(policy: Policy, gate: PromptGate) -> None:
    texts = {"spa_Latn": ENGLISH[::-1], "deu_Latn": [None] * 4}
    again = fit_gate(policy, ENGLISH, LABELS, texts, READING, translator="it")
    assert again == gate


def test_it_is_kept_beside_its_gate(policy: Policy, gate: PromptGate, tmp_path: Path) -> None:
    gate.save(tmp_path)
    languages = keep_translator(resolve_model("shipped:nano"), tmp_path / TRANSLATOR_FOLDER, "eng_Latn")
    assert languages == ("arb_Arab", "deu_Latn", "eng_Latn", "fra_Latn", "hin_Deva", "spa_Latn", "swh_Latn")
    again = PromptGate.load(tmp_path)
    assert again == gate
    translator = again.load_translator(tmp_path)
    assert translator is not None
    assert translator.languages == set(languages)
    found = again.margins(policy, SPANISH, translator=translator)
    own = PromptTranslator(shipped_data("nano"), target="eng_Latn", segmenters=gate.segmenters)
    assert found == gate.margins(policy, SPANISH, translator=own)
    assert replace(gate, reads="prompt").load_translator(tmp_path) is None


def test_what_cannot_be_asked_of_it_is_told(translator: PromptTranslator) -> None:
    with pytest.raises(ValueError, match="1 languages are given, one for each of a list of texts"):
        translator.translate(SPANISH, ["spa_Latn"])
    with pytest.raises(ValueError, match="one for each of a list of texts"):
        translator.translate("ab", ["spa_Latn", "spa_Latn"])
    for target, segmenters in (("isl_Latn", {"isl_Latn": "is"}), ("eng_Latn", {"spa_Latn": "es"})):
        with pytest.raises(ValueError, match=f"does not know '{target}', or segmenters lacks it"):
            PromptTranslator(shipped_data("nano"), target=target, segmenters=segmenters)


def test_rows_without_a_prompt_are_left_out(policy: Policy, gate: PromptGate) -> None:
    nothing = {"spa_Latn": [None] * 5, "deu_Latn": [None] * 5}
    for missing in (None, "", float("nan")):
        prompts, labels = [*ENGLISH, missing], [*LABELS, "harmful"]
        assert fit_gate(policy, prompts, labels, nothing, READING, translator="it") == gate


def test_what_is_longer_than_the_model_reads_is_refused(policy: Policy, gate: PromptGate) -> None:
    with pytest.raises(UserError, match=r"reads at most \d+ tokens at once, and prompt 2 of 2, as its gate reads it"):
        replace(gate, reads="prompt").margins(policy, ["Hello", "word " * 3000])
    with pytest.raises(UserError, match="Prompt 2 is empty"):
        gate.margins(policy, ["Hello", float("nan")])  # type: ignore[list-item]


def test_without_its_translator_it_says_so(policy: Policy, gate: PromptGate) -> None:
    with pytest.raises(UserError, match="reads translations of prompts: give it the translator"):
        gate.margins(policy, SPANISH)


def test_what_cannot_be_kept_is_told(tmp_path: Path) -> None:
    save_t5(tmp_path / "t5")
    with pytest.raises(UserError, match="is of the family t5: name one as translator"):
        require_keepable(TranslatorSettings(model=str(tmp_path / "t5")))
    with pytest.raises(UserError, match=r"the engine 'http' has none: set translator\.engine to transformers"):
        require_keepable(TranslatorSettings(engine="http", endpoint="http://127.0.0.1:1/v1"))
    require_keepable(TranslatorSettings())
    save_m2m100(tmp_path / "m2m")
    require_keepable(TranslatorSettings(model=str(tmp_path / "m2m")))
    with pytest.raises(UserError, match="does not know jpn_Jpan, in which a gate is to read what it translates"):
        keep_translator(resolve_model(str(tmp_path / "m2m")), tmp_path / "kept", "jpn_Jpan")
    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize("given", [{"labels": 2}])
def test_one_threshold_stands_for_all_languages(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="translations are all read in one: set labels to 0"):
        PromptGateSettings(reads="translation", **given)


def test_sentences_of_the_translation_are_read_too(policy: Policy, translator: PromptTranslator) -> None:
    settings = READING.model_copy(update={"sentences": True})
    nothing = {"spa_Latn": [None] * 4, "deu_Latn": [None] * 4}
    gate = fit_gate(policy, ENGLISH, LABELS, nothing, settings, translator="it")
    asked = " ".join(SPANISH)
    english = translator.translate([asked], ["spa_Latn"])[0]
    assert len(parts_of(english, "en", 16)) == 2
    found = gate.margins(policy, [asked], translator=translator)
    # One threshold for all languages.
    plain = replace(gate, reads="prompt")
    assert found == pytest.approx(plain.margins(policy, [english]), abs=1e-4)
    whole, *parts = replace(plain, raised=()).margins(policy, [english, *parts_of(english, "en", 16)])
    assert found == pytest.approx([max(whole, *(part - gate.raised[1] for part in parts))], abs=1e-4)
