"""Small random encoder-decoders: a T5 of two and three layers, and an M2M100 with language tokens."""

from pathlib import Path

import torch
from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoTokenizer,
    M2M100Config,
    M2M100ForConditionalGeneration,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from mlc.shipped import shipped_data


def save_t5(folder: Path, *, seed: int = 0) -> Path:
    """Writes a T5 with the pieces of the tiny policy, whose texts end with an end token and begin with none."""
    pieces = AutoTokenizer.from_pretrained(shipped_data("tiny"))
    end = pieces.eos_token
    backend = pieces.backend_tokenizer
    backend.post_processor = TemplateProcessing(single=f"$A {end}", special_tokens=[(end, pieces.eos_token_id)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=end, pad_token=pieces.pad_token)
    torch.manual_seed(seed)
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_decoder_layers=3,
        num_heads=4,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
    )
    return _saved(T5ForConditionalGeneration(config), tokenizer, folder)


def save_m2m100(folder: Path, *, seed: int = 0) -> Path:
    """Writes an M2M100 with the tokenizer of the shipped translator, which knows seven languages."""
    tokenizer = AutoTokenizer.from_pretrained(shipped_data("nano"))
    torch.manual_seed(seed)
    config = M2M100Config(
        vocab_size=len(tokenizer),
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_position_embeddings=512,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.eos_token_id,
    )
    return _saved(M2M100ForConditionalGeneration(config), tokenizer, folder)


def _saved(model, tokenizer, folder: Path) -> Path:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
