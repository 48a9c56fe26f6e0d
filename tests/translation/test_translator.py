import math
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from mlc.errors import UserError
from mlc.translation.engines import load_engine
from mlc.translation.engines.nllb import NllbEngine
from mlc.translation.engines.tokens import MAX_SOURCE_TOKENS
from mlc.translation.settings import TranslatorSettings
from mlc.translation.translator import Translator


def translate(translator, texts, **kwargs):
    return translator.translate(texts, **{"source": "eng_Latn", "target": "deu_Latn", **kwargs})


def with_settings(translator, **settings):
    engine = translator.engine
    settings = {"max_new_tokens": engine.max_new_tokens, **settings}
    return Translator(NllbEngine(engine.model, engine.tokens.tokenizer, **settings))


class Noting(NllbEngine):
    """Keeps what it was asked for."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.batches = []

    def _translate_batch(self, batch, source, targets):
        self.batches.append((list(batch), tuple(targets)))
        return super()._translate_batch(batch, source, targets)


def noting(translator, memory=None, **settings):
    engine = translator.engine
    settings = {"max_new_tokens": engine.max_new_tokens, **settings}
    return Translator(Noting(engine.model, engine.tokens.tokenizer, **settings), memory)


def greedy_by_hand(translator, sentence, source, target, steps):
    """Greedy search written out: the ids after the language token, and the log-probability of each."""
    tokenizer = translator.engine.tokens.tokenizer
    words = tokenizer(sentence, add_special_tokens=False)["input_ids"]
    ids = torch.tensor([[tokenizer.convert_tokens_to_ids(source), *words, 2]])
    row, logprobs = [2, tokenizer.convert_tokens_to_ids(target)], []
    with torch.no_grad():
        while len(row) < steps + 1 and row[2:][-1:] != [2]:
            logits = translator.engine.model(input_ids=ids, decoder_input_ids=torch.tensor([row])).logits[0, -1]
            row.append(int(logits.argmax()))
            logprobs.append(float(logits.log_softmax(-1)[row[-1]]))
    return row[2:], logprobs


@pytest.mark.parametrize("name", ["tiny", "nano"])
def test_equals_greedy_search_by_hand(name, request):
    translator = request.getfixturevalue(name)
    sentence = "How can I boil potatoes for a salad?"
    ids, logprobs = greedy_by_hand(translator, sentence, "eng_Latn", "swh_Latn", translator.engine.max_new_tokens)
    (translation,) = translate(translator, [sentence], target="swh_Latn")
    assert translation.text == translator.engine.tokens.tokenizer.decode(ids, skip_special_tokens=True).strip()
    assert translation.logprob == pytest.approx(sum(logprobs) / len(logprobs), abs=1e-4)
    assert translation.finished == (ids[-1] == 2)


@pytest.mark.parametrize("name", ["tiny", "nano"])
def test_a_batch_changes_nothing(name, request):
    translator = request.getfixturevalue(name)
    texts = [
        "How can I boil potatoes?",
        "Please help me bake a large cake for the children next door.",
        "What is this?",
        "This topic is new to me. Give me a simple guide on how to fry fish.",
        "🙂",
    ] * 2
    singly, together = (translate(with_settings(translator, batch_tokens=size), texts) for size in (1, 400))
    assert [row.text for row in singly] == [row.text for row in together]
    assert [row.finished for row in singly] == [row.finished for row in together]
    assert [row.logprob for row in singly] == pytest.approx([row.logprob for row in together], abs=1e-4)


def test_order_is_kept_and_repeats_are_translated_once(nano):
    translator = noting(nano)
    first, second = "This topic is new to me.", "I have a quick question."
    rows = translate(translator, [second, first, second, f"{first} {second}"])
    assert sorted(sentence for batch, _ in translator.engine.batches for sentence in batch) == sorted([first, second])
    assert rows[0] == rows[2]
    assert rows[3].text == f"{rows[1].text} {rows[0].text}"
    assert (rows[3].sentences_in, rows[3].sentences_out) == (2, 2)


def test_logprob_of_a_text_is_the_mean_over_its_tokens(nano):
    first, second = "This topic is new to me.", "I could not find anything useful on the internet."
    rows = translate(nano, [first, second, f"{first} {second}"])
    sizes = [len(greedy_by_hand(nano, sentence, "eng_Latn", "deu_Latn", 100)[0]) for sentence in (first, second)]
    mean = (rows[0].logprob * sizes[0] + rows[1].logprob * sizes[1]) / sum(sizes)
    assert rows[2].logprob == pytest.approx(mean, abs=1e-5)
    assert all(row.logprob <= 0 for row in rows)


def test_white_space_between_sentences_is_kept(nano):
    alone = translate(nano, ["This topic is new to me.", "I have a quick question."])
    (joined,) = translate(nano, ["This topic is new to me.\n\n  I have a quick question."])
    assert joined.text == f"{alone[0].text}\n\n  {alone[1].text}"


@pytest.mark.parametrize("blank", ["", " ", "\n\t \n"])
def test_blank_text(tiny, blank):
    (row,) = translate(tiny, [blank])
    assert (row.text, row.logprob, row.finished, row.sentences_in, row.sentences_out) == ("", 0.0, True, 0, 0)


def test_no_texts(tiny):
    assert translate(tiny, []) == []


@pytest.mark.parametrize("odd", ["🙂", "\u200b", "\x00", "👩‍👩‍👧‍👦 ok", "\ufeff", "<s></s> deu_Latn <mask>"])
def test_odd_characters(tiny, odd):
    (row,) = translate(tiny, [odd])
    assert row.sentences_in == 1
    assert math.isfinite(row.logprob)


def test_a_translation_cut_short_is_not_finished(nano):
    short = with_settings(nano, max_new_tokens=4)
    sentence = "I could not find anything useful on the internet."
    assert translate(nano, [sentence])[0].finished
    assert not translate(short, [sentence])[0].finished
    assert not translate(short, [f"What is this? {sentence}"])[0].finished


def test_a_sentence_too_long_to_read_is_not_finished(tiny):
    word = "good" * (MAX_SOURCE_TOKENS + 50)
    (row,) = translate(tiny, [word])
    assert row.sentences_in == 1
    assert not row.finished
    assert math.isfinite(row.logprob)


def test_beam_search(nano):
    beam = with_settings(nano, num_beams=3, max_new_tokens=64)
    sentences = ["This topic is new to me.", "I have a quick question."]
    for row, greedy in zip(translate(beam, sentences), translate(nano, sentences), strict=True):
        assert row.finished
        assert row.text
        assert row.logprob >= greedy.logprob - 0.05


def test_progress_adds_up_to_the_texts(tiny):
    calls = []
    texts = ["One thing.", "", "Two things. One thing.", "Three.", " "]
    translate(with_settings(tiny, batch_tokens=1), texts, on_progress=calls.append)
    assert sum(calls) == len(texts)
    assert len(calls) > 2
    assert all(call > 0 for call in calls)


@pytest.mark.parametrize(
    "codes", [{"target": "zul_Latn"}, {"source": "xyz_Abcd"}, {"target": "<unk>"}, {"target": "de"}]
)
def test_unknown_languages(tiny, codes):
    with pytest.raises(UserError, match=repr(next(iter(codes.values())))):
        translate(tiny, ["Hello."], **codes)
    with pytest.raises(UserError):
        translate(tiny, [], **codes)


def test_languages_of_the_checkpoint(nano):
    assert nano.engine.languages == (
        "arb_Arab",
        "deu_Latn",
        "eng_Latn",
        "fra_Latn",
        "hin_Deva",
        "spa_Latn",
        "swh_Latn",
    )


def test_the_configuration_reaches_the_translator(tiny_nllb_folder):
    settings = TranslatorSettings(
        model=str(tiny_nllb_folder), num_beams=2, max_new_tokens=7, batch_tokens=3, device="cpu"
    )
    engine = load_engine(settings)
    assert (engine.num_beams, engine.max_new_tokens, engine.batch_tokens) == (2, 7, 3)
    assert next(engine.model.parameters()).dtype == torch.float32


def test_the_source_language_reaches_the_model(tiny):
    """The tokenizer of transformers 5 ignores a source language given in the call."""
    rows = [translate(tiny, ["good morning"], source=source)[0] for source in ("eng_Latn", "swh_Latn")]
    assert rows[0].logprob != rows[1].logprob


def test_threads_may_share_a_translator(tiny):
    jobs = [("eng_Latn", "deu_Latn"), ("swh_Latn", "eng_Latn"), ("hin_Deva", "eng_Latn"), ("eng_Latn", "arb_Arab")] * 5
    texts = ["good morning", "what is this?", "habari za asubuhi"]

    def work(job):
        return tiny.translate(texts, source=job[0], target=job[1])

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, jobs)) == [work(job) for job in jobs]


@pytest.mark.parametrize("location", ["./nowhere", "/nowhere/at/all", "a/b/c"])
def test_a_folder_that_does_not_exist(location):
    with pytest.raises(UserError, match=r"is not a folder; give a hub id .* a local folder .* shipped:nano"):
        NllbEngine.from_folder_or_hub(location, device="cpu")


def test_shipped_data_that_does_not_exist():
    with pytest.raises(UserError, match="large"):
        NllbEngine.from_folder_or_hub("shipped:large", device="cpu")


def test_a_hub_id_out_of_reach(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"'nobody/nothing' cannot be loaded .*shipped:nano\.$") as caught:
        NllbEngine.from_folder_or_hub("nobody/nothing", device="cpu")
    assert "\n" not in str(caught.value)


def test_an_empty_folder(tmp_path):
    with pytest.raises(UserError, match="cannot be loaded"):
        NllbEngine.from_folder_or_hub(tmp_path, device="cpu")


def test_a_checkpoint_of_another_kind(tmp_path):
    from transformers import GPT2Config

    GPT2Config().save_pretrained(tmp_path)
    with pytest.raises(UserError, match="is a gpt2 checkpoint, not one of NLLB"):
        NllbEngine.from_folder_or_hub(tmp_path, device="cpu")


def test_broken_weights(tiny_nllb_folder, tmp_path):
    for file in tiny_nllb_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(UserError, match="cannot be loaded"):
        NllbEngine.from_folder_or_hub(tmp_path, device="cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
def test_a_device_that_is_missing(tiny_nllb_folder):
    with pytest.raises(UserError, match="'cuda' is not available"):
        NllbEngine.from_folder_or_hub(tiny_nllb_folder, device="cuda")
