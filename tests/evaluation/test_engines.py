import copy

import pytest
import torch

from mlc.evaluation.engines.protocol import Rendered
from mlc.evaluation.engines.transformers import TransformersEngine
from mlc.models.prompts import render_prompt
from mlc.stopping import Stopped

TEXTS = [
    "How do I bake bread without yeast?",
    "Hello",
    "Which of the plants in my garden need the least water during a dry and hot summer, and why?",
    "東京の天気は?",
    "Hi",
]


@pytest.fixture(scope="module")
def policy(tiny_policy):
    """The tiny policy with sharper weights, so that prompts and positions matter."""
    sharper = copy.deepcopy(tiny_policy)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in sharper.model.parameters():
            parameter.normal_(std=0.25)
    return sharper


def answers(policy, prompts, tokens=12, **options):
    engine = TransformersEngine(policy, max_new_tokens=tokens, **options)
    return sorted(engine.answer(prompts), key=lambda completion: completion.position)


def test_batches_of_any_size_give_the_same_answers(policy):
    alone = [answers(policy, [text])[0] for text in TEXTS]
    assert all(completion.text for completion in alone)
    for size in (1, 2, 5):
        together = answers(policy, TEXTS, batch_size=size)
        assert [completion.position for completion in together] == list(range(len(TEXTS)))
        for one, other in zip(together, alone, strict=True):
            assert (one.text, one.finish, one.prompt_tokens) == (other.text, other.finish, other.prompt_tokens)


def test_a_text_a_conversation_and_a_rendered_prompt_are_one(policy):
    text = TEXTS[0]
    given = [text, [{"role": "user", "content": text}], Rendered(render_prompt(policy.tokenizer, text))]
    assert len({completion.text for completion in answers(policy, given)}) == 1


def test_nothing_asked_nothing_answered(policy):
    assert answers(policy, []) == []


def test_it_stops_at_the_next_token(policy):
    looks = []

    def third():
        looks.append(None)
        return len(looks) == 3

    with pytest.raises(Stopped):
        list(TransformersEngine(policy, max_new_tokens=50).answer(TEXTS, should_stop=third))
    assert len(looks) == 3
