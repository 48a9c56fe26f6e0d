"""Stage ``report``: one page that says what came of the run."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from mlc.evaluation.comparison import compare, model_table
from mlc.evaluation.gate import GateSettings, decide_gate
from mlc.evaluation.metrics import Metric
from mlc.evaluation.results import Estimate, EvaluationResult, read_evaluations
from mlc.store import ArtifactRef, Draft
from mlc.store.plain import without_nan
from tasks.runtime.artifacts import (
    FUNNEL_FILE,
    HEADLINE_FILE,
    REPORT_FILE,
    SEARCH_FILE,
    TRAINING_LOG_FILE,
)
from tasks.runtime.run import current_run
from tasks.runtime.settings import Roles
from tasks.runtime.stage import Stage, produce, stage_task

if TYPE_CHECKING:
    from mlc.report import FunnelRow

STAGE = Stage("report", version=1, module=__name__, libraries=("matplotlib", "jinja2", "numpy"))
TITLE = "Safety in every language"
METRICS: tuple[Metric, ...] = ("auroc", "balanced_accuracy", "safety", "over_refusal")


@dataclass(frozen=True)
class ReportFacts:
    """What the report says of the configuration."""

    settings: dict[str, str]
    trained_languages: tuple[str, ...]
    machine_translated_languages: tuple[str, ...]
    roles: Roles = field(default_factory=Roles)
    """What is judged, against what."""


@stage_task("report", "report")
def publish_report(
    results: Mapping[str, ArtifactRef],
    verdicts: Mapping[str, ArtifactRef],
    logs: Mapping[str, Mapping[int, ArtifactRef]],
    facts: ReportFacts,
    gate: GateSettings,
    edits: Mapping[int | None, ArtifactRef],
) -> ArtifactRef:
    """Writes the report.

    Args:
        results: Evaluations of every model, seed and language.
        verdicts: The filter's artifacts by language.
        logs: The aligned models by role and seed.
        facts: What to say of the configuration.
        gate: The limits, whose outcome the report shows.
        edits: The edited models by seed, for the trials of their searches.

    Returns:
        ``report.html``, the plots as PNG, ``results.csv`` and ``headline.json``.
    """
    trained = {(role, seed): ref for role, models in logs.items() for seed, ref in models.items()}
    parts = STAGE.parts(
        {"facts": json.loads(json.dumps(asdict(facts))), "gate": gate.model_dump(mode="json")},
        {
            **{f"evaluation {name}": ref for name, ref in results.items()},
            **{f"verdicts {language}": ref for language, ref in verdicts.items()},
            **{f"model {role} {seed}": ref for (role, seed), ref in trained.items()},
            **{f"model edit {seed}": ref for seed, ref in edits.items()},
        },
    )

    def write(draft: Draft) -> None:
        # It brings matplotlib.
        from mlc.report import ReportData, render

        read = read_evaluations(map(current_run().store.folder, results.values()))
        decision = decide_gate(read, gate, **asdict(facts.roles))
        data = ReportData(
            name=TITLE,
            settings={**facts.settings, "training starts from": _starts(trained)},
            results=read,
            funnel=[row for language in sorted(verdicts) for row in _funnel(verdicts[language])],
            training_logs={run: _training_log(ref) for run, ref in trained.items()},
            searches={
                (seed, language): rows for seed, ref in edits.items() for language, rows in _searches(ref).items()
            },
            trained_languages=facts.trained_languages,
            machine_translated_languages=facts.machine_translated_languages,
            gate={"passed": decision.passed, "reasons": decision.reasons},
        )
        render(data, draft.path)
        (draft.path / HEADLINE_FILE).write_text(json.dumps(_headline(read, facts.roles), indent=1), encoding="utf-8")
        _show(read, draft.path)

    return produce(STAGE, parts, write)


def _starts(trained: Mapping[tuple[str, int], ArtifactRef]) -> str:
    """From what each model was trained, in words."""
    store, warm = current_run().store, []
    for (role, seed), ref in trained.items():
        facts = store.manifest(ref.kind, ref.key)["facts"]
        if languages := facts.get("started_from"):
            warm.append(
                f"{role}, seed {seed}: the checkpoint aligned on {', '.join(languages)}, in {facts['steps']} steps"
            )
    return "; ".join([*warm, "all others: the policy"]) if warm else "the policy"


def _headline(results: Sequence[EvaluationResult], roles: Roles) -> dict[str, Any]:
    """Figures by model and group of languages, and what the candidate changed."""
    models: dict[str, Any] = {}
    for row in model_table(results):
        models[row.model] = {
            "seeds": [seed for seed in row.seeds if seed is not None],
            **{
                group: {metric: _plain(figures.figures[metric].estimate) for metric in METRICS}
                for group, figures in row.groups.items()
            },
        }
    differences = {
        metric: _plain(compare(results, baseline=roles.baseline, candidate=roles.candidate, metric=metric))
        for metric in METRICS
    }
    name = f"{roles.candidate}_minus_{roles.baseline}".replace("-", "_")
    return {"models": models, name: differences}


def _plain(estimate: Estimate) -> dict[str, float | int | None]:
    plain: dict[str, float | int | None] = without_nan(asdict(estimate))
    return plain


def _funnel(ref: ArtifactRef) -> "list[FunnelRow]":
    from mlc.report import FunnelRow

    rows = pq.read_table(current_run().store.folder(ref) / FUNNEL_FILE).to_pylist()
    return [FunnelRow(row["target_language"], row["reason"], row["rows"], row["share"]) for row in rows]


def _searches(ref: ArtifactRef) -> dict[str, list[dict[str, Any]]]:
    text = (current_run().store.folder(ref) / SEARCH_FILE).read_text(encoding="utf-8")
    found: dict[str, list[dict[str, Any]]] = json.loads(text)
    return found


def _training_log(ref: ArtifactRef) -> list[dict[str, float]]:
    text = (current_run().store.folder(ref) / TRAINING_LOG_FILE).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def _show(results: Sequence[EvaluationResult], folder: Path) -> None:
    rows: list[dict[str, str | int]] = []
    for row in model_table(results):
        for group, members in row.groups.items():
            told: dict[str, str | int] = {"model": row.model, "languages": group}
            told.update({metric: _told(members.figures[metric].estimate) for metric in METRICS})
            rows.append({**told, "prompts": members.figures["auroc"].estimate.n})
    create_table_artifact(key="models", table=rows, description="The models, in English and in the other languages.")
    create_markdown_artifact(
        key="report", markdown=f"The report lies in `{folder.name}/{REPORT_FILE}` of the workspace's report artifacts."
    )


def _told(estimate: Estimate) -> str:
    return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"
