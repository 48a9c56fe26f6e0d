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
    from collections.abc import Callable, Sequence

    from flows.configuration.pipeline import PipelineConfig
    from mlc.store import ArtifactStore
EXAMPLES = (
    "mlc compare-methods quickstart --methods english-only,consistency",
    "mlc compare-methods own.yaml --plan",
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
    plan: Annotated[bool, typer.Option("--plan", help="Show what it would run, and run nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Compare methods on your own model, languages and data.

    What is there already is not made again. A method that cannot be made, or measured, is set aside with its
    reason; the others go on. The candidate is registered, as in every run, and never promoted: mlc promote does that.
    """
    from mlc.store import ArtifactStore

    if run is not None and plan:
        raise UserError("--run shows a run that is there, and --plan one that is not: give one of them.")
    if run is not None and (methods is not None or settings or languages):
        raise UserError("--run shows a run as it is: leave --methods, --set and --languages out, or --run.")
    if run is not None:
        store = ArtifactStore(existing(workspace), looking=True)
        _show(store, chosen_run(store.workspace, run).number, as_json=as_json)
        return
    values = _chosen(
        settings or [], methods, lambda own: load(config, languages=languages, workspace=workspace, settings=own)
    )
    if plan:
        from flows.commands.plan import tell_plan

        terminal.print(f"It would compare {shown(', '.join(values.models))}.", highlight=False)
        tell_plan(values, as_json=as_json)
        return
    from flows.commands.run import run_config

    terminal.print(f"{shown(values.candidate)} is registered as the candidate, and not promoted.", highlight=False)
    with told_when_stopped(terminal):
        summary = run_config(values, console=terminal)
    _show(values.open_store(looking=True), summary["number"], as_json=as_json)


def _chosen(
    settings: list[str], methods: str | None, load_with: "Callable[[list[str]], PipelineConfig]"
) -> "PipelineConfig":
    """The configuration that compares methods, goes on without those that fail, and promotes none.

    Args:
        settings: As a person gave them.
        methods: As a person named them.
        load_with: Loads the configuration with some settings.

    Raises:
        UserError: No method is named, or methods are named twice; or as for :func:`flows.terminal.options.load`.
    """
    of = {key: [one for one in settings if one.partition("=")[0].strip() == key] for key in ("models", "candidate")}
    if of["models"] and methods is not None:
        raise UserError("The setting models and the option --methods both name the methods: give one of them.")
    # The candidate may be none of the configuration's own models.
    given = load_with([one for one in settings if one not in of["candidate"]])
    if methods is not None:
        names = methods.replace(",", " ").split()
        if not names:
            raise UserError(f"The option --methods names no method, but {methods!r}: write some, such as answer,edit.")
        if not of["candidate"]:
            _require_baseline(names, _candidate(names, given.candidate))
    else:
        names = list(given.models) if of["models"] else _applicable(given)
    chosen = of["candidate"] or [f"candidate={_candidate(names, given.candidate)}"]
    return load_with(
        [*settings, f"models={json.dumps(names)}", *chosen, "failures=set_aside", "registry.promoted_by=person"]
    )


def _require_baseline(names: list[str], candidate: str) -> None:
    from mlc.methods import BASE, resolve_method

    baseline = resolve_method(candidate).baseline
    if baseline not in (BASE, *(resolve_method(name).name for name in names)):
        raise UserError(
            f"The option --methods names {', '.join(names)}, and {candidate!r} is held against {baseline!r}: write "
            f"--methods {','.join([baseline, *names])}."
        )


def _candidate(names: list[str], configured: str) -> str:
    """The configured candidate, if it is among the methods; else the last one of them that is no control."""
    if configured in names:
        return configured
    from mlc.methods import resolve_method

    controls = _controls(names)
    return next((name for name in reversed(names) if resolve_method(name).name not in controls), names[-1])


def _controls(names: "Sequence[str]") -> set[str]:
    """Names of methods that are nothing but controls of those that there are, or of some others."""
    from mlc.catalogue import METHODS
    from mlc.methods import resolve_method

    # A method may be the control of another one, and has controls of its own then.
    of_all = {control for name in (*METHODS.places, *names) for control in resolve_method(name).controls}
    return {name for name in of_all if not resolve_method(name).controls}


def _applicable(config: "PipelineConfig") -> list[str]:
    """The methods that apply to a configuration; controls and those for safe policies only where it names them.

    Whether the data holds what they need turns out in the run, which sets aside those that lack it.
    """
    from flows.configuration.reading import validate_config
    from mlc.catalogue import METHODS
    from mlc.methods import BASE, resolve_method

    known = {name: resolve_method(name) for name in METHODS.places}
    controls = _controls(())
    plain = config.model_dump(mode="json")
    found = []
    for name, method in known.items():
        if name not in config.models:
            # Weights that are edited or steered without any training carry over what must be there in English.
            needs_safety = method.start == BASE and method.recipe in ("edit", "steer")
            if name in controls or needs_safety:
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
