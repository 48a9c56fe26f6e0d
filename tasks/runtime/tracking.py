"""What MLflow keeps of a run beside the version: figures, settings and data sets, and a child run for every model.

Everything is written so that an attempt that follows one that was killed writes the same once more: a child is found by
its parent and its label, and a point of a curve has the time at which its artifact was made.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from mlc.store import ArtifactRef, ArtifactStore
from tasks.runtime.artifacts import HEADLINE_FILE, SPEED_FACT, TOKENS_FACT, TRAINING_LOG_FILE
from tasks.runtime.memory import FACT as MEMORY_FACT
from tasks.runtime.models import Model

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput, Metric, Run
    from mlflow.tracking import MlflowClient

CHILD_TAG = "mlc.model"
"""Of a child: label of its model."""
KEY_TAG = "artifact"
"""Of a child: key of the artifact that its model is."""
NEEDS = "data_beside_the_policy"
"""Parameter of a child: what its method needs."""
CONFIG_FILE = "config.json"
"""Every setting that decides the results, whole, among the files of the parent."""
REPORT_FOLDER = "report"
"""The files of the report, among those of the parent."""
TRAINING = "training"
"""Section of the figures of each step."""
SYSTEM = "system"
"""Section that MLflow's page shows by itself, as system metrics."""
OTHER, ANCHOR = "other", "english"
"""Groups of languages in the report: all but the anchor, and the anchor, whichever it is."""
AGGREGATES = ("selectivity", "attack_success", "harmless_refused", "auroc")
"""Figures over languages and seeds that the parent has, with their intervals."""
LONGEST_VALUE = 250
"""Letters of a parameter; what is longer is cut, and whole in :data:`CONFIG_FILE`."""
TRIALS = 3
"""Of telling MLflow of data sets that another run may tell it of in the same moment."""
MOST_STEPS = 1000
"""Steps of a training that its curves have; of more, these are spread evenly over it."""
_METRICS, _PARAMETERS = 1000, 100
"""What MLflow takes at once."""
_PARENT_TAG = "mlflow.parentRunId"
_PASSED_ON = ("mlflow.source", "mlflow.user")
"""What begins the names of tags of the parent that children have too."""
_LONGEST_DIGEST = 36
_MIB = 1 << 20


@dataclass(frozen=True)
class Tracked:
    """What MLflow is told of a run beside its version. While the flow hands it on, it may hold futures."""

    name: str
    """What the parent is called."""
    models: tuple[Model, ...]
    """All of them, the policy first; each becomes a child."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Those that became parameters: of the sections that the methods read."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """All that decide the results."""
    words: Mapping[str, str] = field(default_factory=dict)
    """What the report says of the configuration, among it ``policy``, ``languages`` and ``licence of the ROLE``."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """More tags, of the parent and of the version."""
    training: Mapping[str, ArtifactRef] = field(default_factory=dict)
    """Data sets that models are made of, by what they are called."""
    held_out: Mapping[str, ArtifactRef] = field(default_factory=dict)
    """Data sets that models are measured on."""
    needs: Mapping[str, str] = field(default_factory=dict)
    """By method what data it needs beside the policy, in words."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """What the artifacts of each stage took when they were made."""


def metric_name(words: str) -> str:
    """The words of a setting or a figure, as MLflow takes names: of letters, digits, spaces and ``_ - . : /``.

    A plus becomes "and", so that ``consistency+edit`` can be read.

    Args:
        words: As people read them, such as ``measured, not trained``.
    """
    return re.sub(r"[^\w./:\- ]", "", words.replace("+", " and "))


def flattened(settings: Mapping[str, Any], lead: str = "") -> dict[str, str]:
    """Nested settings as names with dots, one plain value each; what is not set, or empty, is left out.

    A list of plain values is one value, as people write it; members of other lists are counted from 1.

    Args:
        settings: Plain data.
        lead: What stands before every name.
    """
    found: dict[str, str] = {}
    for name, value in settings.items():
        place = metric_name(f"{lead}{name}")
        members = _members(value)
        if members is not None:
            found |= flattened(members, f"{place}.")
        elif value not in (None, []):
            found[place] = shortened(", ".join(map(_told, value)) if isinstance(value, list) else _told(value))
    return found


def _members(value: Any) -> Mapping[str, Any] | None:
    if isinstance(value, Mapping):
        return value
    if isinstance(value, list) and any(isinstance(each, dict | list) for each in value):
        return {str(number): each for number, each in enumerate(value, start=1)}
    return None


def _told(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def shortened(text: str, most: int = LONGEST_VALUE) -> str:
    """A text with at most so many letters, the last of which tells that some are missing."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def track_settings(client: "MlflowClient", parent: "Run", tracked: Tracked) -> None:
    """Writes what a run was made of: settings and data sets. MLflow gives a model the parameters that are there.

    Args:
        client: Of the registry.
        parent: The run of MLflow.
        tracked: What to write.
    """
    _log(client, parent, [], flattened(tracked.settings))
    log_inputs(client, parent.info.run_id, _inputs(tracked.training, tracked.held_out))
    client.log_dict(parent.info.run_id, {**tracked.config, "in words": dict(tracked.words)}, CONFIG_FILE)


def track_model(client: "MlflowClient", parent: "Run", model_id: str) -> None:
    """Ties a run to a logged model that another run has made, so that MLflow's pages lead from one to the other.

    Args:
        client: Of the registry.
        parent: The run of MLflow.
        model_id: The logged model.
    """
    from mlflow.entities import LoggedModelInput

    client.log_inputs(parent.info.run_id, models=[LoggedModelInput(model_id)])


def track_figures(
    client: "MlflowClient", store: ArtifactStore, parent: "Run", tracked: Tracked, report: ArtifactRef
) -> None:
    """Writes what came of the whole run: figures over languages and seeds, seconds of the stages, the report.

    Args:
        client: Of the registry.
        store: The workspace's.
        parent: The run of MLflow.
        tracked: The models, and the seconds.
        report: Its figures become metrics, its files artifacts.
    """
    folder = store.folder(report)
    headline = json.loads((folder / HEADLINE_FILE).read_text(encoding="utf-8"))
    made = _made(store.manifest(report.kind, report.key))
    policy, *models = tracked.models
    before = _aggregates(headline["models"][policy.method])
    points, last = [], 0
    # A method that only others start from is not measured.
    for model in {model.method: model for model in models if model.method in headline["models"]}.values():
        after = _aggregates(headline["models"][model.method])
        points += _points({f"{name}/{model.method}{end}": value for (name, end), value in before.items()}, made, 0)
        steps = _steps(_manifest(store, model))
        last = max(last, steps)
        points += _points({f"{name}/{model.method}{end}": value for (name, end), value in after.items()}, made, steps)
    # Beside the models there is one difference, which is called by its two methods.
    for changes in (changes for name, changes in headline.items() if name != "models"):
        ends = {f"change/{name}{end}": value for (name, end), value in _ends(changes)}
        # Both began as the policy.
        points += [*_points(dict.fromkeys(ends, 0.0), made, 0), *_points(ends, made, last)]
    seconds = {f"{SYSTEM}/seconds.{stage}": round(spent, 3) for stage, spent in tracked.seconds.items()}
    _log(client, parent, [*points, *_points(seconds, made, 0)], {})
    client.log_artifacts(parent.info.run_id, str(folder), REPORT_FOLDER)


def track_children(
    client: "MlflowClient",
    store: ArtifactStore,
    parent: "Run",
    tracked: Tracked,
    figures: Mapping[str, Mapping[str, float]],
    candidate: Model,
    model_id: str,
) -> None:
    """Writes a child run for every model: how it was made, the curves of its training, its figures by language.

    A figure is a curve as well, from that of the policy to that of the model.

    Args:
        client: Of the registry.
        store: The workspace's.
        parent: The run of MLflow that they belong to.
        tracked: The models, and the data sets.
        figures: Of each model by its label, by their names.
        candidate: The model that is registered; its figures are those of the logged model as well.
        model_id: The logged model of MLflow.
    """
    experiment = parent.info.experiment_id
    there = {
        child.data.tags.get(CHILD_TAG): child
        for child in client.search_runs([experiment], f"tags.`{_PARENT_TAG}` = '{parent.info.run_id}'")
    }
    passed_on = {name: value for name, value in parent.data.tags.items() if name.startswith(_PASSED_ON)}
    policy = tracked.models[0]
    for model in tracked.models:
        manifest = _manifest(store, model)
        ended = _made(manifest) if manifest else parent.info.start_time
        began = ended - int(1000 * manifest.get("seconds", 0)) if manifest else ended
        tags = {**passed_on, CHILD_TAG: model.label, _PARENT_TAG: parent.info.run_id}
        tags |= {KEY_TAG: manifest["key"]} if manifest else {}
        child = there.get(model.label) or client.create_run(experiment, began, tags, run_name=model.label)
        params = {"method": model.method} | ({"seed": str(model.seed)} if model.seed is not None else {})
        points = _points(figures[policy.label], ended, 0)
        made_of = {}
        if manifest:
            logged = model_id if model.label == candidate.label else None
            points += _points(figures[model.label], ended, _steps(manifest), logged)
            points += [*_points(dict(_spent(manifest)), ended, 0), *_curves(store, model.checkpoint, ended)]
            points += _speeds(manifest, ended)
            params |= flattened(manifest["parts"]["settings"])
            params |= {NEEDS: tracked.needs[model.method]} if model.method in tracked.needs else {}
            digests = set(manifest["parts"]["inputs"].values())
            made_of = {name: ref for name, ref in tracked.training.items() if ref.sha256 in digests}
        _log(client, child, points, params)
        log_inputs(client, child.info.run_id, _inputs(made_of, tracked.held_out))
        client.set_terminated(child.info.run_id, "FINISHED", end_time=ended)


def _manifest(store: ArtifactStore, model: Model) -> dict[str, Any] | None:
    """Of a model that a stage made; None of the policy."""
    ref = model.weights
    return store.manifest(ref.kind, ref.key) if isinstance(ref, ArtifactRef) else None


def _steps(manifest: Mapping[str, Any] | None) -> int:
    """Steps of a training; 1 of a model that came about otherwise, so that it stands behind the policy."""
    return int((manifest or {"facts": {}})["facts"].get("steps") or 1)


def _aggregates(groups: Mapping[str, Any]) -> dict[tuple[str, str], float]:
    """Figures of a method over its seeds and the languages other than the anchor, with their intervals."""
    return dict(_ends(groups.get(OTHER) or groups[ANCHOR]))


def _ends(figures: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], float]]:
    for name in AGGREGATES:
        for end, place in (("", "value"), (".lower", "low"), (".upper", "high")):
            if figures[name][place] is not None:
                yield (name, end), figures[name][place]


def _spent(manifest: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """What making a model took, as its stage measured it."""
    facts, seconds = manifest["facts"], float(manifest.get("seconds", 0.0))
    yield f"{SYSTEM}/seconds", seconds
    if facts.get(MEMORY_FACT):
        yield f"{SYSTEM}/peak_memory_mebibytes", facts[MEMORY_FACT] / _MIB
    if facts.get(TOKENS_FACT):
        yield f"{SYSTEM}/tokens", float(facts[TOKENS_FACT])
        if seconds:
            yield f"{SYSTEM}/tokens_per_second", facts[TOKENS_FACT] / seconds


def _curves(store: ArtifactStore, checkpoint: ArtifactRef, made: int) -> "Iterator[Metric]":
    """The figures of a training log at their steps; nothing for a model that was not trained."""
    from mlflow.entities import Metric

    file = store.folder(checkpoint) / TRAINING_LOG_FILE
    if not file.is_file():
        return
    lines = file.read_text(encoding="utf-8").splitlines()
    every = -(-len(lines) // MOST_STEPS)
    # Counted from the end, so that the last step is among them.
    for entry in map(json.loads, lines[::-1][:: max(every, 1)][::-1]):
        for name, value in entry.items():
            if name != "step" and value is not None and math.isfinite(value):
                yield Metric(f"{TRAINING}/{metric_name(name)}", float(value), made, int(entry["step"]))


def _speeds(manifest: Mapping[str, Any], made: int) -> "list[Metric]":
    """How fast a training read, along its steps; nothing where nobody counted, or of an older release."""
    from mlflow.entities import Metric

    name = f"{TRAINING}/{SPEED_FACT}"
    return [Metric(name, speed, made, step) for step, speed in manifest["facts"].get(SPEED_FACT) or []]


def _points(values: Mapping[str, float], made: int, step: int, model_id: str | None = None) -> "list[Metric]":
    from mlflow.entities import Metric

    return [
        Metric(metric_name(name), float(value), made, step, model_id=model_id)
        for name, value in values.items()
        if math.isfinite(value)
    ]


def log_inputs(client: "MlflowClient", run_id: str, inputs: "Sequence[DatasetInput]") -> None:
    """Tells MLflow of data sets.

    It looks whether a data set is known, and adds it if not: of two runs that do so at once, one fails, and finds it
    when it tries again.

    Args:
        client: Of the registry.
        run_id: Of MLflow.
        inputs: The data sets.
    """
    from mlflow.exceptions import MlflowException

    for left in reversed(range(TRIALS)):
        try:
            client.log_inputs(run_id, list(inputs))
            return
        except MlflowException as error:
            if not left or error.error_code != "BAD_REQUEST":
                raise


def _inputs(training: Mapping[str, ArtifactRef], held_out: Mapping[str, ArtifactRef]) -> "list[DatasetInput]":
    """Data sets by the digest of their content; no text of them."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    found = []
    for context, data in (("training", training), ("evaluation", held_out)):
        for name, ref in data.items():
            profile = json.dumps({"rows": ref.rows, "sha256": ref.sha256, "artifact": ref.key})
            digest, source = ref.sha256[:_LONGEST_DIGEST], json.dumps({"uri": ref.path})
            dataset = Dataset(name, digest, "local", source, profile=profile)
            found.append(DatasetInput(dataset, [InputTag("mlflow.data.context", context)]))
    return found


def _log(client: "MlflowClient", run: "Run", metrics: Sequence["Metric"], params: Mapping[str, str]) -> None:
    """Writes in as few requests as MLflow takes; a parameter that is there stays, because none may change."""
    from mlflow.entities import Param

    new = [Param(name, value) for name, value in params.items() if name not in run.data.params]
    for start in range(0, len(metrics), _METRICS):
        client.log_batch(run.info.run_id, metrics=metrics[start : start + _METRICS])
    for start in range(0, len(new), _PARAMETERS):
        client.log_batch(run.info.run_id, params=new[start : start + _PARAMETERS])


def _made(manifest: Mapping[str, Any]) -> int:
    """When an artifact was made, in milliseconds as MLflow counts them."""
    return int(1000 * datetime.fromisoformat(manifest["created"]).timestamp())
