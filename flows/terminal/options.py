"""What people write on the command line: the options that several commands have."""

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.places import DEFAULT_WORKSPACE
from flows.terminal import completion
from mlc.errors import UserError

if TYPE_CHECKING:
    from flows.configuration.pipeline import PipelineConfig
    from mlc.evaluation.choosing import Entry
    from mlc.models.sources import ModelSource
    from mlc.store.runs import RunRecord

_NAMED = 3
"""Workspaces that a message names."""
_MADE: list[Path] = []
"""Folders that were not there when this command began, for what it writes."""
ConfigArgument = Annotated[
    str,
    typer.Argument(
        help="A YAML file, or a shipped name, such as quickstart; `mlc doctor` lists them.",
        autocompletion=completion.configurations,
    ),
]
LanguagesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--languages",
        "-l",
        help="Languages in place of the configured ones: es,fr; or changes: +hin,-fr.",
        autocompletion=completion.languages,
    ),
]
SomeLanguagesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--languages",
        "-l",
        help="Languages to take: es,sw; all that the prompts have if left out.",
        autocompletion=completion.languages,
    ),
]
WorkspaceOption = Annotated[
    Path | None,
    typer.Option(
        "--workspace",
        "-w",
        help=f"Folder for all that runs make; what the configuration names if left out, else {DEFAULT_WORKSPACE}.",
    ),
]
OneLanguageOption = Annotated[
    str | None,
    typer.Option("--language", "-l", help="Only this language.", autocompletion=completion.languages),
]
EarlierConfigOption = Annotated[
    str | None,
    typer.Option(
        "--config",
        "-c",
        help="A configuration; that of the last run if left out.",
        autocompletion=completion.configurations,
    ),
]
ModelNameOption = Annotated[
    str, typer.Option("--name", help="Name of the registered model; that of the last run if left out.")
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", "-s", help="A setting, such as align.steps=12; may be repeated.")
]
CellsOption = Annotated[
    bool,
    typer.Option(
        "--spreadsheet", help="In CSV and TSV, put ' before texts that a spreadsheet would take for a formula."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="End with one line of JSON on standard output.")]
PromptsOption = Annotated[
    str | None,
    typer.Option(help="Prompts with a column per language, or a training set; the quickstart's if left out."),
]
ReferencesOption = Annotated[
    str | None, typer.Option(help="Translations in a file of their own, or a folder of such files.")
]
PickleOption = Annotated[
    bool,
    typer.Option("--allow-pickle", help="Read weights that are not safetensors, too; only if you trust their origin."),
]
TemplateOption = Annotated[
    list[str] | None,
    typer.Option("--template", help="A variable of the chat template, such as enable_thinking=false; repeatable."),
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or another device of torch.")]


def load(
    config: str,
    *,
    languages: list[str] | None = None,
    workspace: Path | None = None,
    settings: list[str] | None = None,
) -> "PipelineConfig":
    """The configuration that a person named, with the changes that the options make.

    Raises:
        UserError: The file cannot be read, or a key or value is wrong.
    """
    from flows.configuration.overrides import parse_overrides
    from flows.configuration.reading import load_config

    return load_config(
        config,
        languages=languages,
        workspace=str(workspace) if workspace else None,
        overrides=parse_overrides(settings or []),
    )


def found_policy(model: str, *, allow_pickle: bool, template: list[str] | None) -> "ModelSource":
    """The model that a person named, with what the options say of it.

    Raises:
        UserError: It is not there, or an option is wrong.
    """
    from flows.configuration.sections import parse_policy
    from mlc.models.sources import resolve_model

    policy = parse_policy(model, template or (), allow_pickle=allow_pickle)
    return resolve_model(
        policy.model, allow_pickle=policy.allow_pickle, chat_template_kwargs=policy.chat_template_kwargs
    )


def load_or_earlier(config: str | None, workspace: Path, settings: list[str] | None) -> "PipelineConfig | None":
    """The configuration that a person named; None for that of the last run, which nothing changes.

    Raises:
        UserError: Settings are to be changed, and no configuration is named; or as for :func:`load`.
    """
    if config is None:
        if settings:
            raise UserError("The option --set needs --config: name the configuration that it changes.")
        return None
    return load(config, workspace=workspace, settings=settings)


def workspace_or_default(workspace: Path | None) -> Path:
    """The workspace that a person named, else the one that configurations name."""
    return workspace or Path(DEFAULT_WORKSPACE)


def existing(workspace: Path | None) -> Path:
    """A workspace in which something was made.

    Raises:
        UserError: There is none.
    """
    folder = workspace_or_default(workspace)
    if not (folder / "artifacts").is_dir():
        beside = sorted(path.parent for path in folder.absolute().parent.glob(f"{folder.name}-*/artifacts"))
        names = ", ".join(repr(os.path.relpath(path)) for path in beside[:_NAMED])
        raise UserError(
            f"There is no workspace at {str(folder)!r}: run `mlc run` first, or name one with --workspace"
            f"{f', such as {names}' if names else ''}."
        )
    return folder


def chosen_run(workspace: Path, name: str | None) -> "RunRecord":
    """The run that a person named: a number, the beginning of an id, or ``last``, which is also meant without a name.

    Raises:
        UserError: There is none.
    """
    from mlc.store.runs import find_run, run_records

    records = run_records(workspace)
    if not records:
        raise UserError(f"No run is recorded in the workspace {str(workspace)!r}: run `mlc run` first.")
    return records[-1] if name in (None, "last") else find_run(records, str(name))


def judge_entries(names: list[str], given: dict[str, object]) -> "list[Entry]":
    """The judges that a person named, with the settings for the one that takes some.

    Raises:
        UserError: A judge is unknown, or it is not clear which one the settings are for.
    """
    from mlc.evaluation.choosing import takes_settings

    if not given:
        return [*names]
    taking = [name for name in names if takes_settings(name)]
    if len(taking) != 1:
        found = ", ".join(taking) if taking else f"none of {', '.join(names)}"
        raise UserError(
            f"The settings {', '.join(given)} are for one judge that takes settings, and {found} "
            f"{'do' if taking else 'does'}: name one such judge, and judge once more for another."
        )
    return [{"name": name, **given} if name in taking else name for name in names]


def short_name(model: str) -> str:
    """A model's name for that of a folder."""
    return Path(model.rpartition(":")[2]).resolve().name or "model"


def writable(folder: Path) -> Path:
    """The folder that a command is to write, made before what takes long; it goes again if nothing gets into it.

    Raises:
        UserError: It cannot be written.
    """
    goes_if_empty(folder)
    if reason := why_not_writable(folder):
        raise UserError(f"The folder {str(folder)!r} cannot be written ({reason}): name another one with --out.")
    return folder


def goes_if_empty(folder: Path) -> None:
    """Has a folder that is not there yet, and those above it that are not, removed if the command puts nothing in."""
    if missing := [path for path in (folder, *folder.parents) if not path.exists()]:
        _MADE.append(missing[-1])


def remove_empty_outputs() -> None:
    """Removes the folders that this command has made for what it writes and put nothing into."""
    while _MADE:
        folder = _MADE.pop()
        files = (path for path in folder.rglob("*") if not path.is_dir())
        if not any(path.lstat().st_size for path in files):
            shutil.rmtree(folder, ignore_errors=True)


def why_not_writable(folder: Path) -> str | None:
    """Why a folder cannot be written, in a word or two; None if it can. It is made if need be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return error.strerror
    return None if os.access(folder, os.W_OK) else "no permission"
