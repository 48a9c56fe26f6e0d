"""A translator that is kept beside something that needs it, such as a gate."""

from pathlib import Path

from mlc.errors import UserError
from mlc.languages import all_languages
from mlc.models.check import known_config
from mlc.models.sources import ModelSource, resolve_model
from mlc.translation.engines.loading import told_to_the_user
from mlc.translation.settings import TranslatorSettings

FAMILY = "m2m_100"
"""``model_type`` of NLLB's checkpoints, whose tokens of languages are NLLB codes."""


def checkpoint_of(settings: TranslatorSettings) -> ModelSource:
    """The checkpoint that a translator computes, found without loading it.

    Args:
        settings: The translator, of the engine ``transformers``.

    Raises:
        UserError: It is not there.
    """
    return resolve_model(settings.model, revision=settings.revision, allow_pickle=settings.allow_pickle)


def require_keepable(settings: TranslatorSettings) -> None:
    """Checks that a translator can be kept beside a gate, as far as can be known without loading it.

    Args:
        settings: The translator.

    Raises:
        UserError: It is no checkpoint of NLLB that transformers computes.
    """
    if settings.engine != "transformers":
        raise UserError(
            "A gate reads translations by a checkpoint that is kept beside it, and the engine "
            f"{settings.engine!r} has none: set translator.engine to transformers, or leave such gates out."
        )
    source = checkpoint_of(settings)
    if config := known_config(source):
        _require_family(source, str(config.get("model_type")))


def _require_family(source: ModelSource, model_type: str) -> None:
    if model_type != FAMILY:
        raise UserError(
            f"A gate reads translations by a checkpoint of NLLB, and {source.location!r} is of the family "
            f"{model_type}: name one as translator.model, such as facebook/nllb-200-distilled-600M, or leave such "
            "gates out."
        )


def keep_translator(source: ModelSource, folder: Path, target: str) -> tuple[str, ...]:
    """Writes a checkpoint of NLLB and its tokenizer into a folder, in the type of its weights.

    Args:
        source: The checkpoint.
        folder: Where to.
        target: NLLB code of the language that it must translate into.

    Returns:
        NLLB codes of all languages that it knows, sorted.

    Raises:
        UserError: It is of another family, does not know that language, or cannot be loaded.
    """
    from transformers import AutoConfig, AutoModelForSeq2SeqLM, AutoTokenizer

    with told_to_the_user(source.location):
        config = AutoConfig.from_pretrained(source.target, revision=source.revision, trust_remote_code=False)
    _require_family(source, config.model_type)
    with told_to_the_user(source.location):
        tokenizer = AutoTokenizer.from_pretrained(source.target, revision=source.revision, trust_remote_code=False)
        model = AutoModelForSeq2SeqLM.from_pretrained(
            source.target,
            revision=source.revision,
            dtype="auto",
            trust_remote_code=False,
            use_safetensors=None if source.allow_pickle else True,
        )
    known = sorted({language.code for language in all_languages()} & set(tokenizer.all_special_tokens))
    if target not in known:
        raise UserError(
            f"The translator {source.location!r} does not know {target}, in which a gate is to read what it "
            "translates: name another one as translator.model."
        )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return tuple(known)
