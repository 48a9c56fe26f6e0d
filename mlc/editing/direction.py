"""Refusal as one direction of the residual stream, found in English and put into the weights for every language.

Arditi et al., "Refusal in Language Models Is Mediated by a Single Direction", arXiv 2406.11717; that it carries over to
other languages is claimed by arXiv 2505.17306 and disputed. Nothing is trained.

N prompts, H hidden size, m units of an MLP.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mlc.editing.architecture import editable_mlps
from mlc.editing.settings import DirectionSettings
from mlc.errors import UserError
from mlc.models.bounds import layer_index
from mlc.models.loading import Policy
from mlc.models.prefix import unwrapped
from mlc.models.prompts import encode_prompt, pad_prompts
from mlc.models.states import module_inputs, prompt_states
from mlc.prompts import LABELS
from mlc.shapes.history import Prompt
from mlc.shapes.labels import is_harmful
from mlc.stopping import ShouldStop, never, stop_if

BATCH_SIZE = 16
"""Texts in a forward pass; changes nothing but time and memory."""
FAMILIES = frozenset({"gemma", "llama", "mistral", "qwen2", "qwen3"})
"""``model_type`` of the decoders whose layers write into the residual stream as they are, with no norm in between."""


@dataclass(frozen=True)
class Direction:
    """The direction of refusal of a model, and what its edit needs."""

    layer: int
    """Index of the hidden state that it was read at; the edit that adds it is in the layer right before."""
    difference_H: Tensor
    """Float64: mean state of harmful prompts minus that of harmless ones."""
    always_m: Tensor
    """Float64: the row that gives about 1 for what the MLP of that layer holds, whatever the prompt."""
    fit: float
    """Root mean squared difference from 1 of what that row gives for the prompts; 0 is exact."""
    separation: float
    """Between 0 and 1: how often a harmful prompt lies further along the direction than a harmless one."""

    @property
    def unit_H(self) -> Tensor:
        """The direction with length 1."""
        return torch.nn.functional.normalize(self.difference_H, dim=0)


def find_direction(
    policy: Policy,
    prompts: Sequence[Prompt],
    labels: Sequence[str | None],
    settings: DirectionSettings,
    *,
    should_stop: ShouldStop = never,
) -> Direction:
    r"""Reads the difference of means at the last prompt token.

    The published way tries every layer and token of the template and keeps the best by its effect; here layer and pool
    are settings. The row :math:`u` of an edit that adds a constant solves
    :math:`\min_u \tfrac1N \sum_n (u \cdot a_n - 1)^2 + \lambda \lVert u \rVert^2`, where :math:`a_n` is what
    ``down_proj`` of the layer reads at the last prompt token and :math:`\lambda` is ``ridge`` times the mean square.

    Args:
        policy: The model.
        prompts: N in the language in which the model refuses.
        labels: [N] ``harmful``, ``harmless`` or None; rows without a label are left out.
        settings: Where the states are read.
        should_stop: Looked at before each batch.

    Raises:
        UserError: A class has no prompt, the layer does not exist, the model cannot be edited, the classes have the
            same mean, or a state is not finite.
        Stopped: It was asked to stop.
    """
    harmful_by_row = [is_harmful(label) for label in labels]
    for label in LABELS:
        if label not in labels:
            raise UserError(
                f"None of the {len(prompts)} prompts has the label {label}: a direction needs harmful and harmless "
                "ones; add prompts with that label."
            )
    layer, down = _place(policy.model, settings)
    rows = [row for row, label in enumerate(labels) if label is not None]
    states: list[Tensor] = []
    inputs: list[Tensor] = []
    for start in range(0, len(rows), BATCH_SIZE):
        stop_if(should_stop)
        part = [prompts[row] for row in rows[start : start + BATCH_SIZE]]
        for found, kept in zip(_read(policy, part, layer, down, settings), (states, inputs), strict=True):
            kept.append(found)
    states_NH, inputs_Nm = torch.cat(states).double(), torch.cat(inputs).double()
    if not bool(states_NH.isfinite().all() and inputs_Nm.isfinite().all()):
        raise UserError("The states of the model are not finite: load it in float32, and check its weights.")
    harmful_N = torch.tensor([bool(harmful_by_row[row]) for row in rows], device=states_NH.device)
    difference_H = states_NH[harmful_N].mean(dim=0) - states_NH[~harmful_N].mean(dim=0)
    if not float(difference_H.norm()) > 0:
        raise UserError("Harmful and harmless prompts have the same mean state: take another layer in direction.layer.")
    along_N = states_NH @ difference_H
    further = (along_N[harmful_N].unsqueeze(1) - along_N[~harmful_N].unsqueeze(0)).sign()
    always_m = _always(inputs_Nm, settings.ridge)
    missed_N = inputs_Nm @ always_m - 1.0
    return Direction(
        layer,
        difference_H.cpu(),
        always_m.cpu(),
        float(missed_N.square().mean().sqrt()),
        float((further + 1).mean() / 2),
    )


def _place(model: Any, settings: DirectionSettings) -> tuple[int, nn.Linear]:
    """Index of the state, and the matrix that writes into it last."""
    depth = len(editable_mlps(model))
    body = unwrapped(model).get_decoder()
    kind = body.config.model_type
    if kind not in FAMILIES:
        raise UserError(
            f"The architecture {kind!r} puts a norm between its layers and the residual stream, so that no weight adds "
            f"to it as it is: choose one of {', '.join(sorted(FAMILIES))}."
        )
    layer = layer_index(settings.layer, depth)
    if not 0 < layer < depth:
        raise UserError(
            f"The state {layer} is not written by a layer, or stands behind the last norm: set direction.layer to 1 to "
            f"{depth - 1}, or to a fraction between."
        )
    down: nn.Linear = body.layers[layer - 1].mlp.down_proj
    return layer, down


@torch.no_grad()
def _read(
    policy: Policy, prompts: Sequence[Prompt], layer: int, down: nn.Module, settings: DirectionSettings
) -> tuple[Tensor, Tensor]:
    """[N, H] states, and [N, m] what the matrix reads."""
    encoded = [encode_prompt(policy.tokenizer, prompt) for prompt in prompts]
    if settings.pool != "last" and not all(any(prompt.content) for prompt in encoded):
        raise UserError(
            f"The chat template of {policy.source.location!r} leaves nothing of a prompt: set direction.pool to last."
        )
    batch = pad_prompts(encoded, policy.pad_token).to(policy.model.device)
    given: dict[str, Any] = {"layer": layer, "pool": settings.pool, "content_mask": batch.content_mask}
    states = prompt_states(policy.model, batch.input_ids, batch.attention_mask, **given)
    (inputs,) = module_inputs(policy.model, [down], batch.input_ids, batch.attention_mask, **given)
    return states, inputs


def _always(inputs_Nm: Tensor, ridge: float) -> Tensor:
    """The row of the constant, by the dual form: there are fewer prompts than units."""
    gram_NN = inputs_Nm @ inputs_Nm.T
    count = len(gram_NN)
    penalty = ridge * gram_NN.diagonal().mean()
    ones_N = inputs_Nm.new_ones(count)
    always_m: Tensor = inputs_Nm.T @ torch.linalg.solve(
        gram_NN + penalty * torch.eye(count, dtype=gram_NN.dtype, device=gram_NN.device), ones_N
    )
    return always_m


@torch.no_grad()
def steer(model: Any, direction: Direction, settings: DirectionSettings) -> None:
    r"""Puts a direction into the weights of a model, in double precision, rounded once to their type.

    Two edits, each exactly nothing where its setting says so:

    * ``add``: :math:`W_{down} \leftarrow W_{down} + c\, r\, u^\top` in the layer that writes the state, where r is the
      difference of means. The published activation addition shifts every token by :math:`c\,r`; no weight of these
      families is a constant, so the shift is the one that u approximates (see :attr:`Direction.fit`).
    * ``scale``: :math:`W \leftarrow W + (s - 1)\, \hat r \hat r^\top W` for every matrix that writes into the residual
      stream. s = 0 is the published ablation (weight orthogonalisation), s > 1 makes the direction longer. Embeddings
      that are also the head stay as they are.

    Args:
        model: A causal language model; its weights are changed in place.
        direction: Of this model.
        settings: ``add`` and ``scale``.
    """
    body = unwrapped(model).get_decoder()
    if settings.add:
        down = body.layers[direction.layer - 1].mlp.down_proj.weight
        change = settings.add * torch.outer(direction.difference_H, direction.always_m)
        down.copy_(down.double() + change.to(down.device))
    if settings.scale == 1:
        return
    unit_H = direction.unit_H
    for weight, writes_rows in _writers(unwrapped(model), body):
        own = unit_H.to(weight.device)
        precise = weight.double()
        # An embedding writes its rows, a linear layer its columns.
        change = torch.outer(precise @ own, own) if writes_rows else torch.outer(own, own @ precise)
        weight.copy_(precise + (settings.scale - 1) * change)


@contextmanager
def steered(model: Any, direction: Direction, settings: DirectionSettings) -> Iterator[None]:
    """A model with a direction in its weights inside the block, and as it was after it, to the last bit."""
    body = unwrapped(model).get_decoder()
    changed = [weight for weight, _ in _writers(unwrapped(model), body)]
    before = [weight.detach().clone() for weight in changed]
    steer(model, direction, settings)
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, own in zip(changed, before, strict=True):
                weight.copy_(own)


def _writers(model: Any, body: Any) -> Iterator[tuple[Tensor, bool]]:
    """Weights that write into the residual stream, and whether they do it row by row."""
    embeddings, head = model.get_input_embeddings().weight, model.get_output_embeddings()
    if head is None or head.weight is not embeddings:
        yield embeddings, True
    for layer in body.layers:
        for module in (layer.self_attn.o_proj, layer.mlp.down_proj):
            yield module.weight, False
            if module.bias is not None:
                yield module.bias.unsqueeze(0), True
