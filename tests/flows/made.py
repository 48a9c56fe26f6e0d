"""Runs that no model made: artifacts and a record with what a test says, for what reads them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mlc.store import ArtifactStore, KeyParts
from mlc.store.runs import Journal, recorded
from tasks.runtime.artifacts import GENERATED_FILE, PROMPTS_FILE, REJECTS_FILE, TRANSLATIONS_FILE, VERDICTS_FILE
from tasks.runtime.run import Outcome
from tests.evaluation.outcomes import EN, evaluated

Answers = Mapping[tuple[str, int | None, str], tuple[str, str]]
"""By model, seed and language, the outcomes of harmful and of harmless prompts as letters."""


class Made:
    """Writes the artifacts of one run."""

    def __init__(self, store: ArtifactStore, journal: Journal) -> None:
        self.store, self.journal = store, journal

    def artifact(self, stage: str, language: str | None, subject: str | None, write: Callable[[Path], Any]) -> None:
        """One artifact, and the line of its task."""
        parts = KeyParts(stage, 1, {"run": self.journal.number, "language": language, "subject": subject})
        with self.store.writing(stage, parts) as draft:
            write(draft.path)
        self.journal.write({"task": asdict(Outcome(stage, language, subject, "ran", 1.0, "new", parts.key))})

    def table(self, stage: str, language: str | None, subject: str | None, name: str, rows: pa.Table) -> None:
        """An artifact of one table."""
        self.artifact(stage, language, subject, lambda folder: pq.write_table(rows, folder / name))

    def prompts(self, rows: Sequence[Mapping[str, Any]], language: str | None, subject: str) -> None:
        """Prompts that were read."""
        self.table("ingest", language, subject, PROMPTS_FILE, pa.Table.from_pylist(list(rows)))

    def verdicts(self, language: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """What the filter says of translations: ``id``, ``source``, ``translation`` and ``reasons``."""
        more = {"signal_length_log_ratio": 0.5, "signal_length_z": 1.5, "quality": 0.5}
        table = pa.Table.from_pylist(
            [{**more, **row, "reason": next(iter(row["reasons"]), None)} for row in rows],
            pa.schema(
                [
                    *((name, pa.string()) for name in ("id", "source", "translation", "reason")),
                    ("reasons", pa.list_(pa.string())),
                    *((name, pa.float64()) for name in more),
                ]
            ),
        )

        def write(folder: Path) -> None:
            pq.write_table(table, folder / VERDICTS_FILE)
            pq.write_table(table.filter(pa.array([bool(row["reasons"]) for row in rows])), folder / REJECTS_FILE)

        self.artifact("filter", language, None, write)

    def answers(self, answers: Answers, text: Callable[[str, str], str]) -> None:
        """What models answered, and the held-out prompts in each language.

        Args:
            answers: The outcomes.
            text: The prompt with an id in a language.
        """
        languages = list(dict.fromkeys(language for _, _, language in answers))
        for (model, seed, language), letters in answers.items():
            result = evaluated(model, language, *letters, seed=seed)
            subject = model if seed is None else f"{model} · seed {seed}"
            said = pa.table(
                {
                    "id": result.rows["id"],
                    "prompt": [text(name.as_py(), language) for name in result.rows["id"]],
                    "answer": [f"answer to {name.as_py()}" for name in result.rows["id"]],
                }
            )
            self.table("generate", language, subject, GENERATED_FILE, said)
            self.artifact("evaluate", language, subject, result.write)
            if language in languages:
                languages.remove(language)
                self._held_out(result.rows, language, text)

    def _held_out(self, rows: pa.Table, language: str, text: Callable[[str, str], str]) -> None:
        texts = [text(name.as_py(), language) for name in rows["id"]]
        if language == EN:
            told = rows.select(["id", "label", "kind", "split"]).append_column("prompt", [texts])
            self.table("ingest", language, "held-out", PROMPTS_FILE, told)
        else:
            told = pa.table({"id": rows["id"], "translation": texts})
            self.table("translate", language, "held-out", TRANSLATIONS_FILE, told)


def made_run(workspace: Path, config: Mapping[str, Any], make: Callable[[Made], None]) -> None:
    """One run in a workspace."""
    store = ArtifactStore(workspace)
    with recorded(workspace, run_id="abcd1234", name="made", config=config) as journal:
        make(Made(store, journal))
