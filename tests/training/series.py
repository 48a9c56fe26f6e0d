"""The loss series of each carrier with the term, committed so that a change of numbers shows.

To renew them after a change that is meant to change them: ``python -m tests.training.series``.
"""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

SERIES_FILE = Path(__file__).with_name("loss_series.json")
FIGURES = (
    "loss",
    "alignment_loss",
    "consistency_loss",
    "collinearity",
    "centred_collinearity",
    "between_prompt_cosine",
    "grad_norm",
)
TERM = {"weight": 0.7}
# Without clipping, so that gradients can be compared. Most of the time of encoder-decoder steps is the optimiser's.
STEPS: dict[str, Any] = {"max_steps": 5, "max_grad_norm": 1e9}


def main() -> None:
    """Writes the file anew."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from tests.training.runs import CARRIERS, term, train

    series = {}
    for carrier in CARRIERS:
        with tempfile.TemporaryDirectory() as folder:
            run = train(carrier, folder, term(**TERM), **STEPS)
        series[carrier] = {name: [float(f"{value:.6g}") for value in run.series(name)] for name in FIGURES}
    SERIES_FILE.write_text(json.dumps(series, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
