"""What a gate can know of other languages: ``python -m tests.studies.prompt_gate CHECKPOINT [...] --dataset FOLDER``.

For each checkpoint: every place where a gate may read, with the AUROC by which it is chosen (on translations of
training prompts that were not fitted on) and the AUROC on the validation prompts in human translation, which the choice
does not see. Then the gate at the chosen place: what it refuses of the validation prompts at thresholds by shares, and
with false refusals bounded. All fitted on the English training prompts; means over the other languages of the data set.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from mlc.gating.crossing import best_place, cross_margins, separations
from mlc.gating.fitting import fit_score
from mlc.gating.reading import Place, Read, places_of, states_at
from mlc.gating.settings import PromptGateSettings
from mlc.gating.thresholds import thresholds_of
from mlc.languages import resolve_language
from mlc.models.loading import Policy, load_policy
from mlc.models.sources import resolve_model
from mlc.shipped import shipped_data
from mlc.tables.saved import read_saved

BOUNDS = (None, 0.1, 0.2, 0.3)
Asked = tuple[Tensor, Mapping[str, Mapping[int, str]]]
"""[N] whether each prompt is harmful; their texts by language, by number of the prompt."""


def training(dataset: Path) -> Asked:
    """The labelled training prompts of a workspace's artifact of the stage ``dataset``, the anchor language first."""
    rows = [row for row in read_saved(dataset).to_list() if row["label"]]
    anchor, *others = rows[0]["languages"]
    texts = {anchor: {number: row["prompt"] for number, row in enumerate(rows)}}
    for place, code in enumerate(others, 1):
        texts[code] = {number: row["variants"][place] for number, row in enumerate(rows) if row["mask"][place]}
    return torch.tensor([row["label"] == "harmful" for row in rows]), texts


def validation(languages: Sequence[str]) -> Asked:
    """The quickstart's validation prompts."""
    folder = shipped_data("quickstart")
    prompts, references = (
        [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for path in (folder / "validation.jsonl", folder / "references" / "validation.jsonl")
    )
    by_id = {row["id"]: row for row in references}
    texts = {code: dict(enumerate(by_id[row["id"]][code] for row in prompts)) for code in languages}
    return torch.tensor([row["label"] == "harmful" for row in prompts]), texts


def states(policy: Policy, asked: Asked, places: Sequence[Place]) -> dict[Place, dict[str, Read]]:
    """By place and language."""
    found: dict[Place, dict[str, Read]] = {place: {} for place in places}
    for code, texts in asked[1].items():
        for place, own in states_at(policy, list(texts.values()), places).items():
            found[place][code] = Read(torch.tensor(list(texts)), own)
    return found


def refused(scores: Tensor, harmful: Tensor, threshold: float) -> tuple[float, float]:
    """Shares of the harmful and of the harmless prompts above a threshold."""
    above = (scores > threshold).double()
    return float(above[harmful].mean()), float(above[~harmful].mean())


def tables(policy: Policy, trained: Asked, held: Asked, given: Mapping[str, Any]) -> Iterator[str]:
    """Lines of both tables."""
    places = places_of(policy, PromptGateSettings())
    (harmful, _), (held_harmful, _) = trained, held
    at, held_at = (states(policy, asked, places) for asked in (trained, held))
    chosen = best_place(at, harmful, **given)
    yield "| layer | pooling | English, crossed | others, crossed | English, held out | others, held out |"
    yield "|---" * 6 + "|"
    for place in places:
        own, *others = separations(cross_margins(at[place], harmful, **given), at[place], harmful).values()
        score = fit_score(next(iter(at[place].values())).states_MH, harmful, **given)
        held_scores = {code: score.of(read.states_MH) for code, read in held_at[place].items()}
        held_own, *held_others = separations(held_scores, held_at[place], held_harmful).values()
        cells = (own, fmean(value or 0.5 for value in others), held_own, fmean(value or 0.5 for value in held_others))
        layer = f"**{place[0]}**" if place == chosen else place[0]
        yield f"| {layer} | {place[1]} | {' | '.join(f'{cell:.2f}' for cell in cells)} |"
    yield ""
    yield f"At layer {chosen[0]}, {chosen[1]}: harmful and harmless prompts refused\n"
    languages = list(at[chosen])
    yield f"| bound | {' | '.join(resolve_language(code).english_name for code in languages)} | mean of the others |"
    yield "|---" * (len(languages) + 2) + "|"
    score = fit_score(at[chosen][languages[0]].states_MH, harmful, **given)
    crossed = cross_margins(at[chosen], harmful, **given)
    for bound in BOUNDS:
        settings = PromptGateSettings(false_refusals=bound)
        thresholds = thresholds_of(score, at[chosen], crossed, harmful, settings)
        shares = [
            refused(score.of(held_at[chosen][code].states_MH), held_harmful, threshold)
            for code, threshold in thresholds.items()
        ]
        cells_by_code = [f"{high:.2f}, {low:.2f}" for high, low in shares]
        mean = [fmean(column) for column in zip(*shares[1:], strict=True)]
        yield f"| {bound or 'none'} | {' | '.join(cells_by_code)} | {mean[0]:.2f}, {mean[1]:.2f} |"


def main() -> None:
    """Reads the command line and prints two tables for each checkpoint."""
    parser = argparse.ArgumentParser(prog="python -m tests.studies.prompt_gate", description=__doc__)
    parser.add_argument("checkpoints", nargs="+")
    parser.add_argument("--dataset", type=Path, required=True, help="a folder artifacts/dataset/KEY/dataset")
    parser.add_argument("--languages", nargs="+", help="NLLB codes beside the anchor's; all of the data set by default")
    parser.add_argument("--rank", type=int, default=PromptGateSettings().rank)
    parser.add_argument("--ridge", type=float, default=PromptGateSettings().ridge)
    given = parser.parse_args()
    harmful, texts = training(given.dataset)
    kept = {
        code: own for place, (code, own) in enumerate(texts.items()) if not place or code in (given.languages or texts)
    }
    for checkpoint in given.checkpoints:
        policy = load_policy(resolve_model(checkpoint))
        print(f"\n**{checkpoint}**, {len(harmful)} training prompts\n")
        for line in tables(
            policy, (harmful, kept), validation(tuple(kept)), {"rank": given.rank, "ridge": given.ridge}
        ):
            print(line, flush=True)


if __name__ == "__main__":
    main()
