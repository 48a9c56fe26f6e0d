import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from mlc.training.term import FIGURES
from tests.covering import chosen
from tests.training.processes import SCENARIOS, run
from tests.training.runs import close

ROOT = Path(__file__).resolve().parents[2]
WORLD = 2
FEW = (
    "dpo, logged every second step",
    "kl",
    "lean, accumulated",
    "accumulated, every second step",
    "one process without translations, running mean",
    "one process without translations, bfloat16",
    "no translations in some steps",
    "pairs",
    "feedback",
)
"""Each carrier, each form, each centre and each lack is in one of these."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory, request):
    """What two processes left that ran the scenarios together over gloo."""
    scenarios = SCENARIOS if request.config.getoption("--full") else FEW
    folder = tmp_path_factory.mktemp("processes")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1"}
    started = []
    try:
        for rank in range(WORLD):
            with (folder / f"output-{rank}").open("w") as output:
                command = [
                    sys.executable,
                    "-m",
                    "tests.training.processes",
                    str(rank),
                    str(WORLD),
                    str(folder),
                    *scenarios,
                ]
                started.append(
                    subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)
                )
        codes = [process.wait(timeout=900) for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
    said = "\n".join((folder / f"output-{rank}").read_text()[-3000:] for rank in range(WORLD))
    assert codes == [0] * WORLD, said
    return folder


@pytest.mark.parametrize("scenario", chosen(SCENARIOS, *FEW))
def test_two_processes_are_one(folder, tmp_path, scenario):
    number = list(SCENARIOS).index(scenario)
    log, tensors = run(scenario, tmp_path, processes=1)
    tolerance = 0.02 if "bfloat16" in scenario else 1e-5
    theirs = json.loads((folder / f"{number}-0.json").read_text())
    assert len(theirs) == len(log) > 1
    for one, two in zip(log, theirs, strict=True):
        assert ("consistency_loss" in one) == ("consistency_loss" in two)
        for name in ("loss", "alignment_loss", "consistency_loss", "collinearity", "grad_norm"):
            assert two.get(name, 0.0) == pytest.approx(one.get(name, 0.0), rel=tolerance, abs=tolerance), name
    for rank in range(WORLD):
        close(load_file(folder / f"{number}-{rank}.safetensors"), tensors, tolerance)


@pytest.mark.parametrize("scenario", chosen(SCENARIOS, *FEW))
def test_both_processes_log_the_same(folder, scenario):
    number = list(SCENARIOS).index(scenario)
    logs = [json.loads((folder / f"{number}-{rank}.json").read_text()) for rank in range(WORLD)]
    for name in ("loss", "alignment_loss", *FIGURES):
        assert [entry.get(name) for entry in logs[0]] == [entry.get(name) for entry in logs[1]], name
