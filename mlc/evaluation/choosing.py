"""From the entries of a configuration to judges: a name, or a mapping with a name and settings.

Every stage that reads the settings of the evaluation has this in its closure, so it imports no judge and is in no key;
a stage that judges puts :attr:`Chosen.key` into its own.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from pydantic import ValidationError

from mlc.catalogue import JUDGES
from mlc.errors import UserError
from mlc.settings import demand_of
from mlc.stopping import ShouldStop, never

if TYPE_CHECKING:
    from mlc.evaluation.judges.judge import Judge
    from mlc.evaluation.judges.settings import JudgeSettings

Entry = str | dict[str, Any]
"""A judge in a configuration. Beside its settings a mapping may have ``label``, what tables call it; its name if left
out."""
VERDICTS_FOLDER = "verdicts"
"""Folder of a workspace that keeps what models said as judges."""


_loaded: dict[str, Any] = {}
_lock = threading.Lock()


@contextmanager
def keep_loaded(identity: str, device: str, load: Callable[[], Any]) -> Iterator[Any]:
    """Gives a model to one thread at a time, loading it only if it is not the one that was used last.

    Args:
        identity: Tells it from all others.
        device: Where it computes.
        load: Loads it.
    """
    with _lock:
        if identity not in _loaded:
            _loaded.clear()
            _loaded[identity] = load()
        yield _loaded[identity]


def _no_bar(questions: int) -> Callable[[int], None]:
    return lambda answered: None


@dataclass(frozen=True)
class Surroundings:
    """Where a judge works."""

    folder: Path | None = None
    """Where it keeps what models said, so that nothing is asked twice; None for nowhere."""
    should_stop: ShouldStop = never
    loaded: Callable[[str, str, Callable[[], Any]], AbstractContextManager[Any]] = keep_loaded
    """Gives a model that computes here, as :func:`keep_loaded` does."""
    bar: Callable[[int], Callable[[int], None]] = _no_bar
    """Opens a progress bar for a number of questions, and gives what moves it."""


NOWHERE = Surroundings()
"""Nothing is kept, and nobody asks to stop."""


@runtime_checkable
class ConfigurableJudge(Protocol):
    """What a judge has beside :class:`mlc.evaluation.judges.judge.Judge` if it takes settings."""

    @property
    def version(self) -> int:
        """As of every judge."""

    @property
    def settings_class(self) -> "type[JudgeSettings]":
        """Its settings; they may have fields without a default."""

    def facts(self) -> Mapping[str, Any]:
        """What decides its verdicts beside its version, as plain data."""

    def configured(self, settings: "JudgeSettings", surroundings: Surroundings) -> "Judge":
        """The same judge with settings; nothing is loaded or asked yet.

        Args:
            settings: Of :attr:`settings_class`.
            surroundings: Where it works.

        Raises:
            UserError: The settings do not fit it.
        """


@dataclass(frozen=True)
class Chosen:
    """A judge that was chosen."""

    name: str
    """In :data:`mlc.catalogue.JUDGES`."""
    label: str
    """What tables call it."""
    judge: "Judge"

    @property
    def key(self) -> Any:
        """What it is, in the key of what it judged."""
        if isinstance(self.judge, ConfigurableJudge):
            return {"name": self.name, "version": self.judge.version, "facts": dict(self.judge.facts())}
        return self.judge.version


def choose(entries: Iterable[Entry], surroundings: Surroundings = NOWHERE) -> list[Chosen]:
    """The judges that a configuration names, configured.

    Args:
        entries: As in ``evaluation.judges``.
        surroundings: Where they work.

    Raises:
        UserError: A judge is unknown, its settings are wrong, or a label repeats.
    """
    chosen = [_one(entry, surroundings) for entry in entries]
    labels = [one.label for one in chosen]
    if len(set(labels)) < len(labels):
        raise UserError(
            f"The judges {', '.join(labels)} in evaluation.judges repeat: name each once, or give each a label."
        )
    return chosen


def takes_settings(name: str) -> bool:
    """Whether a judge takes settings.

    Raises:
        UserError: It is unknown.
    """
    return isinstance(JUDGES.load(name), ConfigurableJudge)


def _one(entry: Entry, surroundings: Surroundings) -> Chosen:
    given = {"name": entry} if isinstance(entry, str) else dict(entry)
    name, label = given.pop("name", None), given.pop("label", None)
    if not isinstance(name, str) or not isinstance(label, str | None):
        raise UserError("A judge has no name: write {name: llm, model: …}, for example.")
    judge: Judge = JUDGES.load(name)
    if isinstance(judge, ConfigurableJudge):
        judge = judge.configured(_settings(name, judge.settings_class, given), surroundings)
    elif given:
        raise UserError(f"The judge {name!r} takes no settings, and has {', '.join(map(repr, given))}: leave them out.")
    return Chosen(name, label or name, judge)


def _settings(name: str, kind: "type[JudgeSettings]", given: Mapping[str, Any]) -> "JudgeSettings":
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise UserError(f"The settings of the judge {name!r} are wrong: {_problem(first, kind)}.") from None


def _problem(error: Mapping[str, Any], kind: "type[JudgeSettings]") -> str:
    place = ".".join(map(str, error["loc"]))
    if error["type"] == "missing":
        return f"{place} is missing, set it"
    if error["type"] == "extra_forbidden":
        return f"there is no setting {place!r}, choose from {', '.join(kind.model_fields)}"
    return f"{place or 'what is given'} {demand_of(error)}"
