"""The engine ``http``: any endpoint that speaks OpenAI's chat protocol, so that a team can use its own model."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mlc.catalogue import REFUSALS
from mlc.chat.client import FIRST_DELAY, ONE_REQUEST, ChatClient, Reply, Request, Server
from mlc.errors import UserError
from mlc.translation.engines.protocol import Batch, SentenceTranslation, identity_of
from mlc.translation.engines.template import messages_of, read_answer, read_template
from mlc.translation.settings import TranslatorSettings

if TYPE_CHECKING:
    from mlc.evaluation.judges.refusing import RefusalReader

VERSION = 2
"""Raised when the same model and settings would give other translations than before."""
ROUNDS_PER_BATCH = 4
"""Requests of each thread before what they brought is handed on."""
NO_JSON = "no JSON with a translation"
FILTERED = "stopped by the server's filter"


def http_facts(settings: TranslatorSettings) -> dict[str, Any]:
    """The facts of an endpoint; nothing is known of the model there but its name and address.

    Raises:
        UserError: The file of the prompt cannot be used.
    """
    decoding = {
        "max_new_tokens": settings.max_new_tokens,
        "temperature": settings.temperature,
        "seed": settings.seed,
        "instruction": read_template(settings.prompt, in_json=settings.answer == "json"),
        "unit": settings.unit,
        "answer": settings.answer,
    }
    return {
        "engine": "http",
        "version": VERSION,
        "model": f"{settings.model}@{settings.endpoint}",
        "decoding": decoding,
    }


class EndpointEngine:
    """Asks an endpoint for the translation of each sentence, or of each text.

    A model that is tuned for safety refuses to translate some prompts: what it says then is no translation, and neither
    is an answer that its server has filtered, or that is not in the form that was asked for.

    Args:
        settings: Address, model, prompt and decoding.
        first_delay: Seconds before a failed request is repeated.

    Raises:
        UserError: The address is none, or the prompt cannot be used.
    """

    longest_sentence = None
    languages = None
    remembers = True

    def __init__(self, settings: TranslatorSettings, *, first_delay: float = FIRST_DELAY) -> None:
        self.settings = settings
        self.whole_texts = settings.unit == "prompt"
        self._in_json = settings.answer == "json"
        self._template = read_template(settings.prompt, in_json=self._in_json)
        self._has_answered = False
        self._client = ChatClient(
            Server(
                settings.endpoint or "",
                settings.model,
                settings.api_key_variable,
                settings.concurrency,
                ("translator.endpoint", "translator.model"),
            ),
            optional={"logprobs": True, **({"response_format": {"type": "json_object"}} if self._in_json else {})},
            hands_on=ONE_REQUEST,
            kept="what it has translated so far is kept, so the same command goes on from there",
            first_delay=first_delay,
        )

    @classmethod
    def from_settings(cls, settings: TranslatorSettings) -> "EndpointEngine":
        """The endpoint that the configuration names; nothing is asked of it yet."""
        return cls(settings)

    @cached_property
    def facts(self) -> Mapping[str, Any]:
        return http_facts(self.settings)

    @cached_property
    def identity(self) -> str:
        return identity_of(self.facts)

    def lengths(self, sentences: Sequence[str], *, source: str) -> list[int]:
        return [0] * len(sentences)

    def translate(
        self, sentences: Sequence[str], *, source: str, targets: Sequence[str]
    ) -> Iterator[tuple[str, Batch]]:
        size = self.settings.concurrency * ROUNDS_PER_BATCH
        for target in targets:
            for start in range(0, len(sentences), size):
                batch = sentences[start : start + size]
                replies: dict[str, Reply] = {}
                try:
                    requests = (self._request(sentence, source, target) for sentence in batch)
                    for number, reply in self._client.as_done(requests):
                        replies[batch[number]] = reply
                except UserError:
                    if replies:
                        yield target, self._read(replies)
                    raise
                yield target, self._read(replies)

    def refusals(self, done: Mapping[str, SentenceTranslation], *, source: str, target: str) -> Mapping[str, str]:
        # By name: a change of its code is no change of the other engines' translations.
        reader: RefusalReader = REFUSALS.load("rules")
        read = reader.read([(sentence, row.text, source, target) for sentence, row in done.items()])
        return {sentence: refusal for sentence, refusal in zip(done, read, strict=True) if refusal}

    def _request(self, sentence: str, source: str, target: str) -> Request:
        options = {
            "temperature": self.settings.temperature,
            "seed": self.settings.seed,
            "max_tokens": self.settings.max_new_tokens,
        }
        return Request(messages_of(self._template, sentence, source=source, target=target), options)

    def _read(self, replies: Mapping[str, Reply]) -> Batch:
        self._require_some_answer(list(replies.values()))
        return {sentence: _translation(reply, in_json=self._in_json) for sentence, reply in replies.items()}

    def _require_some_answer(self, replies: Sequence[Reply]) -> None:
        """Tells a server that refuses single requests from one that refuses whatever it is asked."""
        self._has_answered |= any(reply.problem is None for reply in replies)
        if replies and not self._has_answered:
            raise UserError(
                f"The endpoint {self.settings.endpoint!r} refused every request for model {self.settings.model!r} "
                f"({replies[0].problem}): check translator.endpoint, translator.model and translator.prompt."
            )


def _translation(reply: Reply, *, in_json: bool) -> SentenceTranslation:
    if reply.problem is not None:
        return _refused(reply, f"refused by its server, {reply.problem}")
    if reply.finish == "content_filter":
        return _refused(reply, FILTERED)
    text = read_answer(reply.text, in_json=in_json)
    if text is None:
        return _refused(reply, NO_JSON)
    logprob = sum(reply.logprobs) if reply.logprobs else None
    count = len(reply.logprobs) if reply.logprobs else reply.tokens
    return SentenceTranslation(text, logprob, count, reply.finish == "stop")


def _refused(reply: Reply, reason: str) -> SentenceTranslation:
    return SentenceTranslation("", None, reply.tokens, finished=False, refusal=reason)
