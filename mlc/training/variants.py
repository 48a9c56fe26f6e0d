"""The variants of prompts: one prompt in several languages, as tokens.

V prompts, L languages with English first, T tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mlc.models.bounds import context_of
from mlc.models.encoders import is_encoder_decoder
from mlc.models.prefix import unwrapped
from mlc.models.prompts import EncodedPrompt, PromptBatch, encode_prompt, pad_prompts
from mlc.shapes.history import Prompt

Text = Prompt


@dataclass(frozen=True)
class Variants:
    """One prompt in its languages."""

    prompts: tuple[EncodedPrompt | None, ...]
    """[L] English first; None where a language is missing."""
    weights: tuple[float, ...] | None = None
    """[L] weight of each row in the loss, such as the quality of the translation; None = 1 for all."""
    harmful: bool = False
    """Whether the prompt is labelled harmful; without a label it is not."""
    answer: tuple[int, ...] = ()
    """Tokens of the English answer, where a term reads them."""

    def about(self, *, harmful: bool, answer: tuple[int, ...]) -> "Variants":
        """The same variants, with what else is known of the prompt."""
        return replace(self, harmful=harmful, answer=answer)

    @property
    def usable(self) -> bool:
        """Whether there is English, and something to compare it with."""
        return self.prompts[0] is not None and sum(prompt is not None for prompt in self.prompts) > 1


@dataclass(frozen=True)
class VariantBatch:
    """The variants of V prompts, one row for each that exists."""

    prompts: PromptBatch
    """[number of True in mask, T], in the order of the mask's True entries."""
    mask: Tensor
    """[V, L] bool."""
    weights: Tensor | None = None
    """[V, L] float weights of the rows; None = 1 for all."""
    harmful: tuple[bool, ...] = ()
    """[V] whether each prompt is labelled harmful; empty = none is."""
    answers: tuple[tuple[int, ...], ...] = ()
    """[V] tokens of each English answer; empty = there are none."""

    def to(self, device: Any) -> "VariantBatch":
        """The same batch on another device."""
        weights = None if self.weights is None else self.weights.to(device)
        return VariantBatch(self.prompts.to(device), self.mask.to(device), weights, self.harmful, self.answers)


def require_names(names: Sequence[str]) -> None:
    """Checks names of languages.

    Raises:
        ValueError: They are one text, or one of them occurs twice.
    """
    if isinstance(names, str) or len(set(names)) < len(names):
        raise ValueError(f"languages must be a list that names each language once, English first, not {names!r}.")


def require_languages(variants: VariantBatch, languages: Sequence[str]) -> None:
    """Checks that a batch is in the languages that a term is for.

    Args:
        variants: Prompts in their languages.
        languages: [L] their names.

    Raises:
        ValueError: They are more or fewer.
    """
    if (given := variants.mask.shape[1]) != len(languages):
        raise ValueError(
            f"variants are in {given} languages, the term is for {len(languages)}: {', '.join(languages)}."
        )


def in_languages(texts: Any, languages: Sequence[str]) -> list[Text | None]:
    """A prompt in its languages, in their order.

    Args:
        texts: A list in the order of the languages, or a mapping from their names; None or an empty text where the
            prompt is missing in one.
        languages: [L] their names.

    Raises:
        ValueError: It is one text alone, has too many or too few, or names a language that is not there.
    """
    if isinstance(texts, Mapping):
        if strange := [name for name in texts if name not in languages]:
            raise ValueError(f"a prompt has a text in {strange[0]!r}; the languages are {', '.join(languages)}.")
        return [texts.get(name) for name in languages]
    if isinstance(texts, str) or not isinstance(texts, Sequence) or any(isinstance(one, Mapping) for one in texts):
        raise ValueError("a prompt must be a list of its texts in all languages, or a mapping, and not one text alone.")
    if len(texts) != len(languages):
        raise ValueError(
            f"a prompt has {len(texts)} texts, and there are {len(languages)} languages: give one for each."
        )
    return list(texts)


def longest_text(model: Any, limit: int, *, followed_by: int = 0) -> int:
    """Most tokens of a text that a model can read with what follows it.

    Args:
        model: The policy; what is not a model with a configuration bounds nothing.
        limit: Most tokens as configured.
        followed_by: Tokens of the longest continuation.

    Raises:
        ValueError: The model has no room for any text.
    """
    config = getattr(unwrapped(model), "config", None)
    context = None if config is None else context_of(config.to_dict())
    if context is None:
        return limit
    room = context if is_encoder_decoder(config) else context - followed_by
    if room < 1:
        raise ValueError(
            f"the policy reads at most {context} tokens at once, and the openings and answers of the terms, of up to "
            f"{followed_by} tokens, leave no room for a prompt: shorten them."
        )
    return min(limit, room)


def encode_variants(
    tokenizer: Any,
    texts: Sequence[Text | None],
    *,
    chat: bool = True,
    max_tokens: int,
    with_content: bool = False,
    languages: Sequence[str] | None = None,
) -> Variants:
    """Encodes one prompt in its languages.

    Args:
        tokenizer: Fast tokenizer of the policy.
        texts: [L] the prompt in each language, English first; None or an empty text where it is missing.
        chat: Whether bare texts become turns of the chat template.
        max_tokens: Longer variants count as missing.
        with_content: So do those without a token that is the person's own text, which only some poolings need.
        languages: [L] their names, for tokenizers that put a token of it to a text; None = they are all read alike.
    """

    def encoded(text: Text | None, language: str | None) -> EncodedPrompt | None:
        prompt = encode_prompt(tokenizer, text, chat=chat, language=language) if text else None
        if prompt is None or not 0 < len(prompt.input_ids) <= max_tokens:
            return None
        return prompt if any(prompt.content) or not with_content else None

    names: Sequence[str | None] = languages or [None] * len(texts)
    return Variants(tuple(map(encoded, texts, names)))


def batch_variants(
    variants: Sequence[Variants], pad_token: int, *, limit: int | None = None, side: str = "left"
) -> VariantBatch | None:
    """Pads variants among themselves, never to an answer.

    Args:
        variants: The prompts of a step.
        pad_token: Id that fills the padding.
        limit: Only the first so many prompts that have a translation; None = all of them.
        side: ``left`` or ``right``.

    Returns:
        The batch, or None if no prompt has a translation.
    """
    chosen = [prompt for prompt in variants if prompt.usable][:limit]
    if not chosen:
        return None
    present = [row for prompt in chosen for row in prompt.prompts if row is not None]
    mask = torch.tensor([[row is not None for row in prompt.prompts] for prompt in chosen])
    weights = None
    if any(prompt.weights for prompt in chosen):
        weights = torch.tensor([prompt.weights or (1.0,) * mask.shape[1] for prompt in chosen])
    harmful, answers = tuple(prompt.harmful for prompt in chosen), tuple(prompt.answer for prompt in chosen)
    return VariantBatch(pad_prompts(present, pad_token, side=side), mask, weights, harmful, answers)
