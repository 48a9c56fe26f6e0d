"""Every choice that the nano checkpoint depends on."""

from pydantic import Field

from mlc.settings import Settings


class NanoRecipe(Settings):
    """Sizes, data and optimisation of the nano checkpoint."""

    seed: int = 20250
    vocab_size: int = Field(default=6000, ge=300)
    """Pieces of the BPE vocabulary, special tokens counted, language codes not."""
    d_model: int = 192
    ffn_dim: int = 768
    attention_heads: int = 4
    encoder_layers: int = 3
    decoder_layers: int = 3
    dropout: float = Field(default=0.1, ge=0, lt=1)
    steps: int = Field(default=2400, ge=1)
    tokens_per_batch: int = 2000
    """Target tokens of a batch, padding counted."""
    reverse_share: float = Field(default=0.25, ge=0, le=1)
    """Share of the batches that translate into English."""
    learning_rate: float = 2e-3
    """Peak of the schedule: linear warm-up, then a cosine down to zero."""
    warmup_steps: int = 200
    weight_decay: float = 0.01
    held_out_share: float = 0.02
    """Share of the (frame, action) pairs kept from training besides those of the quickstart."""
    evaluation_size: int = 200
    """Unseen compositions that each language is scored on."""
    checkpoint_every: int = 200
    """Steps between checkpoints."""
    threads: int = 2
