"""Which layer should the consistency term read? A sweep of forward passes over parallel prompts.

Nothing is trained. Every prompt runs once in every language, the states of all layers are pooled on the way, and for
each layer there are three questions: how alike are the states of one prompt in its languages, does a translation find
its own source among all the prompts, and does a direction tell harmful from harmless prompts.

N prompts, L languages with English first, D layers, H hidden size, T tokens, P harmful and Q harmless prompts.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch

from mlc.choices import Pool
from mlc.errors import UserError
from mlc.evaluation.intervals import Floats, mean_area, wilson
from mlc.evaluation.metrics import Flags, estimate, resample_counts
from mlc.evaluation.parallel import ParallelPrompts
from mlc.evaluation.representation import pair_figures
from mlc.evaluation.results import MISSING, Estimate
from mlc.evaluation.settings import RESAMPLES
from mlc.losses import collinearity
from mlc.models.layers import pooled_layers
from mlc.models.loading import Policy
from mlc.models.prompts import EncodedPrompt, encode_prompt, pad_prompts

POOLS: tuple[Pool, ...] = get_args(Pool)
DEFAULT_BATCH_SIZE = 16
TOLERANCE = 0.02
"""Layers whose English separation is this close to the best are as good, whatever its standard error."""

_TIE = 1e-9


# States.


@torch.inference_mode()
def layer_states(
    policy: Policy,
    prompts: ParallelPrompts,
    *,
    pools: Sequence[Pool] = POOLS,
    batch_size: int = DEFAULT_BATCH_SIZE,
    on_progress: Callable[[int], None] | None = None,
) -> dict[Pool, np.ndarray]:
    """States of every prompt at every layer, all from one forward pass.

    The states of single tokens are let go after each batch, and the head is not computed.

    Args:
        policy: The model.
        prompts: What to run.
        pools: Which tokens stand for a prompt, see :func:`mlc.models.states.prompt_states`.
        batch_size: Texts in a forward pass.
        on_progress: Called with the number of texts just done.

    Returns:
        By pool, [D + 1, N, L, H] float32: at k what ``prompt_states(layer=k)`` gives; zeros for missing texts.

    Raises:
        UserError: The model is no decoder, or the chat template leaves nothing of a text whose tokens a pooling needs.
    """
    if getattr(policy.model.config, "is_encoder_decoder", False):
        raise UserError(
            f"The model {policy.source.location!r} has an encoder and a decoder, and the sweep reads decoders only: "
            "give a causal language model."
        )
    places = np.argwhere(prompts.mask)
    encoded = [encode_prompt(policy.tokenizer, prompts.texts[row][column] or "") for row, column in places]
    _check_content(policy, prompts, pools, encoded, places)
    order = sorted(range(len(encoded)), key=lambda index: (len(encoded[index].input_ids), index))
    states: np.ndarray | None = None
    for start in range(0, len(order), batch_size):
        members = order[start : start + batch_size]
        # On the right, every prompt begins at position 0, whatever the model makes of positions.
        batch = pad_prompts([encoded[index] for index in members], policy.pad_token, side="right")
        batch = batch.to(policy.model.device)
        pooled = pooled_layers(policy.model, batch, pools).cpu().numpy()
        if states is None:
            shape = (*pooled.shape[:2], *prompts.mask.shape, pooled.shape[-1])
            states = np.zeros(shape, dtype=np.float32)
        rows, columns = places[members].T
        states[:, :, rows, columns] = pooled
        if on_progress:
            on_progress(len(members))
    assert states is not None, "read_parallel gives no empty prompts"
    return {pool: states[:, place] for place, pool in enumerate(pools)}


def _check_content(
    policy: Policy,
    prompts: ParallelPrompts,
    pools: Sequence[Pool],
    encoded: Sequence[EncodedPrompt],
    places: np.ndarray,
) -> None:
    if set(pools) == {"last"}:
        return
    lost = next((place for place, prompt in zip(places, encoded, strict=True) if not any(prompt.content)), None)
    if lost is not None:
        raise UserError(
            f"The chat template of {policy.source.location!r} leaves nothing of the prompt {prompts.ids[lost[0]]!r} in "
            f"{prompts.languages[lost[1]]}, so its own tokens are not known: choose the pooling last."
        )


# Figures.


@dataclass(frozen=True)
class LanguageFigures:
    """One language at one layer."""

    language: str
    prompts: int
    """Prompts that have it."""
    matched: float
    """Mean centred cosine between a prompt's state and its English one."""
    unmatched: float
    """The same with the English states of other prompts."""
    retrieval: float
    """Share of prompts found, mean of both directions."""
    transfer: float
    """AUROC of the English direction in this language; NaN without labels."""


@dataclass(frozen=True)
class LayerFigures:
    """One layer under one pooling. Means over languages weigh languages equally; intervals are over prompts."""

    layer: int
    """Index as in ``align.consistency.layer``: 0 = embeddings, D = after the last layer and the final norm."""
    pool: Pool
    collinearity: float
    """Mean over prompts of sigma_1^2 / rows, of the raw states, English included; blind to sign."""
    centred_collinearity: float
    """The same after the mean English state is subtracted; 0 where nothing is left after that."""
    matched: float
    """Mean over the languages of :attr:`LanguageFigures.matched`."""
    unmatched: float
    retrieval: Estimate
    """Mean over the languages of :attr:`LanguageFigures.retrieval`."""
    separation: Estimate
    """AUROC of harmful against harmless English prompts; without labels ``n`` is 0."""
    separation_error: float
    """Its standard error."""
    transfer: Estimate
    """Mean over the languages of :attr:`LanguageFigures.transfer`."""
    languages: tuple[LanguageFigures, ...]
    """Without English."""


def measure_layer(states: np.ndarray, prompts: ParallelPrompts, *, layer: int, pool: Pool) -> LayerFigures:
    """Computes the figures of one layer.

    Args:
        states: [N, L, H], of any value where a text is missing.
        prompts: Of these prompts.
        layer: Index of the layer, handed through.
        pool: How the states were pooled, handed through.
    """
    states, mask = states.astype(np.float64), prompts.mask
    harmful = np.array([label == "harmful" for label in prompts.labels])
    harmless = np.array([label == "harmless" for label in prompts.labels])
    counts = resample_counts(harmful, RESAMPLES)
    raw, centred = (_collinearity(states - shift, mask) for shift in (0.0, states[:, 0].mean(axis=0)))

    def separation(column: int) -> Floats:
        if not prompts.separable:
            return np.full(len(counts), np.nan)
        pairs = leave_pair_out(
            states[harmful, 0], states[harmless, 0], states[harmful, column], states[harmless, column]
        )
        there = mask[harmful, column][:, None] & mask[harmless, column]
        return _pair_means(pairs, there, counts[:, harmful], counts[:, harmless])

    figures, found, transferred = [], [], []
    for column, language in enumerate(prompts.languages[1:], start=1):
        rows = mask[:, column]
        english, other = states[rows, 0], states[rows, column]
        agreement = pair_figures(english, other)
        found.append(_means(retrieval_hits(english, other), counts[:, rows]))
        transferred.append(separation(column))
        figures.append(
            LanguageFigures(
                language=language,
                prompts=len(english),
                matched=float(agreement.matched.mean()),
                unmatched=agreement.unmatched,
                retrieval=float(found[-1][0]),
                transfer=float(transferred[-1][0]),
            )
        )
    in_english, of_each = separation(0), (int(harmful.sum()), int(harmless.sum()))
    return LayerFigures(
        layer=layer,
        pool=pool,
        collinearity=raw,
        centred_collinearity=centred,
        matched=float(np.mean([figure.matched for figure in figures])),
        unmatched=float(np.mean([figure.unmatched for figure in figures])),
        retrieval=_rate(_over_languages(found), int(mask[:, 1:].any(axis=1).sum())),
        separation=mean_area(in_english, *of_each),
        separation_error=_standard_error(in_english),
        transfer=mean_area(_over_languages(transferred), *of_each),
        languages=tuple(figures),
    )


def retrieval_hits(english: np.ndarray, other: np.ndarray) -> Floats:
    """Whether each translation's nearest English state is that of its own source, and the reverse.

    Neighbours are the nearest by cosine, after each language's own mean state is subtracted: the last prompt token is
    the template's and its raw states are nearly collinear, and an offset that all prompts of a language share would
    pull all of them to the same few neighbours (cf. Libovický et al., arXiv 2004.05160, who centre languages for the
    same reason). So an offset between the languages does not count here; it does count in the cosines.

    Args:
        english: [n, H].
        other: [n, H], same prompts in the same order.

    Returns:
        [n], mean over the two directions of 1 for found and 0 for not found; k equally near states give 1 / k.
        Chance is 1 / n.
    """
    left, right = (_unit(states - states.mean(axis=0)) for states in (english, other))
    cosines = left @ right.T
    hits: Floats = (_own_is_first(cosines) + _own_is_first(cosines.T)) / 2
    return hits


def leave_pair_out(
    fit_harmful: np.ndarray, fit_harmless: np.ndarray, harmful: np.ndarray, harmless: np.ndarray
) -> Floats:
    """Whether a direction puts each harmful prompt above each harmless one, without having seen either.

    The direction is the difference of the mean states of the classes. For a pair it is taken from all the prompts but
    these two (leave-pair-out, Airola et al., "An experimental comparison of cross-validation techniques for estimating
    the area under the ROC curve", 2011), so that nothing is scored by a direction that was fitted on it, in whatever
    language, and chance is exactly one half. The mean over the pairs is the AUROC.

    Args:
        fit_harmful: [P, H] states to fit on, at least 2.
        fit_harmless: [Q, H], at least 2.
        harmful: [P, H] states to score, same prompts in the same order.
        harmless: [Q, H].

    Returns:
        [P, Q], 1 where the harmful one is above, 0 where it is below, .5 where they are equal.
    """
    # Only differences count, so the common part, which is most of a raw state, can go.
    center, scored_center = fit_harmful.mean(axis=0), harmful.mean(axis=0)
    toward, away = (_mean_of_others(states - center) for states in (fit_harmful, fit_harmless))
    above, below = harmful - scored_center, harmless - scored_center
    parts = (
        (above * toward).sum(axis=1)[:, None],
        -above @ away.T,
        -toward @ below.T,
        (below * away).sum(axis=1)[None, :],
    )
    margin: Floats = sum(parts[1:], start=parts[0])
    scale = max(float(np.abs(part).max()) for part in parts)
    order: Floats = np.where(np.abs(margin) <= _TIE * scale, 0.5, (margin > 0).astype(np.float64))
    return order


def _mean_of_others(states: np.ndarray) -> np.ndarray:
    """[n, H] the mean of all rows but the row itself."""
    others: np.ndarray = (states.sum(axis=0) - states) / (len(states) - 1)
    return others


def _collinearity(states: np.ndarray, mask: Flags) -> float:
    several = mask.sum(axis=1) > 1
    # The loss knows missing rows; what is in them must only be finite.
    rows = torch.from_numpy(np.where(mask[..., None], states, 0.0)[several])
    return float(collinearity(rows, torch.from_numpy(mask[several])).mean())


def _unit(rows: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: np.ndarray = rows / np.where(norm > 0, norm, 1.0)
    return unit


def _own_is_first(cosines: np.ndarray) -> Floats:
    nearest = cosines >= cosines.max(axis=1, keepdims=True) - _TIE
    first: Floats = nearest.diagonal() / nearest.sum(axis=1)
    return first


def _means(values: Floats, counts: Floats) -> Floats:
    """[1 + R] means in every resample; NaN where a resample holds none of the prompts."""
    total = counts.sum(axis=1)
    means: Floats = np.full(len(counts), np.nan)
    np.divide(counts @ values, total, out=means, where=total > 0)
    return means


def _pair_means(pairs: Floats, there: Flags, harmful: Floats, harmless: Floats) -> Floats:
    """[1 + R] means over the pairs that are there, in every resample."""
    total = ((harmful @ there) * harmless).sum(axis=1)
    means: Floats = np.full(len(total), np.nan)
    np.divide(((harmful @ (pairs * there)) * harmless).sum(axis=1), total, out=means, where=total > 0)
    return means


def _over_languages(draws: Sequence[Floats]) -> Floats:
    """[1 + R] means over the languages that a resample has."""
    stacked = np.stack(draws)
    there = ~np.isnan(stacked)
    means: Floats = np.full(stacked.shape[1], np.nan)
    np.divide(np.where(there, stacked, 0.0).sum(axis=0), there.sum(axis=0), out=means, where=there.any(axis=0))
    return means


def _standard_error(draws: Floats) -> float:
    resampled = draws[1:][~np.isnan(draws[1:])]
    return float(resampled.std(ddof=1)) if len(resampled) > 1 else float("nan")


def _rate(draws: Floats, prompts: int) -> Estimate:
    # No resample sees beyond a rate of 0 or 1.
    if draws[0] in (0.0, 1.0):
        return wilson(round(draws[0] * prompts), prompts)
    return estimate(draws, prompts) if prompts else MISSING


# Recommendation.


@dataclass(frozen=True)
class Recommendation:
    """A layer and a pooling, and how they were chosen."""

    layer: int
    pool: Pool
    share: float
    """Share of the model's layers that the term computes there; the head is never computed."""
    rule: str
    """The rule with its numbers, in one sentence."""


@dataclass(frozen=True)
class Sweep:
    """The figures of every layer, and what follows from them."""

    depth: int
    """D."""
    figures: tuple[LayerFigures, ...]
    """By pooling, then by layer from 0 to D."""
    recommended: Recommendation
    by_pool: Mapping[Pool, Recommendation]
    """What is recommended where the pooling is given."""

    def at(self, choice: Recommendation) -> LayerFigures:
        """The figures of a layer that was chosen."""
        return next(one for one in self.figures if (one.layer, one.pool) == (choice.layer, choice.pool))


def sweep_layers(
    policy: Policy,
    prompts: ParallelPrompts,
    *,
    pools: Sequence[Pool] = POOLS,
    batch_size: int = DEFAULT_BATCH_SIZE,
    on_texts: Callable[[int], None] | None = None,
    on_layer: Callable[[int], None] | None = None,
) -> Sweep:
    """Measures every layer and recommends one.

    Args:
        policy: The model, as it is before alignment.
        prompts: At least :data:`MIN_PROMPTS` in each language, see :func:`choose_prompts`.
        pools: Poolings to compare.
        batch_size: Texts in a forward pass; does not change results.
        on_texts: Called with the number of texts just run.
        on_layer: Called with the number of layers just measured, each pooling by itself.

    Raises:
        UserError: A pooling needs tokens that the chat template does not leave.
    """
    states = layer_states(policy, prompts, pools=pools, batch_size=batch_size, on_progress=on_texts)
    figures = []
    for pool, by_layer in states.items():
        for layer, one in enumerate(by_layer):
            figures.append(measure_layer(one, prompts, layer=layer, pool=pool))
            if on_layer:
                on_layer(1)
    depth = max(one.layer for one in figures)
    return Sweep(
        depth=depth,
        figures=tuple(figures),
        recommended=recommend(figures, depth),
        by_pool={pool: recommend((one for one in figures if one.pool == pool), depth) for pool in pools},
    )


def recommend(figures: Iterable[LayerFigures], depth: int) -> Recommendation:
    """Chooses a layer from forward passes alone: a heuristic, no proof that alignment there carries anything over.

    Left aside are the embeddings, and the last entry, which stands after the final norm and serves the next token.
    Of the others, those layers count whose English separation is within one standard error of the best one (the
    one-standard-error rule of Breiman et al., "Classification and Regression Trees", 1984), or within
    :data:`TOLERANCE` if that is more: where English itself does not tell harmful from harmless there is nothing to
    carry over. Of these the one with the highest retrieval wins; if several are equal in two digits, the lowest,
    which is the cheapest; then the pooling that stands first. Without labels retrieval alone decides.

    Args:
        figures: Of all layers, under one or more poolings.
        depth: D.

    Raises:
        ValueError: There is no layer to choose from.
    """
    every = list(figures)
    candidates = [one for one in every if 0 < one.layer < depth] or [one for one in every if one.layer == depth > 0]
    if not candidates:
        raise ValueError("figures must hold a layer above the embeddings.")
    layers = f"layers {candidates[0].layer} to {candidates[-1].layer}"
    if len({one.pool for one in candidates}) > 1:
        layers += " under every pooling"
    last = "the one with the highest retrieval, and the lowest if several are equal in two digits"
    if candidates[0].separation.n:
        best = max(one.separation.value for one in candidates)
        margin = max([TOLERANCE, *(one.separation_error for one in candidates if one.separation.value == best)])
        candidates = [one for one in candidates if one.separation.value >= best - margin]
        near = f"{margin:.2f} of the best, {best:.2f}".replace("0.", ".")
        rule = f"of {layers}, those whose English separation is within {near}; of these {last}"
    else:
        rule = f"of {layers}, {last}; without labels separation had no say"
    chosen = min(candidates, key=lambda one: (-round(one.retrieval.value, 2), one.layer, POOLS.index(one.pool)))
    return Recommendation(chosen.layer, chosen.pool, chosen.layer / depth, rule)
