import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mlc.models.prompts import EncodedPrompt, encode_prompt, pad_prompts, render_prompt

OPENING = "<|start|>user\n"
CLOSING = "<|end|>\n<|start|>assistant\n"


@pytest.fixture(scope="module")
def tokenizer(tiny_policy):
    return tiny_policy.tokenizer


@pytest.fixture
def with_template(tokenizer):
    def build(template):
        changed = copy.deepcopy(tokenizer)
        changed.chat_template = template
        return changed

    return build


def marked(tokenizer, encoded):
    """The text of the marked tokens and, apart, what stands before and after them."""
    marks = list(encoded.content)
    first, last = marks.index(True), len(marks) - marks[::-1].index(True)
    assert all(marks[first:last])
    parts = (encoded.input_ids[:first], encoded.input_ids[first:last], encoded.input_ids[last:])
    return tuple(tokenizer.decode(part) for part in parts)


@pytest.mark.parametrize("text", ["How do I boil an egg?", "Où est la gare ?", "मुझे मदद चाहिए", "東京の天気は?", "🙂"])
def test_the_marked_tokens_are_the_persons_text(tokenizer, text):
    encoded = encode_prompt(tokenizer, text)
    assert marked(tokenizer, encoded) == (OPENING, text, CLOSING)
    assert list(encoded.input_ids) == tokenizer(OPENING + text + CLOSING, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("text", ["assistant", "user", "start", "a", "s", "end", "|", "ant", "user assistant"])
def test_a_text_that_the_template_holds_as_well_is_marked_in_its_own_place(tokenizer, text):
    assert marked(tokenizer, encode_prompt(tokenizer, text)) == (OPENING, text, CLOSING)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<"), max_size=20))
def test_any_text(tiny_policy, text):
    encoded = encode_prompt(tiny_policy.tokenizer, text)
    decoded = tiny_policy.tokenizer.decode([t for t, own in zip(*_columns(encoded), strict=True) if own])
    assert decoded.strip() == text.strip()


def _columns(encoded):
    return encoded.input_ids, encoded.content


def test_space_around_the_text_is_not_content(tokenizer):
    encoded = encode_prompt(tokenizer, "  hello there \n")
    before, content, after = marked(tokenizer, encoded)
    assert content.strip() == "hello there"
    assert before + content + after == OPENING + "  hello there \n" + CLOSING


@pytest.mark.parametrize("text", ["", " ", "\n\t "])
def test_a_blank_text_has_no_content(tokenizer, text):
    encoded = encode_prompt(tokenizer, text)
    assert encoded.input_ids
    assert not any(encoded.content)


def test_a_template_that_trims(with_template):
    tokenizer = with_template("{% for m in messages %}<|start|>{{ m['content'] | trim }}<|end|>{% endfor %}")
    assert marked(tokenizer, encode_prompt(tokenizer, "  hello  ")) == ("<|start|>", "hello", "<|end|>")


def test_a_template_with_a_system_text(with_template):
    tokenizer = with_template("You help with hello.{% for m in messages %}<|start|>{{ m['content'] }}{% endfor %}")
    assert marked(tokenizer, encode_prompt(tokenizer, "hello")) == ("You help with hello.<|start|>", "hello", "")


def test_a_template_that_closes_with_the_text_again(with_template):
    tokenizer = with_template("{% for m in messages %}<|start|>{{ m['content'] }}<|end|>hello{% endfor %}")
    assert marked(tokenizer, encode_prompt(tokenizer, "hello")) == ("<|start|>", "hello", "<|end|>hello")


@pytest.mark.parametrize("template", ["Hello. ", "{{ messages[0]['content'] | upper }}!", "{{ messages | length }}"])
def test_a_template_that_changes_or_drops_the_text(with_template, template):
    assert not any(encode_prompt(with_template(template), "How do I boil an egg?").content)


def test_the_text_of_the_last_message_is_content(tokenizer):
    messages = [
        {"role": "user", "content": "One."},
        {"role": "assistant", "content": "Two."},
        {"role": "user", "content": "One."},
    ]
    before, text, after = marked(tokenizer, encode_prompt(tokenizer, messages))
    assert text == "One."
    assert before.endswith("Two.<|end|>\n" + OPENING)
    assert after == CLOSING


def test_a_bare_text_beside_a_template(tokenizer):
    encoded = encode_prompt(tokenizer, "Human: hi", chat=False)
    assert tokenizer.decode(encoded.input_ids) == "Human: hi"
    assert all(encoded.content)


def test_without_a_template_the_bare_text_is_encoded(with_template):
    tokenizer = with_template(None)
    assert render_prompt(tokenizer, " hello ") == " hello "
    encoded = encode_prompt(tokenizer, "hello there")
    assert all(encoded.content)
    assert tokenizer.decode(encoded.input_ids) == "hello there"
    assert encode_prompt(tokenizer, "").input_ids == ()


def test_without_a_template_the_tokenizer_adds_its_own_special_tokens(with_template):
    from tokenizers.processors import TemplateProcessing

    tokenizer = with_template(None)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing("<|start|> $A", special_tokens=[("<|start|>", 1)])
    encoded = encode_prompt(tokenizer, "hello")
    assert encoded.input_ids[0] == 1
    assert encoded.content[0] is False
    assert all(encoded.content[1:])


PROMPTS = [EncodedPrompt((5, 6), (False, True)), EncodedPrompt((7, 8, 9), (True, True, False))]


def test_left_padding_by_hand():
    batch = pad_prompts(PROMPTS, 99)
    assert batch.input_ids.tolist() == [[99, 5, 6], [7, 8, 9]]
    assert batch.attention_mask.tolist() == [[0, 1, 1], [1, 1, 1]]
    assert batch.content_mask.tolist() == [[False, False, True], [True, True, False]]


def test_right_padding_by_hand():
    batch = pad_prompts(PROMPTS, 99, side="right")
    assert batch.input_ids.tolist() == [[5, 6, 99], [7, 8, 9]]
    assert batch.attention_mask.tolist() == [[1, 1, 0], [1, 1, 1]]
    assert batch.content_mask.tolist() == [[False, True, False], [True, True, False]]


def test_types():
    batch = pad_prompts(PROMPTS, 99)
    types = (batch.input_ids.dtype, batch.attention_mask.dtype, batch.content_mask.dtype)
    assert types == (torch.int64, torch.int64, torch.bool)
