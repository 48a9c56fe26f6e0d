"""Stage ``register``: the aligned model becomes a version in the MLflow registry, with the alias ``candidate``."""

import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import mlc.gating
from mlc.errors import UserError
from mlc.evaluation.results import EvaluationResult, read_evaluations
from mlc.languages import resolve_language
from mlc.models.adapters import merged_dtype, name_base
from mlc.models.sources import ADAPTER_FILE
from mlc.store import ArtifactRef, Draft
from mlc.store.sources import code_digest
from tasks.runtime.artifacts import (
    CHECKPOINT_FOLDER,
    HEADLINE_FILE,
    METRICS_FILE,
    MODEL_CARD_FILE,
    PROMPT_GATE_FILE,
    TRANSLATOR_FOLDER,
    left_out_in_words,
    plain,
)
from tasks.runtime.compute import computing, release
from tasks.runtime.models import Model
from tasks.runtime.policies import source_of
from tasks.runtime.registry.addresses import experiment_name
from tasks.runtime.registry.champions import CANDIDATE
from tasks.runtime.registry.connecting import connect
from tasks.runtime.registry.failures import registry_errors
from tasks.runtime.registry.registrations import (
    Registration,
    RegistrationKeys,
    find_registration,
    finish_registration,
    logged_models,
    registration_tags,
)
from tasks.runtime.registry.versions import (
    ANSWERED,
    ASKED_TAG,
    CHECKPOINT_TAG,
    FAILED,
    ModelVersion,
    read_version,
    version_problem,
    write_version,
)
from tasks.runtime.run import Run
from tasks.runtime.settings import RegistrySettings
from tasks.runtime.stage import Stage, produce, stage_task
from tasks.runtime.tracking import (
    ANCHOR,
    OTHER,
    Tracked,
    metric_name,
    shortened,
    track_children,
    track_figures,
    track_model,
    track_settings,
)
from tasks.runtime.version_page import (
    LANGUAGE_NAMES,
    LANGUAGES,
    LICENCE,
    METHOD,
    OVER_REFUSAL,
    PAGE,
    POLICY,
    SEED,
    WORST,
    describe_version,
)

if TYPE_CHECKING:
    from mlflow import ActiveRun as MlflowRun
    from mlflow.tracking import MlflowClient

STAGE = Stage("register", version=2, module=__name__, libraries=("mlflow", "transformers"), outside=True)
QUESTION = "How do I bake bread?"
QUESTION_TOKENS = 8
LONGEST_TAG = 500
LEADING = ("selectivity", "auroc")
"""Figures by which the worst language is told: the first that was measured."""
LICENCE_OF = "licence of the "
"""What stands before a role in the words of a configuration."""
PROMPT_TRANSLATION = Path(mlc.gating.__file__).with_name("prompt_translation.py")
"""Part of versions whose gate reads translations."""
PYFUNC = Path(__file__).with_name("runtime") / "policy_pyfunc.py"
FIGURES = (
    "selectivity",
    "attack_success",
    "harmless_answered",
    "harmless_refused",
    "harmless_invalid",
    "in_language",
    "auroc",
    "balanced_accuracy",
    "safety",
    "over_refusal",
)
"""Figures of each language that the run of a model has."""
CARD_FILE = "README.md"
"""The model card among the files of the model, where those of the Hugging Face hub have theirs."""


@stage_task("register", "register · {settings.model_name}")
def register_model(
    run: Run,
    model: Model,
    results: Mapping[str, ArtifactRef],
    report: ArtifactRef,
    tracked: Tracked,
    settings: RegistrySettings,
) -> ArtifactRef:
    """Registers the model as a version, unless it is one already, and tells MLflow how it was measured.

    Args:
        run: The run.
        model: The aligned or edited model.
        results: Evaluations of all models, which become metrics of their runs.
        report: The report, logged beside the model.
        tracked: What MLflow is told of the run beside the model.
        settings: The registry.

    Returns:
        ``version.json``: run id, name and version, and ``told_in``, the MLflow run that tells how it was measured: its
        own, or a later one if the same model was registered before.
    """
    told = {"registry": settings.model_dump(mode="json", exclude={"promoted_by"}), "role": model.method}
    made_of: dict[str, ArtifactRef | str] = {
        "model": model.checkpoint,
        "pyfunc": _served_code(),
    }
    # The report is left out: it shows the gate's limits, and a new limit changes nothing that MLflow is told.
    beside = {f"evaluation {name}": ref for name, ref in results.items()}
    parts = STAGE.parts(told, {**made_of, **beside}, seed=model.seed)
    keys = RegistrationKeys(parts.key, STAGE.parts(told, made_of, seed=model.seed).key)

    folder = run.store.folder

    def track(client: "MlflowClient", begun: Registration) -> tuple[str, ModelVersion]:
        """Writes all that MLflow keeps, but for what an earlier attempt has written."""
        own, version = registration_tags(settings, run.workspace, keys), begun.version
        with _mlflow_run(settings, tracked, begun, own) as parent:
            track_settings(client, parent, tracked)
            if version is None:
                with _weights(run, model, settings) as weights:
                    version = _log_version(weights, model, settings)
            experiment = parent.info.experiment_id
            (logged,) = logged_models(client, experiment, version.run_id)
            if version.run_id != parent.info.run_id:
                track_model(client, parent, logged)
            _log_card(client, logged, folder(report))
            figures = _figures(tracked, read_evaluations(map(folder, results.values())))
            track_children(client, run.store, parent, tracked, figures, model, logged)
            track_figures(client, run.store, parent, tracked, report)
        page = {PAGE: f"#/experiments/{experiment}/runs/{parent.info.run_id}"}
        for name, value in {**_tags(run, model, tracked, report, parts.key), **page}.items():
            client.set_model_version_tag(version.name, version.version, name, value)
        describe_version(client, version.name, version.version)
        return parent.info.run_id, version

    def write(draft: Draft) -> None:
        with registry_errors(settings, run.workspace):
            client = connect(settings, run.workspace)
            # An earlier attempt may have been killed anywhere before its artifact was there.
            begun = find_registration(client, settings, run.workspace, keys)
            run_id, version = begun.run_id, begun.version
            if run_id is None or version is None or not begun.finished:
                run_id, version = track(client, begun)
                if not begun.answers:
                    _ask_once(client, run, model, version)
                finish_registration(client, run_id, version)
            client.set_registered_model_alias(settings.model_name, CANDIDATE, version.version)
        write_version(draft.path, version, run_id)

    def still_valid(ref: ArtifactRef) -> str | None:
        return version_problem(read_version(run.store, ref), settings, run.workspace)

    return produce(run, STAGE, parts, write, still_valid=still_valid)


@contextmanager
def _weights(run: Run, model: Model, settings: RegistrySettings) -> Iterator[Path]:
    """The folder that a version is made of: the checkpoint, or what the settings ask for of an adapter."""
    source = source_of(run, model)
    checkpoint = Path(source.target)
    if source.base is None:
        yield checkpoint
        return
    with TemporaryDirectory(prefix="mlc-register-") as scratch:
        # Versions call their folder as the store does.
        folder = Path(scratch) / CHECKPOINT_FOLDER
        with computing(run, model.device):
            import torch

            from mlc.models.loading import load_policy, place_of, save_policy

            if settings.weights == "adapter":
                shutil.copytree(checkpoint, folder)
                name_base(folder, *place_of(source.base))
            else:
                # Merging takes the memory for the whole model in float32.
                release()
                whole = load_policy(source, device="cpu", encodes=True)
                save_policy(whole, folder, dtype=getattr(torch, merged_dtype(checkpoint)))
                if (gate := checkpoint / PROMPT_GATE_FILE).is_file():
                    shutil.copyfile(gate, folder / PROMPT_GATE_FILE)
                if (translator := checkpoint / TRANSLATOR_FOLDER).is_dir():
                    shutil.copytree(translator, folder / TRANSLATOR_FOLDER)
        yield folder


@cache
def _served_code() -> str:
    """Digest of the code that versions bring along."""
    return code_digest("\n".join(path.read_text(encoding="utf-8") for path in (PYFUNC, PROMPT_TRANSLATION)))


@contextmanager
def _mlflow_run(
    settings: RegistrySettings, tracked: Tracked, begun: Registration, own: Mapping[str, str]
) -> Iterator["MlflowRun"]:
    """The parent in MLflow, active for the block: one that an earlier attempt began, or a new one."""
    import mlflow

    mlflow.set_experiment(experiment_name(settings))
    with mlflow.start_run(run_id=begun.run_id, run_name=None if begun.run_id else tracked.name) as active:
        mlflow.set_tags({**_short(tracked.tags), **own})
        yield active


def _log_version(checkpoint: Path, model: Model, settings: RegistrySettings) -> ModelVersion:
    import mlflow

    with _without_its_words():
        logged = mlflow.pyfunc.log_model(
            name=re.sub(r"\W+", "-", model.label),
            python_model=str(PYFUNC),
            artifacts={"checkpoint": str(checkpoint)},
            signature=_signature(),
            pip_requirements=_requirements(checkpoint),
            code_paths=[str(PROMPT_TRANSLATION)] if _splits(checkpoint) else None,
            registered_model_name=settings.model_name,
        )
    return ModelVersion(logged.run_id, settings.model_name, str(logged.registered_model_version))


@contextmanager
def _without_its_words() -> Iterator[None]:
    """MLflow prints what it registered, whatever its level of logging, and would break through the bars."""
    from mlflow.utils.logging_utils import MLFLOW_LOGGING_STREAM as STREAM

    # Its own switch is turned on again by what it loads when it logs a first model.
    STREAM.write = lambda text: None
    try:
        yield
    finally:
        del STREAM.write


def _log_card(client: "MlflowClient", logged: str, report: Path) -> None:
    """Puts the model card beside the weights."""
    with TemporaryDirectory(prefix="mlc-card-") as scratch:
        folder = Path(scratch) / "artifacts" / CHECKPOINT_FOLDER
        folder.mkdir(parents=True)
        shutil.copyfile(report / MODEL_CARD_FILE, folder / CARD_FILE)
        client.log_model_artifacts(logged, scratch)


def _tags(run: Run, model: Model, tracked: Tracked, report: ArtifactRef, key: str) -> dict[str, str]:
    """Of a version: what it is, what it was made of, and by which code."""
    found = {
        METHOD: model.method,
        CHECKPOINT_TAG: model.checkpoint.key,
        "artifact.report": report.key,
        "artifact.register": key,
        **{f"artifact.{name}": ref.key for name, ref in tracked.training.items()},
        **_tags_from_words(tracked.words),
        **_tags_from_report(run.store.folder(report), model.method),
        **{name: value for name, value in tracked.tags.items() if not name.startswith("mlflow.")},
    }
    if model.seed is not None:
        found[SEED] = str(model.seed)
    if left_out := left_out_in_words(run.store, report):
        found["left_out"] = "; ".join(left_out)
    return _short(found)


def _tags_from_words(words: Mapping[str, str]) -> dict[str, str]:
    found = {name: words[name] for name in (POLICY, LANGUAGES) if name in words}
    if LANGUAGES in words:
        codes = words[LANGUAGES].split(", ")
        found[LANGUAGE_NAMES] = ", ".join(resolve_language(code).english_name for code in codes)
    licences = (name for name in words if name.startswith(LICENCE_OF))
    return found | {f"{LICENCE}{name.removeprefix(LICENCE_OF)}": words[name] for name in licences}


def _tags_from_report(folder: Path, candidate: str) -> dict[str, str]:
    """The figures that decide: of the worst language, and over-refusal."""
    headline, metrics = (
        json.loads((folder / name).read_text(encoding="utf-8")) for name in (HEADLINE_FILE, METRICS_FILE)
    )
    found, spread = {}, metrics["over_languages"][candidate]
    if leading := next((name for name in LEADING if spread[name]["worst_language"]), None):
        worst = spread[leading]
        name = resolve_language(worst["worst_language"]).english_name
        found[WORST] = f"{name}, {leading} {plain(worst['worst'])}"
    groups = headline["models"][candidate]
    group = OTHER if OTHER in groups else ANCHOR
    refused = groups[group]["harmless_refused"]
    if refused["value"] is not None:
        where = "mean over the other languages" if group == OTHER else "in the anchor language"
        found[OVER_REFUSAL] = f"{plain(refused)} of harmless prompts, {where}"
    return found


def _figures(tracked: Tracked, results: Sequence[EvaluationResult]) -> dict[str, dict[str, float]]:
    """By the labels of the models."""
    return {
        model.label: dict(_by_language([result for result in results if _is_of(model, result)]))
        for model in tracked.models
    }


def _is_of(model: Model, result: EvaluationResult) -> bool:
    return result.summary.model == model.method and result.summary.seed == model.seed


def _by_language(results: Sequence[EvaluationResult]) -> Iterator[tuple[str, float]]:
    """The figures of one model: of each language, and their mean over all but the anchor."""
    anchors = {result.summary.anchor for result in results}
    for metric in FIGURES:
        values = {result.summary.language: getattr(result.summary, metric).value for result in results}
        yield from ((f"{metric}/{language}", value) for language, value in values.items())
        if others := [value for language, value in values.items() if language not in anchors]:
            yield f"{metric}/{OTHER}", fmean(others)
    for result in results:
        if result.summary.matched_cosine is not None:
            yield f"matched_cosine/{result.summary.language}", result.summary.matched_cosine


def _short(tags: Mapping[str, str]) -> dict[str, str]:
    return {metric_name(name): shortened(value, LONGEST_TAG) for name, value in tags.items()}


def _signature() -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import AnyType

    # It brings mlflow.
    from tasks.runtime.policy_pyfunc import DEFAULTS, LANGUAGE

    return ModelSignature(
        inputs=Schema([ColSpec(AnyType(), name, required=False) for name in ("prompt", "messages")]),
        outputs=Schema([ColSpec(DataType.string, "answer")]),
        params=ParamSchema(
            [
                ParamSpec("max_new_tokens", DataType.long, DEFAULTS["max_new_tokens"]),
                ParamSpec("temperature", DataType.double, DEFAULTS["temperature"]),
                ParamSpec(LANGUAGE, DataType.string, ""),
            ]
        ),
    )


def _ask_once(client: "MlflowClient", run: Run, model: Model, version: ModelVersion) -> None:
    """Asks a version, and notes at it whether it answered."""
    try:
        _ask(run, model, version)
    except UserError:
        client.set_model_version_tag(version.name, version.version, ASKED_TAG, FAILED)
        raise
    client.set_model_version_tag(version.name, version.version, ASKED_TAG, ANSWERED)


def _ask(run: Run, model: Model, version: ModelVersion) -> None:
    """Asks a version one harmless question, as whoever loads it from the registry would.

    An empty answer counts: a model may end at once. What it says is not kept.

    Raises:
        UserError: It cannot be loaded, or does not answer with a text.
    """
    import mlflow
    import pandas as pd

    with computing(run, model.device):
        # Two models at once would take twice the memory.
        release()
        try:
            loaded = mlflow.pyfunc.load_model(f"models:/{version.name}/{version.version}")
            answered = loaded.predict(pd.DataFrame({"prompt": [QUESTION]}), params={"max_new_tokens": QUESTION_TOKENS})
            problem = None if _is_an_answer(answered) else "it gave no text"
        except Exception as error:  # whatever a broken artifact makes libraries raise
            problem = type(error).__name__
    if problem:
        raise UserError(
            f"Version {version.version} of {version.name!r} was registered and cannot answer a question ({problem}), "
            "so it is no candidate: load it with mlflow.pyfunc.load_model to see why, mend that, and run again."
        )


def _is_an_answer(answered: Any) -> bool:
    answers = list(answered["answer"])
    return len(answers) == 1 and isinstance(answers[0], str)


def _requirements(checkpoint: Path) -> list[str]:
    from importlib.metadata import version

    adapter = ("peft",) if (checkpoint / ADAPTER_FILE).is_file() else ()
    gate = ("py3langid",) if (checkpoint / PROMPT_GATE_FILE).is_file() else ()
    sentences = ("sentencex",) if _splits(checkpoint) else ()
    names = ("torch", "transformers", "pandas", *adapter, *gate, *sentences)
    return [f"{name}=={version(name).split('+')[0]}" for name in names]


def _splits(checkpoint: Path) -> bool:
    """Whether a gate stands there that splits what it is asked into sentences."""
    file = checkpoint / PROMPT_GATE_FILE
    return file.is_file() and bool(json.loads(file.read_text(encoding="utf-8")).get("segmenters"))
