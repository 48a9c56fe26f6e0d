import math
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from mlc.errors import UserError
from mlc.translation.engines import load_engine
from mlc.translation.engines.seq2seq import Seq2SeqEngine
from mlc.translation.engines.tokens import MAX_SOURCE_TOKENS, batches
from mlc.translation.memory import TranslationMemory
from mlc.translation.settings import TranslatorSettings
from mlc.translation.translator import Translator


def translate(translator, texts, **kwargs):
    return translator.translate(texts, **{"source": "eng_Latn", "target": "deu_Latn", **kwargs})


def with_settings(translator, **settings):
    engine = translator.engine
    settings = {"max_new_tokens": engine.max_new_tokens, **settings}
    return Translator(Seq2SeqEngine(engine.model, engine.tokens.tokenizer, **settings))


class Noting(Seq2SeqEngine):
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


@pytest.mark.parametrize("text", ["", " ", "\n\t \n", "🙂🙂", "---\n|---|", "...?!", "\u200b", "1984", "https://a.b"])
def test_a_text_without_words(tiny, text):
    (row,) = translate(tiny, [text])
    assert (row.text, row.logprob, row.finished, row.sentences_in, row.sentences_out) == (text, 0.0, True, 0, 0)


def test_no_texts(tiny):
    assert translate(tiny, []) == []


@pytest.mark.parametrize("odd", ["a\u200b", "\x00b", "👩‍👩‍👧‍👦 ok", "\ufeffc", "<s></s> deu_Latn <mask>"])
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
    steps = []
    texts = ["One thing.", "", "Two things. One thing.", "Three.", " "]
    translate(with_settings(tiny, batch_tokens=1), texts, on_progress=steps.append)
    assert (steps[0].texts, steps[0].planned) == (2, 3)
    assert sum(step.texts for step in steps) == len(texts)
    assert [(step.target, step.sentences) for step in steps[1:]] == [("deu_Latn", 1)] * 3
    assert all(step.tokens > 0 for step in steps[1:])


def test_progress_tells_what_was_known(tiny, tmp_path):
    engine = tiny.engine
    translator = Translator(engine, TranslationMemory(tmp_path, engine.identity, engine.facts))
    translate(translator, ["One thing."])
    steps = []
    translate(translator, ["One thing. Two things."], on_progress=steps.append)
    assert [(step.planned, step.sentences, step.tokens > 0) for step in steps] == [
        (2, 0, False),
        (0, 1, False),
        (0, 1, True),
    ]


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
        Seq2SeqEngine.from_folder_or_hub(location, device="cpu")


def test_shipped_data_that_does_not_exist():
    with pytest.raises(UserError, match="large"):
        Seq2SeqEngine.from_folder_or_hub("shipped:large", device="cpu")


def test_a_hub_id_out_of_reach(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"'nobody/nothing' cannot be loaded .*shipped:nano\.$") as caught:
        Seq2SeqEngine.from_folder_or_hub("nobody/nothing", device="cpu")
    assert "\n" not in str(caught.value)


def test_an_empty_folder(tmp_path):
    with pytest.raises(UserError, match="cannot be loaded"):
        Seq2SeqEngine.from_folder_or_hub(tmp_path, device="cpu")


def test_a_checkpoint_of_another_kind(tmp_path):
    from transformers import GPT2Config

    GPT2Config().save_pretrained(tmp_path)
    with pytest.raises(UserError, match="is a gpt2 checkpoint, which does not translate"):
        Seq2SeqEngine.from_folder_or_hub(tmp_path, device="cpu")


def test_broken_weights(tiny_nllb_folder, tmp_path):
    for file in tiny_nllb_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(UserError, match="cannot be loaded"):
        Seq2SeqEngine.from_folder_or_hub(tmp_path, device="cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
def test_a_device_that_is_missing(tiny_nllb_folder):
    with pytest.raises(UserError, match="'cuda' is not available"):
        Seq2SeqEngine.from_folder_or_hub(tiny_nllb_folder, device="cuda")


TARGETS = ("deu_Latn", "fra_Latn", "swh_Latn")
SENTENCES = ["This topic is new to me.", "I have a quick question.", "How can I boil potatoes for a salad?"]


def test_the_encoder_reads_each_sentence_once_for_all_languages(nano):
    lengths = []
    hook = nano.engine.model.get_encoder().register_forward_hook(
        lambda module, arguments, output: lengths.append(len(output.last_hidden_state))
    )
    try:
        together = list(nano.stream(SENTENCES, source="eng_Latn", targets=TARGETS))
    finally:
        hook.remove()
    assert sum(lengths) == len(SENTENCES)
    for target in TARGETS:
        for row, alone in zip(together, translate(nano, SENTENCES, target=target), strict=True):
            assert (row[target].text, row[target].finished) == (alone.text, alone.finished)
            assert row[target].logprob == pytest.approx(alone.logprob, abs=1e-4)


@pytest.mark.parametrize("max_new_tokens", [2, 9, 128])
def test_equals_generate(nano, max_new_tokens):
    """Of transformers, one sentence and one language at a time."""
    engine, tokenizer = nano.engine, nano.engine.tokens.tokenizer
    ours = with_settings(nano, max_new_tokens=max_new_tokens)
    rows = list(ours.stream(SENTENCES, source="eng_Latn", targets=TARGETS))
    tokenizer.src_lang = "eng_Latn"
    for sentence, row in zip(SENTENCES, rows, strict=True):
        inputs = tokenizer(sentence, return_tensors="pt")
        for target in TARGETS:
            code = tokenizer.convert_tokens_to_ids(target)
            ids = engine.model.generate(
                **inputs, forced_bos_token_id=code, num_beams=1, do_sample=False, max_new_tokens=max_new_tokens
            )[0]
            assert row[target].text == tokenizer.decode(ids, skip_special_tokens=True).strip()
            assert row[target].finished == (2 in ids[2:])


def test_a_checkpoint_that_asks_for_more_than_the_likeliest_token_gets_it(tiny_nllb_folder):
    engine = Seq2SeqEngine.from_folder_or_hub(tiny_nllb_folder, device="cpu", max_new_tokens=12)
    (before,) = translate(Translator(engine), ["good morning"])
    del engine._chooses_freely
    engine.model.generation_config.no_repeat_ngram_size = 1
    (after,) = translate(Translator(engine), ["good morning"])
    words = after.text.split()
    assert before.text != after.text
    assert len(set(words)) == len(words)


def test_batches_depend_on_the_sentences_alone():
    lengths = {f"{number:02}": 3 + number * 7 % 20 for number in range(40)}
    shuffled = dict(sorted(lengths.items(), key=lambda item: hash(item[0])))
    made = list(batches(lengths, targets=4, budget=300))
    assert made == list(batches(shuffled, targets=4, budget=300))
    assert sorted(sentence for batch in made for sentence in batch) == sorted(lengths)
    assert all(max(lengths[name] for name in batch) * len(batch) * 4 <= 300 for batch in made)
    assert [lengths[name] for batch in made for name in batch] == sorted(lengths.values(), reverse=True)
    assert list(batches({"long": 10_000, "b": 1}, targets=2, budget=10)) == [["long"], ["b"]]
    assert list(batches({}, targets=2, budget=10)) == []


class Cramped(Seq2SeqEngine):
    """On a device with room for so many rows."""

    room = 4

    def _translate_batch(self, batch, source, targets):
        if len(batch) * len(targets) > self.room:
            raise torch.OutOfMemoryError
        return super()._translate_batch(batch, source, targets)


@pytest.mark.parametrize("room", [1, 4])
def test_halves_the_batch_where_memory_does_not_suffice(nano, room):
    engine = Cramped(nano.engine.model, nano.engine.tokens.tokenizer, max_new_tokens=128)
    engine.room = room
    rows = list(Translator(engine).stream(SENTENCES, source="eng_Latn", targets=TARGETS))
    expected = list(nano.stream(SENTENCES, source="eng_Latn", targets=TARGETS))
    assert [[row[target].text for target in TARGETS] for row in rows] == [
        [row[target].text for target in TARGETS] for row in expected
    ]
    engine.room = 0
    with pytest.raises(UserError, match=r"does not suffice for one sentence of .* tokens") as caught:
        translate(Translator(engine), SENTENCES)
    assert "potatoes" not in str(caught.value)


def test_sampling_is_the_same_in_every_batch_and_another_with_another_seed(nano):
    def sampled(**settings):
        translator = with_settings(nano, temperature=1.5, max_new_tokens=20, **settings)
        return [row.text for row in translate(translator, SENTENCES)]

    assert sampled(seed=1) == sampled(seed=1, batch_tokens=1)
    assert sampled(seed=1) != sampled(seed=2)
    assert [row.text for row in translate(with_settings(nano, temperature=1e-6), SENTENCES)] == [
        row.text for row in translate(nano, SENTENCES)
    ]


@pytest.fixture
def remembering(nano, tmp_path):
    def make(**settings):
        translator = noting(nano, **settings)
        engine = translator.engine
        return Translator(engine, TranslationMemory(tmp_path, engine.identity, engine.facts))

    return make


def test_new_prompts_cost_only_themselves(remembering):
    first = remembering()
    before = list(first.stream(SENTENCES[:2], source="eng_Latn", targets=TARGETS[:2]))
    again = remembering()
    assert list(again.stream(SENTENCES[:2], source="eng_Latn", targets=TARGETS[:2])) == before
    assert again.engine.batches == []
    list(again.stream([*SENTENCES, f"{SENTENCES[2]} {SENTENCES[0]}"], source="eng_Latn", targets=TARGETS))
    assert sorted(again.engine.batches) == [
        (sorted(SENTENCES[:2]), TARGETS[2:]) if batch == sorted(SENTENCES[:2]) else (batch, targets)
        for batch, targets in sorted(again.engine.batches)
    ]
    asked = [(sentence, target) for batch, targets in again.engine.batches for sentence in batch for target in targets]
    assert sorted(asked) == sorted(
        [(SENTENCES[2], target) for target in TARGETS] + [(sentence, TARGETS[2]) for sentence in SENTENCES[:2]]
    )


@pytest.mark.parametrize("change", [{"num_beams": 2}, {"max_new_tokens": 64}, {"temperature": 1.0}])
def test_other_settings_are_another_memory(remembering, change):
    translate(remembering(), SENTENCES[:1])
    other = remembering(**change)
    translate(other, SENTENCES[:1])
    assert len(other.engine.batches) == 1


def test_another_batch_size_is_the_same_memory(remembering):
    translate(remembering(), SENTENCES)
    other = remembering(batch_tokens=1)
    translate(other, SENTENCES)
    assert other.engine.batches == []


def test_windows_change_nothing(remembering, monkeypatch):
    texts = [*SENTENCES, "", SENTENCES[0], f"{SENTENCES[1]}\n- {SENTENCES[2]}"]
    calls = []
    expected = translate(remembering(), texts)
    monkeypatch.setattr("mlc.translation.translator.WINDOW", 2)
    other = remembering(max_new_tokens=127)
    assert [row.text for row in translate(other, texts, on_progress=calls.append)] == [row.text for row in expected]
    assert sum(step.texts for step in calls) == len(texts)
    seen = [sentence for batch, _ in other.engine.batches for sentence in batch]
    assert sorted(seen) == sorted(SENTENCES)


def test_what_is_protected_stays_in_its_place(nano):
    sentence = SENTENCES[0]
    (alone,) = translate(nano, [sentence])
    text = f"# {sentence}\n```\ncode. More {{x}}\n```\n  1) <p>{sentence}</p>\nhttps://a.b/c?d=1\n\n"
    (row,) = translate(nano, [text])
    assert row.text == text.replace(sentence, alone.text)
    assert (row.sentences_in, row.sentences_out, row.lost, row.repaired) == (2, 2, (), 0)


def test_only_protected_parts(nano):
    (row,) = translate(nano, ["https://a.b/c "])
    assert (row.text, row.sentences_in, row.finished) == ("https://a.b/c ", 0, True)


def test_protected_parts_that_the_model_breaks_are_put_back(nano):
    (row,) = translate(nano, ["Please help me {name} bake a cake at https://a.b/c?d=1."])
    assert "{name}" in row.text
    assert "https://a.b/c?d=1" in row.text
    assert row.repaired == 1
    assert (row.sentences_in, row.sentences_out) == (1, 1)
    assert "url" not in row.lost


def test_pieces_around_protected_parts_are_read_once_for_all_languages(tiny):
    other, targets = noting(tiny), ("fra_Latn", "swh_Latn")
    (rows,) = other.stream(["Please help me {name} bake a cake."], source="eng_Latn", targets=targets)
    assert [rows[target].repaired for target in targets] == [1, 1]
    assert [asked for _, asked in other.engine.batches] == [targets, targets]


def test_a_lost_number_is_told(tiny):
    (row,) = translate(tiny, ["I have 1984 reasons."])
    assert row.lost == ("number",)


def test_a_long_sentence_is_split_and_read_to_its_end(tiny):
    clause = "good morning to all of you"
    text = ", ".join([clause] * 60)
    (row,) = translate(tiny, [text])
    limit = tiny.engine.longest_sentence
    assert row.sentences_in > 1
    parts = tiny._split([text], "eng_Latn")[0]
    assert all(length <= limit for length in tiny.engine.lengths(parts.sentences, source="eng_Latn"))
    assert parts.rejoin(parts.sentences, target="eng_Latn") == text
    assert all(part.endswith(("you,", "you")) for part in parts.sentences)


def test_logprobs_of_sentences(nano):
    first, second = translate(nano, SENTENCES[:2])
    (joined,) = translate(nano, [" ".join(SENTENCES[:2])])
    assert joined.logprobs == pytest.approx([*first.logprobs, *second.logprobs], abs=1e-3)


def test_identity_is_that_of_the_content(tiny_nllb_folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(tiny_nllb_folder, copy)
    load = {"device": "cpu"}
    ours, same = (Seq2SeqEngine.from_folder_or_hub(folder, **load) for folder in (tiny_nllb_folder, copy))
    assert ours.identity == same.identity
    assert Seq2SeqEngine(ours.model, ours.tokens.tokenizer).facts["model"].startswith("memory:")
    config = copy / "generation_config.json"
    config.write_text(config.read_text().replace("{", '{"length_penalty": 2.0,', 1))
    assert Seq2SeqEngine.from_folder_or_hub(copy, **load).identity != ours.identity
