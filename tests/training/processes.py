"""Runs that are the same in one process and in several.

``python -m tests.training.processes RANK WORLD FOLDER SCENARIO ...``
"""

import json
import os
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

RELEASED = {"form": "released", "dim": 8, "layer": 2}
ALL = tuple(range(8))
FIRST_HALVES = (0, 1, 4, 5)
"""With two processes, one of them never sees a translation."""

SCENARIOS: dict[str, dict[str, Any]] = {
    "cosine": {"term": {}},
    "released": {"term": {**RELEASED, "center": "batch"}},
    "running mean": {"term": {**RELEASED, "center": "running", "center_scope": "per_language"}},
    "dpo, logged every second step": {
        "carrier": "dpo",
        "term": {},
        "options": {"logging_steps": 2, "max_steps": 4},
    },
    "kl": {"carrier": "kl", "term": {}},
    "lean": {"carrier": "lean_sft", "term": {}},
    "lean, accumulated": {
        "carrier": "lean_sft",
        "term": RELEASED,
        "options": {"gradient_accumulation_steps": 2, "max_steps": 4},
    },
    "accumulated, every second step": {
        "term": {**RELEASED, "every": 2},
        "options": {"gradient_accumulation_steps": 2, "max_steps": 4},
    },
    "one process without translations": {"term": {**RELEASED, "center": "batch"}, "translated": FIRST_HALVES},
    "one process without translations, running mean": {"term": {"center": "running"}, "translated": FIRST_HALVES},
    "one process without translations, bfloat16": {
        "term": {**RELEASED, "center": "batch"},
        "translated": FIRST_HALVES,
        "options": {"bf16": True},
    },
    "pairs": {"method": "mpo"},
    "feedback": {"method": "feedback"},
    "no translations in some steps": {"term": {**RELEASED, "center": "batch"}, "translated": (0, 1, 2)},
}


def run(scenario: str, folder: Path, *, processes: int) -> tuple[list[dict[str, float]], dict[str, Any]]:
    """The log of a scenario, and the tensors of the model and of the term after it."""
    from tests.training.runs import make_rows, term, train

    chosen = SCENARIOS[scenario]
    if "method" in chosen:
        return of_pairs(chosen["method"], folder, processes=processes)
    rows = make_rows()
    for number, row in enumerate(rows):
        if number not in chosen.get("translated", ALL):
            row["variants"][1:] = [None, ""]
    # A larger epsilon keeps Adam from making a step out of a rounding error.
    options = {"train_sampling_strategy": "sequential", "adam_epsilon": 1e-3, **chosen.get("options", {})}
    options["per_device_train_batch_size"] = 4 // processes
    done = train(chosen.get("carrier", "sft"), folder, term(**chosen["term"]), rows=rows, **options)
    tensors = {**done.weights, **{f"term.{name}": t for name, t in done.trainer.term.state_dict().items()}}
    # Tied weights are one tensor, which safetensors would not write twice.
    return done.log, {name: tensor.clone().contiguous() for name, tensor in tensors.items()}


def of_pairs(name: str, folder: Path, *, processes: int) -> tuple[list[dict[str, float]], dict[str, Any]]:
    """The same of a method whose trainer reads pairs."""
    from mlc.methods import resolve_method
    from mlc.models.loading import load_policy
    from mlc.models.sources import resolve_model
    from mlc.training.carriers.carrier import Training
    from mlc.training.settings import AlignSettings
    from mlc.training.translated import translated_rows
    from tests.training.runs import make_rows

    settings = resolve_method(name).alignment(AlignSettings())
    rows = [
        row | {"variant_chosen": [row["chosen"]] * 3, "variant_rejected": [row["rejected"]] * 3, "feedback": verdict}
        for row, verdict in zip(make_rows(), ("good", "bad") * 4, strict=True)
    ]
    pairs = rows if settings.english_loss.reads_feedback else translated_rows(rows, settings.translated, seed=0)
    options = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 4 // processes,
        "train_sampling_strategy": "sequential",
        "adam_epsilon": 1e-3,
        "learning_rate": 1e-2,
        "max_steps": 3,
        "logging_steps": 1,
        "use_cpu": True,
        "report_to": [],
        "disable_tqdm": True,
    }
    policy = load_policy(resolve_model("shipped:tiny"), device="cpu")
    trainer = settings.english_loss.trainer(Training(policy, None, None, settings, options, None, pairs))
    trainer.train()
    log = [entry for entry in trainer.state.log_history if "loss" in entry]
    weights = {name: tensor.clone().contiguous() for name, tensor in trainer.model.state_dict().items()}
    return log, weights


def main(rank: int, world: int, folder: Path, scenarios: Sequence[str]) -> None:
    """Runs scenarios as one of several processes, and writes what each of them left."""
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}
    # Accelerate asks for an address that the meeting below does not need.
    os.environ |= {name: str(value) for name, value in ranks.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", "GLOO_SOCKET_IFNAME": "lo"}
    import torch
    from safetensors.torch import save_file

    # A file to meet at needs no free port. Who waits for a process that does not come ends with an error.
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meeting",
        rank=rank,
        world_size=world,
        timeout=timedelta(seconds=300),
    )
    for scenario in scenarios:
        number = list(SCENARIOS).index(scenario)
        log, tensors = run(scenario, folder / "run", processes=world)
        save_file(tensors, folder / f"{number}-{rank}.safetensors")
        (folder / f"{number}-{rank}.json").write_text(json.dumps(log), encoding="utf-8")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])
