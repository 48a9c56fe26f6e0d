"""Commands of tests and what they left; and two smoke runs, which the tests of all processes share."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlc.store.locks import file_lock

PROJECT = Path(__file__).resolve().parents[2]
RUN_SECONDS = 600
MADE_FILE = "made.json"


@dataclass(frozen=True)
class Ended:
    """What a command left behind."""

    code: int
    out: str
    err: str
    addresses: frozenset[str] = frozenset()
    """What it connected to, sent to or looked up, as far as Python sees it; of a command without own variables."""

    @property
    def result(self) -> dict[str, Any]:
        """The JSON line at the end of standard output."""
        lines = self.out.splitlines()
        assert len(lines) == 1, f"standard output must hold one line of JSON, not {len(lines)}"
        return json.loads(lines[0])


Mlc = Callable[..., Ended]


@dataclass(frozen=True)
class Smoked:
    """Workspaces of smoke runs, for reading and copying only."""

    folder: Path
    first: Ended
    """The run with Spanish."""
    second: Ended
    """The run after it, with French too."""

    @property
    def one(self) -> Path:
        """The workspace after the first run."""
        return self.folder / "one"

    @property
    def two(self) -> Path:
        """A workspace of both runs."""
        return self.folder / "two"


def smoked_in(folder: Path, mlc: Mlc) -> Smoked:
    """Makes the two runs, or takes what another process of the tests has made.

    Args:
        folder: One that the processes share.
        mlc: Runs a command.
    """
    place = folder / "smoked"
    with file_lock(folder / ".smoked-lock"):
        if not (place / MADE_FILE).exists():
            shutil.rmtree(place, ignore_errors=True)
            first = _ran(mlc, place / "one", "es")
            shutil.copytree(place / "one", place / "two")
            second = _ran(mlc, place / "two", "es,fr")
            told = [{**asdict(ended), "addresses": sorted(ended.addresses)} for ended in (first, second)]
            (place / MADE_FILE).write_text(json.dumps(told), encoding="utf-8")
    told = json.loads((place / MADE_FILE).read_text(encoding="utf-8"))
    return Smoked(place, *(Ended(**{**facts, "addresses": frozenset(facts["addresses"])}) for facts in told))


def _ran(mlc: Mlc, workspace: Path, languages: str) -> Ended:
    ended = mlc("run", "smoke", "--languages", languages, "--workspace", str(workspace), "--json")
    assert ended.code == 0, ended.err[-3000:]
    return ended
