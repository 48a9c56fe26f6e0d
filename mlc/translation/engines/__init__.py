"""What translates sentences: one module an engine, all behind one protocol."""

from collections.abc import Callable

from mlc.translation.engines.protocol import Engine, SentenceTranslation
from mlc.translation.settings import TranslatorSettings

__all__ = ["ENGINES", "Engine", "SentenceTranslation", "load_engine"]


def _transformers(settings: TranslatorSettings) -> Engine:
    from mlc.translation.engines.seq2seq import Seq2SeqEngine

    return Seq2SeqEngine.from_settings(settings)


def _ctranslate2(settings: TranslatorSettings) -> Engine:
    from mlc.translation.engines.converted import ConvertedEngine

    return ConvertedEngine.from_settings(settings)


def _http(settings: TranslatorSettings) -> Engine:
    from mlc.translation.engines.endpoint import EndpointEngine

    return EndpointEngine.from_settings(settings)


def _given(settings: TranslatorSettings) -> Engine:
    from mlc.translation.engines.given import GivenEngine

    return GivenEngine.from_settings(settings)


ENGINES: dict[str, Callable[[TranslatorSettings], Engine]] = {
    "transformers": _transformers,
    "ctranslate2": _ctranslate2,
    "http": _http,
    "given": _given,
}
"""Loader of each engine; a new engine is a module here and a line in this mapping."""


def load_engine(settings: TranslatorSettings) -> Engine:
    """Loads the engine that the configuration names.

    Raises:
        UserError: It cannot be loaded.
    """
    return ENGINES[settings.engine](settings)
