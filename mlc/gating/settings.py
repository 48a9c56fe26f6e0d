"""Configuration of a gate on prompts."""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from mlc.choices import Pool
from mlc.settings import Settings

Auto = Literal["auto"]
Reads = Literal["prompt", "translation"]
Sentence = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class PromptGateSettings(Settings):
    """How a gate is fitted and where its thresholds come from."""

    reads: Reads = "prompt"
    """What the policy reads for the gate: the ``prompt`` as it is, or its ``translation`` into the anchor language, by
    the translator of the pipeline, which must be a checkpoint of NLLB and is served beside the weights."""
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
    sentences: bool = False
    """Whether each sentence of what the person said last is read by itself too, and a prompt is refused where one of
    them is: a harmless sentence before or behind a harmful one hides it less. The more sentences, the higher the
    threshold of each, so that hardly more harmless prompts are refused; a prompt of several is read twice."""
    refusals: dict[str, Sentence] = Field(default_factory=dict)
    """What is said in place of an answer, by language, such as ``{sw: Samahani, siwezi kusaidia na hilo.}``; in others
    the shipped sentence, in the anchor language where none is shipped."""

    @model_validator(mode="after")
    def _one_threshold_for_translations(self) -> Self:
        if self.labels and self.reads == "translation":
            raise ValueError(
                "labels set thresholds by language, and translations are all read in one: set labels to 0, or reads to "
                "prompt"
            )
        return self


class ServeSettings(PromptGateSettings):
    """How the registered model answers."""

    gate: bool = False
    """Whether the candidate stands behind a gate: it is made, measured, judged and registered as ``X+gate``. The
    registered model then refuses prompts itself, in their language. The other settings are those of every gate."""

    def plain(self) -> PromptGateSettings:
        """The gate alone."""
        return PromptGateSettings.model_validate(self.model_dump(include=set(PromptGateSettings.model_fields)))
