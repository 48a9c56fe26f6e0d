"""The policy and the checkpoints of a run: where they are, and loading them.

Apart from :mod:`tasks.runtime.models`, so that a stage that loads no policy does not depend on how one is loaded.
"""

from typing import Any

from mlc.models.sources import ModelSource, artifact_model, resolve_model
from mlc.store import ArtifactRef
from tasks.runtime.artifacts import CHECKPOINT_FOLDER
from tasks.runtime.models import loaded
from tasks.runtime.run import current_run
from tasks.runtime.settings import PolicySettings


def loaded_policy(source: ModelSource, device: str) -> Any:
    """The policy of a source, ready to evaluate, as a context manager."""
    from mlc.models.loading import load_policy

    return loaded(f"policy:{source.identity}:{device}", lambda: load_policy(source, device=device))


def model_source(model: PolicySettings | ArtifactRef) -> ModelSource:
    """Where a model is, the policy or a checkpoint that a stage made."""
    if isinstance(model, ArtifactRef):
        return artifact_model(current_run().store.folder(model) / CHECKPOINT_FOLDER, model.sha256)
    return resolve_model(model.model, revision=model.revision)
