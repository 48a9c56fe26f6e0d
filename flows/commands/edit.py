"""`mlc edit`: sparse weight editing; deltas computed, searched, merged, taken out and shown."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from flows.terminal.display import named_bars
from flows.terminal.edit_tables import show_edits
from flows.terminal.options import (
    DeviceOption,
    JsonOption,
    PickleOption,
    PromptsOption,
    ReferencesOption,
    SomeLanguagesOption,
    TemplateOption,
    found_policy,
)
from flows.terminal.output import print_json, results, terminal
from flows.terminal.quiet import be_quiet
from mlc.choices import words_of
from mlc.errors import UserError
from mlc.shipped import resolve_path
from mlc.store.drafts import draft_folder

if TYPE_CHECKING:
    from mlc.evaluation.parallel import ParallelPrompts
    from mlc.models.sources import ModelSource
    from tasks.runtime.settings import EditStageSettings

Action = Literal["compute", "search", "merge", "revert", "show"]
PIPELINE_ONLY = {"start", "saved_dtype"}
"""Settings that say what the pipeline edits and how it saves it."""
EXAMPLES = (
    "mlc edit compute shipped:tiny --languages es,sw --out deltas",
    "mlc edit merge shipped:tiny deltas/spa_Latn --out merged",
    "mlc edit show deltas/spa_Latn",
)


def command(
    action: Annotated[Action, typer.Argument(help="What to do; see docs/editing.md.")],
    places: Annotated[
        list[str], typer.Argument(help="MODEL, for merge with the DELTAs after it; for show the DELTAs alone.")
    ],
    prompts: PromptsOption = None,
    references: ReferencesOption = None,
    languages: SomeLanguagesOption = None,
    joint: Annotated[bool, typer.Option("--joint", help="One delta for all languages, not one for each.")] = False,
    settings: Annotated[
        list[str] | None, typer.Option("--set", "-s", help="A setting of edit, such as rank=8; may be repeated.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write into.")] = None,
    allow_pickle: PickleOption = False,
    template: TemplateOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Carry refusal to other languages without training.

    Compute, search, merge, revert or show edits of weights.
    """
    be_quiet()
    given = _settings(action, settings or [])
    find = partial(found_policy, allow_pickle=allow_pickle, template=template)
    if action in ("compute", "search"):
        from mlc.evaluation.parallel import named_parallel

        source = find(_one(places, action))
        found = named_parallel(prompts, references, words_of(languages or ()), Path.cwd())
        told = _make(source, found, given, _new(out), device, joint=joint)
    elif action == "merge":
        told = _merge(places, out, device, find)
    elif action == "revert":
        told = _revert(find(_one(places, action)), _new(out))
    else:
        told = _show(places)
    if as_json:
        print_json(told)
    else:
        show_edits(told, results)


def _settings(action: Action, pairs: Sequence[str]) -> "EditStageSettings":
    """The settings of an edit; one that would be ignored is an error."""
    from flows.configuration.sections import parse_edit

    given = parse_edit(pairs)
    if pairs and action not in ("compute", "search"):
        raise UserError(f"`mlc edit {action}` takes no settings: take {pairs[0]!r} out.")
    for name in sorted(PIPELINE_ONLY & given.model_fields_set):
        raise UserError(
            f"The setting {name!r} is for the pipeline, and `mlc edit {action}` does not read it: take it out."
        )
    if action == "compute" and given.search.wanted:
        raise UserError("`mlc edit compute` compares no values: use `mlc edit search`, or take search out.")
    if action == "search" and not given.search.wanted:
        raise UserError(
            "A search needs values to compare: name some, such as --set search.ranks=[8,32] "
            "--set search.gammas=[1,10] --set search.ridges=[0.01,0.1,1]."
        )
    return given


def _one(places: Sequence[str], action: str) -> str:
    if len(places) != 1:
        raise UserError(f"`mlc edit {action}` takes one model, not {len(places)} arguments: {' '.join(places)!r}.")
    return places[0]


def _make(
    source: "ModelSource",
    prompts: "ParallelPrompts",
    settings: "EditStageSettings",
    out: Path,
    device: str,
    *,
    joint: bool,
) -> dict[str, Any]:
    from mlc.devices import pick_device
    from mlc.editing.folders import best_deltas, compute_edits, parts_of, plain_edits, search_each, write_edits
    from mlc.models.loading import load_policy

    parts, plain, search = parts_of(prompts, joint=joint), settings.plain(), settings.search
    policy = load_policy(source, device=pick_device(device))
    with _written(out) as draft, named_bars(terminal) as bar:
        searches = search_each(policy, parts, plain, search, bar) if search.wanted else {}
        deltas = best_deltas(searches) if search.wanted else compute_edits(policy, parts, plain, bar)
        write_edits(deltas, searches, draft)
    rows = {name: found.rows() for name, found in searches.items()}
    return {**plain_edits(deltas), "searches": rows, "out": str(out), "model": Path(policy.source.location).name}


def _merge(
    places: Sequence[str], out: Path | None, device: str, find: Callable[[str], "ModelSource"]
) -> dict[str, Any]:
    from mlc.devices import pick_device
    from mlc.editing.apply import merge_deltas
    from mlc.editing.folders import plain_edits, read_deltas
    from mlc.models.loading import load_policy

    if len(places) < 2:
        raise UserError("`mlc edit merge` takes a model and at least one delta, such as `mlc edit merge MODEL DELTA`.")
    deltas = read_deltas((place, resolve_path(place, Path.cwd())) for place in places[1:])
    folder = _new(out)
    source = find(places[0])
    notes = [
        f"The delta {name} was computed for another model or another state of this one."
        for name, delta in deltas.items()
        if delta.facts.get("model") != source.identity
    ]
    # In its own type: a checkpoint in bfloat16 stays one.
    policy = load_policy(source, dtype="auto", device=pick_device(device))
    with _written(folder) as draft:
        merge_deltas(policy, list(deltas.values()), draft, dtype=policy.model.dtype)
    return {**plain_edits(deltas), "notes": notes, "out": str(folder), "model": Path(policy.source.location).name}


def _revert(source: "ModelSource", out: Path) -> dict[str, Any]:
    from mlc.editing.apply import unmerge

    with _written(out) as draft:
        taken = unmerge(source, draft)
    return {"taken_out": taken, "out": str(out), "model": source.location}


def _show(places: Sequence[str]) -> dict[str, Any]:
    from mlc.editing.folders import plain_edits, read_deltas

    return plain_edits(read_deltas((place, resolve_path(place, Path.cwd())) for place in places))


def _new(out: Path | None) -> Path:
    if out is None:
        raise UserError("Name a folder to write into with --out.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"The folder {str(out)!r} is not empty: name a new one with --out.")
    return out


@contextmanager
def _written(out: Path) -> Iterator[Path]:
    """A folder to write into that gets its name when all is written."""
    try:
        with draft_folder(out) as draft:
            yield draft
    except OSError as error:
        raise UserError(
            f"The folder {str(out)!r} cannot be written ({error.strerror or type(error).__name__}): name another one "
            "with --out."
        ) from None
