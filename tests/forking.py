"""Processes that are forked from one that has loaded everything, for tests that start and kill many."""

import multiprocessing
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import forkserver
from typing import Any


@contextmanager
def forking_from(module: str, variables: Mapping[str, str]) -> Iterator[Any]:
    """Gives a context of `multiprocessing` whose processes start with a module imported and variables set.

    Python has one process to fork from, and it keeps the first module and environment that it was started with; so it
    is stopped before and after.
    """
    before = {name: os.environ.get(name) for name in variables}
    stop = forkserver._forkserver._stop  # type: ignore[attr-defined]
    stop()
    os.environ.update(variables)
    try:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([module])
        yield context
    finally:
        stop()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def start(context: Any, work: Any, *arguments: Any) -> Any:
    """Starts a process; returns when it is about to begin, which it says by the connection that it gets."""
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(*arguments, sender))
    process.start()
    sender.close()
    receiver.recv()
    return process
