"""Answers from vLLM in this process, where there is a GPU and the package vllm is installed."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from mlc.evaluation.engines.protocol import Completion, Finish, Prompt
from mlc.evaluation.engines.transformers import encode
from mlc.models.loading import Policy
from mlc.stopping import ShouldStop, never, stop_if
from mlc.store.hashing import digest_data

PROMPTS_AT_ONCE = 256
"""Prompts that vLLM is handed at once; it makes batches of its own of them. Between two hands-over one can stop."""


class VllmEngine:
    """Greedy answers by vLLM. Prompts are made into tokens by the project, so that both engines ask the same.

    Args:
        language_model: A ``vllm.LLM``, from :func:`load_vllm`.
        reader: How prompts become tokens and tokens texts.
        max_new_tokens: Longest answer, in tokens.
        identity: Digest of the model.
    """

    def __init__(self, language_model: Any, reader: "Reader", *, max_new_tokens: int, identity: str) -> None:
        self._model = language_model
        self._reader = reader
        self._limit = max_new_tokens
        self._identity = identity

    @property
    def identity(self) -> str:
        return digest_data({"model": self._identity, "max_new_tokens": self._limit, "engine": "vllm"})

    def answer(
        self, prompts: Sequence[Prompt], *, answered: Collection[int] = (), should_stop: ShouldStop = never
    ) -> Iterator[Completion]:
        """See :class:`mlc.evaluation.engines.protocol.AnswerEngine`."""
        from vllm import SamplingParams

        sampling = SamplingParams(**sampling_arguments(self._reader.stop_tokens, self._limit))
        left = [place for place in range(len(prompts)) if place not in answered]
        for start in range(0, len(left), PROMPTS_AT_ONCE):
            stop_if(should_stop)
            places = left[start : start + PROMPTS_AT_ONCE]
            asked = [self._reader.tokens(prompts[place]) for place in places]
            requests = [{"prompt_token_ids": tokens} for tokens in asked]
            given = self._model.generate(requests, sampling, use_tqdm=False)
            for place, read, reply in zip(places, asked, given, strict=True):
                said = reply.outputs[0]
                tokens = list(said.token_ids)
                text = self._reader.text(tokens)
                yield Completion(place, text, finish_of(said.finish_reason), len(read), len(tokens))


class Reader:
    """The tokenizer of a policy, without its weights.

    Args:
        policy: The policy; it is not kept, so that its memory can be had by vLLM.
    """

    def __init__(self, policy: Policy) -> None:
        self._tokenizer = policy.tokenizer
        self._lead = policy.lead
        self.stop_tokens = policy.stop_tokens

    def tokens(self, prompt: Prompt) -> list[int]:
        """A prompt as the model reads it."""
        return list(encode(self._tokenizer, prompt).input_ids)

    def text(self, tokens: Sequence[int]) -> str:
        """An answer as a person reads it."""
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True)).removeprefix(self._lead)


def load_vllm(folder: str, dtype: str) -> Any:
    """Loads a model into vLLM.

    Args:
        folder: A checkpoint as ``from_pretrained`` reads it.
        dtype: Type of its weights; ``auto`` is that of the checkpoint.
    """
    from vllm import LLM

    return LLM(**model_arguments(folder, dtype))


def model_arguments(folder: str, dtype: str) -> dict[str, Any]:
    """What ``vllm.LLM`` is called with, see :func:`load_vllm`. No code of the model's own is run.

    The checkpoint's generation settings, which may ask for penalties, are left aside.
    """
    return {"model": folder, "dtype": dtype, "seed": 0, "trust_remote_code": False, "generation_config": "vllm"}


def sampling_arguments(stop_tokens: Sequence[int], limit: int) -> dict[str, Any]:
    """What ``vllm.SamplingParams`` is called with: the likeliest token at each step, without any penalty.

    Args:
        stop_tokens: Ids of the tokens that end an answer.
        limit: Longest answer, in tokens.
    """
    return {"temperature": 0.0, "max_tokens": limit, "stop_token_ids": list(stop_tokens), "detokenize": False}


def finish_of(reason: str | None) -> Finish:
    """Why an answer ended, by what vLLM calls it."""
    return "length" if reason == "length" else "stop"
