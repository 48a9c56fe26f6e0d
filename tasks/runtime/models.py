"""Where the models of a run are, and the one place where they are loaded: one at a time, the last one stays."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from mlc.models.sources import ModelSource, artifact_model, resolve_model
from mlc.store import ArtifactRef
from mlc.store.hashing import digest_data
from mlc.store.keys import library_versions
from mlc.store.lines import append_line, read_lines
from mlc.store.sources import source_digests
from tasks.runtime.artifacts import CHECKPOINT_FOLDER
from tasks.runtime.run import add_waiting, current_run
from tasks.runtime.settings import PolicySettings

CHECKED_FILE = "checked_models.jsonl"
"""In a workspace: which models passed their checks, by identity, and by which code."""
_CHECKING = "mlc.models.loading"
_BY = ("torch", "transformers")

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


def require_policy(policy: PolicySettings) -> None:
    """Checks the policy before any work is spent on what it cannot use, once for each model and workspace.

    A plan loads nothing, and checks what the configuration of a model tells.

    Raises:
        UserError: It cannot be used.
    """
    from mlc.models.check import read_config, require_kind

    run, source = current_run(), model_source(policy)
    if source.kind == "folder":
        require_kind(source, read_config(source))
    record = run.workspace / CHECKED_FILE
    checked = {"model": source.identity, "by": digest_data({**source_digests(_CHECKING), **library_versions(_BY)})}
    if run.planning or checked in read_lines(record):
        return
    with loaded_policy(source, policy.device) as loaded_one:
        run.display.note(f"The policy {source.location} was checked: {loaded_one.verdict}.")
    append_line(record, checked)


def model_source(model: PolicySettings | ArtifactRef) -> ModelSource:
    """Where a model is, the policy or a checkpoint that a stage made."""
    if isinstance(model, ArtifactRef):
        return artifact_model(current_run().store.folder(model) / CHECKPOINT_FOLDER, model.sha256)
    return resolve_model(
        model.model,
        revision=model.revision,
        allow_pickle=model.allow_pickle,
        chat_template_kwargs=model.chat_template_kwargs,
    )
