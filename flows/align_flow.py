"""The pipeline: read `pipeline` from top to bottom and you have the diagram."""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
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
from flows.showing import show_beginning, show_end
from flows.steps.checking import (
    check_gates,
    check_layers,
    check_left_out,
    check_overlap,
    check_prompts,
    tell_of_toy,
    tell_unread,
    tell_where,
)
from flows.steps.evaluating import (
    NOTHING_EVALUATED,
    Given,
    champion_of,
    evaluate_all,
    evaluate_champion,
    evaluate_everywhere,
    skills_of_all,
)
from flows.steps.futures import finished
from flows.steps.held_out import human_references, ingest_held_out, separate_suites, take_suites
from flows.steps.modelling import MAKERS
from flows.steps.summing_up import kept_in, report_facts, summarise_run
from flows.steps.training_data import TrainingData, answer_columns, join, take_all_unpaired, translate_answers
from flows.steps.translating import fall_back, filter_all, in_all_languages, measure_all, translated_languages
from flows.tracked import tracked_run
from mlc.cache import cache_folder
from mlc.methods import BASE, in_order
from mlc.methods.needs import require_for_encoder
from mlc.stopping import Stopped
from mlc.store import ArtifactRef, ArtifactStore
from mlc.store.artifacts import plain_disk_errors
from mlc.store.locks import sharing
from mlc.store.runs import announced, close_killed, recorded
from mlc.store.sources import keep_known_code
from mlc.translation.checkpoints import require_translatable
from tasks.ingest import ingest, ingest_suite
from tasks.overlap import separate
from tasks.promote import promote
from tasks.register import register_model
from tasks.report import publish_report
from tasks.runtime.cached import cached_shown
from tasks.runtime.catalog import CATALOG_FILE, rebuild_catalog
from tasks.runtime.models import Model
from tasks.runtime.outliving import outlive_the_worker
from tasks.runtime.policies import is_encoder, require_policy, require_teacher
from tasks.runtime.registry.addresses import DATABASE_FILE
from tasks.runtime.run import Display, Notes, Outcome, Run, Silent, harmless, live, using_display, wait_for_workspace
from tasks.runtime.runners import stages_in
from tasks.runtime.stage import naming_the_cause
from tasks.runtime.states import reconcile, settled
from tasks.runtime.stopping import stopping
from tasks.runtime.time_limit import limited
from tasks.runtime.unexpected import confined
from tasks.unpaired import add_unpaired

keep_known_code(cache_folder())


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
    if any(map(config.translates, methods)):
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
    overlaps |= data.overlaps
    report = publish_report.submit(run, compared, verdicts, models, read, overlaps, facts, config.gate, skills)
    # Without the champion's and those of suites: another champion, or suite, makes no other version.
    version = register_model.submit(run, candidate, evaluations.held_out, report, tracked, config.registry)
    number = champion.version if champion else None
    decision = promote.submit(run, version, compared, config.gate, config.registry, facts.roles, number)
    return report.result(), decision.result()


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
        The fields of :class:`flows.steps.summing_up.RunSummary`.
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
        The fields of :class:`flows.steps.summing_up.RunSummary`, with an empty ``run_id``; None where something is
        missing, damaged or wrong, which is then left to the flow.

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
