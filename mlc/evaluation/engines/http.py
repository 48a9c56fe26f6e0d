"""Answers from a server that speaks OpenAI's chat protocol, such as vLLM, SGLang, llama.cpp and Ollama."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from mlc.chat.client import FIRST_DELAY, ONE_REQUEST, TIMEOUT, ChatClient, Reply, Request, Server, Usage
from mlc.errors import UserError
from mlc.evaluation.engines.protocol import Completion, Finish, Prompt, Rendered
from mlc.stopping import ShouldStop, never
from mlc.store.hashing import digest_data

TRIED = 8
"""So many refused requests without any answer mean that the server refuses them all."""
_FINISH: Mapping[str | None, Finish] = {"length": "length", "content_filter": "filter"}


class HttpEngine:
    """Asks a server, several prompts at once; a failing one is asked again, see :class:`mlc.chat.client.ChatClient`.

    A prompt that the server refuses, because it is too long or a filter withholds it, has an empty answer that ends by
    ``filter``. Of most servers nothing is known of the model but its name and address, so these are its identity.

    Args:
        server: The server.
        max_new_tokens: Longest answer, in tokens.
        temperature: 0 takes the likeliest token.
        seed: Seed that is handed on to the server.
        first_delay: Seconds before a failed request is repeated.
        timeout: Seconds to wait for an answer, or for its next part.
        model: Digest of the model, where it is known; else its name and address stand for it.
        template: Variables of the chat template, which the servers that know them put into it.

    Raises:
        UserError: The address is none, or names a variable that is not set.
    """

    def __init__(
        self,
        server: Server,
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        seed: int = 0,
        first_delay: float = FIRST_DELAY,
        timeout: float = TIMEOUT,
        model: str | None = None,
        template: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self.server = server
        self._model = model or f"{server.model}@{server.address}"
        self._options: dict[str, Any] = {"temperature": temperature, "seed": seed, "max_tokens": max_new_tokens}
        if template:
            self._options["chat_template_kwargs"] = dict(template)
        self._client = ChatClient(server, hands_on=ONE_REQUEST, first_delay=first_delay, timeout=timeout)

    @property
    def identity(self) -> str:
        return digest_data({"model": self._model, **self._options})

    @property
    def usage(self) -> Usage:
        """Requests and tokens so far."""
        return self._client.usage

    def answer(
        self, prompts: Sequence[Prompt], *, answered: Collection[int] = (), should_stop: ShouldStop = never
    ) -> Iterator[Completion]:
        """See :class:`mlc.evaluation.engines.protocol.AnswerEngine`.

        Raises:
            UserError: The server does not answer any more, refuses all requests, or speaks another protocol; or a
                prompt is rendered, which such a server does not take.
        """
        refused: list[Completion] = []
        replied = False
        left = [place for place in range(len(prompts)) if place not in answered]
        requests = [self._request(prompts[place]) for place in left]
        for number, reply in self._client.as_done(requests, should_stop=should_stop):
            completion = _completion(left[number], reply)
            if reply.problem is None:
                replied = True
                yield completion
            elif replied:
                yield completion
            else:
                # They count once it is known that the server answers others.
                refused.append(completion)
                if len(refused) == TRIED:
                    raise self._refusal(reply)
            if replied:
                yield from refused
                refused.clear()
        yield from refused

    def _request(self, prompt: Prompt) -> Request:
        if isinstance(prompt, Rendered):
            raise UserError(
                f"The model {self.server.model!r} behind an endpoint takes messages and no rendered prompt: load it "
                "here for that."
            )
        messages = ({"role": "user", "content": prompt},) if isinstance(prompt, str) else tuple(prompt)
        return Request(messages, self._options)

    def _refusal(self, reply: Reply) -> UserError:
        address, model = self.server.named
        return UserError(
            f"The endpoint of the model {self.server.model!r} refused all of {TRIED} requests with {reply.problem}: "
            f"check {address} and {model}, and that it takes as many tokens as are asked for."
        )


def _completion(position: int, reply: Reply) -> Completion:
    finish = "filter" if reply.problem else _FINISH.get(reply.finish, "stop")
    return Completion(position, reply.text, finish, reply.prompt_tokens or None, reply.tokens or None)
