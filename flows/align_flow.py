"""The pipeline: read `pipeline` from top to bottom and you have the diagram."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from prefect import flow
from prefect.exceptions import UnfinishedRun
from prefect.futures import PrefectFuture
from prefect.runtime import flow_run
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from flows.config import PipelineConfig, load_config, validate_config
from mlc.evaluation.suite import reference_languages
from mlc.languages import ENGLISH
from mlc.shipped import resolve_path
from mlc.store import ArtifactRef, ArtifactStore
from mlc.store.artifacts import plain_disk_errors
from mlc.store.locks import sharing
from mlc.store.runs import recorded
from mlc.translation.checkpoints import require_translatable
from tasks.align import align_model
from tasks.dataset import build_dataset
from tasks.edit import compute_delta
from tasks.evaluate import evaluate
from tasks.filter import filter_translations
from tasks.generate import generate
from tasks.ingest import ingest, ingest_suite
from tasks.merge import merge_edits
from tasks.model_signals import measure_model_signals
from tasks.promote import promote
from tasks.register import register_model
from tasks.report import ReportFacts, publish_report
from tasks.runtime.artifacts import read_decision, read_headline, report_page
from tasks.runtime.catalog import CATALOG_FILE, rebuild_catalog
from tasks.runtime.models import require_policy
from tasks.runtime.registry import DATABASE_FILE
from tasks.runtime.run import Run, current_run, running, using_display, wait_for_workspace
from tasks.runtime.settings import PolicySettings
from tasks.signals import measure_signals
from tasks.translate import translate

Future = PrefectFuture[Any]
Model = PolicySettings | Future


@dataclass(frozen=True)
class RunSummary:
    """What a run did."""

    run_id: str
    """Id of the flow run in Prefect."""
    number: int
    """Counts the runs of the workspace; what ``mlc why --against`` and ``mlc export`` take."""
    tasks: list[dict[str, Any]]
    """See :func:`flows.commands.plan.with_outcomes`."""
    seconds_saved: float
    """What the cached artifacts took when they were made."""
    metrics: dict[str, Any]
    """Headline figures, see :func:`tasks.report.read_headline`."""
    model_version: dict[str, str]
    """Name, version and MLflow run of the registered model."""
    gate: dict[str, Any]
    """``passed`` and ``reasons``."""
    report: str
    """Path of the report."""
    seconds: float


@dataclass(frozen=True)
class HeldOut:
    """The held-out prompts of one language: labels beside the English text, and the text in the language."""

    suite: Future
    texts: Future


def pipeline(config: PipelineConfig) -> tuple[ArtifactRef, ArtifactRef]:
    """English prompts in, a registered and judged multilingual model out: the report and the gate's decision."""
    require_translatable(config.translator, config.languages)
    require_policy(config.policy)
    prompts = ingest(config.prompts)
    held_out = ingest_held_out(config)

    translations = translate_all(config, prompts, config.languages)
    signals = measure_all(config, translations)
    verdicts = {
        language: filter_translations.submit(signals[language], language, config.quality)
        for language in config.languages
    }
    base = evaluate_everywhere(config, config.policy, "base", None, held_out)
    training_set = build_dataset(prompts, results_of(verdicts), config.dataset)

    models = align_all(config, prompts, training_set)
    if config.method != "consistency":
        models["edit"] = edit_all(config, models, prompts, verdicts, held_out)
    evaluations = dict(base)
    for role, by_seed in models.items():
        for seed, model in by_seed.items():
            evaluations |= evaluate_everywhere(config, model, role, seed, held_out)
    results = results_of(evaluations)

    made = {role: results_of(by_seed) for role, by_seed in models.items()}
    edits = made.pop("edit", {})
    report = publish_report(results, results_of(verdicts), made, report_facts(config), config.gate, edits)
    candidates = models[config.roles.candidate]
    seed = next(iter(candidates))
    version = register_model(
        candidates[seed].result(), seed, results, report, config.summary(), config.registry, config.roles.candidate
    )
    decision = promote(version, results, config.gate, config.registry, config.roles)
    return report, decision


def align_all(
    config: PipelineConfig, prompts: ArtifactRef, training_set: ArtifactRef
) -> dict[str, dict[int | None, Future]]:
    """The trained models by role and seed: English-only and, if the method has it, with the consistency term."""
    models: dict[str, dict[int | None, Future]] = {}
    if config.trains:
        models["english-only"] = {
            seed: align_model.submit(prompts, config.policy, config.align.without_consistency(), "english-only", seed)
            for seed in config.seeds
        }
    if config.method != "edit":
        models["consistency"] = {
            seed: align_model.submit(training_set, config.policy, config.align, "consistency", seed)
            for seed in config.seeds
        }
    return models


def edit_all(
    config: PipelineConfig,
    models: Mapping[str, Mapping[int | None, Future]],
    prompts: ArtifactRef,
    verdicts: Mapping[str, Future],
    held_out: Mapping[str, HeldOut],
) -> dict[int | None, Future]:
    """The edited models by seed: one delta a language, merged."""
    start: Mapping[int | None, Model] = models.get("consistency") or models.get("english-only") or {None: config.policy}
    device = config.policy.device
    edited: dict[int | None, Future] = {}
    for seed, model in start.items():
        deltas = {
            language: compute_delta.submit(
                model,
                seed,
                language,
                prompts,
                verdicts[language],
                held_out[language].suite,
                held_out[language].texts,
                config.edit,
                config.evaluation,
                device,
            )
            for language in config.languages
        }
        edited[seed] = merge_edits.submit(model, seed, deltas, config.edit, device)
    return edited


def ingest_held_out(config: PipelineConfig) -> dict[str, HeldOut]:
    """The held-out prompts in every language: human references where there are some, else machine translations."""
    english = ingest_suite.submit(config.evaluation, ENGLISH)
    held_out = {ENGLISH: HeldOut(english, english)}
    references = human_references(config)
    human = tuple(language for language in config.languages if language in references)
    machine = tuple(language for language in config.languages if language not in references)
    texts = {language: ingest_suite.submit(config.evaluation, language) for language in human}
    texts |= translate_all(config, english, machine, subject="held-out")
    return held_out | {language: HeldOut(english, texts[language]) for language in config.languages}


def translate_all(
    config: PipelineConfig, prompts: ArtifactRef | Future, languages: tuple[str, ...], subject: str = "prompts"
) -> dict[str, Future]:
    """One translation a language; whichever comes first reads the prompts for all of them."""
    return {
        language: translate.submit(prompts, language, config.translator, subject=subject, together=languages)
        for language in languages
    }


def measure_all(config: PipelineConfig, translations: dict[str, Future]) -> dict[str, Future]:
    """The signals of the translations; those that need the translator, where the configuration asks for some."""
    signals = {
        language: measure_signals.submit(future, language, config.quality) for language, future in translations.items()
    }
    if not config.quality.model_signals:
        return signals
    return {
        language: measure_model_signals.submit(future, language, config.quality, config.translator)
        for language, future in signals.items()
    }


def evaluate_everywhere(
    config: PipelineConfig, model: Model, role: str, seed: int | None, held_out: Mapping[str, HeldOut]
) -> dict[str, Future]:
    """One evaluation a language: the model generates, the judges judge. English sets the threshold for the others."""
    subject = role if seed is None else f"{role} {seed}"
    languages = (ENGLISH, *config.languages)
    settings, device = config.evaluation, config.policy.device
    generated = {
        language: generate.submit(
            model, role, seed, language, held_out[language].suite, held_out[language].texts, settings, device
        )
        for language in languages
    }
    return {
        f"{subject} {language}": evaluate.submit(
            generated[language], role, seed, language, None if language == ENGLISH else generated[ENGLISH], settings
        )
        for language in languages
    }


def results_of(futures: Mapping[Any, Future]) -> dict[Any, ArtifactRef]:
    """Waits for a fan-out."""
    return {name: future.result() for name, future in futures.items()}


def human_references(config: PipelineConfig) -> frozenset[str]:
    """Languages whose held-out prompts have human translations."""
    folder = config.evaluation.references
    return reference_languages(resolve_path(folder, Path.cwd()) if folder else None)


def report_facts(config: PipelineConfig) -> ReportFacts:
    """What the report says of the configuration."""
    references = human_references(config)
    return ReportFacts(
        settings=config.summary(),
        trained_languages=config.languages,
        machine_translated_languages=tuple(code for code in config.languages if code not in references),
        roles=config.roles,
    )


def summarise_run(number: int, started: float, report: ArtifactRef, decision: ArtifactRef) -> RunSummary:
    """Collects what a run says of itself at the end."""
    run = current_run()
    gate = read_decision(decision)
    return RunSummary(
        run_id=str(flow_run.id or ""),
        number=number,
        tasks=[asdict(outcome) for outcome in run.outcomes],
        seconds_saved=round(sum(outcome.seconds_saved for outcome in run.outcomes), 1),
        metrics=read_headline(report),
        model_version={name: gate[name] for name in ("name", "version", "run_id")},
        gate={name: gate[name] for name in ("passed", "reasons")},
        report=str(report_page(report)),
        seconds=round(time.perf_counter() - started, 1),
    )


@contextmanager
def _naming_the_cause() -> Iterator[None]:
    """Raises the failure of a task in place of "never started" of a task that waited for it."""
    try:
        yield
    except UnfinishedRun:
        failure = current_run().failure
        if failure is None:
            raise
        raise failure from None


def _tidy(store: ArtifactStore) -> None:
    """Removes what killed runs left; only for who is alone in the workspace, or these may be another run's."""
    store.clear_drafts()
    for pattern in (f".{CATALOG_FILE}-*", f"mlflow/.{DATABASE_FILE}-*"):
        for draft in store.workspace.glob(pattern):
            draft.unlink()


def _run_name() -> str:
    config = _settings(**flow_run.parameters)
    return f"align · {config.name} · {config.languages_label}"


def _settings(
    config: str | dict[str, Any] = "quickstart", languages: list[str] | None = None, workspace: str | None = None
) -> PipelineConfig:
    if isinstance(config, str):
        return load_config(config, languages=languages, workspace=workspace)
    return validate_config(config)


RUNNER = cast("TaskRunner[PrefectFuture[Any]]", ThreadPoolTaskRunner(max_workers=3))


@flow(name="align", flow_run_name=_run_name, task_runner=RUNNER)
def align(
    config: str | dict[str, Any] = "quickstart", languages: list[str] | None = None, workspace: str | None = None
) -> dict[str, Any]:
    """Runs the pipeline in its workspace; this is what is deployed and scheduled.

    Args:
        config: Name of a shipped configuration, a YAML file, or a whole configuration as a mapping.
        languages: Languages in place of the configuration's, such as ``["es", "fr"]``; ``["+hi"]`` adds one.
        workspace: Workspace in place of the configuration's.

    Returns:
        The fields of :class:`RunSummary`.
    """
    started = time.perf_counter()
    settings = _settings(config, languages, workspace)
    store = settings.open_store()
    facts = settings.model_dump(mode="json")
    with (
        plain_disk_errors(store.workspace),
        sharing(store.workspace, tidy=lambda: _tidy(store), wait_seconds=wait_for_workspace()),
        recorded(store.workspace, run_id=str(flow_run.id or ""), name=settings.name, config=facts) as journal,
        running(Run(store, using_display(), journal=lambda outcome: journal.write({"task": asdict(outcome)}))),
    ):
        with _naming_the_cause():
            report, decision = pipeline(settings)
        rebuild_catalog(store)
        return asdict(summarise_run(journal.number, started, report, decision))
