"""The policy and the checkpoints of a run: where they are, and loading them.

Apart from :mod:`tasks.runtime.compute`, so that a stage that loads no policy does not depend on how one is loaded.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mlc.models.sources import ModelSource, artifact_model, resolve_model
from mlc.store import ArtifactRef
from tasks.runtime.artifacts import CHECKPOINT_FOLDER
from tasks.runtime.compute import loaded
from tasks.runtime.models import Model
from tasks.runtime.run import Run

if TYPE_CHECKING:
    from mlc.models.loading import Policy


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
