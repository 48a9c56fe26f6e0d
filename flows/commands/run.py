"""`mlc run`: server, display, flow, summary."""

import os
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from flows.commands.plan import plan_with_needs, show_notice, with_outcomes
from flows.promoting import promotion_of
from flows.terminal.display import TerminalDisplay, outcome_table
from flows.terminal.gate_tables import show_gate
from flows.terminal.lost import ending_with, no_answer
from flows.terminal.options import (
    ConfigArgument,
    JsonOption,
    LanguagesOption,
    SetOption,
    WorkspaceOption,
    goes_if_empty,
    load,
)
from flows.terminal.output import print_json, results, shown, terminal
from flows.terminal.plan_tables import Task, show_work
from flows.terminal.quiet import be_quiet
from flows.terminal.server import PROFILE_VARIABLE, Server, answers, api_of, own_server, server_there
from flows.terminal.stopped import Terminated, told_when_stopped
from mlc.chat.tethered import free_port
from mlc.errors import UserError
from mlc.store import ArtifactStore
from tasks.runtime.run import PASSING_SERVER, Outcome, shown_on

if TYPE_CHECKING:
    from flows.configuration.pipeline import PipelineConfig

DRAIN_SECONDS = 20
EXAMPLES = (
    "mlc run quickstart",
    "mlc run own.yaml --languages +hin,-fr --workspace /data/models",
    "mlc run smoke --set align.steps=12 --set seeds=[0,1]",
)


def command(
    config: ConfigArgument = "quickstart",
    languages: LanguagesOption = None,
    workspace: WorkspaceOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
    port: Annotated[int | None, typer.Option(help="Port of the Prefect server that is started for the run.")] = None,
    wait: Annotated[float, typer.Option(help="Seconds to wait while `mlc gc` holds the workspace.")] = 0.0,
) -> None:
    """Run the pipeline; what is there already is not made again."""
    values = load(config, languages=languages, workspace=workspace, settings=settings)
    with told_when_stopped(terminal):
        summary = run_config(values, console=terminal, port=port, wait=wait, end=terminal if as_json else results)
    if as_json:
        print_json(summary)


def run_config(
    config: "PipelineConfig",
    *,
    console: Console,
    port: int | None = None,
    wait: float = 0.0,
    end: Console | None = None,
) -> dict[str, Any]:
    """Runs the flow, recorded by a Prefect server; where nothing is to be made, none is started for it.

    Args:
        config: The pipeline.
        console: Where a person reads.
        port: Port for a server of our own, which is then started in any case.
        wait: Seconds to wait for another run in the workspace.
        end: Where the person reads what came of it; at the same place, if left out.

    Returns:
        The fields of :class:`flows.steps.summing_up.RunSummary`, and ``licences`` by the role of each model.
    """
    from flows.licences import in_words, require_licences
    from flows.needs import require_fit

    # Who looks for a licence on the hub imports tqdm, which reads only then whether its bars are wanted.
    be_quiet()
    licences = require_licences(config)
    show_notice(config, console)
    goes_if_empty(Path(config.workspace))
    workspace = ArtifactStore(Path(config.workspace)).workspace
    there = server_there(port=port)
    own_port = port or free_port()
    _prepare(workspace, there.api if there else api_of(own_port), own=there is None)
    planned, needs = plan_with_needs(config)
    show_work(planned, console)
    work = {task["stage"] for task in planned if task["action"] == "run"}
    # Workers of a cluster at an address have memory of their own.
    if config.align.memory == "check" and config.runner.address is None:
        require_fit(needs, work)
    summary = None
    if there is None and port is None and not work:
        summary = _find_all(config, console, wait)
    if summary is None:
        with nullcontext(there) if there else own_server(workspace, own_port) as server:
            summary = _run(config, planned, server, console, wait)
    summary["tasks"] = with_outcomes(planned, [Outcome(**task) for task in summary["tasks"]])
    _tell(summary, config.workspace, end or console)
    console.print(in_words(licences), highlight=False, soft_wrap=True)
    return {**summary, "licences": licences}


def _prepare(workspace: Path, api: str, *, own: bool) -> None:
    """Tells Prefect where its server is, or will be: it reads its settings when it is imported."""
    # Only now, because the server may be named by a profile in the home that Prefect has otherwise.
    if "PREFECT_HOME" not in os.environ:
        os.environ["PREFECT_HOME"] = str(workspace / "prefect")
        os.environ.pop(PROFILE_VARIABLE, None)
    os.environ["PREFECT_API_URL"] = api
    os.environ.pop(PASSING_SERVER, None)
    if own:
        # A server of our own that is gone does not come back, and every more trial doubles the wait.
        os.environ.setdefault("PREFECT_CLIENT_MAX_RETRIES", "3")
        os.environ[PASSING_SERVER] = "true"


def _find_all(config: "PipelineConfig", console: Console, wait: float) -> dict[str, Any] | None:
    """A run for which no server is started, because the plan has no work; None where there is some after all."""
    from flows.align_flow import find_all

    with TerminalDisplay(console) as display, shown_on(display, wait_seconds=wait):
        found = find_all(config)
    if found is not None:
        console.print("Everything is there, so no Prefect server was started.", highlight=False)
    return found


def _run(
    config: "PipelineConfig", planned: list[Task], server: Server, console: Console, wait: float
) -> dict[str, Any]:
    from prefect.exceptions import CancelledRun

    from flows.align_flow import align
    from flows.showing import knowing

    console.print(f"Watch it at {server.url}/runs", highlight=False)
    with (
        ending_with(server),
        TerminalDisplay(console) as display,
        shown_on(display, wait_seconds=wait),
        knowing(planned),
    ):
        reachable = True
        try:
            summary: dict[str, Any] = align(config.model_dump(mode="json"))
        except CancelledRun:
            raise Terminated from None
        except Exception as error:
            reachable = isinstance(error, UserError) or answers(server.api)
            if not reachable:
                # Prefect leaves the line open in which it says so.
                console.print()
                raise UserError(no_answer(server)) from error
            raise
        finally:
            if reachable:
                hand_over()
    return summary


def hand_over() -> None:
    """Waits until the server has every log line and event; a server of our own stops right after."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for worker in (APILogWorker, EventsWorker):
        worker.drain_all(timeout=DRAIN_SECONDS)


def _tell(summary: dict[str, Any], workspace: str, console: Console) -> None:
    from mlc.report.wording import named

    console.print()
    console.print(outcome_table(summary["tasks"]))
    console.print()
    version, gate = summary["model_version"], summary["gate"]
    mark, color = ("passed", "green") if gate["passed"] else ("failed", "red")
    decided = f"gate {shown(gate['policy'])} [{color}]{mark}[/]"
    console.print(f"Registered {shown(version['name'])} version {version['version']}; {decided}.", highlight=False)
    if gate.get("waits"):
        command = promotion_of(version, workspace)
        console.print(f"It waits for a person: {shown(command)}", highlight=False, soft_wrap=True)
    show_gate(gate["checks"], console)
    for name, reason in summary["set_aside"].items():
        console.print(f"Set aside · {shown(name)}: {shown(reason)}", highlight=False, soft_wrap=True)
    for sentence in summary["left_out"]:
        console.print(f"Left out · {shown(named(sentence))}.", highlight=False)
    console.print(f"Report: {shown(summary['report'])}", highlight=False, soft_wrap=True)
    ran = sum(task["state"] == "ran" for task in summary["tasks"])
    saved = f", which saved {summary['seconds_saved']:.1f} s of work" if ran < len(summary["tasks"]) else ""
    console.print(
        f"Run {summary['number']} is done in {summary['seconds']:.0f} s: {ran} tasks ran, "
        f"{len(summary['tasks']) - ran} were cached{saved}.",
        highlight=False,
    )
