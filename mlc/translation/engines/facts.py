"""What decides the translations of an engine that computes a checkpoint, known without loading it."""

from typing import Any

from mlc.devices import pick_device
from mlc.translation.settings import Precision, TranslatorSettings

VERSIONS = {"transformers": 2, "ctranslate2": 2}
"""Of the engines that compute a checkpoint; raised when the same model and settings would give other translations
than before."""


def checkpoint_facts(
    engine: str,
    model: str,
    *,
    num_beams: int,
    max_new_tokens: int,
    precision: str,
    temperature: float = 0.0,
    seed: int = 0,
) -> dict[str, Any]:
    """The facts of an engine that computes a checkpoint."""
    decoding: dict[str, Any] = {"num_beams": num_beams, "max_new_tokens": max_new_tokens, "precision": precision}
    if temperature:
        decoding |= {"temperature": temperature, "seed": seed}
    return {"engine": engine, "version": VERSIONS[engine], "model": model, "decoding": decoding}


def converted_precision(settings: TranslatorSettings) -> Precision:
    """The numbers that ctranslate2 computes with: ``auto`` is int8 on a CPU and float16 on a GPU."""
    if settings.precision != "auto":
        return settings.precision
    return "float16" if pick_device(settings.device) == "cuda" else "int8"
