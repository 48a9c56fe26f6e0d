"""Configuration of the alignment."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from pydantic import Field, field_validator, model_validator

from mlc.catalogue import CARRIERS
from mlc.choices import Anchor, Center, CenterScope, Difference, Divergence, FloatType, Form, Optimiser, Pool
from mlc.errors import UserError
from mlc.evaluation.choosing import Entry, choose
from mlc.extras import require_extra
from mlc.settings import Settings, Spoken, require_apart
from mlc.yaml_text import read_mapping

if TYPE_CHECKING:
    from mlc.training.carriers.carrier import Carrier

Control = Literal["none", "shuffled", "shuffled_within_class", "permuted_labels"]
TermName = Literal["consistency", "decision", "answer"]

LABELLED_CONTROLS = ("shuffled_within_class", "permuted_labels")
"""Controls that need the label of every prompt."""

HARMFUL_LABEL = "harmful"
"""How the prompts are labelled whose answers are compared as a whole."""

TRANSLATED_SHARE = 0.5
"""Share of translated examples in the method that trains on them."""

FORM_DEFAULTS: dict[str, dict[str, Any]] = {
    "cosine": {"anchor": "english", "center": "batch", "layer": 0.5, "pool": "last_content", "dim": None},
    "contrastive": {"anchor": "english", "center": "batch", "layer": 0.5, "pool": "last", "dim": None},
    "released": {"anchor": "none", "center": "none", "layer": -1, "pool": "last", "dim": 512},
    "paper": {"anchor": "none", "center": "none", "layer": -1, "pool": "last", "dim": 512},
}
"""What each form stands for where a configuration names nothing else: ``cosine`` and ``contrastive`` are the anchored,
centred, sign-aware terms of this project, ``released`` and ``paper`` are the published method."""


PAIR_LOSSES = ("mpo", "msd")
"""Carriers that read pairs, and have a section of their own."""


class TermSettings(Settings):
    """What the terms beside the English loss have in common; all of them read the translations of a prompt."""

    usual_weight: ClassVar[float] = 0.0
    """What a method that is made of the term takes where its weight is 0."""

    weight: float = Field(default=0.0, ge=0)
    """Weight of the term; 0 leaves it out and computes nothing for it. A method that is made of the term takes its
    usual weight then."""
    warmup_steps: int = Field(default=0, ge=0)
    """Optimiser steps over which the weight rises linearly from 0 (in the first step) to its full value."""
    every: int = Field(default=1, ge=1)
    """The term enters one optimiser step in so many, the first one included; in the others nothing is computed."""
    prompts_per_step: int | None = Field(default=None, ge=1)
    """Prompts of each optimiser step whose translations enter the term; none = all of them. Terms of one training share
    their prompts: the smallest number holds for all of them."""
    max_tokens: int = Field(default=256, ge=1)
    """Variants with more tokens, chat template included, count as missing; of several terms, the smallest number
    holds."""
    language_weights: dict[str, float] | None = None
    """Weight of languages in the term, by the name that the data gives them, such as ``{swh_Latn: 2.0}``; 1 for
    others. See :func:`mlc.losses.consistency_loss`."""
    control: Control = "none"
    """``shuffled`` gives each prompt the translations of another prompt, ``shuffled_within_class`` of another one with
    the same label: controls that show what exact parallelism is worth. ``permuted_labels`` deals the labels anew: who
    gets another one swaps translations with a prompt of the other class, so that the class says nothing any more."""

    @field_validator("language_weights")
    @classmethod
    def _weights_are_weights(cls, weights: dict[str, float] | None) -> dict[str, float] | None:
        for language, weight in (weights or {}).items():
            if not 0 <= weight < math.inf:
                raise ValueError(f"the weight of {language} must be finite and at least 0, not {weight}")
        return weights

    @property
    def reads_english(self) -> bool:
        """Whether all that the term compares is compared with English."""
        return True

    def weights_of(self, names: Sequence[str]) -> list[float] | None:
        """[L] weights of languages; None where the term names none.

        Args:
            names: [L] names of the languages, English first.

        Raises:
            ValueError: The term names a language that is not there, or leaves nothing to compare.
        """
        if self.language_weights is None:
            return None
        if unknown := [name for name in self.language_weights if name not in names]:
            raise ValueError(f"language_weights names {unknown[0]!r}; the data has {', '.join(names)}.")
        weights = [self.language_weights.get(name, 1.0) for name in names]
        off = [name for name, weight in zip(names, weights, strict=True) if not weight]
        if off and (len(names) - len(off) < 2 or (self.reads_english and names[0] in off)):
            needed = f"{names[0]} and another language" if self.reads_english else "at least two languages"
            raise ValueError(
                f"language_weights of 0 for {', '.join(off)} leave nothing to compare: give {needed} a weight above 0, "
                "or set the weight of the term to 0."
            )
        return weights

    def weight_at(self, step: int) -> float:
        """The weight in an optimiser step, counted from 0; 0 where the term is off.

        Args:
            step: Optimiser steps done before this one.
        """
        if step % self.every:
            return 0.0
        return self.weight * min(1.0, step / self.warmup_steps) if self.warmup_steps else self.weight


class ConsistencyConfig(TermSettings):
    """The consistency term beside the English loss.

    Left unset, ``anchor``, ``center``, ``layer``, ``pool`` and ``dim`` follow the form, see :data:`FORM_DEFAULTS`.
    """

    weight: float = Field(default=1.0, ge=0)
    """Lambda, the weight of the term; 0 leaves it out and computes nothing for it."""
    form: Form = "cosine"
    """Which loss, see :func:`mlc.losses.consistency_loss`."""
    signed: bool = False
    """Whether the spectral forms count opposite vectors as inconsistent."""
    temperature: float = Field(default=0.2, gt=0)
    """Temperature of the spectral and the contrastive forms."""
    anchor: Anchor
    """``english`` moves the other languages towards English and leaves English where it is."""
    center: Center
    """Which mean state is subtracted first, see :class:`mlc.losses.Centering`."""
    center_scope: CenterScope = "english"
    """Whose rows make that mean."""
    layer: int | float
    """Index of the hidden state (0 = embeddings, negative from the end), or a fraction of the depth."""
    pool: Pool
    """Which tokens stand for a prompt, see :func:`mlc.models.states.prompt_states`."""
    dim: int | None = Field(ge=1)
    """Size of the linear extractor; none = the states themselves."""

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
    def _has_something_to_learn_from(self) -> "ConsistencyConfig":
        alone = self.prompts_per_step == 1 and self.weight > 0
        if alone and self.form == "contrastive":
            raise ValueError(
                "with prompts_per_step 1 the form contrastive has no other prompt to contrast with; take at least 2"
            )
        if alone and self.centres_alone_away:
            raise ValueError(
                "with prompts_per_step 1 the mean of the batch's English rows is the English row itself, so nothing "
                "is left to learn from; take at least 2, or another center"
            )
        return self

    @property
    def reads_english(self) -> bool:
        """Whether all that the term compares is compared with English."""
        return self.anchor == "english" or self.form == "contrastive"

    @property
    def centres_alone_away(self) -> bool:
        """Whether of a prompt that is alone in a batch nothing is left once the mean is subtracted."""
        return self.center == "batch" and self.center_scope != "overall"

    @property
    def needs_content(self) -> bool:
        """Whether the pooling asks which tokens are the person's own text."""
        return self.pool != "last"


class BalanceSettings(Settings):
    """How much each language counts in all terms, beside their ``language_weights``.

    For weights by the quality of translations see ``dataset.quality_weights``.
    """

    weigh: Literal["equal", "temperature", "risk"] = "equal"
    """``temperature`` weighs by how many translations there are, ``risk`` by the attack success on labelled prompts
    that are taken out of training for it, estimated anew while it goes on: see :mod:`mlc.training.balance`."""
    temperature: float = Field(default=5.0, ge=1)
    """T: a language counts as much as its number of translations to the power of 1 / T; 1 = equal weights."""
    prompts: int = Field(default=16, ge=2)
    """Prompts that the risk is measured on, half of them harmful; at most a quarter of either class."""
    every: int = Field(default=10, ge=1)
    """Optimiser steps between two estimates of the risk; the first one is before the first step."""
    floor: float = Field(default=0.1, gt=0)
    """What is added to each risk, so that a language without any still counts."""


OPENINGS = ("refusal_openings", "compliance_openings")
"""Settings, of the evaluation and of terms, that are texts in the anchor language."""


class OpeningSettings(TermSettings):
    """A term that reads how an answer begins. Its openings are not those that the evaluation measures with."""

    refusal_openings: tuple[Spoken, ...] = Field(default=("I cannot assist", "I won't provide"), min_length=1)
    """Openings of a refusal; their mean log-probability per token is one side of the margin. They must differ from
    those of the evaluation, which would else measure what it was trained on."""
    compliance_openings: tuple[Spoken, ...] = Field(default=("Of course, here", "Here are some"), min_length=1)
    """Openings of an answer; the other side of the margin."""

    @model_validator(mode="after")
    def _openings_differ(self) -> "OpeningSettings":
        require_apart(self.refusal_openings, self.compliance_openings)
        return self


class DecisionConfig(OpeningSettings):
    """The decision term: a translation is to be refused as much as its English prompt is."""

    usual_weight: ClassVar[float] = 0.1

    difference: Difference = "huber"
    """How far two margins lie apart, see :func:`mlc.losses.decision_loss`."""
    delta: float = Field(default=1.0, gt=0)
    """Difference in nats beyond which ``huber`` grows no faster than linearly."""


class AnswerConfig(OpeningSettings):
    """The answer term: what comes next in an answer is to be the same after a translation as after English."""

    usual_weight: ClassVar[float] = 1.0

    divergence: Divergence = "forward"
    """How far two distributions lie apart, see :func:`mlc.losses.answer_loss`."""
    tokens: int = Field(default=8, ge=1)
    """Tokens at the beginning of the answer that are compared."""
    source: Literal["chosen", "own"] = "chosen"
    """Whose answer: ``chosen`` is that of the training set, ``own`` the model's own to the English prompt, greedily, as
    it would give it in that step."""
    teacher: Literal["self", "start"] = "self"
    """Who reads the English prompt: the model itself (``self``), detached, or a frozen copy from the ``start``."""
    harmless: Literal["openings", "vocabulary", "none"] = "openings"
    """What is compared for prompts that are not labelled harmful. The whole ``vocabulary`` teaches a model to answer
    translations in English. ``openings`` compares only how much likelier openings of a refusal are than those of an
    answer; ``none`` leaves such prompts out."""


class TranslatedSettings(Settings):
    """Translated prompts as ordinary training examples, with the English answers: the baseline that needs no term."""

    share: float = Field(default=0.0, ge=0, lt=1)
    """Share of the training examples that are translated prompts; 0 = none. A method that is made of them takes a half
    then."""
    control: Control = "none"
    """As in a term."""
    switched: float = Field(default=0.0, ge=0, le=1)
    """Share of the translated prompts in which parts stay in English (code-switching)."""


class MPOSettings(Settings):
    """Reward-gap optimisation, see :func:`mlc.losses.reward_gap.reward_gap_loss`."""

    beta: float = Field(default=1.0, gt=0)
    """Factor of the translation's reward gap."""
    retention: float = Field(default=1.0, ge=0)
    """Weight of what keeps English states where they are."""


class MSDSettings(Settings):
    """Self-distillation from the model that sees the English prompt too, see :func:`mlc.losses.guided.guided_loss`."""

    policy: Literal["off", "on"] = "off"
    """Who writes the answers: ``off`` is the teacher, ``on`` the model that is trained."""
    answer_tokens: int = Field(default=32, ge=1)
    """Longest answer that is sampled, in tokens."""
    top: int = Field(default=20, ge=2)
    """Tokens among which it is measured how sure the teacher is."""
    weighted: bool = True
    """Whether tokens have weights; else the loss is their plain mean."""
    instruction: str = Field(
        default="Think first about whether an answer would be safe, and answer in the language of the first question.",
        min_length=1,
    )
    """What the teacher sees behind the translation and the English prompt."""


class FeedbackSettings(Settings):
    """Learning from answers that people called good or bad, see :func:`mlc.losses.feedback.feedback_loss`."""

    beta: float = Field(default=0.1, gt=0)
    """How soon an answer counts as learnt; a low value stays closer to the model before."""
    good_weight: float = Field(default=1.0, ge=0)
    """Weight of good answers; where there are far fewer of them than of bad ones, give them more."""
    bad_weight: float = Field(default=1.0, ge=0)
    """Weight of bad answers."""


class CMAlignSettings(Settings):
    """Preference for a model's own answers that agree with its English ones (CM-Align)."""

    answers: int = Field(default=4, ge=2)
    """K, answers that are sampled for each prompt in each language."""
    nll: float = Field(default=0.2, ge=0)
    """Gamma, weight of the chosen answers' cross-entropy beside the preference; not known to us from the paper."""


class GRPOSettings(Settings):
    """Group relative policy optimisation with a judge as reward, see :mod:`mlc.training.rewards`; names are TRL's."""

    judge: Entry = "rules"
    """Whose verdicts are the reward, as an entry of ``evaluation.judges``. What it overlooks is learned, so let another
    one judge the evaluation too."""
    num_generations: int = Field(default=8, ge=2)
    """Answers to each prompt of a step, which are compared with each other."""
    max_completion_length: int = Field(default=64, ge=1)
    """Longest answer, in tokens."""
    temperature: float = Field(default=1.0, gt=0)
    """Of the sampling."""
    beta: float = Field(default=0.04, ge=0)
    """Weight of the divergence from the policy as it was; 0 keeps no copy of it."""
    epsilon: float = Field(default=0.2, gt=0, lt=1)
    """How far the probability of an answer's token may move in a step before its gain counts no more."""
    harmless_share: float = Field(default=0.5, gt=0, lt=1)
    """Share of the prompts of each step that are harmless, at least one of them, and at least one is harmful: a policy
    that refuses everything is to gain nothing by it."""
    lookalike_share: float = Field(default=0.25, ge=0, le=1)
    """Share of those that only look harmful: rows with ``lookalike`` in the column ``kind``. Others take their place
    where there are none."""

    @field_validator("judge")
    @classmethod
    def _can_be_asked(cls, judge: Entry) -> Entry:
        choose((judge,))
        return judge


class AdapterSettings(Settings):
    """Low-rank matrices beside the weights, which are trained in their place (LoRA, Hu et al., arXiv 2106.09685).

    Layers above the one of the consistency term get nothing from that term, and are trained by the English loss alone.
    """

    kind: Literal["lora", "qlora"] = "lora"
    """``qlora`` keeps the policy in 4-bit numbers while it is trained (Dettmers et al., arXiv 2305.14314), for which
    bitsandbytes must be installed."""
    r: int = Field(default=16, ge=1)
    """Rank."""
    alpha: int = Field(default=32, ge=1)
    """What the adapter adds is multiplied by this, divided by ``r``."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the adapter's inputs that is left out at random."""
    target_modules: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    """Names of the linear modules that get one, such as ``[q_proj, v_proj]``; ``all-linear`` is those of attention and
    MLP in every family."""
    layers: tuple[int, ...] | None = Field(default=None, min_length=1)
    """Layers that get one, counted from 0 (negative from the end); none = all."""
    use_dora: bool = False
    """Directions and lengths apart (DoRA, arXiv 2402.09353)."""
    use_rslora: bool = False
    """Divides by the root of ``r`` (rank-stabilised LoRA, arXiv 2312.03732)."""

    @model_validator(mode="after")
    def _can_be_trained(self) -> "AdapterSettings":
        if self.kind == "qlora":
            require_extra("bitsandbytes", "align.adapter: qlora")
        return self


class LaunchSettings(Settings):
    """Several processes of this machine for one training, started with ``accelerate launch``."""

    processes: int | None = Field(default=None, ge=1)
    """Processes, each with a whole copy of the model and its share of every step (DDP). In place of ``config``."""
    config: dict[str, Any] | None = None
    """A configuration file of accelerate, as ``accelerate config`` writes it, or what stands in one: DDP, FSDP in its
    version 2, or DeepSpeed's ZeRO, stages 1 and 2. Its ``mixed_precision`` is not read, ``autocast`` is."""

    @field_validator("config", mode="before")
    @classmethod
    def _file(cls, config: Any) -> Any:
        if isinstance(config, str):
            return read_mapping(Path(config), f"The configuration of accelerate {config!r}", "of its settings")
        return config

    @model_validator(mode="after")
    def _can_be_launched(self) -> "LaunchSettings":
        if (self.processes is None) == (self.config is None):
            raise ValueError("set either processes or config, a configuration file of accelerate")
        if self.config is None:
            return self
        number = self.config.get("num_processes")
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            raise ValueError(f"num_processes must be a whole number of at least 1 in the file, not {number!r}")
        if self.config.get("num_machines", 1) != 1:
            raise ValueError("a stage starts processes on its own machine alone: num_machines must be 1 in the file")
        engine = str(self.config.get("distributed_type", "NO")).upper()
        if engine not in _ENGINES:
            raise ValueError(f"distributed_type must be one of {', '.join(_ENGINES)} in the file, not {engine}")
        if engine == "FSDP" and self.config.get("fsdp_config", {}).get("fsdp_version") != 2:
            raise ValueError("the terms know FSDP in its version 2 alone: set fsdp_version to 2 in the file")
        if engine == "DEEPSPEED":
            self._require_deepspeed(self.config.get("deepspeed_config", {}))
        return self

    @staticmethod
    def _require_deepspeed(config: Mapping[str, Any]) -> None:
        require_extra("deepspeed", "align.launch with DeepSpeed")
        if "deepspeed_config_file" in config:
            raise ValueError("deepspeed_config_file is a file that no key would know: write zero_stage and so on")
        if config.get("zero_stage") not in (1, 2):
            raise ValueError("zero_stage must be 1 or 2 in the file: the terms run a part of the model by themselves")

    @property
    def count(self) -> int:
        """Processes."""
        return int(self.config["num_processes"]) if self.config else self.processes or 1

    @property
    def engine(self) -> Literal["DDP", "FSDP", "DEEPSPEED"]:
        """How the processes share the model: a copy each (DDP), or in shards."""
        named = str((self.config or {}).get("distributed_type")).upper()
        return "FSDP" if named == "FSDP" else "DEEPSPEED" if named == "DEEPSPEED" else "DDP"

    @property
    def facts(self) -> dict[str, Any]:
        """What of it may change numbers, for keys."""
        given = {name: value for name, value in (self.config or {}).items() if name not in _PLACES}
        return given | {"engine": self.engine, "num_processes": self.count}


_ENGINES = ("NO", "MULTI_CPU", "MULTI_GPU", "FSDP", "DEEPSPEED")
_PLACES = (
    *("compute_environment", "debug", "distributed_type", "enable_cpu_affinity", "gpu_ids", "machine_rank"),
    *("main_process_ip", "main_process_port", "main_training_function", "mixed_precision"),
    *("num_cpu_threads_per_process", "num_machines", "rdzv_backend", "same_network", "tpu_env", "tpu_use_cluster"),
    *("tpu_use_sudo", "use_cpu"),
)
"""Of a file of accelerate: where it is computed, and what is said elsewhere."""


@dataclass(frozen=True)
class Terms:
    """The terms beside an English loss, which share one batch of translations."""

    consistency: ConsistencyConfig = field(default_factory=lambda: _off(ConsistencyConfig))
    decision: DecisionConfig = field(default_factory=DecisionConfig)
    answer: AnswerConfig = field(default_factory=AnswerConfig)
    balance: BalanceSettings = field(default_factory=BalanceSettings)

    @property
    def each(self) -> dict[TermName, TermSettings]:
        """All of them, by name."""
        return {"consistency": self.consistency, "decision": self.decision, "answer": self.answer}

    @property
    def active(self) -> dict[TermName, TermSettings]:
        """Those with a weight, by name."""
        return {name: term for name, term in self.each.items() if term.weight > 0}

    @property
    def max_tokens(self) -> int:
        """Longest variant; see :class:`TermSettings`."""
        return min(term.max_tokens for term in self.active.values())

    @property
    def prompts_per_step(self) -> int | None:
        """Prompts of a step whose translations enter the terms; None = all of them."""
        given = [term.prompts_per_step for term in self.active.values() if term.prompts_per_step is not None]
        return min(given, default=None)

    @property
    def control(self) -> Control:
        """Which translations a prompt gets.

        Raises:
            ValueError: The terms name different ones.
        """
        controls = {term.control for term in self.active.values()}
        if len(controls) > 1:
            raise ValueError(
                f"the terms {' and '.join(self.active)} share their translations, so that they need one control, not "
                f"{' and '.join(sorted(controls))}."
            )
        return next(iter(controls), "none")

    @property
    def needs_content(self) -> bool:
        """Whether it is asked which tokens are the person's own text."""
        return self.consistency.weight > 0 and self.consistency.needs_content

    @property
    def needs_answers(self) -> bool:
        """Whether the chosen answers are read."""
        return self.answer.weight > 0 and self.answer.source == "chosen"

    @property
    def needs_labels(self) -> bool:
        """Whether it matters which prompts are harmful."""
        return self.answer.weight > 0 or self.measures_risk or self.control in LABELLED_CONTROLS

    @property
    def measures_risk(self) -> bool:
        """Whether languages weigh by their risk, which the openings of the decision term tell."""
        return bool(self.active) and self.balance.weigh == "risk"

    @property
    def openings(self) -> tuple[str, ...]:
        """The openings that training reads."""
        read = [term for term in self.active.values() if isinstance(term, OpeningSettings)]
        read += [self.decision] if self.measures_risk else []
        return tuple(opening for term in read for opening in (*term.refusal_openings, *term.compliance_openings))


def _off(kind: type[ConsistencyConfig]) -> ConsistencyConfig:
    return kind.model_validate({"weight": 0})


def _default_consistency() -> ConsistencyConfig:
    return ConsistencyConfig.model_validate({})


class AlignSettings(Settings):
    """One alignment: an English loss, and the terms over the translations."""

    carrier: str = "sft"
    """The English loss: ``sft`` is the cross-entropy of the chosen answers, ``kl`` the divergence from a frozen
    ``teacher`` on their tokens; ``dpo``, ``simpo`` and ``orpo`` prefer the chosen answers to the rejected ones;
    ``grpo`` samples answers of its own, which a judge rewards. One of your own is named as ``module:object``, see
    `mlc.training.carriers.carrier`."""
    beta: float | None = Field(default=None, gt=0)
    """Strength of the preference (``dpo``, ``simpo``) or of the odds ratio (``orpo``); none = by carrier: 0.1, 2.0,
    0.1. That of ``grpo`` is in its section."""
    simpo_gamma: float = Field(default=0.5, ge=0)
    """Margin by which ``simpo`` wants the chosen answer to win."""
    nll_weight: float = Field(default=0.0, ge=0)
    """Weight of the cross-entropy of the chosen answers, mean over their tokens, beside ``dpo``."""
    teacher: str | None = None
    """The safe model of the carrier ``kl``, frozen, with the policy's vocabulary; as in ``policy.model``. With an
    adapter it may be left out: the teacher is then the policy without the adapter, and no second model is loaded."""
    steps: int = Field(default=36, ge=1)
    """Optimiser steps."""
    batch_size: int = Field(default=8, ge=1)
    """Prompts in a forward pass of the English loss."""
    accumulation: int = Field(default=1, ge=1)
    """Batches in a step."""
    learning_rate: float = Field(default=5e-5, gt=0)
    """Peak learning rate; an adapter is usually trained with about ten times as much."""
    adapter: AdapterSettings | None = None
    """What is trained: ``none`` is all weights, ``lora`` and ``qlora`` are a small adapter beside them, with defaults
    or as a mapping of ``kind``, ``r``, ``alpha``, ``dropout``, ``target_modules``, ``layers``, ``use_dora`` and
    ``use_rslora``. What is saved is the adapter alone."""
    launch: LaunchSettings | None = None
    """Several processes, as ``{processes: 2}`` or ``{config: accelerate.yaml}``; none = the process of the stage. They
    share the ``batch_size`` times ``accumulation`` prompts of a step, so that a step stays what it is."""
    optim: Optimiser = "adamw_fused"
    """``adamw_fused`` and ``adamw`` keep two numbers a trained weight, ``adafactor`` hardly any; ``adamw_8bit`` and
    ``paged_adamw_8bit`` keep two bytes, for which bitsandbytes must be installed."""
    warmup_share: float = Field(default=0.1, ge=0, le=1)
    """Share of the steps with a rising learning rate; a cosine falls after it."""
    max_gradient_norm: float = Field(default=1.0, gt=0)
    """Gradients longer than this are scaled down to it."""
    max_prompt_tokens: int = Field(default=256, ge=8)
    """Longer prompts are left out of training and counted."""
    max_answer_tokens: int = Field(default=96, ge=1)
    """Longer answers are cut."""
    max_dropped: float = Field(default=0.2, ge=0, le=1)
    """Largest share of prompts, or of texts for the term, that training may go without because they cannot be used, and
    of rows of either file of held-out prompts; a larger one is an error before anything is trained. What the filter
    drops does not count."""
    gradient_checkpointing: bool = False
    """Computes activations twice instead of keeping them: less memory, more time."""
    training_dtype: FloatType = "float32"
    """Type of the weights while they are trained; ``bfloat16`` takes half the memory and loses small updates, except of
    an adapter, which stays in float32."""
    autocast: Literal["none", "bfloat16"] = "none"
    """``bfloat16`` multiplies matrices in bfloat16 while weights and losses stay as they are: about twice as fast on a
    GPU or a CPU that knows the type (such as with AVX512_BF16 or AMX), far slower on one that does not."""
    saved_dtype: FloatType = "bfloat16"
    """Type of the weights in the saved checkpoint; see ``training_dtype`` for the training itself. An adapter is saved
    as it is, and this is the type of what it is merged into."""
    warm_start: bool = False
    """Start from the last aligned checkpoint, in fewer steps, when languages are all that was added since; from the
    policy where there is none. Not for ``dpo`` and ``grpo``, whose reference is the model that training starts from,
    nor beside an answer term with the teacher ``start``."""
    warm_start_share: float = Field(default=0.25, gt=0, le=1)
    """Share of ``steps`` that a warm start takes."""
    checkpoint_minutes: float = Field(default=10.0, ge=0)
    """Minutes between two checkpoints from which a training that was stopped goes on; 0 writes one after every step.
    Changes no result."""
    memory: Literal["check", "ignore"] = "check"
    """``check`` refuses a run that needs more memory than this machine has, before anything is spent; ``ignore`` starts
    it all the same. Changes no result."""
    consistency: ConsistencyConfig = Field(default_factory=_default_consistency)
    """The term on states."""
    decision: DecisionConfig = Field(default_factory=DecisionConfig)
    """The term on the decision to refuse."""
    answer: AnswerConfig = Field(default_factory=AnswerConfig)
    """The term on the answer."""
    balance: BalanceSettings = Field(default_factory=BalanceSettings)
    """How much each language counts in the terms."""
    translated: TranslatedSettings = Field(default_factory=TranslatedSettings)
    """Translated prompts among the examples of the English loss."""
    grpo: GRPOSettings = Field(default_factory=GRPOSettings)
    """What the carrier ``grpo`` trains with."""
    mpo: MPOSettings = Field(default_factory=MPOSettings)
    """What the method ``mpo`` trains with."""
    msd: MSDSettings = Field(default_factory=MSDSettings)
    """What the method ``msd`` trains with."""
    feedback: FeedbackSettings = Field(default_factory=FeedbackSettings)
    """What the method ``feedback`` trains with."""
    cm_align: CMAlignSettings = Field(default_factory=CMAlignSettings)
    """What the method ``cm-align`` trains on and with."""

    @field_validator("adapter", mode="before")
    @classmethod
    def _adapter_in_a_word(cls, adapter: Any) -> Any:
        if isinstance(adapter, str):
            return None if adapter == "none" else {"kind": adapter}
        return adapter

    @field_validator("training_dtype", mode="before")
    @classmethod
    def _can_be_trained_in(cls, dtype: Any) -> Any:
        if dtype == "float16":
            raise ValueError(
                "float16 is for answering only, its gradients vanish: take float32 or bfloat16, and policy.dtype for "
                "what is evaluated"
            )
        return dtype

    @field_validator("optim")
    @classmethod
    def _is_there(cls, optim: Optimiser) -> Optimiser:
        if optim.endswith("8bit"):
            require_extra("bitsandbytes", f"align.optim: {optim}")
        return optim

    @field_validator("carrier")
    @classmethod
    def _can_be_loaded(cls, name: str) -> str:
        if CARRIERS.load(name).reads_pairs:
            raise ValueError(
                f"{name} reads translations beside English prompts and is what a method trains with: name the method "
                f"{name} in models, and take another carrier"
            )
        return name

    @model_validator(mode="after")
    def _teacher_fits_the_carrier(self) -> "AlignSettings":
        needed = self.english_loss.needs_teacher
        # Without its adapter a policy can be its own teacher.
        if needed and self.teacher is None and self.adapter is None:
            raise ValueError(
                f"the carrier {self.carrier} needs a teacher: name a safe model with the policy's vocabulary"
            )
        if not needed and self.teacher is not None:
            raise ValueError(f"the carrier {self.carrier} has no teacher; take it out, or take another carrier")
        return self

    @model_validator(mode="after")
    def _cross_entropy_fits_the_carrier(self) -> "AlignSettings":
        if self.nll_weight and self.carrier != "dpo":
            raise ValueError(f"nll_weight stands beside dpo, not beside {self.carrier}; set it to 0, or take dpo")
        return self

    @model_validator(mode="after")
    def _warm_start_fits_the_carrier(self) -> "AlignSettings":
        if self.warm_start and not self.english_loss.warm_start:
            raise ValueError(
                f"warm_start would make the aligned checkpoint the reference of {self.carrier}; take another carrier"
            )
        # Its weight may be 0 here, and be turned on by a method.
        if self.warm_start and self.answer.teacher == "start":
            raise ValueError(
                "warm_start would make the aligned checkpoint what answer.teacher: start keeps; set answer.teacher to "
                "self, or leave warm_start out"
            )
        return self

    @model_validator(mode="after")
    def _fits_a_carrier_that_samples(self) -> "AlignSettings":
        if not self.english_loss.samples:
            return self
        if self.beta is not None:
            raise ValueError(
                f"the carrier {self.carrier} does not read align.beta: set align.grpo.beta, or leave it out"
            )
        if self.batch_size * self.accumulation < 2:
            raise ValueError(
                f"a step of {self.carrier} holds harmful and harmless prompts: set align.batch_size or "
                "align.accumulation to at least 2"
            )
        return self

    @model_validator(mode="after")
    def _processes_share_a_step(self) -> "AlignSettings":
        self.require_launchable()
        return self

    @property
    def english_loss(self) -> "Carrier":
        """What the carrier declares."""
        carrier: Carrier = CARRIERS.load(self.carrier)
        return carrier

    @property
    def warm_steps(self) -> int:
        """Optimiser steps of a warm start; at least 1."""
        return max(1, round(self.warm_start_share * self.steps))

    @property
    def processes(self) -> int:
        """How many train together."""
        return self.launch.count if self.launch else 1

    @property
    def sharded(self) -> bool:
        """Whether several processes each hold a shard of the model (FSDP)."""
        return self.launch is not None and self.launch.engine == "FSDP" and self.processes > 1

    def share_of_a_step(self, processes: int) -> tuple[int, int]:
        """What one of several processes computes of a step: prompts in a batch, and batches.

        Args:
            processes: How many share the step.

        Raises:
            UserError: The prompts of a step cannot be shared out equally.
        """
        # Whole batches where there are enough of them, so that they stay what they are.
        of_step = math.gcd(self.accumulation, processes)
        batch_size, rest = divmod(self.batch_size, processes // of_step)
        if rest:
            raise UserError(
                f"A step has {self.batch_size} × {self.accumulation} prompts, which {processes} processes cannot share "
                "equally: change align.batch_size, align.accumulation or the number of processes."
            )
        return batch_size, self.accumulation // of_step

    def require_launchable(self) -> None:
        """Checks that the processes of ``launch`` can train this.

        Raises:
            UserError: They cannot.
        """
        self.share_of_a_step(self.processes)
        if not self.sharded:
            return
        if self.english_loss.samples:
            raise UserError(
                f"The carrier {self.carrier} samples answers while it trains, and no shard of a model can: take DDP in "
                "place of FSDP, or another carrier."
            )
        if self.adapter and self.adapter.kind == "qlora":
            raise UserError("The weights of qlora are not sharded by FSDP: set align.adapter to lora, or take DDP.")
        if self.consistency.weight > 0 and self.consistency.dim is not None:
            raise UserError(
                "The extractor of the consistency term is not sharded by FSDP: set align.consistency.dim to null, or "
                "take DDP."
            )
        answer = self.answer
        alike = (answer.source, answer.teacher) == ("chosen", "self") and answer.harmless != "none"
        if answer.weight > 0 and not alike:
            raise UserError(
                "Processes that share a model by FSDP compute the answer term alike: set align.answer.source to "
                "chosen, align.answer.teacher to self and align.answer.harmless to openings, or take DDP."
            )

    @property
    def strength(self) -> float | None:
        """``beta``, or the default of the carrier; None for carriers without one."""
        return self.english_loss.beta if self.beta is None else self.beta

    @property
    def terms(self) -> Terms:
        """The terms."""
        return Terms(self.consistency, self.decision, self.answer, self.balance)

    @property
    def unused(self) -> frozenset[str]:
        """Sections that are off, and settings of ``align`` and ``align.consistency``, that decide nothing here."""
        # What of cm_align decides a training is in its examples, and in nll_weight.
        sections = {"consistency", "decision", "answer", "cm_align", "grpo", *PAIR_LOSSES}
        unused = sections - {*self.terms.active, "grpo" if self.english_loss.samples else self.carrier}
        if not self.english_loss.reads_feedback:
            unused.add("feedback")
        if self.terms.measures_risk:
            unused.discard("decision")
        if self.balance.weigh == "equal" or not self.terms.active:
            unused.add("balance")
        if not self.translated.share:
            unused.add("translated")
        return frozenset(unused | self._unread_by_carrier() | self._unread_by_form())

    def _unread_by_carrier(self) -> set[str]:
        # What one from elsewhere reads is not known.
        if self.carrier not in CARRIERS.places:
            return set()
        return {
            *({"beta"} if self.english_loss.beta is None else ()),
            *({"simpo_gamma"} if self.carrier != "simpo" else ()),
        }

    def _unread_by_form(self) -> set[str]:
        read = {"cosine": set(), "contrastive": {"temperature"}}.get(self.consistency.form, {"temperature", "signed"})
        return {f"consistency.{name}" for name in {"temperature", "signed"} - read}

    def without_consistency(self) -> "AlignSettings":
        """The English-only baseline of this alignment: the same with all terms and translations left out.

        Nothing of them stays in it, so that baselines of different terms are one and the same.
        """
        return self.with_terms().model_copy(update={"warm_start": False})

    def with_terms(self, *names: TermName, control: Control | None = None) -> "AlignSettings":
        """The same alignment with these terms and no other, and without translated examples.

        Args:
            *names: The terms; one with weight 0 gets its usual weight.
            control: Of all of them, in place of the configured ones; a control never starts warm.
        """
        update: dict[str, Any] = {"translated": TranslatedSettings()}
        for name, off in Terms().each.items():
            term: TermSettings = getattr(self, name)
            changed = {"weight": term.weight or term.usual_weight} | ({} if control is None else {"control": control})
            update[name] = term.model_copy(update=changed) if name in names else off
            if isinstance(term, OpeningSettings) and name not in names:
                # The risk of languages is told by them, whether or not the term is on.
                update[name] = off.model_copy(update={part: getattr(term, part) for part in OPENINGS})
        return self.model_copy(update=update | ({} if control is None else {"warm_start": False}))

    def with_pairs(self, carrier: str, control: Control | None = None) -> "AlignSettings":
        """The same alignment with a loss on pairs in place of the English one, and no term.

        Args:
            carrier: One that reads pairs.
            control: Of the translations, in place of the configured one.
        """
        changed = {"share": TRANSLATED_SHARE} | ({} if control is None else {"control": control})
        update = {
            "carrier": carrier,
            "teacher": None,
            "warm_start": False,
            "translated": self.translated.model_copy(update=changed),
        }
        return self.with_terms().model_copy(update=update)

    def with_own_pairs(self) -> "AlignSettings":
        """The same alignment as preference for own answers in every language, no term: what CM-Align trains with."""
        own = {"carrier": "dpo", "teacher": None, "warm_start": False, "nll_weight": self.cm_align.nll}
        return self.with_translated().model_copy(update=own | ({} if self.carrier == "dpo" else {"beta": None}))

    def with_feedback(self) -> "AlignSettings":
        """The same alignment on answers that people called good or bad, in place of examples and terms."""
        own = {"carrier": "kto", "teacher": None, "warm_start": False, "beta": None, "nll_weight": 0.0}
        return self.with_terms().model_copy(update=own)

    def with_translated(self, control: Control | None = None) -> "AlignSettings":
        """The same alignment with translated examples and no term, in steps that hold as many English ones as before.

        As nearly, that is, as whole batches come to it.

        Args:
            control: In place of the configured one; a control never starts warm.
        """
        share = self.translated.share or TRANSLATED_SHARE
        changed = {"share": share} | ({} if control is None else {"control": control})
        update = {
            "translated": self.translated.model_copy(update=changed),
            "accumulation": max(1, round(self.accumulation / (1 - share))),
        }
        return self.with_terms(control=control).model_copy(update=update)
