"""The base of every configuration model: frozen; unknown keys and numbers that are not finite are errors."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """A typed, immutable part of the configuration.

    The defaults of the project are declared on its subclasses and nowhere else;
    a YAML file only fills them.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, protected_namespaces=(), allow_inf_nan=False
    )
