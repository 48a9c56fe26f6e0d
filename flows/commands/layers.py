"""The sweep over layers: prompts in, a table, a picture and the figures out."""

import csv
import io
import json
import logging
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.terminal.display import named_bars
from flows.terminal.server import quiet_environment
from mlc.devices import pick_device
from mlc.errors import UserError
from mlc.languages import ENGLISH
from mlc.shipped import resolve_path

if TYPE_CHECKING:
    from mlc.evaluation.layers import LayerFigures, Recommendation, Sweep
    from mlc.evaluation.parallel import ParallelPrompts
    from mlc.models.states import Pool

PROMPTS = "shipped:quickstart/validation.jsonl"
REFERENCES = "shipped:quickstart/references"
CAVEAT = (
    "A heuristic from forward passes of the model as it is: it shows where the languages meet, not that training there "
    "carries refusal over."
)
_WIDE = 90
"""From so many columns on, a terminal has room for wider gaps."""
FILES = ("layers.png", "layers.csv", "layers.json")


def show_layers(
    model: str,
    *,
    prompts: str | None,
    references: str | None,
    languages: Sequence[str],
    limit: int,
    pool: str,
    out: Path | None,
    device: str,
    batch_size: int,
    as_json: bool,
    console: Console,
    progress: Console,
) -> None:
    """Sweeps over the layers of a model and tells what was found.

    Args:
        model: Folder, hub id, ``package:NAME`` or ``shipped:NAME``.
        prompts: Prompt file or training set; those of the project if None.
        references: Translations of the prompts, where they are in a file of their own.
        languages: Names or codes; all that the prompts have if empty.
        limit: Prompts to take at most.
        pool: A pooling, or ``all``.
        out: Folder for the files; named after the model if None.
        device: As in :func:`mlc.models.loading.load_policy`.
        batch_size: Texts in a forward pass.
        as_json: Print one JSON object in place of the tables.
        console: For results.
        progress: For bars.

    Raises:
        UserError: Something of this cannot be read, is missing, or cannot be written.
    """
    be_quiet()
    # Torch and transformers read the environment when they are imported, so they are imported only now.
    from mlc.evaluation.layers import POOLS, sweep_layers
    from mlc.evaluation.parallel import choose_prompts, read_parallel
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
    chosen, dropped = choose_prompts(everything, limit)
    source = resolve_model(model)
    policy = load_policy(source, device=pick_device(device))
    folder = _writable(out or Path(f"layers-{_short_name(model)}"))
    entries = policy.model.config.get_text_config().num_hidden_layers + 1
    pools: tuple[Pool, ...] = tuple(one for one in POOLS if pool in ("all", one))
    with named_bars(progress) as bar:
        sweep = sweep_layers(
            policy,
            chosen,
            pools=pools,
            batch_size=batch_size,
            on_texts=bar("forward passes", int(chosen.mask.sum())),
            on_layer=bar("figures", entries * len(pools)),
        )
    notes = _notes(sweep, chosen, dropped)
    told = _told(sweep, chosen, notes, model, folder)
    _write(sweep, told, folder)
    if as_json:
        print(json.dumps(told, ensure_ascii=False))
    else:
        _print(sweep, chosen, notes, model, folder, console)


def be_quiet() -> None:
    """Keeps libraries from writing to the terminal; before they are imported."""
    silence = {
        "TRANSFORMERS_VERBOSITY": "error",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    for name, value in {**quiet_environment(), **silence}.items():
        os.environ.setdefault(name, value)
    # It tells of its font cache, once on every machine.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)


def _short_name(model: str) -> str:
    return Path(model.rpartition(":")[2]).resolve().name or "model"


def _writable(folder: Path) -> Path:
    """The folder, made before what takes long."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        reason = None if os.access(folder, os.W_OK) else "no permission"
    except OSError as error:
        reason = error.strerror
    if reason:
        raise UserError(f"The folder {str(folder)!r} cannot be written ({reason}): name another one with --out.")
    return folder


# Files.


def _told(sweep: "Sweep", prompts: "ParallelPrompts", notes: Sequence[str], model: str, folder: Path) -> dict[str, Any]:
    """Everything that was found, as plain values."""
    counts = dict(zip(prompts.languages, prompts.mask.sum(axis=0).tolist(), strict=True))
    told = {
        "model": model,
        "depth": sweep.depth,
        "prompts": len(prompts.ids),
        "labels": {label: prompts.labels.count(label) for label in ("harmful", "harmless")},
        "languages": counts,
        "left_out": dict(prompts.left_out),
        "chance": {"retrieval": retrieval_chance(prompts), "separation": 0.5, "collinearity": 1 / len(counts)},
        "recommended": asdict(sweep.recommended),
        "settings": _settings(sweep.recommended),
        "by_pool": {pool: asdict(choice) for pool, choice in sweep.by_pool.items()},
        "layers": [asdict(one) for one in sweep.figures],
        "notes": list(notes),
        "files": [str(folder / name) for name in FILES],
    }
    plain: dict[str, Any] = _without_nan(told)
    return plain


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nan(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _settings(choice: "Recommendation") -> dict[str, Any]:
    return {"align.consistency.layer": choice.layer, "align.consistency.pool": choice.pool}


def retrieval_chance(prompts: "ParallelPrompts") -> float:
    """Retrieval of states that know nothing of each other: one over the prompts, mean over the languages."""
    counts = prompts.mask.sum(axis=0)[1:]
    return float((1 / counts).mean())


def _write(sweep: "Sweep", told: dict[str, Any], folder: Path) -> None:
    from mlc.report.layer_plot import plot_layers

    plot = plot_layers(sweep, retrieval_chance=told["chance"]["retrieval"])
    (folder / "layers.png").write_bytes(plot.png)
    (folder / "layers.csv").write_text(_csv(sweep), encoding="utf-8")
    text = json.dumps(told, ensure_ascii=False, indent=1, allow_nan=False)
    (folder / "layers.json").write_text(text + "\n", encoding="utf-8")


def _csv(sweep: "Sweep") -> str:
    """A row for each pooling and layer; what is missing is empty."""
    rows = [dict(_flat(one)) for one in sweep.figures]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def _flat(figures: "LayerFigures") -> Iterator[tuple[str, Any]]:
    for field in fields(figures):
        value = getattr(figures, field.name)
        if field.name == "languages":
            continue
        parts = {"": value.value, "_low": value.low, "_high": value.high} if hasattr(value, "low") else {"": value}
        for ending, part in parts.items():
            yield field.name + ending, "" if isinstance(part, float) and math.isnan(part) else part


# Terminal.


def _notes(sweep: "Sweep", prompts: "ParallelPrompts", dropped: Sequence[str]) -> list[str]:
    from mlc.report.wording import count, interval, language_name, number

    notes = [f"Left out: {count(rows, 'row')} ({reason})." for reason, rows in prompts.left_out.items()]
    if dropped:
        notes.append(f"Left out for too few translations: {', '.join(map(language_name, dropped))}.")
    missing = dict(zip(prompts.languages, (~prompts.mask).sum(axis=0).tolist(), strict=True))
    gaps = [f"{language_name(code)} {number}" for code, number in missing.items() if number]
    if gaps:
        notes.append(f"Translations that are missing: {', '.join(gaps)}.")
    figures = sweep.at(sweep.recommended)
    if not figures.separation.n:
        notes.append("No separation: it takes at least 2 prompts with each label, harmful and harmless.")
    elif figures.separation.low <= 0.5:
        notes.append(
            f"The interval of the English separation there, {interval(figures.separation)}, includes chance: the "
            "labels say little about the layer. Take more prompts."
        )
    if figures.retrieval.low <= retrieval_chance(prompts):
        notes.append(
            f"The interval of the retrieval there, {interval(figures.retrieval)}, includes chance "
            f"({number(retrieval_chance(prompts))}): the layers hardly differ. Take more prompts."
        )
    return notes


def _print(
    sweep: "Sweep", prompts: "ParallelPrompts", notes: Sequence[str], model: str, folder: Path, console: Console
) -> None:
    from mlc.report.wording import count, language_name, number

    def say(text: str = "") -> None:
        console.print(text, highlight=False)

    choice = sweep.recommended
    labels = {label: prompts.labels.count(label) for label in ("harmful", "harmless")}
    mix = f" ({labels['harmful']} harmful, {labels['harmless']} harmless)" if any(labels.values()) else ""
    names = ", ".join(language_name(code) for code in prompts.languages if code != ENGLISH)
    say(f"{escape(model)}: {sweep.depth} layers; {count(len(prompts.ids), 'prompt')}{mix} in English and {names}")
    chances = f"retrieval {number(retrieval_chance(prompts))}, collinearity about {number(1 / len(prompts.languages))}"
    say(f"Chance: {chances}{', separation .50' if sweep.figures[0].separation.n else ''}.")
    say()
    say(f"[bold]Pooling {choice.pool}[/], by layer")
    console.print(_layer_table([one for one in sweep.figures if one.pool == choice.pool], choice, console.width))
    say()
    say(f"[bold]Layer {choice.layer}, pooling {choice.pool}[/], by language")
    console.print(_language_table(sweep.at(choice)))
    if len(sweep.by_pool) > 1:
        say()
        say("[bold]The same rule within each pooling[/]")
        console.print(_pool_table(sweep))
    say()
    say(f"[bold green]Recommended: layer {choice.layer} of {sweep.depth}, pooling {choice.pool}[/]")
    say(f"Rule: {choice.rule}.")
    say(f"The term then computes {choice.layer} of {sweep.depth} layers ({100 * choice.share:.0f} %).")
    say("  " + " ".join(f"--set {key}={value}" for key, value in _settings(choice).items()))
    for note in notes:
        say(f"[yellow]![/] {escape(note)}")
    say(CAVEAT)
    console.print(f"Written: {folder}/ ({', '.join(FILES)})", highlight=False, soft_wrap=True)


def _table(*columns: str, gap: int = 2) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, gap, 0, 0))
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _layer_table(rows: "Sequence[LayerFigures]", choice: "Recommendation", width: int) -> Table:
    from mlc.report.wording import interval, number

    labelled = bool(rows[0].separation.n)
    columns = ("\nlayer", "collin.\nraw", "\ncentred", "cosine\nsame", "\nother", "\nretrieval")
    separation = ("separation\nEnglish", "\nothers") if labelled else ()
    table = _table(*columns, *separation, gap=2 if width >= _WIDE else 1)
    for one in rows:
        cells = [number(one.collinearity), number(one.centred_collinearity), number(one.matched), number(one.unmatched)]
        figures = (one.retrieval, one.separation) if labelled else (one.retrieval,)
        cells += [f"{number(figure.value)} {interval(figure)}" for figure in figures]
        cells += [number(one.transfer.value)] if labelled else []
        chosen = one.layer == choice.layer
        table.add_row(f"{'→ ' if chosen else ''}{one.layer}", *cells, style="bold green" if chosen else None)
    return table


def _language_table(figures: "LayerFigures") -> Table:
    from mlc.report.wording import language_name, number

    labelled = bool(figures.separation.n)
    table = _table(
        "\nlanguage", "\nprompts", "cosine\nsame", "\nother", "\nretrieval", *(["\nseparation"] if labelled else [])
    )
    table.columns[0].justify = "left"
    for one in figures.languages:
        cells = [number(value) for value in (one.matched, one.unmatched, one.retrieval, one.transfer)]
        table.add_row(language_name(one.language), str(one.prompts), *cells[: 3 + labelled])
    return table


def _pool_table(sweep: "Sweep") -> Table:
    from mlc.report.wording import number

    labelled = bool(sweep.figures[0].separation.n)
    table = _table("\npooling", "\nlayer", "\nretrieval", *(["separation\nEnglish", "\nothers"] if labelled else []))
    table.columns[0].justify = "left"
    for pool, choice in sweep.by_pool.items():
        one = sweep.at(choice)
        cells = [number(value) for value in (one.retrieval.value, one.separation.value, one.transfer.value)]
        table.add_row(pool, str(one.layer), *cells[: 1 + 2 * labelled])
    return table
