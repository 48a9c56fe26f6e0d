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

from flows.commands.judge import judge
from flows.terminal.options import words_of
from mlc.errors import UserError

USER_MISTAKE = 2
INTERRUPTED = 130
TABLE_WIDTH = 132
"""Of tables that no terminal limits."""
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
FileFormat = Literal["jsonl", "csv", "tsv", "parquet", "lines"]
"""As in :mod:`mlc.tables`, which is too slow to import for this."""
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
        from flows.commands.plan import plan_run, show_plan

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
        from flows.commands.why import explain, show_explanations

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
        from flows.commands.status import show_status

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
        from flows.commands.housekeeping import collect_garbage

        collect_garbage(_existing(workspace), keep_last=keep_last, dry_run=dry_run, memory=memory, console=results)


@app.command()
def export(
    run: Annotated[str, typer.Argument(help="Number of the run, the beginning of its id, or last.")],
    file: Annotated[Path, typer.Argument(help="The archive to write: .tar, or .tar.gz.")],
    workspace: WorkspaceOption = None,
) -> None:
    """Write the artifacts of a run as one archive."""
    with plain_errors():
        from flows.commands.housekeeping import export as export_artifacts

        export_artifacts(_existing(workspace), run, file, results)


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="An archive that `mlc export` wrote.")], workspace: WorkspaceOption = None
) -> None:
    """Take over the artifacts of an archive."""
    with plain_errors():
        from flows.commands.housekeeping import take_in
        from flows.config import DEFAULT_WORKSPACE

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
        from flows.commands.status import promote_by_hand

        promote_by_hand(_existing(workspace), version, name=name, force=force, reason=reason, console=results)


@app.command()
def ui(
    workspace: WorkspaceOption = None,
    port: Annotated[int | None, typer.Option(help="Port of the Prefect UI; 4200 or the next free one.")] = None,
    mlflow_port: Annotated[int | None, typer.Option(help="Port of the MLflow UI; 5000 or the next free one.")] = None,
) -> None:
    """Open the Prefect and MLflow pages of a workspace until Ctrl-C."""
    with plain_errors():
        from flows.commands.ui import serve_pages

        serve_pages(_existing(workspace), port=port, mlflow_port=mlflow_port, console=results)


@app.command()
def translate(
    file: Annotated[str, typer.Argument(help="JSON Lines, CSV, TSV, Parquet or plain lines (.txt); - for input.")],
    to: Annotated[list[str], typer.Option("--to", "-t", help="Languages to translate into: es,sw.")],
    source: Annotated[str, typer.Option("--from", "-f", help="Language of the texts.")] = "eng_Latn",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File to write; standard output if left out.")] = None,
    column: Annotated[
        str | None, typer.Option(help="Column of the texts; source, prompt, text or sentence if left out.")
    ] = None,
    read_as: Annotated[
        FileFormat | None,
        typer.Option("--input-format", help="By the ending of the file if left out."),
    ] = None,
    write_as: Annotated[
        FileFormat | None,
        typer.Option("--output-format", help="By the ending of --out if left out, else that of the input."),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="NLLB, M2M100 or Marian: hub id, folder or shipped:nano.")
    ] = None,
    back: Annotated[bool, typer.Option("--back", help="Translate the translations back, too.")] = False,
    memory: Annotated[
        Path | None, typer.Option(help="Folder of the translation memory; one in the user's cache if left out.")
    ] = None,
    no_memory: Annotated[bool, typer.Option("--no-memory", help="Remember nothing.")] = False,
    config: Annotated[str | None, typer.Option(help="Configuration whose translator is used.")] = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Translate a file; every row of it is accounted for."""
    with plain_errors():
        from flows.commands.translate import default_memory, translate_file

        if as_json and out is None:
            raise UserError("--json and the translations both want standard output: name a file with --out.")
        overrides = [*(settings or []), *([f"translator.model={model}"] if model else [])]
        told = translate_file(
            file,
            targets=to,
            source=source,
            out=out,
            column=column,
            read_as=read_as,
            write_as=write_as,
            settings=_load(config or "quickstart", None, None, overrides).translator,
            memory=None if no_memory else memory or default_memory(),
            back=back,
            console=terminal,
        )
        if as_json:
            print(json.dumps(told, ensure_ascii=False))


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
        from flows.commands.layers import show_layers

        show_layers(
            model,
            prompts=prompts,
            references=references,
            languages=words_of(languages or ()),
            limit=limit,
            pool=pool,
            out=out,
            device=device,
            batch_size=batch_size,
            as_json=as_json,
            console=results,
            progress=terminal,
        )


@app.command("filter")
def filter_pairs(
    pairs: Annotated[
        Path,
        typer.Argument(
            help="JSONL, CSV, TSV or Parquet with the columns source, translation, source_language, target_language."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Where to write the verdicts; the ending names the format.")],
    signals: Annotated[
        str, typer.Option(help="text, all, or names of signals: length,copied. All needs a translator.")
    ] = "text",
    config: Annotated[
        str | None, typer.Option("--config", "-c", help="A YAML file with the keys of quality, or a configuration.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", "-s", help="A threshold, such as default.length_z=3; repeatable.")
    ] = None,
    translator: Annotated[
        str | None, typer.Option(help="NLLB or M2M100 checkpoint for the signals that need one.")
    ] = None,
    embedding: Annotated[str | None, typer.Option(help="Sentence-embedding model for the signal meaning.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads; the result is the same for any number.")] = 2,
    go_on: Annotated[bool, typer.Option("--go-on", help="Exit with 0 even if nothing is kept.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Judge translations: every signal, and whether to keep the pair."""
    with plain_errors():
        from flows.commands.filter import show_filter

        show_filter(
            pairs,
            out,
            signals=signals,
            config=config,
            settings=settings or [],
            translator=translator,
            embedding=embedding,
            threads=threads,
            go_on=go_on,
            as_json=as_json,
            console=results,
            progress=terminal,
        )


app.command()(judge)


@app.command()
def edit(
    action: Annotated[
        Literal["compute", "search", "merge", "revert", "show"], typer.Argument(help="What to do; see docs/editing.md.")
    ],
    places: Annotated[
        list[str], typer.Argument(help="MODEL, for merge with the DELTAs after it; for show the DELTAs alone.")
    ],
    prompts: Annotated[
        str | None, typer.Option(help="Prompts with labels and a column per language; the quickstart's if left out.")
    ] = None,
    references: Annotated[
        str | None, typer.Option(help="Translations in a file of their own, or a folder of such files.")
    ] = None,
    languages: Annotated[
        list[str] | None, typer.Option("--languages", "-l", help="Languages to repair: es,sw; all if left out.")
    ] = None,
    joint: Annotated[bool, typer.Option("--joint", help="One delta for all languages, not one for each.")] = False,
    settings: Annotated[
        list[str] | None, typer.Option("--set", "-s", help="A setting of edit, such as rank=8; may be repeated.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write into.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or another device of torch.")] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Carry refusal to other languages without training: compute, search, merge, revert or show edits of weights."""
    with plain_errors():
        from flows.commands.edit import run_edit

        run_edit(
            action,
            places,
            prompts=prompts,
            references=references,
            languages=words_of(languages or ()),
            joint=joint,
            settings=settings or [],
            out=out,
            device=device,
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
        for column in ("code", "name", "own name", "tag", "script", "direction"):
            named = column.endswith("name")
            table.add_column(column, no_wrap=True, overflow="ellipsis", min_width=None if named else len(column))
        table.columns[0].min_width = max(len(language.code) for language in found)
        for language in found:
            table.add_row(
                language.code,
                language.english_name,
                language.own_name,
                language.bcp47,
                language.script,
                language.direction,
            )
        if not results.is_terminal:
            results.width = max(results.width, TABLE_WIDTH)
        results.print(table)


@app.command()
def doctor(workspace: WorkspaceOption = None) -> None:
    """Check that this machine can run the pipeline, and say what is missing."""
    with plain_errors():
        from flows.commands.doctor import examine

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
    from flows.commands.run import run_config

    return run_config(config, console=terminal, port=port, wait=wait)


def main() -> None:
    """Entry point of the command."""
    if not terminal.is_terminal:
        # Bars of downloads and of loading are for people; in a log they are noise.
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
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
