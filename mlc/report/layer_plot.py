"""The picture of a sweep over layers."""

import math
from collections.abc import Callable, Sequence
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from mlc.choices import Pool
from mlc.evaluation.layers import LayerFigures, Sweep
from mlc.evaluation.results import Estimate
from mlc.report.plots import _FAINT, _INK, _TEXT, _WIDTH, Plot, _dress, _finish, _legend
from mlc.report.wording import number

_POOL_COLOURS: dict[Pool, str] = {"last": "#0072B2", "last_content": "#E69F00", "mean": "#009E73"}
_PANEL_HEIGHT = 1.85  # inches
_DASHES = (0, (3, 1.6))

Read = Callable[[LayerFigures], float]
Style = Literal["full", "dashed"]


def plot_layers(sweep: Sweep, *, retrieval_chance: float) -> Plot:
    """One panel a question, layers from left to right, the recommended one marked.

    Args:
        sweep: What was measured.
        retrieval_chance: Retrieval of states that know nothing of each other.
    """
    panels: list[Callable[[Axes], None]] = [
        lambda axes: _paint_collinearity(axes, sweep),
        lambda axes: _paint_retrieval(axes, sweep, retrieval_chance),
    ]
    if sweep.figures[0].separation.n:
        panels.append(lambda axes: _paint_separation(axes, sweep))
    figure = Figure(figsize=(_WIDTH, _PANEL_HEIGHT * len(panels) + 0.45), layout="constrained", facecolor="white")
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for place, (panel, paint) in enumerate(zip(axes, panels, strict=True)):
        panel.axvline(sweep.recommended.layer, color=_INK, linewidth=0.9, zorder=1)
        paint(panel)
        panel.set_xlim(-0.3, sweep.depth + 0.3)
        panel.xaxis.set_major_locator(MaxNLocator(11, integer=True))
        panel.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 10]))
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value, 1)))
        _dress(panel, "layer (0 = embeddings)" if place == len(panels) - 1 else "", grid="y")
    _legend(figure, _handles(sweep))
    return Plot(
        "layers.png",
        "Layers",
        "Collinearity of parallel prompts, retrieval of their own source and separation of harmful from harmless "
        "prompts at every layer; the line is the recommended layer.",
        *_finish(figure),
    )


def _paint_collinearity(axes: Axes, sweep: Sweep) -> None:
    _title(axes, "Collinearity of parallel prompts", "full: centred; dashed: raw")
    axes.set_ylim(-0.03, 1.03)
    for pool, rows in _by_pool(sweep):
        _line(axes, rows, pool, lambda one: one.collinearity, "dashed")
        _line(axes, rows, pool, lambda one: one.centred_collinearity, "full")
    _mark(axes, sweep, lambda one: one.centred_collinearity)


def _paint_retrieval(axes: Axes, sweep: Sweep, chance: float) -> None:
    _title(axes, "Retrieval", "share of prompts found by their translation; band: 95 %; dots: chance")
    _chance(axes, chance)
    highest = _band(axes, sweep, lambda one: one.retrieval)[1]
    axes.set_ylim(-0.02, max(0.25, highest, *(one.retrieval.value for one in sweep.figures)) + 0.05)
    for pool, rows in _by_pool(sweep):
        _line(axes, rows, pool, lambda one: one.retrieval.value, "full")
    _mark(axes, sweep, lambda one: one.retrieval.value)


def _paint_separation(axes: Axes, sweep: Sweep) -> None:
    _title(axes, "Separation", "AUROC, harmful and harmless; full: English; dashed: other languages")
    _chance(axes, 0.5)
    lowest = _band(axes, sweep, lambda one: one.separation)[0]
    finite = [value for one in sweep.figures for value in (one.separation.value, one.transfer.value)]
    axes.set_ylim(min([lowest, *(value for value in finite if not math.isnan(value))]) - 0.05, 1.03)
    for pool, rows in _by_pool(sweep):
        _line(axes, rows, pool, lambda one: one.transfer.value, "dashed")
        _line(axes, rows, pool, lambda one: one.separation.value, "full")
    _mark(axes, sweep, lambda one: one.separation.value)


def _by_pool(sweep: Sweep) -> list[tuple[Pool, list[LayerFigures]]]:
    return [(pool, [one for one in sweep.figures if one.pool == pool]) for pool in sweep.by_pool]


def _line(axes: Axes, rows: Sequence[LayerFigures], pool: Pool, read: Read, style: Style) -> None:
    layers, values = [one.layer for one in rows], [read(one) for one in rows]
    look = {"linewidth": 1.5} if style == "full" else {"linewidth": 1.0, "linestyle": _DASHES}
    axes.plot(layers, values, color=_POOL_COLOURS[pool], zorder=3, **look)


def _band(axes: Axes, sweep: Sweep, read: Callable[[LayerFigures], Estimate]) -> tuple[float, float]:
    """Draws the intervals of the recommended pooling; gives the lowest and the highest end."""
    pool = sweep.recommended.pool
    rows = [one for one in sweep.figures if one.pool == pool]
    low, high = [read(one).low for one in rows], [read(one).high for one in rows]
    colour = _POOL_COLOURS[pool]
    axes.fill_between([one.layer for one in rows], low, high, color=colour, alpha=0.15, linewidth=0, zorder=2)
    return min(low), max(high)


def _mark(axes: Axes, sweep: Sweep, read: Read) -> None:
    chosen, value = sweep.recommended, read(sweep.at(sweep.recommended))
    if not math.isnan(value):
        axes.plot(
            [chosen.layer],
            [value],
            "o",
            color=_POOL_COLOURS[chosen.pool],
            markersize=6,
            zorder=5,
            markeredgecolor="white",
            markeredgewidth=0.8,
        )


def _chance(axes: Axes, value: float) -> None:
    axes.axhline(value, color=_FAINT, linewidth=0.8, linestyle=(0, (1, 2)), zorder=1)


def _title(axes: Axes, title: str, detail: str) -> None:
    axes.set_title(title, fontsize=_TEXT, color=_INK, loc="left")
    axes.set_title(detail, fontsize=_TEXT - 1, color=_FAINT, loc="right")


def _handles(sweep: Sweep) -> list[Line2D]:
    pools = [Line2D([], [], color=_POOL_COLOURS[pool], linewidth=1.8, label=pool) for pool in sweep.by_pool]
    return [*pools, Line2D([], [], color=_INK, linewidth=0.9, label=f"layer {sweep.recommended.layer}, recommended")]
