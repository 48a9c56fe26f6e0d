"""The configuration of a pipeline: typed, from YAML, with plain errors."""

import difflib
import glob
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, Field, ValidationError, ValidationInfo, field_validator, model_validator

from flows.places import DEFAULT_WORKSPACE, SHIPPED_CONFIGS, shipped_configs
from mlc.catalogue import METHODS
from mlc.choices import hint_among, words_of
from mlc.errors import UserError
from mlc.evaluation.gate.policies import default_policy, read_policy
from mlc.evaluation.gate.settings import GateSettings
from mlc.evaluation.settings import EvaluationSettings
from mlc.evaluation.suites.finding import find_suite
from mlc.gating.settings import PromptGateSettings, ServeSettings
from mlc.languages import ENGLISH, by_code, resolve_language, resolve_languages
from mlc.methods import BASE, Method, in_order, resolve_gateable, resolve_method, sections_read
from mlc.methods.edit import EDIT, POLICY_EDIT
from mlc.methods.english_only import ENGLISH_ONLY
from mlc.methods.gate import gated
from mlc.methods.needs import require_one_control, require_own_openings
from mlc.quality.choice import require_measured
from mlc.quality.settings import QualitySettings
from mlc.settings import Settings, demand_of
from mlc.shipped import SHIPPED_PREFIX
from mlc.store import ArtifactStore
from mlc.training.settings import OPENINGS, TRANSLATED_SHARE, AlignSettings, OpeningSettings, TermSettings
from mlc.translation.settings import ChainSettings
from mlc.urls import redacted, require_no_secret
from mlc.yaml_text import YamlProblem, parse_yaml, read_mapping
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

    @model_validator(mode="after")
    def _openings_are_in_the_anchor_language(self) -> "PipelineConfig":
        if self.anchor_language == ENGLISH:
            return self
        read: dict[str, Settings] = {"evaluation": self.evaluation}
        for method in in_order(self.models):
            if method.recipe != "train":
                continue
            terms = method.alignment(self.align).terms
            read |= {f"align.{name}": term for name, term in terms.active.items() if isinstance(term, OpeningSettings)}
            if terms.measures_risk:
                read["align.decision"] = terms.decision
        missing = [
            f"{section}.{name}"
            for section, settings in read.items()
            for name in OPENINGS
            if getattr(settings, name) == type(settings).model_fields[name].default
        ]
        if missing:
            raise UserError(
                f"The answers that are trained are in {self.anchor_language}, and the openings that refusals are told "
                f"by are English: set {' and '.join(missing)} in that language."
            )
        return self

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

    @model_validator(mode="after")
    def _candidate_has_its_baseline(self) -> "PipelineConfig":
        if not self.candidate:
            object.__setattr__(self, "candidate", self.models[-1])
        if self.serve.gate and resolve_method(self.candidate).recipe != "gate":
            behind = gated(resolve_gateable(self.candidate)).name
            object.__setattr__(self, "models", tuple(dict.fromkeys((*self.models, behind))))
            object.__setattr__(self, "candidate", behind)
        if self.candidate not in self.models:
            raise UserError(
                f"The candidate {self.candidate!r} is not among the models: {hint_among(self.candidate, self.models)}"
            )
        baseline = resolve_method(self.candidate).baseline
        if baseline not in (BASE, *(method.name for method in self.methods)):
            raise UserError(
                f"The candidate {self.candidate!r} is held against {baseline!r}: add that to models, before it."
            )
        return self

    @model_validator(mode="after")
    def _suites_are_there(self) -> "PipelineConfig":
        # Reading their files is the check.
        _ = self.suites
        return self

    @model_validator(mode="after")
    def _gate_can_be_measured(self) -> "PipelineConfig":
        asked = any(condition.against == ENGLISH_ONLY.name for condition in self.gate.conditions)
        if asked and (ENGLISH_ONLY.name not in self.models or self.candidate == ENGLISH_ONLY.name):
            where = "the candidate itself" if self.candidate == ENGLISH_ONLY.name else "not among the models"
            raise UserError(
                f"The gate {self.gate.name!r} compares with {ENGLISH_ONLY.name}, which is {where}: add it to "
                "models, or let the conditions stand against baseline or base."
            )
        unknown = [name for name in self.gate.suites if name not in self.suites]
        if unknown:
            raise UserError(
                f"The gate {self.gate.name!r} has a condition on the suite {unknown[0]!r}, which is not asked: add it "
                f"to evaluation.suites, or take one of {', '.join(self.suites) or 'none'}."
            )
        if self.gate.reads_answers and self.evaluation.answers == 0:
            raise UserError(
                f"The gate {self.gate.name!r} reads answers, and evaluation.answers is 0: let prompts be answered, or "
                "take a policy of margins alone, such as gate: margins."
            )
        own = "selectivity_at_own_threshold"
        if self.evaluation.own_threshold == 0 and any(condition.figure == own for condition in self.gate.conditions):
            raise UserError(
                f"The gate {self.gate.name!r} reads {own}, and evaluation.own_threshold is 0: let "
                "validation prompts be scored in every language, 4 or more or all of them."
            )
        return self

    @field_validator("serve", mode="after")
    @classmethod
    def _refusals_by_code(cls, serve: ServeSettings) -> ServeSettings:
        codes = by_code(serve.refusals, "serve.refusals")
        return serve.model_copy(update={"refusals": codes})

    @model_validator(mode="after")
    def _weighted_languages_are_there(self) -> "PipelineConfig":
        terms: dict[str, TermSettings] = {}
        for name, term in self.align.terms.each.items():
            weights = by_code(term.language_weights or {}, f"align.{name}.language_weights")
            for code in weights:
                if code not in (self.anchor_language, *self.languages):
                    raise UserError(
                        f"The language {code} has a weight in align.{name}.language_weights but is not trained: add it "
                        "to languages, or take its weight out."
                    )
            if term.language_weights is not None:
                terms[name] = term.model_copy(update={"language_weights": weights})
                try:
                    terms[name].weights_of((self.anchor_language, *self.languages))
                except ValueError as error:
                    raise UserError(f"align.{name}.{error}") from None
        if terms:
            # The only way to a field of a frozen model from inside it.
            object.__setattr__(self, "align", self.align.model_copy(update=terms))
        return self

    @model_validator(mode="after")
    def _trainings_can_be_launched(self) -> "PipelineConfig":
        for method in in_order(self.models):
            if method.recipe == "train":
                method.alignment(self.align).require_launchable()
        return self

    @model_validator(mode="after")
    def _registered_weights_are_there(self) -> "PipelineConfig":
        if self.registry.weights == "adapter":
            candidate = resolve_method(self.candidate)
            if candidate.recipe != "train" or candidate.start != BASE:
                why = "starts from a trained model" if candidate.recipe == "train" else "is made without training"
                raise UserError(
                    f"The candidate {self.candidate!r} {why} and has no adapter to register: set registry.weights to "
                    "merged."
                )
            if self.align.adapter is None:
                raise UserError(
                    "The setting registry.weights is adapter, and align.adapter is none, so that there is no adapter: "
                    "set align.adapter to lora, or registry.weights to merged."
                )
        return self

    @model_validator(mode="after")
    def _trained_models_can_be_trained_on(self) -> "PipelineConfig":
        again = [method.name for method in in_order(self.models) if method.recipe == "train" and method.start != BASE]
        if again and self.align.adapter is not None and self.align.adapter.kind == "qlora":
            raise UserError(
                f"The method {again[0]!r} trains a model further that was trained before, which cannot be done in "
                "4-bit numbers: set align.adapter to lora or none."
            )
        return self

    @model_validator(mode="after")
    def _the_anchor_is_measured_by_its_own_prompts(self) -> "PipelineConfig":
        if self.anchor_language in self.evaluation.languages:
            name = resolve_language(self.anchor_language).english_name
            raise UserError(
                f"{name} ({self.anchor_language}) is the anchor language, which is always measured: take it out of "
                "evaluation.languages."
            )
        return self

    @model_validator(mode="after")
    def _openings_are_apart(self) -> "PipelineConfig":
        measured = (*self.evaluation.refusal_openings, *self.evaluation.compliance_openings)
        require_own_openings(in_order(self.models), self.align, measured)
        return self

    @model_validator(mode="after")
    def _terms_take_one_control(self) -> "PipelineConfig":
        require_one_control(in_order(self.models), self.align)
        return self

    @model_validator(mode="after")
    def _parallel_languages_are_there(self) -> "PipelineConfig":
        found = {}
        for name in ("parallel", "unpaired"):
            given: dict[str, str] = getattr(self.prompts, name)
            found[name] = by_code(given, f"prompts.{name}")
            for code in found[name]:
                if code not in self.languages:
                    raise UserError(
                        f"The language {code} has prompts in prompts.{name} but is not trained: add it to languages, "
                        "or take its prompts out."
                    )
        # The only way to a field of a frozen model from inside it.
        object.__setattr__(self, "prompts", self.prompts.model_copy(update=found))
        return self

    @model_validator(mode="after")
    def _methods_have_their_prompts(self) -> "PipelineConfig":
        methods = in_order(self.models)
        readers = [method for method in methods if method.reads_unpaired]
        for method in readers:
            if method.translates or method.recipe != "train":
                raise UserError(
                    f"The method {method.name!r} needs unpaired prompts beside translated ones or without training, "
                    "and only a method that trains and needs no translated prompts can have them: change its needs."
                )
            if not self.prompts.unpaired:
                raise UserError(
                    f"The method {method.name!r} trains on prompts of other languages with answers of their own: name "
                    "a file for at least one language in prompts.unpaired."
                )
        if self.prompts.unpaired and not readers:
            raise UserError(
                "No method in models reads prompts.unpaired: add one that trains on prompts without a pair, such as "
                "own-prompts, or take the setting out."
            )
        for method in methods:
            if method.reads_feedback and self.prompts.feedback is None:
                raise UserError(
                    f"The method {method.name!r} trains on answers that people called good or bad: name a file of them "
                    "in prompts.feedback."
                )
            if method.translates and not self.paired_languages:
                raise UserError(
                    f"The method {method.name!r} needs prompts beside those in {self.anchor_language}, and every "
                    "language has its own in prompts.unpaired alone: add a language, or a file to prompts.parallel."
                )
        return self

    @model_validator(mode="after")
    def _thresholds_are_measured(self) -> "PipelineConfig":
        require_measured(self.quality, self.quality.model_signals)
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
        elif candidate.translates:
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
        told = {
            "policy": _model_name(self.policy.model),
            "translator": _model_name(self.translator.model),
            **{
                f"fallback {number}": _model_name(fallback.model)
                for number, fallback in enumerate(self.translator.fallbacks, start=1)
            },
            **({"anchor language": self.anchor_language} if self.anchor_language != ENGLISH else {}),
            "languages": ", ".join(self.languages),
            **({"measured, not trained": ", ".join(self.unseen_languages)} if self.unseen_languages else {}),
            **({"suites": ", ".join(self.suites)} if self.evaluation.suites else {}),
            **({"not translated": ", ".join(sorted(self.prompts.parallel))} if self.prompts.parallel else {}),
            **({"unpaired prompts": ", ".join(sorted(self.prompts.unpaired))} if self.prompts.unpaired else {}),
            **self._left_out_in_words(),
            "models": ", ".join(method.name for method in self.methods),
            "candidate": self.roles.candidate,
        }
        words = {
            "align": self._alignment_in_words,
            "align.consistency": self._term_in_words,
            "align.balance": self._balance_in_words,
            "align.decision": self._decision_in_words,
            "align.answer": self._answer_in_words,
            "align.translated": self._translated_in_words,
            "align.mpo": self._mpo_in_words,
            "align.msd": self._msd_in_words,
            "align.cm_align": self._cm_align_in_words,
            "align.feedback": self._feedback_in_words,
            "edit": self._edit_in_words,
            "direction": self._direction_in_words,
            "serve": self._gate_in_words,
        }
        read = sections_read(in_order(self.models))
        for section, tell in words.items():
            if section in read:
                told |= tell()
        return told

    def gate_of(self, method: Method) -> PromptGateSettings:
        """The gate that a method puts before its models.

        Args:
            method: One whose recipe is ``gate``.
        """
        gate = self.serve.plain()
        return gate.model_copy(update={"reads": "translation"}) if method.reads_translations else gate

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

    def _left_out_in_words(self) -> dict[str, str]:
        alone = [code for code in self.languages if code not in self.paired_languages]
        needing = ", ".join(method.name for method in in_order(self.models) if method.translates)
        return {f"not in {needing}": ", ".join(alone)} if alone and needing else {}

    def _alignment_in_words(self) -> dict[str, str]:
        anchor = resolve_language(self.anchor_language).english_name
        return {
            "seeds": ", ".join(map(str, self.seeds)),
            f"{anchor} loss": f"{self.align.carrier}, {self.align.steps} steps of {self.align.batch_size} prompts, "
            f"learning rate {self.align.learning_rate:g}",
            **self._adapter_in_words(),
            **self._launch_in_words(),
        }

    def _launch_in_words(self) -> dict[str, str]:
        launch = self.align.launch
        return {"processes": f"{launch.count}, {launch.engine}"} if launch and launch.count > 1 else {}

    def _adapter_in_words(self) -> dict[str, str]:
        adapter = self.align.adapter
        if adapter is None:
            return {}
        kind = {"lora": "LoRA", "qlora": "QLoRA"}[adapter.kind]
        ways = [word for word, used in (("DoRA", adapter.use_dora), ("rsLoRA", adapter.use_rslora)) if used]
        return {"adapter": ", ".join([kind, f"rank {adapter.r}", f"alpha {adapter.alpha}", *ways])}

    def _term_in_words(self) -> dict[str, str]:
        term = self.align.consistency
        return {
            "consistency form": f"{term.form}{', signed' if term.signed else ''}",
            "consistency weight": f"{term.weight:g}",
            "anchor": term.anchor,
            "centring": term.center if term.center == "none" else f"{term.center}, {term.center_scope}",
            "layer": f"{term.layer:g}" if isinstance(term.layer, float) else str(term.layer),
            "pool": term.pool,
            "language weights": _weights_in_words(term.language_weights),
            "extractor": "none" if term.dim is None else f"linear, {term.dim}",
            "control": term.control,
        }

    def _balance_in_words(self) -> dict[str, str]:
        balance = self.align.balance
        risk = f"risk on {balance.prompts} prompts every {balance.every} steps"
        return {"languages by": f"temperature {balance.temperature:g}, or {risk}"}

    def _decision_in_words(self) -> dict[str, str]:
        term = self.align.decision
        return {
            "decision weight": f"{term.weight or term.usual_weight:g}",
            "decision difference": f"{term.difference}, {term.delta:g}" if term.difference == "huber" else "squared",
            **_openings_in_words("decision", term),
        }

    def _answer_in_words(self) -> dict[str, str]:
        term = self.align.answer
        return {
            "answer weight": f"{term.weight or term.usual_weight:g}",
            "answer divergence": f"{term.divergence}, {term.tokens} tokens of the {term.source} answer",
            "answer teacher": "the model itself" if term.teacher == "self" else "a copy from the start",
            "answers to harmless prompts": term.harmless,
            **_openings_in_words("answer", term),
        }

    def _translated_in_words(self) -> dict[str, str]:
        switched = self.align.translated.switched
        return {
            "translated examples": f"a share of {self.align.translated.share or TRANSLATED_SHARE:g}",
            **({"code-switched prompts": f"a share of {switched:g} of them"} if switched else {}),
        }

    def _mpo_in_words(self) -> dict[str, str]:
        return {"MPO": f"beta {self.align.mpo.beta:g}, retention {self.align.mpo.retention:g}"}

    def _msd_in_words(self) -> dict[str, str]:
        msd = self.align.msd
        weights = f"weighted among the {msd.top} likeliest tokens" if msd.weighted else "tokens alike"
        return {"MSD": f"{msd.policy}-policy, {msd.answer_tokens} tokens of an answer, {weights}"}

    def _feedback_in_words(self) -> dict[str, str]:
        own = self.align.feedback
        return {"feedback": f"beta {own.beta:g}, weights {own.good_weight:g} and {own.bad_weight:g} of good and bad"}

    def _cm_align_in_words(self) -> dict[str, str]:
        own = self.align.cm_align
        return {"CM-Align": f"{own.answers} answers a prompt and language, cross-entropy {own.nll:g}"}

    def _edit_in_words(self) -> dict[str, str]:
        edit = self.edit
        layers = edit.layers if isinstance(edit.layers, str) else ", ".join(map(str, edit.layers))
        return {
            "edit": "searched for each language" if edit.search.wanted else "given",
            "edit layers": f"{layers}{', one after the other' if edit.sequential else ''}",
            "edit rank": str(edit.rank),
            "edit penalties": f"gamma {edit.gamma:g}, ridge {edit.ridge:g}, {edit.scale}",
            "edit pool": edit.pool,
            "safety units": f"z > {edit.units.z_threshold:g} {'or' if edit.units.combine == 'union' else 'and'} "
            f"d > {edit.units.d_threshold:g}",
        }

    def _gate_in_words(self) -> dict[str, str]:
        gate = self.serve
        thresholds = f"{gate.labels} labelled prompts of a class" if gate.labels else "shares of translations"
        layer = gate.layer if isinstance(gate.layer, str) else f"{gate.layer:g}"
        fitted = f"rank {gate.rank}, ridge {gate.ridge:g}, layer {layer}, pool {gate.pool}"
        bound = gate.false_refusals
        bounded = "" if bound is None else f", false refusals at most {bound:g}"
        return {"gate on prompts": f"{fitted}, thresholds by {thresholds}{bounded}"}

    def _direction_in_words(self) -> dict[str, str]:
        direction = self.direction
        return {
            "refusal direction": f"added {direction.add:g} times, scaled by {direction.scale:g}",
            "direction layer": f"{direction.layer:g}, {direction.pool}",
        }


_LARGEST = 2**63 - 1
_LONGEST_PATH = 4096
_LONGEST_NAME = 255
_LONGEST_KEY = 200
_LONGEST_SHOWN = 80
_LONG_VALUE = re.compile(rf"([\"'])((?:(?!\1).){{{_LONGEST_SHOWN}}})(?:(?!\1).){{220,}}\1", re.DOTALL)
"""A value in quotes that is longer than most paths, and how it begins."""
_IN_YAML = {None: "null", True: "true", False: "false"}
_AS_YAML_READS = {True: "yes and on", False: "no and off"}
_SURROGATE = re.compile("[\ud800-\udfff]")
PATH_KEYS = (
    ("prompts", "path"),
    ("prompts", "feedback"),
    ("policy", "model"),
    ("translator", "model"),
    ("translator", "prompt"),
    ("translator", "fallbacks", "model"),
    ("translator", "fallbacks", "prompt"),
    ("align", "teacher"),
    ("align", "launch", "config"),
    ("evaluation", "validation"),
    ("evaluation", "test"),
    ("evaluation", "references"),
    ("evaluation", "suites"),
    ("evaluation", "ability", "neutral"),
    ("evaluation", "ability", "choices"),
    ("gate",),
)
"""Where a configuration names files; relative ones start from the configuration's own folder."""


def _weights_in_words(weights: Mapping[str, float] | None) -> str:
    return "equal" if not weights else ", ".join(f"{code} {weight:g}" for code, weight in sorted(weights.items()))


def _openings_in_words(name: str, term: OpeningSettings) -> dict[str, str]:
    both = (term.refusal_openings, term.compliance_openings)
    return {f"{name} openings": " / ".join(", ".join(map(repr, openings)) for openings in both)}


def _model_name(location: str) -> str:
    """A model as it may be shown anywhere: a folder by its last name only."""
    return Path(location).name if Path(location).expanduser().is_absolute() else location


def load_config(
    name_or_path: str,
    *,
    languages: Sequence[str] | None = None,
    workspace: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> PipelineConfig:
    """Loads a configuration.

    Args:
        name_or_path: Name of a shipped configuration, such as ``quickstart``, or a YAML file.
        languages: Languages in place of the configuration's; those that start with ``+`` are added to it and those
            that start with ``-`` are taken away.
        workspace: Workspace in place of the configuration's.
        overrides: Values by dotted key, such as ``{"align.steps": 12}``.

    Raises:
        UserError: The file cannot be read, or a key or value is wrong.
    """
    path = _find(name_or_path)
    values = _read_yaml(path)
    if path.parent != SHIPPED_CONFIGS:
        _anchor_paths(values, path.parent.resolve())
    for key, value in (overrides or {}).items():
        _set(values, key, value)
    return validate_config(changed_values(values, languages=languages, workspace=workspace))


def changed_values(
    values: Mapping[str, Any], *, languages: Sequence[str] | None, workspace: str | None
) -> dict[str, Any]:
    """The plain values of a configuration with a person's choice of languages and workspace.

    Args:
        values: The configuration.
        languages: As for :func:`load_config`.
        workspace: As for :func:`load_config`.

    Raises:
        UserError: As of :func:`combine_languages`.
    """
    changed = dict(values)
    if languages:
        changed["languages"] = combine_languages(values.get("languages") or (), languages)
    if workspace:
        changed["workspace"] = workspace
    return changed


def validate_config(values: Mapping[str, Any]) -> PipelineConfig:
    """Checks plain values and gives the typed configuration.

    Raises:
        UserError: The first thing that is wrong, in one sentence.
    """
    _require_sound(values)
    try:
        return PipelineConfig.model_validate(values)
    except ValidationError as error:
        raise _explained(error, values) from None


def known_values(values: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The values of a recorded configuration without the keys that this release does not know, and those keys, dotted.

    Of other mistakes nothing is said: :func:`validate_config` tells them.
    """
    known: dict[str, Any] = deepcopy(dict(values))
    dropped: list[str] = []
    while unknown := _unknown_places(known):
        for *way, key in unknown:
            inner: Any = known
            for part in way:
                inner = inner[part]
            del inner[key]
            dropped.append(".".join(map(str, (*way, key))))
    return known, tuple(dropped)


def _unknown_places(values: Mapping[str, Any]) -> set[tuple[int | str, ...]]:
    try:
        PipelineConfig.model_validate(values)
    except ValidationError as error:
        return {_place(one["loc"], values) for one in error.errors() if one["type"] == "extra_forbidden"}
    except UserError:
        pass
    return set()


def read_gate(location: str) -> GateSettings:
    """Loads the policy of a gate by itself.

    Args:
        location: Name of a shipped policy, or a YAML file.

    Raises:
        UserError: The file cannot be read, or a key or value is wrong.
    """
    values = read_policy(location, Path.cwd())
    try:
        return GateSettings.model_validate(values)
    except ValidationError as error:
        raise _explained(error, values, "gate") from None


def load_quality(path: str | None, overrides: Mapping[str, Any] | None = None) -> QualitySettings:
    """Loads the thresholds of the filter by themselves.

    Args:
        path: A YAML file with the keys of ``quality``, or a whole configuration; the defaults if None.
        overrides: Values by dotted key below ``quality``, such as ``{"default.length_z": 3}``.

    Raises:
        UserError: The file cannot be read, or a key or value is wrong.
    """
    values: dict[str, Any] = {}
    if path is not None:
        file = Path(path).expanduser()
        if not file.is_file():
            raise UserError(f"There is no file of thresholds {path!r}: give a YAML file with the keys of quality.")
        values = _read_yaml(file)
        # A whole configuration names its prompts; thresholds and it both have a key `languages`.
        if {"prompts", "quality"} & set(values):
            values = values.get("quality") or {}
    for key, value in (overrides or {}).items():
        _set(values, key.removeprefix("quality."), value)
    try:
        return QualitySettings.model_validate(values)
    except ValidationError as error:
        raise _explained(error, values, "quality") from None


def combine_languages(configured: Iterable[Any], wanted: Sequence[str]) -> list[str]:
    """Applies a person's choice of languages to the configured ones.

    Raises:
        UserError: Plain names and changes (``+``, ``-``) are mixed, or nothing is left.
    """
    words = words_of(wanted)
    changes = [word for word in words if word[0] in "+-"]
    if not changes:
        return words
    if len(changes) < len(words):
        raise UserError(
            f"The languages {','.join(words)!r} mix plain names with + or -: write a list of languages, "
            "or changes only."
        )
    codes = []
    for number, name in enumerate(configured):
        if isinstance(name, bool):
            raise UserError(_unquoted(f"languages.{number}", name))
        codes.append(resolve_language(str(name)).code)
    for change in changes:
        code = resolve_language(change[1:]).code
        if change[0] == "+":
            codes.append(code)
        elif code in codes:
            codes.remove(code)
        else:
            raise UserError(f"The language {change[1:]!r} cannot be taken away: it is not in the configuration.")
    if not codes:
        raise UserError("No language is left: name at least one to translate into.")
    return list(dict.fromkeys(codes))


def parse_overrides(pairs: Iterable[str]) -> dict[str, Any]:
    """Turns ``key=value`` texts into overrides; values are read as YAML.

    Raises:
        UserError: A text has no ``=``, or its value is no YAML.
    """
    overrides = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign or not key.strip():
            raise UserError(f"The setting {_short(pair)} is not of the form key=value, such as align.steps=12.")
        try:
            overrides[key.strip()] = parse_yaml(value)
        except YamlProblem as problem:
            raise UserError(f"The value of {_short(pair)} {problem}: quote it as in YAML.") from None
    return overrides


class _EditAlone(Settings):
    edit: EditStageSettings = Field(default_factory=EditStageSettings)


class _PolicyAlone(Settings):
    policy: PolicySettings


def parse_edit(pairs: Iterable[str]) -> EditStageSettings:
    """Settings of the section ``edit`` from ``key=value`` texts, such as ``rank=8`` or ``units.z_threshold=3``.

    Raises:
        UserError: The first thing that is wrong, in one sentence.
    """
    values: dict[str, Any] = {}
    for key, value in parse_overrides(pairs).items():
        _set(values, f"edit.{key.removeprefix('edit.')}", value)
    try:
        return _EditAlone.model_validate(values).edit
    except ValidationError as error:
        raise _explained(error, values) from None


def parse_policy(model: str, variables: Iterable[str] = (), *, allow_pickle: bool = False) -> PolicySettings:
    """The settings of a policy that a command loads by itself.

    Args:
        model: Where it is.
        variables: Variables of its chat template as ``name=value`` texts.
        allow_pickle: Whether weights that are not safetensors may be read.

    Raises:
        UserError: The first thing that is wrong, in one sentence.
    """
    given = {"model": model, "allow_pickle": allow_pickle, "chat_template_kwargs": parse_overrides(variables)}
    values = {"policy": given}
    try:
        return _PolicyAlone.model_validate(values).policy
    except ValidationError as error:
        raise _explained(error, values) from None


def _find(name_or_path: str) -> Path:
    shipped = SHIPPED_CONFIGS / f"{name_or_path}.yaml"
    if name_or_path in shipped_configs():
        return shipped
    with suppress(OSError, RuntimeError):  # a name that is too long, or of a person who is not here
        path = Path(name_or_path).expanduser()
        if path.is_file():
            return path
    names = shipped_configs()
    hint = hint_among(name_or_path, names, f"give a YAML file, or one of {', '.join(names)}.")
    raise UserError(f"There is no configuration {_short(name_or_path)}: {hint}")


def _read_yaml(path: Path) -> dict[str, Any]:
    values = read_mapping(path, f"The configuration {str(path)!r}", "of keys to values")
    _require_sound(values)
    return values


def _require_sound(value: Any, *place: str) -> None:
    """Refuses what no key can have and libraries stumble over: NUL, halves of letters, endless numbers and names.

    Raises:
        UserError: Somewhere in the values is such a thing.
    """
    key = ".".join(place)[:_LONGEST_SHOWN]
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if len(str(name)) > _LONGEST_KEY:
                raise UserError(f"The configuration has a key of {len(str(name))} letters: {_short(name)} is none.")
            _require_sound(name if isinstance(name, str) else None, *place)
            _require_sound(inner, *place, str(name))
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            _require_sound(inner, *place, str(number))
    elif isinstance(value, int) and abs(value) > _LARGEST:
        raise UserError(f"The configuration key {key!r} has a number that is too large: {_LARGEST} is the largest.")
    elif isinstance(value, str):
        if "\0" in value or _SURROGATE.search(value):
            raise UserError(f"The configuration key {key!r} has a text with NUL or half a letter in it: take it out.")
        named = tuple(part for part in place if not part.isdigit())
        if named in (*PATH_KEYS, ("workspace",)) and not _may_be_a_path(value):
            raise UserError(f"The configuration key {key!r} has a path with a name that is too long: shorten it.")


def _may_be_a_path(text: str) -> bool:
    return len(text.encode()) < _LONGEST_PATH and all(
        len(part.encode()) <= _LONGEST_NAME for part in text.replace(os.sep, "/").split("/")
    )


def _anchor_paths(values: dict[str, Any], folder: Path) -> None:
    for *sections, key in PATH_KEYS:
        for part in _parts_at(values, sections):
            _anchor(part, key, folder)
    for name in ("parallel", "unpaired"):
        for given in _parts_at(values, ("prompts", name)):
            for language in given:
                _anchor(given, language, folder)


def _anchor(part: dict[str, Any], key: str, folder: Path) -> None:
    location = part.get(key)
    if isinstance(location, list):
        part[key] = [_anchored(one, folder) for one in location]
    elif isinstance(location, str):
        part[key] = _anchored(location, folder)


def _anchored(location: Any, folder: Path) -> Any:
    if isinstance(location, str) and not location.startswith(SHIPPED_PREFIX) and _is_there(folder / location):
        return str(folder / location)
    return location


def _parts_at(values: Any, sections: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The mappings at a place; a list on the way stands for each of its members."""
    if isinstance(values, list):
        for member in values:
            yield from _parts_at(member, sections)
    elif isinstance(values, dict):
        if sections:
            yield from _parts_at(values.get(sections[0]), sections[1:])
        else:
            yield values


def _is_there(path: Path) -> bool:
    """Whether there is a file or folder, or something that a pattern matches."""
    return path.exists() or bool(glob.glob(str(path)))


def _set(values: dict[str, Any], key: str, value: Any) -> None:
    place = values
    *sections, last = key.split(".")
    for section in sections:
        inner = place.setdefault(section, {})
        if not isinstance(inner, dict):
            raise UserError(f"The key {key!r} is wrong: {section!r} is a value and has no keys of its own.")
        place = inner
    place[last] = value


def _explained(error: ValidationError, values: Mapping[str, Any], *sections: str) -> UserError:
    """The first thing that is wrong with values, in one sentence.

    Args:
        error: What pydantic says.
        values: What it was given.
        sections: Where these stand in a configuration.
    """
    # A key that is no text, or that is written as on the command line, may be why another one is missing.
    first, *others = sorted(error.errors(), key=_is_about_a_value)
    if first["type"] == "invalid_key":
        key = ".".join(map(str, (*sections, *first["loc"][:-1])))
        holder = f"The configuration key {key!r}" if key else "The configuration"
        return UserError(f"{holder} has the key {_short(first['input'])}, which is no text: write the name of a key.")
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, UserError):
        return _with_short_values(cause)
    if first["type"] == "extra_forbidden":
        return UserError(_unknown_key((*sections, *first["loc"])))
    place = _place(first["loc"], values)
    if first["type"] == "missing":
        key = ".".join(map(str, (*sections, *place, first["loc"][-1])))
        return UserError(f"The configuration lacks {key!r}: add it, as in the shipped configurations.")
    key = ".".join(map(str, (*sections, *place)))
    if first["type"] == "string_type" and isinstance(first["input"], bool):
        named = f"{key}.{_short(first['input'])}" if first["loc"][-1] == "[key]" else key
        return UserError(_unquoted(named, first["input"]))
    # Where a value may be one of several kinds, there is one error for each of them.
    kinds = [first, *(other for other in others if _place(other["loc"], values) == place)]
    demands = list(dict.fromkeys(map(demand_of, kinds)))
    alternatives = " or ".join(
        [demands[0], *(demand.removeprefix("must ").removeprefix("be ") for demand in demands[1:])]
    )
    given, words = first["input"], ""
    if isinstance(given, bool):
        words = f", which is how YAML reads {_AS_YAML_READS[given]} without quotes"
    advice = ""
    if first["type"] == "tuple_type" and isinstance(given, str | int | float):
        advice = f": write [{given}]" if len(str(given)) <= _LONGEST_SHOWN else ": write it in square brackets"
    near = difflib.get_close_matches(str(given), re.findall("'([^']+)'", first.get("ctx", {}).get("expected", "")), n=1)
    end = f": did you mean {near[0]!r}?" if near else f"{advice}."
    return UserError(f"The configuration key {key!r} has the value {_short(given)}{words}, but it {alternatives}{end}")


def _with_short_values(error: UserError) -> UserError:
    """A mistake of which no value takes more than a few lines."""
    said = _LONG_VALUE.sub(lambda found: f"{found[1]}{found[2]}…{found[1]}", str(error))
    return error if said == str(error) else UserError(said, about=error.about)


def _is_about_a_value(error: Any) -> bool:
    dotted = error["type"] == "extra_forbidden" and "." in str(error["loc"][-1])
    return not (error["type"] == "invalid_key" or dotted)


def _place(location: Sequence[int | str], values: Any) -> tuple[int | str, ...]:
    """The keys on the way to a value; pydantic names the kinds that a value may be on the way, too."""
    place: list[int | str] = []
    for part in location:
        inner = values
        if isinstance(values, Mapping):
            # YAML knows keys that are no texts.
            inner = next((value for name, value in values.items() if str(name) == str(part)), None)
            known = any(str(name) == str(part) for name in values)
        else:
            known = isinstance(values, list | tuple) and isinstance(part, int) and part < len(values)
            inner = values[part] if known else values
        if known:
            place.append(part)
            values = inner
    return tuple(place)


def _unquoted(key: str, value: bool) -> str:
    """What to say of a word that YAML does not take for a text."""
    words = _AS_YAML_READS[value]
    quoted = words.replace(" and ", '" or "')
    return (
        f"The configuration key {key!r} is {_short(value)}, which is how YAML reads {words} without quotes: write "
        f'"{quoted}".'
    )


def _short(value: Any) -> str:
    shown = _IN_YAML[value] if value is None or isinstance(value, bool) else redacted(repr(value))
    return shown if len(shown) <= _LONGEST_SHOWN else f"{shown[: _LONGEST_SHOWN - 3]}…"


def _unknown_key(location: tuple[int | str, ...]) -> str:
    model: type[BaseModel] | None = PipelineConfig
    keyed = False
    for part in location[:-1]:
        if isinstance(part, int):
            # Of a list, whose members are described by its type.
            continue
        if keyed:
            # A language, a script or the like: what is below it is described by the mapping's values.
            keyed = False
            continue
        field = model.model_fields.get(str(part)) if model else None
        keyed = field is not None and get_origin(field.annotation) is dict
        model = _inner_model(model, str(part)) if model else None
    section, dot, inner = str(location[-1]).partition(".")
    if dot and model and section in model.model_fields:
        return (
            f"The configuration key {_dotted('.'.join(map(str, location[:-1])), str(location[-1]))!r} is written as on "
            f"the command line: write {section}: on a line of its own, and {inner}: below it."
        )
    known = sorted(model.model_fields) if model else []
    prefix = ".".join(str(part) for part in location[:-1])
    near = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.4)
    hint = f"did you mean {_dotted(prefix, near[0])!r}?" if near else f"allowed here are {', '.join(known)}."
    return f"The configuration key {_dotted(prefix, str(location[-1]))!r} is unknown: {hint}"


def _dotted(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _inner_model(model: type[BaseModel], name: str) -> type[BaseModel] | None:
    field = model.model_fields.get(name)
    if field is None:
        return None
    candidates = (field.annotation, *get_args(field.annotation))
    return next((kind for kind in candidates if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
