"""The examples of the README run as they stand."""

import re
from pathlib import Path

import torch

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_the_examples_run_one_after_the_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"z": torch.randn(2, 3, 8, requires_grad=True)}
    for example in EXAMPLES:
        exec(compile(example, "README.md", "exec"), names)
    assert torch.isfinite(names["loss"])
    assert names["trainer"].state.global_step == 1
    # One prompt alone is centred away, and the term would have nothing to say.
    log = names["trainer"].state.log_history
    assert all(0 < entry["consistency_loss"] < 1 for entry in log if "loss" in entry)


def test_the_examples_are_short():
    assert len(EXAMPLES) == 3
    assert all(len(example.strip().splitlines()) <= 12 for example in EXAMPLES)
