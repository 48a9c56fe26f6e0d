"""The MLPs that can be edited: ``down(act(gate(x)) * up(x))``, with the plain linear layers of transformers."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

from torch import nn

from mlc.errors import UserError
from mlc.models.prefix import unwrapped

Projection = Literal["gate_proj", "up_proj"]
PROJECTIONS: tuple[Projection, ...] = get_args(Projection)
FAMILIES = frozenset({"gemma", "gemma2", "gemma3_text", "llama", "mistral", "qwen2", "qwen3"})
"""``model_type`` of the decoders whose MLPs can be edited; the tests edit one of each."""


@dataclass(frozen=True)
class EditableMLP:
    """The two projections of one layer whose units are edited."""

    layer: int
    """Counted from 0."""
    gate_proj: nn.Linear
    up_proj: nn.Linear

    def projection(self, name: Projection) -> nn.Linear:
        """One of the two."""
        return self.gate_proj if name == "gate_proj" else self.up_proj

    @property
    def width(self) -> int:
        """Size of the input of both."""
        return self.gate_proj.in_features

    @property
    def units(self) -> int:
        """Units of each of the two."""
        return self.gate_proj.out_features


def editable_mlps(model: Any) -> tuple[EditableMLP, ...]:
    """The MLPs of a causal language model, first layer first.

    Raises:
        UserError: The model is quantised, holds adapters, or is of a family whose MLPs are not known.
    """
    model = unwrapped(model)
    config = getattr(model, "config", None)
    if getattr(config, "quantization_config", None) is not None or getattr(model, "is_quantized", False):
        raise UserError("The model is quantised, and weights of few bits cannot be edited: load it unquantised.")
    body = model.get_decoder() if hasattr(model, "get_decoder") else model
    kind = getattr(getattr(body, "config", None), "model_type", None) or type(model).__name__
    if kind not in FAMILIES:
        raise UserError(f"The architecture {kind!r} cannot be edited: choose one of {', '.join(sorted(FAMILIES))}.")
    found = []
    for number, layer in enumerate(body.layers):
        projections = [getattr(layer.mlp, name) for name in PROJECTIONS]
        for name, module in zip(PROJECTIONS, projections, strict=True):
            if not isinstance(module, nn.Linear) or not module.weight.is_floating_point():
                raise UserError(
                    f"The {name} of layer {number} is a {type(module).__name__} and no plain linear layer: merge "
                    "adapters into the model first, and load it unquantised."
                )
        found.append(EditableMLP(number, *projections))
    return tuple(found)
