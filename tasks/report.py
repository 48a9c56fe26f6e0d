"""Stage ``report``: one page that says what came of the run."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from mlc.evaluation.comparison import TABLE_METRICS, Evaluations, model_rows
from mlc.evaluation.gate.deciding import decide_gate
from mlc.evaluation.gate.settings import GateSettings
from mlc.evaluation.metrics import Metric
from mlc.evaluation.overlap import read_overlaps
from mlc.evaluation.results import ANSWERS_FILE, Estimate, EvaluationResult, read_evaluations
from mlc.evaluation.settings import SPLITS
from mlc.evaluation.skills import Skill, plain_skills, read_skills
from mlc.evaluation.spread import pairwise_agreement, spread
from mlc.languages import all_languages, resolve_language
from mlc.store import ArtifactRef, Draft
from mlc.store.manifests import MANIFEST
from mlc.store.plain import without_nan
from tasks.runtime.artifacts import (
    COSTS_FILE,
    FUNNEL_FILE,
    HEADLINE_FILE,
    LEFT_OUT_FILE,
    METRICS_FILE,
    SEARCH_FILE,
    SKILLS_FILE,
    TRAINING_LOG_FILE,
    facts_of,
    left_out_of,
)
from tasks.runtime.costs import cost_of, costs_of
from tasks.runtime.models import Model
from tasks.runtime.revision import release, revision
from tasks.runtime.run import Run
from tasks.runtime.settings import Roles, ShownTexts
from tasks.runtime.stage import Stage, produce, stage_task

if TYPE_CHECKING:
    from mlc.report import FunnelRow, TranslatorRow
    from mlc.report.data import Evaluated, MethodCost, Texts

STAGE = Stage("report", version=3, module=__name__, libraries=("matplotlib", "jinja2", "numpy"))
TITLE = "Safety in every language"
OVERLAP = "overlap"
"""What artifacts of held-out prompts among those of training are called, with what they are about."""
METRICS_SCHEMA = "metrics.schema.json"
METRICS_VERSION = 1
"""Goes up when the meaning of ``metrics.json`` changes."""
SPREAD: tuple[Metric, ...] = ("selectivity", "attack_success", "harmful_refused", "harmless_refused", "safety", "auroc")
"""Figures whose worst language, gap to English and variance are told."""


@dataclass(frozen=True)
class ReportFacts:
    """What the report says of the configuration."""

    settings: dict[str, str]
    trained_languages: tuple[str, ...]
    machine_translated_languages: tuple[str, ...]
    roles: Roles
    """What is judged, against what."""
    labels: tuple[tuple[str, str], ...]
    """Names of the models and what they are called, in the order in which they are shown."""
    kept: tuple[str, ...] = ()
    """See :func:`mlc.store.keeping.kept_sentences`."""
    controls: tuple[tuple[str, str], ...] = ()
    """Names of the candidate's controls and what they are called, whether the run has them or not."""
    set_aside: tuple[tuple[str, str, str], ...] = ()
    """Label, name and reason of each method that the run went on without."""
    made_of: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = ()
    """Of each method those that are made for it, itself last, and the data that it needs beside the policy."""
    texts: ShownTexts = "none"
    """Whether prompts and answers are in the page's file, see :class:`tasks.runtime.settings.ReportSettings`."""


@stage_task("report", "report")
def publish_report(
    run: Run,
    results: Mapping[str, ArtifactRef],
    verdicts: Mapping[str, ArtifactRef],
    models: Sequence[Model],
    given: Mapping[str, ArtifactRef],
    overlaps: Mapping[str, ArtifactRef],
    facts: ReportFacts,
    gate: GateSettings,
    skills: Mapping[str, ArtifactRef],
) -> ArtifactRef:
    """Writes the report.

    Args:
        run: The run.
        results: Evaluations of every model, seed and language, on the held-out prompts and on suites.
        verdicts: The filter's artifacts by language.
        models: The aligned and edited models, for the logs of their trainings and the trials of their searches.
        given: The prompts, the held-out prompts and the training set by what they are called, for what they went
            without.
        overlaps: What is there twice, by language, suite or feedback; empty for training prompts beside held-out
            ones, both in the anchor language.
        facts: What to say of the configuration.
        gate: The policy, whose outcome the report shows.
        skills: What models can do beside refusing, by their labels; empty where that was not measured.

    Returns:
        ``report.html``, the plots as PNG, ``results.csv``, ``outcomes.csv``, ``headline.json``, ``metrics.json`` (see
        :func:`_metrics`) with its JSON schema, ``costs.json``, ``left_out.json`` and ``model_card.md``.
    """
    folders = {model: run.store.folder(model.checkpoint) for model in models}
    compared = {f"{OVERLAP} {name}".strip(): ref for name, ref in overlaps.items()}
    parts = STAGE.parts(
        {"facts": json.loads(json.dumps(asdict(facts))), "gate": gate.model_dump(mode="json")},
        {
            **{f"evaluation {name}": ref for name, ref in results.items()},
            **{f"verdicts {language}": ref for language, ref in verdicts.items()},
            **{f"model {model.method} {model.seed}": model.checkpoint for model in models},
            **{f"ability {label}": ref for label, ref in skills.items()},
            **given,
            **compared,
        },
    )

    def write(draft: Draft) -> None:
        # It brings matplotlib.
        from mlc.report import Gate, Input, ReportData, render
        from mlc.report.card import CARD_FILE, model_card

        everything = read_evaluations(map(run.store.folder, results.values()))
        read = [result for result in everything if result.summary.suite is None]
        made = {**given, **compared, **{model.label: model.checkpoint for model in models}}
        left_out = [(where, count) for where, ref in made.items() for count in left_out_of(run.store, ref)]
        able = _skills(run, skills.values())
        costs = _costs(run, models, facts)
        made_by = _made(run)
        decision = decide_gate(everything, gate, **asdict(facts.roles))
        data = ReportData(
            name=TITLE,
            settings={
                **facts.settings,
                "training starts from": _starts(run, models),
                **_gates(run, models),
                "prompts that are there twice": _overlaps(run, overlaps),
            },
            results=read,
            suites=_by_suite(everything),
            skills=able,
            costs=costs,
            funnel=[row for language in sorted(verdicts) for row in _funnel(run.store.folder(verdicts[language]))],
            translators=[
                row for language in sorted(verdicts) for row in _translators(run, language, verdicts[language])
            ],
            training_logs={
                (model.method, model.seed): _training_log(folder)
                for model, folder in folders.items()
                if model.seed is not None and (folder / TRAINING_LOG_FILE).is_file()
            },
            searches={
                (model.method, model.seed, language): rows
                for model, folder in folders.items()
                for language, rows in _searches(folder).items()
            },
            labels=dict(facts.labels),
            compared=(facts.roles.candidate, facts.roles.baseline),
            champion=facts.roles.champion,
            controls=dict(facts.controls),
            trained_languages=facts.trained_languages,
            machine_translated_languages=facts.machine_translated_languages,
            kept=facts.kept,
            set_aside=facts.set_aside,
            left_out=left_out,
            gate=Gate(decision.passed, decision.policy, [check.row() for check in decision.checks]),
            inputs=[Input(name, ref.sha256, ref.rows) for name, ref in given.items()],
            made=_made_in_words(made_by),
            beside={
                METRICS_FILE: "every figure, for programs",
                COSTS_FILE: "time, tokens, memory and data of every method",
                METRICS_SCHEMA: "what metrics.json holds, as JSON schema",
                CARD_FILE: "the model card",
                MANIFEST: "when, by which run and by which code this page was made",
            },
            texts=_texts(run, results.values(), everything) if facts.texts == "hidden" else {},
        )
        render(data, draft.path)
        (draft.path / CARD_FILE).write_text(model_card(data), encoding="utf-8")
        (draft.path / METRICS_SCHEMA).write_bytes((files("mlc.report") / METRICS_SCHEMA).read_bytes())
        counts = [{"where": where, **count.as_dict()} for where, count in left_out]
        (draft.path / LEFT_OUT_FILE).write_text(json.dumps(counts, indent=1), encoding="utf-8")
        evaluations = Evaluations(read, labels=dict(facts.labels))
        headline = _headline(evaluations, facts)
        metrics = _metrics(evaluations, everything, headline) | (
            {"ability": list(map(without_nan, plain_skills(able)))} if able else {}
        )
        if facts.set_aside:
            metrics["set_aside"] = [
                {"method": name, "label": label, "reason": reason} for label, name, reason in facts.set_aside
            ]
        # In a file of its own: time and memory differ from one machine to the next, and figures do not.
        taken = [cost._asdict() for cost in costs]
        for name, content in ((HEADLINE_FILE, headline), (METRICS_FILE, metrics), (COSTS_FILE, taken)):
            (draft.path / name).write_text(json.dumps(content, indent=1, allow_nan=False), encoding="utf-8")
        draft.facts |= made_by

    return produce(run, STAGE, parts, write)


def _costs(run: Run, models: Sequence[Model], facts: ReportFacts) -> "list[MethodCost]":
    """What each method took, as far as this run made or found its models."""
    from mlc.report.data import MethodCost

    # Where the run is recorded on another machine, that of the models themselves is known at least.
    there: set[tuple[str, str | None, str]] = {
        (model.checkpoint.kind, model.label, model.checkpoint.key) for model in models
    }
    there |= {(task.stage, task.subject, task.key) for task in run.told()}
    spent = costs_of(run.store, sorted(there, key=str))
    return [
        MethodCost(chain[-1], **asdict(cost_of(chain, spent)), needs=needs)
        for chain, needs in facts.made_of
        if chain[-1] in spent
    ]


def _made(run: Run) -> dict[str, Any]:
    """By what the page is made, for its manifest and for the page."""
    told = {"run": run.journal.number if run.journal else None, "release": release(), "revision": revision()}
    return {name: value for name, value in told.items() if value}


def _made_in_words(made: Mapping[str, Any]) -> dict[str, str]:
    """When and by what the page is made, as it says it."""
    names = {"run": "run", "release": "version of mlc", "revision": "commit"}
    told = {shown: str(made[name]) for name, shown in names.items() if name in made}
    return {"made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), **told}


def _starts(run: Run, models: Sequence[Model]) -> str:
    """From what each model was trained, in words."""
    warm = []
    for model in models:
        facts = run.store.manifest(model.checkpoint.kind, model.checkpoint.key)["facts"]
        if languages := facts.get("started_from"):
            warm.append(
                f"{model.method}, seed {model.seed}: the checkpoint aligned on {', '.join(languages)}, in "
                f"{facts['steps']} steps"
            )
    return "; ".join([*warm, "all others: the policy"]) if warm else "the policy"


def _gates(run: Run, models: Sequence[Model]) -> dict[str, str]:
    """Where gates on prompts read and what they can tell, in words; nothing where there is none."""
    told = []
    for model in models:
        facts = facts_of(run.store, model.checkpoint)
        if separation := facts.get("separation"):
            figures = ", ".join(
                f"{resolve_language(code).english_name} {'–' if value is None else f'{value:.2f}'}"
                for code, value in separation.items()
            )
            told.append(f"{model.label}: layer {facts['layer']}, pool {facts['pool']}; {figures}")
    return {"gates read, and AUROC on prompts not fitted on": " · ".join(told)} if told else {}


def _overlaps(run: Run, overlaps: Mapping[str, ArtifactRef]) -> str:
    """Which prompts are there twice, in words: in the anchor language, then by language, suite and feedback.

    What is twice among the training prompts is told of these, and not again of what they are compared with.
    """
    names = {language.code: language.english_name for language in all_languages()}
    told = []
    for name, ref in overlaps.items():
        lead = " ".join(names.get(word, word) for word in name.split(" "))
        for part in read_overlaps(facts_of(run.store, ref)):
            if part.rows and (not name or name in names or part.where in SPLITS):
                told.append(f"{lead}: {part.sentence}" if lead else part.sentence)
    return "; ".join(told) or "none"


def _skills(run: Run, refs: Iterable[ArtifactRef]) -> dict[str, list[Skill]]:
    found: dict[str, list[Skill]] = {}
    for ref in refs:
        found |= read_skills(json.loads((run.store.folder(ref) / SKILLS_FILE).read_text(encoding="utf-8")))
    return found


def _by_suite(results: Sequence[EvaluationResult]) -> dict[str, list[EvaluationResult]]:
    found: dict[str, list[EvaluationResult]] = {}
    for result in results:
        if result.summary.suite is not None:
            found.setdefault(result.summary.suite, []).append(result)
    return found


def _texts(
    run: Run, refs: Iterable[ArtifactRef], read: Sequence[EvaluationResult]
) -> "dict[Evaluated, dict[str, Texts]]":
    """What was asked and answered, by evaluation and id."""
    from mlc.report.data import Texts

    found = {}
    for ref, result in zip(refs, read, strict=True):
        summary = result.summary
        rows = pq.read_table(run.store.folder(ref) / ANSWERS_FILE).to_pylist()
        # A person may have kept an evaluation of an earlier release, which held no prompts.
        found[summary.model, summary.seed, summary.language, summary.suite or ""] = {
            row["id"]: Texts(row.get("prompt") or "", row["answer"] or "")
            for row in rows
            if row["judge"] == summary.judge
        }
    return found


def _headline(evaluations: Evaluations, facts: ReportFacts) -> dict[str, Any]:
    """Figures by model and group of languages, and what the candidate changed."""
    models: dict[str, Any] = {}
    for row in model_rows(evaluations):
        models[row.model] = {
            "seeds": [seed for seed in row.seeds if seed is not None],
            **{
                group: {metric: _plain(figures.figures[metric].estimate) for metric in TABLE_METRICS}
                for group, figures in row.groups.items()
            },
        }
    roles = facts.roles
    differences = {
        metric: _plain(evaluations.compare(baseline=roles.baseline, candidate=roles.candidate, metric=metric))
        for metric in TABLE_METRICS
    }
    name = re.sub(r"\W", "_", f"{roles.candidate}_minus_{roles.baseline}")
    return {"models": models, name: differences}


def _metrics(
    evaluations: Evaluations, results: Sequence[EvaluationResult], headline: Mapping[str, Any]
) -> dict[str, Any]:
    """All figures, for programs: the headline, the spread over languages, and every evaluation by itself.

    A figure is an object with ``value``, ``low``, ``high`` (95 % interval) and ``n`` (prompts); what is missing has
    ``n`` 0 and null.
    """
    spreads = {
        model: {
            **{metric: without_nan(asdict(spread(evaluations, model, metric))) for metric in SPREAD},
            "pairwise_agreement": without_nan(pairwise_agreement(evaluations, model)),
        }
        for model in evaluations.models
    }
    summaries = [without_nan(asdict(result.summary)) for result in results]
    return {"version": METRICS_VERSION, **headline, "over_languages": spreads, "evaluations": summaries}


def _plain(estimate: Estimate) -> dict[str, float | int | None]:
    plain: dict[str, float | int | None] = without_nan(asdict(estimate))
    return plain


def _funnel(folder: Path) -> "list[FunnelRow]":
    from mlc.report import FunnelRow

    rows = pq.read_table(folder / FUNNEL_FILE).to_pylist()
    return [FunnelRow(row["target_language"], row["reason"], row["rows"], row["share"]) for row in rows]


def _translators(run: Run, language: str, verdicts: ArtifactRef) -> "list[TranslatorRow]":
    """What each translator of a language brought; nothing where one was asked and refused nothing."""
    from mlc.report import TranslatorRow

    # A person may have kept verdicts of an earlier release.
    counts = run.store.manifest(verdicts.kind, verdicts.key)["facts"].get("translators", [])
    told = len(counts) > 1 or any(count["refused"] for count in counts)
    return [TranslatorRow(language, **count) for count in counts] if told else []


def _searches(folder: Path) -> dict[str, list[dict[str, Any]]]:
    path = folder / SEARCH_FILE
    found: dict[str, list[dict[str, Any]]] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def _training_log(folder: Path) -> list[dict[str, float]]:
    text = (folder / TRAINING_LOG_FILE).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]
