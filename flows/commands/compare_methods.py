"""`mlc compare-methods`: every method that applies, on one model, one data set and one evaluation."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from flows.terminal import completion
from flows.terminal.options import (
    ConfigArgument,
    JsonOption,
    LanguagesOption,
    SetOption,
    WorkspaceOption,
    chosen_run,
    existing,
    load,
)
from flows.terminal.output import print_json, results, shown, terminal
from flows.terminal.stopped import told_when_stopped
from mlc.errors import UserError

if TYPE_CHECKING:
    from flows.config import PipelineConfig
    from mlc.store import ArtifactStore
EXAMPLES = (
    "mlc compare-methods quickstart --methods english-only,consistency",
    "mlc compare-methods --run last --json",
)


def command(
    config: ConfigArgument = "quickstart",
    languages: LanguagesOption = None,
    workspace: WorkspaceOption = None,
    settings: SetOption = None,
    methods: Annotated[
        str | None,
        typer.Option(
            help="Methods to compare: answer,edit,mpo; all that apply if left out.", autocompletion=completion.methods
        ),
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(
            help="Compare what this run has, and run nothing: a number, or last.", autocompletion=completion.runs
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare methods on your own model, languages and data.

    What is there already is not made again. A method that cannot be made, or measured, is set aside with its
    reason; the others go on.
    """
    from mlc.store import ArtifactStore

    if run is not None:
        store = ArtifactStore(existing(workspace), looking=True)
        _show(store, chosen_run(store.workspace, run).number, as_json=as_json)
        return
    given = load(config, languages=languages, workspace=workspace, settings=settings)
    names = methods.replace(",", " ").split() if methods else _applicable(given)
    candidate = given.candidate if given.candidate in names else names[-1]
    values = load(
        config, languages=languages, workspace=workspace, settings=[*(settings or []), *_choosing(names, candidate)]
    )
    from flows.commands.run import run_config

    with told_when_stopped(terminal):
        summary = run_config(values, console=terminal)
    _show(values.open_store(looking=True), summary["number"], as_json=as_json)


def _choosing(names: list[str], candidate: str) -> list[str]:
    """The settings that compare some methods and go on without those that fail."""
    return [f"models={json.dumps(names)}", f"candidate={candidate}", "failures=set_aside"]


def _applicable(config: "PipelineConfig") -> list[str]:
    """The methods that apply to a configuration; controls and those for safe policies only where it names them.

    Whether the data holds what they need turns out in the run, which sets aside those that lack it.
    """
    from flows.config import validate_config
    from mlc.catalogue import METHODS
    from mlc.methods import BASE, resolve_method

    known = {name: resolve_method(name) for name in METHODS.places}
    controls = {control for method in known.values() for control in method.controls}
    plain = config.model_dump(mode="json")
    found = []
    for name, method in known.items():
        if name not in config.models:
            # A method may be the control of another one, and has controls of its own then.
            alone = name in controls and not method.controls
            # Weights that are edited or steered without any training carry over what must be there in English.
            needs_safety = method.start == BASE and method.recipe in ("edit", "steer")
            if alone or needs_safety:
                continue
            if method.reads_unpaired and not config.prompts.unpaired:
                continue
            if method.reads_feedback and not config.prompts.feedback:
                continue
            try:
                validate_config({**plain, "models": [*config.models, name]})
            except UserError as lack:
                terminal.print(f"[yellow]![/] {shown(name)} is left out. {shown(lack)}", highlight=False)
                continue
        found.append(name)
    return [*found, *(name for name in config.models if name not in known)]


def _show(store: "ArtifactStore", number: int, *, as_json: bool) -> None:
    from flows.looking.methods import compare_methods
    from flows.terminal.method_tables import show_methods

    found = compare_methods(store, chosen_run(store.workspace, str(number)))
    if as_json:
        print_json(asdict(found))
    else:
        show_methods(found, results)
