"""Tables of the study `mlc run study`: ``python -m tests.studies.decisions WORKSPACE``.

Reads what the evaluations of a workspace have left, of the models and seeds that are there in every language. The
intervals of differences are over prompts and seeds.
"""

import argparse
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from flows.configuration.reading import load_config
from flows.looking.reading import RunReader
from flows.terminal.options import chosen_run
from mlc.evaluation.comparison import Evaluations
from mlc.evaluation.metrics import Metric
from mlc.evaluation.results import EvaluationResult, read_evaluations
from mlc.store import ArtifactStore

ENGLISH_ONLY = "english-only"
FIGURES: dict[Metric, str] = {
    "auroc": "AUROC",
    "balanced_accuracy": "balanced accuracy",
    "safety": "safety",
    "over_refusal": "over-refusal",
    "harmful_refused": "harmful refused",
    "harmless_refused": "harmless refused",
    "harmless_invalid": "harmless invalid",
    "selectivity": "selectivity",
}
OF_MARGINS: tuple[Metric, ...] = ("auroc", "balanced_accuracy", "safety", "over_refusal")
"""Figures that need no answers."""
DIFFERENCES: tuple[Metric, ...] = ("auroc", "balanced_accuracy", "over_refusal", "selectivity")


def tables(
    results: Sequence[EvaluationResult], trained: Sequence[str], order: Sequence[str], baseline: str = ENGLISH_ONLY
) -> Iterator[str]:
    """Lines of Markdown: levels by group of languages, then differences from one model.

    Args:
        results: One of each model, seed and language.
        trained: Languages with translations in the training.
        order: Models, as they are listed; those that are not there are left out, others follow.
        baseline: What the others are held against.
    """
    found = Evaluations(results)
    others = [code for code in found.languages() if code != found.anchor]
    groups = {
        "English": [found.anchor],
        "trained languages": [code for code in others if code in trained],
        "languages never trained": [code for code in others if code not in trained],
    }
    groups = {title: languages for title, languages in groups.items() if languages}
    models = [name for name in (*order, *sorted(set(found.models) - set(order))) if name in found.models]
    judged = any(result.summary.harmful_refused.n for result in results)
    measured = [metric for metric in FIGURES if judged or metric in OF_MARGINS]
    for title, languages in groups.items():
        yield f"\n**{title}** ({', '.join(languages)}); mean over seeds, smallest and largest seed\n"
        yield f"| model | seeds | {' | '.join(FIGURES[metric] for metric in measured)} |"
        yield "|---" * (len(measured) + 2) + "|"
        for model in models:
            cells = [_cell(found, model, languages, metric) for metric in measured]
            yield f"| {model} | {len(found.seeds(model))} | {' | '.join(cells)} |"
    differing = [metric for metric in DIFFERENCES if metric in measured]
    for title in (title for title in groups if title != "English"):
        yield f"\n**Minus {baseline}, {title}**; 95 % intervals over prompts and seeds\n"
        yield f"| model | {' | '.join(FIGURES[metric] for metric in differing)} |"
        yield "|---" * (len(differing) + 1) + "|"
        for model in models:
            if model not in (baseline, "base"):
                cells = [_change(found, baseline, model, groups[title], metric) for metric in differing]
                yield f"| {model} | {' | '.join(cells)} |"


def _cell(found: Evaluations, model: str, languages: Sequence[str], metric: Metric) -> str:
    figure = found.average(model, languages, metric)
    seeds = [value for _, value in figure.by_seed]
    spread = f" ({min(seeds):.2f} to {max(seeds):.2f})" if len(seeds) > 1 else ""
    return f"{figure.estimate.value:.3f}{spread}"


def _change(found: Evaluations, baseline: str, model: str, languages: Sequence[str], metric: Metric) -> str:
    change = found.compare(baseline=baseline, candidate=model, languages=languages, metric=metric, other_seeds=True)
    return f"{change.value:+.3f} [{change.low:+.3f}, {change.high:+.3f}]"


def _last(results: Sequence[EvaluationResult]) -> list[EvaluationResult]:
    """The last one of each model, seed and language."""
    summaries = ((result.summary, result) for result in results)
    return list({(about.model, about.seed, about.language): result for about, result in summaries}.values())


def _complete(results: Sequence[EvaluationResult]) -> list[EvaluationResult]:
    """Those of models and seeds that are there in as many languages as any."""

    def run(result: EvaluationResult) -> tuple[str, int]:
        return result.summary.model, -1 if result.summary.seed is None else result.summary.seed

    runs = [list(members) for _, members in groupby(sorted(results, key=run), key=run)]
    most = max(map(len, runs))
    return [result for members in runs if len(members) == most for result in members]


def _folders(workspace: Path, runs: Sequence[str]) -> list[Path]:
    """Of all evaluations, or of those of some runs, each once."""
    if not runs:
        return sorted(path.parent for path in workspace.glob("artifacts/evaluate/*/summary.json"))
    readers = [RunReader(ArtifactStore(workspace), chosen_run(workspace, run)) for run in runs]
    return list(dict.fromkeys(reader.folder(task) for reader in readers for task in reader.tasks("evaluate")))


def main() -> None:
    """Reads the command line and prints the tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.studies.decisions", description=__doc__)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--config", default="study", help="whose languages and order of models count")
    parser.add_argument(
        "--run",
        action="append",
        default=[],
        help="number of a run, may be given again; all of the workspace if left out",
    )
    parser.add_argument("--minus", default=ENGLISH_ONLY, metavar="MODEL", help="what the others are held against")
    parser.add_argument("--suite", metavar="NAME", help="a suite; the held-out prompts if left out")
    given = parser.parse_args()
    config = load_config(given.config)
    order = ["base", *(method.name for method in config.methods)]
    results = read_evaluations(_folders(given.workspace, given.run))
    asked = _complete(_last([result for result in results if result.summary.suite == given.suite]))
    print("\n".join(tables(asked, config.languages, order, given.minus)))


if __name__ == "__main__":
    main()
