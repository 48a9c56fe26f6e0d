"""Configuration of a gate on prompts."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from mlc.choices import Pool
from mlc.settings import Settings

Auto = Literal["auto"]
Sentence = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class PromptGateSettings(Settings):
    """How a gate is fitted and where its thresholds come from."""

    layer: int | float | Auto = "auto"
    """Hidden state that is read: its index (0 = embeddings, negative from the end), or a fraction of the depth.
    ``auto``: the one in which a score fitted on four fifths of the prompts best tells apart the translations of the
    others."""
    pool: Pool | Auto = "auto"
    """Which tokens stand for a prompt; ``auto`` as for the layer."""
    rank: int = Field(default=10, ge=1)
    """Directions in which the prompts in the anchor language differ most, in which the classifier lives."""
    ridge: float = Field(default=0.01, gt=0)
    """Penalty of the classifier's squared weights, beside a loss that is a mean over prompts."""
    labels: int = Field(default=0, ge=0)
    """Labelled prompts of each class in each language that set its threshold; 0 = none, and as large a share of the
    translations lies above it as of their English prompts."""
    false_refusals: float | None = Field(default=0.2, ge=0, le=1)
    """Share of the harmless prompts that may lie above the threshold of a language; where more do, the threshold is
    raised. It is counted on translations of prompts that the score was not fitted on. Empty = no bound."""
    refusals: dict[str, Sentence] = Field(default_factory=dict)
    """What is said in place of an answer, by language, such as ``{sw: Samahani, siwezi kusaidia na hilo.}``; in others
    the shipped sentence, in the anchor language where none is shipped."""


class ServeSettings(PromptGateSettings):
    """How the registered model answers."""

    gate: bool = False
    """Whether the candidate stands behind a gate: it is made, measured, judged and registered as ``X+gate``. The
    registered model then refuses prompts itself, in their language. The other settings are those of every gate."""

    def plain(self) -> PromptGateSettings:
        """The gate alone."""
        return PromptGateSettings.model_validate(self.model_dump(include=set(PromptGateSettings.model_fields)))
