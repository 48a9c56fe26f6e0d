"""Configuration of sparse weight editing."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from mlc.choices import Layers, Pool
from mlc.settings import Settings

Scale = Literal["relative", "absolute"]


class UnitSettings(Settings):
    """Which units of the MLPs count as safety units, see :mod:`mlc.editing.units`."""

    z_threshold: float = 2.0
    """Units whose standardised mean difference z is above it."""
    d_threshold: float = 1.0
    """Units whose Cohen's d is above it."""
    combine: Literal["union", "intersection"] = "union"
    """``union`` takes a unit above either threshold, as the published formula has it; ``intersection`` one above both,
    as its text says."""
    standardise: Literal["layer", "projection"] = "layer"
    """Over which units z is standardised: all of a layer's, or those of ``gate_proj`` and of ``up_proj`` apart."""


class EditSettings(Settings):
    """One edit: the safety units, the inputs that stand for a prompt, and the penalties of the closed form.

    Rank, gamma, ridge and layers are not published; ``mlc edit search`` compares values on a validation split.
    """

    layers: Layers = "middle"
    """Layers to edit, counted from 0 (negative from the end); ``middle`` = the second and third quarter of them."""
    rank: int = Field(default=32, ge=1)
    """Rank of the edit of one projection."""
    gamma: float = Field(default=1.0, ge=0)
    """Weight of what the edit does to harmless prompts."""
    ridge: float = Field(default=0.1, ge=0)
    """Lambda, the weight of the squared size of the edit."""
    scale: Scale = "relative"
    """``relative`` makes gamma and ridge comparable between models, layers and numbers of prompts: gamma weighs mean
    squares in place of sums, ridge is in units of the mean squared input. ``absolute`` takes both as the formula has
    them."""
    pool: Pool = "last"
    """Which tokens stand for a prompt, for the units and for the edit: the last prompt token, the last one of the
    person's own text, or the mean over that text."""
    harmless: Literal["both", "english"] = "both"
    """Whose harmless prompts the edit must leave alone: those in English and in the language, or in English only."""
    protect_english: bool = False
    """Whether the edit must leave alone what English harmful prompts do, too. The published formula does not ask for
    it, and an edit may then weaken refusal in English."""
    sequential: bool = False
    """Whether later layers are solved on the inputs that the edited earlier ones give, one pass a layer; else all
    layers are solved on the unedited model, in one pass."""
    units: UnitSettings = Field(default_factory=UnitSettings)
    """The safety units."""

    @field_validator("layers")
    @classmethod
    def _some_layer(cls, layers: Layers) -> Layers:
        if not layers:
            raise ValueError("name at least one layer, or all or middle")
        return layers


class DirectionSettings(Settings):
    """The direction of refusal in the weights, see :mod:`mlc.editing.direction`."""

    layer: int | float = 0.6
    """Hidden state that the direction is read at: its index (0 = embeddings, negative from the end), or a fraction of
    the depth."""
    pool: Pool = "last"
    """Which tokens stand for a prompt."""
    add: float = 1.0
    """Multiples of the difference between the mean states of harmful and harmless prompts that are added at the layer;
    0 adds nothing."""
    scale: float = Field(default=1.0, ge=0)
    """Factor of the direction in whatever is written into the states, at every layer: 0 ablates it, as is published to
    switch refusal off, above 1 makes it longer, 1 leaves it."""
    ridge: float = Field(default=1e-3, gt=0)
    """Penalty of the row that makes a constant of what an MLP holds, in units of the mean squared input."""


class SearchSettings(Settings):
    """Values to compare on a validation split; every combination of them is tried.

    An empty list stands for the value of the edit itself. The best is the one with the highest AUROC in the language
    among those that keep the limits, which are differences from the unedited model.
    """

    ranks: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Values of ``rank``."""
    gammas: tuple[Annotated[float, Field(ge=0)], ...] = ()
    """Values of ``gamma``."""
    ridges: tuple[Annotated[float, Field(ge=0)], ...] = ()
    """Values of ``ridge``."""
    layers: tuple[Layers, ...] = ()
    """Values of ``layers``."""
    max_english_auroc_loss: float = 0.02
    """English AUROC may fall by this."""
    max_over_refusal_gain: float = 0.05
    """The over-refusal rate in the language may rise by this."""
    max_bits_gain: float = 0.02
    """Bits per character of harmless texts may rise by this, in English and in the language."""

    @property
    def wanted(self) -> bool:
        """Whether there is anything to compare."""
        return bool(self.ranks or self.gammas or self.ridges or self.layers)

    def candidates(self, settings: EditSettings) -> list[EditSettings]:
        """Every combination, as settings.

        Args:
            settings: The edit, for what is not compared.
        """
        found: list[dict[str, Any]] = [{}]
        for name, values in (
            ("layers", self.layers),
            ("gamma", self.gammas),
            ("ridge", self.ridges),
            ("rank", self.ranks),
        ):
            if values:
                found = [{**one, name: value} for one in found for value in dict.fromkeys(values)]
        plain = settings.model_dump()
        return [EditSettings.model_validate({**plain, **one}) for one in found]
