"""Signals of a model: the translator's own figures, values by hand, and degenerate input."""

import pyarrow as pa
import pytest
import torch

from mlc.errors import UserError
from mlc.quality.models import PairModel, SentenceEncoder, dual_cross_entropy
from mlc.translation.engines.seq2seq import Seq2SeqEngine
from mlc.translation.translator import Translator

TEXTS = ["This topic is new to me.", "I have a quick question.", "Where is the library?"]


@pytest.fixture(scope="module")
def nano():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Translator(Seq2SeqEngine.from_folder_or_hub("shipped:nano", device="cpu", max_new_tokens=64))
    torch.set_num_threads(before)


def table(pairs, target="deu_Latn", **columns):
    sources, translations = zip(*pairs, strict=True) if pairs else ((), ())
    count = len(pairs)
    return pa.table(
        {
            "source": pa.array(sources, pa.string()),
            "translation": pa.array(translations, pa.string()),
            "source_code": pa.array(["eng_Latn"] * count, pa.string()),
            "target_code": pa.array([target] * count, pa.string()),
            **columns,
        }
    )


def test_dual_cross_entropy_by_hand():
    assert dual_cross_entropy(-1.0, -1.0) == pytest.approx(1.0)
    assert dual_cross_entropy(-0.5, -2.5) == pytest.approx(2.0 + 1.5)
    assert dual_cross_entropy(0.0, 0.0) == 0


def test_forward_logprob_is_the_one_that_the_translator_reports(nano):
    # Two sentences of its domain: elsewhere it may write a word in other tokens than the tokenizer would.
    done = nano.translate(TEXTS[:2], source="eng_Latn", target="deu_Latn")
    pairs = [(text, translation.text) for text, translation in zip(TEXTS, done, strict=False)]
    found = PairModel(["reverse"], nano).measure(table(pairs))
    reported = [translation.logprob for translation in done]
    assert found["signal_forward_logprob"].to_pylist() == pytest.approx(reported, abs=2e-4)


def test_right_pairs_score_better_than_shuffled_ones(nano):
    done = [each.text for each in nano.translate(TEXTS, source="eng_Latn", target="deu_Latn")]
    right = list(zip(TEXTS, done, strict=True))
    wrong = list(zip(TEXTS, done[1:] + done[:1], strict=True))
    found = PairModel(["reverse", "round_trip", "meaning"], nano).measure(table(right + wrong))

    def mean(name, start):
        return sum(found[name].to_pylist()[start : start + 3]) / 3

    for name in ("signal_forward_logprob", "signal_reverse_logprob", "signal_similarity"):
        assert mean(name, 0) > mean(name, 3), name
    assert mean("signal_dual_cross_entropy", 0) < mean("signal_dual_cross_entropy", 3)


def test_similarity_is_the_cosine_of_mean_states_without_the_tokens_that_all_texts_share(nano):
    pair = ("This topic is new to me.", "Dieses Thema ist mir neu.")
    found = PairModel(["meaning"], nano).measure(table([pair, ("Hi.", "Hallo, wie geht es dir heute?")]))
    engine, means = nano.engine, []
    for text, language in zip(pair, ("eng_Latn", "deu_Latn"), strict=True):
        ids = engine.tokens.encode([text], language, ())[0]
        with torch.inference_mode():
            states = engine.model.get_encoder()(input_ids=torch.tensor([ids])).last_hidden_state[0]
        means.append(states[1:-1].mean(dim=0))
    expected = torch.nn.functional.cosine_similarity(*means, dim=0)
    assert found["signal_similarity"][0].as_py() == pytest.approx(float(expected), abs=1e-5)


def test_round_trip_by_sacrebleu_from_given_back_translations():
    from sacrebleu.metrics import CHRF

    back = pa.array(["This topic is new to me.", "A quick question I have.", None])
    pairs = [(text, "Übersetzung") for text in TEXTS]
    found = PairModel(["round_trip"]).measure(table(pairs, back_translation=back))["signal_round_trip_chrf"].to_pylist()
    assert found[0] == pytest.approx(1.0)
    assert found[1] == pytest.approx(CHRF().sentence_score(back[1].as_py(), [TEXTS[1]]).score / 100)
    assert found[2] is None


def test_missing_back_translations_are_made(nano):
    pairs = [("This topic is new to me.", "Dieses Thema ist neu für mich.")] * 2
    given = pa.array(["This topic is new to me.", None])
    found = PairModel(["round_trip"], nano).measure(table(pairs, back_translation=given))["signal_round_trip_chrf"]
    assert found[0].as_py() == pytest.approx(1.0)
    assert 0 <= found[1].as_py() <= 1


def test_any_encoder_gives_embeddings(nano):
    encoder = SentenceEncoder(nano.engine.model, nano.engine.tokens.tokenizer, batch_size=2)
    model = PairModel(["meaning"], embedding=encoder)
    assert model.columns == ("signal_embedding",)
    found = model.measure(table([(text, text) for text in TEXTS] + [(TEXTS[0], TEXTS[1])]))[
        "signal_embedding"
    ].to_pylist()
    assert found[:3] == pytest.approx([1, 1, 1])
    assert found[3] < 0.999
    one_by_one = [SentenceEncoder(nano.engine.model, nano.engine.tokens.tokenizer, 1).states([t])[0] for t in TEXTS]
    torch.testing.assert_close(encoder.states(TEXTS), torch.stack(one_by_one), atol=1e-5, rtol=1e-4)


def test_nothing_to_measure(nano):
    found = PairModel(["reverse", "round_trip", "meaning"], nano).measure(table([]))
    assert found.num_rows == 0
    assert set(found.column_names) == {
        "signal_forward_logprob", "signal_reverse_logprob", "signal_dual_cross_entropy", "signal_round_trip_chrf",
        "signal_similarity",
    }  # fmt: skip


def test_long_text_is_cut(nano):
    found = PairModel(["reverse", "meaning"], nano).measure(table([("word " * 2000, "Wort " * 2000)]))
    assert all(value is not None for column in found.columns for value in column.to_pylist())


@pytest.mark.parametrize("signal", ["reverse", "meaning"])
def test_a_missing_translator_is_told(signal):
    with pytest.raises(UserError, match=signal):
        PairModel([signal])


def test_unknown_language_is_told(nano):
    with pytest.raises(UserError, match="jpn_Jpan"):
        PairModel(["meaning"], nano).measure(table([("Hello", "こんにちは")], target="jpn_Jpan"))
