"""How the models of a method come about: trained, edited, steered, or behind a gate."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from flows.configuration.pipeline import PipelineConfig
from flows.steps.training_data import TrainingData, separate_feedback, with_own_answers
from mlc.methods import Method, Recipe
from mlc.methods.needs import translated_columns
from tasks.align import align_model
from tasks.edit import EditPlan, compute_delta
from tasks.feedback import take_feedback
from tasks.gate import GatePlan, fit_prompt_gate
from tasks.localized import LocalizedPlan, answer_translations
from tasks.merge import merge_edits
from tasks.own_pairs import PairPlan, make_pairs
from tasks.runtime.artifacts import HeldOut, Translated
from tasks.runtime.models import Model
from tasks.runtime.run import Run
from tasks.steer import steer_model


def train_all(
    run: Run,
    config: PipelineConfig,
    method: Method,
    starts: Sequence[Model],
    data: TrainingData,
    held_out: Mapping[str, HeldOut],
) -> list[Model]:
    """The models that a method trains: of the policy one a seed, of trained models one of each."""
    settings = method.alignment(config.align)
    examples = data.joined if method.translates else data.prompts
    if method.reads_unpaired:
        examples = data.unpaired
    if method.translates_answers and not method.own_answers:
        examples = data.answered[translated_columns(method, config.align)]
    if method.reads_feedback and config.prompts.feedback:
        about = "permuted" if method.permuted else "as given"
        given = take_feedback.submit(
            run,
            config.prompts.feedback,
            about,
            permuted=method.permuted,
            unseen=config.unseen_languages,
            languages=(config.anchor_language, *config.languages),
        )
        examples, overlaps = separate_feedback(run, config, given, about, held_out)
        if not method.permuted:
            # A control has the prompts of its method.
            data.overlaps.update(overlaps)
    models = []
    own = data.own.setdefault(method.name, {})
    for start in starts:
        learner = replace(start, method=method.name).label
        if method.own_answers:
            answers, examples = with_own_answers(run, config, start, data, learner)
            own |= {f"answers of {start.label}": answers, f"training set with answers of {start.label}": examples}
        if method.localized:
            plan = LocalizedPlan(tuple(sorted(data.verdicts)), config.align.max_answer_tokens, config.serve.refusals)
            examples = answer_translations.submit(run, start, data.joined, plan, learner)
            own[f"training set of {learner}"] = examples
        for seed in config.seeds if start.seed is None else [start.seed]:
            model = replace(start, method=method.name, seed=seed)
            if method.own_pairs:
                align = config.align
                layer = align.consistency.layer
                pairs = PairPlan(align.cm_align.answers, align.max_answer_tokens, layer, method.own_pairs)
                examples = make_pairs.submit(run, model, data.joined, pairs)
                own[f"training set of {model.label}"] = examples
            weights = align_model.submit(run, model, examples, settings, config.anchor_language)
            models.append(replace(model, weights=weights, base=start))
    return models


def edit_all(
    run: Run,
    config: PipelineConfig,
    method: Method,
    starts: Sequence[Model],
    data: TrainingData,
    held_out: Mapping[str, HeldOut],
) -> list[Model]:
    """The models that a method edits: of each start one delta a language, merged into it."""
    plan = EditPlan(config.edit, config.evaluation, config.anchor_language, method.permuted)
    models = []
    for start in starts:
        model = replace(start, method=method.name)
        deltas = {
            language: compute_delta.submit(
                run, model, language, Translated(data.prompts, verdicts), held_out[language], plan
            )
            for language, verdicts in data.verdicts.items()
        }
        models.append(replace(model, weights=merge_edits.submit(run, model, deltas, config.edit)))
    return models


def steer_all(
    run: Run,
    config: PipelineConfig,
    method: Method,
    starts: Sequence[Model],
    data: TrainingData,
    held_out: Mapping[str, HeldOut],
) -> list[Model]:
    """The models that a method puts a direction of refusal into: one of each start."""
    models = [replace(start, method=method.name) for start in starts]
    permuted = method.permuted
    return [
        replace(model, weights=steer_model.submit(run, model, data.prompts, config.direction, permuted=permuted))
        for model in models
    ]


def gate_all(
    run: Run,
    config: PipelineConfig,
    method: Method,
    starts: Sequence[Model],
    data: TrainingData,
    held_out: Mapping[str, HeldOut],
) -> list[Model]:
    """The models that a method puts a gate before: one of each start, whose weights stay as they are."""
    gate = config.gate_of(method)
    plan = GatePlan(gate, config.anchor_language, method.permuted, config.translator.first)
    models = [replace(start, method=method.name, ungated=start) for start in starts]
    # What is read in translation needs no translations of training prompts, and is not made again for new ones.
    verdicts = data.verdicts if gate.reads == "prompt" else {}
    return [
        replace(model, weights=fit_prompt_gate.submit(run, model, data.prompts, verdicts, plan)) for model in models
    ]


MAKERS: Mapping[Recipe, Callable[..., list[Model]]] = {
    "train": train_all,
    "edit": edit_all,
    "steer": steer_all,
    "gate": gate_all,
}
"""How the models of a method come about, by its recipe."""
