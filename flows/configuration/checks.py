"""What must hold between the sections of a configuration, each of which is sound by itself."""

from typing import TYPE_CHECKING, Any

from mlc.choices import hint_among
from mlc.errors import UserError
from mlc.languages import ENGLISH, by_code, resolve_language
from mlc.methods import BASE, in_order, resolve_gateable, resolve_method
from mlc.methods.english_only import ENGLISH_ONLY
from mlc.methods.gate import gated
from mlc.methods.needs import require_one_control, require_own_openings
from mlc.quality.choice import require_measured
from mlc.settings import Settings
from mlc.training.settings import OPENINGS, OpeningSettings, TermSettings

if TYPE_CHECKING:
    from flows.configuration.pipeline import PipelineConfig


def fit_together(config: "PipelineConfig") -> None:
    """Checks a configuration as a whole, and fills in what one section leaves to others.

    Raises:
        UserError: Sections contradict each other, or one lacks what another asks for.
    """
    # The first that does not hold is told. What is filled in, those after it read.
    _openings_are_in_the_anchor_language(config)
    _fill(config, _chosen_candidate(config))
    _suites_are_there(config)
    _gate_can_be_measured(config)
    _gates_differ(config)
    _fill(config, _terms_weighted_by_code(config))
    _trainings_can_be_launched(config)
    _registered_weights_are_there(config)
    _trained_models_can_be_trained_on(config)
    _the_anchor_is_measured_by_its_own_prompts(config)
    _openings_are_apart(config)
    require_one_control(in_order(config.models), config.align)
    _fill(config, _prompts_by_code(config))
    _methods_have_their_prompts(config)
    require_measured(config.quality, config.quality.model_signals)


def _fill(config: "PipelineConfig", values: dict[str, Any]) -> None:
    for name, value in values.items():
        # The only way to a field of a frozen model.
        object.__setattr__(config, name, value)


def _openings_are_in_the_anchor_language(config: "PipelineConfig") -> None:
    if config.anchor_language == ENGLISH:
        return
    read: dict[str, Settings] = {"evaluation": config.evaluation}
    for method in in_order(config.models):
        if method.recipe != "train":
            continue
        terms = method.alignment(config.align).terms
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
            f"The answers that are trained are in {config.anchor_language}, and the openings that refusals are told "
            f"by are English: set {' and '.join(missing)} in that language."
        )


def _chosen_candidate(config: "PipelineConfig") -> dict[str, Any]:
    candidate, models = config.candidate or config.models[-1], config.models
    if config.serve.gate and resolve_method(candidate).recipe != "gate":
        candidate = gated(resolve_gateable(candidate)).name
        models = tuple(dict.fromkeys((*models, candidate)))
    if candidate not in models:
        raise UserError(f"The candidate {candidate!r} is not among the models: {hint_among(candidate, models)}")
    baseline = resolve_method(candidate).baseline
    if baseline not in (BASE, *(resolve_method(name).name for name in models)):
        raise UserError(f"The candidate {candidate!r} is held against {baseline!r}: add that to models, before it.")
    return {"models": models, "candidate": candidate}


def _suites_are_there(config: "PipelineConfig") -> None:
    # Reading their files is the check.
    _ = config.suites


def _gate_can_be_measured(config: "PipelineConfig") -> None:
    asked = any(condition.against == ENGLISH_ONLY.name for condition in config.gate.conditions)
    if asked and (ENGLISH_ONLY.name not in config.models or config.candidate == ENGLISH_ONLY.name):
        where = "the candidate itself" if config.candidate == ENGLISH_ONLY.name else "not among the models"
        raise UserError(
            f"The gate {config.gate.name!r} compares with {ENGLISH_ONLY.name}, which is {where}: add it to "
            "models, or let the conditions stand against baseline or base."
        )
    unknown = [name for name in config.gate.suites if name not in config.suites]
    if unknown:
        raise UserError(
            f"The gate {config.gate.name!r} has a condition on the suite {unknown[0]!r}, which is not asked: add it "
            f"to evaluation.suites, or take one of {', '.join(config.suites) or 'none'}."
        )
    if config.gate.reads_answers and config.evaluation.answers == 0:
        raise UserError(
            f"The gate {config.gate.name!r} reads answers, and evaluation.answers is 0: let prompts be answered, or "
            "take a policy of margins alone, such as gate: margins."
        )
    own = "selectivity_at_own_threshold"
    if config.evaluation.own_threshold == 0 and any(condition.figure == own for condition in config.gate.conditions):
        raise UserError(
            f"The gate {config.gate.name!r} reads {own}, and evaluation.own_threshold is 0: let "
            "validation prompts be scored in every language, 4 or more or all of them."
        )


def _gates_differ(config: "PipelineConfig") -> None:
    gates = [method for method in in_order(config.models) if method.recipe == "gate"]
    reading = [method for method in gates if config.reads_translations(method)]
    if config.serve.labels and gates and len(reading) == len(gates):
        raise UserError(
            f"serve.labels is {config.serve.labels}, and sets thresholds by language, but what "
            f"{', '.join(method.name for method in gates)} read is translated into one: leave it out."
        )
    seen: dict[tuple[str, bool], str] = {}
    for method in reading:
        first = seen.setdefault((method.start, method.permuted), method.name)
        if first != method.name:
            raise UserError(
                f"With serve.reads: translation {first} and {method.name} are the same model: name one of them in "
                "models, or leave serve.reads out."
            )


def _terms_weighted_by_code(config: "PipelineConfig") -> dict[str, Any]:
    terms: dict[str, TermSettings] = {}
    for name, term in config.align.terms.each.items():
        weights = by_code(term.language_weights or {}, f"align.{name}.language_weights")
        for code in weights:
            if code not in (config.anchor_language, *config.languages):
                raise UserError(
                    f"The language {code} has a weight in align.{name}.language_weights but is not trained: add it "
                    "to languages, or take its weight out."
                )
        if term.language_weights is not None:
            terms[name] = term.model_copy(update={"language_weights": weights})
            try:
                terms[name].weights_of((config.anchor_language, *config.languages))
            except ValueError as error:
                raise UserError(f"align.{name}.{error}") from None
    return {"align": config.align.model_copy(update=terms)} if terms else {}


def _trainings_can_be_launched(config: "PipelineConfig") -> None:
    for method in in_order(config.models):
        if method.recipe == "train":
            method.alignment(config.align).require_launchable()


def _registered_weights_are_there(config: "PipelineConfig") -> None:
    if config.registry.weights == "adapter":
        candidate = resolve_method(config.candidate)
        if candidate.recipe != "train" or candidate.start != BASE:
            why = "starts from a trained model" if candidate.recipe == "train" else "is made without training"
            raise UserError(
                f"The candidate {config.candidate!r} {why} and has no adapter to register: set registry.weights to "
                "merged."
            )
        if config.align.adapter is None:
            raise UserError(
                "The setting registry.weights is adapter, and align.adapter is none, so that there is no adapter: "
                "set align.adapter to lora, or registry.weights to merged."
            )


def _trained_models_can_be_trained_on(config: "PipelineConfig") -> None:
    again = [method.name for method in in_order(config.models) if method.recipe == "train" and method.start != BASE]
    if again and config.align.adapter is not None and config.align.adapter.kind == "qlora":
        raise UserError(
            f"The method {again[0]!r} trains a model further that was trained before, which cannot be done in "
            "4-bit numbers: set align.adapter to lora or none."
        )


def _the_anchor_is_measured_by_its_own_prompts(config: "PipelineConfig") -> None:
    if config.anchor_language in config.evaluation.languages:
        name = resolve_language(config.anchor_language).english_name
        raise UserError(
            f"{name} ({config.anchor_language}) is the anchor language, which is always measured: take it out of "
            "evaluation.languages."
        )


def _openings_are_apart(config: "PipelineConfig") -> None:
    measured = (*config.evaluation.refusal_openings, *config.evaluation.compliance_openings)
    require_own_openings(in_order(config.models), config.align, measured)


def _prompts_by_code(config: "PipelineConfig") -> dict[str, Any]:
    found = {}
    for name in ("parallel", "unpaired"):
        given: dict[str, str] = getattr(config.prompts, name)
        found[name] = by_code(given, f"prompts.{name}")
        for code in found[name]:
            if code not in config.languages:
                raise UserError(
                    f"The language {code} has prompts in prompts.{name} but is not trained: add it to languages, "
                    "or take its prompts out."
                )
    return {"prompts": config.prompts.model_copy(update=found)}


def _methods_have_their_prompts(config: "PipelineConfig") -> None:
    methods = in_order(config.models)
    readers = [method for method in methods if method.reads_unpaired]
    for method in readers:
        if method.translates or method.recipe != "train":
            raise UserError(
                f"The method {method.name!r} needs unpaired prompts beside translated ones or without training, "
                "and only a method that trains and needs no translated prompts can have them: change its needs."
            )
        if not config.prompts.unpaired:
            raise UserError(
                f"The method {method.name!r} trains on prompts of other languages with answers of their own: name "
                "a file for at least one language in prompts.unpaired."
            )
    if config.prompts.unpaired and not readers:
        raise UserError(
            "No method in models reads prompts.unpaired: add one that trains on prompts without a pair, such as "
            "own-prompts, or take the setting out."
        )
    for method in methods:
        if method.reads_feedback and config.prompts.feedback is None:
            raise UserError(
                f"The method {method.name!r} trains on answers that people called good or bad: name a file of them "
                "in prompts.feedback."
            )
        if config.translates(method) and not config.paired_languages:
            raise UserError(
                f"The method {method.name!r} needs prompts beside those in {config.anchor_language}, and every "
                "language has its own in prompts.unpaired alone: add a language, or a file to prompts.parallel."
            )
