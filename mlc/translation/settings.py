"""Configuration of the translator. Light to import: no torch, no transformers."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from mlc.languages import resolve_languages
from mlc.settings import Settings
from mlc.urls import require_no_secret

Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["auto", "float32", "float16", "bfloat16", "int8"]
EngineName = Literal["transformers", "ctranslate2", "http", "given"]


class TranslatorSettings(Settings):
    """What translates the prompts, and how."""

    engine: EngineName = "transformers"
    """``transformers`` and ``ctranslate2`` compute an NLLB checkpoint, ``http`` asks an endpoint that speaks OpenAI's
    protocol, ``given`` looks up a table of translations that people made."""
    model: str = "shipped:nano"
    """``shipped:nano`` (a toy for the quickstart's domain), a hub id such as ``facebook/nllb-200-distilled-600M``,
    or a local folder. For ``http`` the name of the model there, for ``given`` the file of the table."""
    revision: str | None = None
    """Branch, tag or commit of a hub id; the newest if not given."""
    allow_pickle: bool = False
    """Whether weights that are not safetensors may be read, as those of NLLB-200 on the hub are; set it only if you
    trust where they come from."""
    licence: str | None = None
    """Its licence, such as ``cc-by-nc-4.0``; none = what its card says, else what is known of it by its name."""
    num_beams: int = Field(default=1, ge=1, le=32)
    """Width of the beam; 1 is greedy search."""
    max_new_tokens: int = Field(default=256, ge=2, le=1024)
    """Longest translation of one sentence, in tokens, the language token counted."""
    temperature: float = Field(default=0.0, ge=0, le=2)
    """Above 0 the translation is sampled at this temperature, reproducibly; 0 takes the likeliest."""
    seed: int = 0
    """Seed of the sampling; without sampling only ``http`` hands it on."""
    batch_tokens: int = Field(default=4096, ge=1)
    """Longest sentence in tokens, times sentences, times target languages, that are translated at once; does not change
    the translations."""
    device: Device = "auto"
    """Where to compute; ``auto`` takes an accelerator if there is one."""
    precision: Precision = "auto"
    """Numbers to compute with; ``auto`` is float32 on a CPU, float16 on a GPU, and int8 with ``ctranslate2`` on a
    CPU."""
    endpoint: str | None = None
    """Base address for ``http``, such as ``http://127.0.0.1:8000/v1``; ``${NAME}`` stands for an environment
    variable."""
    api_key_variable: str = "MLC_TRANSLATOR_KEY"
    """Environment variable that holds the key of the endpoint; none is sent where it is not set."""
    prompt: str | None = None
    """File with what an ``http`` model is asked, in its own words. ``{source_language}``, ``{source_code}``,
    ``{target_language}``, ``{target_code}`` and ``{text}`` stand for names, NLLB codes and the text; without ``{text}``
    the file is the system prompt and the text a message of its own. None is a prompt of the project."""
    unit: Literal["sentence", "prompt"] = "sentence"
    """What an ``http`` model is asked at once: a ``sentence``, or the whole ``prompt``, whose sentences then explain
    each other."""
    answer: Literal["plain", "json"] = "plain"
    """How an ``http`` model answers: with the translation alone, or with a JSON object that has it in
    ``translation``."""
    concurrency: int = Field(default=4, ge=1, le=256)
    """Requests to the endpoint at once."""

    @field_validator("endpoint")
    @classmethod
    def _holds_no_secret(cls, endpoint: str | None) -> str | None:
        return require_no_secret(endpoint, "translator.endpoint")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.temperature and self.num_beams > 1:
            raise ValueError("temperature and num_beams exclude each other: set num_beams to 1, or temperature to 0")
        if self.temperature and self.engine == "ctranslate2":
            raise ValueError("the engine ctranslate2 does not sample: set temperature to 0, or engine to transformers")
        if self.precision == "int8" and self.engine != "ctranslate2":
            raise ValueError("int8 needs the engine ctranslate2: set engine to ctranslate2, or precision to auto")
        if (self.endpoint is None) == (self.engine == "http"):
            raise ValueError("endpoint belongs to the engine http and to no other: set both, or neither")
        if self.engine != "http" and (self.prompt or self.unit != "sentence" or self.answer != "plain"):
            raise ValueError("prompt, unit and answer belong to the engine http: set engine to http, or leave them out")
        return self


class FallbackSettings(TranslatorSettings):
    """A translator that is asked where those before it brought nothing usable."""

    languages: tuple[str, ...] = ()
    """Languages for which it is asked; all if left out."""

    @field_validator("languages", mode="after")
    @classmethod
    def _codes(cls, languages: tuple[str, ...]) -> tuple[str, ...]:
        return resolve_languages(languages)


class ChainSettings(TranslatorSettings):
    """The translators of a pipeline, the first and those that are asked after it."""

    fallbacks: tuple[FallbackSettings, ...] = ()
    """Translators with keys of their own, as above, and ``languages``. Each is asked for the prompts that those before
    it refused or left without a translation that passes the filter; the filter decides which translation is kept."""
    shard_rows: int | None = Field(default=None, ge=2)
    """About how many prompts are translated, and measured by signals that ask a model, in one task; none = all of a
    language. Each such shard has an artifact of its own, so that a cluster takes them side by side, and new prompts
    redo the shards that they come into. Translations stay the same."""

    @property
    def first(self) -> TranslatorSettings:
        """The translator that is asked first."""
        return TranslatorSettings.model_validate(self.model_dump(exclude={"fallbacks", "shard_rows"}))

    def after_it(self, language: str) -> tuple[tuple[int, TranslatorSettings], ...]:
        """The fallbacks for a language, with their numbers, counted from 1.

        Args:
            language: NLLB code.
        """
        return tuple(
            (number, TranslatorSettings.model_validate(fallback.model_dump(exclude={"languages"})))
            for number, fallback in enumerate(self.fallbacks, start=1)
            if not fallback.languages or language in fallback.languages
        )
