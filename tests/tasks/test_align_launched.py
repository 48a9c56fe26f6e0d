"""Several processes for one training, through the stage: the same series, and what becomes of kills and stops."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from safetensors.torch import load_file

from mlc.errors import UserError
from mlc.training.launch import write_config
from mlc.training.settings import AlignSettings
from tests.tasks.launching import FSDP, TWO, Watching, launched, log_of, make_run, train, trained
from tests.training.runs import close

ROOT = Path(__file__).parents[2]
FIGURES = ("loss", "alignment_loss", "consistency_loss", "decision_loss", "answer_loss", "grad_norm", "num_tokens")
TOLERANCE = 1e-5
"""Relative, of every figure of the log: sums in another order, in float32."""
COMPARING = {"learning_rate": 1e-4, "batch_size": 2, "accumulation": 2}
"""Adam makes a step of full length out of a rounding error where a gradient is nearly 0; ORPO averages over a batch."""


def require_same(one: Path, several: Path, tolerance: float = TOLERANCE) -> None:
    """Asserts that two trainings were the same but for rounding."""
    log, other = log_of(one), log_of(several)
    assert len(log) == len(other)
    for entry, theirs in zip(log, other, strict=True):
        assert entry.keys() >= theirs.keys() - {"step"}
        for name in FIGURES:
            assert (name in entry) == (name in theirs)
            assert theirs.get(name, 0.0) == pytest.approx(entry.get(name, 0.0), rel=tolerance, abs=tolerance), name
    assert sorted(path.name for path in one.rglob("*")) == sorted(path.name for path in several.rglob("*"))
    weights = next(one.glob("checkpoint/*.safetensors"))
    close(load_file(weights), load_file(several / "checkpoint" / weights.name), 1e-4)


def test_two_processes_are_one(tmp_path: Path) -> None:
    display = Watching()
    run = make_run(tmp_path, display)
    settings = {"consistency": {"prompts_per_step": 3}, "batch_size": 2, "accumulation": 4, "max_answer_tokens": 4}
    one = trained(run, **settings)
    told, display.sentences, display.steps = display.sentences, [], 0
    two = trained(run, **settings, launch=TWO)
    assert one != two
    require_same(one, two)
    assert display.steps == 4
    # What training goes without is told, and noted, as by one process.
    assert display.sentences == told
    assert any("are cut" in sentence for sentence in told)
    assert launched() == []


CASES: dict[str, dict[str, Any]] = {
    **{carrier: {"carrier": carrier} for carrier in ("sft", "dpo", "simpo", "orpo")},
    "kl": {"carrier": "kl", "teacher": "shipped:tiny"},
    "an adapter": {"adapter": "lora"},
    "an adapter, dpo": {"adapter": "lora", "carrier": "dpo"},
    "checkpointed activations": {"gradient_checkpointing": True},
    "two terms": {"method": "consistency+decision"},
    "answers": {"method": "answer"},
    # Every step has a process without prompts for the term.
    "one prompt with translations": {"translated": 1, "consistency": {"center": "none"}},
    "one prompt with translations, two terms": {
        **{"method": "consistency+decision", "translated": 1},
        "consistency": {"center": "none"},
    },
}
EXTRACTOR = {"consistency": {"form": "released", "dim": 8, "layer": 2}}


@pytest.mark.full
@pytest.mark.parametrize("launch", [TWO, FSDP], ids=["ddp", "fsdp"])
@pytest.mark.parametrize("case", CASES)
def test_every_training_is_the_same_in_two_processes(tmp_path: Path, case: str, launch: dict[str, Any]) -> None:
    run, settings = make_run(tmp_path), COMPARING | CASES[case]
    require_same(trained(run, **settings), trained(run, **settings, launch=launch))


@pytest.mark.full
def test_an_extractor_is_the_same_in_two_processes(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    require_same(trained(run, **COMPARING, **EXTRACTOR), trained(run, **COMPARING, **EXTRACTOR, launch=TWO))


@pytest.mark.full
@pytest.mark.parametrize("launch", [TWO, FSDP], ids=["ddp", "fsdp"])
def test_killed_in_the_midst_it_fails_plainly_and_goes_on(tmp_path: Path, launch: dict[str, Any]) -> None:
    steps = 12
    settings = {"steps": steps, "checkpoint_minutes": 0, "launch": launch}
    undisturbed = trained(make_run(tmp_path / "undisturbed"), **settings)

    def kill(step: int) -> None:
        if step == 3:
            os.kill(launched()[-1].pid, signal.SIGKILL)

    with pytest.raises(UserError, match=r"was ended by SIGKILL.* run again, and training goes on") as told:
        trained(make_run(tmp_path / "killed", Watching(kill)), **settings)
    assert "\n" not in str(told.value)
    assert launched() == []
    again = Watching()
    resumed = trained(make_run(tmp_path / "killed", again), **settings)
    # Steps of the checkpoint are told at once, and done only once.
    assert again.steps == steps
    require_same(undisturbed, resumed, 0.0)
    assert any(path.name == "checkpoint" for path in resumed.iterdir())


@pytest.mark.full
def test_stopped_it_leaves_a_checkpoint_and_no_process(tmp_path: Path) -> None:
    settings = {"steps": 30, "launch": TWO}

    def stop(step: int) -> None:
        if step == 2:
            run.stop()

    watching = Watching(stop)
    run = make_run(tmp_path, watching)
    assert train(run, **settings).is_cancelled()
    assert 2 <= watching.steps < 30
    assert launched() == []
    (marker,) = tmp_path.rglob("whole.json")
    assert marker.parent.name == f"checkpoint-{watching.steps}"


@pytest.mark.full
def test_processes_end_with_a_killed_stage(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib\n"
        "from tests.tasks.launching import TWO, Watching, make_run, trained\n"
        "watching = Watching(lambda step: print(step, flush=True))\n"
        "trained(make_run(pathlib.Path(sys.argv[1]), watching), steps=500, launch=TWO)\n"
    )
    stage = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert stage.stdout is not None
    try:
        while stage.stdout.readline().strip() != "2":
            assert stage.poll() is None
        children = psutil.Process(stage.pid).children(recursive=True)
        assert len(launched(stage.pid)) == 3
    finally:
        stage.kill()
        stage.wait()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert alive == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"launch": {"processes": 3}}, "A step has 8 × 1 prompts, which 3 processes cannot share equally"),
        ({"launch": {}}, "set either processes or config"),
        ({"launch": {"processes": 2, "config": FSDP["config"]}}, "set either processes or config"),
        ({"launch": {"config": {"num_processes": 0}}}, "num_processes must be a whole number of at least 1"),
        ({"launch": {"config": {"num_processes": 2, "num_machines": 2}}}, "num_machines must be 1"),
        ({"launch": {"config": {"num_processes": 2, "distributed_type": "XLA"}}}, "distributed_type must be one of"),
        ({"launch": {"config": {"num_processes": 2, "distributed_type": "FSDP"}}}, "set fsdp_version to 2"),
        ({"launch": {"config": {"num_processes": 2, "distributed_type": "DEEPSPEED"}}}, "needs the package deepspeed"),
        ({"launch": {"config": "nowhere.yaml"}}, "The configuration of accelerate 'nowhere.yaml' cannot be read"),
        ({"launch": FSDP, **EXTRACTOR}, "set align.consistency.dim to null"),
        ({"launch": FSDP, "answer": {"weight": 1, "source": "own"}}, "set align.answer.source to chosen"),
    ],
)
def test_what_cannot_be_launched_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises((UserError, ValueError), match=said):
        AlignSettings.model_validate(changes)


@pytest.mark.parametrize(
    ("batch_size", "accumulation", "processes", "share"),
    [(8, 1, 2, (4, 1)), (8, 8, 4, (8, 2)), (2, 6, 4, (1, 3)), (6, 2, 4, (3, 1)), (3, 4, 1, (3, 4))],
)
def test_processes_share_a_step(batch_size: int, accumulation: int, processes: int, share: tuple[int, int]) -> None:
    settings = AlignSettings(batch_size=batch_size, accumulation=accumulation)
    assert settings.share_of_a_step(processes) == share
    assert share[0] * share[1] * processes == batch_size * accumulation


def test_a_file_is_what_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "accelerate.yaml"
    path.write_text("distributed_type: MULTI_GPU\nnum_processes: 2\ngpu_ids: '0,1'\nmain_process_port: 1\n")
    settings = AlignSettings.model_validate({"launch": {"config": str(path)}})
    path.unlink()
    again = AlignSettings.model_validate(settings.model_dump(mode="json"))
    assert again == settings
    assert again.launch is not None
    # Where it is computed is in no key.
    assert again.launch.facts == AlignSettings.model_validate({"launch": TWO}).launch.facts  # type: ignore[union-attr]


def test_the_files_that_the_documentation_shows_are_taken(tmp_path: Path) -> None:
    section = (ROOT / "docs" / "align.md").read_text(encoding="utf-8").partition("## Several processes")[2]
    files = re.findall(r"```yaml\n(.*?)```", section.partition("\n## ")[0], re.DOTALL)
    taken = {}
    for number, text in enumerate(files):
        path = tmp_path / f"{number}.yaml"
        path.write_text(text)
        if "DEEPSPEED" in text and importlib.util.find_spec("deepspeed") is None:
            continue
        settings = AlignSettings.model_validate({"launch": {"config": str(path)}, "batch_size": 8})
        assert settings.launch is not None
        write_config(tmp_path / "accelerate.json", settings.launch, "no")
        taken[settings.launch.engine] = json.loads((tmp_path / "accelerate.json").read_text())
    assert len(files) == 3
    assert taken.keys() >= {"DDP", "FSDP"}
    # No port of the person's, which another run may hold.
    assert {config["main_process_port"] for config in taken.values()} == {0}


def test_a_file_that_accelerate_does_not_know_is_refused(tmp_path: Path) -> None:
    settings = AlignSettings.model_validate({"launch": {"config": {"num_processes": 2, "colour": "red"}}})
    assert settings.launch is not None
    with pytest.raises(UserError, match=r"is not one of accelerate: .*colour"):
        write_config(tmp_path / "accelerate.json", settings.launch, "no")
