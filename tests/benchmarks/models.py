"""Random models and prompts: the time of a forward pass does not depend on what the weights are."""

import random
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from mlc.models.prompts import EncodedPrompt


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


def random_tokens(generator: random.Random, shortest: int, longest: int, vocabulary: int) -> tuple[int, ...]:
    """Tokens without meaning, as many as the generator says between the shortest and the longest."""
    return tuple(generator.randrange(3, vocabulary) for _ in range(generator.randint(shortest, longest)))


def random_prompt(generator: random.Random, shortest: int, longest: int, vocabulary: int) -> EncodedPrompt:
    """A prompt without meaning, all of it content."""
    tokens = random_tokens(generator, shortest, longest, vocabulary)
    return EncodedPrompt(tokens, (True,) * len(tokens))
