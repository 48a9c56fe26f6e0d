"""What decides the translations of a translator, known without loading it."""

from typing import Any

from mlc.models.sources import resolve_model
from mlc.translation.engines.endpoint import http_facts
from mlc.translation.engines.facts import checkpoint_facts, converted_precision
from mlc.translation.engines.given import given_facts, given_file
from mlc.translation.engines.loading import pick_precision
from mlc.translation.settings import TranslatorSettings


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
