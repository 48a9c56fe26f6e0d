"""Encoder-decoders: what they are told of languages, how they are asked and scored, and which of them are refused."""

import json
import shutil

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, MBart50Tokenizer

from mlc.errors import UserError
from mlc.evaluation.engines.protocol import in_language
from mlc.evaluation.engines.transformers import TransformersEngine
from mlc.evaluation.scoring import Scorer
from mlc.models.begun import as_encoded
from mlc.models.continuations import answer_tokens
from mlc.models.encoders import decoder_opening, language_token, unknown_language
from mlc.models.loading import load_policy, save_policy
from mlc.models.prompts import encode_prompt
from mlc.models.sources import resolve_model
from mlc.shipped import shipped_data
from tests.encoders import save_m2m100, save_t5

PROMPTS = ["How do I bake bread?", "Where is the station, and when does it close?", "Tell me.", "Tell me."]
OPENINGS = {"refusal_openings": ["I can't help", "No."], "compliance_openings": ["Sure, here is"]}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    places = {"t5": save_t5(tmp_path_factory.mktemp("t5")), "m2m_100": save_m2m100(tmp_path_factory.mktemp("m2m"))}
    return {**places, "nano": shipped_data("nano")}


@pytest.fixture(scope="module")
def load(folders):
    return lambda name: load_policy(resolve_model(str(folders[name])), device="cpu", encodes=True)


@pytest.mark.parametrize("name", ["t5", "m2m_100", "nano"])
def test_answers_and_margins_are_those_of_each_prompt_alone(load, name):
    policy = load(name)
    scorer = Scorer(policy, **OPENINGS, layer=0.5, language="swh_Latn")
    engine = TransformersEngine(policy, max_new_tokens=8, batch_size=3, begin=scorer.begin, language="swh_Latn")
    given = sorted(engine.answer(PROMPTS), key=lambda completion: completion.position)
    scores = scorer.score(PROMPTS, batch_size=2)
    for prompt, completion, margin, state in zip(PROMPTS, given, scores.margins, scores.states, strict=True):
        ids = torch.tensor([encode_prompt(policy.tokenizer, prompt, language="swh_Latn").input_ids])
        with torch.inference_mode():
            read = policy.model.get_encoder()(input_ids=ids, output_hidden_states=True)
            told = [_mean(policy, read.last_hidden_state, text) for own in OPENINGS.values() for text in own]
            answer = _greedy(policy, read.last_hidden_state, 8)
        assert completion.text == policy.tokenizer.decode(answer, skip_special_tokens=True)
        assert completion.answer_tokens == len(answer)
        assert margin == pytest.approx(sum(told[:2]) / 2 - told[2], abs=1e-4)
        middle = read.hidden_states[round(0.5 * (len(read.hidden_states) - 1))][0, -1]
        assert np.allclose(state, middle, atol=1e-5)


def _mean(policy, states, text):
    """Mean log-probability a token of an opening, from a plain pass."""
    tokens = answer_tokens(policy.tokenizer, text)
    opening = decoder_opening(policy.model)
    read = torch.tensor([[*opening, *tokens]])
    logits = policy.model(encoder_outputs=as_encoded(states), decoder_input_ids=read).logits[0].log_softmax(-1)
    return float(sum(logits[len(opening) - 1 + place, token] for place, token in enumerate(tokens)) / len(tokens))


def _greedy(policy, states, tokens):
    written = list(decoder_opening(policy.model))
    before = len(written)
    while len(written) < before + tokens:
        read = torch.tensor([written])
        written.append(
            int(policy.model(encoder_outputs=as_encoded(states), decoder_input_ids=read).logits[0, -1].argmax())
        )
        if written[-1] in policy.stop_tokens:
            break
    return written[before:]


def test_a_prompt_begins_with_its_language_and_an_unknown_one_with_the_tokenizers_own(load):
    tokenizer = load("m2m_100").tokenizer
    first = {
        name: encode_prompt(tokenizer, "Tell me.", language=name).input_ids for name in ("swh_Latn", "sw", "yor_Latn")
    }
    own = encode_prompt(tokenizer, "Tell me.").input_ids
    assert first["swh_Latn"] == first["sw"] == (tokenizer.convert_tokens_to_ids("swh_Latn"), *own[1:])
    assert first["yor_Latn"] == own
    assert own[0] == tokenizer.convert_tokens_to_ids("eng_Latn")
    assert unknown_language(tokenizer, "swh_Latn") is None
    told = "yor_Latn: the policy has no token for the language, so that its prompts are read as those in its source"
    assert str(unknown_language(tokenizer, "yor_Latn")).startswith(told)


def test_only_the_token_that_the_tokenizer_put_there_is_another(load):
    tokenizer = load("m2m_100").tokenizer
    plain, told = (
        encode_prompt(tokenizer, "eng_Latn is a code", language=name).input_ids for name in (None, "fra_Latn")
    )
    assert [place for place, (own, other) in enumerate(zip(plain, told, strict=True)) if own != other] == [0]


def test_languages_of_mbart_are_known_by_their_tags():
    tokenizer = MBart50Tokenizer(src_lang="en_XX")
    told = {name: encode_prompt(tokenizer, "Hi", language=name).input_ids[0] for name in ("swh_Latn", "yor_Latn", None)}
    assert told == dict(zip(told, tokenizer.convert_tokens_to_ids(["sw_KE", "en_XX", "en_XX"]), strict=True))


def test_a_tokenizer_without_languages_is_told_none(load):
    tokenizer = load("t5").tokenizer
    assert language_token(tokenizer, "swh_Latn") is None
    assert unknown_language(tokenizer, "swh_Latn") is None
    assert encode_prompt(tokenizer, "Hi", language="swh_Latn") == encode_prompt(tokenizer, "Hi")


def test_answers_begin_with_the_source_language_in_a_saved_checkpoint_too(load, tmp_path):
    policy = load("m2m_100")
    save_policy(policy, tmp_path / "saved", dtype=torch.float32)
    told = json.loads((tmp_path / "saved" / "generation_config.json").read_text())
    assert told["forced_bos_token_id"] == policy.tokenizer.convert_tokens_to_ids("eng_Latn")
    assert decoder_opening(load("t5").model) == (0,)


def test_answers_in_another_language_are_another_engines(load):
    with_languages, without = (TransformersEngine(load(name), max_new_tokens=2) for name in ("m2m_100", "t5"))
    assert in_language(with_languages, "swh_Latn").identity != in_language(with_languages, "fra_Latn").identity
    assert in_language(without, "swh_Latn").identity == without.identity


def refusal(folder, **options):
    with pytest.raises(UserError) as error:
        load_policy(resolve_model(str(folder)), device="cpu", **options)
    return str(error.value)


def test_what_is_no_policy(folders, tmp_path):
    assert "needs a model that only decodes" in refusal(folders["t5"])
    copied = shutil.copytree(folders["t5"], tmp_path / "model")
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps({**config, "model_type": "whisper"}))
    assert "is an encoder-decoder of the type 'whisper', and those" in refusal(copied, encodes=True)
    (copied / "config.json").write_text(json.dumps({**config, "decoder_start_token_id": None}))
    assert "names no token that its decoder begins with" in refusal(copied, encodes=True)
    (copied / "config.json").write_text(json.dumps(config))
    tokenizer = AutoTokenizer.from_pretrained(copied)
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    tokenizer.save_pretrained(copied)
    assert "is an encoder-decoder with a chat template" in refusal(copied, encodes=True)
