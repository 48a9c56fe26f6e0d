"""Promotion and rollback as flows: a form in Prefect, and an approval that is no unless somebody says yes."""

from datetime import UTC, timedelta
from pathlib import Path
from typing import Annotated, Any, cast
from uuid import UUID

from prefect import flow, get_client
from prefect.artifacts import create_markdown_artifact
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput
from prefect.runtime import flow_run
from prefect.states import Cancelled
from pydantic import Field

from flows.places import DEFAULT_WORKSPACE
from flows.promoting import Proposal, promote_by_person, propose, roll_back
from mlc.errors import UserError
from mlc.store import ArtifactStore
from tasks.runtime.registry.promotions import PROMOTIONS_FILE, read_promotions

APPROVAL_TIME = timedelta(days=7)
"""How long a promotion waits for its approval."""

Workspace = Annotated[str, Field(title="Workspace", description="Folder of the workspace.")]
ModelName = Annotated[
    str, Field(title="Model", description="Name of the registered model; that of the last run if left out.")
]


class Approval(RunInput):
    """What a person answers to a promotion that is proposed."""

    approve: bool = Field(False, title="Approve", description="Make the version champion.")


@flow(name="promote", flow_run_name="promote · version {version}")
def promote(
    version: Annotated[str, Field(title="Version", description="Version in the registry, such as 3.")],
    reason: Annotated[str, Field(title="Reason", description="Why; written into the promotion record.", min_length=1)],
    workspace: Workspace = DEFAULT_WORKSPACE,
    name: ModelName = "",
    force: Annotated[bool, Field(title="Force", description="Promote although the gate failed.")] = False,
) -> dict[str, Any]:
    """Makes a version champion, once somebody has approved of it in the page of the flow run.

    The run is suspended meanwhile and holds no process. Whoever resumes it without an answer says no, and so does
    nobody: after a week it fails.

    Args:
        version: Version in the registry, such as ``3``.
        reason: Why; written into the promotion record.
        workspace: Folder of the workspace.
        name: Name of the registered model; that of the last run if left out.
        force: Promote although the gate failed.

    Returns:
        ``told``: what became of it, in a sentence.

    Raises:
        UserError: There is no such version, it did not pass the gate, a reason is missing, or the champion changed
            while this waited.
    """
    _require_reason(reason)
    store = _existing(workspace)
    proposal = propose(store, version, name=name, force=force, reason=reason)
    told = f"{proposal.in_words} Reason: {reason.strip()}"
    asked = Approval.with_initial_data(description=told)
    approval = suspend_flow_run(wait_for_input=asked, timeout=int(APPROVAL_TIME.total_seconds()))
    if not approval.approve:
        return cast(dict[str, Any], Cancelled(message="Not approved: the champion stays what it was."))
    _require_same_champion(store, proposal)
    return _told(promote_by_person(store, version, name=name, force=force, reason=reason), reason)


@flow(name="rollback", flow_run_name="rollback")
def rollback(
    reason: Annotated[str, Field(title="Reason", description="Why; written into the promotion record.", min_length=1)],
    workspace: Workspace = DEFAULT_WORKSPACE,
    name: ModelName = "",
) -> dict[str, Any]:
    """Makes the champion before champion again, at once.

    Args:
        reason: Why; written into the promotion record.
        workspace: Folder of the workspace.
        name: Name of the registered model; that of the last run if left out.

    Returns:
        ``told``: what became of it, in a sentence.

    Raises:
        UserError: A reason is missing, or there is no champion before.
    """
    _require_reason(reason)
    return _told(roll_back(_existing(workspace), name=name, reason=reason), reason)


def _require_reason(reason: str) -> None:
    if not reason.strip():
        raise UserError("A reason is needed, which is written into the promotion record: say why in a few words.")


def _existing(workspace: str) -> ArtifactStore:
    if not (Path(workspace) / "artifacts").is_dir():
        raise UserError(f"There is no workspace at {workspace!r}: name the folder that a run has made.")
    return ArtifactStore(Path(workspace))


def _require_same_champion(store: ArtifactStore, proposal: Proposal) -> None:
    """Checks that what was approved is still what would happen: it may have waited for days."""
    with get_client(sync_client=True) as client:
        began = client.read_flow_run(UUID(str(flow_run.id))).created
    assert began is not None
    since = began.astimezone(UTC).isoformat(timespec="seconds")
    others = [
        entry["version"]
        for entry in read_promotions(store.workspace / PROMOTIONS_FILE, proposal.name)
        if entry["time"] > since and entry["version"] != proposal.version
    ]
    if others:
        raise UserError(
            f"The champion of {proposal.name!r} changed to version {others[-1]} while this waited for approval: start "
            "the promotion again, which shows what it would replace now."
        )


def _told(sentence: str, reason: str) -> dict[str, Any]:
    create_markdown_artifact(
        key="champion",
        markdown=f"{sentence}\n\nReason: {reason.strip()}\n",
        description="Who is champion now, and why.",
    )
    return {"told": sentence}
