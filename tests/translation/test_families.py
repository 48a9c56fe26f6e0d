"""Checkpoints of other families through the same engines as NLLB."""

import json
import shutil

import pytest
import sentencepiece
import tokenizers
import torch
from transformers import (
    M2M100Config,
    M2M100ForConditionalGeneration,
    M2M100Tokenizer,
    MarianConfig,
    MarianMTModel,
    MarianTokenizer,
    MBart50Tokenizer,
    MBartConfig,
    MBartForConditionalGeneration,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from mlc.errors import UserError
from mlc.translation.checkpoints import checkpoint_languages
from mlc.translation.engines import load_engine
from mlc.translation.settings import TranslatorSettings
from mlc.translation.translator import Translator

ENGLISH, GERMAN, FRENCH = "eng_Latn", "deu_Latn", "fra_Latn"
SENTENCES = ["good morning to all", "what is this", "good morning what is this to all of you"]
SIZES = {
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
}


def spm(folder):
    """A sentencepiece model of a few words, and its pieces."""
    text = folder / "text.txt"
    text.write_text("\n".join([*SENTENCES, "guten Morgen euch allen", "bonjour tout le monde"] * 5), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(folder / "spm"), vocab_size=60, hard_vocab_limit=False, minloglevel=2
    )
    model = sentencepiece.SentencePieceProcessor(model_file=str(folder / "spm.model"))
    return folder / "spm.model", [model.id_to_piece(number) for number in range(3, model.get_piece_size())]


@pytest.fixture(scope="module")
def m2m100(tmp_path_factory):
    folder = tmp_path_factory.mktemp("m2m100")
    model, pieces = spm(folder)
    vocabulary = {piece: index for index, piece in enumerate(["<s>", "<pad>", "</s>", "<unk>", *pieces])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    tokenizer = M2M100Tokenizer(folder / "vocab.json", str(model), src_lang="en")
    torch.manual_seed(0)
    network = M2M100ForConditionalGeneration(
        M2M100Config(vocab_size=max(tokenizer.lang_code_to_id.values()) + 9, decoder_start_token_id=2, **SIZES)
    )
    tokenizer.save_pretrained(folder / "saved")
    network.save_pretrained(folder / "saved")
    return folder / "saved"


def marian(folder, **languages):
    model, pieces = spm(folder)
    codes = languages.pop("codes", [])
    vocabulary = {piece: index for index, piece in enumerate(["</s>", "<unk>", *codes, *pieces, "<pad>"])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    tokenizer = MarianTokenizer(str(model), str(model), str(folder / "vocab.json"), **languages)
    torch.manual_seed(0)
    pad = vocabulary["<pad>"]
    network = MarianMTModel(
        MarianConfig(
            vocab_size=len(vocabulary),
            pad_token_id=pad,
            decoder_start_token_id=pad,
            eos_token_id=0,
            scale_embedding=True,
            max_position_embeddings=64,
            **SIZES,
        )
    )
    network.generation_config.bad_words_ids = [[pad]]
    tokenizer.save_pretrained(folder / "saved")
    network.save_pretrained(folder / "saved")
    return folder / "saved"


@pytest.fixture(scope="module")
def one_pair(tmp_path_factory):
    return marian(tmp_path_factory.mktemp("one-pair"), source_lang="en", target_lang="de")


@pytest.fixture(scope="module")
def many_targets(tmp_path_factory):
    codes = [">>fra<<", ">>deu<<", ">>xxx<<"]
    return marian(tmp_path_factory.mktemp("many"), source_lang="eng", target_lang="gmw", codes=codes)


def load(folder, **settings):
    settings = {"max_new_tokens": 12, "device": "cpu", **settings}
    return load_engine(TranslatorSettings(model=str(folder), **settings))


def every(engine, sentences, *targets, source=ENGLISH):
    done = {target: {} for target in targets}
    for target, batch in engine.translate(sentences, source=source, targets=targets):
        done[target].update(batch)
    return done


def by_hand(engine, ids, row, steps, banned=()):
    """Greedy search written out: ids after those of ``row``, and the log-probability of each."""
    given, logprobs = len(row), []
    end = engine.model.config.eos_token_id
    with torch.no_grad():
        while len(row) < steps + given and row[given:][-1:] != [end]:
            logits = engine.model(input_ids=torch.tensor([ids]), decoder_input_ids=torch.tensor([row])).logits[0, -1]
            logprob = logits.log_softmax(-1)
            logits[list(banned)] = -torch.inf
            row.append(int(logits.argmax()))
            logprobs.append(float(logprob[row[-1]]))
    return row[given:], logprobs


@pytest.mark.parametrize("num_beams", [1, 3])
def test_m2m100(m2m100, num_beams):
    engine = load(m2m100, num_beams=num_beams)
    assert len(engine.languages) == 97
    assert {ENGLISH, FRENCH, "zho_Hans", "nob_Latn"} <= set(engine.languages)
    tokenizer = M2M100Tokenizer.from_pretrained(m2m100)
    done = every(engine, SENTENCES, GERMAN, FRENCH)
    for target, tag in ((GERMAN, "de"), (FRENCH, "fr")):
        for sentence in SENTENCES:
            ids = [tokenizer.get_lang_id("en"), *tokenizer.encode(sentence, add_special_tokens=False), 2]
            expected, logprobs = by_hand(engine, ids, [2, tokenizer.get_lang_id(tag)], 11)
            row = done[target][sentence]
            if num_beams == 1:
                assert row.text == tokenizer.decode(expected, skip_special_tokens=True).strip()
                assert row.logprob_sum == pytest.approx(sum(logprobs), abs=1e-4)
            else:
                assert row.logprob_sum > -100
            assert row.tokens
    assert done[GERMAN] != done[FRENCH]


def test_marian_of_one_pair(one_pair):
    engine = load(one_pair)
    assert engine.languages == (GERMAN, ENGLISH)
    pad = engine.model.config.pad_token_id
    done = every(engine, SENTENCES, GERMAN)[GERMAN]
    for sentence in SENTENCES:
        ids = engine.tokens.tokenizer(sentence)["input_ids"]
        expected, logprobs = by_hand(engine, ids, [pad], 12, banned=[pad])
        assert done[sentence].text == engine.tokens.tokenizer.decode(expected, skip_special_tokens=True).strip()
        assert done[sentence].logprob_sum == pytest.approx(sum(logprobs), abs=1e-4)
        assert done[sentence].tokens == len(expected)


def test_marian_reads_the_target_with_the_source(many_targets):
    engine = load(many_targets)
    # The code xxx is of no language.
    assert engine.languages == (GERMAN, ENGLISH, FRENCH)
    codes = {GERMAN: ">>deu<<", FRENCH: ">>fra<<"}
    for target, code in codes.items():
        (ids,) = engine.tokens.encode(["good morning"], ENGLISH, (target,))
        assert engine.tokens.tokenizer.convert_ids_to_tokens(ids)[0] == code
    done = every(engine, SENTENCES, *codes)
    assert all(done[target].keys() == set(SENTENCES) for target in codes)
    assert every(engine, SENTENCES, FRENCH)[FRENCH] == done[FRENCH]


def test_marian_translates_texts(one_pair):
    translator = Translator(load(one_pair))
    (row,) = translator.translate(["- good morning\n- what is this?"], source=ENGLISH, target=GERMAN)
    assert row.sentences_in == 2
    assert row.text.startswith("- ")


@pytest.mark.parametrize(
    ("source", "target"), [(ENGLISH, FRENCH), (GERMAN, ENGLISH), (ENGLISH, ENGLISH), (FRENCH, GERMAN)]
)
def test_marian_translates_in_one_direction(one_pair, source, target):
    with pytest.raises(UserError, match=rf"from eng_Latn into deu_Latn, not from {source} into {target}"):
        every(load(one_pair), ["good morning"], target, source=source)


def test_marian_writes_no_more_than_its_positions(one_pair):
    with pytest.raises(UserError, match="writes at most 64 tokens, and max_new_tokens is 65"):
        load(one_pair, max_new_tokens=65)


def t5(folder, pieces, **config):
    """A random T5 in the shape of MADLAD-400: gated, an output of its own, padding 1, end 2, start 0."""
    text = folder / "text.txt"
    text.write_text("\n".join([*SENTENCES, "guten Morgen euch allen", "bonjour tout le monde"] * 5), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(text),
        model_prefix=str(folder / "spm"),
        vocab_size=70 + len(pieces),
        hard_vocab_limit=False,
        user_defined_symbols=pieces,
        minloglevel=2,
    )
    model = sentencepiece.SentencePieceProcessor(model_file=str(folder / "spm.model"))
    learnt = [(model.id_to_piece(number), model.get_score(number)) for number in range(3, model.get_piece_size())]
    vocabulary = [("<unk>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), *learnt]
    backend = tokenizers.Tokenizer(tokenizers.models.Unigram(vocabulary, unk_id=0))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    backend.decoder = tokenizers.decoders.Metaspace(prepend_scheme="always")
    backend.post_processor = tokenizers.processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 2)]
    )
    backend.save(str(folder / "tokenizer.json"))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), unk_token="<unk>", pad_token="<pad>", eos_token="</s>"
    )
    torch.manual_seed(0)
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    special = {"pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 0}
    # Larger weights than usual, so that what comes out depends on what goes in.
    shape = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "initializer_factor": 3.0, **config}
    network = T5ForConditionalGeneration(T5Config(vocab_size=len(tokenizer), **sizes, **special, **shape))
    tokenizer.save_pretrained(folder / "saved")
    network.save_pretrained(folder / "saved")
    return folder / "saved"


@pytest.fixture(scope="module")
def madlad(tmp_path_factory):
    # A script, a region, romanised Hindi and a language that NLLB has not are no targets.
    pieces = ["<2de>", "<2fr>", "<2en>", "<2zh>", "<2zh_Hant>", "<2Cyrl>", "<2RU>", "<2hi_Latn>", "<2xxx>"]
    return t5(tmp_path_factory.mktemp("madlad"), pieces)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_madlad(madlad, num_beams):
    engine = load(madlad, num_beams=num_beams)
    assert engine.languages == (GERMAN, ENGLISH, FRENCH, "zho_Hans", "zho_Hant")
    tokenizer = engine.tokens.tokenizer
    done = every(engine, SENTENCES, GERMAN, FRENCH)
    for target, marker in ((GERMAN, "<2de>"), (FRENCH, "<2fr>")):
        for sentence in SENTENCES:
            ids = tokenizer(f"{marker} {sentence}")["input_ids"]
            assert tokenizer.convert_tokens_to_ids(marker) in ids[:2]
            expected, logprobs = by_hand(engine, ids, [0], 12)
            row = done[target][sentence]
            if num_beams == 1:
                assert row.text == tokenizer.decode(expected, skip_special_tokens=True).strip()
                assert (row.logprob_sum, row.tokens) == (pytest.approx(sum(logprobs), abs=1e-4), len(expected))
            else:
                assert row.logprob_sum > -100
    assert done[GERMAN] != done[FRENCH]


def test_madlad_translates_from_any_language_that_it_has(madlad):
    engine = load(madlad)
    assert every(engine, SENTENCES, GERMAN, source=FRENCH) == every(engine, SENTENCES, GERMAN)
    with pytest.raises(UserError, match="has no language 'swh_Latn'"):
        every(engine, SENTENCES, "swh_Latn")
    assert checkpoint_languages(madlad) == set(engine.languages)


def test_a_marker_in_a_sentence_names_no_target(madlad):
    engine = load(madlad)
    (ids,) = engine.tokens.encode(["good <2fr> morning"], ENGLISH, (GERMAN,))
    tokens = engine.tokens.tokenizer.convert_ids_to_tokens(ids)
    assert "<2de>" in tokens[:2]
    assert "<2fr>" not in tokens


def test_markers_that_are_declared_as_special_tokens(madlad, tmp_path):
    shutil.copytree(madlad, tmp_path / "copy")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(madlad)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<2de>", "<2fr>"]})
    tokenizer.save_pretrained(tmp_path / "copy")
    engine = load(tmp_path / "copy")
    marker = tokenizer.convert_tokens_to_ids("<2fr>")
    (ids,) = engine.tokens.encode(["good morning"], ENGLISH, (FRENCH,))
    assert ids.count(marker) == 1
    assert marker in ids[:2]


def test_t5_is_told_in_words(tmp_path):
    task = {"translation_en_to_de": {"prefix": "translate English to German: "}}
    engine = load(t5(tmp_path, [], task_specific_params={**task, "summarization": {"prefix": "summarize: "}}))
    assert engine.languages == (GERMAN, ENGLISH)
    (ids,) = engine.tokens.encode(["good morning"], ENGLISH, (GERMAN,))
    assert ids == engine.tokens.tokenizer("translate English to German: good morning")["input_ids"]
    with pytest.raises(UserError, match="from eng_Latn into deu_Latn, not from deu_Latn into eng_Latn"):
        every(engine, SENTENCES, ENGLISH, source=GERMAN)


def test_t5_without_languages_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"\(t5\) has no tokens of languages; .* MADLAD-400"):
        load(t5(tmp_path, []))


@pytest.mark.parametrize("num_beams", [1, 3])
def test_mbart50(tmp_path, num_beams):
    model, _ = spm(tmp_path)
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(model))
    vocabulary = [(pieces.id_to_piece(number), pieces.get_score(number)) for number in range(pieces.get_piece_size())]
    tokenizer = MBart50Tokenizer(vocab=vocabulary, src_lang="en_XX")
    torch.manual_seed(0)
    network = MBartForConditionalGeneration(
        MBartConfig(vocab_size=len(tokenizer), decoder_start_token_id=2, forced_eos_token_id=None, **SIZES)
    )
    network.final_logits_bias = torch.randn_like(network.final_logits_bias)
    tokenizer.save_pretrained(tmp_path / "saved")
    network.save_pretrained(tmp_path / "saved")
    engine = load(tmp_path / "saved", num_beams=num_beams)
    assert {ENGLISH, GERMAN, FRENCH, "zho_Hans", "swh_Latn"} <= set(engine.languages)
    done = every(engine, SENTENCES, GERMAN, FRENCH)
    for target, tag in ((GERMAN, "de_DE"), (FRENCH, "fr_XX")):
        for sentence in SENTENCES:
            ids = tokenizer(sentence)["input_ids"]
            assert tokenizer.convert_ids_to_tokens(ids)[0] == "en_XX"
            expected, logprobs = by_hand(engine, ids, [2, tokenizer.convert_tokens_to_ids(tag)], 11)
            row = done[target][sentence]
            if num_beams == 1:
                assert row.text == tokenizer.decode(expected, skip_special_tokens=True).strip()
                assert row.logprob_sum == pytest.approx(sum(logprobs), abs=1e-4)
            else:
                assert row.logprob_sum > -100


class TestConverted:
    @pytest.fixture(autouse=True)
    def _installed(self, tmp_path, monkeypatch):
        pytest.importorskip("ctranslate2")
        monkeypatch.setenv("MLC_CACHE", str(tmp_path))

    @pytest.mark.parametrize("family", ["one_pair", "many_targets"])
    def test_the_same_text(self, family, request):
        folder = request.getfixturevalue(family)
        ours = every(load(folder), SENTENCES, GERMAN)[GERMAN]
        theirs = every(load(folder, engine="ctranslate2", precision="float32"), SENTENCES, GERMAN)[GERMAN]
        for sentence in SENTENCES:
            # CTranslate2 takes the padding out of the vocabulary, so that a random model is a little surer.
            assert (theirs[sentence].text, theirs[sentence].tokens) == (ours[sentence].text, ours[sentence].tokens)
            assert theirs[sentence].logprob_sum > ours[sentence].logprob_sum

    @pytest.mark.parametrize(("family", "name"), [("m2m100", "M2M100"), ("madlad", "MADLAD-400")])
    def test_what_it_does_not_convert_is_refused(self, family, name, request):
        with pytest.raises(UserError, match=rf"one of {name}, .* set translator\.engine to transformers\."):
            load(request.getfixturevalue(family), engine="ctranslate2")


@pytest.mark.parametrize("text", ["a </s> b", "deu_Latn", "<unk> fra_Latn <mask>", "__de__", ">>fra<< good"])
@pytest.mark.parametrize("family", ["tiny_nllb_folder", "m2m100", "one_pair", "madlad"])
def test_what_looks_like_a_special_token_is_text(family, text, request):
    engine = load(request.getfixturevalue(family))
    (ids,) = engine.tokens.encode([f"good {text}"], ENGLISH, (GERMAN,))
    special = {engine.tokens.tokenizer.convert_tokens_to_ids(token) for token in ("</s>", "<mask>", "deu_Latn")}
    special |= {engine.tokens.start(target) for target in engine.languages}
    unknown = engine.tokens.tokenizer.unk_token_id
    inner = ids[:-1] if family in ("one_pair", "madlad") else ids[1:-1]
    assert not (special - {None, unknown}) & set(inner)


def test_weights_from_before_safetensors(tiny_nllb_folder, tmp_path):
    """NLLB-200 on the hub has its weights as pytorch_model.bin."""
    from safetensors.torch import load_file

    for file in tiny_nllb_folder.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(tiny_nllb_folder / "model.safetensors")
    torch.save(weights, tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match="allow_pickle"):
        load(tmp_path)
    engine = load(tmp_path, allow_pickle=True)
    assert every(engine, SENTENCES, GERMAN) == every(load(tiny_nllb_folder), SENTENCES, GERMAN)
    before = engine.identity
    torch.save({name: tensor + 1 for name, tensor in weights.items()}, tmp_path / "pytorch_model.bin")
    assert load(tmp_path, allow_pickle=True).identity != before
