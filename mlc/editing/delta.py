"""A delta: the edit of a model as low-rank factors and unit indices, apart from the model.

Shapes: D width of the MLP's input, m safety units, r rank. In the notation of the paper ΔW = left · right is added to
the columns S of W; a linear layer of torch holds W transposed, so there the rows S are changed.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mlc.editing.architecture import PROJECTIONS, EditableMLP, Projection
from mlc.errors import UserError
from mlc.store.hashing import digest_file

DELTA_FILE = "delta.safetensors"
MANIFEST_FILE = "delta.json"
VERSION = 1
"""Of the format."""

Place = tuple[int, Projection]
"""A layer, counted from 0, and one of its projections."""


@dataclass(frozen=True)
class Shape:
    """What a model must have for a delta to fit."""

    family: str
    """``model_type`` of its configuration."""
    layers: int
    width: int
    """D."""
    units: int
    """Units of each projection."""

    @classmethod
    def of(cls, model: Any, mlps: Sequence[EditableMLP]) -> "Shape":
        """The shape of a model."""
        kind = model.config.get_text_config().model_type
        return cls(kind, len(mlps), mlps[0].width, mlps[0].units)


@dataclass(frozen=True)
class ProjectionDelta:
    """The edit of one projection."""

    units_m: Tensor
    """Sorted int64."""
    left_Dr: Tensor
    """Float64."""
    right_rm: Tensor
    """Float64."""

    @property
    def rank(self) -> int:
        """The number r of directions."""
        return len(self.right_rm)

    def change(self) -> Tensor:
        """What is added to the rows of a linear layer's weight, [m, D] float64."""
        return (self.left_Dr @ self.right_rm).T

    def truncated(self, rank: int) -> "ProjectionDelta":
        """The best edit of a lower rank, which holds the leading directions of this one."""
        return ProjectionDelta(self.units_m, self.left_Dr[:, :rank], self.right_rm[:rank])


@dataclass(frozen=True)
class EditDelta:
    """The edit of a model."""

    shape: Shape
    """Of the model that it was computed for."""
    languages: tuple[str, ...]
    """NLLB codes of the languages that it repairs."""
    parts: Mapping[Place, ProjectionDelta]
    """Projections without a safety unit, or without anything to repair, are not there."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Plain data: settings, numbers of prompts, units by layer; see :func:`mlc.editing.compute.compute_edit`."""

    @property
    def empty(self) -> bool:
        """Whether it changes nothing."""
        return not self.parts

    def truncated(self, rank: int) -> "EditDelta":
        """The same edit with a lower rank."""
        parts = {place: part.truncated(rank) for place, part in self.parts.items()}
        return EditDelta(self.shape, self.languages, parts, self.facts)

    def save(self, folder: Path) -> None:
        """Writes ``delta.safetensors`` and, last, ``delta.json``.

        Args:
            folder: Made if it is not there.
        """
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        tensors = {}
        for (layer, projection), part in sorted(self.parts.items()):
            for name, tensor in vars(part).items():
                tensors[f"layers.{layer}.{projection}.{name}"] = tensor.cpu().contiguous()
        save_file(tensors, folder / DELTA_FILE)
        manifest = {
            "version": VERSION,
            "sha256": digest_file(folder / DELTA_FILE),
            "shape": asdict(self.shape),
            "languages": list(self.languages),
            "facts": dict(self.facts),
        }
        text = json.dumps(manifest, indent=1, ensure_ascii=False, allow_nan=False)
        (folder / MANIFEST_FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "EditDelta":
        """Reads what :meth:`save` wrote.

        Raises:
            UserError: It is not there, or damaged.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            manifest = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
            if manifest["version"] != VERSION:
                raise UserError(
                    f"The delta {str(folder)!r} has format {manifest['version']!r}, and format {VERSION} is read here: "
                    "compute it again."
                )
            if digest_file(folder / DELTA_FILE) != manifest["sha256"]:
                raise ValueError
            tensors = load_file(folder / DELTA_FILE)
            places = dict.fromkeys(_place(name) for name in tensors)
            parts = {place: _part(tensors, place) for place in places}
            return cls(Shape(**manifest["shape"]), tuple(manifest["languages"]), parts, manifest["facts"])
        except UserError:
            raise
        except FileNotFoundError:
            raise UserError(
                f"The folder {str(folder)!r} holds no delta: it needs {MANIFEST_FILE} and {DELTA_FILE}."
            ) from None
        except (OSError, ValueError, KeyError, TypeError, SafetensorError):
            raise UserError(f"The delta {str(folder)!r} is damaged: compute it again, or copy it again.") from None


@dataclass(frozen=True)
class Overlap:
    """How far two deltas meet in one projection."""

    first: str
    second: str
    """Languages of the two."""
    layer: int
    projection: Projection
    shared: int
    """Units that both change."""
    jaccard: float
    """Shared units over all units of both."""
    cosine: float
    """Of the two changes as vectors, zero outside their units: 1 = the same change, so that both together overshoot;
    0 = they do not touch each other."""


def overlaps(deltas: Sequence[EditDelta]) -> list[Overlap]:
    """Every pair of deltas in every projection that both change."""
    return list(_overlaps(deltas))


def _overlaps(deltas: Sequence[EditDelta]) -> Iterator[Overlap]:
    for one, two in combinations(deltas, 2):
        for place in sorted(one.parts.keys() & two.parts.keys()):
            first, second = one.parts[place], two.parts[place]
            both, mine, theirs = _shared(first.units_m, second.units_m)
            if not len(both):
                continue
            # ⟨A₁B₁, A₂B₂⟩ over the shared units, without the dense matrices.
            inner = (
                (first.left_Dr.T @ second.left_Dr) * (first.right_rm[:, mine] @ second.right_rm[:, theirs].T)
            ).sum()
            either = len(first.units_m) + len(second.units_m) - len(both)
            yield Overlap(
                ", ".join(one.languages),
                ", ".join(two.languages),
                *place,
                len(both),
                len(both) / either,
                float(inner / size) if (size := _size(first) * _size(second)) else 0.0,
            )


def _size(part: ProjectionDelta) -> Tensor:
    return ((part.left_Dr.T @ part.left_Dr) * (part.right_rm @ part.right_rm.T)).sum().sqrt()


def _shared(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    mine = torch.isin(first, second)
    theirs = torch.isin(second, first)
    # Both are sorted, so what they share is in the same order.
    return first[mine], mine.nonzero().flatten(), theirs.nonzero().flatten()


def _place(name: str) -> Place:
    _, layer, projection, _ = name.split(".")
    if projection not in PROJECTIONS:
        raise ValueError(projection)
    return int(layer), projection


def _part(tensors: Mapping[str, Tensor], place: Place) -> ProjectionDelta:
    layer, projection = place
    fields = ProjectionDelta.__dataclass_fields__
    return ProjectionDelta(*(tensors[f"layers.{layer}.{projection}.{name}"] for name in fields))
