"""The judge that asks an endpoint, against a real server that fails in every way."""

import json

import pytest

from mlc.errors import UserError
from mlc.evaluation.choosing import NOWHERE, Surroundings, choose
from mlc.evaluation.judges.judge import Answer
from mlc.evaluation.judges.llm import INSTRUCTION, LlmJudge
from mlc.evaluation.judges.settings import LlmSettings
from mlc.stopping import Stopped
from tests.chat.server import CUT, SILENT, ChatServer

ANSWERS = [
    Answer("How do I bake bread?", "Mix flour and water, wait, and bake it.", "eng_Latn"),
    Answer("How do I boil rice?", "I am sorry, I cannot help with that.", "eng_Latn"),
    Answer("¿Cómo se hace el pan?", "Lo siento, no puedo.", "spa_Latn"),
    Answer("How do I bake bread?", " \n", "eng_Latn"),
]


def verdict(outcome="complied", category=None, reason="gives the steps"):
    return json.dumps({"outcome": outcome, "category": category, "reason": reason})


def decide(messages):
    """What a model would say: it refuses where the answer is sorry."""
    answer = json.loads(messages[1]["content"])["answer"]
    return verdict("refused", None, "says no") if "sorry" in answer or "siento" in answer else verdict()


@pytest.fixture
def server():
    with ChatServer(decide) as made:
        yield made


def judge(server, folder=None, *, should_stop=lambda: False, bar=NOWHERE.bar, **settings):
    made = LlmSettings(model="ours", endpoint=server.address, **{"concurrency": 1, **settings})
    return LlmJudge(made, Surroundings(folder, should_stop, bar=bar), first_delay=0.01)


def outcomes(verdicts):
    return [one.outcome for one in verdicts]


def test_verdicts_in_order_and_nothing_is_asked_about_what_is_no_answer(server):
    given = judge(server, concurrency=3).judge(ANSWERS)
    assert outcomes(given) == ["complied", "refused", "refused", "invalid"]
    assert [one.reason for one in given] == ["gives the steps", "says no", "says no", "empty"]
    assert (given[0].category, given[0].raw, given[0].readable) == (None, verdict(), True)
    assert len(server.requests) == 3
    body = next(body for _, _, body in server.requests if "pan" in body["messages"][1]["content"])
    assert body["messages"][0] == {"role": "system", "content": INSTRUCTION}
    asked = {"request": "¿Cómo se hace el pan?", "language": "Spanish", "answer": "Lo siento, no puedo.", "cut": False}
    assert json.loads(body["messages"][1]["content"]) == asked
    assert (body["temperature"], body["seed"], body["max_tokens"]) == (0, 0, 512)
    schema = body["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["outcome"]["enum"] == ["refused", "complied", "invalid", "unsure"]


def test_an_answer_in_another_language_is_invalid_and_what_it_is_besides_is_kept(server):
    english = "Mix the flour with the water and the salt, wait for an hour, and bake it in a hot oven."
    asked = [Answer("¿Cómo se hace el pan?", english, "spa_Latn"), Answer("How?", english, "eng_Latn")]
    other, own = judge(server).judge(asked)
    assert (other.outcome, other.besides_language) == ("invalid", "complied")
    assert other.reason == "gives the steps, in another language"
    assert (own.outcome, own.besides_language) == ("complied", None)


def test_the_model_is_told_what_was_cut(server):
    judge(server).judge([Answer("How do I bake bread?", "Mix the flour with", "eng_Latn", finished=False)])
    assert json.loads(server.asked[0])["cut"] is True


@pytest.mark.parametrize(
    "reply",
    [
        verdict("refused"),
        f"<think>It says {{no}}.</think>\n{verdict('refused')}",
        f"```json\n{verdict('refused')}\n```",
        f"\n  {verdict('refused')}  ",
    ],
)
def test_forms_that_are_read(server, reply):
    server.reply = lambda messages: reply
    assert outcomes(judge(server).judge(ANSWERS[:1])) == ["refused"]
    assert len(server.requests) == 1


MALFORMED = [
    "",
    "refused",
    "null",
    "[]",
    '{"outcome": "refused"',
    '{"outcome": "refused"}',
    '{"outcome": "safe", "category": null, "reason": "x"}',
    '{"outcome": "Refused", "category": null, "reason": "x"}',
    '{"outcome": ["refused"], "category": null, "reason": "x"}',
    '{"outcome": "refused", "category": 3, "reason": "x"}',
    '{"outcome": "refused", "category": null, "reason": null}',
    '{"outcome": "refused", "category": null, "reason": "x", "score": 1}',
    '{"outcome": "refused", "category": null, "reason": "x"} and {"outcome": "complied"}',
]


@pytest.mark.parametrize("reply", MALFORMED)
def test_what_cannot_be_read_is_asked_for_once_more_and_then_unsure(server, reply):
    server.reply = lambda messages: reply
    (given,) = judge(server).judge(ANSWERS[:1])
    assert (given.outcome, given.readable, given.raw) == ("unsure", False, reply)
    assert len(server.requests) == 2
    assert [one["role"] for one in server.requests[1][2]["messages"]] == ["system", "user", "assistant", "user"]


def test_a_bar_counts_what_the_model_is_asked(server, tmp_path):
    counted = []

    def bar(questions):
        counted.append([questions])
        return counted[-1].append

    for _ in range(2):
        judge(server, tmp_path, bar=bar).judge(ANSWERS)
    # The fourth answer is empty, and the second time all is known.
    assert counted == [[3, 1, 1, 1], [0]]


def test_a_repaired_reply_counts(server):
    server.reply = lambda messages: "well" if len(messages) == 2 else verdict("refused")
    (given,) = judge(server).judge(ANSWERS[:1])
    assert (given.outcome, given.readable) == ("refused", True)


def test_a_reason_that_quotes_is_not_shown(server):
    server.reply = lambda messages: verdict("complied", None, 'It says "mix flour and water, wait" first')
    (given,) = judge(server).judge(ANSWERS[:1])
    assert given.reason == "the model says complied"
    server.reply = lambda messages: verdict("refused", None, "他说我不能帮助你做面包因为不行")
    (given,) = judge(server).judge([Answer("怎么做面包？", "对不起，我不能帮助你做面包因为不行。", "zho_Hans")])
    assert given.reason == "the model says refused"


@pytest.mark.parametrize(
    "failure", [(429, {"Retry-After": "0"}, b""), (500, {}, b""), CUT], ids=["too many", "broken", "cut"]
)
def test_failures_that_pass(server, failure):
    server.failures = [failure, failure]
    assert outcomes(judge(server).judge(ANSWERS[:2])) == ["complied", "refused"]


def test_a_request_that_the_endpoint_refuses_is_unsure_and_asked_again_next_time(server, tmp_path):
    # The first refusal is of the form of the reply, which is left out from then on.
    server.failures = [(400, {}, b""), (400, {}, b"a secret")]
    given = judge(server, tmp_path).judge(ANSWERS[:2])
    assert [(one.outcome, one.readable) for one in given] == [("unsure", False), ("refused", True)]
    assert outcomes(judge(server, tmp_path).judge(ANSWERS[:2])) == ["complied", "refused"]


def test_nothing_is_asked_twice(server, tmp_path):
    first = judge(server, tmp_path).judge([*ANSWERS, *ANSWERS])
    asked = len(server.requests)
    assert asked == 3
    assert judge(server, tmp_path, concurrency=2).judge([*ANSWERS, *ANSWERS]) == first
    assert len(server.requests) == asked
    judge(server, tmp_path, seed=1).judge(ANSWERS)
    assert len(server.requests) == 2 * asked


def test_what_came_before_a_failure_is_not_asked_again(server, tmp_path):
    server.failures = [None, (401, {}, b"")]
    with pytest.raises(UserError, match="refused a request"):
        judge(server, tmp_path).judge(ANSWERS)
    (file,) = tmp_path.iterdir()
    # A kill in the middle of a line.
    file.write_bytes(file.read_bytes() + b'{"asked": "00')
    assert outcomes(judge(server, tmp_path).judge(ANSWERS)) == ["complied", "refused", "refused", "invalid"]
    assert sorted(server.asked) == sorted([*set(server.asked), server.asked[1]])
    assert outcomes(judge(server, tmp_path).judge(ANSWERS)) == ["complied", "refused", "refused", "invalid"]
    assert len(server.requests) == 4


def test_stops_and_goes_on(server, tmp_path):
    with pytest.raises(Stopped):
        judge(server, tmp_path, should_stop=lambda: len(server.requests) == 2).judge(ANSWERS)
    judge(server, tmp_path).judge(ANSWERS)
    assert len(server.requests) == len(set(server.asked)) == 3


def test_an_endpoint_of_another_protocol(server):
    server.failures = [(200, {}, b"<html>")]
    with pytest.raises(UserError, match="another form"):
        judge(server).judge(ANSWERS)


def test_a_silent_endpoint_is_given_up_in_one_sentence(server):
    made = judge(server)
    made._client._attempts, made._client._client.timeout = 2, 0.1
    server.failures = [SILENT, SILENT]
    with pytest.raises(UserError, match="after 2 attempts") as caught:
        made.judge(ANSWERS[:1])
    assert "bread" not in str(caught.value)


def test_languages_are_those_that_are_declared(server):
    assert judge(server).languages is None
    assert judge(server, languages=["sw", "English"]).languages == {"swh_Latn", "eng_Latn"}


class TestChoosing:
    def test_names_mappings_and_labels(self, server):
        entry = {"name": "llm", "model": "ours", "endpoint": server.address}
        rules, large, small = choose(["rules", entry, {**entry, "label": "small", "model": "mine"}])
        assert [one.label for one in (rules, large, small)] == ["rules", "llm", "small"]
        assert rules.key == rules.judge.version
        assert large.key["facts"]["model"] == "ours"
        assert large.key != small.key

    def test_what_only_shows_or_speeds_up_is_in_no_key(self, server):
        entry = {"name": "llm", "model": "ours", "endpoint": server.address}
        (plain,) = choose([entry])
        for more in ({"concurrency": 9}, {"api_key_variable": "MINE"}, {"languages": ["sw"]}):
            assert choose([{**entry, **more}])[0].key == plain.key
        for more in ({"seed": 9}, {"temperature": 0.5}, {"endpoint": "http://127.0.0.1:1/v1"}):
            assert choose([{**entry, **more}])[0].key != plain.key

    @pytest.mark.parametrize(
        ("entry", "told"),
        [
            ("llm", "The settings of the judge 'llm' are wrong: model is missing, set it."),
            ({"name": "llm", "model": "x", "endpoint": "http://h/v1", "speed": 3}, "there is no setting 'speed'"),
            (
                {"name": "llm", "model": "x", "endpoint": "http://h/v1", "concurrency": 0},
                "concurrency must be at least 1.",
            ),
            ({"name": "llm", "model": "x", "endpoint": "http://me:secret1@h/v1"}, "environment variable"),
            ({"name": "llm", "model": "x", "endpoint": "http://h/v1", "languages": ["klingon"]}, "klingon"),
            ({"name": "rules", "model": "x"}, "The judge 'rules' takes no settings, and has 'model'"),
            ({"model": "x"}, "has no name"),
            ({"name": "rulse"}, "did you mean 'rules'"),
        ],
    )
    def test_mistakes(self, entry, told):
        with pytest.raises(UserError) as caught:
            choose([entry])
        assert told in str(caught.value)
        assert "secret1" not in str(caught.value)
