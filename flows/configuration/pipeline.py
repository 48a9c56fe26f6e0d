"""Everything that a run of the pipeline reads, typed."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from flows.configuration.checks import fit_together
from flows.configuration.sections import read_gate
from flows.configuration.words import summarised
from flows.places import DEFAULT_WORKSPACE
from mlc.catalogue import METHODS
from mlc.choices import hint_among
from mlc.errors import UserError
from mlc.evaluation.gate.policies import default_policy
from mlc.evaluation.gate.settings import GateSettings
from mlc.evaluation.settings import EvaluationSettings
from mlc.evaluation.suites.finding import find_suite
from mlc.gating.settings import PromptGateSettings, ServeSettings
from mlc.languages import ENGLISH, by_code, resolve_language, resolve_languages
from mlc.methods import BASE, Method, in_order, resolve_method, sections_read
from mlc.methods.edit import EDIT, POLICY_EDIT
from mlc.quality.settings import QualitySettings
from mlc.settings import Settings
from mlc.store import ArtifactStore
from mlc.training.settings import AlignSettings
from mlc.translation.settings import ChainSettings
from mlc.urls import require_no_secret
from tasks.runtime.settings import (
    DatasetSettings,
    DirectionStageSettings,
    EditStageSettings,
    NotifySettings,
    PolicySettings,
    PromptSettings,
    RegistrySettings,
    ReportSettings,
    Roles,
    RunnerSettings,
)


class PipelineConfig(Settings):
    """Everything that a run of the pipeline reads."""

    name: str = Field(min_length=1)
    """Name of the run; changes nothing that is computed."""
    workspace: str = DEFAULT_WORKSPACE
    """Folder for everything that the run makes."""
    notice: str | None = None
    """What `mlc run` and `mlc plan` tell first of this configuration, in a sentence. Changes no result."""
    storage: str | None = None
    """URL of a second place for artifacts, such as ``s3://bucket/folder``: what is there is not made again, what is
    made is copied there. ``memory://`` and ``file://`` work as they are, ``s3://`` needs the extra ``s3``, others the
    package that fsspec names.
    ``${NAME}`` stands for an environment variable."""
    runner: RunnerSettings = Field(default_factory=RunnerSettings)
    resources: dict[str, dict[str, Annotated[float, Field(gt=0)]]] = Field(default_factory=dict)
    """What a worker of a cluster must have for a stage, as ``{align: {gpu: 1}, translate: {gpu: 1}}``: resources of
    Dask's workers by their names; of Ray ``gpu``, ``cpu`` and ``memory`` in bytes, and resources by their names. Other
    runners do not read it. Changes no result."""
    prompts: PromptSettings
    """Training prompts, in the anchor language."""
    anchor_language: str = ENGLISH
    """Language of the training prompts, their answers and the held-out prompts; the threshold is set in it, and the
    states of translations are drawn to those of its prompts. The paper's is English; where settings, files and names of
    methods say English, this one is meant."""
    languages: tuple[str, ...] = Field(min_length=1)
    """Languages to translate into and to align; names, tags or NLLB codes."""
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**32)], ...] = Field(default=(0,), min_length=1)
    """Training seeds; each gives one model of every method. The first is registered."""
    models: tuple[str, ...] = Field(default=("english-only", "consistency"), min_length=1)
    """The methods to make and to compare with the policy and with each other, see docs/methods.md: names of
    :data:`mlc.catalogue.METHODS`, or ``module:object`` for one of your own."""
    candidate: str = ""
    """Which of ``models`` is registered and judged by the gate; the last one if left out. The method that it is held
    against must be among them."""
    failures: Literal["stop", "set_aside"] = "stop"
    """What becomes of a run where one of ``models`` lacks its data, or cannot be made or measured: ``stop`` ends it,
    ``set_aside`` goes on with the others and tells why. Another candidate takes the place of one that is set aside."""
    translator: ChainSettings = Field(default_factory=ChainSettings)
    quality: QualitySettings = Field(default_factory=QualitySettings)
    dataset: DatasetSettings = Field(default_factory=DatasetSettings)
    policy: PolicySettings = Field(default_factory=PolicySettings)
    align: AlignSettings = Field(default_factory=AlignSettings)
    edit: EditStageSettings = Field(default_factory=EditStageSettings)
    direction: DirectionStageSettings = Field(default_factory=DirectionStageSettings)
    serve: ServeSettings = Field(default_factory=ServeSettings)
    evaluation: EvaluationSettings = Field(default_factory=EvaluationSettings)
    gate: GateSettings = Field(default_factory=default_policy)
    report: ReportSettings = Field(default_factory=ReportSettings)
    registry: RegistrySettings = Field(default_factory=RegistrySettings)
    notify: NotifySettings = Field(default_factory=NotifySettings)

    @field_validator("gate", mode="before")
    @classmethod
    def _policy_by_name(cls, gate: Any) -> Any:
        return read_gate(gate) if isinstance(gate, str) else gate

    @field_validator("runner", mode="before")
    @classmethod
    def _runner_in_a_word(cls, runner: Any) -> Any:
        return {"name": runner} if isinstance(runner, str) else runner

    @field_validator("resources", mode="after")
    @classmethod
    def _of_stages(cls, resources: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
        if resources:
            from flows.stages import STAGES

            names = [stage.name for stage in STAGES]
            for unknown in resources.keys() - set(names):
                raise UserError(
                    f"The key 'resources' names {unknown!r}, which is no stage: {hint_among(unknown, names)}"
                )
        return resources

    @field_validator("languages", mode="after")
    @classmethod
    def _codes(cls, languages: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        return resolve_languages(languages, info.data.get("anchor_language", ENGLISH))

    @field_validator("anchor_language", mode="after")
    @classmethod
    def _code(cls, language: str) -> str:
        return resolve_language(language).code

    @field_validator("storage", mode="after")
    @classmethod
    def _storage_holds_no_secret(cls, storage: str | None) -> str | None:
        return require_no_secret(storage, "storage")

    @field_validator("registry", mode="after")
    @classmethod
    def _registry_holds_no_secret(cls, registry: RegistrySettings) -> RegistrySettings:
        # Not by the settings themselves: what was registered by earlier releases is still read.
        require_no_secret(registry.tracking_uri, "registry.tracking_uri")
        return registry

    @field_validator("seeds", mode="after")
    @classmethod
    def _distinct(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise UserError(f"The seeds {list(seeds)} repeat: name each once.")
        return seeds

    @model_validator(mode="before")
    @classmethod
    def _one_method_in_short(cls, values: Any) -> Any:
        """``method: X`` stands for X, what it starts from, and what it is held against."""
        if not isinstance(values, dict) or values.get("method") is None:
            return values
        if values.get("models") or values.get("candidate"):
            raise UserError("The key method stands for models and candidate: set either it or these.")
        edit = dict(values.get("edit") or {})
        # As configurations before `models` had it.
        start = edit.pop("start", "aligned")
        name = POLICY_EDIT.name if values["method"] == EDIT.name and start == "policy" else str(values["method"])
        method = resolve_method(name)
        chain = [made.name for made in in_order([name])]
        models = list(dict.fromkeys([*([] if method.baseline == BASE else [method.baseline]), *chain[:-1], name]))
        rest = {key: value for key, value in values.items() if key not in ("method", "edit")}
        return {**rest, **({"edit": edit} if edit else {}), "models": models, "candidate": name}

    @field_validator("models", mode="after")
    @classmethod
    def _each_method_once(cls, models: tuple[str, ...]) -> tuple[str, ...]:
        names = [resolve_method(name).name for name in models]
        for name in names:
            if names.count(name) > 1:
                raise UserError(f"The method {name!r} stands in models twice: name each once.")
        in_order(models)
        return models

    @field_validator("serve", mode="after")
    @classmethod
    def _refusals_by_code(cls, serve: ServeSettings) -> ServeSettings:
        codes = by_code(serve.refusals, "serve.refusals")
        return serve.model_copy(update={"refusals": codes})

    @model_validator(mode="after")
    def _parts_fit_together(self) -> "PipelineConfig":
        fit_together(self)
        return self

    @property
    def methods(self) -> tuple[Method, ...]:
        """The methods that are compared, in the order of ``models``."""
        return tuple(resolve_method(name) for name in self.models)

    @property
    def roles(self) -> Roles:
        """Which model is judged, and against which."""
        candidate = resolve_method(self.candidate)
        trained = self.languages
        if candidate.reads_unpaired:
            trained = tuple(code for code in trained if code in self.prompts.unpaired)
        elif self.translates(candidate):
            trained = self.paired_languages
        return Roles(candidate.name, candidate.baseline, trained=trained)

    @property
    def suites(self) -> dict[str, str]:
        """The suites that are asked beside the held-out prompts: where each is, by what it is called.

        Raises:
            UserError: One cannot be read, or two are called the same.
        """
        found: dict[str, str] = {}
        for location in self.evaluation.suites:
            name = find_suite(location, Path.cwd())[0].name
            if name in found:
                raise UserError(
                    f"Two suites in evaluation.suites are called {name!r}: name each once, or set name in one's file."
                )
            found[name] = location
        return found

    @property
    def paired_languages(self) -> tuple[str, ...]:
        """The languages whose training prompts stand beside those of the anchor."""
        alone = self.prompts.unpaired.keys() - self.prompts.parallel.keys()
        return tuple(code for code in self.languages if code not in alone)

    @property
    def measured_languages(self) -> tuple[str, ...]:
        """The languages that models are measured in, beside English: those that are trained, then the others."""
        return (*self.languages, *self.unseen_languages)

    @property
    def unseen_languages(self) -> tuple[str, ...]:
        """The languages that models are measured in and not trained in."""
        return tuple(code for code in self.evaluation.languages if code not in self.languages)

    @property
    def languages_label(self) -> str:
        """The languages in short, for names of runs."""
        return " ".join(code.split("_")[0] for code in self.languages)

    def open_store(self, *, looking: bool = False) -> ArtifactStore:
        """The artifacts of the workspace, with the storage behind them; to look at, a read-only one will do."""
        remote = None
        if self.storage:
            from mlc.store.remote import RemoteArtifacts

            remote = RemoteArtifacts(self.storage)
        return ArtifactStore(Path(self.workspace), remote, looking=looking)

    def summary(self) -> dict[str, str]:
        """What decides the results, in a few lines, for the report and the registry. No paths, no name."""
        return summarised(self)

    def gate_of(self, method: Method) -> PromptGateSettings:
        """The gate that a method puts before its models.

        Args:
            method: One whose recipe is ``gate``.
        """
        gate = self.serve.plain()
        # Translations are all read in one language, with one threshold.
        return gate.model_copy(update={"reads": "translation", "labels": 0}) if method.reads_translations else gate

    def translates(self, method: Method) -> bool:
        """Whether a method makes its models of translated training prompts."""
        return method.translates and not self.reads_translations(method)

    def reads_translations(self, method: Method) -> bool:
        """Whether a method puts a gate before its models that reads prompts in translation."""
        return method.recipe == "gate" and self.gate_of(method).reads == "translation"

    @property
    def unread(self) -> dict[str, str]:
        """Sections that say something that no method of ``models`` reads; by their names, a method that would."""
        # The plainest first: what reads the least beside it.
        catalogue = sorted((METHODS.load(name) for name in METHODS.places), key=lambda method: len(method.reads))
        methods = in_order(self.models)
        read = sections_read(methods) | ({"serve"} if self.serve.gate else set())
        if self.align.balance.weigh != "equal":
            # Of all terms; by risk with the openings of one of them.
            read |= {"align.balance", "align.decision"}
        found = {}
        for section in sorted(sections_read(catalogue) - read):
            if self._says_something(section):
                found[section] = next(method.name for method in catalogue if section in method.reads)
        if self.prompts.feedback and not any(method.reads_feedback for method in methods):
            found["prompts.feedback"] = next(method.name for method in catalogue if method.reads_feedback)
        return found

    def _says_something(self, section: str) -> bool:
        *above, name = section.split(".")
        settings: Settings = getattr(self, above[0]) if above else self
        usual = type(settings).model_fields[name].get_default(call_default_factory=True)
        return bool(getattr(settings, name) != usual)
