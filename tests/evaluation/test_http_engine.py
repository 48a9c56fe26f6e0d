"""Answers from a real server on this machine that fails in every way: nothing is lost, and nothing is asked twice."""

import pytest

from mlc.chat.client import Server, Usage
from mlc.errors import UserError
from mlc.evaluation.answering import answer_all
from mlc.evaluation.engines.http import TRIED, HttpEngine
from mlc.evaluation.engines.protocol import Completion, Rendered
from mlc.stopping import Stopped
from tests.chat.server import CUT, SILENT, ChatServer

PROMPTS = [f"How do I bake bread number {number}?" for number in range(9)]
ANSWERS = [prompt.upper() for prompt in PROMPTS]


@pytest.fixture
def server():
    with ChatServer(lambda messages: messages[-1]["content"].upper()) as made:
        yield made


def engine(server, *, concurrency=1, model="ours", **options):
    where = Server(server.address, model, "OUR_KEY", concurrency, ("the endpoint", "the model"))
    return HttpEngine(where, **{"max_new_tokens": 16, "first_delay": 0.01, "timeout": 0.5, **options})


def texts(completions):
    return [completion.text for completion in completions]


def test_answers_and_counts_of_tokens(server):
    made = engine(server, concurrency=3)
    given = answer_all(made, PROMPTS)
    assert given[2] == Completion(2, ANSWERS[2], "stop", 11, 7)
    assert texts(given) == ANSWERS
    assert made.usage == Usage(9, 9, 99, 63)
    assert server.most_at_once <= 3
    body = server.requests[0][2]
    assert {"model": "ours", "temperature": 0.0, "seed": 0, "max_tokens": 16}.items() <= body.items()
    assert body["messages"][0]["role"] == "user"


def test_conversations(server):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello."}]
    assert texts(engine(server).answer([messages])) == ["HELLO."]
    assert server.requests[0][2]["messages"] == messages
    with pytest.raises(UserError, match="takes messages and no rendered prompt"):
        list(engine(server).answer([Rendered("<s>Hello.")]))


@pytest.mark.parametrize(
    "failure",
    [(429, {"Retry-After": "0"}, b""), (500, {}, b""), (503, {}, b"{}"), CUT, SILENT],
    ids=["too many", "broken", "away", "cut", "silent"],
)
def test_failures_that_pass_lose_nothing(server, failure, tmp_path):
    server.failures = [None, failure, None, failure]
    given = answer_all(engine(server, concurrency=2), PROMPTS, record=tmp_path / "record.jsonl")
    assert texts(given) == ANSWERS
    assert len(server.requests) == len(PROMPTS) + 2


def test_slow_answers(server):
    server.slow = 0.2
    assert texts(answer_all(engine(server, concurrency=9), PROMPTS)) == ANSWERS
    assert len(server.requests) == len(PROMPTS)


@pytest.mark.parametrize(
    "failure",
    [(200, {}, b"{"), (200, {}, b'{"answer": "bread"}'), (401, {}, b""), (404, {}, b"")],
    ids=["bad JSON", "another schema", "no key", "no model"],
)
def test_goes_on_after_a_failure_that_ends_it(server, failure, tmp_path):
    record = tmp_path / "record.jsonl"
    server.failures = [None, None, None, failure]
    with pytest.raises(UserError, match=r"another form|refused a request"):
        answer_all(engine(server), PROMPTS, record=record)
    assert texts(answer_all(engine(server), PROMPTS, record=record)) == ANSWERS
    # The one that failed was asked for again, and no other.
    assert server.asked == [*PROMPTS[:4], *PROMPTS[3:]]


def test_goes_on_after_a_stop_and_a_kill_in_the_middle_of_a_line(server, tmp_path):
    record = tmp_path / "record.jsonl"
    with pytest.raises(Stopped):
        answer_all(engine(server), PROMPTS, record=record, should_stop=lambda: len(server.requests) >= 4)
    assert len(server.requests) == 4
    whole = record.read_bytes()
    record.write_bytes(whole[: -len(whole) // 8])
    assert texts(answer_all(engine(server), PROMPTS, record=record)) == ANSWERS
    assert len(server.requests) == len(PROMPTS) + 1
    assert texts(answer_all(engine(server), PROMPTS, record=record)) == ANSWERS
    assert len(server.requests) == len(PROMPTS) + 1


def test_a_prompt_that_is_withheld(server):
    server.failures = [(400, {}, b""), None, (400, {}, b"")]
    given = answer_all(engine(server), PROMPTS)
    assert [completion.finish for completion in given[:4]] == ["filter", "stop", "filter", "stop"]
    assert given[0] == Completion(0, "", "filter", None, None)
    assert texts(given)[3:] == ANSWERS[3:]


def test_a_server_that_refuses_everything_is_an_error(server, tmp_path):
    server.failures = [(400, {}, b"a secret")] * len(PROMPTS)
    with pytest.raises(UserError, match=rf"refused all of {TRIED} requests with status 400") as caught:
        answer_all(engine(server), PROMPTS, record=tmp_path / "record.jsonl")
    assert "secret" not in str(caught.value)
    assert texts(answer_all(engine(server), PROMPTS, record=tmp_path / "record.jsonl"))[-1] == ANSWERS[-1]


def test_identity(server):
    plain = engine(server).identity
    assert engine(server, concurrency=9, timeout=3.0).identity == plain
    others = [engine(server, **{name: 1}).identity for name in ("max_new_tokens", "temperature", "seed")]
    assert len({plain, *others, engine(server, model="theirs").identity}) == 5
