from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import MistralConfig, MistralForCausalLM

from mlc.evaluation.answering import answer_all
from mlc.evaluation.engines.protocol import Rendered
from mlc.evaluation.engines.transformers import TransformersEngine
from mlc.evaluation.scoring import Scorer
from mlc.models.prompts import encode_prompt, render_prompt
from mlc.stopping import Stopped
from mlc.store.lines import read_lines

TEXTS = [
    "How do I bake bread without yeast?",
    "Hello",
    "Which of the plants in my garden need the least water during a dry and hot summer, and why?",
    "東京の天気は?",
    "Hi",
]


def answers(policy, prompts, tokens=12, **options):
    return answer_all(TransformersEngine(policy, max_new_tokens=tokens, **options), prompts)


def plain_greedy(policy, text, count):
    """Answer, why it ends, and tokens, without a cache and without a batch."""
    ids, answer = plain_tokens(policy, text, count)
    finish = "stop" if answer[-1] in policy.stop_tokens else "length"
    return policy.tokenizer.decode(answer, skip_special_tokens=True), finish, len(ids), len(answer)


@torch.no_grad()
def plain_tokens(policy, text, count):
    ids = list(encode_prompt(policy.tokenizer, text).input_ids)
    answer = []
    while len(answer) < count and (not answer or answer[-1] not in policy.stop_tokens):
        answer.append(int(policy.model(torch.tensor([ids + answer])).logits[0, -1].argmax()))
    return ids, answer


@contextmanager
def frequent_ends(policy):
    """Lets tokens in the middle of some answers end them, so that answers of one batch have several lengths."""
    settings = policy.model.generation_config
    before = settings.eos_token_id
    middle = [plain_tokens(policy, text, 12)[1][step] for text, step in zip(TEXTS, (3, 6, 9), strict=False)]
    settings.eos_token_id = [policy.stop_token, *middle]
    try:
        yield
    finally:
        settings.eos_token_id = before


@pytest.mark.parametrize("size", [1, 2, 5])
def test_batches_equal_the_plain_loop(policy, size):
    expected = [plain_greedy(policy, text, 12) for text in TEXTS]
    assert all(text for text, *_ in expected)
    assert facts(answers(policy, TEXTS, batch_size=size)) == expected


@pytest.mark.parametrize("policy", ["short opening"], indirect=True)
def test_an_answer_that_ends_leaves_the_others_as_they_are(policy):
    with frequent_ends(policy):
        expected = [plain_greedy(policy, text, 12) for text in TEXTS]
        assert len({tokens for *_, tokens in expected}) > 1
        assert facts(answers(policy, TEXTS, batch_size=5)) == expected


def test_a_window_of_attention_that_ends_within_an_answer(tiny_policy):
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=len(tiny_policy.tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        sliding_window=48,
    )
    policy = replace(tiny_policy, model=MistralForCausalLM(config).eval())
    policy.model.generation_config.eos_token_id = tiny_policy.stop_token
    alone = [answers(policy, [text], tokens=40)[0] for text in TEXTS]
    assert facts(alone) == [plain_greedy(policy, text, 40) for text in TEXTS]
    assert facts(answers(policy, TEXTS, tokens=40)) == facts(alone)


@pytest.mark.parametrize("packs", [True, False])
@pytest.mark.parametrize("size", [2, 5])
def test_prompts_that_are_scored_on_the_way_have_the_same_answers_and_scores(policy, monkeypatch, packs, size):
    if not packs:
        monkeypatch.setattr("mlc.models.continuations.pack_rows", lambda *_: None)
    read = []
    head = policy.model.get_output_embeddings()
    scorer = Scorer(policy, refusal_openings=("I can't",), compliance_openings=("Sure, here", "So"), layer=1)
    alone = scorer.score(TEXTS, batch_size=5)
    scorer = Scorer(policy, refusal_openings=("I can't",), compliance_openings=("Sure, here", "So"), layer=1)
    with frequent_ends(policy):
        expected = facts(answers(policy, TEXTS[:4]))
        assert facts(answers(policy, TEXTS[:4], batch_size=size, begin=scorer.begin)) == expected
    handle = head.register_forward_hook(lambda *_: read.append(None))
    try:
        answered = scorer.score(TEXTS[:4], batch_size=5)
        assert not read
        everything = scorer.score(TEXTS, batch_size=5)
        assert read
    finally:
        handle.remove()
    np.testing.assert_allclose(everything.margins, alone.margins, atol=1e-5)
    np.testing.assert_allclose(everything.states, alone.states, atol=1e-4)
    np.testing.assert_array_equal(answered.margins, everything.margins[:4])


@pytest.mark.parametrize("known", [{0}, {1, 2}, {0, 1, 2, 3, 4}])
@pytest.mark.parametrize("size", [2, 5])
def test_scores_are_the_same_to_the_last_bit_whatever_was_answered_before(policy, known, size):
    def scored(answered):
        scorer = Scorer(policy, refusal_openings=("I can't",), compliance_openings=("Sure",), layer=1)
        engine = TransformersEngine(policy, max_new_tokens=6, batch_size=size, begin=scorer.begin)
        given = {one.position: one for one in engine.answer(TEXTS[:5], answered=answered)}
        return scorer.score(TEXTS[:5], batch_size=3), given

    whole, all_given = scored(())
    scores, given = scored(known)
    np.testing.assert_array_equal(scores.margins, whole.margins)
    np.testing.assert_array_equal(scores.states, whole.states)
    assert given == {place: one for place, one in all_given.items() if place not in known}


def facts(completions):
    return [(one.text, one.finish, one.prompt_tokens, one.answer_tokens) for one in completions]


def test_what_was_answered_is_not_asked_again(policy, tmp_path):
    record, looks = tmp_path / "folder" / "answers.jsonl", []

    def soon():
        looks.append(None)
        return len(looks) == 20

    engine = TransformersEngine(policy, max_new_tokens=12, batch_size=2)
    with pytest.raises(Stopped):
        answer_all(engine, TEXTS, record=record, should_stop=soon)
    there = len(read_lines(record))
    assert 0 < there < len(TEXTS)
    with record.open("a") as handle:
        handle.write('{"engine": "cut off')
    told = []
    completions = answer_all(engine, TEXTS, record=record, on_answer=told.append)
    assert facts(completions) == facts(answers(policy, TEXTS))
    assert len(told) == len(read_lines(record)) == len(TEXTS)
    assert len({line["prompt"] for line in read_lines(record)}) == len(TEXTS)
    other = TransformersEngine(policy, max_new_tokens=3)
    assert [one.answer_tokens for one in answer_all(other, TEXTS, record=record)] == [3] * len(TEXTS)


def test_equal_prompts_are_asked_once(policy, tmp_path):
    record = tmp_path / "answers.jsonl"
    completions = answer_all(TransformersEngine(policy, max_new_tokens=4), [*TEXTS, TEXTS[1]], record=record)
    assert [one.position for one in completions] == list(range(len(TEXTS) + 1))
    assert completions[-1].text == completions[1].text
    assert len(read_lines(record)) == len(TEXTS)


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
