"""Families of translation checkpoints: how each of them is told the languages. A new one is a declaration here.

NLLB, M2M100 and mBART-50 begin the source with a token of its language and the translation with one of the target.
Marian knows one source, and either one target or a code of the target before the source. MADLAD-400 has a marker of the
target before the source and takes any source. T5 has a sentence of words there.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mlc.errors import UserError
from mlc.languages import resolve_language
from mlc.translation.engines.tokens import MADLAD_MARKER, CheckpointTokens, LanguageTokens, MarkerTokens, PrefixTokens

NLLB_CODE = re.compile(r"[a-z]{3}_[A-Z][a-z]{3}")
_MARIAN_CODE = re.compile(r">>(\w+)<<")
_MBART_CODE = re.compile(r"([a-z]{2})_[A-Z]{2}")
_T5_TASK = re.compile(r"translation_(\w+)_to_(\w+)")
_MAIN_FORMS = {"zh": "zho_Hans", "no": "nob_Latn"}
"""What a checkpoint writes whose tag could mean several languages of NLLB."""


@dataclass(frozen=True)
class Family:
    """Checkpoints that name languages in one way."""

    name: str
    """As people call it."""
    model_types: tuple[str, ...]
    """Its architectures, as transformers calls them."""
    tokens: Callable[[Any, Any], CheckpointTokens | None]
    """Wraps a tokenizer, given the configuration of its model; None if they name no languages in this way."""
    converts: bool
    """Whether CTranslate2 makes the same of it. Its converter misses the language tokens of M2M100 and mBART-50, which
    transformers 5 keeps in another place, and scores T5 otherwise."""


def _nllb(tokenizer: Any, config: Any) -> CheckpointTokens | None:
    codes = {token: index for token, index in tokenizer.get_added_vocab().items() if NLLB_CODE.fullmatch(token)}
    if not codes or not hasattr(tokenizer, "src_lang"):
        return None
    return LanguageTokens(tokenizer, {code: code for code in codes}, codes)


def _m2m100(tokenizer: Any, config: Any) -> CheckpointTokens | None:
    tags = getattr(tokenizer, "lang_code_to_id", None) or {}
    known = by_code(tags)
    return LanguageTokens(tokenizer, known, {code: tags[tag] for code, tag in known.items()}) if known else None


def _mbart50(tokenizer: Any, config: Any) -> CheckpointTokens | None:
    tags = {match[1]: token for token in tokenizer.get_vocab() if (match := _MBART_CODE.fullmatch(token))}
    known = {code: tags[tag] for code, tag in by_code(tags).items()}
    ids = {code: tokenizer.convert_tokens_to_ids(token) for code, token in known.items()}
    return LanguageTokens(tokenizer, known, ids) if known and hasattr(tokenizer, "src_lang") else None


def _marian(tokenizer: Any, config: Any) -> CheckpointTokens | None:
    if not hasattr(tokenizer, "supported_language_codes") or not tokenizer.source_lang:
        return None
    tags = [match[1] for code in tokenizer.supported_language_codes if (match := _MARIAN_CODE.fullmatch(code))]
    prefixes = {code: f">>{tag}<< " for code, tag in by_code(tags).items()}
    if not prefixes and (target := nllb_code(str(tokenizer.target_lang))):
        prefixes = {target: ""}
    tokens = PrefixTokens(tokenizer, prefixes, nllb_code(str(tokenizer.source_lang)))
    return tokens if len(tokens.languages) > 1 else None


def _madlad(tokenizer: Any, config: Any) -> CheckpointTokens | None:
    markers = madlad_markers(tokenizer.get_vocab())
    return MarkerTokens(tokenizer, markers) if markers else None


def _t5(tokenizer: Any, config: Any) -> CheckpointTokens | None:
    """T5 as published in 2019, whose configuration lists its tasks; all translations are from English."""
    tasks: Mapping[str, Any] = getattr(config, "task_specific_params", None) or {}
    pairs = [(match[1], match[2], tasks[name]) for name in tasks if (match := _T5_TASK.fullmatch(name))]
    prefixes = {nllb_code(target): str(task.get("prefix", "")) for _, target, task in pairs if nllb_code(target)}
    sources = {nllb_code(source) for source, _, _ in pairs}
    if not prefixes or len(sources) != 1:
        return None
    return PrefixTokens(tokenizer, prefixes, sources.pop(), tokenizer.all_special_tokens)


FAMILIES = (
    Family("NLLB", ("m2m_100", "nllb-moe"), _nllb, converts=True),
    Family("M2M100", ("m2m_100",), _m2m100, converts=False),
    Family("Marian", ("marian",), _marian, converts=True),
    Family("MADLAD-400", ("t5",), _madlad, converts=False),
    Family("mBART-50", ("mbart",), _mbart50, converts=False),
    Family("T5", ("t5",), _t5, converts=False),
)
MODEL_TYPES = tuple(dict.fromkeys(kind for family in FAMILIES for kind in family.model_types))
"""Architectures of all families."""


def recognised(tokenizer: Any, config: Any) -> tuple[Family, CheckpointTokens] | None:
    """The family of a checkpoint, and its tokenizer wrapped as the family needs it; None if it names no languages.

    Args:
        tokenizer: Tokenizer of transformers.
        config: Configuration of its model.
    """
    for family in FAMILIES:
        if config.model_type in family.model_types and (tokens := family.tokens(tokenizer, config)) is not None:
            return family, tokens
    return None


def madlad_markers(vocabulary: Iterable[str]) -> dict[str, str]:
    """The markers of MADLAD-400 in a vocabulary, by NLLB code; those of scripts and regions are left out."""
    tags = {match[1]: token for token in vocabulary if (match := MADLAD_MARKER.fullmatch(token))}
    return {code: tags[tag] for code, tag in by_code(tag for tag in tags if tag[0].islower()).items()}


def by_code(tags: Iterable[str]) -> dict[str, str]:
    """The tags of a checkpoint by NLLB code; of several tags for one language the shortest counts."""
    known: dict[str, str] = {}
    for tag in sorted(tags, key=lambda tag: (len(tag), tag)):
        if code := nllb_code(tag):
            known.setdefault(code, tag)
    return known


def nllb_code(tag: str) -> str:
    """The NLLB code of the tag of a checkpoint; empty where NLLB has no such language, or the tag is of a group."""
    try:
        return resolve_language(_MAIN_FORMS.get(tag, tag)).code
    except UserError:
        return ""
