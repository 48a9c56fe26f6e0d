"""Where the models of a run are, and the one place where they are loaded: one at a time, the last one stays."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from mlc.models.sources import ModelSource, artifact_model, resolve_model
from mlc.store import ArtifactRef
from tasks.runtime.artifacts import CHECKPOINT_FOLDER
from tasks.runtime.run import add_waiting, current_run
from tasks.runtime.settings import PolicySettings

# Tasks fan out in threads, but they share one device: two models at once would only take twice the memory.
_lock = threading.RLock()
_loaded: dict[str, Any] = {}

Model = TypeVar("Model")


@contextmanager
def computing() -> Iterator[None]:
    """Holds the device while the block computes."""
    started = time.perf_counter()
    with _lock:
        add_waiting(time.perf_counter() - started)
        yield


@contextmanager
def loaded(identity: str, load: Callable[[], Model]) -> Iterator[Model]:
    """Gives a model, loading it only if it is not the one that was used last, and holds the device meanwhile."""
    with computing():
        if identity not in _loaded:
            _loaded.clear()
            _loaded[identity] = load()
        yield _loaded[identity]


def release() -> None:
    """Forgets the model that is kept in memory."""
    with _lock:
        _loaded.clear()


def loaded_policy(source: ModelSource, device: str) -> Any:
    """The policy of a source, ready to evaluate, as a context manager."""
    from mlc.models.loading import load_policy

    return loaded(f"policy:{source.identity}:{device}", lambda: load_policy(source, device=device))


def model_source(model: PolicySettings | ArtifactRef) -> ModelSource:
    """Where a model is, the policy or a checkpoint that a stage made."""
    if isinstance(model, ArtifactRef):
        return artifact_model(current_run().store.folder(model) / CHECKPOINT_FOLDER, model.sha256)
    return resolve_model(model.model, revision=model.revision)
