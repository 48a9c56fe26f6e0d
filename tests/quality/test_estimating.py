"""Quality estimation through random models of the architectures of MetricX and of CometKiwi's encoder."""

import pyarrow as pa
import pytest
import tokenizers
import torch
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    MT5Config,
    MT5ForConditionalGeneration,
    PreTrainedTokenizerFast,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
)

from mlc.errors import UserError
from mlc.quality.estimating import QualityEstimator, estimator_identity
from mlc.quality.models import PairModel
from mlc.quality.settings import EstimatorSettings

PAIRS = [
    ("good morning to all", "guten Morgen euch allen"),
    ("what is this", "was"),
    ("good morning", "guten Morgen was ist das hier eigentlich fuer ein Satz"),
]
WORDS = sorted({word for pair in PAIRS for text in pair for word in text.split()} | {"source:", "candidate:"})


def save_tokenizer(folder, specials, single, pair):
    vocabulary = {token: number for number, token in enumerate([*specials, *WORDS])}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    backend.post_processor = tokenizers.processors.TemplateProcessing(
        single=single, pair=pair, special_tokens=[(token, vocabulary[token]) for token in ("<s>", "</s>")]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", pad_token="<pad>", eos_token="</s>", model_max_length=512
    )
    tokenizer.save_pretrained(folder)
    return tokenizer


@pytest.fixture(scope="module")
def metricx(tmp_path_factory):
    """As on the hub: weights without a tokenizer, and a tokenizer elsewhere."""
    model, own = tmp_path_factory.mktemp("metricx"), tmp_path_factory.mktemp("mt5")
    specials = ["<pad>", "</s>", "<unk>", "<s>", "<extra_id_10>"]
    tokenizer = save_tokenizer(own, specials, "$A </s>", "$A </s> $B </s>")
    torch.manual_seed(0)
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    config = MT5Config(vocab_size=len(tokenizer), decoder_start_token_id=0, initializer_factor=3.0, **sizes)
    network = MT5ForConditionalGeneration(config)
    with torch.no_grad():
        network.lm_head.weight[specials.index("<extra_id_10>")] *= -4
    network.save_pretrained(model)
    return EstimatorSettings(model=str(model), tokenizer=str(own))


@pytest.fixture(scope="module")
def kiwi(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kiwi")
    tokenizer = save_tokenizer(folder, ["<s>", "<pad>", "</s>", "<unk>"], "<s> $A </s>", "<s> $A </s> </s> $B </s>")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = XLMRobertaConfig(vocab_size=len(tokenizer), num_labels=1, initializer_range=1.0, **sizes)
    XLMRobertaForSequenceClassification(config).save_pretrained(folder)
    return EstimatorSettings(model=str(folder))


def load(settings):
    return QualityEstimator.from_settings(settings, device="cpu")


def test_metricx_by_hand(metricx):
    network = AutoModelForSeq2SeqLM.from_pretrained(metricx.model).eval()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(metricx.tokenizer)
    expected = []
    for source, translation in PAIRS:
        words = f"source: {source} candidate: {translation}".split()
        ids = torch.tensor([tokenizer.convert_tokens_to_ids(words)])
        with torch.inference_mode():
            logits = network(input_ids=ids, decoder_input_ids=torch.tensor([[0]])).logits
        expected.append(1 - min(max(float(logits[0, 0, 4]), 0.0), 25.0) / 25)
    assert len(set(expected)) > 1
    assert load(metricx).scores(PAIRS) == pytest.approx(expected, abs=1e-5)


def test_a_regressor_reads_the_translation_first(kiwi):
    network = AutoModelForSequenceClassification.from_pretrained(kiwi.model).eval()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(kiwi.model)
    expected = []
    for source, translation in PAIRS:
        words = ["<s>", *translation.split(), "</s>", "</s>", *source.split(), "</s>"]
        with torch.inference_mode():
            expected.append(float(network(input_ids=torch.tensor([tokenizer.convert_tokens_to_ids(words)])).logits))
    assert load(kiwi).scores(PAIRS) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", ["metricx", "kiwi"])
def test_a_score_does_not_depend_on_its_batch(name, request):
    estimator = load(request.getfixturevalue(name))
    alone = [estimator.scores([pair])[0] for pair in PAIRS]
    assert estimator.scores(PAIRS[::-1]) == pytest.approx(alone[::-1], abs=1e-5)
    assert estimator.scores([]) == []


def test_it_fills_its_column(kiwi):
    sources, translations = zip(*PAIRS, strict=True)
    table = pa.table(
        {
            "source": sources,
            "translation": translations,
            "source_code": ["eng_Latn"] * 3,
            "target_code": ["deu_Latn"] * 3,
        }
    )
    model = PairModel(["estimate"], estimator=load(kiwi))
    assert model.columns == ("signal_estimate",)
    assert model.measure(table)["signal_estimate"].to_pylist() == pytest.approx(load(kiwi).scores(PAIRS), abs=1e-5)
    with pytest.raises(UserError, match="needs an estimator"):
        PairModel(["estimate"])


def test_identity(metricx, kiwi, tmp_path):
    assert estimator_identity(metricx) != estimator_identity(kiwi)
    assert estimator_identity(metricx) == estimator_identity(metricx.model_copy(update={"licence": "mit"}))
    save_tokenizer(tmp_path, ["<s>", "</s>", "<pad>", "<unk>"], "$A </s>", "$A </s> $B </s>")
    other = metricx.model_copy(update={"tokenizer": str(tmp_path)})
    assert estimator_identity(metricx) != estimator_identity(other)


def test_what_cannot_estimate(metricx, kiwi, tmp_path):
    with pytest.raises(UserError, match=r"needs quality\.estimator\.model"):
        load(EstimatorSettings())
    with pytest.raises(UserError, match=r"vocabulary of \d+ and a tokenizer of \d+: name the one"):
        load(EstimatorSettings(model=metricx.model))
    with pytest.raises(UserError, match=r"cannot be loaded .* a tokenizer where it has none"):
        load(metricx.model_copy(update={"tokenizer": str(tmp_path / "nothing")}))
    with pytest.raises(UserError, match="without <extra_id_10>"):
        load(metricx.model_copy(update={"tokenizer": kiwi.model}))
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    two = XLMRobertaConfig(vocab_size=30, num_labels=2, **sizes)
    XLMRobertaForSequenceClassification(two).save_pretrained(tmp_path / "two")
    with pytest.raises(UserError, match="has 2 outputs and no decoder"):
        load(EstimatorSettings(model=str(tmp_path / "two"), tokenizer=kiwi.model))
    body = XLMRobertaForSequenceClassification.from_pretrained(kiwi.model).roberta
    body.save_pretrained(tmp_path / "body")
    with pytest.raises(UserError, match=r"lacks \d+ weights, the first is 'classifier\."):
        load(EstimatorSettings(model=str(tmp_path / "body"), tokenizer=kiwi.model))
