"""Configuration of the alignment."""

from typing import Any, Literal, get_args

from pydantic import Field, model_validator

from mlc.settings import Settings

Form = Literal["cosine", "contrastive", "released", "paper"]
Control = Literal["none", "shuffled", "shuffled_within_class"]

FORM_DEFAULTS: dict[str, dict[str, Any]] = {
    "cosine": {"anchor": "english", "center": "batch", "layer": 0.5, "dim": None},
    "contrastive": {"anchor": "english", "center": "batch", "layer": 0.5, "dim": None},
    "released": {"anchor": "none", "center": "none", "layer": -1, "dim": 512},
    "paper": {"anchor": "none", "center": "none", "layer": -1, "dim": 512},
}
"""What each form stands for where a configuration names nothing else: ``cosine`` and ``contrastive`` are the anchored,
centred, sign-aware terms of this project, ``released`` and ``paper`` are the published method."""


class ConsistencySettings(Settings):
    """The consistency term beside the English loss.

    Left unset, ``anchor``, ``center``, ``layer`` and ``dim`` follow the form, see :data:`FORM_DEFAULTS`.
    """

    weight: float = Field(default=1.0, ge=0)
    """Lambda, the weight of the term; 0 leaves it out and computes nothing for it."""
    form: Form = "cosine"
    """Which loss, see :func:`mlc.losses.consistency_loss`."""
    signed: bool = False
    """Whether the spectral forms count opposite vectors as inconsistent."""
    temperature: float = Field(default=0.2, gt=0)
    """Temperature of the spectral forms."""
    anchor: Literal["none", "english"]
    """``english`` moves the other languages towards English and leaves English where it is."""
    center: Literal["none", "batch", "running"]
    """Which mean state is subtracted first, see :class:`mlc.losses.Centering`."""
    center_scope: Literal["english", "overall", "per_language"] = "english"
    """Whose rows make that mean."""
    layer: int | float
    """Index of the hidden state (0 = embeddings, negative from the end), or a fraction of the depth."""
    pool: Literal["last", "last_content", "mean"] = "last"
    """Which tokens stand for a prompt, see :func:`mlc.models.states.prompt_states`."""
    dim: int | None = Field(ge=1)
    """Size of the linear extractor; none = the states themselves."""
    prompts_per_step: int = Field(default=4, ge=1)
    """Prompts of each batch whose translations enter the term."""
    control: Control = "none"
    """``shuffled`` gives each prompt the translations of another prompt, ``shuffled_within_class`` of another one with
    the same label: controls that show what exact parallelism is worth."""

    @model_validator(mode="before")
    @classmethod
    def _fill_from_form(cls, values: Any) -> Any:
        if isinstance(values, dict):
            default = cls.model_fields["form"].default
            form = values.get("form", default)
            # An unknown form is refused later, by its own field.
            return {**FORM_DEFAULTS[form if form in get_args(Form) else default], **values}
        return values

    @model_validator(mode="after")
    def _has_something_to_learn_from(self) -> "ConsistencySettings":
        alone = self.prompts_per_step == 1 and self.weight > 0
        if alone and self.center == "batch" and self.center_scope == "english":
            raise ValueError(
                "with prompts_per_step 1 the mean of the batch's English rows is the English row itself, so nothing "
                "is left to learn from; take at least 2, or another center"
            )
        return self


def _default_consistency() -> ConsistencySettings:
    return ConsistencySettings.model_validate({})


class AlignSettings(Settings):
    """One alignment: an English loss, and the consistency term over the translations."""

    carrier: Literal["sft"] = "sft"
    """The English loss: ``sft`` is the cross-entropy of the chosen answer's tokens."""
    steps: int = Field(default=36, ge=1)
    """Optimiser steps."""
    batch_size: int = Field(default=8, ge=1)
    """Prompts in a step."""
    learning_rate: float = Field(default=5e-5, gt=0)
    """Peak learning rate of AdamW; all weights are trained."""
    warmup_share: float = Field(default=0.1, ge=0, le=1)
    """Share of the steps with a rising learning rate; a cosine falls after it."""
    max_gradient_norm: float = Field(default=1.0, gt=0)
    """Gradients longer than this are scaled down to it."""
    max_prompt_tokens: int = Field(default=256, ge=8)
    """Longer prompts are left out of training and counted."""
    max_answer_tokens: int = Field(default=96, ge=1)
    """Longer answers are cut."""
    training_dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the weights while they are trained; ``bfloat16`` takes half the memory and loses small updates."""
    autocast: Literal["none", "bfloat16"] = "none"
    """``bfloat16`` multiplies matrices in bfloat16 while weights and losses stay as they are: about twice as fast on a
    GPU or a CPU that knows the type (such as with AVX512_BF16 or AMX), far slower on one that does not."""
    saved_dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Type of the weights in the saved checkpoint; see ``training_dtype`` for the training itself."""
    consistency: ConsistencySettings = Field(default_factory=_default_consistency)
    """The term."""

    def without_consistency(self) -> "AlignSettings":
        """The English-only baseline of this alignment: the same with the term left out.

        Nothing of the term stays in it, so that baselines of different terms are one and the same.
        """
        return self.model_copy(update={"consistency": ConsistencySettings.model_validate({"weight": 0})})
