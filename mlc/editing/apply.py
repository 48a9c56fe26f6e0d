"""Deltas in a model: applied, taken out again to the last bit, or merged into a checkpoint."""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mlc.editing.architecture import editable_mlps
from mlc.editing.delta import EditDelta, Place, Shape
from mlc.errors import UserError
from mlc.models.loading import Policy, load_policy, save_policy
from mlc.models.prefix import unwrapped
from mlc.models.sources import ModelSource

EDITS_FOLDER = "edits"
"""In a merged checkpoint: the deltas, and the rows as they were."""
ORIGINALS_FILE = "originals.safetensors"
EDITS_FILE = "edits.json"


class AppliedEdit:
    """Deltas that are in a model, and the rows of its weights as they were before.

    Args:
        model: A causal language model; its weights are changed in place.
        deltas: What to add. Where several change the same weights, their sum is added, rounded once.

    Raises:
        UserError: A delta does not fit the model.
    """

    def __init__(self, model: Any, deltas: Sequence[EditDelta]) -> None:
        mlps = editable_mlps(model)
        shape = Shape.of(unwrapped(model), mlps)
        for delta in deltas:
            _require_fit(delta, shape)
        self._weights = {
            (layer, projection): mlps[layer].projection(projection).weight
            for delta in deltas
            for layer, projection in delta.parts
        }
        self.units: dict[Place, Tensor] = {}
        """Units that are changed, sorted."""
        self.originals: dict[Place, Tensor] = {}
        """[m, D], the rows of the weights as they were, in their own type."""
        self._edited: dict[Place, Tensor] = {}
        for place, weight in self._weights.items():
            parts = [delta.parts[place] for delta in deltas if place in delta.parts]
            units_m = torch.unique(torch.cat([part.units_m for part in parts])).to(weight.device)
            before_mD = weight.detach()[units_m].clone()
            after_mD = before_mD.double()
            for part in parts:
                rows = torch.searchsorted(units_m, part.units_m.to(weight.device))
                after_mD[rows] += part.change().to(weight.device)
            self.units[place], self.originals[place] = units_m, before_mD
            self._edited[place] = after_mD.to(weight.dtype)
        self.active = False
        """Whether the edit is in the model now."""
        self.enable()

    def enable(self) -> None:
        """Puts the edit into the model (again)."""
        if not self.active:
            self._write(self._edited)
            self.active = True

    def revert(self) -> None:
        """Takes the edit out: the weights are bit for bit what they were.

        Raises:
            ValueError: The edited rows were changed since, so that they cannot be put back without losing that.
        """
        if not self.active:
            return
        for place, weight in self._weights.items():
            if not _same_bits(weight.detach()[self.units[place]], self._edited[place]):
                raise ValueError(
                    f"the {place[1]} of layer {place[0]} was changed after this edit was applied; revert later edits "
                    "first."
                )
        self._write(self.originals)
        self.active = False

    @torch.no_grad()
    def _write(self, rows: dict[Place, Tensor]) -> None:
        for place, weight in self._weights.items():
            weight[self.units[place]] = rows[place]


def apply_deltas(model: Any, deltas: Sequence[EditDelta]) -> AppliedEdit:
    """Adds deltas to a model's weights, in double precision, rounded once to their type.

    Args:
        model: A causal language model of transformers; changed in place.
        deltas: The deltas; the sum does not depend on their order.

    Returns:
        A handle whose ``revert`` takes them out again to the last bit.

    Raises:
        UserError: A delta does not fit the model.
    """
    return AppliedEdit(model, deltas)


@contextmanager
def edited(model: Any, deltas: Sequence[EditDelta]) -> Iterator[AppliedEdit]:
    """A model with deltas applied inside the block, and as it was after it."""
    applied = apply_deltas(model, deltas)
    try:
        yield applied
    finally:
        applied.revert()


def merge_deltas(policy: Policy, deltas: Sequence[EditDelta], folder: Path, *, dtype: torch.dtype) -> None:
    """Writes an ordinary checkpoint with the deltas in its weights.

    The folder ``edits`` beside the weights holds the deltas and the rows as they were, for :func:`unmerge`.

    Args:
        policy: The unedited model; the same afterwards.
        deltas: What to merge.
        folder: Folder to write into.
        dtype: Type of the saved weights.

    Raises:
        UserError: A delta does not fit the model.
    """
    from safetensors.torch import save_file

    with edited(policy.model, deltas) as applied:
        save_policy(policy, folder, dtype=dtype)
        tensors = {}
        for (layer, projection), units_m in applied.units.items():
            name = f"layers.{layer}.{projection}"
            tensors[f"{name}.units"] = units_m.cpu()
            tensors[f"{name}.rows"] = applied.originals[layer, projection].to("cpu", dtype).contiguous()
    edits = folder / EDITS_FOLDER
    edits.mkdir(exist_ok=True)
    save_file(tensors, edits / ORIGINALS_FILE)
    for number, delta in enumerate(deltas):
        delta.save(edits / f"{number:03d}-{'-'.join(delta.languages)}")
    told = {"languages": [list(delta.languages) for delta in deltas], "dtype": str(dtype).removeprefix("torch.")}
    (edits / EDITS_FILE).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def unmerge(source: ModelSource, folder: Path) -> list[str]:
    """Takes the edits out of a checkpoint that :func:`merge_deltas` wrote.

    The weights are bit for bit those that saving the unedited model in the same type gives.

    Args:
        source: The merged checkpoint.
        folder: Folder to write the unedited one into.

    Returns:
        Languages of the deltas that were taken out.

    Raises:
        UserError: It is no merged checkpoint, or a part of it is missing.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    edits = Path(source.target) / EDITS_FOLDER
    try:
        told = json.loads((edits / EDITS_FILE).read_text(encoding="utf-8"))
        tensors = load_file(edits / ORIGINALS_FILE)
        dtype = getattr(torch, told["dtype"])
        languages = [code for codes in told["languages"] for code in codes]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError):
        raise UserError(
            f"The model {source.location!r} holds no edit that can be taken out (no whole folder {EDITS_FOLDER!r} in "
            "it): give a checkpoint that deltas were merged into."
        ) from None
    policy = load_policy(source, dtype=dtype, device="cpu")
    mlps = editable_mlps(policy.model)
    with torch.no_grad():
        for name, units_m in tensors.items():
            if name.endswith(".units"):
                _, layer, projection, _ = name.split(".")
                rows = tensors[name.removesuffix("units") + "rows"]
                getattr(mlps[int(layer)], projection).weight[units_m] = rows
    save_policy(policy, folder, dtype=dtype)
    shutil.rmtree(folder / EDITS_FOLDER, ignore_errors=True)
    return languages


def _require_fit(delta: EditDelta, shape: Shape) -> None:
    if delta.shape == shape:
        return
    mine, theirs = vars(delta.shape), vars(shape)
    name = next(name for name in mine if mine[name] != theirs[name])
    raise UserError(
        f"The delta for {', '.join(delta.languages)} was computed for a model with {name} {mine[name]}, and this one "
        f"has {theirs[name]}: apply it to the model that it was computed for."
    )


def _same_bits(first: Tensor, second: Tensor) -> bool:
    # Compared as bytes, because NaN differs from itself and −0 equals 0.
    return torch.equal(first.contiguous().view(torch.uint8), second.contiguous().view(torch.uint8))
