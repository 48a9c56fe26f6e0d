"""Batches for alignment: English prompts with answers, and the variants of prompts in other languages.

B prompts in a step, V of them with variants, L languages with English first, T tokens.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from mlc.errors import UserError
from mlc.models.prompts import EncodedPrompt, PromptBatch, encode_prompt, pad_prompts
from mlc.training.settings import Control


@dataclass(frozen=True)
class Example:
    """One training prompt as tokens."""

    prompt: EncodedPrompt
    answer: tuple[int, ...]
    """Tokens of the chosen answer, the stop token included."""
    variants: tuple[EncodedPrompt | None, ...]
    """The prompt in every language, English first; None where a language is missing."""


@dataclass(frozen=True)
class VariantBatch:
    """The variants of V prompts, one row for each that exists."""

    prompts: PromptBatch
    """[number of True in mask, T], in the order of the mask's True entries."""
    mask: Tensor
    """[V, L] bool."""

    def to(self, device: Any) -> "VariantBatch":
        """The same batch on another device."""
        return VariantBatch(self.prompts.to(device), self.mask.to(device))


class ExampleDataset(Dataset[Example]):
    """Examples in memory.

    Args:
        examples: The examples.
        left_out: How many prompts were left out because they are too long.
    """

    def __init__(self, examples: Sequence[Example], left_out: int = 0) -> None:
        self.examples = list(examples)
        self.left_out = left_out

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Example:
        return self.examples[index]


def shuffle_variants(rows: Sequence[dict[str, Any]], control: Control, seed: int) -> list[dict[str, Any]]:
    """Gives prompts the translations of other prompts, for controls.

    Args:
        rows: Training rows with ``label``, ``variants`` (English first) and ``mask``.
        control: ``none``, ``shuffled`` over all rows, or ``shuffled_within_class`` over rows of equal label.
        seed: Seed of the permutation.

    Raises:
        UserError: A row has no label, and classes are asked for.

    Returns:
        Rows whose non-English variants belong to another row; a class of one row keeps its own.
    """
    if control == "none":
        return list(rows)
    if control == "shuffled_within_class" and any(row.get("label") is None for row in rows):
        raise UserError(
            "The control 'shuffled_within_class' needs a label for every prompt: add the column label (harmful or "
            "harmless), or use the control 'shuffled'."
        )
    groups: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        groups.setdefault(row["label"] if control == "shuffled_within_class" else "", []).append(index)
    shuffled = [dict(row) for row in rows]
    generator = random.Random(seed)
    for members in groups.values():
        order = list(members)
        generator.shuffle(order)
        # A rotation of a shuffled order leaves nobody with its own translations.
        for receiver, giver in zip(order, order[1:] + order[:1], strict=True):
            for column in ("variants", "mask"):
                shuffled[receiver][column] = [rows[receiver][column][0], *rows[giver][column][1:]]
    return shuffled


def build_examples(
    rows: Sequence[dict[str, Any]],
    tokenizer: Any,
    stop_token: int,
    *,
    max_prompt_tokens: int,
    max_answer_tokens: int,
    with_variants: bool,
) -> ExampleDataset:
    """Encodes training rows.

    Args:
        rows: Rows with ``prompt``, ``chosen``, ``variants`` and ``mask``.
        tokenizer: Tokenizer of the policy.
        stop_token: Id that ends an answer.
        max_prompt_tokens: Prompts with more tokens, template included, are left out; so are such variants.
        max_answer_tokens: Answers are cut to this many tokens.
        with_variants: Whether the variants are needed.
    """
    examples = []
    for row in rows:
        prompt = encode_prompt(tokenizer, row["prompt"])
        if len(prompt.input_ids) > max_prompt_tokens:
            continue
        answer = tokenizer(row["chosen"], add_special_tokens=False)["input_ids"][: max_answer_tokens - 1]
        variants = _encode_variants(row, prompt, tokenizer, max_prompt_tokens) if with_variants else (prompt,)
        examples.append(Example(prompt, (*answer, stop_token), variants))
    return ExampleDataset(examples, len(rows) - len(examples))


def _encode_variants(
    row: dict[str, Any], prompt: EncodedPrompt, tokenizer: Any, max_tokens: int
) -> tuple[EncodedPrompt | None, ...]:
    variants: list[EncodedPrompt | None] = [prompt]
    for text, present in zip(row["variants"][1:], row["mask"][1:], strict=True):
        encoded = encode_prompt(tokenizer, text) if present else None
        variants.append(encoded if encoded and len(encoded.input_ids) <= max_tokens else None)
    return tuple(variants)


class AlignmentCollator:
    """Turns examples into one training batch.

    Prompts and answers are padded on the left, so that answers end together and logits are needed only for
    the last positions; variants are padded among themselves, never to the answers.

    Args:
        pad_token: Id for padding.
        variant_prompts: V, how many prompts of a batch bring their variants; 0 for none.
    """

    def __init__(self, pad_token: int, variant_prompts: int) -> None:
        self.pad_token = pad_token
        self.variant_prompts = variant_prompts

    def __call__(self, examples: Sequence[Example]) -> dict[str, Any]:
        """Returns ``input_ids``, ``attention_mask``, ``labels`` ([B, T], −100 off the answer) and ``variants``."""
        whole = [
            EncodedPrompt(
                (*example.prompt.input_ids, *example.answer),
                (False,) * len(example.prompt.input_ids) + (True,) * len(example.answer),
            )
            for example in examples
        ]
        batch = pad_prompts(whole, self.pad_token, side="left")
        labels = torch.where(batch.content_mask, batch.input_ids, -100)
        inputs: dict[str, Any] = {
            "input_ids": batch.input_ids,
            "attention_mask": batch.attention_mask,
            "labels": labels,
        }
        variants = self._variants(examples)
        return inputs if variants is None else {**inputs, "variants": variants}

    def _variants(self, examples: Sequence[Example]) -> VariantBatch | None:
        chosen = [example for example in examples if sum(v is not None for v in example.variants) > 1]
        chosen = chosen[: self.variant_prompts]
        if not chosen:
            return None
        present = [variant for example in chosen for variant in example.variants if variant is not None]
        mask = torch.tensor([[variant is not None for variant in example.variants] for example in chosen])
        return VariantBatch(pad_prompts(present, self.pad_token, side="left"), mask)
