"""`mlc deploy`: work pool, deployments and checks."""

import json
import os
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from flows.terminal import completion
from flows.terminal.options import JsonOption, LanguagesOption, WorkspaceOption, load, why_not_writable
from flows.terminal.output import plain_table, print_json, results, shown
from flows.terminal.quiet import be_quiet
from flows.terminal.server import API_VARIABLE, DEFAULT_PORT, Server, configured_api, server_there
from mlc.chat.tethered import HOST
from mlc.errors import UserError
from mlc.urls import redacted

if TYPE_CHECKING:
    from flows.configuration.pipeline import PipelineConfig
    from flows.scheduled.registering import Standing, Target

POOL = "mlc"
EXAMPLES = (
    "mlc deploy",
    "mlc deploy --config mine.yaml --workspace /srv/mlc --schedule",
    "mlc deploy --pool gpus --hours 8",
)


def command(
    config: Annotated[
        str,
        typer.Option(
            "--config",
            "-c",
            help="What every night runs: a shipped name, or a YAML file.",
            autocompletion=completion.configurations,
        ),
    ] = "quickstart",
    languages: LanguagesOption = None,
    workspace: WorkspaceOption = None,
    pool: Annotated[str, typer.Option(help="Work pool; made if there is none of this name.")] = POOL,
    pool_type: Annotated[str, typer.Option(help="Its type: process, or that of a package of Prefect.")] = "process",
    template: Annotated[
        Path | None, typer.Option(help="Base job template of a new pool, as JSON; that of its type if left out.")
    ] = None,
    hours: Annotated[float | None, typer.Option(help="Time limit of what computes; 20 if left out.")] = None,
    schedule: Annotated[
        bool | None,
        typer.Option("--schedule/--no-schedule", help="Switch the schedules on or off; off at first."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Deploy the pipeline to a Prefect server.

    A run every night, one more language, the champion every week, promotion and rollback. Done twice, the same
    stands there.
    """
    values = load(config, languages=languages, workspace=workspace)
    if hours is not None and not hours > 0:
        raise UserError(f"The time limit is {hours:g} hours: give a number above 0.")
    server = _server()
    be_quiet()
    os.environ[API_VARIABLE] = server.api
    from flows.scheduled.declared import HOURS
    from flows.scheduled.registering import PROCESS, Target, deploy

    here = pool_type == PROCESS
    folder = Path(values.workspace).resolve() if here else Path(values.workspace)
    if here:
        _require_writable(folder)
    target = Target(
        parameters={
            "config": _config(config, values, here=here),
            "languages": languages,
            "workspace": str(folder),
            "hours": HOURS if hours is None else hours,
        },
        pool=pool,
        pool_type=pool_type,
        folder=Path.cwd(),
        workspace=str(folder),
        template=None if template is None else _read_template(template),
        scheduled=schedule,
    )
    standing = deploy(target)
    if as_json:
        print_json(
            {"server": server.url, "pool": pool, "queue": target.queue, "deployments": list(map(asdict, standing))}
        )
    else:
        show(standing, target, server, results)


def show(standing: "list[Standing]", target: "Target", server: Server, console: Console) -> None:
    """Prints what stands on the server now, and what starts it."""
    table = plain_table("deployment", "schedule, UTC", "at a time", "now", right=("at a time",))
    for one in standing:
        when = "–" if one.cron is None else f"{one.cron}, {'on' if one.active else 'off'}"
        table.add_row(shown(one.name), shown(when), "any" if one.limit is None else str(one.limit), one.change)
    console.print(table)
    told = [
        "",
        f"Server     {server.url}",
        f"Workspace  {target.workspace}",
        f"Pool       {target.pool} ({target.pool_type}), queue {target.queue}",
        "",
        "A worker runs them:",
        f"  export {API_VARIABLE}={server.api}",
        f"  prefect worker start --pool {target.pool}",
        "One of them now:",
        f"  prefect deployment run {standing[0].name}",
    ]
    if not any(one.active for one in standing):
        told.append("The schedules are off: `mlc deploy --schedule` switches them on, or their page.")
    console.print("\n".join(told), highlight=False, soft_wrap=True, markup=False)


def _server() -> Server:
    server = None
    with suppress(UserError):
        server = server_there()
    if server is None:
        configured = configured_api()
        named = redacted(configured.api) if configured else f"http://{HOST}:{DEFAULT_PORT}"
        raise UserError(
            f"No Prefect server answers at {named}: start one with `prefect server start`, or name another one in "
            f"{API_VARIABLE}."
        )
    return server


def _require_writable(folder: Path) -> None:
    if reason := why_not_writable(folder):
        raise UserError(
            f"The workspace {str(folder)!r} cannot be written ({reason}): name another folder.", about="workspace"
        )


def _config(name: str, values: "PipelineConfig", *, here: bool) -> str | dict[str, Any]:
    """What a worker is told of the configuration: its name, its file, or all of it where the file is not seen."""
    if not Path(name).is_file():
        return name
    return str(Path(name).resolve()) if here else values.model_dump(mode="json")


def _read_template(path: Path) -> dict[str, Any]:
    try:
        template = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"The base job template {str(path)!r} cannot be read as JSON ({error}).") from None
    if not isinstance(template, dict) or not {"job_configuration", "variables"} <= template.keys():
        raise UserError(
            f"The base job template {str(path)!r} is none: it needs the keys 'job_configuration' and 'variables'."
        )
    return template
