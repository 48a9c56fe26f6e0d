"""One pass over the prompts: the inputs of the MLPs, and what units and edits need of them.

N prompts, T tokens, D width of an MLP's input.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from mlc.choices import Pool
from mlc.editing.apply import AppliedEdit
from mlc.editing.architecture import PROJECTIONS, EditableMLP, editable_mlps
from mlc.editing.settings import EditSettings
from mlc.editing.solve import EditStatistics
from mlc.editing.units import UnitStatistics
from mlc.errors import UserError
from mlc.evaluation.parallel import ParallelPrompts
from mlc.models.loading import Policy
from mlc.models.modes import asked_only
from mlc.models.prompts import EncodedPrompt, encode_prompt, pad_prompts
from mlc.models.states import module_inputs
from mlc.shapes.history import whole_text
from mlc.stopping import ShouldStop, never, stop_if

BATCH_SIZE = 16
"""Texts in a forward pass; changes nothing but time and memory."""


@dataclass
class LayerStatistics:
    """What is kept of the prompts for one layer."""

    units: dict[str, UnitStatistics]
    """By language, English first."""
    edit: EditStatistics
    """Over all languages but English."""


def check_prompts(prompts: ParallelPrompts, settings: EditSettings) -> None:
    """Checks that there is enough to edit with, before anything is computed.

    Raises:
        UserError: A class is empty, a language has no parallel prompts, or there are fewer pairs than the rank.
    """
    if len(prompts.languages) < 2:
        raise UserError(
            f"The prompts are in {', '.join(prompts.languages) or 'no language'}: an edit needs English and another "
            "language; add a column for each."
        )
    for label in ("harmful", "harmless"):
        if label not in prompts.labels:
            raise UserError(
                f"None of the {len(prompts.ids)} prompts has the label {label}: an edit needs harmful and harmless "
                "ones; add prompts with that label."
            )
    pairs = 0
    for column, language in enumerate(prompts.languages[1:], start=1):
        harmful, harmless = (_count(prompts, label, column) for label in ("harmful", "harmless"))
        if not harmful:
            raise UserError(
                f"The language {language} has no harmful prompt with a parallel English row: add translations of "
                "harmful prompts, or leave the language out."
            )
        if not harmless and settings.harmless == "both":
            raise UserError(
                f"The language {language} has no harmless prompt, which the edit should leave alone: add translations "
                "of harmless prompts, or set harmless to english."
            )
        pairs += harmful
    if pairs < settings.rank:
        raise UserError(
            f"There are {pairs} harmful prompts in {', '.join(prompts.languages[1:])}, fewer than the rank "
            f"{settings.rank}: lower the rank to {pairs} or less, or add prompts."
        )


def _count(prompts: ParallelPrompts, label: str, column: int) -> int:
    return sum(
        found == label and texts[column] is not None for found, texts in zip(prompts.labels, prompts.texts, strict=True)
    )


def collect_statistics(
    policy: Policy,
    prompts: ParallelPrompts,
    layers: Sequence[int],
    settings: EditSettings,
    *,
    applied: Sequence[AppliedEdit] = (),
    batch_size: int = BATCH_SIZE,
    on_texts: Callable[[int], None] | None = None,
    should_stop: ShouldStop = never,
) -> dict[int, LayerStatistics]:
    """Reads every prompt once and keeps sums only.

    Args:
        policy: The model.
        prompts: Parallel prompts with labels, English first; rows without a label are left out.
        layers: Numbers from 0.
        settings: Pooling, and whose harmless prompts count.
        applied: Edits of earlier layers that are in the model now. The target, English on harmful prompts, is read
            without them.
        batch_size: Texts in a forward pass.
        on_texts: Called with the number of texts just read.
        should_stop: Looked at before each batch.

    Returns:
        Statistics by layer.

    Raises:
        UserError: The model cannot be edited, the chat template drops a text whose own tokens are asked for, or an
            activation is not finite.
        Stopped: It was asked to stop.
    """
    everything = editable_mlps(policy.model)
    mlps = [everything[layer] for layer in layers]
    found = {mlp.layer: _empty(mlp, prompts.languages) for mlp in mlps}
    reader = _Reader(policy, mlps, settings.pool)
    for label in ("harmful", "harmless"):
        harmful = label == "harmful"
        for rows in _batches(policy, prompts, label, batch_size):
            stop_if(should_stop)
            with _without(applied if harmful else ()):
                english = reader.read(prompts, rows, 0)
            _add_units(found, mlps, prompts.languages[0], english, harmful=harmful)
            if not harmful:
                _add_protected(found, english)
            elif settings.protect_english:
                # Earlier edits stand between what the target is and what this layer sees.
                _add_protected(found, reader.read(prompts, rows, 0) if applied else english)
            for column, language in enumerate(prompts.languages[1:], start=1):
                there = [place for place, row in enumerate(rows) if prompts.texts[row][column] is not None]
                if not there:
                    continue
                other = reader.read(prompts, [rows[place] for place in there], column)
                _add_units(found, mlps, language, other, harmful=harmful)
                if harmful:
                    for layer, inputs_ND in other.items():
                        found[layer].edit.add_harmful(inputs_ND, english[layer][there])
                elif settings.harmless == "both":
                    _add_protected(found, other)
            if on_texts:
                on_texts(sum(text is not None for row in rows for text in prompts.texts[row]))
    return found


def _empty(mlp: EditableMLP, languages: Sequence[str]) -> LayerStatistics:
    device = mlp.gate_proj.weight.device
    return LayerStatistics(
        {language: UnitStatistics.empty(mlp.units, device) for language in languages},
        EditStatistics.empty(mlp.width, device),
    )


def _batches(policy: Policy, prompts: ParallelPrompts, label: str, size: int) -> Iterator[list[int]]:
    """Rows of a class, those of like length together."""
    rows = [row for row, found in enumerate(prompts.labels) if found == label]
    rows.sort(key=lambda row: (len(whole_text(prompts.texts[row][0] or "")), row))
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


@torch.no_grad()
def _add_units(
    found: dict[int, LayerStatistics],
    mlps: Sequence[EditableMLP],
    language: str,
    inputs: dict[int, Tensor],
    *,
    harmful: bool,
) -> None:
    for mlp in mlps:
        statistics = found[mlp.layer].units[language]
        for name in PROJECTIONS:
            statistics.add(name, mlp.projection(name)(inputs[mlp.layer]), harmful=harmful)


def _add_protected(found: dict[int, LayerStatistics], inputs: dict[int, Tensor]) -> None:
    for layer, inputs_ND in inputs.items():
        found[layer].edit.add_protected(inputs_ND)


@contextmanager
def _without(applied: Sequence[AppliedEdit]) -> Iterator[None]:
    for one in reversed(applied):
        one.revert()
    try:
        yield
    finally:
        for one in applied:
            one.enable()


@dataclass
class _Reader:
    """Reads the pooled inputs of MLPs."""

    policy: Policy
    mlps: Sequence[EditableMLP]
    pool: Pool

    @torch.no_grad()
    def read(self, prompts: ParallelPrompts, rows: Sequence[int], column: int) -> dict[int, Tensor]:
        """[N, D] by layer, for some prompts in one language."""
        encoded = [encode_prompt(self.policy.tokenizer, prompts.texts[row][column] or "") for row in rows]
        names = [f"{prompts.ids[row]!r} in {prompts.languages[column]}" for row in rows]
        if self.pool != "last":
            self._check_content(encoded, names)
        inputs = mlp_inputs(self.policy, encoded, self.mlps, self.pool)
        for layer, inputs_ND in inputs.items():
            finite = inputs_ND.isfinite().all(dim=1)
            if not bool(finite.all()):
                name = names[int(finite.int().argmin())]
                raise UserError(
                    f"The activations of layer {layer} are not finite for the prompt {name}: check the weights of the "
                    "model, and load it in float32 or bfloat16."
                )
        return inputs

    def _check_content(self, encoded: Sequence[EncodedPrompt], names: Sequence[str]) -> None:
        for prompt, name in zip(encoded, names, strict=True):
            if not any(prompt.content):
                raise UserError(
                    f"The chat template of {self.policy.source.location!r} leaves nothing of the prompt {name}, so its "
                    "own tokens are not known: set pool to last."
                )


@torch.no_grad()
def mlp_inputs(
    policy: Policy, prompts: Sequence[EncodedPrompt], mlps: Sequence[EditableMLP], pool: Pool
) -> dict[int, Tensor]:
    """The input of each MLP, one vector a prompt; layers above the last of them are not computed.

    The projections are linear, so that the mean of their outputs over tokens is their output for the mean input.

    Args:
        policy: The model.
        prompts: At least one.
        mlps: From :func:`mlc.editing.architecture.editable_mlps`.
        pool: As in :func:`mlc.models.states.prompt_states`.

    Returns:
        [N, D] by layer, in the model's type.
    """
    batch = pad_prompts(prompts, policy.pad_token, side="left").to(policy.model.device)
    with asked_only(policy.model):
        inputs = module_inputs(
            policy.model,
            [mlp.gate_proj for mlp in mlps],
            batch.input_ids,
            batch.attention_mask,
            layer=max(mlp.layer for mlp in mlps) + 1,
            pool=pool,
            content_mask=batch.content_mask,
        )
    return dict(zip((mlp.layer for mlp in mlps), inputs, strict=True))
