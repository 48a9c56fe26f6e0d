"""Fits ``quality_model.json``: ``python -m mlc.making.calibrate FOLDER [--plot PICTURE]``.

FOLDER holds ``ntrex128`` (Federmann, Kocmi and Xin, 2022; human translations, which are damaged here) and ``mlqe_pe``
(Fomicheva et al., 2022; machine translations with the scores that people gave them). Only coefficients are written.

Rows with an even number are fitted on, those with an odd number are left for reporting. A judged translation is good
if people gave it at least 70 of 100; an undamaged human translation is good, a damaged one is not. Most of the weight
lies on judged machine translations, because those are what the score is for.
"""

import argparse
import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mlc.languages import ENGLISH
from mlc.making.corruptions import CORRUPTIONS, Corpus, batches
from mlc.making.length_table import MLQE_GOOD, NTREX_LANGUAGES
from mlc.quality.calibration import QUALITY_MODEL, Confidence, Guard, QualityModel, Term, quality_of
from mlc.quality.measuring.tables import compute_signals
from mlc.quality.reliability import plot_reliability
from mlc.quality.rows import REQUIRED_COLUMNS
from mlc.quality.signals import SIGNALS, Direction

VERSION = 2
"""Goes up with every change of the coefficients that ship."""

Floats = NDArray[np.float64]

SHARES = {"judged": 0.8, "clean": 0.1, "damaged": 0.1}
"""Share of the weight of each group of training rows; each kind of damage weighs the same."""

DAMAGED_EVERY = 4
"""One training row of NTREX in so many is used: enough for the coefficients, and quick."""

SEED = 0
"""Seed of the damage."""

PENALTY = 3e-5
"""Weight of half the sum of squared steps beside the mean log loss."""

COPIED_GUARD = Guard(column="signal_source_letters", least=12)
SHORT_GUARD = Guard(column="signal_translation_letters", least=12)
LANGUAGE_GUARD = Guard(column="signal_translation_letters", least=20)


@dataclass(frozen=True)
class Shape:
    """Where the line of a term may bend."""

    column: str
    knots: tuple[float, ...]
    guard: Guard | None = None


SHAPES = (
    Shape("signal_copied", (0.4, 0.6, 0.85, 1.0), COPIED_GUARD),
    Shape("signal_script", (0.0, 0.5, 0.8, 0.95, 1.0)),
    Shape("signal_language_other", (0.2, 0.6, 0.9, 1.0), LANGUAGE_GUARD),
    Shape("signal_language_source", (0.2, 0.6, 0.9, 1.0), LANGUAGE_GUARD),
    Shape("signal_repetition_share", (0.0, 0.05, 0.1, 0.25, 0.5)),
    Shape("signal_repetition_loop", (0.0, 0.05, 0.15, 0.4)),
    Shape("signal_ending_kept", (0.0, 1.0)),
    Shape("signal_placeholders", (0.0, 0.5, 1.0)),
    Shape("signal_numbers_kept", (0.0, 0.5, 1.0)),
    Shape("signal_numbers_changed", (0.0, 1.0, 3.0)),
    Shape("signal_length_z", (-6.0, -4.0, -2.75, -2.0, -1.0, 0.0, 1.0, 2.0, 2.75, 4.0, 6.0)),
    Shape("signal_sentences", (0.25, 0.5, 0.75, 1.0)),
    Shape("signal_garbled", (0.0, 1.0, 3.0)),
    Shape("signal_caps", (0.0, 0.2, 0.5, 1.0), SHORT_GUARD),
    Shape("signal_lines", (0.0, 0.5, 1.0)),
    Shape("signal_collapsed_sources", (1.0, 3.0, 10.0), SHORT_GUARD),
)
CONFIDENCE = Shape("signal_logprob", (-1.2, -0.6, -0.3, -0.1))


@dataclass(frozen=True)
class Judged:
    """Machine translations that people have judged."""

    pairs: pa.Table
    """``pair``, ``row`` (within its pair), the required columns, ``logprob`` as the set gives it, ``human`` (0–100)."""

    def half(self, remainder: int) -> pa.Table:
        """Returns the rows with an even (0) or odd (1) number."""
        return self.pairs.filter(pa.array([row % 2 == remainder for row in self.pairs["row"].to_pylist()]))


MLQE_PAIRS = {
    "enzh": (ENGLISH, "zho_Hans"),
    "eten": ("est_Latn", ENGLISH),
    "roen": ("ron_Latn", ENGLISH),
    "ruen": ("rus_Cyrl", ENGLISH),
    "sien": ("sin_Sinh", ENGLISH),
}


def read_judged(folder: Path) -> Judged:
    """Reads MLQE-PE.

    Args:
        folder: The folder ``mlqe_pe``, with ``dev.<pair>.df.short.tsv``.
    """
    rows = []
    for pair, (source, target) in MLQE_PAIRS.items():
        with (folder / f"dev.{pair}.df.short.tsv").open(encoding="utf-8", newline="") as handle:
            for number, row in enumerate(csv.DictReader(handle, delimiter="\t", quoting=csv.QUOTE_NONE)):
                rows.append(
                    {
                        "pair": pair,
                        "row": number,
                        "source": row["original"],
                        "translation": row["translation"],
                        "source_language": source,
                        "target_language": target,
                        "logprob": float(row["model_scores"]),
                        "human": float(row["mean"]),
                    }
                )
    return Judged(pa.Table.from_pylist(rows))


def read_ntrex(folder: Path) -> Corpus:
    """Reads NTREX-128.

    Args:
        folder: The folder ``ntrex128``, with ``newstest2019-src.eng.txt`` and ``newstest2019-ref.<tag>.txt``.
    """

    def lines(name: str) -> list[str]:
        return (folder / f"newstest2019-{name}.txt").read_text(encoding="utf-8").rstrip("\n").split("\n")

    return Corpus(lines("src.eng"), {code: lines(f"ref.{tag}") for tag, code in NTREX_LANGUAGES.items()})


@dataclass(frozen=True)
class Rows:
    """Rows to fit on."""

    signals: pa.Table
    good: Floats
    weight: Floats


def without_model(signals: pa.Table) -> pa.Table:
    """Returns the signals without what a translator reported."""
    place = signals.column_names.index(CONFIDENCE.column)
    return signals.set_column(place, CONFIDENCE.column, pa.nulls(signals.num_rows, pa.float64()))


def text_rows(judged: pa.Table, corpus: Corpus, *, seed: int) -> Rows:
    """Returns judged, clean and damaged rows, weighted by ``SHARES``; all without a log-probability.

    Args:
        judged: Judged rows, with their signals.
        corpus: Clean pairs.
        seed: Seed of the damage.
    """
    columns = ["signal_empty", *_columns()]
    mixed = list(batches(corpus, seed=seed))
    measured = pa.concat_tables([compute_signals(batch.select(REQUIRED_COLUMNS)).select(columns) for batch in mixed])
    damaged = np.concatenate([np.array(batch["damaged"].to_pylist()) for batch in mixed])
    kind = np.concatenate([np.array(batch["kind"].to_pylist()) for batch in mixed])
    weight = np.zeros(len(kind))
    weight[~damaged] = SHARES["clean"] / (~damaged).sum()
    for name in sorted(set(kind)):
        chosen = damaged & (kind == name)
        weight[chosen] = SHARES["damaged"] / len(CORRUPTIONS) / chosen.sum()
    return Rows(
        pa.concat_tables([without_model(judged).select(columns), measured]),
        np.concatenate([is_good(judged), (~damaged).astype(np.float64)]),
        np.concatenate([np.full(judged.num_rows, SHARES["judged"] / judged.num_rows), weight]),
    )


def is_good(judged: pa.Table) -> Floats:
    """Returns 1 where people gave at least 70 of 100, else 0."""
    return np.asarray(judged["human"].to_numpy() >= MLQE_GOOD, dtype=np.float64)


def fit(text: Rows, judged: pa.Table, fitted_on: str) -> QualityModel:
    """Fits the terms of the text, then the term of the log-probability beside them.

    Args:
        text: From :func:`text_rows`.
        judged: Judged rows with their signals and log-probabilities.
        fitted_on: What to say of the data.
    """
    readable = ~np.array(text.signals["signal_empty"].to_pylist(), dtype=bool)
    X = np.hstack([_steps(text.signals, shape) for shape in SHAPES])[readable]
    intercept, sizes = fit_steps(X, text.good[readable], text.weight[readable])
    terms, start = [], 0
    for shape in SHAPES:
        count = len(shape.knots) - 1
        terms.append(_term(shape, sizes[start : start + count]))
        start += count
    text_only = QualityModel(version=VERSION, fitted_on=fitted_on, intercept=_round(intercept), terms=tuple(terms))
    return text_only.model_copy(update={"confidence": _fit_confidence(text_only, judged)})


def _fit_confidence(model: QualityModel, judged: pa.Table) -> Confidence:
    """Fits the term of the log-probability beside the terms of the text.

    How sure a translator is differs from one pair of languages to the next whatever its quality, so the shape of the
    term is fitted with an intercept for each pair. Of a new pair that intercept is unknown: one intercept and one
    slope for all pairs then turn the sum into a probability (Platt, 1999).
    """
    quality = quality_of(without_model(judged), model).to_numpy()
    read = quality > 0
    text = np.log(quality[read] / (1 - quality[read])) - model.intercept
    good, pair = is_good(judged)[read], np.asarray(judged["pair"].to_pylist())[read]
    pairs = np.stack([pair == name for name in sorted(set(pair))[1:]], axis=1).astype(np.float64)
    uniform = np.ones(len(good))
    steps = _steps(judged, CONFIDENCE)[read]
    _, sizes = fit_steps(steps, good, uniform, offset=text, free=pairs)
    total = text + steps @ sizes
    intercept, slope = fit_steps(-total[:, None], good, uniform)
    scale = float(-slope[0])
    return Confidence(intercept=_round(intercept), slope=_round(scale), term=_term(CONFIDENCE, sizes * scale))


def fit_steps(
    X: Floats,
    good: Floats,
    weight: Floats,
    *,
    offset: Floats | None = None,
    free: Floats | None = None,
) -> tuple[float, Floats]:
    """Fits a logistic regression whose coefficients are at most 0, by L-BFGS within bounds (Byrd et al., 1995).

    Args:
        X: [rows, steps], 0 at its best.
        good: [rows], 1 or 0.
        weight: [rows], of any sum.
        offset: [rows], log-odds that are there already; 0 if not given.
        free: [rows, others], columns whose coefficients have no bound and are not returned.

    Returns:
        Intercept, and [steps] coefficients, all at most 0.
    """
    from scipy.optimize import minimize

    share = weight / weight.sum()
    base = np.zeros(len(good)) if offset is None else offset
    free = np.zeros((len(X), 0)) if free is None else free
    A = np.hstack([np.ones((len(X), 1)), free, X])
    first = 1 + free.shape[1]
    penalty = np.r_[np.zeros(first), np.full(X.shape[1], PENALTY)]

    def loss(sizes: Floats) -> tuple[float, Floats]:
        """Mean log loss with the penalty, and its gradient."""
        log_odds = A @ sizes + base
        chance = 1.0 / (1.0 + np.exp(-log_odds))
        value = share @ (np.logaddexp(0, log_odds) - good * log_odds) + penalty @ sizes**2 / 2
        return float(value), A.T @ (share * (chance - good)) + penalty * sizes

    bounds = [(None, None)] * first + [(None, 0.0)] * X.shape[1]
    options = {"ftol": 0.0, "gtol": 1e-9, "maxiter": 20_000, "maxfun": 40_000}
    found = minimize(loss, np.zeros(A.shape[1]), jac=True, method="L-BFGS-B", bounds=bounds, options=options).x
    return float(found[0]), found[first:]


def _steps(signals: pa.Table, shape: Shape) -> Floats:
    """[rows, segments]: how far a signal has gone through each segment away from its best value, 0 where NULL."""
    values = _floats(signals[shape.column])
    if shape.guard:
        values = np.where(_floats(signals[shape.guard.column]) >= shape.guard.least, values, np.nan)
    columns = []
    for left, right in zip(shape.knots, shape.knots[1:], strict=False):
        passed = np.clip((values - left) / (right - left), 0, 1)
        columns.append(passed if _worse_upwards(shape, left) else 1 - passed)
    return np.nan_to_num(np.stack(columns, axis=1), nan=0.0)


def _term(shape: Shape, sizes: Floats) -> Term:
    """Turns steps away from the best value into points."""
    worse_upwards = [_worse_upwards(shape, left) for left in shape.knots[:-1]]
    best = worse_upwards.index(True) if any(worse_upwards) else len(sizes)
    heights = [0.0] * len(shape.knots)
    for segment in range(best, len(sizes)):
        heights[segment + 1] = heights[segment] + sizes[segment]
    for segment in range(best - 1, -1, -1):
        heights[segment] = heights[segment + 1] + sizes[segment]
    points = tuple((knot, _round(height)) for knot, height in zip(shape.knots, heights, strict=True))
    return Term(column=shape.column, guard=shape.guard, points=points)


def _worse_upwards(shape: Shape, left: float) -> bool:
    direction = _directions()[shape.column]
    if direction is Direction.TWO_SIDED:
        return left >= 0
    return direction is Direction.HIGHER_IS_WORSE


def _directions() -> Mapping[str, Direction]:
    return {column.name: column.direction for signal in SIGNALS for column in signal.columns}


def _columns() -> list[str]:
    guards = [shape.guard.column for shape in SHAPES if shape.guard]
    return list(dict.fromkeys([*(shape.column for shape in (*SHAPES, CONFIDENCE)), *guards]))


def _floats(column: pa.ChunkedArray) -> Floats:
    return np.asarray(column.cast(pa.float64()).to_numpy(), dtype=np.float64)


def _round(value: float) -> float:
    return round(float(value), 4) + 0.0


def main() -> None:
    """Reads the command line, fits, writes the coefficients and the picture."""
    parser = argparse.ArgumentParser(prog="python -m mlc.making.calibrate", description="Fits the quality.")
    parser.add_argument("folder", type=Path, help="holds ntrex128 and mlqe_pe")
    parser.add_argument("--plot", type=Path, help="where the reliability plot goes")
    options = parser.parse_args()
    judged = read_judged(options.folder / "mlqe_pe")
    training = compute_signals(judged.half(0))
    text = text_rows(training, read_ntrex(options.folder / "ntrex128").rows(0, 2 * DAMAGED_EVERY), seed=SEED)
    fitted_on = "even rows of MLQE-PE (dev) and of NTREX-128, the latter as they are and damaged"
    model = fit(text, training, fitted_on)
    QUALITY_MODEL.write_text(json.dumps(model.model_dump(), indent=2) + "\n", encoding="utf-8")
    if options.plot:
        held_out = compute_signals(judged.half(1))
        plot_reliability(
            {
                "text": (quality_of(without_model(held_out), model).to_numpy(), is_good(held_out)),
                "text and log-probability": (quality_of(held_out, model).to_numpy(), is_good(held_out)),
            },
            options.plot,
        )


if __name__ == "__main__":
    main()
