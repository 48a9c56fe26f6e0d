"""Models with an encoder that reads the prompt and a decoder that writes the answer. Light to import.

A prompt is read as it is, without a chat template. An answer follows the opening of the decoder: its start token and,
where the generation settings force one, the first token of every answer. NLLB and mBART-50 begin each text with a token
of its language. A prompt gets that of its own language, and where the checkpoint does not know it, that of the
tokenizer's source language (``src_lang``); that is also what answers begin with, in whatever language they are.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

from mlc.errors import UserError
from mlc.languages import resolve_language

ENCODERS = frozenset({"bart", "m2m_100", "marian", "mbart", "mt5", "t5", "umt5"})
"""``model_type`` of the encoder-decoders whose layers are known; the tests compare each with its full forward pass."""
_LANGUAGE_TOKEN = re.compile(r"[a-z]{3}_[A-Z][a-z]{3}|[a-z]{2}_[A-Z]{2}")
"""As NLLB writes languages, or mBART-50."""

_known: "WeakKeyDictionary[Any, dict[str, int]]" = WeakKeyDictionary()


def is_encoder_decoder(config: Any) -> bool:
    """Whether a model has an encoder and a decoder.

    Args:
        config: Its configuration, as transformers has it or as plain data.
    """
    if isinstance(config, Mapping):
        return bool(config.get("is_encoder_decoder"))
    return bool(getattr(config, "is_encoder_decoder", False))


def decoder_opening(model: Any) -> tuple[int, ...]:
    """The tokens that the decoder reads before the first one of an answer.

    Args:
        model: An encoder-decoder of transformers.
    """
    forced = model.generation_config.forced_bos_token_id
    return (int(model.config.decoder_start_token_id), *(() if forced is None else (int(forced),)))


def open_answers(model: Any, tokenizer: Any) -> None:
    """Lets every answer begin with a language where the tokenizer has languages and the checkpoint forces no token.

    Args:
        model: An encoder-decoder; its generation settings are changed, so that a saved checkpoint has them.
        tokenizer: Its tokenizer.
    """
    if model.generation_config.forced_bos_token_id is None:
        model.generation_config.forced_bos_token_id = language_token(tokenizer, None)


def language_token(tokenizer: Any, language: str | None) -> int | None:
    """The token that is put to a text in a language.

    Args:
        tokenizer: A tokenizer of transformers.
        language: NLLB code, or another name of a language; None = that of the tokenizer itself.

    Returns:
        That of the tokenizer's own source language for one that it does not know; None where it has no such tokens.
    """
    tokens = _language_tokens(tokenizer)
    return tokens.get(_code(language), tokens.get("")) if tokens else None


def unknown_language(tokenizer: Any, language: str) -> str | None:
    """What people are told where a tokenizer has tokens for languages and none for this one; else None.

    Args:
        tokenizer: A tokenizer of transformers.
        language: NLLB code, or another name of a language.
    """
    tokens = _language_tokens(tokenizer)
    if not tokens or _code(language) in tokens:
        return None
    return (
        f"{language}: the policy has no token for the language, so that its prompts are read as those in its source "
        f"language, {tokenizer.src_lang}."
    )


def in_language(tokenizer: Any, ids: Sequence[int], own: Sequence[bool], language: str | None) -> list[int]:
    """Tokens of a text with the token of its language, where they have one.

    Args:
        tokenizer: The tokenizer, which put that of its own source language there.
        ids: Tokens.
        own: Whether each of them stands for a part of the text.
        language: As in :func:`language_token`.
    """
    home, wanted = language_token(tokenizer, None), language_token(tokenizer, language)
    if wanted is None or home == wanted:
        return list(ids)
    return [wanted if token == home and not text else token for token, text in zip(ids, own, strict=True)]


@cache
def _code(language: str | None) -> str:
    """NLLB code of a name; empty for none."""
    if not language:
        return ""
    try:
        return resolve_language(language).code
    except UserError:
        return ""


def _language_tokens(tokenizer: Any) -> Mapping[str, int]:
    """The token of each language by NLLB code, and under the empty name that of the tokenizer's own source language."""
    source = getattr(tokenizer, "src_lang", None)
    if not source:
        return {}
    found = _known.get(tokenizer)
    if found is None:
        tags = sorted(filter(_LANGUAGE_TOKEN.fullmatch, tokenizer.get_vocab()))
        # Under the empty name are those that are no language of the table.
        found = _known[tokenizer] = {_code(tag): int(tokenizer.convert_tokens_to_ids(tag)) for tag in tags}
    home = tokenizer.convert_tokens_to_ids(source)
    return {**found, "": int(home)} if found and home != tokenizer.unk_token_id else {}
