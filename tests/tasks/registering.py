"""What a registration is given beside a model: a report with its figures, and what MLflow is told of the run."""

import json
from dataclasses import replace
from typing import Any

from mlc.methods import BASE
from mlc.store import ArtifactRef, KeyParts
from tasks.runtime.artifacts import HEADLINE_FILE, LEFT_OUT_FILE, METRICS_FILE, MODEL_CARD_FILE
from tasks.runtime.models import Model
from tasks.runtime.run import Run
from tasks.runtime.settings import PolicySettings
from tasks.runtime.tracking import AGGREGATES, Tracked

CARD = "---\nlicense: apache-2.0\n---\n"
BEFORE = {"value": 0.125, "low": 0.0, "high": None, "n": 8}
AFTER = {"value": 0.5, "low": 0.25, "high": 0.75, "n": 8}


def written_report(run: Run, method: str, left_out: list[dict[str, Any]]) -> ArtifactRef:
    """A report on a candidate, as far as a registration reads it."""
    parts = KeyParts("report", 1, settings={"method": method})
    if run.store.glance("report", parts.key) is None:
        before, after = (dict.fromkeys(AGGREGATES, figure) for figure in (BEFORE, AFTER))
        worst = {"selectivity": {"worst": AFTER, "worst_language": "swh_Latn"}}
        contents: dict[str, Any] = {
            LEFT_OUT_FILE: left_out,
            HEADLINE_FILE: {"models": {BASE: {"english": before}, method: {"other": after}}, "change": after},
            METRICS_FILE: {"over_languages": {method: worst}},
        }
        with run.store.writing("report", parts) as draft:
            for name, content in contents.items():
                (draft.path / name).write_text(json.dumps(content), encoding="utf-8")
            (draft.path / MODEL_CARD_FILE).write_text(CARD, encoding="utf-8")
    return run.store.reference("report", parts.key)


def tracked(model: Model) -> Tracked:
    """What MLflow is told of a run with one model beside the policy."""
    policy = Model(BASE, None, PolicySettings(model="shipped:tiny"), "cpu")
    prompts = ArtifactRef("ingest", "0" * 64, "artifacts/ingest/0", "f" * 64, 8)
    return Tracked(
        "trial",
        (policy, model),
        needs={"consistency": "english answers, translated prompts"},
        settings={"align": {"steps": 2}},
        words={"policy": "tiny", "languages": "swh_Latn", "licence of the policy": "apache-2.0"},
        tags={"git.revision": "abc"},
        training={"prompts": prompts},
        held_out={"held-out prompts swh_Latn": replace(prompts, sha256="e" * 64)},
        seconds={"align": 1.5},
    )
