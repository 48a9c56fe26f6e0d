"""A client of any server that speaks OpenAI's chat protocol: many requests at once, tried again where that may help.

It neither makes nor changes a text: what is asked, and what becomes of a reply, is the caller's. So it is in the key
of no artifact (:mod:`mlc.store.sources`). No text of a request or a reply is in an error.
"""

import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from mlc.errors import OutOfReachError, UserError
from mlc.stopping import ShouldStop, Stopped, never
from mlc.urls import expanded, redacted

if TYPE_CHECKING:
    import httpx

ATTEMPTS = 6
"""Requests with the same messages before the server counts as broken."""
FIRST_DELAY = 0.5
"""Seconds before the second attempt; each further delay is twice as long, unless the server names one."""
LONGEST_DELAY = 60.0
TIMEOUT = 120.0
"""Seconds to wait for a reply, or for its next part."""
LOOKS_EVERY = 0.2
"""Seconds between two looks at whether somebody asks to stop."""
UNKNOWN_FIELD = (400, 422)
"""Statuses of a server that does not know a field of a request, among other reasons."""
ONE_REQUEST = (400, 413, 422)
"""Statuses that may be due to one request alone, such as one that is too long or that a filter of the server blocks."""


@dataclass(frozen=True)
class Server:
    """A server, and how it is used."""

    address: str
    """Base address, such as ``http://127.0.0.1:8000/v1``; ``${NAME}`` stands for an environment variable."""
    model: str
    """Name of the model there."""
    key_variable: str
    """Environment variable that holds the key; none is sent where it is not set."""
    concurrency: int
    """Requests at once."""
    named: tuple[str, str]
    """What a person knows address and model as, for errors, such as ``translator.endpoint``."""


@dataclass(frozen=True)
class Request:
    """What a model is asked."""

    messages: Sequence[Mapping[str, str]]
    """Mappings with ``role`` and ``content``."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of the request, such as ``temperature``, ``seed`` and ``max_tokens``."""


@dataclass(frozen=True)
class Reply:
    """What a model said."""

    text: str
    """As it came; empty where there is a problem."""
    finish: str | None = None
    """Why it ended: ``stop`` by itself, ``length`` because it was cut, or what the server says; None if it does not."""
    prompt_tokens: int = 0
    """Tokens that were read; 0 where the server does not tell."""
    tokens: int = 0
    """Tokens that were written; 0 where the server does not tell."""
    logprobs: tuple[float, ...] | None = None
    """Natural log-probability of each written token; None where the server does not tell."""
    problem: str | None = None
    """Why the server refused this request, in a few words, where the client was told to hand that on."""


@dataclass(frozen=True)
class Usage:
    """What has been asked so far."""

    requests: int = 0
    """Requests that were sent, repeated ones among them."""
    replies: int = 0
    prompt_tokens: int = 0
    tokens: int = 0


class ChatClient:
    """Asks a server; threads may share one.

    A request is repeated after 408, 409, 425, 429, 5xx and failed connections, each time after a longer delay, or the
    one that ``Retry-After`` names.

    Args:
        server: The server.
        optional: Fields of each request that a server need not know: they are left out once it refuses them.
        hands_on: Statuses for which there is a reply with a problem instead of an error; :data:`ONE_REQUEST`, for
            example.
        kept: What becomes of the replies so far when the server does not answer any more, for the error.
        attempts: Requests with the same messages before the server counts as broken.
        first_delay: Seconds before the second of them.
        timeout: Seconds to wait for a reply, or for its next part.

    Raises:
        UserError: The address is none, or names a variable that is not set.
    """

    def __init__(
        self,
        server: Server,
        *,
        optional: Mapping[str, Any] | None = None,
        hands_on: Sequence[int] = (),
        kept: str = "what it has answered so far is kept, so the same command goes on from there",
        attempts: int = ATTEMPTS,
        first_delay: float = FIRST_DELAY,
        timeout: float = TIMEOUT,
    ) -> None:
        import httpx

        self.server = server
        self._shown = redacted(server.address)
        base = expanded(server.address, server.named[0])
        if not base.startswith(("http://", "https://")):
            raise UserError(
                f"The endpoint {self._shown!r} is no address: write it as http://HOST:PORT/v1, for example."
            )
        self._address = f"{base.rstrip('/')}/chat/completions"
        self._optional = dict(optional or {})
        self._hands_on = tuple(hands_on)
        self._kept = kept
        self._attempts = attempts
        self._first_delay = first_delay
        self._usage = Usage()
        self._lock = threading.Lock()
        key = os.environ.get(server.key_variable)
        self._client = httpx.Client(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=timeout,
            limits=httpx.Limits(max_connections=server.concurrency),
        )

    @property
    def usage(self) -> Usage:
        """What has been asked so far."""
        return self._usage

    def as_done(self, requests: Iterable[Request], *, should_stop: ShouldStop = never) -> Iterator[tuple[int, Reply]]:
        """Asks many times at once, and hands on each reply as soon as it is there.

        Whatever ends it early, what has been sent is waited for and handed on first, so that who keeps the replies
        need ask nothing twice.

        Args:
            requests: Taken one by one, no more than there are requests at once.
            should_stop: Looked at several times a second.

        Yields:
            Number of a request, counted from 0, and its reply.

        Raises:
            UserError: The server refuses a request, speaks another protocol or does not answer any more.
            Stopped: Somebody has asked to stop.
        """
        stop = threading.Event()
        waiting: dict[Future[Reply], int] = {}
        left = enumerate(requests)
        failure: UserError | Stopped | None = None
        with ThreadPoolExecutor(self.server.concurrency) as pool:
            try:
                while True:
                    if failure is None and should_stop():
                        failure = Stopped()
                        stop.set()
                    while failure is None and len(waiting) < self.server.concurrency:
                        if (following := next(left, None)) is None:
                            break
                        waiting[pool.submit(self._insist, following[1], stop)] = following[0]
                    if not waiting:
                        break
                    for future in wait(waiting, LOOKS_EVERY, FIRST_COMPLETED).done:
                        number = waiting.pop(future)
                        try:
                            reply = future.result()
                        except (UserError, Stopped) as error:
                            failure = failure or error
                            stop.set()
                        else:
                            yield number, reply
            finally:
                stop.set()
        if failure is not None:
            raise failure

    def in_order(self, requests: Iterable[Request], *, should_stop: ShouldStop = never) -> Iterator[Reply]:
        """As :meth:`as_done`, but a reply waits for those to earlier requests, and is lost if one of them fails.

        Raises:
            UserError: As :meth:`as_done`.
            Stopped: As :meth:`as_done`.
        """
        early: dict[int, Reply] = {}
        following = 0
        for number, reply in self.as_done(requests, should_stop=should_stop):
            early[number] = reply
            while following in early:
                yield early.pop(following)
                following += 1

    def ask(self, request: Request) -> Reply:
        """Asks once, in this thread.

        Raises:
            UserError: As :meth:`as_done`.
        """
        return self._insist(request, threading.Event())

    def _insist(self, request: Request, stop: threading.Event) -> Reply:
        delay, problem = self._first_delay, ""
        for attempt in range(self._attempts):
            if stop.wait(delay) if attempt else stop.is_set():
                raise Stopped
            answer, problem = self._send(request)
            if answer is not None and answer.is_success:
                return self._read(answer)
            if answer is not None and answer.status_code in self._hands_on:
                return Reply("", problem=problem)
            if answer is not None and not _passing(answer.status_code):
                address, model = self.server.named
                raise UserError(
                    f"The endpoint {self._shown!r} refused a request for model {self.server.model!r} with {problem}: "
                    f"check {address}, {model} and the key in {self.server.key_variable}."
                )
            wished = _wished_delay(answer)
            delay = min(self._first_delay * 2**attempt if wished is None else wished, LONGEST_DELAY)
        raise OutOfReachError(
            f"The endpoint {self._shown!r} did not answer after {self._attempts} attempts (last: {problem}): check "
            f"that it runs; {self._kept}."
        )

    def _send(self, request: Request) -> "tuple[httpx.Response | None, str]":
        """The answer, if one came, and what is wrong with it. The text of an answer may hold that of the request."""
        import httpx

        optional = self._optional
        body = {"model": self.server.model, "messages": list(request.messages), **request.options, **optional}
        self._count(requests=1)
        try:
            answer = self._client.post(self._address, json=body)
        except httpx.HTTPError as error:
            return None, type(error).__name__
        if answer.status_code in UNKNOWN_FIELD and optional:
            self._optional = {}
            return self._send(request)
        return answer, f"status {answer.status_code}"

    def _read(self, answer: "httpx.Response") -> Reply:
        try:
            body = answer.json()
            choice = body["choices"][0]
            usage = body.get("usage") or {}
            told = (choice.get("logprobs") or {}).get("content")
            logprobs = tuple(float(token["logprob"]) for token in told) if told else None
            finish = choice.get("finish_reason")
            reply = Reply(
                str(choice["message"]["content"] or ""),
                None if finish is None else str(finish),
                int(usage.get("prompt_tokens") or 0),
                int(usage.get("completion_tokens") or 0) or len(logprobs or ()),
                logprobs,
            )
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            raise UserError(
                f"The endpoint {self._shown!r} answers in another form than OpenAI's chat completions: name the base "
                "address of one that speaks it, such as http://HOST:PORT/v1."
            ) from None
        self._count(replies=1, prompt_tokens=reply.prompt_tokens, tokens=reply.tokens)
        return reply

    def _count(self, **more: int) -> None:
        with self._lock:
            self._usage = Usage(**{name: count + more.get(name, 0) for name, count in vars(self._usage).items()})


def _passing(status: int) -> bool:
    """Whether trying again may help."""
    return status in (408, 409, 425, 429) or status >= 500


def _wished_delay(answer: "httpx.Response | None") -> float | None:
    """Seconds that ``Retry-After`` names, as a number or as a date; None without it."""
    wish = answer.headers.get("Retry-After") if answer is not None else None
    if wish is None:
        return None
    try:
        return max(0.0, float(wish))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(wish).timestamp() - time.time())
    except ValueError:
        return None
