"""The pipeline: read `pipeline` from top to bottom and you have the diagram."""

import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import wraps
from pathlib import Path
from typing import Any, cast

from prefect import flow
from prefect.runtime import flow_run
from prefect.states import Cancelled

from flows.attempts import Attempts
from flows.configuration.pipeline import PipelineConfig
from flows.configuration.reading import changed_values, load_config, validate_config
from flows.licences import require_licences
from flows.notifying import tell_stopped, tell_summary, telling_every_end
from flows.promoting import was_promoted
from flows.showing import show_beginning, show_end, show_filter
from flows.tracked import tracked_run
from mlc.cache import cache_folder
from mlc.errors import UserError
from mlc.evaluation.overlap import read_overlaps, require_little_overlap
from mlc.evaluation.settings import SPLITS
from mlc.evaluation.suite import reference_languages
from mlc.evaluation.suites.loading import suite_languages
from mlc.left_out import require_few
from mlc.methods import BASE, BASE_LABEL, CHAMPION, Method, Recipe, in_order, resolve_method
from mlc.methods.layers import require_layers
from mlc.methods.needs import require_data, require_for_encoder, translated_columns
from mlc.shipped import resolve_path
from mlc.stopping import Stopped
from mlc.store import ArtifactRef, ArtifactStore
from mlc.store.artifacts import plain_disk_errors
from mlc.store.keeping import kept_sentences
from mlc.store.locks import sharing
from mlc.store.runs import announced, close_killed, recorded
from mlc.store.sources import keep_known_code
from mlc.translation.checkpoints import require_translatable
from mlc.translation.kept import require_keepable
from tasks.ability import measure_skills
from tasks.align import align_model
from tasks.answers import join_answers, take_answers
from tasks.dataset import build_dataset
from tasks.edit import EditPlan, compute_delta
from tasks.evaluate import evaluate
from tasks.feedback import take_feedback
from tasks.filter import filter_translations
from tasks.gate import GatePlan, fit_prompt_gate
from tasks.gated import pass_gate
from tasks.generate import generate, generate_shard, join_generated, scored_shards
from tasks.ingest import ingest, ingest_suite
from tasks.localized import LocalizedPlan, answer_translations
from tasks.merge import merge_edits
from tasks.model_signals import (
    join_model_signals,
    measure_model_signals,
    measure_model_signals_shard,
    signal_shards,
)
from tasks.overlap import separate
from tasks.own_answers import answer_prompts
from tasks.own_pairs import PairPlan, make_pairs
from tasks.parallel import take_parallel
from tasks.promote import promote
from tasks.register import register_model
from tasks.report import ReportFacts, publish_report
from tasks.runtime.artifacts import (
    HELD_OUT,
    PROMPTS_FILE,
    HeldOut,
    Suite,
    Translated,
    facts_of,
    left_out_in_words,
    left_out_of,
    read_decision,
    read_headline,
    read_rows,
    read_set_aside,
    report_page,
)
from tasks.runtime.cached import cached_shown
from tasks.runtime.catalog import CATALOG_FILE, rebuild_catalog
from tasks.runtime.champion import Champion, find_champion
from tasks.runtime.models import Model
from tasks.runtime.outliving import outlive_the_worker
from tasks.runtime.policies import depth_of_policy, is_encoder, require_policy, require_teacher
from tasks.runtime.registry import DATABASE_FILE, from_environment
from tasks.runtime.run import Display, Notes, Outcome, Run, Silent, harmless, live, using_display, wait_for_workspace
from tasks.runtime.runners import stages_in
from tasks.runtime.stage import insisting, naming_the_cause
from tasks.runtime.states import reconcile, settled
from tasks.runtime.stopping import stopping
from tasks.runtime.time_limit import limited
from tasks.runtime.unexpected import confined
from tasks.signals import measure_signals
from tasks.steer import steer_model
from tasks.suite import take_suite
from tasks.translate import join_translations, prompt_shards, retranslate, translate, translate_shard
from tasks.unpaired import add_unpaired, take_unpaired

keep_known_code(cache_folder())

Future = Any
"""What a stage that was submitted will have made; a plan has something else in its place."""


Suites = Mapping[str, Mapping[str, HeldOut]]
"""The prompts of suites, by name and language."""
Given = dict[tuple[str, str, str], Future]
"""What models did, by model, language and suite, so that a model behind a gate shares it with the one without."""


@dataclass(frozen=True)
class RunSummary:
    """What a run did."""

    run_id: str
    """Id of the flow run in Prefect; empty if it has none, see :func:`find_all`."""
    number: int
    """Counts the runs of the workspace; what ``mlc why --against`` and ``mlc export`` take."""
    tasks: list[dict[str, Any]]
    """See :func:`flows.commands.plan.with_outcomes`."""
    seconds_saved: float
    """What the cached artifacts took when they were made."""
    metrics: dict[str, Any]
    """Headline figures, see :func:`tasks.report.read_headline`."""
    model_version: dict[str, str]
    """Name and version of the registered model, and the MLflow run that tells how it was measured: that of the version
    or, if the version was there already, a later one."""
    gate: dict[str, Any]
    """``passed``, ``policy``, ``reasons`` (the checks in sentences, failed ones first), ``checks`` (the same as rows,
    see :meth:`mlc.evaluation.gate.deciding.Check.row`), ``champion``, the version that it was compared with, and
    ``waits``, whether the version is for a person to promote and nobody has yet."""
    report: str
    """Path of the report."""
    set_aside: dict[str, str]
    """Why each method that the run went on without was set aside."""
    left_out: list[str]
    """What the run went without, in sentences."""
    seconds: float


@dataclass(frozen=True)
class TrainingData:
    """What methods make their models of."""

    prompts: Future
    """Prompts with their answers, in the anchor language."""
    verdicts: Mapping[str, Future]
    """Their translations by language, with the filter's verdicts; none if no method needs them."""
    joined: Future | None
    """The prompts with the kept translations of all languages."""
    unpaired: Future | None = None
    """The prompts, and after them those of other languages that stand beside none; none if no method needs them."""
    answered: Mapping[tuple[str, ...], Future] = field(default_factory=dict)
    """``joined`` with translated answers, by the columns that are translated, for the methods that need them."""
    own: dict[str, dict[str, Future]] = field(default_factory=dict)
    """What single methods make of them to train on, by method and by what it is called; filled while they do."""

    @property
    def sets(self) -> dict[str, Future]:
        """All of them by what they are called."""
        found = {"prompts": self.prompts, "training set": self.joined, "prompts of all languages": self.unpaired}
        found |= {f"training set with {' and '.join(names)} answers": own for names, own in self.answered.items()}
        return {name: own for name, own in found.items() if own is not None}


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
SHIPPED_TRANSLATOR = "shipped:nano"
"""A toy, trained on the sentences of the quickstart's prompts."""


def pipeline(run: Run, config: PipelineConfig) -> tuple[ArtifactRef, ArtifactRef]:
    """Prompts in one language in, a registered, judged multilingual model out: the report and the gate's decision."""
    licences = require_licences(config)
    references = human_references(config)
    translated = translated_languages(config, references)
    anchor = config.anchor_language
    require_translatable(config.translator.first, (anchor, *translated) if translated else ())
    for language in translated:
        for _, fallback in config.translator.after_it(language):
            require_translatable(fallback, (anchor, language))
    own = config.policy
    policy = Model(BASE, None, own, own.device, own.dtype, own.attention)
    tell_where(run, config)
    require_policy(run, policy)
    methods = in_order(config.models)
    if is_encoder(run, policy):
        require_for_encoder(own.model, methods, config.align, config.evaluation)
    check_layers(run, config, policy, methods)
    tell_unread(run, config)
    tell_of_toy(run, config, methods)
    if config.align.teacher and any(method.recipe == "train" for method in methods):
        require_teacher(run, policy, config.align.teacher)
    attempts = Attempts(run, config)
    check_gates(config, methods, attempts)
    given = ingest.submit(run, config.prompts)
    check_prompts(run, config, given.result(), attempts)
    config = attempts.without(config)
    methods = in_order(config.models)
    suite = ingest_suite.submit(run, config.evaluation, anchor, anchor)
    check_left_out(run, config, suite.result())
    overlap = separate.submit(run, given, suite, config.prompts)
    check_overlap(run, config, overlap.result())
    prompts = overlap if config.prompts.remove_overlap else given
    held_out = ingest_held_out(run, config, suite, references)
    suites = take_suites(run, config)
    prompts, repeated = separate_suites(run, config, prompts, suites)
    unpaired, checked, compared_by = take_all_unpaired(run, config, held_out, references)
    overlaps = {"": overlap, **compared_by, **repeated}

    verdicts = {}
    if any(method.translates for method in methods):
        translations = in_all_languages(run, config, prompts)
        signals = measure_all(run, config, translations)
        verdicts = fall_back(run, config, filter_all(run, config, signals))
        checked |= {f"parallel prompts {language}": translations[language] for language in config.prompts.parallel}
    answers: Given = {}
    evaluations = evaluate_everywhere(run, config, policy, held_out, suites, answers)
    skills = skills_of_all(run, config, [policy], held_out)
    # A failure so far ends the run before anything is trained.
    beside = add_unpaired.submit(run, prompts, unpaired) if unpaired else None
    joined = join(run, config, prompts, finished(verdicts))
    answered = translate_answers(run, config, prompts, joined) if joined else {}
    data = TrainingData(prompts, verdicts, joined, beside, answered)

    made: dict[str, list[Model]] = {BASE: [policy]}
    for method in methods:
        maker = MAKERS[method.recipe]
        made[method.name] = attempts.of(method, maker, run, config, method, made[method.start], data, held_out) or []
    evaluated = {
        method.name: attempts.of(method, evaluate_all, run, config, made[method.name], held_out, suites, answers)
        for method in config.methods
    }
    skilled = {
        method.name: attempts.of(method, skills_of_all, run, config, made[method.name], held_out)
        for method in config.methods
    }
    config = attempts.settle(config)
    for method in config.methods:
        evaluations |= evaluated[method.name] or NOTHING_EVALUATED
        skills = {**skills, **(skilled[method.name] or {})}
    results = evaluations.all

    candidate = made[config.roles.candidate][0]
    champion = champion_of(run, config, candidate)
    compared = {**results, **evaluate_champion(run, config, champion, held_out, suites).all}
    models = [model for method in in_order(config.models) for model in made[method.name]]
    kept = kept_in(run)
    read = {"prompts": given, "held-out prompts": held_out[config.anchor_language].suite}
    read |= checked | {f"suite {name}": next(iter(own.values())).suite for name, own in suites.items()}
    read |= {"training set": data.joined} if data.joined else {}
    for columns in answer_columns(config):
        read[f"training set with {' and '.join(columns)} answers"] = data.answered[columns]
    for method in in_order(config.models):
        read |= data.own.get(method.name, {})
    facts = report_facts(config, references, champion, kept, licences, attempts.reasons.items())
    asked = {f"held-out prompts {language}": own.texts for language, own in held_out.items()}
    tracked = tracked_run(run, config, [policy, *models], facts.settings, kept, data.sets, asked)
    report = publish_report.submit(run, compared, verdicts, models, read, overlaps, facts, config.gate, skills)
    # Without the champion's and those of suites: another champion, or suite, makes no other version.
    version = register_model.submit(run, candidate, evaluations.held_out, report, tracked, config.registry)
    number = champion.version if champion else None
    decision = promote.submit(run, version, compared, config.gate, config.registry, facts.roles, number)
    return report.result(), decision.result()


def check_layers(run: Run, config: PipelineConfig, policy: Model, methods: Sequence[Method]) -> None:
    """Checks that the policy has the layers that the settings name, where its number of layers is known."""
    depth = depth_of_policy(run, policy)
    if depth is not None:
        require_layers(
            depth,
            methods,
            align=config.align,
            evaluation=config.evaluation.layer,
            edit=config.edit.search.layers or (config.edit.layers,),
            direction=config.direction.layer,
            gate=config.serve.layer,
        )


def check_gates(config: PipelineConfig, methods: Sequence[Method], attempts: Attempts) -> None:
    """Checks that the translator can serve the gates that read translations."""
    for method in methods:
        if config.reads_translations(method):
            attempts.of(method, require_keepable, config.translator.first)
            languages = (config.anchor_language, *config.languages)
            attempts.of(method, require_translatable, config.translator.first, languages)


def tell_where(run: Run, config: PipelineConfig) -> None:
    """Tells that the environment decides where models are registered."""
    if names := from_environment(config.registry):
        run.display.note(f"Models are registered where {' and '.join(names)} say{'s' if len(names) == 1 else ''}.")


def tell_unread(run: Run, config: PipelineConfig) -> None:
    """Tells which settings decide nothing, because no method of the run reads them."""
    if unread := config.unread:
        named = ", ".join(f"{section} ({method} would)" for section, method in unread.items())
        run.display.note(f"No method of models reads what is set in {named}.")


def tell_of_toy(run: Run, config: PipelineConfig, methods: Sequence[Method]) -> None:
    """Tells where answers are translated by the shipped translator, which was made for prompts."""
    told = [method.name for method in methods if method.translates_answers]
    if told and config.translator.model == SHIPPED_TRANSLATOR:
        run.display.note(
            f"{SHIPPED_TRANSLATOR} knows the quickstart's prompts alone: what it makes of answers is invented, and "
            f"most of that is fluent enough to be kept. Name another translator.model for {' and '.join(told)}."
        )


def check_prompts(run: Run, config: PipelineConfig, prompts: ArtifactRef, attempts: Attempts) -> None:
    """Checks that the training prompts hold what the methods need, before they are translated."""
    rows = read_rows(run.store.folder(prompts) / PROMPTS_FILE)
    left_out = left_out_of(run.store, prompts)
    require_few([count for count in left_out if count.kind == "set aside"], config.align.max_dropped)
    for method in in_order(config.models):
        attempts.of(method, require_data, rows, [], [method], config.align, gate_labels=config.serve.labels)


def check_left_out(run: Run, config: PipelineConfig, rows: ArtifactRef) -> None:
    """Checks that few rows are left out: what is trained or measured would be something else than what was given."""
    require_few(left_out_of(run.store, rows), config.align.max_dropped)


def check_overlap(
    run: Run, config: PipelineConfig, overlap: ArtifactRef, where: str | None = None, *, within: bool = True
) -> None:
    """Tells which prompts are there twice, and that too many held-out ones are trained on.

    Args:
        run: The run.
        config: The pipeline.
        overlap: What was found.
        where: A language or a suite, for what is told.
        within: Whether to tell of training prompts that are there twice, too.
    """
    lead = f"{where}: " if where else ""
    found = read_overlaps(facts_of(run.store, overlap))
    require_little_overlap(found, config.prompts.max_overlap)
    for part in found:
        if part.rows and (within or part.where in SPLITS):
            run.display.note(f"{lead}{part.sentence}.")


def take_all_unpaired(
    run: Run, config: PipelineConfig, held_out: Mapping[str, HeldOut], references: Collection[str]
) -> tuple[dict[str, Future], dict[str, Future], dict[str, Future]]:
    """The prompts of other languages that stand beside none, checked as all others.

    Returns:
        What is trained on, by language; what the report reads of it, by name; what overlaps, by language.
    """
    methods = in_order(config.models)
    readers = [method for method in methods if method.reads_unpaired]
    pairs = [method.name for method in methods if method.translates]
    found, read, overlaps = {}, {}, {}
    for language in config.prompts.unpaired:
        own = take_unpaired.submit(run, language, config.prompts)
        rows = read_rows(run.store.folder(own.result()) / PROMPTS_FILE)
        require_data(rows, left_out_of(run.store, own.result()), readers, config.align)
        if pairs and language not in config.paired_languages:
            run.display.note(
                f"{language}: its {len(rows)} prompts stand beside none in {config.anchor_language}, so that the "
                f"language is left out of {', '.join(pairs)}."
            )
        found[language] = read[f"unpaired prompts {language}"] = own
        if language in references:
            overlap = separate.submit(run, own, held_out[language].texts, config.prompts, language)
            check_overlap(run, config, overlap.result(), language)
            overlaps[language] = overlap
            found[language] = overlap if config.prompts.remove_overlap else own
    return found, read, overlaps


def separate_feedback(
    run: Run, config: PipelineConfig, feedback: Future, about: str, held_out: Mapping[str, HeldOut]
) -> Future:
    """The feedback, compared with the held-out prompts of every language as training prompts are."""
    check_left_out(run, config, feedback.result())
    for language, own in held_out.items():
        subject = f"feedback {about} {language}"
        overlap = separate.submit(run, feedback, own.texts, config.prompts, subject=subject)
        check_overlap(run, config, overlap.result(), subject, within=False)
        feedback = overlap if config.prompts.remove_overlap else feedback
    return feedback


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
        examples = separate_feedback(run, config, given, about, held_out)
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


def ingest_held_out(run: Run, config: PipelineConfig, suite: Future, references: Collection[str]) -> dict[str, HeldOut]:
    """The held-out prompts in every language: human references where there are some, else machine translations."""
    anchor = config.anchor_language
    human = tuple(language for language in config.measured_languages if language in references)
    machine = tuple(language for language in config.measured_languages if language not in references)
    texts = {language: ingest_suite.submit(run, config.evaluation, language, anchor) for language in human}
    translations = translate_all(run, config, suite, machine, subject="held-out")
    texts |= {language: fill_gaps(run, config, language, future) for language, future in translations.items()}
    held_out = {anchor: HeldOut(suite, suite)}
    return held_out | {language: HeldOut(suite, texts[language]) for language in config.measured_languages}


def take_suites(run: Run, config: PipelineConfig) -> Suites:
    """The prompts of each suite in the measured languages that it has."""
    found: dict[str, dict[str, HeldOut]] = {}
    wanted = (config.anchor_language, *config.measured_languages)
    for name, location in config.suites.items():
        there = suite_languages(location, Path.cwd())
        codes = [code for code in wanted if code in there]
        if not codes:
            raise UserError(
                f"The suite {name!r} in evaluation.suites is in {', '.join(there)}, and none of them is measured: take "
                "it out, or add a language to evaluation.languages."
            )
        taken = {code: take_suite.submit(run, name, location, code, config.evaluation.limit) for code in codes}
        found[name] = {code: HeldOut(own, own) for code, own in taken.items()}
    return found


def separate_suites(
    run: Run, config: PipelineConfig, prompts: Future, suites: Suites
) -> tuple[Future, dict[str, Future]]:
    """The training prompts without those of suites, where that is asked, and what overlaps; in the anchor language."""
    found = {}
    for name, asked in suites.items():
        if config.anchor_language not in asked:
            continue
        subject = f"suite {name}"
        own = separate.submit(run, prompts, asked[config.anchor_language].suite, config.prompts, subject=subject)
        check_overlap(run, config, own.result(), subject, within=False)
        found[subject] = own
        prompts = own if config.prompts.remove_overlap else prompts
    return prompts, found


def translated_languages(config: PipelineConfig, references: Collection[str]) -> tuple[str, ...]:
    """Languages of which the translator has to know something: training prompts, or held-out ones."""
    given = {*config.prompts.parallel, *config.prompts.unpaired}.intersection(references)
    if any(method.translates_answers for method in in_order(config.models)):
        given = given.difference(config.paired_languages)
    trained = [language for language in config.languages if language not in given]
    return (*trained, *(code for code in config.unseen_languages if code not in references))


def in_all_languages(run: Run, config: PipelineConfig, prompts: Future) -> dict[str, Future]:
    """The training prompts in every language: those that people wrote where there are some, else translations."""
    parallel = config.prompts.parallel
    given = {
        language: take_parallel.submit(run, prompts, language, config.prompts, config.anchor_language)
        for language in parallel
    }
    for own in given.values():
        check_left_out(run, config, own.result())
    machine = tuple(language for language in config.paired_languages if language not in parallel)
    found = translate_all(run, config, prompts, machine) | given
    return {language: found[language] for language in config.paired_languages}


def translate_all(
    run: Run, config: PipelineConfig, prompts: Future, languages: tuple[str, ...], subject: str = "prompts"
) -> dict[str, Future]:
    """One translation a language; whichever comes first reads the prompts for all of them.

    Where they are cut into shards, there is one task a shard and language, and one a language that joins them.
    """
    rows, settings, anchor = config.translator.shard_rows, config.translator.first, config.anchor_language
    shards = prompt_shards(run, prompts.result(), rows) if rows and languages else []
    if not shards:
        return {
            language: translate.submit(
                run, prompts, language, settings, subject=subject, together=languages, source=anchor
            )
            for language in languages
        }
    parts = {
        language: [
            translate_shard.submit(
                run,
                prompts,
                shard,
                content,
                language,
                settings,
                subject=shard.subject(None if subject == "prompts" else subject),
                together=languages,
                source=anchor,
            )
            for shard, content in shards
        ]
        for language in languages
    }
    return {
        language: join_translations.submit(run, own, language, settings, subject=subject, source=anchor)
        for language, own in parts.items()
    }


def fill_gaps(run: Run, config: PipelineConfig, language: str, translations: Future) -> Future:
    """Held-out prompts that a translator refused, by the fallbacks for the language."""
    for number, fallback in config.translator.after_it(language):
        subject = f"held-out fallback {number}"
        translations = retranslate.submit(
            run, translations, language, fallback, number, subject, config.anchor_language
        )
    return translations


def measure_all(
    run: Run, config: PipelineConfig, translations: dict[str, Future], about: str | None = None
) -> dict[str, Future]:
    """The signals of the translations; those that need the translator, where the configuration asks for some."""
    signals = {
        language: measure_signals.submit(run, future, language, config.quality, subject=about)
        for language, future in translations.items()
    }
    if not config.quality.model_signals:
        return signals
    return {language: ask_about(run, config, future, language, about) for language, future in signals.items()}


def ask_about(run: Run, config: PipelineConfig, signals: Future, language: str, about: str | None) -> Future:
    """The signals that need the translator, of one language: in one task, or in one a shard and one that joins them."""
    quality, translator, anchor = config.quality, config.translator.first, config.anchor_language
    rows = config.translator.shard_rows
    shards = signal_shards(run, signals.result(), rows) if rows else []
    if not shards:
        return measure_model_signals.submit(run, signals, language, quality, translator, subject=about, source=anchor)
    parts = [
        measure_model_signals_shard.submit(
            run, signals, shard, language, quality, translator, subject=about, source=anchor
        )
        for shard in shards
    ]
    return join_model_signals.submit(run, signals, parts, language, quality, translator, subject=about, source=anchor)


def filter_all(
    run: Run, config: PipelineConfig, signals: Mapping[str, Future], about: str | None = None
) -> dict[str, Future]:
    """One verdict on every translation."""
    return {
        language: filter_translations.submit(
            run,
            future,
            language,
            config.quality,
            last=not config.translator.after_it(language),
            source=config.anchor_language,
            about=about,
        )
        for language, future in signals.items()
    }


def fall_back(
    run: Run, config: PipelineConfig, verdicts: Mapping[str, Future], about: str | None = None
) -> dict[str, Future]:
    """The verdicts after the fallbacks: each is asked for what has no translation yet that the filter keeps."""
    better, anchor = dict(verdicts), config.anchor_language
    for language in verdicts:
        chain = config.translator.after_it(language)
        for number, fallback in chain:
            subject = f"{about} fallback {number}" if about else f"fallback {number}"
            again = retranslate.submit(run, better[language], language, fallback, number, subject, anchor)
            signals = measure_signals.submit(run, again, language, config.quality, subject=subject)
            if config.quality.model_signals:
                signals = measure_model_signals.submit(
                    run, signals, language, config.quality, config.translator.first, subject=subject, source=anchor
                )
            better[language] = filter_translations.submit(
                run,
                signals,
                language,
                config.quality,
                earlier=better[language],
                number=number,
                last=number == chain[-1][0],
                source=anchor,
                about=about,
            )
    return better


def join(run: Run, config: PipelineConfig, prompts: Future, verdicts: Mapping[str, Future]) -> Future | None:
    """The training set over all languages, where any method needs translations."""
    if not verdicts:
        return None
    show_filter(run)
    joined = build_dataset.submit(run, prompts, verdicts, config.dataset, config.anchor_language)
    joined.result()
    return joined


def answer_columns(config: PipelineConfig) -> list[tuple[str, ...]]:
    """Columns of given answers that methods need in every language: each set of them once."""
    methods = [method for method in in_order(config.models) if method.translates_answers and not method.own_answers]
    return list(dict.fromkeys(translated_columns(method, config.align) for method in methods))


def translate_answers(
    run: Run, config: PipelineConfig, prompts: Future, joined: Future
) -> dict[tuple[str, ...], Future]:
    """The training set with translated answers, by their columns, where methods need it: one for all that need alike.

    Each column is translated by itself, so that a method that needs one more changes nothing for the others.
    """
    wanted = answer_columns(config)
    columns = sorted({column for columns in wanted for column in columns})
    verdicts = {
        column: answers_in_all_languages(run, config, prompts, column, f"{column} answers") for column in columns
    }
    return {
        columns: join_answers.submit(
            run, joined, {column: verdicts[column] for column in columns}, f"{' and '.join(columns)} answers"
        )
        for columns in wanted
    }


def answers_in_all_languages(
    run: Run, config: PipelineConfig, prompts: Future, column: str, about: str
) -> dict[str, Future]:
    """Verdicts on translated answers by language: they are translated, measured and filtered as prompts are."""
    taken = take_answers.submit(run, prompts, column, about)
    translations = translate_all(run, config, taken, config.paired_languages, subject=about)
    signals = measure_all(run, config, translations, about)
    return fall_back(run, config, filter_all(run, config, signals, about), about)


def with_own_answers(
    run: Run, config: PipelineConfig, start: Model, data: TrainingData, learner: str
) -> tuple[Future, Future]:
    """A model's own answers, and the training set with them in every language, in place of those that were given."""
    own = answer_prompts.submit(run, start, data.prompts, config.align.max_answer_tokens, learner)
    about = f"answers of {start.label}"
    joined = build_dataset.submit(run, own, data.verdicts, config.dataset, config.anchor_language, about)
    verdicts = {"chosen": answers_in_all_languages(run, config, own, "chosen", about)}
    return own, join_answers.submit(run, joined, verdicts, about)


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


def finished(futures: Mapping[str, Future]) -> Mapping[str, Future]:
    """Waits for a fan-out, so that a failure in it ends the run here."""
    for future in futures.values():
        future.result()
    return futures


def human_references(config: PipelineConfig) -> frozenset[str]:
    """Languages whose held-out prompts have human translations."""
    folder = config.evaluation.references
    return reference_languages(
        resolve_path(folder, Path.cwd()) if folder else None, config.measured_languages, anchor=config.anchor_language
    )


def kept_in(run: Run) -> tuple[str, ...]:
    """Which results of a run so far a person kept although code or a library had changed."""
    run.catch_up()
    there = [(outcome.stage, outcome.key) for outcome in run.outcomes if outcome.state != "run"]
    return kept_sentences(run.store, there)


def report_facts(
    config: PipelineConfig,
    references: Collection[str],
    champion: Champion | None,
    kept: tuple[str, ...],
    licences: Mapping[str, str],
    set_aside: Iterable[tuple[str, str]] = (),
) -> ReportFacts:
    """What the report says of the configuration, its models' licences, the champion, and results that were kept.

    And of methods that were set aside.
    """
    labels = [(BASE, BASE_LABEL), *((method.name, method.label) for method in config.methods)]
    if champion:
        labels.append((CHAMPION, f"Champion, version {champion.version}"))
    controls = map(resolve_method, resolve_method(config.candidate).controls)
    return ReportFacts(
        settings=config.summary() | {f"licence of the {role}": told for role, told in licences.items()},
        trained_languages=config.roles.trained,
        machine_translated_languages=tuple(code for code in config.measured_languages if code not in references),
        roles=replace(config.roles, champion=CHAMPION if champion else None),
        kept=kept,
        labels=tuple(labels),
        controls=tuple((method.name, method.label) for method in controls),
        made_of=tuple(
            (tuple(method.name for method in chain), tuple(sorted(chain[-1].needs)))
            for chain in (in_order([name]) for name in config.models)
        ),
        texts=config.report.texts,
        set_aside=tuple((resolve_method(name).label, name, reason) for name, reason in set_aside),
    )


def summarise_run(run: Run, number: int, started: float, report: ArtifactRef, decision: ArtifactRef) -> RunSummary:
    """Collects what a run says of itself at the end."""
    run.catch_up()
    gate = read_decision(run.store, decision)
    return RunSummary(
        run_id=run.id,
        number=number,
        tasks=[asdict(outcome) for outcome in run.outcomes],
        seconds_saved=round(sum(outcome.seconds_saved for outcome in run.outcomes), 1),
        metrics=read_headline(run.store, report),
        # Decisions of earlier releases know the run of the version alone.
        model_version={
            **{name: gate[name] for name in ("name", "version")},
            "run_id": gate.get("told_in", gate["run_id"]),
        },
        gate={
            **{name: gate[name] for name in ("passed", "policy", "reasons", "checks", "champion")},
            "waits": bool(gate.get("waits")) and not was_promoted(run.workspace, gate),
        },
        report=str(report_page(run.store, report)),
        set_aside=read_set_aside(run.store, report),
        left_out=left_out_in_words(run.store, report),
        seconds=round(time.perf_counter() - started, 1),
    )


def _tidy(store: ArtifactStore) -> None:
    """Removes what killed runs left; only for who is alone in the workspace, or these may be another run's."""
    close_killed(store.workspace)
    store.clear_drafts()
    for pattern in (f".{CATALOG_FILE}-*", f"mlflow/.{DATABASE_FILE}-*"):
        for draft in store.workspace.glob(pattern):
            draft.unlink()


def settings_meant(given: Mapping[str, Any]) -> PipelineConfig:
    """The configuration that the parameters of a flow run mean, of which some may be left out; see :func:`align`."""
    return settings_of(given.get("config", "quickstart"), given.get("languages"), given.get("workspace"))


def _run_name() -> str:
    config = settings_meant(flow_run.parameters)
    return f"align · {config.name} · {config.languages_label}"


def settings_of(config: str | dict[str, Any], languages: list[str] | None, workspace: str | None) -> PipelineConfig:
    """The configuration that the parameters of a flow mean; they are those of :func:`align`.

    Raises:
        UserError: The file cannot be read, or a key or value is wrong.
    """
    if isinstance(config, str):
        return load_config(config, languages=languages, workspace=workspace)
    return validate_config(changed_values(config, languages=languages, workspace=workspace))


def _without_texts(body: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Keeps what an unforeseen error says from Prefect: it may quote a prompt."""

    @wraps(body)
    def confining(
        config: str | dict[str, Any] = "quickstart",
        languages: list[str] | None = None,
        workspace: str | None = None,
        hours: float | None = None,
    ) -> dict[str, Any]:
        place = Path(settings_of(config, languages, workspace).workspace)
        return confined(place, "the flow", lambda: body(config, languages, workspace, hours))

    return confining


@flow(name="align", flow_run_name=_run_name, **telling_every_end(settings_meant))
@_without_texts
def align(
    config: str | dict[str, Any] = "quickstart",
    languages: list[str] | None = None,
    workspace: str | None = None,
    hours: float | None = None,
) -> dict[str, Any]:
    """Runs the pipeline in its workspace; this is what is deployed and scheduled.

    Args:
        config: Name of a shipped configuration, a YAML file, or a whole configuration as a mapping.
        languages: Languages in place of the configuration's, such as ``["es", "fr"]``; ``["+hi"]`` adds one.
        workspace: Workspace in place of the configuration's.
        hours: Time limit; a run that reaches it stops in order, keeps what it did, and counts as failed.

    Returns:
        The fields of :class:`RunSummary`.
    """
    settings = settings_of(config, languages, workspace)
    try:
        return _run(settings, hours)
    except Stopped:
        tell_stopped(settings)
        return cast(dict[str, Any], Cancelled(message="Stopped; what is finished is kept."))


def find_all(settings: PipelineConfig) -> dict[str, Any] | None:
    """A run in which nothing is to be made, without Prefect, which has nothing to show of it.

    Its record, the catalog, and what is asked of the registry are those of any run.

    Args:
        settings: The pipeline.

    Returns:
        The fields of :class:`RunSummary`, with an empty ``run_id``; None where something is missing, damaged or wrong,
        which is then left to the flow.

    Raises:
        UserError: Housekeeping holds the workspace.
    """
    started = time.perf_counter()
    store, display, notes = settings.open_store(), using_display(), Notes()
    with (
        plain_disk_errors(store.workspace),
        sharing(store.workspace, tidy=lambda: _tidy(store), wait_seconds=wait_for_workspace()),
    ):
        run = Run(store, notes, looking=True)
        try:
            report, decision = pipeline(run, settings)
        except Exception:  # whatever it is, the flow meets it too, and tells it as it tells all others
            return None
        facts = settings.model_dump(mode="json")
        with recorded(store.workspace, run_id="", name=settings.name, config=facts) as journal:
            shown = Run(store, display, journal=journal)
            for sentence in notes.sentences:
                shown.display.note(sentence)
            for outcome in run.outcomes:
                shown.record(outcome)
            rebuild_catalog(store)
            summary = asdict(summarise_run(shown, journal.number, started, report, decision)) | {"run_id": ""}
    tell_summary(settings, summary)
    return summary


@contextmanager
def foreseen(config: PipelineConfig, display: Display | None = None) -> Iterator[Run]:
    """A planned run, while what it made in its temporary folder is there; see :func:`flows.commands.plan.foresee`."""
    with tempfile.TemporaryDirectory(prefix="mlc-plan-") as scratch:
        run = Run(config.open_store(looking=True), display or Silent(), planning=True, scratch=Path(scratch))
        pipeline(run, config)
        yield run


def _foresee(config: PipelineConfig) -> list[Outcome]:
    with foreseen(config) as run:
        return run.outcomes


@contextmanager
def in_workspace(settings: PipelineConfig, *, record: bool = True) -> Iterator[Run]:
    """The run of this flow run in its workspace, beside others there, but not beside housekeeping.

    Args:
        settings: The configuration.
        record: Whether the workspace keeps a record of it, as of a run of the pipeline.

    Raises:
        UserError: Housekeeping holds the workspace.
    """
    outlive_the_worker()
    store = settings.open_store()
    facts, run_id = settings.model_dump(mode="json"), str(flow_run.id)

    def tidy() -> None:
        _tidy(store)
        harmless(reconcile)(store.workspace, run_id)

    with (
        plain_disk_errors(store.workspace),
        announced(store.workspace, run_id),
        sharing(store.workspace, tidy=tidy, wait_seconds=wait_for_workspace()),
        recorded(store.workspace, run_id=run_id, name=settings.name, config=facts) if record else nullcontext() as kept,
        live(Run(store, using_display(), id=run_id, journal=kept)) as run,
    ):
        yield run


@contextmanager
def at_work(run: Run, settings: PipelineConfig, hours: float | None) -> Iterator[None]:
    """While stages of a run work, in the body of its flow: it can be stopped, and tells what failed first."""
    where = stages_in(run, settings.runner, settings.resources)
    with limited(run, hours), cached_shown(run), settled(run), naming_the_cause(run), where, stopping(run):
        yield


def _run(settings: PipelineConfig, hours: float | None) -> dict[str, Any]:
    started = time.perf_counter()
    with in_workspace(settings) as run:
        assert run.journal is not None
        show_beginning(settings, run.id, lambda: _foresee(settings))
        with at_work(run, settings, hours):
            report, decision = pipeline(run, settings)
        rebuild_catalog(run.store)
        summary = asdict(summarise_run(run, run.journal.number, started, report, decision))
        show_end(settings, run.workspace, summary)
        return summary
