"""What can be known of a translation checkpoint without loading it."""

import json
from pathlib import Path

from mlc.errors import UserError
from mlc.shipped import resolve_path
from mlc.translation.engines.families import NLLB_CODE, madlad_markers
from mlc.translation.settings import TranslatorSettings


def checkpoint_languages(folder: Path) -> frozenset[str] | None:
    """NLLB codes for which a local checkpoint has a token or a marker; None where its tokenizer does not tell.

    Args:
        folder: Folder of the checkpoint.
    """
    try:
        tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        added = [token["content"] for token in tokenizer["added_tokens"]]
        codes = frozenset(filter(NLLB_CODE.fullmatch, added))
        if not codes and (vocabulary := tokenizer["model"].get("vocab")):
            # Of a unigram model the pieces with their scores, else a mapping.
            pieces = [piece if isinstance(piece, str) else piece[0] for piece in vocabulary]
            codes = frozenset(madlad_markers([*added, *pieces]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return codes or None


def require_translatable(settings: TranslatorSettings, languages: tuple[str, ...]) -> None:
    """Checks languages before any work is spent on them.

    Args:
        settings: The translator; a checkpoint that is not there is left to the stage that loads it, and an engine
            without a checkpoint knows its languages itself.
        languages: NLLB codes, of texts or of translations.

    Raises:
        UserError: The checkpoint has no token for a language.
    """
    if settings.engine not in ("transformers", "ctranslate2"):
        return
    model = settings.model
    known = checkpoint_languages(resolve_path(model, Path.cwd()))
    missing = [code for code in languages if known is not None and code not in known]
    if known is not None and missing:
        raise UserError(
            f"The translator {model!r} does not know {', '.join(missing)}: it knows {', '.join(sorted(known))}; "
            "choose among these, or set translator.model to another checkpoint."
        )
