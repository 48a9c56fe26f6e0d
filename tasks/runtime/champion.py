"""The live champion of the registry, as one more model that a run can evaluate."""

from dataclasses import dataclass, replace
from pathlib import Path

from mlc.errors import UserError
from mlc.methods.method import CHAMPION
from mlc.models.sources import ADAPTER_FILE
from mlc.store import ArtifactRef
from mlc.store.names import is_artifact
from tasks.runtime.artifacts import CHECKPOINT_FOLDER, PROMPT_GATE_FILE
from tasks.runtime.models import Model
from tasks.runtime.policies import source_of
from tasks.runtime.registry.champions import champion_beside
from tasks.runtime.registry.versions import checkpoint_of, fetch_version
from tasks.runtime.run import Run
from tasks.runtime.settings import PolicySettings, RegistrySettings

UNGATED = f"{CHAMPION} without its gate"
"""What it is called where its weights answer and its gate stands aside."""
_NO_CHECKPOINT = ""
"""Key that no checkpoint has."""
_FILES = f"artifacts/{CHECKPOINT_FOLDER}"
"""Where a registered model keeps its checkpoint."""


@dataclass(frozen=True)
class Champion:
    """The champion that a candidate would replace."""

    version: str
    """In the registry."""
    model: Model | None
    """The model, with weights of its own; None where they cannot be had, so that nothing can be measured."""


def find_champion(run: Run, candidate: Model, settings: RegistrySettings) -> Champion | None:
    """Finds the champion and its weights: the checkpoint in the store, else the files of the registry.

    A plan copies nothing from the registry, and knows the model only if its weights are there already; where the
    registry cannot be reached, it goes without the champion.

    Args:
        run: The run.
        candidate: The model that would replace it.
        settings: The registry.

    Returns:
        The champion; None where there is none yet, or none but the candidate itself.

    Raises:
        UserError: The registry cannot be reached.
    """
    try:
        version = champion_beside(settings, run.workspace, candidate.checkpoint.key)
    except UserError as error:
        if not run.planning:
            raise
        run.display.note(f"The champion is not in this plan. {error}")
        return None
    return None if version is None else _as_model(run, candidate, settings, version)


def live_champion(run: Run, policy: Model, settings: RegistrySettings) -> Champion | None:
    """The champion of now, whichever checkpoint it is of.

    Args:
        run: The run.
        policy: A model that is computed as the champion shall be.
        settings: The registry.

    Returns:
        The champion; None where there is none.

    Raises:
        UserError: The registry cannot be reached.
    """
    version = champion_beside(settings, run.workspace, _NO_CHECKPOINT)
    return None if version is None else _as_model(run, policy, settings, version)


def _as_model(run: Run, candidate: Model, settings: RegistrySettings, version: str) -> Champion:
    weights = _weights(run, settings, version)
    if weights is None:
        return Champion(version, None)
    model = replace(candidate, method=CHAMPION, seed=None, weights=weights, ungated=None)
    try:
        source = source_of(run, model)
    except UserError as error:
        run.display.note(f"Nothing can be compared with the champion, version {version}. {error}")
        return Champion(version, None)
    gated = (Path(source.target) / PROMPT_GATE_FILE).is_file()
    return Champion(version, replace(model, ungated=replace(model, method=UNGATED)) if gated else model)


def _weights(run: Run, settings: RegistrySettings, version: str) -> ArtifactRef | PolicySettings | None:
    key = checkpoint_of(settings, run.workspace, version)
    found = _stored(run, key) if key else None
    if found or run.planning:
        return found
    folder = fetch_version(settings, run.store, version)
    if folder is None or not any((folder / _FILES / name).is_file() for name in ("config.json", ADAPTER_FILE)):
        run.display.note(
            f"The champion, version {version} of {settings.model_name!r}, has no checkpoint that can be read: nothing "
            "can be compared with it."
        )
        return None
    return PolicySettings(model=str(folder / _FILES))


def _stored(run: Run, key: str) -> ArtifactRef | None:
    """A checkpoint in this place by its key, whichever stage made it."""
    store = run.store
    for folder in sorted(store.root.iterdir()):
        if is_artifact(folder.name, key) and (folder / key / CHECKPOINT_FOLDER).is_dir():
            return store.glance(folder.name, key) if run.planning else store.find(folder.name, key)
    return None
