"""Configuration of the stages ``edit`` and ``merge``, apart from the others so that these do not depend on editing."""

from typing import Literal

from pydantic import Field

from mlc.editing.settings import EditSettings, SearchSettings


class EditStageSettings(EditSettings):
    """Sparse weight editing as the pipeline does it, with ``method: edit`` or ``consistency+edit``.

    Each language has a delta of its own, computed on its kept translations. The deltas are added up and merged into the
    model.
    """

    start: Literal["aligned", "policy"] = "aligned"
    """With ``method: edit``, what is edited: the English-only aligned model, or the ``policy`` as it is. Then no model
    is trained; it is for a policy that is safe in English already."""
    saved_dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the weights in the edited checkpoint; ``bfloat16`` rounds small changes away."""
    search: SearchSettings = Field(default_factory=SearchSettings)
    """Values to compare for each language on the validation prompts; nothing is searched while all lists are empty."""

    def plain(self) -> EditSettings:
        """The edit alone, as the library takes it."""
        return EditSettings.model_validate(self.model_dump(include=set(EditSettings.model_fields)))
