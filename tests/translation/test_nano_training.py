import itertools
import json

import pytest
import torch

from mlc.languages import ENGLISH
from mlc.making.grammar import LANGUAGES, Grammar
from mlc.making.nano import training
from mlc.making.nano.corpus import TARGETS, Composition, Corpus, vocabulary_sentences
from mlc.making.nano.recipe import NanoRecipe
from mlc.making.nano.tokenizer import build_tokenizer
from mlc.making.quickstart import used_pairs
from mlc.translation.engines.seq2seq import Seq2SeqEngine
from mlc.translation.translator import Translator

RECIPE = NanoRecipe(
    vocab_size=600,
    d_model=16,
    ffn_dim=32,
    attention_heads=2,
    encoder_layers=1,
    decoder_layers=1,
    dropout=0.0,
    steps=4,
    warmup_steps=2,
    tokens_per_batch=400,
    checkpoint_every=2,
)


@pytest.fixture(scope="module")
def corpus():
    return Corpus.create(Grammar.load(), used=used_pairs(), held_out_share=0.02, seed=7)


@pytest.fixture(scope="module")
def tokenizer(corpus):
    return build_tokenizer(vocabulary_sentences(corpus, 5, 0), RECIPE.vocab_size)


@pytest.fixture(scope="module")
def some_batches(corpus, tokenizer):
    return list(itertools.islice(training.batches(corpus, tokenizer, RECIPE), 12))


def test_pairs_of_prompts_are_never_trained_on(corpus):
    used = used_pairs()
    assert len(used) == 360
    assert used <= set(corpus.held_out_pairs)
    assert not set(corpus.held_out_pairs) & set(corpus.training_pairs)
    everything = len(corpus.grammar.frames) * len(corpus.grammar.actions)
    assert len(corpus.held_out_pairs) + len(corpus.training_pairs) == everything
    assert len(corpus.held_out_pairs) == 360 + round(0.02 * everything)


def test_no_prompt_is_in_the_training_stream(corpus, quickstart_folder):
    references = [
        json.loads(line) for line in (quickstart_folder / "references" / "test.jsonl").read_text("utf-8").splitlines()
    ]
    unseen = set()
    for row in references:
        prompts = {language: row[language] for language in LANGUAGES}
        unseen |= {part.wordings[ENGLISH] for part in Composition(prompts).sentences()}
    openers = {forms[ENGLISH] for forms in corpus.grammar.openers.values()}
    with_action = {
        sentence
        for sentence in unseen - openers
        if any(action.forms[ENGLISH] in sentence for action in corpus.grammar.actions.values())
    }
    assert len(with_action) == len(references)
    seen = {item.wordings[ENGLISH] for item in itertools.islice(corpus.training_stream(0), 12000)}
    assert not seen & with_action


def test_sentences_are_aligned():
    two = Composition(dict.fromkeys(LANGUAGES, "One. Two."))
    assert [part.wordings["fra_Latn"] for part in two.sentences()] == ["One.", "Two."]
    unequal = Composition({**two.wordings, "fra_Latn": "Une."})
    assert unequal.sentences() == [unequal]


def test_unseen_compositions_are_distinct(corpus):
    unseen = corpus.unseen(200, 1)
    assert len({item.wordings[ENGLISH] for item in unseen}) == 200
    assert corpus.unseen(5, 1) == unseen[:5]


def test_rows_have_the_form_of_nllb(some_batches, tokenizer):
    codes = set(tokenizer.convert_tokens_to_ids(list(LANGUAGES)))
    for batch in some_batches:
        fan_out = len(batch.labels_BT) / len(batch.sources_SL)
        assert fan_out in (1, len(TARGETS))
        for row_L, mask_L in zip(batch.sources_SL, batch.mask_SL, strict=True):
            ids = row_L[mask_L.bool()].tolist()
            assert ids[0] in codes
            assert ids[-1] == 2
            assert not codes & set(ids[1:])
        for row_T in batch.labels_BT:
            ids = row_T[row_T != training.IGNORED].tolist()
            assert ids[0] in codes
            assert ids[-1] == 2
    english = tokenizer.convert_tokens_to_ids(ENGLISH)
    assert {bool((batch.sources_SL[:, 0] == english).all()) for batch in some_batches} == {True, False}


def test_batches_equal_the_tokenizer(corpus, tokenizer):
    item = corpus.unseen(1, 0)[0]
    batch = training._Encoder(tokenizer).batch([(item, "swh_Latn", ENGLISH)], fan_out=1)
    tokenizer.src_lang = "swh_Latn"
    assert batch.sources_SL[0].tolist() == tokenizer(item.wordings["swh_Latn"])["input_ids"]
    tokenizer.src_lang = ENGLISH
    assert batch.labels_BT[0].tolist() == tokenizer(item.wordings[ENGLISH])["input_ids"]


def test_encoding_a_source_once_changes_no_loss(some_batches, tokenizer):
    model = training.build_model(RECIPE, tokenizer).eval()
    batch = next(batch for batch in some_batches if len(batch.labels_BT) > len(batch.sources_SL))
    fan_out = len(batch.labels_BT) // len(batch.sources_SL)
    plain = model(
        input_ids=batch.sources_SL.repeat_interleave(fan_out, 0),
        attention_mask=batch.mask_SL.repeat_interleave(fan_out, 0),
        labels=batch.labels_BT,
    ).loss
    assert torch.allclose(training.loss_of(model, batch), plain, atol=1e-5)


def test_learning_rate_by_hand():
    recipe = NanoRecipe(steps=12, warmup_steps=2)
    factors = [training.learning_rate_factor(step, recipe) for step in (0, 1, 2, 7, 12)]
    assert factors == pytest.approx([0.5, 1.0, 1.0, 0.5, 0.0])


def test_training_writes_a_checkpoint_that_loads(corpus, tokenizer, tmp_path):
    model = training.build_model(RECIPE, tokenizer)
    before = model.model.shared.weight.detach().clone()
    steps = []
    summary = training.train(model, tokenizer, corpus, RECIPE, tmp_path, lambda step, loss: steps.append(step))
    assert steps == [1, 2, 3, 4]
    assert summary["steps"] == 4
    assert summary["target_tokens"] > 0
    assert not torch.equal(before, model.model.shared.weight)
    assert model.dtype == torch.float32
    engine = Seq2SeqEngine.from_folder_or_hub(tmp_path, device="cpu", max_new_tokens=8)
    assert engine.languages == tuple(sorted(LANGUAGES))
    assert len(Translator(engine).translate(["What is this?"], source=ENGLISH, target="arb_Arab")) == 1
    stored = engine.model.model.shared.weight
    assert torch.allclose(stored, model.model.shared.weight, atol=1e-3)


def test_the_same_seed_gives_the_same_stream(corpus):
    first, second = (
        [next(stream) for _ in range(50)] for stream in (corpus.training_stream(3), corpus.training_stream(3))
    )
    assert first == second
