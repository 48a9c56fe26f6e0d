"""Sparse weight editing from the command line: deltas computed, searched, merged, taken out and shown."""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.table import Table

from flows.commands.layers import PROMPTS, REFERENCES, be_quiet
from flows.config import parse_edit
from flows.terminal.display import named_bars
from mlc.devices import pick_device
from mlc.errors import UserError
from mlc.languages import ENGLISH
from mlc.shipped import resolve_path

if TYPE_CHECKING:
    from mlc.editing import EditDelta, Search
    from mlc.evaluation.parallel import ParallelPrompts
    from mlc.models.loading import Policy
    from tasks.runtime.settings import EditStageSettings

Action = Literal["compute", "search", "merge", "revert", "show"]
SEARCH_FILE = "search.json"
JOINT_FOLDER = "joint"
PIPELINE_ONLY = {"start", "saved_dtype"}
"""Settings that say what the pipeline edits and how it saves it."""
VALIDATION_EVERY = 3
"""In a search, one prompt of a class in so many is for validation, the others are to edit with."""


def run_edit(
    action: Action,
    places: Sequence[str],
    *,
    prompts: str | None,
    references: str | None,
    languages: Sequence[str],
    joint: bool,
    settings: Sequence[str],
    out: Path | None,
    device: str,
    as_json: bool,
    console: Console,
    progress: Console,
) -> None:
    """Does one thing with edits.

    Args:
        action: ``compute`` and ``search`` write a delta for each language below ``out``; ``merge`` and ``revert`` write
            a checkpoint into ``out``; ``show`` writes nothing.
        places: The model, and for ``merge`` the deltas after it; for ``show`` deltas only.
        prompts: Prompt file or training set with labels; those of the quickstart if None.
        references: Translations of the prompts, where they are in a file of their own.
        languages: Names or codes; all that the prompts have if empty.
        joint: One delta for all languages together.
        settings: ``key=value`` texts, keys as in the section ``edit`` of a configuration.
        out: Folder to write into.
        device: As in :func:`mlc.models.loading.load_policy`.
        as_json: Print one JSON object in place of the tables.
        console: For results.
        progress: For bars.

    Raises:
        UserError: Something of this cannot be read, does not fit, or cannot be written.
    """
    be_quiet()
    given = _settings(action, settings)
    if action in ("compute", "search"):
        told = _make(action, _one(places, action), prompts, references, languages, joint, given, out, device, progress)
    elif action == "merge":
        told = _merge(places, out, device)
    elif action == "revert":
        told = _revert(_one(places, action), out)
    else:
        told = _shown(_read(places))
    if as_json:
        print(json.dumps(told, ensure_ascii=False, allow_nan=False))
    else:
        _print(told, console)


def _settings(action: Action, pairs: Sequence[str]) -> "EditStageSettings":
    """The settings of an edit; one that would be ignored is an error."""
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
    action: str,
    model: str,
    prompts: str | None,
    references: str | None,
    languages: Sequence[str],
    joint: bool,
    settings: "EditStageSettings",
    out: Path | None,
    device: str,
    progress: Console,
) -> dict[str, Any]:
    from mlc.editing import compute_edit, search_edits
    from mlc.evaluation.parallel import read_parallel
    from mlc.evaluation.settings import EvaluationSettings
    from mlc.models.loading import load_policy
    from mlc.models.sources import resolve_model

    if prompts is None:
        references = references or REFERENCES
    here = Path.cwd()
    everything = read_parallel(
        resolve_path(prompts or PROMPTS, here),
        references=resolve_path(references, here) if references else None,
        languages=languages,
    )
    parts = [everything] if joint else [one_language(everything, code) for code in everything.languages[1:]]
    folder = _new(out)
    policy = load_policy(resolve_model(model), device=pick_device(device))
    searches: dict[str, Search] = {}
    deltas: dict[str, EditDelta] = {}
    with _writing(folder) as draft, named_bars(progress) as bar:
        for part in parts:
            name = JOINT_FOLDER if joint else part.languages[1]
            if action == "compute":
                moved = bar(f"edit · {name}", int(part.mask.sum()))
                deltas[name] = compute_edit(policy, part, settings.plain(), on_texts=moved)
            else:
                given, validation = deal(part)
                moved = bar(f"search · {name}", len(settings.search.candidates(settings.plain())))
                found = search_edits(
                    policy, given, validation, settings.plain(), settings.search, EvaluationSettings(), on_trial=moved
                )
                searches[name] = found
                if found.best is not None:
                    deltas[name] = found.deltas[found.best]
        for name, delta in deltas.items():
            delta.save(draft / name)
        for name, found in searches.items():
            (draft / name).mkdir(exist_ok=True)
            text = json.dumps(found.rows(), indent=1, allow_nan=False)
            (draft / name / SEARCH_FILE).write_text(text + "\n", encoding="utf-8")
    return {
        **_shown(deltas),
        "searches": {name: found.rows() for name, found in searches.items()},
        "out": str(folder),
        "model": _short(policy),
    }


def one_language(prompts: "ParallelPrompts", language: str) -> "ParallelPrompts":
    """The prompts in English and one other language."""
    column = prompts.languages.index(language)
    return replace(
        prompts, languages=(ENGLISH, language), texts=tuple((texts[0], texts[column]) for texts in prompts.texts)
    )


def deal(prompts: "ParallelPrompts") -> tuple["ParallelPrompts", "ParallelPrompts"]:
    """Prompts to edit with and prompts to validate on, always the same ones."""
    seen: dict[str | None, int] = {}
    validation = []
    for label in prompts.labels:
        seen[label] = seen.get(label, 0) + 1
        validation.append(seen[label] % VALIDATION_EVERY == 0)
    return _rows(prompts, [not flag for flag in validation]), _rows(prompts, validation)


def _rows(prompts: "ParallelPrompts", chosen: Sequence[bool]) -> "ParallelPrompts":
    def kept(values: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(value for value, flag in zip(values, chosen, strict=True) if flag)

    return replace(prompts, ids=kept(prompts.ids), labels=kept(prompts.labels), texts=kept(prompts.texts))


def _merge(places: Sequence[str], out: Path | None, device: str) -> dict[str, Any]:
    from mlc.editing import merge_deltas
    from mlc.models.loading import load_policy
    from mlc.models.sources import resolve_model

    if len(places) < 2:
        raise UserError("`mlc edit merge` takes a model and at least one delta, such as `mlc edit merge MODEL DELTA`.")
    deltas = _read(places[1:])
    folder = _new(out)
    source = resolve_model(places[0])
    notes = [
        f"The delta {name} was computed for another model or another state of this one."
        for name, delta in deltas.items()
        if delta.facts.get("model") != source.identity
    ]
    # In its own type: a checkpoint in bfloat16 stays one.
    policy = load_policy(source, dtype="auto", device=pick_device(device))
    with _writing(folder) as draft:
        merge_deltas(policy, list(deltas.values()), draft, dtype=policy.model.dtype)
    return {**_shown(deltas), "notes": notes, "out": str(folder), "model": _short(policy)}


def _revert(model: str, out: Path | None) -> dict[str, Any]:
    from mlc.editing import unmerge
    from mlc.models.sources import resolve_model

    folder = _new(out)
    with _writing(folder) as draft:
        taken = unmerge(resolve_model(model), draft)
    return {"taken_out": taken, "out": str(folder), "model": model}


def _read(places: Sequence[str]) -> dict[str, "EditDelta"]:
    from mlc.editing import EditDelta

    found: dict[str, EditDelta] = {}
    for place in places:
        delta = EditDelta.load(resolve_path(place, Path.cwd()))
        name = ", ".join(delta.languages)
        found[name if name not in found else place] = delta
    return found


def _shown(deltas: "dict[str, EditDelta]") -> dict[str, Any]:
    from mlc.editing import overlaps

    return {
        "deltas": {
            name: {
                "languages": list(delta.languages),
                "projections": len(delta.parts),
                "units": sum(len(part.units_m) for part in delta.parts.values()),
                "layers": list(delta.facts.get("layers", ())),
            }
            for name, delta in deltas.items()
        },
        "overlaps": [asdict(one) for one in overlaps(list(deltas.values()))],
    }


# Files.


def _new(out: Path | None) -> Path:
    if out is None:
        raise UserError("Name a folder to write into with --out.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"The folder {str(out)!r} is not empty: name a new one with --out.")
    return out


@contextmanager
def _writing(folder: Path) -> Iterator[Path]:
    """A folder to write into that gets its name when all is written."""
    draft = folder.with_name(f".{folder.name}.draft-{os.getpid()}")
    try:
        try:
            draft.mkdir(parents=True)
        except OSError as error:
            raise UserError(
                f"The folder {str(folder)!r} cannot be written ({error.strerror}): name another one with --out."
            ) from None
        yield draft
        if folder.is_dir():
            folder.rmdir()
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _short(policy: "Policy") -> str:
    return Path(policy.source.location).name


# Terminal.


def _print(told: dict[str, Any], console: Console) -> None:
    for name, rows in told.get("searches", {}).items():
        console.print(_search_table(name, rows))
        if not any(row["best"] for row in rows):
            console.print(f"No trial for {name} keeps the limits and is better than the unedited model.")
    for name, delta in told.get("deltas", {}).items():
        if delta["layers"]:
            console.print(_units_table(name, delta["layers"]))
        if not delta["projections"]:
            console.print(
                f"The delta {name} changes nothing: no layer has a safety unit, or there is nothing to repair."
            )
    if told.get("overlaps"):
        console.print(_overlap_table(told["overlaps"]))
    for note in told.get("notes", ()):
        console.print(note, highlight=False)
    if "taken_out" in told:
        console.print(f"Taken out: {', '.join(told['taken_out'])}.", highlight=False)
    if "out" in told:
        console.print(f"Written to {told['out']}.", highlight=False, soft_wrap=True)


def _search_table(name: str, rows: Sequence[dict[str, Any]]) -> Table:
    columns = list(rows[-1])
    table = Table(title=f"Search, {name}", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in columns), style="bold" if row["best"] else None)
    return table


def _units_table(name: str, layers: Sequence[dict[str, Any]]) -> Table:
    table = Table(title=f"Safety units, {name}", box=None, pad_edge=False, header_style="bold")
    for column in (
        "layer",
        "share of units",
        "Jaccard with English",
        "gate: units, rank, kept",
        "up: units, rank, kept",
    ):
        table.add_column(column)
    for layer in layers:
        sides = (layer.get(projection) for projection in ("gate_proj", "up_proj"))
        table.add_row(
            str(layer["layer"]),
            f"{layer['share_of_units']:.4f}",
            ", ".join(f"{code} {value:.2f}" for code, value in layer["jaccard_with_english"].items()),
            *(f"{side['units']}, {side['rank']}, {side['kept']:.2f}" if side else "–" for side in sides),
        )
    return table


def _overlap_table(found: Sequence[dict[str, Any]]) -> Table:
    pairs: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for one in found:
        pairs.setdefault((one["first"], one["second"]), []).append(one)
    table = Table(title="Overlap", box=None, pad_edge=False, header_style="bold")
    for column in ("first", "second", "projections", "Jaccard of units", "cosine of changes"):
        table.add_column(column)
    for (first, second), members in pairs.items():
        means = (sum(one[name] for one in members) / len(members) for name in ("jaccard", "cosine"))
        table.add_row(first, second, str(len(members)), *(f"{value:.2f}" for value in means))
    return table


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "best" if value else ""
    if isinstance(value, float):
        return f"{value:.3g}"
    return "" if value is None else str(value)
