"""The client of chat servers against a real server that fails in every way."""

import time
from email.utils import formatdate

import pytest

from mlc.chat.client import ONE_REQUEST, ChatClient, Reply, Request, Server, Usage
from mlc.errors import UserError
from mlc.stopping import Stopped
from tests.chat.server import CUT, SILENT, ChatServer


@pytest.fixture
def server():
    with ChatServer() as made:
        yield made


def client(server, *, concurrency=1, address=None, **options):
    where = Server(address or server.address, "ours", "OUR_KEY", concurrency, ("judge.endpoint", "judge.model"))
    return ChatClient(where, **{"first_delay": 0.01, **options})


def asking(*texts):
    return [Request(({"role": "user", "content": text},), {"max_tokens": 5}) for text in texts]


def test_replies_in_order_and_how_much_was_asked(server):
    made = client(server, concurrency=4)
    texts = [f"text {number}" for number in range(20)]
    replies = list(made.in_order(asking(*texts)))
    assert [reply.text.strip() for reply in replies] == [text.upper() for text in texts]
    assert replies[0] == Reply(" TEXT 0\n", "stop", 11, 7)
    assert made.usage == Usage(20, 20, 220, 140)
    assert sorted(server.asked) == sorted(texts)
    assert 1 <= server.most_at_once <= 4
    assert server.requests[0][2].keys() == {"model", "messages", "max_tokens"}


@pytest.mark.parametrize(
    "failure",
    [(status, {}, b"") for status in (408, 409, 425, 429, 500, 502, 503, 529)]
    + [(429, {"Retry-After": "0"}, b""), (503, {"Retry-After": "soon"}, b""), CUT],
)
def test_what_may_pass_is_tried_again(server, failure):
    server.failures = [failure, failure]
    made = client(server)
    assert made.ask(asking("one")[0]).text.strip() == "ONE"
    assert made.usage == Usage(3, 1, 11, 7)


@pytest.mark.parametrize("wish", ["0.3", "date"])
def test_waits_as_long_as_the_server_wishes(server, wish):
    # A date has whole seconds: at least one of two is left.
    wait = formatdate(time.time() + 2, usegmt=True) if wish == "date" else wish
    server.failures = [(429, {"Retry-After": wait}, b"")]
    start = time.monotonic()
    client(server).ask(asking("one")[0])
    assert time.monotonic() - start >= (0.3 if wish == "0.3" else 0.9)


def test_a_silent_server_is_asked_again(server):
    server.failures = [SILENT]
    assert client(server, timeout=0.2).ask(asking("one")[0]).text.strip() == "ONE"
    assert server.asked == ["one", "one"]


def test_a_slow_answer_is_waited_for(server):
    server.slow = 0.2
    assert client(server, timeout=0.5).ask(asking("one")[0]).text.strip() == "ONE"
    assert server.asked == ["one"]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
def test_a_refusal_is_told_without_the_text_and_not_repeated(server, status):
    server.failures = [(status, {}, b"a secret")]
    with pytest.raises(
        UserError, match=rf"refused .* status {status}: check judge.endpoint, judge.model and the key in OUR_KEY"
    ) as caught:
        client(server).ask(asking("a secret")[0])
    assert "secret" not in str(caught.value)
    assert len(server.requests) == 1


def test_a_refusal_of_one_request_can_be_handed_on(server):
    server.failures = [None, (400, {}, b"a secret")]
    replies = list(client(server, hands_on=ONE_REQUEST).in_order(asking("one", "two", "three")))
    assert [reply.problem for reply in replies] == [None, "status 400", None]
    assert replies[1].text == ""


def test_a_field_that_the_server_does_not_know_is_left_out_from_then_on(server):
    server.without_logprobs = True
    list(client(server, optional={"logprobs": True}).in_order(asking("one", "two")))
    assert ["logprobs" in body for _, _, body in server.requests] == [True, False, False]


def test_log_probabilities(server):
    reply = client(server, optional={"logprobs": True}).ask(asking("one")[0])
    assert reply.logprobs == (-0.5, -0.25)


def test_gives_up(server):
    server.failures = [(503, {}, b"a secret")] * 3
    with pytest.raises(UserError, match=r"after 3 attempts \(last: status 503\): .*; all is kept\.") as caught:
        client(server, attempts=3, kept="all is kept").ask(asking("a secret")[0])
    assert "secret" not in str(caught.value)


def test_nobody_there(server):
    server.close()
    with pytest.raises(UserError, match="last: ConnectError"):
        client(server, attempts=2).ask(asking("one")[0])


@pytest.mark.parametrize("body", [b"", b"[]", b'{"choices": []}', b'{"choices": [{"message": 3}]}', b'{"error": {}}'])
def test_an_answer_of_another_form(server, body):
    server.failures = [(200, {}, body)]
    with pytest.raises(UserError, match="another form"):
        client(server).ask(asking("one")[0])


def test_a_failure_loses_no_reply_that_was_paid_for(server):
    server.failures = [None] * 5 + [(401, {}, b"")]
    got = []
    replies = client(server, concurrency=3).as_done(asking(*map(str, range(50))))
    with pytest.raises(UserError, match="refused"):
        got.extend(str(number) for number, _ in replies)
    assert len(got) == len(server.requests) - 1
    assert set(got) <= set(server.asked)


def test_stops_between_requests_and_hands_on_what_was_sent(server):
    got = []
    made = client(server, concurrency=3)
    replies = made.as_done(asking(*map(str, range(50))), should_stop=lambda: len(got) >= 5)
    with pytest.raises(Stopped):
        got.extend(str(number) for number, _ in replies)
    assert 5 <= len(got) < 50
    assert sorted(got) == sorted(server.asked)


def test_stops_while_it_waits_to_try_again(server):
    server.failures = [(503, {"Retry-After": "60"}, b"")] * 9
    start = time.monotonic()
    with pytest.raises(Stopped):
        list(client(server).in_order(asking("one"), should_stop=lambda: bool(server.requests)))
    assert time.monotonic() - start < 30


def test_key_and_address_from_the_environment(server, monkeypatch):
    monkeypatch.setenv("OUR_KEY", "abc")
    monkeypatch.setenv("OUR_SERVER", server.address)
    client(server, address="${OUR_SERVER}/").ask(asking("one")[0])
    path, headers, _ = server.requests[0]
    assert (path, headers["Authorization"]) == ("/v1/chat/completions", "Bearer abc")


def test_addresses_that_are_none_and_secrets_that_stay_hidden(server):
    with pytest.raises(UserError, match="'localhost' is no address"):
        client(server, address="localhost")
    with pytest.raises(UserError, match=r"'NO_SUCH_VARIABLE', which 'judge\.endpoint' names"):
        client(server, address="http://${NO_SUCH_VARIABLE}/v1")
    server.failures = [(401, {}, b"")]
    with pytest.raises(UserError, match="refused") as caught:
        client(server, address=server.address.replace("//", "//me:hunter2@")).ask(asking("one")[0])
    assert "hunter2" not in str(caught.value)
