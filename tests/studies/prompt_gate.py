"""Where a gate on prompts should read: ``python -m tests.studies.prompt_gate CHECKPOINT [...] --dataset FOLDER``.

For each checkpoint, pooling and layer: a gate fitted on the English training prompts of the quickstart, its thresholds
by shares of translations, asked on the validation prompts in human translation. Beside it what a gate would do that was
fitted on the translations into each language itself. Prints mean AUROC and selectivity over the languages.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import load_from_disk
from torch import Tensor

from mlc.choices import Pool
from mlc.evaluation.metrics import auroc
from mlc.gating.fitting import LinearScore, fit_score, matched_threshold
from mlc.languages import resolve_language
from mlc.models.loading import Policy, load_policy
from mlc.models.prompts import encode_prompt, pad_prompts
from mlc.models.sources import resolve_model
from mlc.models.states import pool_mask, pool_states
from mlc.shipped import shipped_data

POOLS: tuple[Pool, ...] = ("last", "last_content", "mean")
BATCH_SIZE = 16
Place = tuple[Pool, int]


@torch.no_grad()
def all_states(policy: Policy, texts: Sequence[str], layers: Sequence[int]) -> dict[Place, Tensor]:
    """[N, H] states of texts by pooling and layer, all from one pass."""
    found: dict[Place, list[Tensor]] = {(pool, layer): [] for pool in POOLS for layer in layers}
    for start in range(0, len(texts), BATCH_SIZE):
        encoded = [encode_prompt(policy.tokenizer, text) for text in texts[start : start + BATCH_SIZE]]
        batch = pad_prompts(encoded, policy.pad_token)
        ids, real = batch.input_ids, batch.attention_mask
        states = policy.model.base_model(ids, real, output_hidden_states=True).hidden_states
        masks = {pool: pool_mask(ids, real, pool, batch.content_mask) for pool in POOLS}
        for pool, layer in found:
            found[pool, layer].append(pool_states(states[layer], masks[pool], pool))
    return {place: torch.cat(parts) for place, parts in found.items()}


def figures(score: LinearScore, states: Tensor, harmful: Tensor, threshold: float) -> tuple[float, float]:
    """AUROC, and harmful minus harmless prompts above the threshold."""
    scores = score.of(states)
    above = (scores > threshold).double()
    return auroc(scores[harmful].numpy(), scores[~harmful].numpy()), float(
        above[harmful].mean() - above[~harmful].mean()
    )


def rows_of(dataset: Path) -> list[dict[str, Any]]:
    """The training prompts of a workspace's artifact of the stage ``dataset``, those with a label."""
    return [row for row in load_from_disk(str(dataset)).to_list() if row["label"]]


def validation(languages: Sequence[str]) -> tuple[Tensor, dict[str, list[str]]]:
    """[N] whether each prompt is harmful, and their texts by language."""
    folder = shipped_data("quickstart")
    prompts, references = (
        [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for path in (folder / "validation.jsonl", folder / "references" / "validation.jsonl")
    )
    by_id = {row["id"]: row for row in references}
    texts = {code: [by_id[row["id"]][code] for row in prompts] for code in languages}
    return torch.tensor([row["label"] == "harmful" for row in prompts]), texts


def lines(
    policy: Policy, rows: Sequence[Mapping[str, Any]], layers: Sequence[int], rank: int, ridge: float
) -> Iterator[str]:
    """One line for each pooling and layer."""
    english, *others = rows[0]["languages"]
    harmful = torch.tensor([row["label"] == "harmful" for row in rows])
    there = {
        code: [row for row in range(len(rows)) if rows[row]["mask"][place]] for place, code in enumerate(others, 1)
    }
    training = {english: all_states(policy, [row["prompt"] for row in rows], layers)}
    for place, code in enumerate(others, 1):
        training[code] = all_states(policy, [rows[row]["variants"][place] for row in there[code]], layers)
    asked_harmful, asked = validation((english, *others))
    asked_states = {code: all_states(policy, texts, layers) for code, texts in asked.items()}
    for where in training[english]:
        score = fit_score(training[english][where], harmful, rank=rank, ridge=ridge)
        at_home = figures(score, asked_states[english][where], asked_harmful, 0.0)
        carried, own = [], []
        for code in others:
            states, labels = training[code][where], harmful[there[code]]
            threshold = matched_threshold(score.of(states), score.of(training[english][where][there[code]]))
            carried.append(figures(score, asked_states[code][where], asked_harmful, threshold))
            bound = fit_score(states, labels, rank=rank, ridge=ridge)
            own.append(figures(bound, asked_states[code][where], asked_harmful, 0.0))
        cells = [f"{sum(column) / len(others):.2f}" for pairs in (carried, own) for column in zip(*pairs, strict=True)]
        yield f"| {where[0]} | {where[1]} | {at_home[0]:.2f} | {at_home[1]:.2f} | {' | '.join(cells)} |"


def main() -> None:
    """Reads the command line and prints a table for each checkpoint."""
    parser = argparse.ArgumentParser(prog="python -m tests.studies.prompt_gate", description=__doc__)
    parser.add_argument("checkpoints", nargs="+")
    parser.add_argument("--dataset", type=Path, required=True, help="a folder artifacts/dataset/KEY/dataset")
    parser.add_argument("--layers", type=int, nargs="+", help="all by default")
    parser.add_argument("--rank", type=int, default=10)
    parser.add_argument("--ridge", type=float, default=0.01)
    given = parser.parse_args()
    rows = rows_of(given.dataset)
    named = ", ".join(resolve_language(code).english_name for code in rows[0]["languages"][1:])
    for checkpoint in given.checkpoints:
        policy = load_policy(resolve_model(checkpoint))
        layers = given.layers or range(1, policy.model.config.num_hidden_layers + 1)
        print(f"\n**{checkpoint}**, {len(rows)} training prompts; means over {named}\n")
        print("| pooling | layer | English AUROC | selectivity | AUROC there | selectivity | own AUROC | selectivity |")
        print("|---" * 8 + "|")
        for line in lines(policy, rows, layers, given.rank, given.ridge):
            print(line, flush=True)


if __name__ == "__main__":
    main()
