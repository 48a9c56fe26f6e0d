"""A prompt that a model cannot read whole is found out before it is asked."""

import pytest

from mlc.errors import UserError
from mlc.evaluation.room import require_room
from mlc.models.prompts import encode_prompt

CONTEXT = 60
LONG = "How do I bake bread without yeast? " * 12


@pytest.fixture
def small(tiny_policy):
    """A model that reads little at once."""
    before = tiny_policy.model.config.max_position_embeddings
    tiny_policy.model.config.max_position_embeddings = CONTEXT
    yield tiny_policy
    tiny_policy.model.config.max_position_embeddings = before


def room(policy, follows, **prompts):
    require_room(policy, prompts, follows=follows, language="swh_Latn")


def test_what_fits_to_the_last_token(small):
    length = len(encode_prompt(small.tokenizer, "Hello").input_ids)
    room(small, CONTEXT - length, a="Hello")
    with pytest.raises(UserError, match="leaves no room for prompts in swh_Latn beside"):
        room(small, CONTEXT - length + 1, a="Hello")


def test_a_long_prompt_is_named_and_not_quoted(small):
    with pytest.raises(UserError, match=r"1 of 2 held-out prompts in swh_Latn are too long .* \(the longest, 'b', has"):
        room(small, 8, a="Hello", b=LONG)
    with pytest.raises(UserError) as raised:
        room(small, 8, a="Hello", b=LONG)
    assert "yeast" not in str(raised.value)


def test_an_answer_that_is_longer_than_all_that_it_reads(small):
    with pytest.raises(UserError, match=r"reads at most 60 tokens at once.*lower evaluation\.answer_tokens"):
        room(small, CONTEXT + 1, a="Hello")
