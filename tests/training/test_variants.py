import pytest
import torch

from mlc.models.prompts import EncodedPrompt
from mlc.training.mixin import BATCH_KEY, VariantCollator
from mlc.training.variants import Variants, batch_variants, encode_variants


def prompt(*tokens):
    return EncodedPrompt(tokens, (True,) * len(tokens))


FULL = Variants((prompt(5, 6), prompt(8), prompt(9, 10, 11)))
ENGLISH_ONLY = Variants((prompt(3), None, None))
GAP = Variants((prompt(12, 13, 14), None, prompt(15)))


# Batches.


def test_a_batch_by_hand():
    batch = batch_variants([FULL, ENGLISH_ONLY, GAP], 0)
    # The second prompt has no translation, so it does not take part.
    assert batch.mask.tolist() == [[True, True, True], [True, False, True]]
    assert batch.prompts.input_ids.tolist() == [[0, 5, 6], [0, 0, 8], [9, 10, 11], [12, 13, 14], [0, 0, 15]]
    assert batch.prompts.attention_mask.tolist() == [[0, 1, 1], [0, 0, 1], [1, 1, 1], [1, 1, 1], [0, 0, 1]]
    assert batch.prompts.content_mask.tolist() == batch.prompts.attention_mask.bool().tolist()
    assert batch.weights is None


def test_padding_on_the_right():
    batch = batch_variants([GAP], 99, side="right")
    assert batch.prompts.input_ids.tolist() == [[12, 13, 14], [15, 99, 99]]
    assert batch.prompts.attention_mask.tolist() == [[1, 1, 1], [1, 0, 0]]


@pytest.mark.parametrize(("limit", "prompts"), [(1, 1), (2, 2), (9, 2), (None, 2)])
def test_only_so_many_prompts_with_a_translation(limit, prompts):
    assert len(batch_variants([ENGLISH_ONLY, FULL, GAP], 0, limit=limit).mask) == prompts


@pytest.mark.parametrize("variants", [[], [ENGLISH_ONLY], [Variants((None, prompt(4), prompt(5)))]])
def test_nobody_with_english_and_a_translation(variants):
    assert batch_variants(variants, 0) is None


def test_weights_are_one_where_nothing_is_said():
    weighted = Variants(FULL.prompts, (1.0, 0.5, 0.25))
    assert batch_variants([weighted, GAP], 0).weights.tolist() == [[1.0, 0.5, 0.25], [1.0, 1.0, 1.0]]


def test_batches_move_between_devices():
    batch = batch_variants([Variants(FULL.prompts, (1.0, 0.5, 0.25))], 0).to("meta")
    assert batch.mask.device == batch.weights.device == batch.prompts.input_ids.device == torch.device("meta")


# Texts to tokens.


def test_bare_texts_become_turns_of_the_template(tiny_policy):
    encoded = encode_variants(tiny_policy.tokenizer, ["Hello", "Jambo"], max_tokens=64)
    assert [tiny_policy.tokenizer.decode(one.input_ids) for one in encoded.prompts] == [
        f"<|start|>user\n{text}<|end|>\n<|start|>assistant\n" for text in ("Hello", "Jambo")
    ]


def test_bare_texts_may_stay_bare(tiny_policy):
    encoded = encode_variants(tiny_policy.tokenizer, ["Hello", "Jambo"], chat=False, max_tokens=64)
    assert [tiny_policy.tokenizer.decode(one.input_ids) for one in encoded.prompts] == ["Hello", "Jambo"]
    assert all(all(one.content) for one in encoded.prompts)


def test_messages_go_through_the_template_whatever_the_texts_do(tiny_policy):
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}]
    encoded = encode_variants(tiny_policy.tokenizer, [messages, "Jambo"], chat=False, max_tokens=64)
    english = encoded.prompts[0]
    assert tiny_policy.tokenizer.decode(english.input_ids) == (
        "<|start|>system\nBe kind.<|end|>\n<|start|>user\nHello<|end|>\n<|start|>assistant\n"
    )
    own = [token for token, counts in zip(english.input_ids, english.content, strict=True) if counts]
    assert tiny_policy.tokenizer.decode(own) == "Hello"


@pytest.mark.parametrize("missing", [None, "", []])
def test_missing_texts(tiny_policy, missing):
    encoded = encode_variants(tiny_policy.tokenizer, ["Hello", missing], max_tokens=64)
    assert encoded.prompts[1] is None
    assert not encoded.usable


def test_long_texts_count_as_missing(tiny_policy):
    texts = ["Hello", "word " * 20]
    length = len(encode_variants(tiny_policy.tokenizer, texts, max_tokens=999).prompts[1].input_ids)
    for limit, kept in ((length, True), (length - 1, False)):
        encoded = encode_variants(tiny_policy.tokenizer, texts, max_tokens=limit)
        assert (encoded.prompts[1] is not None) == kept


# The collator.


def example(number, **more):
    return {
        "input_ids": [number],
        "variant_ids": [[number], [number + 10]],
        "variant_content": [[True], [False]],
        **more,
    }


def pair(number, weights=None):
    prompts = EncodedPrompt((number,), (True,)), EncodedPrompt((number + 10,), (False,))
    return Variants(prompts, weights)


def test_the_carriers_collator_sees_its_own_columns_only():
    seen = []
    collator = VariantCollator(lambda examples: seen.extend(examples) or {"input_ids": torch.zeros(2)})
    batch = collator([example(1, variant_weights=[1, 0.5]), example(2, variant_weights=None)])
    assert seen == [{"input_ids": [1]}, {"input_ids": [2]}]
    assert batch[BATCH_KEY] == [pair(1, (1.0, 0.5)), pair(2)]


def test_rows_of_trainers_that_sample_come_back_as_rows():
    rows = VariantCollator(lambda examples: examples)([example(1), example(1), example(2)])
    assert [row["input_ids"] for row in rows] == [[1], [1], [2]]
    assert [BATCH_KEY in row for row in rows] == [True, False, False]
    # A prompt that is there twice enters once.
    assert rows[0][BATCH_KEY] == [pair(1), pair(2)]


@pytest.mark.parametrize("examples", [[], [{"input_ids": [1]}]])
def test_rows_without_variants_pass_as_they_are(examples):
    assert VariantCollator(lambda given: {"given": given})(examples) == {"given": examples}
