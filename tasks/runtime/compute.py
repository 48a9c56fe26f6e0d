"""The device: held by one stage at a time, and the one place where models are loaded; the last one stays."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from mlc.devices import pick_device
from mlc.models.sources import ModelSource, artifact_model, resolve_model
from mlc.store import ArtifactRef
from mlc.store.locks import file_lock
from tasks.runtime.artifacts import CHECKPOINT_FOLDER
from tasks.runtime.models import Model
from tasks.runtime.run import Run, waiting

if TYPE_CHECKING:
    from mlc.models.loading import Policy

# Tasks fan out, but they share one device: two models at once would only take twice the memory.
_lock = threading.RLock()
_held: set[str] = set()
_loaded: dict[str, Any] = {}

Loaded = TypeVar("Loaded")


@contextmanager
def computing(run: Run, device: str) -> Iterator[None]:
    """Holds the device while the block computes, against all threads and processes of this machine and workspace.

    What loads parts of libraries that are loaded late, see :mod:`tasks.runtime.libraries`, belongs into such a block
    too.

    Args:
        run: The run.
        device: As :func:`mlc.devices.pick_device` takes it.
    """
    with waiting(_lock):
        name = pick_device(device).removesuffix(":0").replace(":", "-")
        if name in _held:
            yield
            return
        # Machines may share a workspace, but no device.
        lock = run.store.root / ".locks" / f"device-{socket.gethostname()}-{name}.lock"
        with waiting(file_lock(lock)):
            _held.add(name)
            try:
                yield
            finally:
                _held.remove(name)
                if not run.here:
                    # The next one to hold the device may be another process, which needs the memory.
                    release()


@contextmanager
def loaded(run: Run, identity: str, device: str, load: Callable[[], Loaded]) -> Iterator[Loaded]:
    """Gives a model, loading it only if it is not the one that was used last, and holds the device meanwhile.

    Args:
        run: The run.
        identity: Tells it from all others.
        device: Where it computes.
        load: Loads it.
    """
    with computing(run, device):
        if identity not in _loaded:
            _loaded.clear()
            _loaded[identity] = load()
        yield _loaded[identity]


def release() -> None:
    """Forgets the model that is kept in memory."""
    with _lock:
        _loaded.clear()


def source_of(run: Run, model: Model) -> ModelSource:
    """Where the weights of a model are.

    Raises:
        UserError: There is no such policy.
    """
    if isinstance(model.weights, ArtifactRef):
        return artifact_model(run.store.folder(model.weights) / CHECKPOINT_FOLDER, model.weights.sha256)
    return resolve_model(model.weights.model, revision=model.weights.revision)


@contextmanager
def loaded_policy(run: Run, model: Model) -> "Iterator[Policy]":
    """A model of the run, ready to evaluate."""
    source = source_of(run, model)

    def load() -> "Policy":
        from mlc.models.loading import load_policy

        return load_policy(source, device=model.device)

    with loaded(run, f"policy:{source.identity}:{model.device}", model.device, load) as policy:
        yield policy
