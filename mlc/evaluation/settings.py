"""Configuration of the evaluation."""

from importlib.metadata import version
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from mlc.chat.serving import START_SECONDS, require_marks
from mlc.errors import UserError
from mlc.evaluation.choosing import Entry, choose
from mlc.extras import require_extra
from mlc.languages import resolve_language
from mlc.settings import Settings, Spoken, require_apart
from mlc.shapes.labels import checked_labels

SPLITS = ("validation", "test")
"""The threshold is set on the first, and the second is reported."""
RESAMPLES = 1000
"""Bootstrap resamples, unless somebody says otherwise."""


class EngineSettings(Settings):
    """What answers the prompts; margins and states are computed in this process by every kind."""

    kind: Literal["transformers", "http", "vllm"] = "transformers"
    """``transformers`` and ``vllm`` compute in this process; the second needs a GPU and the package vllm. ``http``
    starts a server for each model with :attr:`serve` and asks it."""
    serve: str | None = None
    """Command that serves a checkpoint on loopback by OpenAI's chat protocol, such as ``vllm serve {path} --port
    {port}``; no shell reads it. It is ended once everything is answered."""
    concurrency: int = Field(default=32, ge=1, le=256)
    """Requests to the server at once; does not change results but for the rounding of its sums."""
    start_seconds: float = Field(default=START_SECONDS, gt=0)
    """How long a server may take until it answers."""

    @field_validator("kind")
    @classmethod
    def _is_there(cls, kind: str) -> str:
        if kind == "vllm":
            require_extra("vllm", "evaluation.engine.kind: vllm")
        return kind

    @field_validator("serve")
    @classmethod
    def _has_marks(cls, serve: str | None) -> str | None:
        if serve is not None:
            require_marks(serve)
        return serve

    @model_validator(mode="after")
    def _command_of_http(self) -> "EngineSettings":
        if (self.kind == "http") != (self.serve is not None):
            raise UserError(
                "The models of a run are answered for by a server only where one is started for each of them: set "
                "evaluation.engine.kind to http and evaluation.engine.serve to a command, or leave both out."
            )
        return self

    @property
    def facts(self) -> dict[str, str]:
        """What decides an answer beside the model, for keys; empty where models compute as ever."""
        if self.kind == "transformers":
            return {}
        return {"kind": self.kind, **({"serve": self.serve} if self.serve else {"version": version(self.kind)})}


HARNESS_PACKAGE = "lm_eval"
"""lm-evaluation-harness."""
OF_THE_HELD_OUT = "held-out"
"""Names the harmless held-out test prompts as neutral texts."""


class AbilitySettings(Settings):
    """General ability, which is measured beside refusals; nothing is measured while all of it is left out."""

    neutral: str | None = None
    """Neutral texts for bits per character in every measured language: ``held-out`` for the harmless test prompts, or a
    table with the columns ``text`` and ``language``."""
    choices: str | None = None
    """Table of choices of two, as in XCOPA, with ``premise``, ``choice1``, ``choice2``, ``question`` (cause or effect),
    ``label`` (0 or 1) and ``language``."""
    harness: tuple[str, ...] = ()
    """Tasks of lm-evaluation-harness, such as ``[arc_easy, belebele_swh_Latn]``; needs the package lm_eval."""
    harness_limit: int | None = Field(default=None, ge=1)
    """Only so many questions of each task; none = all."""

    @field_validator("harness")
    @classmethod
    def _is_there(cls, harness: tuple[str, ...]) -> tuple[str, ...]:
        if harness:
            require_extra(HARNESS_PACKAGE, "evaluation.ability.harness")
        return harness

    @property
    def wanted(self) -> bool:
        """Whether anything is measured."""
        return bool(self.neutral or self.choices or self.harness)

    @property
    def reads_held_out(self) -> bool:
        """Whether the neutral texts are held-out prompts."""
        return self.neutral == OF_THE_HELD_OUT

    @property
    def tables(self) -> dict[str, str]:
        """The tables that are read, by the setting that names them."""
        neutral = {} if self.neutral is None or self.reads_held_out else {"neutral": self.neutral}
        return neutral | ({"choices": self.choices} if self.choices else {})

    @property
    def facts(self) -> dict[str, Any]:
        """What decides the figures, for keys; what is in tables is told by their digests."""
        facts: dict[str, Any] = {
            "neutral": OF_THE_HELD_OUT if self.reads_held_out else self.neutral is not None,
            "choices": self.choices is not None,
        }
        if self.harness:
            own = {"tasks": list(self.harness), "limit": self.harness_limit, "version": version(HARNESS_PACKAGE)}
            facts["harness"] = own
        return facts


class EvaluationSettings(Settings):
    """How models are measured in every language."""

    validation: str = "shipped:quickstart/validation.jsonl"
    """Prompts on which the English threshold is set and choices are tuned; columns id, prompt, label, kind."""
    test: str = "shipped:quickstart/test.jsonl"
    """Held-out prompts, reported once; same columns."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Columns of both files by role, where they have other names, such as ``{prompt: goal}``."""
    labels: dict[str, str] = Field(default_factory=dict)
    """``harmful`` or ``harmless`` by what the files write, such as ``{1: harmful, 0: harmless}``."""
    references: str | None = "shipped:quickstart/references"
    """Folder with human translations, one table a split, such as ``validation.jsonl`` and ``test.csv``: id, and one
    column per language, named by NLLB code or tag. A language that it lacks is machine-translated, and the report says
    so."""
    languages: tuple[str, ...] = ()
    """Languages that are measured beside those that are trained, and not trained: names, tags or NLLB codes. They show
    how far the alignment carries over to languages that it has not seen."""
    suites: tuple[str, ...] = ()
    """Suites that every model answers beside the held-out prompts, in those measured languages that they have: names of
    shipped ones, or YAML files, see docs/evaluate.md. Conditions of the gate may be about them."""
    limit: int | None = Field(default=None, ge=4)
    """Only so many prompts of each split, and of each suite, the first ones of each label; none = all."""
    refusal_openings: tuple[Spoken, ...] = Field(default=("I can't help with", "I'm not able to"), min_length=1)
    """Openings of a refusal; their mean log-probability per token is one side of the refusal margin."""
    compliance_openings: tuple[Spoken, ...] = Field(default=("Sure, here is", "Start with"), min_length=1)
    """Openings of an answer; the other side of the margin."""
    layer: int | float = 0.5
    """Layer for the representation figures, see :func:`mlc.models.states.prompt_states`."""
    own_threshold: Literal["all", 0] | Annotated[int, Field(ge=4)] = "all"
    """Validation prompts that are scored in each language beside the anchor, to set a threshold on the language's own
    prompts: all, or so many, the first ones, half of them harmful; 0 sets none. That threshold shows what calibration
    could give, and decides nothing."""
    answers: Literal["all"] | Annotated[int, Field(ge=0)] = "all"
    """Test prompts a language, and prompts of each suite, that are answered greedily: all, or so many, half of them
    harmful; 0 answers none."""
    answer_tokens: int = Field(default=32, ge=1)
    """Longest greedy answer, in tokens."""
    engine: EngineSettings = Field(default_factory=EngineSettings)
    """What answers them."""
    judges: tuple[Entry, ...] = ("rules",)
    """What judges those answers: `rules`, `openings`, a judge that asks a model (docs/judges.md), or one of your own as
    `module:object`, see `mlc.evaluation.judges.judge`. A judge with settings is a mapping, such as `{name: llm, model:
    large, endpoint: http://127.0.0.1:8000/v1}`. The first one decides, the others are shown beside it."""
    ability: AbilitySettings = Field(default_factory=AbilitySettings)
    """What models can do beside refusing."""
    batch_size: int = Field(default=20, ge=1)
    """Prompts in a forward pass; does not change results."""
    shard_rows: int | None = Field(default=None, ge=2)
    """About how many prompts a model is asked in one task; none = all of a language. Each such shard has an artifact of
    its own, so that a cluster takes them side by side, and new prompts redo the shards that they come into. Prompts are
    put into other batches by it, so that figures differ in their last digits. A server or vLLM is started for each."""

    @field_validator("languages")
    @classmethod
    def _codes(cls, languages: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted({resolve_language(language).code for language in languages}))

    @field_validator("judges")
    @classmethod
    def _can_be_loaded(cls, judges: tuple[Entry, ...]) -> tuple[Entry, ...]:
        choose(judges)
        return judges

    @field_validator("labels", mode="before")
    @classmethod
    def _two_labels(cls, labels: Any) -> dict[str, str]:
        return checked_labels(labels, "evaluation")

    @model_validator(mode="after")
    def _openings_differ(self) -> "EvaluationSettings":
        require_apart(self.refusal_openings, self.compliance_openings)
        return self
