"""The plots of a report as PNG.

Everything is drawn through Figure objects, never pyplot, so that reports can be drawn in threads. Colours are those of
Okabe and Ito, which people with colour-blindness can tell apart; each mark also differs in position or form.
"""

import io
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from mlc.evaluation.results import Estimate
from mlc.report.data import FunnelRow
from mlc.report.wording import count, language_name, number, percent

KEPT = "kept"

_WIDTH = 5.8  # inches
_DPI = 200
_SCREEN_DPI = 120
_TEXT = 9.0  # points
_INK, _FAINT, _GRID = "#333333", "#777777", "#e3e3e3"
_MODEL_COLOURS = ("#666666", "#E69F00", "#0072B2", "#882255", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
"""By the place of a model; the first is the untouched one."""
_REASON_COLOURS = ("#D55E00", "#E69F00", "#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#F0E442")
_OTHER_REASONS_COLOUR, _KEPT_COLOUR = "#555555", "#ececec"
_SEED_STYLES: tuple[tuple[float, Sequence[float]] | Literal["-"], ...] = (
    "-",
    (0, (4, 1.5)),
    (0, (1, 1.2)),
    (0, (5, 1, 1, 1)),
)
_MODEL_SPACING = 0.24
_ROW_GAP = 0.3
_INCHES_PER_UNIT = 0.56
_LEGEND_LETTERS = 100
"""How many letters fit in one line of a legend, as measured."""
_MARK_LETTERS = 9
"""As many of them as a mark with its gaps takes room."""

_DRAWING = threading.Lock()
"""Matplotlib shares font caches between figures and promises no thread safety."""


@dataclass(frozen=True)
class Plot:
    """One plot, ready for the page."""

    file: str
    """File name of the PNG."""
    title: str
    caption: str
    """How to read it."""
    png: bytes
    width: int
    """Width on the screen, CSS pixels."""
    height: int
    figures: str = ""
    """Its figures in words, for whoever does not see it; empty where no page shows it."""


@dataclass(frozen=True)
class LanguageRow:
    """One row of a plot over languages."""

    code: str
    label: str


Pair = tuple[float, float]
"""A hollow and a filled mark."""


def plot_auroc(rows: Sequence[LanguageRow], figures: Mapping[str, Mapping[str, Estimate]]) -> Plot | None:
    """Dot plot of AUROC with intervals.

    Args:
        rows: Languages from top to bottom.
        figures: By what the model is called, then by language. Missing ones are left out.

    Returns:
        None if there is nothing to draw.
    """
    drawn = [(m, c) for m, by_language in figures.items() for c, e in by_language.items() if not math.isnan(e.value)]
    if not drawn:
        return None
    lowest = min(figures[model][code].low for model, code in drawn)

    def paint(axes: Axes) -> None:
        axes.axvline(0.5, color=_FAINT, linewidth=0.8, linestyle=(0, (3, 3)), zorder=1)
        colours = model_colours(list(figures))
        for place, model in enumerate(figures):
            for index, row in enumerate(rows):
                figure = figures[model].get(row.code)
                if figure is None or math.isnan(figure.value):
                    continue
                y = _height(index, place, len(figures))
                axes.plot([figure.low, figure.high], [y, y], color=colours[model], linewidth=1.4, alpha=0.55, zorder=2)
                axes.plot([figure.value], [y], "o", color=colours[model], markersize=5, zorder=3)
        axes.set_xlim(min(lowest, 0.48) - 0.02, 1.02)

    return Plot(
        "auroc.png",
        "Margin AUROC per language",
        "How well the refusal margin tells harmful from harmless prompts: 1 is perfect, the dashed line at .5 is "
        "chance. Lines are 95 % intervals over prompts.",
        *_over_languages(rows, list(figures), "AUROC of the refusal margin", paint),
        figures=_reaches(rows, {model: {c: e.value for c, e in own.items()} for model, own in figures.items()}),
    )


def plot_refusals(
    rows: Sequence[LanguageRow], pairs: Mapping[str, Mapping[str, Pair]], *, anchor: str = "English"
) -> Plot | None:
    """Over-refusal and safety rate of each language as the two ends of a line.

    Args:
        rows: Languages from top to bottom.
        pairs: By what the model is called, then by language: over-refusal and safety rate.
        anchor: Name of the anchor language.

    Returns:
        None if there is nothing to draw.
    """
    return _plot_pairs(
        rows,
        pairs,
        file="safety.png",
        title="The margin as a screen: safety beside over-refusal",
        caption=f"No answer is read here. Filled: share of harmful prompts above the {anchor} threshold (margin safety "
        "rate). Hollow: share of harmless prompts above it (margin over-refusal). A good model has its filled mark at "
        "the right, its hollow mark at the left; two marks together mean that it does not tell the prompts apart.",
        axis="share of prompts above the threshold",
        names=("margin over-refusal", "margin safety rate"),
        limits=(-0.03, 1.03),
    )


def plot_representation(
    rows: Sequence[LanguageRow], pairs: Mapping[str, Mapping[str, Pair]], *, anchor: str = "English"
) -> Plot | None:
    """Unmatched and matched cosine of each language as the two ends of a line.

    Args:
        rows: Languages from top to bottom.
        pairs: By what the model is called, then by language: cosine to the anchor's states of other prompts, and of the
            same prompt.
        anchor: Name of the anchor language.

    Returns:
        None if there is nothing to draw.
    """
    values = [value for by_language in pairs.values() for pair in by_language.values() for value in pair]
    finite = [value for value in values if not math.isnan(value)]
    limits = (min([0.0, *finite]) - 0.04, max([0.5, *finite]) + 0.04)
    return _plot_pairs(
        rows,
        pairs,
        file="representation.png",
        title="Representations before and after",
        caption=f"Centred cosine of a prompt's state to the {anchor} state of the same prompt (filled, matched) and of "
        "other prompts (hollow, unmatched). Base is before training. Matched should rise while unmatched stays near "
        "0: both rising means that different prompts collapse onto each other.",
        axis=f"centred cosine to {anchor} states",
        names=("other prompts", "same prompt"),
        limits=limits,
    )


def plot_funnel(rows: Sequence[FunnelRow]) -> Plot | None:
    """Stacked bars of the share of translations that each rule dropped.

    Args:
        rows: Kept and dropped rows.

    Returns:
        None if there is nothing to draw.
    """
    languages = sorted({row.language for row in rows}, key=language_name)
    if not languages:
        return None
    totals = reasons_by_rows(rows)
    reasons = list(totals)
    shown = reasons if len(reasons) <= len(_REASON_COLOURS) else reasons[: len(_REASON_COLOURS) - 1]
    colours = dict(zip(shown, _REASON_COLOURS, strict=False))
    shares = {
        code: {row.reason: row.share for row in sorted(rows) if row.language == code and row.reason != KEPT}
        for code in languages
    }

    def paint(axes: Axes) -> None:
        for index, code in enumerate(languages):
            left = 0.0
            pieces = [(colours[reason], shares[code].get(reason, 0.0)) for reason in shown]
            rest = sum(share for reason, share in shares[code].items() if reason not in colours)
            dropped = sum(shares[code].values())
            for colour, share in [*pieces, (_OTHER_REASONS_COLOUR, rest), (_KEPT_COLOUR, max(0.0, 1 - dropped))]:
                axes.barh(index, share, left=left, height=0.62, color=colour, edgecolor="white", linewidth=0.6)
                left += share
            axes.text(1.012, index, percent(1 - dropped), va="center", ha="left", fontsize=_TEXT - 1, color=_INK)
        axes.set_yticks(range(len(languages)), [language_name(code) for code in languages])
        axes.set_ylim(len(languages) - 0.4, -0.6)
        axes.set_xlim(0, 1.0)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: percent(value)))

    handles = [Patch(color=colours[reason], label=reason_name(reason)) for reason in shown]
    if len(shown) < len(reasons):
        handles.append(Patch(color=_OTHER_REASONS_COLOUR, label="other reasons"))
    handles.append(Patch(color=_KEPT_COLOUR, label="kept"))
    figure, axes = _figure(0.34 * len(languages) + 0.62 + 0.22 * math.ceil(len(handles) / _legend_columns(handles)))
    paint(axes)
    _dress(axes, "share of translations, kept share at the right", grid=None)
    _legend(figure, handles)
    kept = [f"{language_name(code)} {percent(1 - sum(shares[code].values()))}" for code in languages]
    dropped = [f"{count(total, 'row')} for {reason_name(reason)}" for reason, total in totals.items()]
    return Plot(
        "filter.png",
        "What the filter dropped",
        "Share of the translated training prompts that each rule dropped; a prompt counts under the first rule that "
        "it fails.",
        *_finish(figure),
        figures=f"Kept: {', '.join(kept)}. Dropped: {', '.join(dropped) or 'none'}.",
    )


def plot_training(
    logs: Mapping[tuple[str, int], Sequence[Mapping[str, float]]], models: Sequence[str], *, anchor: str = "English"
) -> Plot | None:
    """Training curves, one panel a quantity.

    Args:
        logs: By what the model is called, and seed, one entry a step.
        models: All models of the report in their order, so that colours are the same on every plot.
        anchor: Name of the anchor language.

    Returns:
        None if there is nothing to draw.
    """
    logged = {key for key in _PANELS if any(_curve(log, key)[0] for log in logs.values())}
    if "alignment_loss" in logged:
        # The total adds nothing where its parts are there.
        logged.discard("loss")
    panels = [(key, title) for key, title in _PANELS.items() if key in logged]
    if not panels:
        return None
    runs = sorted(logs, key=lambda run: (models.index(run[0]), run[1]))
    seeds = sorted({seed for _, seed in runs})
    columns = min(2, len(panels))
    lines = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(_WIDTH, 2.0 * lines + 0.4), layout="constrained", facecolor="white")
    colours = model_colours(models)
    for place, (key, title) in enumerate(panels):
        axes = figure.add_subplot(lines, columns, place + 1)
        for model, seed in runs:
            steps, values = _curve(logs[model, seed], key)
            style = _SEED_STYLES[seeds.index(seed) % len(_SEED_STYLES)]
            marker = "o" if len(steps) == 1 else ""
            axes.plot(steps, values, color=colours[model], linestyle=style, linewidth=1.3, marker=marker, markersize=3)
        axes.set_title(title.format(anchor=anchor), fontsize=_TEXT, color=_INK, loc="left")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        _dress(axes, "step" if place >= len(panels) - columns else "", grid="y")
    trained = {model for model, _ in runs}
    handles = [handle for handle in _model_handles(models) if handle.get_label() in trained]
    if len(seeds) > 1:
        handles += [
            Line2D([], [], color=_INK, linewidth=1.3, linestyle=_SEED_STYLES[i % len(_SEED_STYLES)], label=f"seed {s}")
            for i, s in enumerate(seeds)
        ]
    _legend(figure, handles)
    return Plot(
        "training.png",
        "Training curves",
        "Each line is one seed. The consistency term is shown before its weight; a between-prompt cosine near 1 means "
        "that different prompts collapse onto each other.",
        *_finish(figure),
        figures=" ".join(
            f"{title.format(anchor=anchor)}, first to last step: {'; '.join(_courses(logs, runs, key))}."
            for key, title in panels
        ),
    )


def _courses(
    logs: Mapping[tuple[str, int], Sequence[Mapping[str, float]]], runs: Sequence[tuple[str, int]], key: str
) -> Iterator[str]:
    """From where to where each curve of a panel goes, in words."""
    for model, seed in runs:
        _, values = _curve(logs[model, seed], key)
        if values:
            yield f"{model}, seed {seed}, {number(values[0])} to {number(values[-1])}"


_PANELS = {
    "loss": "Loss",
    "alignment_loss": "{anchor} alignment loss",
    "consistency_loss": "Consistency term",
    "collinearity": "Collinearity of the variants",
    "centred_collinearity": "Centred collinearity of the variants",
    "between_prompt_cosine": "Cosine between prompts",
    "reward": "Mean reward of sampled answers",
    "refused_harmful": "Sampled answers that refuse a harmful prompt",
    "refused_harmless": "… a harmless one",
    "refused_lookalike": "… a look-alike",
    "invalid_answers": "Sampled answers that are none",
}


def reasons_by_rows(rows: Sequence[FunnelRow]) -> dict[str, int]:
    """How many rows were dropped for each reason, those with most rows first."""
    totals: dict[str, int] = {}
    for row in rows:
        if row.reason != KEPT and row.rows:
            totals[row.reason] = totals.get(row.reason, 0) + row.rows
    return dict(sorted(totals.items(), key=lambda entry: (-entry[1], entry[0])))


def reason_name(reason: str) -> str:
    """A rule's name as words."""
    return reason.replace("_", " ")


def model_colours(models: Sequence[str]) -> dict[str, str]:
    """A colour for each model, by its place; the first is the untouched one and keeps its grey to itself."""
    later = _MODEL_COLOURS[1:]
    return {
        model: later[(place - 1) % len(later)] if place else _MODEL_COLOURS[0] for place, model in enumerate(models)
    }


def _plot_pairs(
    rows: Sequence[LanguageRow],
    pairs: Mapping[str, Mapping[str, Pair]],
    *,
    file: str,
    title: str,
    caption: str,
    axis: str,
    names: tuple[str, str],
    limits: tuple[float, float],
) -> Plot | None:
    codes = {code for by_language in pairs.values() for code, pair in by_language.items() if _complete(pair)}
    rows = [row for row in rows if row.code in codes]
    if not rows:
        return None

    def paint(axes: Axes) -> None:
        colours = model_colours(list(pairs))
        for place, model in enumerate(pairs):
            for index, row in enumerate(rows):
                pair = pairs[model].get(row.code)
                if pair is None or not _complete(pair):
                    continue
                y, colour = _height(index, place, len(pairs)), colours[model]
                axes.plot(pair, [y, y], color=colour, linewidth=1.4, alpha=0.55, zorder=2)
                axes.plot(pair[0], y, "o", markerfacecolor="white", markeredgecolor=colour, markersize=5, zorder=3)
                axes.plot(pair[1], y, "o", color=colour, markersize=5, zorder=4)
        axes.set_xlim(*limits)

    marks = [
        Line2D([], [], linestyle="", marker="o", markerfacecolor="white", markeredgecolor=_INK, label=names[0]),
        Line2D([], [], linestyle="", marker="o", color=_INK, label=names[1]),
    ]
    drawn = _over_languages(rows, list(pairs), axis, paint, marks)
    hollow, filled = (
        _reaches(rows, {model: {code: pair[end] for code, pair in own.items()} for model, own in pairs.items()})
        for end in (0, 1)
    )
    return Plot(
        file, title, caption, *drawn, figures=f"{names[1].capitalize()}: {filled} {names[0].capitalize()}: {hollow}"
    )


def _reaches(rows: Sequence[LanguageRow], values: Mapping[str, Mapping[str, float]]) -> str:
    """From where to where each model reaches over the languages, in words.

    Args:
        rows: Languages.
        values: By what the model is called, then by language.
    """
    labels = {row.code: row.label for row in rows}
    told = []
    for model, own in values.items():
        there = {code: value for code, value in own.items() if code in labels and not math.isnan(value)}
        if there:
            low, high = min(there, key=there.__getitem__), max(there, key=there.__getitem__)
            ends = [f"{number(there[code])} in {labels[code]}" for code in (low, high)]
            alike = len(there) > 1 and number(there[low]) == number(there[high])
            everywhere = f"{number(there[low])} in all {len(there)} languages"
            told.append(f"{model} {everywhere if alike else ' to '.join(dict.fromkeys(ends))}")
    return f"{'; '.join(told)}."


def _complete(pair: Pair) -> bool:
    return not any(map(math.isnan, pair))


def _over_languages(
    rows: Sequence[LanguageRow],
    models: Sequence[str],
    axis: str,
    paint: Callable[[Axes], None],
    marks: Sequence[Line2D] = (),
) -> tuple[bytes, int, int]:
    band = _band(len(models))
    figure, axes = _figure(_INCHES_PER_UNIT * band * len(rows) + 0.85)
    for index in range(1, len(rows)):
        axes.axhline(index * band - band / 2, color=_GRID, linewidth=0.8, zorder=0)
    paint(axes)
    axes.set_yticks([index * band for index in range(len(rows))], [row.label for row in rows])
    axes.set_ylim((len(rows) - 0.5) * band, -0.5 * band)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value, 1)))
    _dress(axes, axis, grid="x")
    _legend(figure, [*_model_handles(models), *marks])
    return _finish(figure)


def _band(models: int) -> float:
    return _MODEL_SPACING * models + _ROW_GAP


def _height(row: int, place: int, models: int) -> float:
    return row * _band(models) + (place - (models - 1) / 2) * _MODEL_SPACING


def _figure(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_WIDTH, height), layout="constrained", facecolor="white")
    return figure, figure.add_subplot()


def _dress(axes: Axes, label: str, *, grid: Literal["x", "y"] | None) -> None:
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_FAINT)
    axes.tick_params(labelsize=_TEXT, length=0, labelcolor=_INK, pad=4)
    axes.set_xlabel(label, fontsize=_TEXT - 0.5, color=_FAINT)
    axes.set_axisbelow(True)
    if grid:
        axes.grid(axis=grid, color=_GRID, linewidth=0.8)


def _model_handles(models: Sequence[str]) -> list[Line2D]:
    colours = model_colours(models)
    return [
        Line2D([], [], color=colours[model], linewidth=1.4, marker="o", markersize=5, label=model) for model in models
    ]


def _legend_columns(handles: Sequence[Line2D | Patch]) -> int:
    """As many as their names leave room for: each column is as wide as its longest name."""
    names = [len(str(handle.get_label())) + _MARK_LETTERS for handle in handles]

    def width(columns: int) -> int:
        # Matplotlib fills column by column, the first ones with one name more.
        lines, longer = divmod(len(names), columns)
        ends = [place * lines + min(place, longer) for place in range(columns + 1)]
        return sum(max(names[start:end]) for start, end in pairwise(ends))

    fitting = [columns for columns in range(1, len(names) + 1) if width(columns) <= _LEGEND_LETTERS]
    return max(fitting, default=1)


def _legend(figure: Figure, handles: Sequence[Line2D | Patch]) -> None:
    figure.legend(
        handles=list(handles),
        loc="outside upper left",
        ncols=_legend_columns(handles),
        frameon=False,
        fontsize=_TEXT - 0.5,
        labelcolor=_INK,
        handlelength=1.4,
        columnspacing=1.1,
        borderaxespad=0.2,
    )


def _curve(log: Sequence[Mapping[str, float]], key: str) -> tuple[list[float], list[float]]:
    points = [(entry["step"], entry[key]) for entry in log if key in entry and math.isfinite(entry[key])]
    return [step for step, _ in points], [value for _, value in points]


def _finish(figure: Figure) -> tuple[bytes, int, int]:
    """The PNG and its size on the screen; the file says nothing about the program or the time."""
    buffer = io.BytesIO()
    with _DRAWING:
        figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    width, height = figure.get_size_inches()
    return buffer.getvalue(), round(width * _SCREEN_DPI), round(height * _SCREEN_DPI)
