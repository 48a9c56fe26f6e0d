"""`mlc plan`: what a run would do, without Prefect's server and without loading a model."""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from flows.terminal.needs_tables import needs_in_data, show_needs
from flows.terminal.options import ConfigArgument, JsonOption, LanguagesOption, SetOption, WorkspaceOption, load
from flows.terminal.output import print_json, results, shown, terminal
from flows.terminal.plan_tables import Task, show_plan, show_work, where_in_words
from tasks.runtime.registry.addresses import from_environment
from tasks.runtime.run import Display, Notes, Outcome, Run

if TYPE_CHECKING:
    from flows.configuration.pipeline import PipelineConfig
    from flows.needs import Needs

DETAILED_EXITCODE = "--detailed-exitcode"
WOULD_RUN = 2
"""Exit code with that option."""
EXAMPLES = (
    "mlc plan quickstart --languages +hin",
    "mlc plan own.yaml --all",
    "mlc plan own.yaml --detailed-exitcode",
)


def command(
    config: ConfigArgument = "quickstart",
    languages: LanguagesOption = None,
    workspace: WorkspaceOption = None,
    settings: SetOption = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every task in a line, the cached ones too, not what would run by stage.")
    ] = False,
    detailed_exitcode: Annotated[
        bool,
        typer.Option(
            DETAILED_EXITCODE, help="Exit code 0 where nothing would run, 2 where something would, 1 for a mistake."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what a run would do, without doing it.

    By stage, and only what would run. Nothing is written anywhere.
    """
    values = load(config, languages=languages, workspace=workspace, settings=settings)
    planned = tell_plan(values, everything=everything, as_json=as_json)
    if detailed_exitcode and any(task["action"] == "run" for task in planned):
        raise WouldRun


def tell_plan(config: "PipelineConfig", *, everything: bool = False, as_json: bool = False) -> list[Task]:
    """Shows what a run would do.

    Args:
        config: The pipeline.
        everything: Every task in a line, the cached ones too.
        as_json: Whether standard output gets JSON, and the tables go where notes and progress do.

    Returns:
        The tasks, see :func:`planned_task`.

    Raises:
        UserError: The configuration cannot be run.
    """
    from flows.licences import in_words, require_licences

    licences = require_licences(config)
    show_notice(config, terminal)
    notes = Notes()
    planned, needs = plan_with_needs(config, notes)
    # Behind what is missing where the pipeline is not installed.
    from mlc.report.wording import named

    console = terminal if as_json else results
    (show_plan if everything else show_work)(planned, console)
    show_needs(needs, console)
    for sentence in (*notes.sentences, where_in_words(config), in_words(licences)):
        terminal.print(shown(named(sentence)), highlight=False, soft_wrap=True)
    if names := from_environment(config.registry):
        terminal.print(f"Models would be registered by {' and '.join(names)}.", highlight=False)
    if as_json:
        told = {"tasks": planned, "notes": notes.sentences, "licences": licences, "needs": needs_in_data(needs)}
        print_json(told | {"runner": config.runner.model_dump(), "resources": config.resources})
    return planned


class WouldRun(SystemExit):
    """Something would run, and whoever planned wants to know it by the exit code."""

    def __init__(self) -> None:
        super().__init__(WOULD_RUN)


def show_notice(config: "PipelineConfig", console: Console) -> None:
    """Says first what whoever takes this configuration should know of it."""
    if config.notice:
        console.print(shown(config.notice), highlight=False)


def foresee(config: "PipelineConfig", display: Display | None = None) -> Run:
    """Walks through the pipeline and looks which artifacts are there; nothing in the workspace changes.

    A task whose input is made anew counts as one that runs; if that input turns out the same as before, the run will
    find it cached after all. Reading prompt files costs so little that it is done, in a temporary folder, so that what
    follows is known.

    Args:
        config: The pipeline.
        display: Gets what a person should know; nobody, if left out.

    Returns:
        The planned run, with its outcomes and the key parts of every task.
    """
    from flows.align_flow import foreseen

    with foreseen(config, display) as run:
        return run


def plan_with_needs(config: "PipelineConfig", display: Display | None = None) -> tuple[list[Task], "Needs"]:
    """What a run would do, as :func:`planned_task` tells it, and what it needs for that.

    Args:
        config: The pipeline.
        display: As of :func:`foresee`.
    """
    from flows.align_flow import foreseen
    from flows.needs import models_of, needs_of
    from flows.prompt_lengths import prompts_of
    from mlc.machine import this_machine

    with foreseen(config, display) as run:
        prompts = prompts_of(run, config)
    needs = needs_of(config, models_of(config), prompts, this_machine(Path(config.workspace)))
    return [planned_task(outcome) for outcome in run.outcomes], needs


def planned_task(outcome: Outcome) -> Task:
    """One task of a plan as plain data.

    Returns:
        ``stage``, ``language``, ``subject``, ``action`` (``run`` or ``cached``), ``reason``, ``rows_new`` (None for a
        task without rows) and ``seconds_estimated`` (None without experience).
    """
    names = ("stage", "language", "subject", "reason", "rows_new", "seconds_estimated")
    told = {name: getattr(outcome, name) for name in names}
    return {**told, "action": "cached" if outcome.state == "cached" else "run"}


def with_outcomes(planned: Iterable[Task], outcomes: Iterable[Outcome]) -> list[Task]:
    """The tasks of a run, each with what was planned for it.

    Returns:
        One entry a task in the order in which they ended: the fields of a plan; ``state`` (``ran`` or ``cached``),
        ``seconds``, ``seconds_saved`` and ``key``. ``reason`` and ``rows_new`` are those of the run.
    """
    foreseen = {(task["stage"], task["language"], task["subject"]): task for task in planned}
    tasks = []
    for outcome in outcomes:
        task = foreseen.get((outcome.stage, outcome.language, outcome.subject), planned_task(outcome))
        tasks.append({**task, **asdict(outcome), "seconds_estimated": task["seconds_estimated"]})
    return tasks
