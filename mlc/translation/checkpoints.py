"""What can be known of a translation checkpoint without loading it."""

import json
import re
from pathlib import Path

from mlc.errors import UserError

_LANGUAGE_CODE = re.compile(r"[a-z]{3}_[A-Z][a-z]{3}")


def checkpoint_languages(folder: Path) -> frozenset[str] | None:
    """NLLB codes for which a local checkpoint has a token; None where its tokenizer does not tell.

    Args:
        folder: Folder of the checkpoint.
    """
    try:
        added = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]
        codes = frozenset(token["content"] for token in added if _LANGUAGE_CODE.fullmatch(token["content"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return codes or None


def require_translatable(model: str, folder: Path, languages: tuple[str, ...]) -> None:
    """Checks target languages before any work is spent on them.

    Args:
        model: The translator as the configuration names it.
        folder: Its folder; a checkpoint that is not there is left to the stage that loads it.
        languages: NLLB codes.

    Raises:
        UserError: The checkpoint has no token for a language.
    """
    known = checkpoint_languages(folder)
    missing = [code for code in languages if known is not None and code not in known]
    if known is not None and missing:
        raise UserError(
            f"The translator {model!r} does not know {', '.join(missing)}: it knows {', '.join(sorted(known))}; "
            "choose among these, or set translator.model to another checkpoint."
        )
