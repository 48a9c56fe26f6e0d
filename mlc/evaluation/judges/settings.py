"""Settings of judges: how each of them is asked. Light to import.

An entry of ``evaluation.judges`` may be a mapping, such as ``{name: llm, model: …, endpoint: …}``: what stands beside
the name fills the class of settings that the judge declares.
"""

from collections.abc import Iterable
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from mlc.languages import resolve_language
from mlc.settings import Settings
from mlc.urls import require_no_secret

GuardPrecision = Literal["auto", "float32", "float16", "bfloat16"]


class JudgeSettings(Settings):
    """What a judge may be told; the base of every class of them."""

    outside_key: ClassVar[frozenset[str]] = frozenset()
    """Settings that change no verdict."""

    def deciding(self) -> dict[str, Any]:
        """The settings that decide verdicts, as plain data for a key."""
        return self.model_dump(mode="json", exclude=set(self.outside_key))


class ModelJudgeSettings(JudgeSettings):
    """A judge that asks a model."""

    outside_key = frozenset({"api_key_variable", "concurrency", "languages"})

    api_key_variable: str = "MLC_JUDGE_KEY"
    """Environment variable that holds the key of the endpoint; none is sent where it is not set."""
    concurrency: int = Field(default=4, ge=1, le=256)
    """Requests to the endpoint at once."""
    languages: tuple[str, ...] | None = None
    """Languages in which you trust it, as codes, tags or names; those that its card declares if left out. Answers to
    prompts in other languages are not judged."""

    @field_validator("languages")
    @classmethod
    def _known(cls, languages: Iterable[str] | None) -> tuple[str, ...] | None:
        return None if languages is None else tuple(sorted(resolve_language(name).code for name in languages))

    @field_validator("endpoint", check_fields=False)
    @classmethod
    def _holds_no_secret(cls, endpoint: str | None) -> str | None:
        return require_no_secret(endpoint, "endpoint")


class LlmSettings(ModelJudgeSettings):
    """A model behind an endpoint that is asked for a verdict as JSON."""

    model: str
    """Name of the model at the endpoint."""
    endpoint: str
    """Base address, such as ``http://127.0.0.1:8000/v1``; ``${NAME}`` stands for an environment variable."""
    temperature: float = Field(default=0.0, ge=0, le=2)
    """0 takes the likeliest verdict."""
    seed: int = 0
    """Seed that is handed on to the endpoint."""
    max_new_tokens: int = Field(default=512, ge=32)
    """Longest reply, in tokens; a model that thinks first needs more."""


class GuardSettings(ModelJudgeSettings):
    """A model that was trained to judge safety, loaded here or behind an endpoint."""

    # What the model is stands in the facts of the judge.
    outside_key = ModelJudgeSettings.outside_key | {
        "model", "revision", "allow_pickle", "endpoint", "device", "batch_size",
    }  # fmt: skip

    model: str | None = None
    """Hub id or folder; with an endpoint its name there. That of the card if left out."""
    revision: str | None = None
    """Branch, tag or commit of a hub id; the newest if not given."""
    allow_pickle: bool = False
    """Whether weights that are not safetensors may be read."""
    endpoint: str | None = None
    """Base address of a server that runs the model; it is loaded here if left out."""
    device: str = "auto"
    """Where to compute; ``auto`` takes an accelerator if there is one."""
    precision: GuardPrecision = "auto"
    """Numbers to compute with; ``auto`` is what the checkpoint holds."""
    batch_size: int = Field(default=8, ge=1)
    """Prompts in a batch; changes no verdict."""

    @model_validator(mode="after")
    def _names_a_model(self) -> Self:
        if self.endpoint is not None and self.model is None:
            raise ValueError("with an endpoint, model is the name of the model there: set it")
        return self


class Qwen3GuardSettings(GuardSettings):
    """Qwen3Guard-Gen."""

    strict: bool = True
    """Whether ``Controversial`` counts as unsafe."""


class ShieldGemmaSettings(GuardSettings):
    """ShieldGemma."""

    threshold: float = Field(default=0.5, ge=0, le=1)
    """Probability of a violation from which on an answer counts as unsafe."""
