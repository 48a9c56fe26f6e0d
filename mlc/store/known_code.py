"""What is known of source files by their content, kept for later processes: to find it out anew takes over a second.

Losing it costs that second and nothing else.
"""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlc.store.drafts import draft_beside

CODE_FILE = "code.json"
MOST = 4096
"""Files that are kept; with more, only those that this process has asked for."""

Facts = tuple[str, tuple[str, ...]]
"""Digest of what computes in a file, and the names that it imports."""


class KnownCode:
    """Facts by the digest of what decides them.

    Args:
        rule: By what rule they were found out; those by another rule count for nothing.
        folder: Where they are kept; None = nowhere.
    """

    def __init__(self, rule: str, folder: Path | None) -> None:
        self._rule = rule
        self._path = folder / CODE_FILE if folder else None
        self._known = self._read()
        self._asked: dict[str, Facts] = {}
        self._new = False

    def get(self, digest: str) -> Facts | None:
        """What is known; None if nothing is."""
        facts = self._known.get(digest)
        if facts is not None:
            self._asked[digest] = facts
        return facts

    def put(self, digest: str, facts: Facts) -> None:
        """Adds what was found out."""
        self._known[digest] = self._asked[digest] = facts
        self._new = True

    def save(self) -> None:
        """Writes what is new into the folder, if that can be written."""
        if not self._new or self._path is None:
            return
        self._new = False
        kept = self._known if len(self._known) <= MOST else self._asked
        draft = draft_beside(self._path)
        with suppress(OSError):
            draft.parent.mkdir(parents=True, exist_ok=True)
            draft.write_text(json.dumps({"rule": self._rule, "files": kept}), encoding="utf-8")
            draft.replace(self._path)

    def _read(self) -> dict[str, Facts]:
        if self._path is None:
            return {}
        try:
            content = json.loads(self._path.read_bytes())
            if content["rule"] != self._rule:
                return {}
            return {digest: _facts(*facts) for digest, facts in content["files"].items()}
        except (OSError, ValueError, LookupError, AttributeError, TypeError, RecursionError):
            return {}


def _facts(digest: Any, imported: Any) -> Facts:
    names = tuple(imported)
    if not all(isinstance(text, str) for text in (digest, *names)):
        raise ValueError("these are no facts of a source file")
    return digest, names
