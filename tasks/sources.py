"""Where the models of a run are."""

from mlc.models.sources import ModelSource, artifact_model, resolve_model
from mlc.store import ArtifactRef
from tasks.files import CHECKPOINT_FOLDER
from tasks.running import current_run
from tasks.settings import PolicySettings


def model_source(model: PolicySettings | ArtifactRef) -> ModelSource:
    """Where a model is, the policy or a checkpoint that a stage made."""
    if isinstance(model, ArtifactRef):
        return artifact_model(current_run().store.folder(model) / CHECKPOINT_FOLDER, model.sha256)
    return resolve_model(model.model, revision=model.revision)
