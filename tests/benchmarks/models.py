"""Random models, prompts and preference batches: the time of a pass does not depend on what the weights are."""

import random
import tempfile
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from mlc.models.loading import Policy
from mlc.models.prompts import EncodedPrompt
from mlc.models.sources import ModelSource
from mlc.shipped import shipped_data
from mlc.training import ConsistencyConfig, Variants


def random_llama(*, layers: int, hidden: int, vocabulary: int) -> Any:
    """A Llama with random weights, tied embeddings and heads of 32."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=hidden * 8 // 3 // 64 * 64,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 32,
        num_key_value_heads=hidden // 64,
        max_position_embeddings=1024,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=2,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config).eval()


def random_policy(model: Any) -> Policy:
    """A random model with the tokenizer of ``shipped:tiny``."""
    tokenizer = AutoTokenizer.from_pretrained(shipped_data("tiny"), local_files_only=True)
    return Policy(model, tokenizer, ModelSource("random", "folder", "", ""))


def random_tokens(generator: random.Random, shortest: int, longest: int, vocabulary: int) -> tuple[int, ...]:
    """Tokens without meaning, as many as the generator says between the shortest and the longest."""
    return tuple(generator.randrange(3, vocabulary) for _ in range(generator.randint(shortest, longest)))


def random_prompt(generator: random.Random, shortest: int, longest: int, vocabulary: int) -> EncodedPrompt:
    """A prompt without meaning, all of it content."""
    tokens = random_tokens(generator, shortest, longest, vocabulary)
    return EncodedPrompt(tokens, (True,) * len(tokens))


class Sizes(Protocol):
    """What the batch is made from."""

    vocabulary: int
    prompts: int
    languages: int
    prompt_tokens: int
    response_tokens: int


@dataclass(frozen=True)
class PreferenceBatch:
    """One batch."""

    inputs: dict[str, Tensor]
    """What TRL's collator gives: chosen rows, then rejected ones."""
    variants: list[Variants]
    """The prompts in their languages."""


def dpo_trainer(model: Any, reference: Any, languages: int, config: ConsistencyConfig, *, on_cpu: bool) -> Any:
    """A trainer whose loss is asked for directly.

    Args:
        model: Policy.
        reference: Reference model.
        languages: Number of languages, English included.
        config: The term.
        on_cpu: Whether the models are on the CPU.
    """
    from datasets import Dataset
    from trl import DPOConfig

    from mlc.training import ConsistencyDPOTrainer

    # One row, so that there is a trainer; the batch is made by hand.
    row = {"prompt": "a", "chosen": "b", "rejected": "c", "variants": ["a"] * languages}
    with tempfile.TemporaryDirectory() as folder:
        trainer = ConsistencyDPOTrainer(
            model=model,
            ref_model=reference,
            args=DPOConfig(output_dir=folder, report_to=[], use_cpu=on_cpu, bf16=False, gradient_checkpointing=False),
            train_dataset=Dataset.from_list([row]),
            processing_class=AutoTokenizer.from_pretrained(shipped_data("tiny")),
            consistency=config,
        )
    model.train()
    trainer.current_gradient_accumulation_steps = 1
    return trainer


def preference_batch(size: Sizes, device: str = "cpu") -> PreferenceBatch:
    """Random prompts with two responses each, and variants as long as the prompts.

    Args:
        size: Numbers and lengths.
        device: Where the inputs are put.
    """
    generator = random.Random(0)

    def tokens(count: int) -> tuple[int, ...]:
        return random_tokens(generator, count, count, size.vocabulary)

    prompts = [tokens(size.prompt_tokens) for _ in range(size.prompts)]
    rows = [prompt + tokens(size.response_tokens) for _ in range(2) for prompt in prompts]
    answered = torch.arange(len(rows[0]), device=device) >= size.prompt_tokens
    inputs = {
        "input_ids": torch.tensor(rows, device=device),
        "attention_mask": torch.ones(len(rows), len(rows[0]), dtype=torch.long, device=device),
        "completion_mask": answered.long().expand(len(rows), -1),
    }
    others = [[tokens(size.prompt_tokens) for _ in range(size.languages - 1)] for _ in prompts]
    variants = [
        Variants(tuple(EncodedPrompt(row, (True,) * len(row)) for row in (prompt, *rest)))
        for prompt, rest in zip(prompts, others, strict=True)
    ]
    return PreferenceBatch(inputs, variants)
