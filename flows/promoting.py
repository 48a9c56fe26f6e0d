"""Promotion and rollback by a person, from whatever place: the command line, or a form in Prefect."""

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlc.errors import UserError
from mlc.store import ArtifactStore
from tasks.runtime.settings import RegistrySettings

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

    from tasks.runtime.registry.versions import ModelVersion


@dataclass(frozen=True)
class Proposal:
    """A version that may become champion, and what is known of it."""

    name: str
    """Of the registered model."""
    version: str
    gate: str
    """``passed``, ``failed`` or ``not judged``."""
    failed: str
    """What the gate bounds and the version does not keep, in words; empty where nothing is known of that."""
    champion: str | None
    """The champion of now."""

    @property
    def in_words(self) -> str:
        """What a person decides on, in sentences."""
        replaced = "There is no champion yet" if self.champion is None else f"Version {self.champion} is champion now"
        if self.champion == self.version:
            replaced = "It is champion already"
        failed = f" ({self.failed})" if self.failed and self.gate != "passed" else ""
        return f"Version {self.version} of {self.name!r}: gate {self.gate}{failed}. {replaced}."


def was_promoted(workspace: Path, version: Mapping[str, Any]) -> bool:
    """Whether a version ever became champion.

    Args:
        workspace: Folder of the workspace.
        version: Its ``name`` and ``version``.
    """
    from tasks.runtime.registry.promotions import PROMOTIONS_FILE, read_promotions

    entries = read_promotions(workspace / PROMOTIONS_FILE, version["name"])
    return version["version"] in {entry["version"] for entry in entries}


def promotion_of(version: Mapping[str, Any], workspace: str) -> str:
    """The command that makes a version champion.

    Args:
        version: Its ``name`` and ``version``.
        workspace: Folder of the workspace, as it is written in the configuration.
    """
    return f"{shlex.join(['mlc', 'promote', version['version'], '--workspace', workspace])} --reason '…'"


def propose(store: ArtifactStore, version: str, *, name: str = "", force: bool = False, reason: str = "") -> Proposal:
    """Looks at a version that a person wants to promote, and whether the reason that is given is enough.

    Args:
        store: The workspace.
        version: Version in the registry.
        name: Name of the registered model; that of the last registration if empty.
        force: Whether one that did not pass the gate may be promoted.
        reason: Why; needed with ``force`` and in place of another champion.

    Raises:
        UserError: There is no such version, it did not pass the gate, or a reason is missing.
    """
    with _registry(store, name) as (client, settings):
        proposal, _ = _proposed(client, settings, store.workspace, version)
        _require_reason(proposal, force=force, reason=reason)
    return proposal


def promote_by_person(
    store: ArtifactStore, version: str, *, name: str = "", force: bool = False, reason: str = ""
) -> str:
    """Makes a version champion and writes down why.

    Args:
        store: The workspace.
        version: Version in the registry.
        name: As for :func:`propose`.
        force: As for :func:`propose`.
        reason: As for :func:`propose`.

    Returns:
        What became of it, in a sentence.

    Raises:
        UserError: As of :func:`propose`.
    """
    from tasks.runtime.registry.champions import promote_version
    from tasks.runtime.registry.promotions import PROMOTIONS_FILE

    with _registry(store, name) as (client, settings):
        proposal, target = _proposed(client, settings, store.workspace, version)
        _require_reason(proposal, force=force, reason=reason)
        reasons = [reason] if reason.strip() else [f"gate {proposal.gate}"]
        previous = promote_version(client, store.workspace / PROMOTIONS_FILE, target, reasons, by="person")
    before = f" in place of version {previous}" if previous and previous != version else ""
    return f"Version {version} of {settings.model_name} is champion{before}."


def roll_back(store: ArtifactStore, *, name: str = "", reason: str = "") -> str:
    """Makes the champion before champion again.

    Args:
        store: The workspace.
        name: As for :func:`propose`.
        reason: Why; written down.

    Returns:
        What became of it, in a sentence.

    Raises:
        UserError: There is no champion before.
    """
    from tasks.runtime.registry.champions import note_champion, promote_version
    from tasks.runtime.registry.promotions import PROMOTIONS_FILE, previous_champion

    record = store.workspace / PROMOTIONS_FILE
    with _registry(store, name) as (client, settings):
        current = note_champion(client, record, settings.model_name)
        previous = previous_champion(record, settings.model_name, current) if current else None
        if current and previous is None:
            raise UserError(
                f"There is no earlier champion of {settings.model_name!r} than version {current}: `mlc status` shows "
                "the versions, and `mlc promote` makes another one champion."
            )
        if current is None or previous is None:
            raise UserError(
                f"There is no champion of {settings.model_name!r} to go back to: `mlc status` shows the versions, and "
                "`mlc promote` makes one of them champion."
            )
        target = _version(client, settings, previous)
        if target is None:
            raise UserError(
                f"The champion before, version {previous} of {settings.model_name!r}, is no longer in the registry: "
                "make another version champion with `mlc promote`."
            )
        reasons = [f"rollback from version {current}", *([reason] if reason.strip() else [])]
        promote_version(client, record, target[0], reasons, by="person")
    return f"Version {previous} of {settings.model_name} is champion again, in place of version {current}."


@contextmanager
def _registry(store: ArtifactStore, name: str) -> "Iterator[tuple[MlflowClient, RegistrySettings]]":
    from tasks.runtime.registry.addresses import registry_of
    from tasks.runtime.registry.connecting import connect
    from tasks.runtime.registry.failures import registry_errors

    settings = registry_of(store, name)
    client = connect(settings, store.workspace)
    with registry_errors(settings, store.workspace):
        yield client, settings


def _version(
    client: "MlflowClient", settings: RegistrySettings, version: str
) -> "tuple[ModelVersion, dict[str, str]] | None":
    """A version with its tags; None where there is none."""
    from mlflow.exceptions import MlflowException

    from tasks.runtime.registry.versions import ModelVersion

    try:
        found = client.get_model_version(settings.model_name, version)
    except MlflowException as error:
        # A server that does not answer is another matter than a version that is not there.
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        return None
    return ModelVersion(str(found.run_id), settings.model_name, version), dict(found.tags)


def _proposed(
    client: "MlflowClient", settings: RegistrySettings, workspace: Path, version: str
) -> "tuple[Proposal, ModelVersion]":
    from tasks.runtime.registry.champions import note_champion
    from tasks.runtime.registry.promotions import PROMOTIONS_FILE
    from tasks.runtime.version_page import GATE, GATE_FAILED

    found = _version(client, settings, version)
    if found is None:
        raise UserError(
            f"There is no version {version!r} of {settings.model_name!r}: run `mlc status` for the versions."
        )
    target, tags = found
    current = note_champion(client, workspace / PROMOTIONS_FILE, settings.model_name)
    gate = tags.get(GATE, "not judged")
    return Proposal(settings.model_name, version, gate, tags.get(GATE_FAILED, ""), current), target


def _require_reason(proposal: Proposal, *, force: bool, reason: str) -> None:
    if proposal.gate != "passed" and not force:
        raise UserError(
            f"Version {proposal.version} of {proposal.name!r} did not pass the gate ({proposal.gate}): see its report, "
            "or promote it all the same, by force and with a reason.",
            about="promotion by force",
        )
    if reason.strip():
        return
    if force:
        raise UserError(
            "Promotion by force needs a reason, which is written into the promotion record.", about="promotion reason"
        )
    if proposal.champion not in (None, proposal.version):
        raise UserError(
            f"Version {proposal.champion} of {proposal.name!r} is champion: say why version {proposal.version} takes "
            "its place; it is written into the promotion record.",
            about="promotion reason",
        )
