"""What decides the translations of a translator, known without loading it."""

from typing import Any

from mlc.devices import pick_device
from mlc.models.sources import resolve_model
from mlc.translation.engines.endpoint import http_facts
from mlc.translation.engines.given import given_facts, given_file
from mlc.translation.engines.loading import pick_precision
from mlc.translation.settings import Precision, TranslatorSettings

VERSIONS = {"transformers": 2, "ctranslate2": 2}
"""Of the engines that compute a checkpoint; raised when the same model and settings would give other translations
than before."""


def facts_of(settings: TranslatorSettings) -> dict[str, Any]:
    """The facts of the engine that the configuration names, see :class:`mlc.translation.engines.protocol.Engine`.

    Raises:
        UserError: The model is not there, or the device is missing.
    """
    if settings.engine == "given":
        return given_facts(given_file(settings.model))
    if settings.engine == "http":
        return http_facts(settings)
    precision = pick_precision(settings.precision, settings.device)
    if settings.engine == "ctranslate2":
        precision = converted_precision(settings)
    return checkpoint_facts(
        settings.engine,
        resolve_model(settings.model, revision=settings.revision, allow_pickle=settings.allow_pickle).identity,
        num_beams=settings.num_beams,
        max_new_tokens=settings.max_new_tokens,
        precision=precision,
        temperature=settings.temperature,
        seed=settings.seed,
    )


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
