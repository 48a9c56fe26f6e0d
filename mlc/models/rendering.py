"""Renders chat templates in a process of its own, which can be stopped: ``python -m mlc.models.rendering``.

A template comes with a model, and is a small program: one that loops for ever would hang whoever renders it, and no
thread can be stopped from outside.
"""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from mlc.errors import UserError

SECONDS = 5
"""What the renderings of one template may compute; ordinary ones take milliseconds."""
_PATIENCE = 60.0
"""Seconds until the process is stopped whatever it does: on a busy machine it may wait for its turn."""
_MEMORY = 8 << 30
_LONGEST = 1_000_000
"""Characters of a rendered conversation."""

Messages = Sequence[Mapping[str, str]]


def render_apart(
    location: str, template: str, variables: Mapping[str, Any], conversations: Sequence[tuple[Messages, bool]]
) -> tuple[str, ...]:
    """Renders conversations as ``apply_chat_template`` of transformers does.

    Args:
        location: The model, as a person named it, for errors.
        template: The chat template.
        variables: What it is given beside the messages: the special tokens.
        conversations: Messages, and whether the opening of an answer is to follow.

    Raises:
        UserError: The template fails, or does not come to an end.
    """
    request = {"template": template, "variables": dict(variables), "conversations": list(conversations)}
    try:
        return _rendered(json.dumps(request, default=str, sort_keys=True))
    except _Failed as failed:
        raise UserError(
            f"The chat template of the model {location!r} cannot render a question and its answer ({failed}): take "
            "a model with another template, or write one into its tokenizer."
        ) from None


class _Failed(Exception):
    """A template failed; why is told in a word, because what it says itself may hold what it was given."""


@lru_cache(maxsize=64)
def _rendered(request: str) -> tuple[str, ...]:
    told = _worker.ask(request)
    if told is None:
        raise _Failed(f"it does not come to an end within {SECONDS} seconds")
    found = json.loads(told)
    if "failed" in found:
        raise _Failed(found["failed"])
    return tuple(found["texts"])


class _Worker:
    """The process; it is started when it is needed, and ends with this one, whose end closes its input."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._owner = 0

    def ask(self, request: str) -> str | None:
        """The answer to a request, or None where the process had to be stopped."""
        with self._lock:
            process = self._started()
            assert process.stdin
            assert process.stdout
            timer = threading.Timer(_PATIENCE, process.kill)
            timer.start()
            try:
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.write(request + "\n")
                    process.stdin.flush()
                answer = process.stdout.readline()
            finally:
                timer.cancel()
            if answer.endswith("\n"):
                return answer
            process.kill()
            process.wait()
            return None

    def _started(self) -> "subprocess.Popen[str]":
        # A process that was forked from this one must not read the other's answers.
        if self._process is None or self._process.poll() is not None or self._owner != os.getpid():
            command = [sys.executable, "-m", __name__]
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8"
            )
            self._owner = os.getpid()
        return self._process


_worker = _Worker()


def _serve() -> None:
    """Answers requests, one a line, until there are no more."""
    from transformers.utils.chat_template_utils import render_jinja_template

    for line in sys.stdin:
        request = json.loads(line)
        _limit()
        texts: list[str] = []
        try:
            for messages, opens in request["conversations"]:
                rendered, _ = render_jinja_template(
                    conversations=[messages],
                    chat_template=request["template"],
                    add_generation_prompt=opens,
                    **request["variables"],
                )
                if len(rendered[0]) > _LONGEST:
                    raise OverflowError
                texts += rendered
            answer: dict[str, Any] = {"texts": texts}
        except Exception as error:
            answer = {"failed": type(error).__name__}
        print(json.dumps(answer), flush=True)


def _limit() -> None:
    """Gives the process :data:`SECONDS` more; the system ends it when they are used up."""
    try:
        import resource
    except ImportError:  # not on Windows, where the patience alone counts
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    limits = {
        resource.RLIMIT_CPU: int(used.ru_utime + used.ru_stime) + SECONDS + 1,
        resource.RLIMIT_AS: _MEMORY,
        resource.RLIMIT_CORE: 0,
    }
    for kind, limit in limits.items():
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


if __name__ == "__main__":
    # The terminal's Ctrl-C is for the process that asks.
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _serve()
