"""Our own record of promotions, because MLflow keeps no history of aliases."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlc.store.lines import append_line, read_lines
from mlc.store.locks import file_lock

PROMOTIONS_FILE = "promotions.jsonl"
OUTSIDE = "outside"
"""Who changed the champion, where it was not this project."""
_PROMOTION = {"time", "name", "version", "run_id", "by", "reasons", "previous"}
"""What a line of the record says, at least."""


def read_promotions(record: Path, name: str) -> list[dict[str, Any]]:
    """The promotions of a model, oldest first; a line that a failing disk cut off is passed over.

    Args:
        record: ``promotions.jsonl`` of a workspace, which need not be there.
        name: Name of the registered model.
    """
    return [entry for entry in read_lines(record) if entry.get("name") == name and entry.keys() >= _PROMOTION]


def previous_champion(record: Path, name: str, current: str) -> str | None:
    """The champion before the one of now, by the record; None where there was none.

    Args:
        record: ``promotions.jsonl`` of a workspace, after :func:`tasks.runtime.registry.champions.note_champion`.
        name: Name of the registered model.
        current: The champion of now.
    """
    for entry in reversed(read_promotions(record, name)):
        # A champion may be confirmed for another reason.
        if entry["version"] == current != entry["previous"]:
            previous: str | None = entry["previous"]
            return previous
    return None


def last_promotion(record: Path, name: str) -> dict[str, Any] | None:
    """The last promotion of a model, as :func:`read_promotions` gives it; None where there is none."""
    return next(reversed(read_promotions(record, name)), None)


def write_promotion(record: Path, facts: Mapping[str, Any], previous: str | None) -> dict[str, Any]:
    """Adds a promotion to the record; to be called within :func:`recording`.

    Args:
        record: ``promotions.jsonl`` of a workspace.
        facts: ``run_id``, ``name`` and ``version``, ``by`` whom, and the ``reasons``.
        previous: The champion before, if any.

    Returns:
        The line that was written.
    """
    entry = {"time": datetime.now(UTC).isoformat(timespec="seconds"), **facts, "previous": previous}
    append_line(record, entry)
    return entry


def recording(record: Path) -> AbstractContextManager[None]:
    """Holds the record of a workspace, so that alias and record change together."""
    return file_lock(record.parent / "mlflow" / ".promotions.lock")
