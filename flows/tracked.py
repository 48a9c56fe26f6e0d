"""What MLflow is told of a run, by its configuration and by what it has done so far."""

import os
import platform
from collections import defaultdict
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from flows.configuration.pipeline import PipelineConfig
from mlc.catalogue import METHODS
from mlc.methods import in_order, resolve_method, sections_read
from mlc.methods.needs import needs_of
from mlc.report.wording import needs_in_words
from tasks.runtime.models import Model
from tasks.runtime.revision import release, revision
from tasks.runtime.run import PASSING_SERVER, Run
from tasks.runtime.tracking import Tracked
from tasks.runtime.version_page import PREFECT_PAGE, RELEASE, REVISION

DECIDING = {
    "name",
    "prompts",
    "anchor_language",
    "languages",
    "seeds",
    "models",
    "candidate",
    "translator",
    "quality",
    "dataset",
    "policy",
    "align",
    "edit",
    "direction",
    "serve",
    "evaluation",
    "gate",
}
"""Sections of a configuration that are told: those that decide results, and none that says where things lie."""
_GIB = 1 << 30

Future = Any
"""What a stage that was submitted will have made."""


def tracked_run(
    run: Run,
    config: PipelineConfig,
    models: Sequence[Model],
    words: Mapping[str, str],
    kept: Sequence[str],
    training: Mapping[str, Future],
    held_out: Mapping[str, Future],
) -> Tracked:
    """What MLflow is told of a run that is about to register its candidate.

    Args:
        run: The run; what it has done so far is told in seconds.
        config: The pipeline.
        models: All models, the policy first.
        words: What the report says of the configuration.
        kept: Which results a person kept, in sentences.
        training: Data sets that models are made of, by what they are called.
        held_out: Data sets that models are measured on.
    """
    if run.planning or run.looking:
        # Nothing is registered.
        return Tracked(config.name, tuple(models))
    seconds: defaultdict[str, float] = defaultdict(float)
    for outcome in run.outcomes:
        seconds[outcome.stage] += outcome.seconds_saved if outcome.state == "cached" else outcome.seconds
    whole = config.model_dump(mode="json", include=DECIDING)
    number = f" · run {run.journal.number}" if run.journal else ""
    return Tracked(
        needs={method.name: needs_in_words(needs_of(method, config.serve.reads)) for method in config.methods},
        name=f"{config.name} · {config.languages_label}{number}",
        models=tuple(models),
        settings=read_settings(config, whole),
        config=whole,
        words=words,
        tags={**_code(), **_machine(), **_run_tags(run), **({"kept": "; ".join(kept)} if kept else {})},
        training=training,
        held_out=held_out,
        seconds=dict(seconds),
    )


def read_settings(config: PipelineConfig, whole: Mapping[str, Any]) -> dict[str, Any]:
    """The settings without the sections that none of a run's methods reads.

    Args:
        config: The pipeline.
        whole: Its settings as plain data.
    """
    methods = in_order(config.models)
    known = sections_read(map(resolve_method, METHODS.places))
    trained = [method.alignment(config.align) for method in methods if method.recipe == "train"]
    unused = frozenset.intersection(*(align.unused for align in trained)) if trained else frozenset()
    found = deepcopy(dict(whole))
    for section in sorted((known - sections_read(methods)) | {f"align.{name}" for name in unused}):
        *above, name = section.split(".")
        place: Any = found
        for outer in above:
            place = place.get(outer, {})
        place.pop(name, None)
    return found


def _code() -> dict[str, str]:
    code = revision()
    # MLflow's own name for it, which its pages show.
    told = {RELEASE: release(), REVISION: code, "mlflow.source.git.commit": code, "mlflow.source.name": "mlc"}
    return {name: value for name, value in told.items() if value}


def _machine() -> dict[str, str]:
    """The machine of the flow; what a stage took is measured where it ran."""
    told = {"machine.system": f"{platform.system()} {platform.machine()}", "machine.cpus": str(os.cpu_count())}
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        told["machine.memory_gib"] = str(round(memory / _GIB))
    return told


def _run_tags(run: Run) -> dict[str, str]:
    told = {"prefect.flow_run": run.id}
    if run.journal:
        told["run"] = str(run.journal.number)
    if not os.environ.get(PASSING_SERVER):
        from prefect.utilities.urls import url_for

        told[PREFECT_PAGE] = url_for("flow-run", obj_id=run.id) or ""
    return {name: value for name, value in told.items() if value}
