"""The command ``mlc``. Heavy imports stand inside the commands, so that ``mlc --help`` answers at once."""

import contextlib
import json
import logging
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mlc.errors import UserError

USER_MISTAKE = 2
INTERRUPTED = 130
app = typer.Typer(
    name="mlc",
    help="Make a language model that is safe in English safe in other languages.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
terminal = Console(stderr=True)
"""Progress and errors."""
results = Console()
"""What a person asked for; `run --json` and `plan --json` keep it free for their one line."""

ConfigArgument = Annotated[str, typer.Argument(help="A YAML file, or a shipped name: smoke, quickstart, nllb.")]
LanguagesOption = Annotated[
    list[str] | None,
    typer.Option("--languages", "-l", help="Languages in place of the configured ones: es,fr; or changes: +hin,-fr."),
]
WorkspaceOption = Annotated[
    Path | None, typer.Option("--workspace", "-w", help="Folder for everything that the run makes.")
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", "-s", help="A setting, such as align.steps=12; may be repeated.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="End with one line of JSON on standard output.")]


@contextmanager
def plain_errors() -> Iterator[None]:
    """A user's mistake is one sentence on standard error and exit code 2."""
    try:
        yield
    except UserError as error:
        terminal.print(f"[red]mlc:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        raise typer.Exit(USER_MISTAKE) from None


@app.command()
def run(
    config: ConfigArgument = "quickstart",
    languages: LanguagesOption = None,
    workspace: WorkspaceOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
    port: Annotated[int | None, typer.Option(help="Port of the Prefect server that is started for the run.")] = None,
    wait: Annotated[float, typer.Option(help="Seconds to wait while `mlc gc` holds the workspace.")] = 0.0,
) -> None:
    """Run the pipeline; what is there already is not made again."""
    with plain_errors():
        values = _load(config, languages, workspace, settings)
        summary = _run(values, port=port, wait=wait)
        if as_json:
            print(json.dumps(summary, ensure_ascii=False))


@app.command()
def plan(
    config: ConfigArgument = "quickstart",
    languages: LanguagesOption = None,
    workspace: WorkspaceOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a run would do, without doing it."""
    with plain_errors():
        from flows.plan import plan_run, show_plan

        planned = plan_run(_load(config, languages, workspace, settings))
        show_plan(planned, terminal)
        if as_json:
            print(json.dumps({"tasks": planned}, ensure_ascii=False))


@app.command()
def why(
    stage: Annotated[str, typer.Argument(help="A stage, such as translate, filter or align.")],
    language: Annotated[str | None, typer.Option("--language", "-l", help="Only this language.")] = None,
    against: Annotated[
        str | None, typer.Option(help="Run to compare with: its number, or the beginning of its id.")
    ] = None,
    config: Annotated[
        str | None, typer.Option("--config", "-c", help="A configuration; that of the last run if left out.")
    ] = None,
    workspace: WorkspaceOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a stage depends on, and what is different from the previous run."""
    with plain_errors():
        from flows.why import explain, show_explanations

        folder = _existing(workspace)
        chosen = _load(config, None, folder, settings) if config else None
        if settings and not config:
            raise UserError("The option --set needs --config: name the configuration that it changes.")
        found = explain(folder, stage, language=language, against=against, config=chosen)
        show_explanations(found, terminal if as_json else results)
        if as_json:
            print(json.dumps({"explanations": [vars(item) for item in found]}, ensure_ascii=False))


@app.command()
def status(workspace: WorkspaceOption = None) -> None:
    """Show what a workspace holds: artifacts, the last report, the registered versions."""
    with plain_errors():
        from flows.status import show_status

        show_status(_existing(workspace), results)


@app.command()
def gc(
    keep_last: Annotated[int, typer.Option(min=1, help="Completed runs whose artifacts stay.")] = 5,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    memory: Annotated[bool, typer.Option("--memory", help="Also memories of translators that no run uses.")] = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Remove artifacts that no recent run and no registered model version needs."""
    with plain_errors():
        from flows.housekeeping import collect_garbage

        collect_garbage(_existing(workspace), keep_last=keep_last, dry_run=dry_run, memory=memory, console=results)


@app.command()
def export(
    run: Annotated[str, typer.Argument(help="Number of the run, the beginning of its id, or last.")],
    file: Annotated[Path, typer.Argument(help="The archive to write: .tar, or .tar.gz.")],
    workspace: WorkspaceOption = None,
) -> None:
    """Write the artifacts of a run as one archive."""
    with plain_errors():
        from flows.housekeeping import export as export_artifacts

        export_artifacts(_existing(workspace), run, file, results)


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="An archive that `mlc export` wrote.")], workspace: WorkspaceOption = None
) -> None:
    """Take over the artifacts of an archive."""
    with plain_errors():
        from flows.config import DEFAULT_WORKSPACE
        from flows.housekeeping import take_in

        take_in(workspace or Path(DEFAULT_WORKSPACE), file, results)


@app.command()
def promote(
    version: Annotated[str, typer.Argument(help="Version in the registry, such as 3.")],
    workspace: WorkspaceOption = None,
    name: Annotated[str, typer.Option(help="Name of the registered model.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Promote although the gate failed.")] = False,
    reason: Annotated[str, typer.Option(help="Why; needed with --force, and written down.")] = "",
) -> None:
    """Make a registered version champion."""
    with plain_errors():
        from flows.status import promote_by_hand

        promote_by_hand(_existing(workspace), version, name=name, force=force, reason=reason, console=results)


@app.command()
def ui(
    workspace: WorkspaceOption = None,
    port: Annotated[int | None, typer.Option(help="Port of the Prefect UI; 4200 or the next free one.")] = None,
    mlflow_port: Annotated[int | None, typer.Option(help="Port of the MLflow UI; 5000 or the next free one.")] = None,
) -> None:
    """Open the Prefect and MLflow pages of a workspace until Ctrl-C."""
    with plain_errors():
        from flows.ui import serve_pages

        serve_pages(_existing(workspace), port=port, mlflow_port=mlflow_port, console=results)


@app.command()
def layers(
    model: Annotated[str, typer.Argument(help="A folder, a hub id, package:NAME or shipped:NAME.")],
    prompts: Annotated[
        str | None,
        typer.Option(help="Prompts with a column per language, or a training set; the quickstart's if left out."),
    ] = None,
    references: Annotated[
        str | None, typer.Option(help="Translations in a file of their own, or a folder of such files.")
    ] = None,
    languages: Annotated[
        list[str] | None, typer.Option("--languages", "-l", help="Languages to compare: es,sw; all if left out.")
    ] = None,
    limit: Annotated[int, typer.Option(min=4, help="Prompts at most, as many harmful as harmless.")] = 64,
    pool: Annotated[
        Literal["all", "last", "last_content", "mean"], typer.Option(help="Which tokens stand for a prompt.")
    ] = "all",
    out: Annotated[Path | None, typer.Option(help="Folder for the plot and the figures; layers-MODEL.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or another device of torch.")] = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Texts in a forward pass.")] = 16,
    as_json: JsonOption = False,
) -> None:
    """Compare the layers of a model, and recommend one for the consistency term."""
    with plain_errors():
        from flows.layers import show_layers

        show_layers(
            model,
            prompts=prompts,
            references=references,
            languages=[word.strip() for item in languages or () for word in item.split(",") if word.strip()],
            limit=limit,
            pool=pool,
            out=out,
            device=device,
            batch_size=batch_size,
            as_json=as_json,
            console=results,
            progress=terminal,
        )


@app.command()
def languages(
    word: Annotated[str | None, typer.Argument(help="Part of a name or code.")] = None, as_json: JsonOption = False
) -> None:
    """List the languages, or those that a word matches."""
    with plain_errors():
        from mlc.languages import all_languages

        wanted = (word or "").casefold()
        found = [language for language in all_languages() if any(wanted in name for name in language.names())]
        if not found:
            raise UserError(f"No language matches {word!r}: run `mlc languages` for the whole list.")
        if as_json:
            print(json.dumps([vars(language) for language in found], ensure_ascii=False))
            return
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in ("code", "name", "own name", "tag", "script"):
            table.add_column(column, no_wrap=True)
        for language in found:
            table.add_row(language.code, language.english_name, language.own_name, language.bcp47, language.script)
        results.print(table)


@app.command()
def doctor(workspace: WorkspaceOption = None) -> None:
    """Check that this machine can run the pipeline, and say what is missing."""
    with plain_errors():
        from flows.doctor import examine

        if not examine(workspace or Path("workspace"), results):
            raise typer.Exit(1)


def _load(config: str, languages: list[str] | None, workspace: Path | None, settings: list[str] | None) -> Any:
    from flows.config import load_config, parse_overrides

    return load_config(
        config,
        languages=languages,
        workspace=str(workspace) if workspace else None,
        overrides=parse_overrides(settings or []),
    )


def _existing(workspace: Path | None) -> Path:
    from flows.config import DEFAULT_WORKSPACE

    folder = workspace or Path(DEFAULT_WORKSPACE)
    if not (folder / "artifacts").is_dir():
        raise UserError(f"There is no workspace at {str(folder)!r}: run `mlc run` first, or name one with --workspace.")
    return folder


def _run(config: Any, *, port: int | None, wait: float) -> dict[str, Any]:
    from flows.running import run_config

    return run_config(config, console=terminal, port=port, wait=wait)


def main() -> None:
    """Entry point of the command."""
    # Also for the commands that import Prefect and start no server.
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    try:
        app()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except KeyboardInterrupt:
        terminal.print("Stopped; what is finished is kept, and the next run goes on from there.")
        code = INTERRUPTED
    except Exception:
        # A defect of ours: the traceback is what a bug report needs.
        traceback.print_exc()
        code = 1
    _leave(code)


def _leave(code: int) -> NoReturn:
    # Native libraries that are torn down while threads of Prefect still run print pages of false alarms about leaks.
    # Everything that must reach a disk or a server is there by now.
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BrokenPipeError, ValueError):
            stream.flush()
    logging.shutdown()
    os._exit(code)


if __name__ == "__main__":
    main()
