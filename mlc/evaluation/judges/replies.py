"""What models said as judges, kept by what they were asked, so that nothing is asked twice, even after a kill."""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlc.chat.client import ChatClient, Request
from mlc.errors import UserError
from mlc.evaluation.choosing import Surroundings
from mlc.store.hashing import digest_data
from mlc.store.lines import append_line, read_lines

_NAME_DIGITS = 20


class KeptReplies:
    """Replies of one model with one way to ask it, in one file of JSON Lines; a line is written as it comes.

    Threads may share one, and processes the file.

    Args:
        folder: Where the file is, or will be; None keeps them in memory.
        facts: What decides a reply beside what is asked; a file each.

    Raises:
        UserError: The file cannot be read.
    """

    def __init__(self, folder: Path | None, facts: Mapping[str, Any]) -> None:
        self._path = folder / f"{digest_data(dict(facts))[:_NAME_DIGITS]}.jsonl" if folder else None
        self._lock = threading.Lock()
        self._texts = _read(self._path) if self._path else {}

    def get(self, asked: Any) -> str | None:
        """The reply to what was asked; None if it was not.

        Args:
            asked: Plain data.
        """
        return self._texts.get(digest_data(asked))

    def keep(self, asked: Any, text: str) -> None:
        """Keeps a reply.

        Raises:
            UserError: The file cannot be written.
        """
        key = digest_data(asked)
        with self._lock:
            self._texts[key] = text
            if self._path:
                try:
                    self._path.parent.mkdir(parents=True, exist_ok=True)
                    append_line(self._path, {"asked": key, "text": text})
                except OSError as error:
                    raise UserError(
                        f"The replies of a judge cannot be kept in {str(self._path)!r} ({error.strerror}): make room, "
                        "or name another place."
                    ) from None


def _read(path: Path) -> dict[str, str]:
    try:
        return {str(line["asked"]): str(line["text"]) for line in read_lines(path) if {"asked", "text"} <= line.keys()}
    except OSError as error:
        raise UserError(
            f"The kept replies {str(path)!r} cannot be read ({error.strerror}): move the file away."
        ) from None


def ask_endpoint(
    client: ChatClient, requests: Sequence[Request], kept: KeptReplies, surroundings: Surroundings
) -> list[str | None]:
    """Asks an endpoint what was not asked before.

    Args:
        client: The client; it hands on :data:`mlc.chat.client.ONE_REQUEST`.
        requests: What to ask; equal ones are asked once.
        kept: What was asked before; replies are added as they come.
        surroundings: Where the judge works.

    Returns:
        Replies in order; None where the endpoint refused the request.

    Raises:
        UserError: The endpoint does not answer any more, or speaks another protocol.
        Stopped: Somebody has asked to stop; replies so far are kept.
    """
    asked = [{"messages": list(request.messages), "options": dict(request.options)} for request in requests]
    new = list({digest_data(one): place for place, one in enumerate(asked) if kept.get(one) is None}.values())
    waiting = (requests[place] for place in new)
    moved = surroundings.bar(len(new))
    for number, reply in client.as_done(waiting, should_stop=surroundings.should_stop):
        if reply.problem is None:
            kept.keep(asked[new[number]], reply.text)
        moved(1)
    return [kept.get(one) for one in asked]
