"""What models do with the held-out prompts and those of suites, and what judges say of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from flows.configuration.pipeline import PipelineConfig
from flows.steps.futures import Future, finished
from flows.steps.held_out import Suites
from tasks.ability import measure_skills
from tasks.evaluate import evaluate
from tasks.gated import pass_gate
from tasks.generate import generate, generate_shard, join_generated, scored_shards
from tasks.runtime.artifacts import HELD_OUT, HeldOut, Suite
from tasks.runtime.champion import Champion, find_champion
from tasks.runtime.models import Model
from tasks.runtime.run import Run
from tasks.runtime.stage import insisting

Given = dict[tuple[str, str, str], Future]
"""What models did, by model, language and suite, so that a model behind a gate shares it with the one without."""


@dataclass(frozen=True)
class Evaluated:
    """Evaluations of models, by model and language."""

    held_out: Mapping[str, Future]
    """On the held-out prompts."""
    suites: Mapping[str, Future]
    """On suites."""

    def __or__(self, other: "Evaluated") -> "Evaluated":
        return Evaluated({**self.held_out, **other.held_out}, {**self.suites, **other.suites})

    @property
    def all(self) -> Mapping[str, Future]:
        """Both, each of them finished; a failure in one ends the run here."""
        return finished({**self.held_out, **self.suites})


NOTHING_EVALUATED = Evaluated({}, {})


def answered_by(
    run: Run,
    config: PipelineConfig,
    model: Model,
    language: str,
    prompts: HeldOut,
    given: Given,
    suite: Suite = HELD_OUT,
) -> Future:
    """What a model does with prompts; behind a gate, what the same model does without it, and the gate's refusals."""
    place = model.label, language, suite.name
    if place not in given:
        if model.ungated is None:
            found = generate_all(run, config, model, language, prompts, suite)
        else:
            own = answered_by(run, config, model.ungated, language, prompts, given, suite)
            found = pass_gate.submit(run, model, language, own, prompts, suite)
        given[place] = found
    return given[place]


def evaluate_everywhere(
    run: Run, config: PipelineConfig, model: Model, held_out: Mapping[str, HeldOut], suites: Suites, given: Given
) -> Evaluated:
    """One evaluation a language: the model generates, judges judge. The anchor sets the threshold for the others.

    So it is with each suite, whose prompts set no threshold.
    """
    subject = model.method if model.seed is None else f"{model.method} {model.seed}"
    settings, anchor = config.evaluation, config.anchor_language
    generated = {
        language: answered_by(run, config, model, language, prompts, given) for language, prompts in held_out.items()
    }
    evaluations = {
        f"{subject} {language}": evaluate.submit(
            run, model, language, own, None if language == anchor else generated[anchor], settings, anchor
        )
        for language, own in generated.items()
    }
    of_suites = {}
    for name, asked in suites.items():
        suite = Suite(name)
        for language, prompts in asked.items():
            answered = answered_by(run, config, model, language, prompts, given, suite)
            of_suites[f"{suite.lead}{subject} {language}"] = evaluate.submit(
                run, model, language, answered, generated[anchor], settings, anchor, suite
            )
    return Evaluated(evaluations, of_suites)


def evaluate_all(
    run: Run,
    config: PipelineConfig,
    models: Sequence[Model],
    held_out: Mapping[str, HeldOut],
    suites: Suites,
    given: Given,
) -> Evaluated:
    """The evaluations of several models."""
    found = NOTHING_EVALUATED
    for model in models:
        found |= evaluate_everywhere(run, config, model, held_out, suites, given)
    return found


def generate_all(
    run: Run, config: PipelineConfig, model: Model, language: str, prompts: HeldOut, suite: Suite = HELD_OUT
) -> Future:
    """What a model does with the prompts in a language: in one task, or in one a shard and one that joins them."""
    settings, anchor = config.evaluation, prompts.suite is prompts.texts
    own: Future = prompts.suite
    shards = scored_shards(run, own.result(), anchor, settings) if settings.shard_rows else []
    if not shards:
        return generate.submit(run, model, language, prompts, settings, suite)
    parts = [generate_shard.submit(run, model, language, prompts, settings, shard, suite) for shard in shards]
    return join_generated.submit(run, model, language, parts, anchor, settings, suite)


def skills_of_all(
    run: Run, config: PipelineConfig, models: Sequence[Model], held_out: Mapping[str, HeldOut]
) -> Mapping[str, Future]:
    """What the models can do beside refusing, by their labels, where the configuration asks for any of it."""
    ability, batch_size = config.evaluation.ability, config.evaluation.batch_size
    if not ability.wanted:
        return {}
    return {model.label: measure_skills.submit(run, model, held_out, ability, batch_size) for model in models}


def champion_of(run: Run, config: PipelineConfig, candidate: Model) -> Champion | None:
    """The champion that the candidate would replace, where the gate's policy compares with it."""
    if not config.gate.compares_with_champion:
        return None
    weights: Future = candidate.weights
    trained = replace(candidate, weights=weights.result())
    return insisting(run, lambda: find_champion(run, trained, config.registry))


def evaluate_champion(
    run: Run, config: PipelineConfig, champion: Champion | None, held_out: Mapping[str, HeldOut], suites: Suites
) -> Evaluated:
    """The champion's evaluations on the prompts of this run, by its judges and settings; the same ones are cached."""
    if champion is None or champion.model is None:
        return NOTHING_EVALUATED
    return evaluate_everywhere(run, config, champion.model, held_out, suites, {})
