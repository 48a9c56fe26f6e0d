"""The comparison of layers as files: a picture, a table and all figures as plain data."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from mlc.evaluation.layers import LayerFigures, Recommendation, Sweep
from mlc.evaluation.parallel import ParallelPrompts
from mlc.prompts import LABELS
from mlc.report.layer_plot import plot_layers
from mlc.report.wording import count, interval, language_name, number
from mlc.store.plain import without_nan

FILES = ("layers.png", "layers.csv", "layers.json")


def plain_figures(
    sweep: Sweep, prompts: ParallelPrompts, notes: Sequence[str], model: str, folder: Path
) -> dict[str, Any]:
    """Everything that was found, as plain values.

    Args:
        sweep: The figures.
        prompts: What the layers were measured on.
        notes: From :func:`notes_on`.
        model: The model, as a person named it.
        folder: Where the files are to lie.
    """
    counts = dict(zip(prompts.languages, prompts.mask.sum(axis=0).tolist(), strict=True))
    told = {
        "model": model,
        "depth": sweep.depth,
        "prompts": len(prompts.ids),
        "labels": {label: prompts.labels.count(label) for label in LABELS},
        "languages": counts,
        "left_out": dict(prompts.left_out),
        "chance": {"retrieval": retrieval_chance(prompts), "separation": 0.5, "collinearity": 1 / len(counts)},
        "recommended": asdict(sweep.recommended),
        "settings": settings_of(sweep.recommended),
        "by_pool": {pool: asdict(choice) for pool, choice in sweep.by_pool.items()},
        "layers": [asdict(one) for one in sweep.figures],
        "notes": list(notes),
        "files": [str(folder / name) for name in FILES],
    }
    plain: dict[str, Any] = without_nan(told)
    return plain


def settings_of(choice: Recommendation) -> dict[str, Any]:
    """The settings that take a recommendation over, by their keys in a configuration."""
    return {"align.consistency.layer": choice.layer, "align.consistency.pool": choice.pool}


def retrieval_chance(prompts: ParallelPrompts) -> float:
    """Retrieval of states that know nothing of each other: one over the prompts, mean over the languages."""
    counts = prompts.mask.sum(axis=0)[1:]
    return float((1 / counts).mean())


def write_files(sweep: Sweep, told: dict[str, Any], folder: Path) -> None:
    """Writes :data:`FILES`.

    Args:
        sweep: The figures.
        told: From :func:`plain_figures`.
        folder: A folder that is there.
    """
    plot = plot_layers(sweep, retrieval_chance=told["chance"]["retrieval"])
    (folder / "layers.png").write_bytes(plot.png)
    (folder / "layers.csv").write_text(_csv(sweep), encoding="utf-8")
    text = json.dumps(told, ensure_ascii=False, indent=1, allow_nan=False)
    (folder / "layers.json").write_text(text + "\n", encoding="utf-8")


def _csv(sweep: Sweep) -> str:
    """A row for each pooling and layer; what is missing is empty."""
    rows = [dict(_flat(one)) for one in sweep.figures]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def _flat(figures: LayerFigures) -> Iterator[tuple[str, Any]]:
    for field in fields(figures):
        value = getattr(figures, field.name)
        if field.name == "languages":
            continue
        parts = {"": value.value, "_low": value.low, "_high": value.high} if hasattr(value, "low") else {"": value}
        for ending, part in parts.items():
            plain = without_nan(part)
            yield field.name + ending, "" if plain is None else plain


def notes_on(sweep: Sweep, prompts: ParallelPrompts, dropped: Sequence[str]) -> list[str]:
    """What a person should know of the figures, in sentences.

    Args:
        sweep: The figures.
        prompts: What the layers were measured on.
        dropped: Languages that had too few translations.
    """
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
