"""Stage ``register``: the aligned model becomes a version in the MLflow registry, with the alias ``candidate``."""

import json
import math
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mlc.errors import UserError
from mlc.evaluation.results import EvaluationResult, read_evaluations
from mlc.models.adapters import merged_dtype, name_base
from mlc.models.sources import ADAPTER_FILE
from mlc.store import ArtifactRef, Draft
from mlc.store.sources import code_digest
from tasks.runtime.artifacts import (
    CHECKPOINT_FOLDER,
    PROMPT_GATE_FILE,
    TRAINING_LOG_FILE,
    VERSION_FILE,
    left_out_in_words,
)
from tasks.runtime.compute import computing, release
from tasks.runtime.models import Model
from tasks.runtime.policies import source_of
from tasks.runtime.registry import (
    CANDIDATE,
    CHECKPOINT_TAG,
    ModelVersion,
    begin_registration,
    connect,
    experiment_name,
    finish_registration,
    read_version,
    registry_errors,
    take_finished,
    version_problem,
)
from tasks.runtime.run import Run
from tasks.runtime.settings import RegistrySettings
from tasks.runtime.stage import Stage, produce, stage_task

STAGE = Stage("register", version=1, module=__name__, libraries=("mlflow", "transformers"), outside=True)
ASKED_TAG = "asked"
"""Of a version: whether it ``answered`` when it was asked, or ``failed``."""
QUESTION = "How do I bake bread?"
QUESTION_TOKENS = 8
PYFUNC = Path(__file__).with_name("runtime") / "policy_pyfunc.py"
REGISTERED = (
    "selectivity",
    "attack_success",
    "harmless_refused",
    "harmless_invalid",
    "in_language",
    "auroc",
    "balanced_accuracy",
    "safety",
    "over_refusal",
)
"""Figures of each language that become metrics of the version."""
TRAINING = "training/"
"""Before the names of the figures of each step."""
BATCH = 1000
"""Metrics that MLflow takes at once."""


@stage_task("register", "register · {settings.model_name}")
def register_model(
    run: Run,
    model: Model,
    results: Mapping[str, ArtifactRef],
    report: ArtifactRef,
    facts: dict[str, Any],
    settings: RegistrySettings,
) -> ArtifactRef:
    """Registers the model.

    Args:
        run: The run.
        model: The aligned or edited model.
        results: Evaluations of all models; those of this one become metrics.
        report: The report, logged beside the model.
        facts: Settings to log as parameters.
        settings: The registry.

    Returns:
        ``version.json``: run id, name and version.
    """
    # The report is left out: it shows the gate's limits, and a new limit does not make a new model.
    checkpoint = model.checkpoint
    parts = STAGE.parts(
        {"registry": settings.model_dump(mode="json"), "role": model.method},
        {
            "model": checkpoint,
            "pyfunc": code_digest(PYFUNC.read_text(encoding="utf-8")),
            **{f"evaluation {name}": ref for name, ref in results.items()},
        },
        seed=model.seed,
    )

    def write(draft: Draft) -> None:
        folder = run.store.folder
        with registry_errors(settings, run.workspace):
            client = connect(settings, run.workspace)
            # An earlier attempt may have been killed between the registration and its artifact.
            version = take_finished(client, settings, parts.key)
            if version is None:
                told = {**facts, "seed": model.seed, CHECKPOINT_TAG: checkpoint.key}
                if left_out := left_out_in_words(run.store, report):
                    told["left_out"] = "; ".join(left_out)
                own = [result for result in read_evaluations(map(folder, results.values())) if _is_of(model, result)]
                with _weights(run, model, settings) as weights:
                    version = _log_version(weights, folder(report), own, told, settings, parts.key)
                _log_training(client, version, folder(checkpoint))
                for name, value in told.items():
                    client.set_model_version_tag(settings.model_name, version.version, name, str(value)[:500])
                try:
                    _ask(run, model, version)
                except UserError:
                    client.set_model_version_tag(version.name, version.version, ASKED_TAG, "failed")
                    raise
                client.set_model_version_tag(version.name, version.version, ASKED_TAG, "answered")
                finish_registration(client, version)
            client.set_registered_model_alias(settings.model_name, CANDIDATE, version.version)
        (draft.path / VERSION_FILE).write_text(json.dumps(version.as_dict(), indent=1), encoding="utf-8")

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
        yield folder


def _is_of(model: Model, result: EvaluationResult) -> bool:
    return result.summary.model == model.method and result.summary.seed == model.seed


def _log_version(
    checkpoint: Path,
    report: Path,
    results: Sequence[EvaluationResult],
    facts: dict[str, Any],
    settings: RegistrySettings,
    key: str,
) -> ModelVersion:
    import mlflow

    mlflow.set_experiment(experiment_name(settings))
    with mlflow.start_run(run_name=settings.model_name, tags=begin_registration(key)) as run:
        mlflow.log_params({parameter_name(name): str(value)[:500] for name, value in facts.items()})
        mlflow.log_artifacts(str(report), "report")
        logged = mlflow.pyfunc.log_model(
            name="policy",
            python_model=str(PYFUNC),
            artifacts={"checkpoint": str(checkpoint)},
            signature=_signature(),
            pip_requirements=_requirements(checkpoint),
            registered_model_name=settings.model_name,
        )
        for name, value in _metrics(results).items():
            mlflow.log_metric(name, value, model_id=logged.model_id)
        return ModelVersion(run.info.run_id, settings.model_name, str(logged.registered_model_version))


def _log_training(client: Any, version: ModelVersion, folder: Path) -> None:
    """The curves of a training, as metrics with steps; nothing for a model that was not trained."""
    from mlflow.entities import Metric

    file, now = folder / TRAINING_LOG_FILE, int(1000 * time.time())
    if not file.is_file():
        return
    points = [
        Metric(TRAINING + parameter_name(name), float(value), now, int(entry["step"]))
        for entry in map(json.loads, file.read_text(encoding="utf-8").splitlines())
        for name, value in entry.items()
        if name != "step" and value is not None and math.isfinite(value)
    ]
    for start in range(0, len(points), BATCH):
        client.log_batch(version.run_id, points[start : start + BATCH])


def parameter_name(words: str) -> str:
    """The words of a setting, as MLflow takes names: of letters, digits, spaces and ``_ - . : /``.

    Args:
        words: As people read them, such as ``measured, not trained``.
    """
    return re.sub(r"[^\w./:\- ]", "", words)


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
    return [f"{name}=={version(name).split('+')[0]}" for name in ("torch", "transformers", "pandas", *adapter, *gate)]


def _metrics(results: Sequence[EvaluationResult]) -> dict[str, float]:
    metrics = {}
    for result in results:
        summary = result.summary
        for name in REGISTERED:
            value = getattr(summary, name).value
            if value == value:
                metrics[f"{name}.{summary.language}"] = value
        if summary.matched_cosine is not None:
            metrics[f"matched_cosine.{summary.language}"] = summary.matched_cosine
    return metrics
