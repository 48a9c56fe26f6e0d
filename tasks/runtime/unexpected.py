"""Errors that nobody foresaw: what a library says of one may quote a prompt, so its text stays in the workspace."""

import tempfile
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from prefect.exceptions import PrefectException

from mlc.errors import UserError
from mlc.extras import missing_package
from mlc.packages import place_in_project
from mlc.stopping import Stopped
from mlc.store.artifacts import plain_disk_errors

ERRORS_FOLDER = "errors"
T = TypeVar("T")


class Unexpected(Exception):
    """An error that nobody foresaw: its type and place, in one sentence, without what it says.

    Args:
        sentence: Type and place, without a full stop.
        where: Where its text is, as the rest of the sentence; names a file of this machine.
    """

    def __init__(self, sentence: str, where: str) -> None:
        super().__init__(sentence, where)
        self.sentence = f"{sentence}."
        """Type and place alone."""

    def __str__(self) -> str:
        return "; ".join(self.args)


def confined(workspace: Path, what: str, body: Callable[[], T]) -> T:
    """Runs a body; an error that nobody foresaw leaves it as type and place, its text goes to a file of the workspace.

    Args:
        workspace: Folder of the workspace.
        what: What is worked at, for the sentence.
        body: The work.

    Raises:
        UserError: As the body raised it, without what led to it, or because the workspace cannot be written.
        Unexpected: In place of any other error; it has no cause and no context either.
    """
    try:
        with plain_disk_errors(workspace):
            return body()
    except UserError as error:
        told: Exception = error.with_traceback(None)
        told.__cause__ = told.__context__ = None
    except (Unexpected, Stopped, PrefectException):
        raise
    except Exception as error:
        sentence = missing_package(error)
        told = UserError(sentence) if sentence else unexpected(error, what, workspace / ERRORS_FOLDER)
    # Here it does not get the other one as its context.
    raise told


def unexpected(error: BaseException, what: str, folder: Path) -> Unexpected:
    """What may be said of an error anywhere; the whole of it is written to a file that only its owner can read.

    Args:
        error: The error.
        what: What was worked at.
        folder: Where the file is to lie.
    """
    name = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    sentence = f"{name} at {_place(error)} in {what}, which was not foreseen"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        started = datetime.now(UTC).strftime("%Y%m%dT%H%M%S-")
        # It gives the file to its owner alone.
        descriptor, path = tempfile.mkstemp(".txt", started, folder)
        with open(descriptor, "w", encoding="utf-8", errors="backslashreplace") as handle:
            handle.write("".join(traceback.format_exception(error)))
    except OSError:
        return Unexpected(sentence, "its text could not be written.")
    return Unexpected(sentence, f"its text, which may quote prompts, is in {path!r}.")


def _place(error: BaseException) -> str:
    """File and line, and where the project called from if that is not in it."""
    frames = traceback.extract_tb(error.__traceback__)
    places = [(place_in_project(Path(frame.filename)), frame) for frame in frames]
    own = [(place, frame) for place, frame in places if place]
    if not frames:
        return "an unknown place"
    last = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}"
    if not own:
        return last
    place, caller = own[-1]
    called = f"{place}:{caller.lineno}"
    return called if caller is frames[-1] else f"{last} (from {called})"
