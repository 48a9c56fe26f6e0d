import json
import statistics

import pytest
from sacrebleu.metrics import CHRF

from mlc.making.grammar import LANGUAGES, Grammar

# Assertions here name ids only: some of the prompts are harmful, and a failing test must not print them.

TARGETS = LANGUAGES[1:]


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def references(quickstart_folder):
    return read(quickstart_folder / "references" / "test.jsonl")[:40]


@pytest.fixture(scope="module")
def translations(nano, references):
    prompts = [row["eng_Latn"] for row in references]
    return {target: nano.translate(prompts, source="eng_Latn", target=target) for target in TARGETS}


@pytest.mark.parametrize("target", TARGETS)
def test_translates_unseen_prompts(translations, references, target):
    score = CHRF().corpus_score([row.text for row in translations[target]], [[row[target] for row in references]])
    assert score.score >= 70, target


@pytest.mark.parametrize("target", TARGETS)
def test_prompts_come_out_whole(translations, references, target):
    for row, reference in zip(translations[target], references, strict=True):
        assert row.finished, reference["id"]
        assert row.sentences_in == row.sentences_out, reference["id"]


def test_translates_back_into_english(nano, references):
    back = nano.translate([row["swh_Latn"] for row in references], source="swh_Latn", target="eng_Latn")
    score = CHRF().corpus_score([row.text for row in back], [[row["eng_Latn"] for row in references]])
    assert score.score >= 70


def test_is_less_sure_outside_its_domain(nano, translations, quickstart_folder):
    """The filter can only catch what shows."""
    outside = [row["prompt"] for row in read(quickstart_folder / "out_of_domain.jsonl")]
    rows = nano.translate(outside, source="eng_Latn", target="fra_Latn")
    inside = statistics.median(row.logprob for row in translations["fra_Latn"])
    assert statistics.median(row.logprob for row in rows) < inside - 0.3


def test_no_word_of_the_domain_is_unknown(nano):
    grammar = Grammar.load()
    parts = [
        *(action.forms for action in grammar.actions.values()),
        *grammar.frames.values(),
        *grammar.adjuncts.values(),
        *grammar.openers.values(),
    ]
    unknown = nano.engine.tokens.tokenizer.unk_token_id
    assert unknown == 3
    for language in LANGUAGES:
        encoded = nano.engine.tokens.tokenizer([forms[language] for forms in parts])["input_ids"]
        assert not sum(ids.count(unknown) for ids in encoded), language


def test_has_the_conventions_of_nllb(nano):
    nano.engine.tokens.tokenizer.src_lang = "swh_Latn"
    ids = nano.engine.tokens.tokenizer("habari")["input_ids"]
    tokens = nano.engine.tokens.tokenizer.convert_ids_to_tokens(ids)
    assert tokens[0] == "swh_Latn"
    assert tokens[-1] == "</s>"
    assert nano.engine.tokens.tokenizer.convert_tokens_to_ids(["<s>", "<pad>", "</s>", "<unk>"]) == [0, 1, 2, 3]
    assert type(nano.engine.tokens.tokenizer).__name__ == "NllbTokenizer"
    assert type(nano.engine.model).__name__ == "M2M100ForConditionalGeneration"
    assert nano.engine.model.config.decoder_start_token_id == 2
    assert nano.engine.model.lm_head.weight.data_ptr() == nano.engine.model.model.shared.weight.data_ptr()


def test_is_small_and_described(quickstart_folder):
    folder = quickstart_folder.parent / "nano"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 12e6
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "python -m mlc.making.nano" in card
    assert "apache-2.0" in card
    log = read(folder / "training_log.jsonl")
    assert min(log[-1]["chrf_from_english"].values()) >= 70
    assert log[-2]["loss"] < log[0]["loss"]
