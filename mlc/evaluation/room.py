"""Whether prompts and their answers find room in what a model reads at once."""

from collections.abc import Mapping

from mlc.errors import UserError
from mlc.models.bounds import context_of
from mlc.models.encoders import is_encoder_decoder
from mlc.models.loading import Policy
from mlc.models.prompts import encode_prompt
from mlc.shapes.history import Prompt


def require_room(policy: Policy, prompts: Mapping[str, Prompt], *, follows: int, language: str) -> None:
    """Checks that a model can read prompts and write behind them.

    Beyond that a model of learned positions fails, and any other one says something that was never tried.

    Args:
        policy: The model.
        prompts: By id.
        follows: Most tokens behind a prompt.
        language: NLLB code of the prompts.

    Raises:
        UserError: Some are too long.
    """
    context = context_of(policy.model.config.to_dict())
    if context is None:
        return
    room = context if is_encoder_decoder(policy.model.config) else context - follows
    lengths = {
        name: len(encode_prompt(policy.tokenizer, prompt, language=language).input_ids)
        for name, prompt in prompts.items()
    }
    long = {name: length for name, length in lengths.items() if length > room}
    if follows > context or (long and len(long) == len(lengths)):
        raise UserError(
            f"The model {policy.source.location!r} reads at most {context} tokens at once, which leaves no room for "
            f"prompts in {language} beside {follows} tokens of an answer: lower evaluation.answer_tokens, or take a "
            "model that reads more."
        )
    if long:
        name = max(long, key=long.__getitem__)
        raise UserError(
            f"{len(long)} of {len(lengths)} held-out prompts in {language} are too long for the model "
            f"{policy.source.location!r}, which reads at most {context} tokens at once, {follows} of them for an "
            f"answer (the longest, {name!r}, has {long[name]}): shorten them, or take a model that reads more."
        )
