"""Resumed = uninterrupted, bit for bit on a CPU in float32; whatever a kill left of the last checkpoint."""

import shutil
from types import SimpleNamespace

import pytest

from mlc.stopping import Stopped, never
from mlc.training.align import align
from mlc.training.checkpoints import MARKER, Checkpoints
from mlc.training.settings import AlignSettings
from tests.training.runs import LANGUAGES, same

STEPS = 6


class Killed(Exception):
    """Stands for a kill: nothing after it runs."""


def settings(carrier="sft", **consistency):
    return AlignSettings(
        carrier=carrier,
        teacher="shipped:tiny" if carrier == "kl" else None,
        steps=STEPS,
        batch_size=3,
        learning_rate=1e-3,
        checkpoint_minutes=0,
        consistency=consistency or {"weight": 0.5},
    )


@pytest.fixture
def train(load_tiny, rows, tmp_path):
    rows = [row | {"languages": LANGUAGES} for row in rows]

    def train(alignment, name, stop_after=None, should_stop=never):
        policy, folder = load_tiny(), tmp_path / "scratch"
        folder.mkdir(exist_ok=True)

        def on_step(step, figures):
            if step == stop_after:
                raise Killed

        teacher = load_tiny() if alignment.carrier == "kl" else None
        log = align(
            policy,
            rows,
            alignment,
            seed=0,
            folder=folder,
            teacher=teacher,
            on_step=on_step if stop_after else None,
            checkpoints=tmp_path / name if name else None,
            should_stop=should_stop,
        )
        return log, policy.model.state_dict()

    return train


def figures(log):
    return [{name: value for name, value in entry.items() if "time" not in name} for entry in log]


VARIANTS = {
    "dpo": settings("dpo"),
    "an extractor, running means, a warm-up": settings(
        "sft", weight=0.5, form="released", center="running", warmup_steps=4, every=2
    ),
    "a control": settings("sft", weight=0.5, control="shuffled", prompts_per_step=2),
}


@pytest.mark.parametrize("alignment", VARIANTS.values(), ids=VARIANTS)
def test_resumed_is_uninterrupted(train, tmp_path, alignment):
    log, weights = train(alignment, None)
    with pytest.raises(Killed):
        train(alignment, "partial", stop_after=4)
    assert [path.name for path in (tmp_path / "partial").glob("checkpoint-*")] == ["checkpoint-3"]
    resumed_log, resumed = train(alignment, "partial")
    assert same(resumed, weights)
    assert figures(resumed_log) == figures(log)


def test_checkpoints_change_nothing(train):
    assert same(train(settings(), "partial")[1], train(settings(), None)[1])


def cut(path):
    path.write_bytes(path.read_bytes()[:-5])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "killed before it was whole": lambda folder: (folder / MARKER).unlink(),
    "weights cut off": lambda folder: cut(folder / "model.safetensors"),
    "a bit of the optimiser": lambda folder: flip(folder / "optimizer.pt"),
    "a file gone": lambda folder: (folder / "rng_state.pth").unlink(),
    "marker cut off": lambda folder: cut(folder / MARKER),
    "marker of another kind": lambda folder: (folder / MARKER).write_text("[]"),
}


def saved(folder, step):
    """A checkpoint as the callback leaves it, of files that are quick to write."""
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    for name in ("model.safetensors", "optimizer.pt", "rng_state.pth"):
        (path / name).write_bytes(f"{name} {step}".encode() * 10)
    saver = Checkpoints(folder, [{"step": number} for number in range(1, step + 1)], 0)
    saver.on_save(None, SimpleNamespace(global_step=step), None)
    return path


def test_the_newest_whole_one_stays_alone(tmp_path):
    saved(tmp_path, 9)
    newest = saved(tmp_path, 10)
    assert list(tmp_path.glob("checkpoint-*")) == [newest]
    log = []
    assert Checkpoints(tmp_path, log, 0).resume_from() == str(newest)
    assert [entry["step"] for entry in log] == list(range(1, 11))


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_checkpoint_is_not_trusted(tmp_path, damage):
    older = tmp_path / "older"
    shutil.copytree(saved(tmp_path / "partial", 2), older)
    newest = saved(tmp_path / "partial", 10)
    damage(newest)
    log = []
    assert Checkpoints(tmp_path / "partial", log, 0).resume_from() is None
    assert (log, newest.exists()) == ([], False)
    # A kill between the marker of a checkpoint and the removal of the one before leaves both.
    newest = saved(tmp_path / "partial", 10)
    damage(newest)
    shutil.copytree(older, tmp_path / "partial" / "checkpoint-2")
    assert Checkpoints(tmp_path / "partial", log, 0).resume_from() == str(tmp_path / "partial" / "checkpoint-2")
    assert [entry["step"] for entry in log] == [1, 2]


def test_training_starts_anew_where_its_checkpoint_is_damaged(train, tmp_path):
    _, weights = train(settings(), None)
    with pytest.raises(Killed):
        train(settings(), "partial", stop_after=3)
    cut(tmp_path / "partial" / "checkpoint-2" / "model.safetensors")
    log, resumed = train(settings(), "partial")
    assert same(resumed, weights)
    assert [entry["step"] for entry in log] == list(range(1, STEPS + 1))


def test_no_checkpoint_before_its_time(train, tmp_path):
    seldom = settings().model_copy(update={"checkpoint_minutes": 60.0})
    train(seldom, "partial")
    assert list((tmp_path / "partial").glob("checkpoint-*")) == []


def after(steps):
    """Asks to stop when it is looked at for the given time."""
    looked = iter(range(1, steps))
    return lambda: next(looked, None) is None


def test_a_training_that_is_asked_to_stop_writes_a_checkpoint_and_goes_on_from_it(train, tmp_path):
    # Long before it would have been time for one.
    alignment = settings().model_copy(update={"checkpoint_minutes": 10})
    _, weights = train(alignment, None)
    with pytest.raises(Stopped):
        train(alignment, "partial", should_stop=after(2))
    assert [path.name for path in (tmp_path / "partial").glob("checkpoint-*")] == ["checkpoint-2"]
    _, resumed = train(alignment, "partial")
    assert same(resumed, weights)


def test_a_training_without_a_place_for_checkpoints_stops_too(train, tmp_path):
    with pytest.raises(Stopped):
        train(settings(), None, should_stop=after(1))
    assert not list((tmp_path / "scratch").glob("checkpoint-*"))


def test_a_training_that_has_done_its_last_step_is_done(train):
    _, weights = train(settings(), None)
    _, asked = train(settings(), None, should_stop=after(STEPS))
    assert same(asked, weights)
