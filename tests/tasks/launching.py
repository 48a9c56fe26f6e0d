"""Trainings through the stage, in one process or in several, and what is seen of them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from datasets import Dataset

from mlc.methods import resolve_method
from mlc.store import ArtifactRef, ArtifactStore, KeyParts
from mlc.training.launch import PROGRAM
from mlc.training.settings import AlignSettings
from tasks.align import align_model
from tasks.runtime.artifacts import DATASET_FOLDER, TRAINING_LOG_FILE
from tasks.runtime.models import Model
from tasks.runtime.run import Run, Silent
from tasks.runtime.settings import PolicySettings
from tests.training.runs import LANGUAGES, make_rows

TWO = {"processes": 2}
FSDP = {
    "config": {
        "distributed_type": "FSDP",
        "num_processes": 2,
        "fsdp_config": {
            "fsdp_version": 2,
            "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
            "fsdp_reshard_after_forward": True,
            "fsdp_state_dict_type": "SHARDED_STATE_DICT",
        },
    }
}


class Watching(Silent):
    """A display that remembers steps and sentences.

    Args:
        on_step: Called with the number of steps so far.
    """

    def __init__(self, on_step: Callable[[int], None] = lambda step: None) -> None:
        self.steps = 0
        self.sentences: list[str] = []
        self._on_step = on_step

    def bar(self, label: str, total: int) -> Callable[..., None]:
        """Counts."""

        def moved(steps: int, tokens: int = 0, loss: float | None = None) -> None:
            self.steps += steps
            self._on_step(self.steps)

        return moved

    def note(self, sentence: str) -> None:
        """Keeps it."""
        self.sentences.append(sentence)


def make_run(workspace: Path, display: Any = None) -> Run:
    """A run in a workspace."""
    return Run(ArtifactStore(workspace), display or Silent())


def make_examples(run: Run, translated: int) -> ArtifactRef:
    """Eight prompts in English, the first of them in two languages too, as the stage ``dataset`` leaves them."""
    parts = KeyParts("dataset", 1, settings={"dataset": {"translated": translated}}, inputs={"prompts": "p" * 64})
    if run.store.find("dataset", parts.key) is None:
        rows = [row | {"mask": [True] * 3, "languages": list(LANGUAGES)} for row in make_rows()]
        for row in rows[translated:]:
            row["variants"][1:] = [None, None]
        with run.store.writing("dataset", parts) as draft:
            Dataset.from_list(rows).save_to_disk(draft.path / DATASET_FOLDER)
    return run.store.reference("dataset", parts.key)


def trained(run: Run, method: str = "consistency", translated: int = 8, **settings: Any) -> Path:
    """The artifact of a training, on eight prompts of which so many have translations."""
    return Path(run.store.folder(train(run, method, translated, **settings).data))


def train(run: Run, method: str = "consistency", translated: int = 8, **settings: Any) -> Any:
    """The state that the stage ends in."""
    given = {"steps": 4, "batch_size": 4, "learning_rate": 1e-3, "saved_dtype": "float32", **settings}
    alignment = resolve_method(method).alignment(AlignSettings.model_validate(given))
    model = Model(method, 0, PolicySettings(model="shipped:tiny"), "cpu")
    return align_model.fn(run, model, make_examples(run, translated), alignment)


def log_of(artifact: Path) -> list[dict[str, float]]:
    """The training log of an artifact."""
    return [json.loads(line) for line in (artifact / TRAINING_LOG_FILE).read_text().splitlines()]


def launched(stage: int | None = None) -> list[psutil.Process]:
    """What a process (this one) has started for a training, the launcher first."""
    return [child for child in psutil.Process(stage).children(recursive=True) if PROGRAM in " ".join(child.cmdline())]
