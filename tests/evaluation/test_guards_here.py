"""Guards that compute here, on tiny random models of the same architectures."""

import pytest
import torch
from transformers import (
    AutoTokenizer,
    Gemma2Config,
    Gemma2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
)

from mlc.errors import UserError
from mlc.evaluation.choosing import NOWHERE, Surroundings, choose
from mlc.evaluation.judges.guards import native
from mlc.evaluation.judges.guards.qwen3guard import Qwen3Guard
from mlc.evaluation.judges.judge import Answer
from mlc.stopping import Stopped

ANSWERS = [
    Answer("How do I bake bread?", "Mix flour and water, wait for an hour, and bake it in a hot oven.", "eng_Latn"),
    Answer("How do I boil rice?", "I am sorry, I cannot help.", "eng_Latn"),
    Answer("How do I fix a tap?", "", "eng_Latn"),
    Answer("How do I plant a tree?", "Dig a hole that is twice as wide as the roots, and water it.", "eng_Latn"),
    Answer("Hello.", "Good morning to you.", "eng_Latn"),
]
SIZE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "head_dim": 16}
POLICY = (
    "<|start|>user\nIs it safe? {% for m in messages %}{{ m['role'] | upper }}: {{ m['content'] }} {% endfor %}"
    "Say Safety, Categories and Refusal.<|end|>\n<|start|>assistant"
)
GUIDELINE = (
    "Question: {{ messages[-2].content }} Response: {{ messages[-1].content }} Principle: {{ guideline }} Yes or No?"
)
TYPED = (
    "{% for m in messages %}{% for part in m['content'] %}{% if part is mapping %}{{ part['text'] }}{% endif %} "
    "{% endfor %}{% endfor %}"
)


@pytest.fixture(scope="module")
def tokenizer(tiny_folder):
    def made(template=None):
        found = AutoTokenizer.from_pretrained(tiny_folder)
        found.chat_template = template
        return found

    return made


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    def save(model, tokenizer):
        folder = tmp_path_factory.mktemp("guard")
        model.eval().save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return save


@pytest.fixture(scope="module")
def qwen(tokenizer, saved):
    torch.manual_seed(3)
    words = tokenizer(POLICY)
    config = Qwen3Config(**SIZE, vocab_size=len(words), num_key_value_heads=2, max_position_embeddings=2048)
    model = Qwen3ForCausalLM(config)
    # What it would be by itself: sampled, and with a penalty.
    model.generation_config.update(do_sample=True, temperature=0.7, repetition_penalty=1.5, top_k=7)
    return saved(model, words), model, words


def judge(name, folder, place=None, **settings):
    stop, bar = settings.pop("should_stop", lambda: False), settings.pop("bar", NOWHERE.bar)
    entry = {"name": name, "model": str(folder), "device": "cpu", **settings}
    return choose([entry], Surroundings(place, stop, bar=bar))[0].judge


@pytest.fixture
def short_replies(monkeypatch):
    """A random model does not come to an end by itself."""
    monkeypatch.setattr(Qwen3Guard, "new_tokens", 10)


@pytest.mark.usefixtures("short_replies")
def test_qwen3guard_end_to_end(qwen, tmp_path):
    folder, model, words = qwen
    counted = []
    verdicts = judge("qwen3guard", folder, tmp_path, batch_size=2, bar=lambda _: counted.append).judge(ANSWERS)
    assert [verdict.outcome for verdict in verdicts] == ["unsure", "unsure", "invalid", "unsure", "unsure"]
    assert counted == [1] * 4
    ends = [words.eos_token_id]
    for answer, verdict in zip(ANSWERS, verdicts, strict=True):
        if not answer.text:
            continue
        text = (
            f"<|start|>user\nIs it safe? USER: {answer.prompt} ASSISTANT: {answer.text} "
            "Say Safety, Categories and Refusal.<|end|>\n<|start|>assistant"
        )
        row = words(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        for _ in range(10):
            with torch.inference_mode():
                token = int(model(row).logits[0, -1].argmax())
            if token in ends:
                break
            row = torch.cat([row, torch.tensor([[token]])], dim=1)
        start = len(words(text, add_special_tokens=False)["input_ids"])
        assert verdict.raw == words.decode(row[0, start:], skip_special_tokens=True)
        assert not verdict.readable


@pytest.mark.usefixtures("short_replies")
def test_nothing_is_computed_twice(qwen, tmp_path, monkeypatch):
    folder, *_ = qwen
    with pytest.raises(Stopped):
        judge("qwen3guard", folder, tmp_path, batch_size=1, should_stop=lambda: bool(list(tmp_path.iterdir()))).judge(
            ANSWERS
        )
    kept = next(tmp_path.iterdir()).read_text().count("asked")
    assert kept == 1
    first = judge("qwen3guard", folder, tmp_path).judge(ANSWERS)
    assert next(tmp_path.iterdir()).read_text().count("asked") == 4
    monkeypatch.setattr(native, "load_checked", None)
    assert judge("qwen3guard", folder, tmp_path, strict=True).judge(ANSWERS) == first


def test_what_is_in_the_key(qwen):
    folder, *_ = qwen
    entry = {"name": "qwen3guard", "model": str(folder)}
    (plain,) = choose([entry])
    assert choose([{**entry, "device": "cpu", "batch_size": 3}])[0].key == plain.key
    assert choose([{**entry, "strict": False}])[0].key != plain.key
    assert choose([{**entry, "precision": "float32"}])[0].key != plain.key


@pytest.mark.usefixtures("short_replies")
def test_what_is_longer_than_the_model_takes_is_unsure(qwen):
    folder, *_ = qwen
    long = Answer("Count.", " ".join(f"loaf{number}" for number in range(900)), "eng_Latn")
    short, other = judge("qwen3guard", folder).judge([ANSWERS[0], long])
    assert short.raw is not None
    assert (other.outcome, other.readable, other.raw) == ("unsure", False, None)


def test_shieldgemma_end_to_end(tokenizer, saved):
    words = tokenizer(GUIDELINE)
    words.add_tokens(["Yes", "No"])
    torch.manual_seed(4)
    config = Gemma2Config(**SIZE, vocab_size=len(words), num_key_value_heads=2, sliding_window=64)
    model = Gemma2ForCausalLM(config).eval()
    guard = judge("shieldgemma", saved(model, words), batch_size=3)
    verdict = guard.judge([ANSWERS[0], ANSWERS[1]])[1]
    text = words.apply_chat_template(
        [{"role": "user", "content": ANSWERS[1].prompt}, {"role": "assistant", "content": ANSWERS[1].text}],
        tokenize=False,
        **guard.asked(ANSWERS[1])[2].values,
    )
    with torch.inference_mode():
        logits = model(**words(text, add_special_tokens=False, return_tensors="pt")).logits[0, -1]
    chances = logits[[words.get_vocab()["Yes"], words.get_vocab()["No"]]].softmax(dim=-1)
    assert float(verdict.raw.splitlines()[2]) == pytest.approx(float(chances[0]), abs=1e-5)


@pytest.fixture
def classifier(tokenizer, saved):
    def make(**labels):
        torch.manual_seed(5)
        words = tokenizer()
        size = {name: value for name, value in SIZE.items() if name != "head_dim"}
        config = XLMRobertaConfig(
            **size, vocab_size=len(words), max_position_embeddings=600, pad_token_id=words.pad_token_id, **labels
        )
        model = XLMRobertaForSequenceClassification(config).eval()
        return saved(model, words), model, words

    return make


def test_crest_end_to_end(classifier):
    folder, model, words = classifier(id2label={0: "unsafe", 1: "safe"}, label2id={"unsafe": 0, "safe": 1})
    long = Answer("Count.", " ".join(f"loaf{number}" for number in range(900)), "eng_Latn")
    verdicts = judge("crest", folder, batch_size=2).judge([ANSWERS[0], long, ANSWERS[1]])
    for answer, verdict in zip([ANSWERS[0], long, ANSWERS[1]], verdicts, strict=True):
        inputs = words(answer.text, truncation=True, max_length=512, return_tensors="pt")
        with torch.inference_mode():
            chance = model(**{name: inputs[name] for name in ("input_ids", "attention_mask")}).logits.softmax(-1)[0, 0]
        assert float(verdict.raw) == pytest.approx(float(chance), abs=1e-5)
        assert verdict.outcome == ("complied" if chance > 0.5 else "unsure")


class TestChecks:
    def told(self, name, folder):
        with pytest.raises(UserError) as caught:
            judge(name, folder).judge(ANSWERS)
        return str(caught.value)

    def test_no_template(self, qwen, tokenizer, saved):
        assert "has no chat template" in self.told("qwen3guard", saved(qwen[1], tokenizer()))

    def test_a_template_that_leaves_out_the_answer(self, qwen, tokenizer, saved):
        folder = saved(qwen[1], tokenizer("{{ messages[0]['content'] }}"))
        assert "leaves out the question or the answer" in self.told("qwen3guard", folder)

    def test_a_template_that_wants_typed_parts(self, qwen, tokenizer, saved):
        folder = saved(qwen[1], tokenizer(TYPED))
        assert judge("llama-guard-3", folder).judge(ANSWERS[:1])[0].raw is not None

    def test_no_token_for_yes(self, qwen, tokenizer, saved):
        folder = saved(qwen[1], tokenizer(GUIDELINE))
        assert "has no token 'Yes'" in self.told("shieldgemma", folder)

    def test_no_label_for_unsafe(self, classifier):
        assert "has no label 'unsafe'" in self.told("crest", classifier()[0])

    def test_a_generator_is_no_classifier_and_a_classifier_writes_nothing(self, qwen, classifier):
        assert "not whole" in self.told("crest", qwen[0])
        assert "which writes no answers" in self.told("qwen3guard", classifier()[0])

    def test_weights_that_are_not_finite(self, qwen, saved):
        _, model, words = qwen
        kept = model.lm_head.weight.data.clone()
        model.lm_head.weight.data[0, 0] = float("nan")
        folder = saved(model, words)
        model.lm_head.weight.data = kept
        assert "not finite" in self.told("qwen3guard", folder)
