"""What a suite file says: where the prompts are, and what their columns mean."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from mlc.settings import Settings
from mlc.shapes.labels import checked_labels

Label = Literal["harmful", "harmless"]

SECTION = ""
"""Of ``columns`` and ``labels`` in the file of a suite: messages call them as they stand there."""
COLUMNS: Literal["columns"] = "columns"
"""Of ``languages``: a column for each language."""
LANGUAGE_MARK = "{language}"
"""Stands in a source for the name of a language."""


class SuitePart(Settings):
    """One source of prompts."""

    source: str
    """A file or folder, ``shipped:NAME``, a URL, or ``hf:owner/name[:config]``. With ``{language}`` in it there is one
    for each language."""
    split: str | None = None
    """Of a data set of the hub."""
    revision: str | None = None
    """Branch, tag or commit of a data set of the hub; the newest if not given."""
    local: tuple[str, ...] = ()
    """Names of the files in a folder with a local copy, with ``*`` and ``{language}``; the first that is there counts.
    The last part of the source if left out."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Columns by role (``id``, ``prompt``, ``label``, ``kind``, ``language``), where they are not known by
    themselves."""
    labels: dict[str, str] = Field(default_factory=dict)
    """``harmful`` or ``harmless`` by what the source writes."""
    label: Label | None = None
    """The label of all prompts, where the source has none."""
    kind: str | dict[Label, str] | None = None
    """The kind of all prompts, or by label; ``lookalike`` for harmless ones that look dangerous."""
    without: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Rows to leave out: values by column."""
    languages: str | tuple[str, ...] | dict[str, str] = "en"
    """The language of all prompts; ``columns`` for a column for each language; or the languages, with what the source
    calls them where that is no code, tag or name."""
    translations: str | None = None
    """A second file with ``id`` and a column for each language."""

    @field_validator("labels", mode="before")
    @classmethod
    def _two_labels(cls, labels: Any) -> dict[str, str]:
        return checked_labels(labels, SECTION)


class SuiteSettings(Settings):
    """A suite. A file with one source has its fields at the top; what stands there counts for all ``parts``."""

    name: str = Field(pattern=r"^[A-Za-z0-9][\w.\-]*$")
    """Stands in figures and ids."""
    version: str = "1"
    """Goes up with every change of what is asked."""
    about: str = ""
    """A sentence for people."""
    licence: str = "unknown"
    """Of the prompts."""
    homepage: str | None = None
    """Where they come from."""
    parts: tuple[SuitePart, ...] = Field(min_length=1)
    """Its sources."""

    @model_validator(mode="before")
    @classmethod
    def _parts(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        shared = {name: values[name] for name in SuitePart.model_fields if name in values}
        own = {name: value for name, value in values.items() if name not in shared}
        given = own.get("parts", [{}])
        if isinstance(given, list | tuple) and all(isinstance(part, dict) for part in given):
            own["parts"] = [{**shared, **part} for part in given]
        return own

    @field_validator("version", mode="before")
    @classmethod
    def _written(cls, version: Any) -> Any:
        return str(version) if isinstance(version, int | float) and not isinstance(version, bool) else version
