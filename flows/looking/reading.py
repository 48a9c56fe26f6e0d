"""Finding and reading the artifacts of one run."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from mlc.errors import UserError
from mlc.shapes.history import TURNS
from mlc.store import ArtifactStore
from mlc.store.runs import RunRecord
from tasks.runtime.artifacts import PROMPTS_FILE, held_out_texts
from tasks.runtime.shards import is_shard

if TYPE_CHECKING:
    from mlc.evaluation.results import EvaluationResult

SUITE = "suite "
"""What the subjects of prompts of a suite begin with, see :class:`tasks.runtime.artifacts.Suite`."""
HELD_OUT = "held-out"
"""What the subjects of held-out prompts begin with."""


def method_of(label: str) -> str:
    """The method of a model, of which a label such as ``consistency · seed 0`` begins with the name."""
    return label.partition(" · ")[0]


def suite_of(label: str) -> tuple[str | None, str]:
    """The suite of a subject such as ``suite polyrefuse · base``, and the model; held-out prompts have no suite."""
    lead, between, model = label.partition(" · ")
    name = lead.removeprefix(SUITE)
    return (name, model) if between and name != lead else (None, label)


def models_in_order(labels: Iterable[str], candidate: str) -> list[str]:
    """Subjects as people look for them: on held-out prompts first, then by suite; each time the candidate first."""

    def place(label: str) -> tuple[str, bool, str]:
        suite, model = suite_of(label)
        return suite or "", method_of(model) != candidate, model

    return sorted(set(labels), key=place)


def natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts names by the numbers in them, so that p10 stands behind p9."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name) if part]


def candidate_of(record: RunRecord) -> str:
    """The method that a run judges; empty where its record does not say."""
    # Earlier releases named one method.
    return str(record.config.get("candidate") or record.config.get("method") or "")


@dataclass(frozen=True)
class RunReader:
    """Finds and reads the artifacts of a run."""

    store: ArtifactStore
    record: RunRecord
    texts: bool = False
    """Whether texts are wanted, too."""

    def tasks(self, stage: str) -> list[dict[str, Any]]:
        """The tasks of a stage that ended well.

        Raises:
            UserError: There are none.
        """
        found = [task for task in self.record.tasks if task["stage"] == stage]
        if not found:
            raise UserError(
                f"Run {self.record.number} ended nothing in the stage {stage!r}: choose another run, or run again."
            )
        return found

    def task(self, stage: str, language: str | None, subject: str | None) -> dict[str, Any]:
        """One of them."""
        for task in self.tasks(stage):
            if (task["language"], task["subject"]) == (language, subject):
                return task
        where = " · ".join(word for word in (stage, subject, language) if word)
        raise UserError(f"Run {self.record.number} did not end {where}: choose another run, or run again.")

    def folder(self, task: Mapping[str, Any]) -> Path:
        """Where the artifact of a task lies.

        Raises:
            UserError: It is no longer there, or damaged.
        """
        ref = self.store.intact(task["stage"], task["key"])
        if ref is None:
            where = " · ".join(word for word in (task["stage"], task["subject"], task["language"]) if word)
            raise UserError(
                f"The artifact {where} of run {self.record.number} is no longer whole in the workspace: run again, or "
                "choose a later run."
            )
        return self.store.folder(ref)

    def prompts(self, subject: str, language: str | None) -> pa.Table:
        """Prompts that were read from files."""
        return pq.read_table(self.folder(self.task("ingest", language, subject)) / PROMPTS_FILE)

    def evaluations(self, method: str) -> "list[EvaluationResult]":
        """What one method did, in every seed and language.

        Raises:
            UserError: It was not evaluated, or an artifact is no longer there.
        """
        from mlc.evaluation.results import read_evaluations

        found = [task for task in self.tasks("evaluate") if method_of(str(task["subject"])) == method]
        if not found:
            raise UserError(f"Run {self.record.number} did not evaluate {method!r}: choose another run, or run again.")
        return read_evaluations(map(self.folder, found))

    def held_out(self, language: str) -> dict[str, tuple[str, str | None]]:
        """The held-out prompts in a language by id, with what was said before them; texts, for comparing only.

        Raises:
            UserError: They are not there.
        """
        stages = ("ingest", "translate")
        # The last of the translations has what fallbacks brought.
        found = [
            task
            for task in self.record.tasks
            if task["stage"] in stages
            and task["language"] == language
            and str(task["subject"]).startswith(HELD_OUT)
            and not is_shard(task["subject"])
        ]
        if not found:
            raise UserError(f"Run {self.record.number} has no held-out prompts in {language}: choose another run.")
        return held_out_texts(self.folder(found[-1]), TURNS)
