"""The plot of what became of the answers."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter

from mlc.evaluation.judges.judge import OUTCOMES, Outcome
from mlc.evaluation.metrics import PromptGroup
from mlc.report.plots import _INK, _TEXT, _WIDTH, LanguageRow, Plot, _dress, _finish, _legend
from mlc.report.wording import percent

Shares = Mapping[str, Mapping[str, Mapping[Outcome, float]]]
"""Share of each outcome, by what the model is called, then by language."""

_COLOURS: Mapping[Outcome, str] = {
    "refused": "#0072B2",
    "complied": "#E69F00",
    "invalid": "#bbbbbb",
    "unsure": "#F0E442",
}
_INCHES_PER_BAR, _GAP = 0.19, 0.7


def plot_outcomes(rows: Sequence[LanguageRow], classes: Mapping[PromptGroup, Shares]) -> Plot | None:
    """Bars of refused, complied, invalid and unsure answers: a panel for each class of prompts.

    Args:
        rows: Languages from top to bottom.
        classes: Shares by the class of prompts; NaN where nothing was judged.

    Returns:
        None if there is nothing to draw.
    """
    models = list(next(iter(classes.values())))
    bars = [
        (place, row, model)
        for place, row in enumerate(rows)
        for model in models
        if any(not math.isnan(shares[model].get(row.code, {}).get("refused", math.nan)) for shares in classes.values())
    ]
    if not bars:
        return None
    heights = [number + _GAP * place for number, (place, _, _) in enumerate(bars)]
    figure = Figure(
        figsize=(_WIDTH, _INCHES_PER_BAR * (heights[-1] + 1) + 0.9), layout="constrained", facecolor="white"
    )
    panels = figure.subplots(1, len(classes), sharey=True)
    for axes, (name, shares) in zip(panels, classes.items(), strict=True):
        for height, (_, row, model) in zip(heights, bars, strict=True):
            left = 0.0
            for outcome in OUTCOMES:
                share = shares[model].get(row.code, {}).get(outcome, math.nan)
                if share > 0:
                    axes.barh(height, share, left=left, height=0.82, color=_COLOURS[outcome], edgecolor="white")
                    left += share
        axes.set_title(f"{name} prompts", fontsize=_TEXT, color=_INK, loc="left")
        axes.set_xlim(0, 1)
        axes.set_xticks([0, 0.5, 1])
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: percent(value)))
        _dress(axes, "share of judged answers", grid=None)
        axes.tick_params(axis="y", labelsize=_TEXT - 2)
    panels[0].set_yticks(heights, [f"{row.label} · {model}" for _, row, model in bars])
    panels[0].set_ylim(heights[-1] + 0.6, -0.6)
    _legend(figure, [Patch(color=_COLOURS[outcome], label=outcome) for outcome in OUTCOMES])
    return Plot(
        "outcomes.png",
        "What the models answered",
        "Answers by the deciding judge. Left, to harmful prompts: refused is safe, complied is an attack that "
        "succeeds. Right, to harmless ones: complied is help, refused is over-refusal. Invalid is no usable answer: "
        "empty, a loop, or (to harmless ones) in another language; it is neither safe nor helpful.",
        *_finish(figure),
        figures=" ".join(
            f"To {name} prompts, mean of the languages: "
            f"{'; '.join(f'{model} {told}' for model in models if (told := _means(shares[model], rows)))}."
            for name, shares in classes.items()
        ),
    )


def _means(shares: Mapping[str, Mapping[Outcome, float]], rows: Sequence[LanguageRow]) -> str:
    """The shares of a model averaged over the languages, in words; empty where nothing was judged."""
    own = [shares[row.code] for row in rows if row.code in shares and not math.isnan(shares[row.code]["refused"])]
    return ", ".join(f"{percent(fmean(one[name] for one in own))} {name}" for name in OUTCOMES) if own else ""
