"""Configuration of the translator. Light to import: no torch, no transformers."""

from typing import Literal

from pydantic import Field

from mlc.settings import Settings

Device = Literal["auto", "cpu", "cuda", "mps"]


class TranslatorSettings(Settings):
    """Which NLLB checkpoint translates the prompts, and how."""

    model: str = "shipped:nano"
    """``shipped:nano`` (a toy for the quickstart's domain), a hub id such as ``facebook/nllb-200-distilled-600M``,
    or a local folder."""
    revision: str | None = None
    """Branch, tag or commit of a hub id; the newest if not given."""
    num_beams: int = Field(default=1, ge=1, le=32)
    """Width of the beam; 1 is greedy search."""
    max_new_tokens: int = Field(default=256, ge=2, le=1024)
    """Longest translation of one sentence, in tokens, the language token counted."""
    batch_size: int = Field(default=16, ge=1)
    """Sentences translated at once; does not change the translations."""
    device: Device = "auto"
    """Where to compute; ``auto`` takes an accelerator if there is one."""
