"""What an evaluation of models by themselves leaves: figures, outcomes, a page, and the texts for their owner alone."""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mlc.errors import UserError
from mlc.evaluation.comparison import ANSWER_METRICS, Evaluations
from mlc.evaluation.measuring import Measured
from mlc.evaluation.metrics import Metric
from mlc.evaluation.results import ANSWERS_FILE, OUTCOMES_FILE, Estimate, EvaluationResult
from mlc.evaluation.skills import Skill, read_skills
from mlc.evaluation.spread import pairwise_agreement, spread
from mlc.evaluation.suites.loading import LoadedSuite
from mlc.evaluation.suites.mixing import MIXED
from mlc.languages import ENGLISH
from mlc.report.data import Evaluated, ReportData, Texts
from mlc.report.page import PAGE_FILE, render
from mlc.report.tables import outcome_shares
from mlc.store.drafts import draft_file, open_private
from mlc.store.plain import without_nan

METRICS_FILE = "metrics.json"
PRIVATE_FOLDER = "private"
"""Texts; only the owner reads it."""
RECORD_FILE = "answers.jsonl"
REPLIES_FOLDER = "replies"
SCHEMA = "mlc-evaluation/1"
"""Of :func:`plain_metrics`."""
CHANGES: tuple[Metric, ...] = ("selectivity", "attack_success", "harmless_refused")
"""Figures whose differences between two models are shown."""
SPREAD: tuple[Metric, ...] = ("selectivity", "attack_success", "harmless_refused")
"""Figures whose worst language and gap to English are shown."""


def private_folder(folder: Path) -> Path:
    """The folder for texts, made so that only its owner can look into it.

    Raises:
        OSError: It cannot be made.
    """
    private = folder / PRIVATE_FOLDER
    private.mkdir(parents=True, exist_ok=True)
    # Not every file system knows owners.
    with suppress(OSError):
        private.chmod(0o700)
    return private


def require_same(folder: Path, suite: LoadedSuite, judge: str) -> None:
    """Checks that an earlier evaluation may be compared with one that is to come.

    Args:
        folder: Of the earlier one.
        suite: What is to be asked.
        judge: What is to decide.

    Raises:
        UserError: It asked another suite, another judge decided, or its figures cannot be read.
    """
    path = folder / METRICS_FILE
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        before = plain["suite"]["name"], plain["suite"]["version"], plain["judges"][0]
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        raise UserError(
            f"The figures {str(path)!r} of the earlier evaluation cannot be read: evaluate again."
        ) from None
    if before != (suite.name, suite.version, judge):
        told = "{} in version {} by {}"
        raise UserError(
            f"The evaluation in {str(folder)!r} is of {told.format(*before)}, and this one is of "
            f"{told.format(suite.name, suite.version, judge)}: take the same suite and judge."
        )


def earlier_skills(folder: Path) -> list[Skill]:
    """What the model of an earlier evaluation can do beside refusing; nothing where that was not measured."""
    try:
        rows = json.loads((folder / METRICS_FILE).read_text(encoding="utf-8")).get("ability", [])
        return next(iter(read_skills(rows).values()), [])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def evaluations_of(measured: Sequence[Measured]) -> Evaluations:
    """The models side by side, in their order."""
    return _evaluations(measured, [result for one in measured for result in one.results])


def _evaluations(measured: Sequence[Measured], results: Sequence[EvaluationResult]) -> Evaluations:
    return Evaluations(results, labels={one.model: one.model for one in measured})


def plain_metrics(suite: LoadedSuite, judges: Sequence[str], measured: Sequence[Measured]) -> dict[str, Any]:
    """All figures as plain data; what is missing is null, and no text is in them.

    Args:
        suite: What was asked.
        judges: What judged, the deciding one first.
        measured: The model, and perhaps the one that it is held against.
    """
    evaluations = evaluations_of(measured)
    # A mixture is no language: means, worst language and agreement are of languages.
    unmixed = _evaluations(measured, _unmixed(measured))
    return {
        "schema": SCHEMA,
        "suite": {
            "name": suite.name,
            "version": suite.version,
            "licence": suite.licence,
            "identity": suite.identity,
            "prompts": {code: len(prompts) for code, prompts in suite.prompts.items()},
            "set_aside": dict(suite.set_aside),
        },
        "judges": list(judges),
        "models": [_model(evaluations, unmixed, one.model) for one in measured],
        "differences": [
            {"model": measured[0].model, "against": other.model, "languages": _changes(unmixed, measured[0], other)}
            for other in measured[1:]
        ],
    }


def _unmixed(measured: Sequence[Measured]) -> list[EvaluationResult]:
    """All results but those of mixed prompts; these too where there are no others."""
    every = [result for one in measured for result in one.results]
    return [result for result in every if result.summary.language != MIXED] or every


def _model(evaluations: Evaluations, unmixed: Evaluations, model: str) -> dict[str, Any]:
    languages = evaluations.languages(model)
    others = [code for code in languages if code not in (ENGLISH, MIXED)]
    spreads = {metric: spread(unmixed, model, metric) for metric in SPREAD}
    return {
        "model": model,
        "languages": {
            code: {
                **{metric: _plain(evaluations, model, [code], metric) for metric in ANSWER_METRICS},
                "outcomes": {
                    group: {"judged": total, **shares}
                    for group, (shares, total) in outcome_shares(evaluations, model, code).items()
                },
            }
            for code in languages
        },
        "mean_of_others": {metric: _plain(evaluations, model, others, metric) for metric in ANSWER_METRICS}
        if others
        else None,
        "spread": {
            metric: {
                "worst_language": found.worst_language,
                "worst": asdict(found.worst),
                "gap_to_english": asdict(found.gap),
                "variance": found.variance,
            }
            for metric, found in spreads.items()
        },
        "pairwise_agreement": pairwise_agreement(unmixed, model),
    }


def _plain(evaluations: Evaluations, model: str, languages: Sequence[str], metric: Metric) -> dict[str, Any]:
    figure: Estimate = evaluations.average(model, languages, metric).estimate
    return asdict(figure)


def _changes(evaluations: Evaluations, candidate: Measured, baseline: Measured) -> dict[str, Any]:
    """Paired differences by language; p is adjusted for the number of languages (Holm)."""
    found: dict[str, Any] = {}
    for metric in CHANGES:
        changes = evaluations.by_language(baseline=baseline.model, candidate=candidate.model, metric=metric)
        for code, change in changes.items():
            found.setdefault(code, {})[metric] = {**asdict(change.estimate), "p": change.p}
    return found


def write_measured(
    folder: Path,
    suite: LoadedSuite,
    judges: Sequence[str],
    measured: Sequence[Measured],
    plain: dict[str, Any],
    *,
    texts: bool = False,
) -> None:
    """Writes ``metrics.json``, ``outcomes.parquet``, the report page, and the texts for their owner alone.

    Args:
        folder: Where to write; files of the same names are replaced.
        suite: What was asked.
        judges: What judged, the deciding one first.
        measured: The model, and perhaps the one that it is held against.
        plain: From :func:`plain_metrics`.
        texts: Whether the page holds prompts and answers too, behind a switch that is off; then its owner alone may
            read it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with draft_file(folder / METRICS_FILE) as draft:
        draft.write_text(json.dumps(without_nan(plain), indent=1, ensure_ascii=False), encoding="utf-8")
    with draft_file(folder / OUTCOMES_FILE) as draft:
        pq.write_table(pa.concat_tables([one.outcomes for one in measured]), draft)
    answers = [one.answers for one in measured if one.answers.num_columns]
    with draft_file(private_folder(folder) / ANSWERS_FILE) as draft, open_private(draft, "wb") as handle:
        pq.write_table(pa.concat_tables(answers), handle)
    if texts:
        open_private(folder / PAGE_FILE, "a").close()
    render(
        ReportData(
            name=f"{measured[0].model} on {suite.name}",
            settings={
                "model": measured[0].model,
                **({"held against": measured[1].model} if len(measured) > 1 else {}),
                "suite": f"{suite.name}, version {suite.version}",
                "licence of the prompts": suite.licence,
                "languages": [code for code in suite.prompts if code != MIXED],
                "judges": list(judges),
            },
            results=_unmixed(measured),
            skills=read_skills(without_nan(plain.get("ability", []))),
            labels={one.model: one.model for one in measured},
            compared=(measured[0].model, measured[1].model) if len(measured) > 1 else None,
            beside={METRICS_FILE: "every figure, for programs"},
            texts=_texts(answers, judges[0]) if texts else {},
        ),
        folder,
    )


def _texts(answers: Sequence[pa.Table], judge: str) -> dict[Evaluated, dict[str, Texts]]:
    found: dict[Evaluated, dict[str, Texts]] = {}
    for row in pa.concat_tables(answers).to_pylist():
        if row["judge"] == judge:
            place = row["model"], None, row["language"], ""
            found.setdefault(place, {})[row["id"]] = Texts(row["prompt"] or "", row["answer"] or "")
    return found
