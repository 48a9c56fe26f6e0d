"""What was found damaged in a workspace: artifacts are healed without asking, and written down here.

``damages.jsonl`` has a line for each: when, which artifact, what was wrong.
"""

from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from mlc.store.lines import append_line, read_lines
from mlc.store.names import is_artifact

DAMAGES_FILE = "damages.jsonl"
_LONGEST = 200


@dataclass(frozen=True)
class Damage:
    """An artifact that was not as it was made."""

    when: str
    """Time, as ISO 8601 has it."""
    kind: str
    key: str
    problem: str
    """Such as ``its file prompts.parquet has changed``."""


def note_damage(workspace: Path, kind: str, key: str, problem: str) -> None:
    """Writes down a damage; a disk that cannot be written is told elsewhere."""
    when = datetime.now(UTC).isoformat(timespec="seconds")
    with suppress(OSError):
        append_line(workspace / DAMAGES_FILE, asdict(Damage(when, kind, key, problem[:_LONGEST])))


def read_damages(workspace: Path) -> list[Damage]:
    """The damages of a workspace, oldest first; lines that cannot be read are passed over."""
    found = []
    for line in read_lines(workspace / DAMAGES_FILE):
        with suppress(TypeError):
            damage = Damage(**line)
            if is_artifact(damage.kind, damage.key) and all(isinstance(text, str) for text in asdict(damage).values()):
                found.append(damage)
    return found
