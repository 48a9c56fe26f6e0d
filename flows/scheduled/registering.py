"""Telling a Prefect server of the deployments; done twice, the same stands there."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.objects import StateType, WorkQueue
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.exceptions import ObjectNotFound
from prefect.utilities.callables import parameter_schema
from prefect.workers.base import BaseWorker

from flows.scheduled.declared import DEPLOYMENTS, TAG, Deployment
from flows.terminal.quiet import unattended_environment
from mlc.errors import UserError
from mlc.packages import PIPELINE

PROCESS = "process"
"""Type of the pools whose workers run flows on their own machine, and see its folders."""
HEARTBEAT_VARIABLE = "PREFECT_FLOWS_HEARTBEAT_FREQUENCY"
HEARTBEAT_SECONDS = 30
SILENT_SECONDS = 180
"""How long a run may be silent before it counts as gone: several heartbeats, for a machine that is busy."""
GONE = "mlc: runs whose process is gone"
"""The automation that marks them, so that nothing waits for them for ever."""

Change = Literal["new", "changed", "as it was"]


@dataclass(frozen=True)
class Target:
    """What is to be deployed, and where to."""

    parameters: Mapping[str, Any]
    """Of the flows, by name; each takes those that it knows."""
    pool: str
    pool_type: str
    folder: Path
    """Where the workers of a process pool work: relative paths start there."""
    workspace: str
    template: Mapping[str, Any] | None = None
    """The base job template of a new pool; that of its type if None."""
    scheduled: bool | None = None
    """Switches the schedules on or off; None leaves them as they are, off at first."""

    @property
    def queue(self) -> str:
        """The work queue of the workspace, of which one run is at work at a time."""
        digest = hashlib.sha256(self.workspace.encode()).hexdigest()[:6]
        return f"{Path(self.workspace).name}-{digest}"


@dataclass(frozen=True)
class Standing:
    """A deployment as it stands on the server now."""

    name: str
    """As Prefect's commands call it."""
    id: str
    cron: str | None
    active: bool
    """Whether its schedule is on."""
    queue: str
    limit: int | None
    """How many flow runs of its queue are at work at a time; None for any number."""
    change: Change
    parameters: Mapping[str, Any] = field(default_factory=dict)


def deploy(target: Target) -> list[Standing]:
    """Makes the work pool, the queue of the workspace, the deployments, and the automation for runs that are gone.

    Args:
        target: What, and where to.

    Raises:
        UserError: The pool is there with another type, or its type is not known here.
    """
    with get_client(sync_client=True) as client:
        _require_pool(client, target)
        queue = _require_queue(client, target)
        standing = [_deploy(client, deployment, target, queue) for deployment in DEPLOYMENTS]
        _require_automation(client)
    return standing


def _require_pool(client: SyncPrefectClient, target: Target) -> None:
    try:
        found = client.read_work_pool(target.pool)
    except ObjectNotFound:
        template = target.template or _usual_template(target.pool_type)
        client.create_work_pool(
            WorkPoolCreate(name=target.pool, type=target.pool_type, base_job_template=dict(template))
        )
        return
    if found.type != target.pool_type:
        raise UserError(
            f"The work pool {target.pool!r} is there with the type {found.type!r}, and {target.pool_type!r} was asked "
            "for: take that type, or name another pool.",
            about="work pool",
        )


def _usual_template(pool_type: str) -> dict[str, Any]:
    # Of the packages that are here; Prefect itself would ask a site for the others.
    worker = BaseWorker.get_worker_class_from_type(pool_type)
    if worker is None:
        raise UserError(
            f"The work pool type {pool_type!r} is not known here: take {PROCESS!r}, install the package of Prefect "
            "that has it, or give a base job template.",
            about="work pool template",
        )
    return worker.get_default_base_job_template()


def _require_queue(client: SyncPrefectClient, target: Target) -> WorkQueue:
    try:
        queue = client.read_work_queue_by_name(target.queue, work_pool_name=target.pool)
    except ObjectNotFound:
        queue = client.create_work_queue(
            target.queue,
            description=f"What computes in the workspace {target.workspace}, one at a time.",
            concurrency_limit=1,
            work_pool_name=target.pool,
        )
    # Another limit than none is somebody's choice.
    if queue.concurrency_limit is None:
        client.update_work_queue(queue.id, concurrency_limit=1)
        queue = client.read_work_queue_by_name(target.queue, work_pool_name=target.pool)
    return queue


def _deploy(client: SyncPrefectClient, deployment: Deployment, target: Target, queue: WorkQueue) -> Standing:
    before = _standing(client, deployment)
    schedules = _schedules(deployment, before, target.scheduled)
    id = client.create_deployment(
        flow_id=client.create_flow(deployment.flow),
        name=deployment.name,
        description=deployment.description,
        entrypoint=deployment.entrypoint,
        parameters=deployment.parameters(target.parameters),
        parameter_openapi_schema=parameter_schema(deployment.flow).model_dump_for_openapi(),
        enforce_parameter_schema=True,
        schedules=schedules,
        tags=[TAG],
        work_pool_name=target.pool,
        work_queue_name=queue.name if deployment.computes else None,
        pull_steps=_pull_steps(target),
        job_variables={"env": environment_of_runs(target.pool_type)},
    )
    after = client.read_deployment(id)
    return Standing(
        name=deployment.full_name,
        id=str(id),
        cron=deployment.cron if deployment.cron is None else _cron(after),
        active=any(schedule.active for schedule in after.schedules),
        queue=str(after.work_queue_name),
        limit=queue.concurrency_limit if deployment.computes else None,
        change="new" if before is None else "as it was" if _facts(before) == _facts(after) else "changed",
        parameters=after.parameters,
    )


def environment_of_runs(pool_type: str) -> dict[str, str]:
    """Variables of the processes that Prefect starts for flow runs.

    Args:
        pool_type: Of the work pool. Images bring their own paths.
    """
    # Where the project is installed as a wheel, a process that knows the entrypoint alone finds no `flows`.
    paths = {"PYTHONPATH": str(PIPELINE)} if pool_type == PROCESS else {}
    return unattended_environment() | {HEARTBEAT_VARIABLE: str(HEARTBEAT_SECONDS)} | paths


def _standing(client: SyncPrefectClient, deployment: Deployment) -> DeploymentResponse | None:
    try:
        return client.read_deployment_by_name(deployment.full_name)
    except ObjectNotFound:
        return None


def _facts(deployment: DeploymentResponse) -> dict[str, Any]:
    """What makes one deployment another; not when it was told, nor the numbers of its schedules."""
    names = {
        "description",
        "entrypoint",
        "enforce_parameter_schema",
        "job_variables",
        "parameter_openapi_schema",
        "parameters",
        "pull_steps",
        "tags",
        "work_pool_name",
        "work_queue_name",
    }
    schedules = [(schedule.schedule, schedule.active) for schedule in deployment.schedules]
    return {**deployment.model_dump(include=names), "schedules": schedules}


def _schedules(
    deployment: Deployment, before: DeploymentResponse | None, scheduled: bool | None
) -> list[DeploymentScheduleCreate]:
    """Those that stand there, whatever a person has made of them; at first the declared one, switched off."""
    if before is None:
        declared = [CronSchedule(cron=deployment.cron, timezone="UTC")] if deployment.cron else []
        return [DeploymentScheduleCreate(schedule=schedule, active=bool(scheduled)) for schedule in declared]
    return [
        DeploymentScheduleCreate(
            schedule=schedule.schedule,
            active=schedule.active if scheduled is None else scheduled,
            max_scheduled_runs=schedule.max_scheduled_runs,
            parameters=schedule.parameters,
            slug=schedule.slug,
        )
        for schedule in before.schedules
    ]


def _cron(deployment: DeploymentResponse) -> str:
    """When it runs, as it stands on the server."""
    return "; ".join(
        schedule.schedule.cron if isinstance(schedule.schedule, CronSchedule) else "by the page"
        for schedule in deployment.schedules
    )


def _pull_steps(target: Target) -> list[dict[str, Any]]:
    """What a worker does before a run. Elsewhere than on this machine, the image says where things are."""
    if target.pool_type != PROCESS:
        return []
    return [{"prefect.deployments.steps.set_working_directory": {"directory": str(target.folder)}}]


def _require_automation(client: SyncPrefectClient) -> None:
    """A run that is killed says nothing more: without this, it would run for ever, and hold its place in the queue."""
    wanted = AutomationCore(
        name=GONE,
        description=f"A run that is silent for {SILENT_SECONDS} seconds has lost its process; it is marked as crashed.",
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            # Any other word of the run is a sign of life, or its end.
            expect={"prefect.flow-run.*"},
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related={"prefect.resource.role": "tag", "prefect.resource.id": f"prefect.tag.{TAG}"},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=SILENT_SECONDS),
        ),
        actions=[
            ChangeFlowRunState(
                name=None,
                force=False,
                state=StateType.CRASHED,
                message="Its process is gone: it was silent for too long. What is finished is kept; run again.",
            )
        ],
    )
    found = client.read_automations_by_name(GONE)
    if not found:
        client.create_automation(wanted)
