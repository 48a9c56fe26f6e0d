"""Names of the files in artifacts, and the reading of what other stages made."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlc.left_out import LeftOut, read_left_out, told
from mlc.store import ArtifactRef, ArtifactStore, Draft
from mlc.store.manifests import MANIFEST
from mlc.store.plain import rounded

if TYPE_CHECKING:
    import pyarrow as pa

    from tasks.runtime.run import Run

PROMPTS_FILE = "prompts.parquet"
SET_ASIDE_FILE = "rejected.parquet"
TRANSLATIONS_FILE = "translations.parquet"
SIGNALS_FILE = "signals.parquet"
VERDICTS_FILE = "verdicts.parquet"
REJECTS_FILE = "rejects.parquet"
FUNNEL_FILE = "funnel.parquet"
COVERAGE_FILE = "coverage.parquet"
FALLBACK_COLUMN = "fallback"
"""In translations and verdicts, once a fallback was asked: 0 for the first translator's, else the fallback's number."""
TOKENS_FACT = "tokens"
"""In the manifest of a training: tokens that were read, English ones and translations; None where nobody counted."""
SPEED_FACT = "tokens_per_second"
"""In the manifest of a training: pairs of a step and the tokens a second since the pair before. The training log
holds nothing of the clock, so that the same training writes the same file."""
DATASET_FOLDER = "dataset"
CHECKPOINT_FOLDER = "checkpoint"
PROMPT_GATE_FILE = "prompt_gate.json"
"""In a checkpoint: the gate that stands before the model, see :data:`mlc.gating.gate.GATE_FILE`."""
TRANSLATOR_FOLDER = "translator"
"""In a checkpoint: what translates for that gate, see :data:`mlc.gating.prompt_translation.TRANSLATOR_FOLDER`."""
DELTA_FOLDER = "delta"
SEARCH_FILE = "search.json"
DIRECTION_FILE = "direction.json"
OVERLAPS_FILE = "overlaps.json"
TRAINING_LOG_FILE = "training_log.jsonl"
MARGINS_FILE = "margins.parquet"
GENERATED_FILE = "generated.parquet"
STATES_FILE = "states.npy"
HEADLINE_FILE = "headline.json"
METRICS_FILE = "metrics.json"
COSTS_FILE = "costs.json"
MODEL_CARD_FILE = "model_card.md"
"""Of the report, see :data:`mlc.report.card.CARD_FILE`."""
REPORT_FILE = "report.html"
VERSION_FILE = "version.json"
DECISION_FILE = "decision.json"
SKILLS_FILE = "skills.json"
LEFT_OUT_FILE = "left_out.json"


@dataclass(frozen=True)
class Suite:
    """What models are asked: a suite, or the held-out prompts of the configuration, which have no name."""

    name: str = ""

    @property
    def lead(self) -> str:
        """What stands before the label of a model, so that its subject is none of the held-out prompts'."""
        return f"suite {self.name} · " if self.name else ""


HELD_OUT = Suite()


@dataclass(frozen=True)
class HeldOut:
    """The held-out prompts of one language. While the flow hands them on, they may be futures."""

    suite: ArtifactRef
    """In English, with labels."""
    texts: ArtifactRef
    """The same prompts in the language: human references, or machine translations."""


@dataclass(frozen=True)
class Translated:
    """The training prompts of one language. While the flow hands them on, they may be futures."""

    prompts: ArtifactRef
    """In English, with labels."""
    verdicts: ArtifactRef
    """Their translations into the language, with the filter's verdicts."""


def read_headline(store: ArtifactStore, report: ArtifactRef) -> dict[str, Any]:
    """The figures that a run prints at its end, by model and by comparison."""
    return _read_json(store, report, HEADLINE_FILE)


def read_set_aside(store: ArtifactStore, report: ArtifactRef) -> dict[str, str]:
    """Why each method that the run went on without was set aside."""
    return {told["method"]: told["reason"] for told in _read_json(store, report, METRICS_FILE).get("set_aside", [])}


def read_decision(store: ArtifactStore, decision: ArtifactRef) -> dict[str, Any]:
    """The gate's decision: passed, reasons, and the version it is about."""
    return _read_json(store, decision, DECISION_FILE)


def facts_of(store: ArtifactStore, ref: ArtifactRef) -> dict[str, Any]:
    """What a stage wrote down of an artifact; of one that a plan made aside, too."""
    path = store.folder(ref) / MANIFEST
    manifest = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else store.manifest(ref.kind, ref.key)
    facts: dict[str, Any] = manifest["facts"]
    return facts


def note_left_out(run: "Run", draft: Draft, counts: Sequence[LeftOut], of: str) -> None:
    """Writes down what a stage goes without, and tells it where people watch the run.

    Args:
        run: The run.
        draft: What the stage makes.
        counts: What is left out; nothing is told of counts of none.
        of: What the counts are about, for the display.
    """
    draft.facts["left_out"] = told(counts)
    for count in counts:
        if count.rows:
            run.display.note(f"{of}: {count.sentence}.")


def left_out_of(store: ArtifactStore, ref: ArtifactRef) -> list[LeftOut]:
    """What was left out when an artifact was made."""
    return read_left_out(facts_of(store, ref))


def left_out_in_words(store: ArtifactStore, report: ArtifactRef) -> list[str]:
    """Sentences, without their full stops, on all that a run went without."""
    counts: list[dict[str, Any]] = json.loads((store.folder(report) / LEFT_OUT_FILE).read_text(encoding="utf-8"))
    return [f"{count.pop('where')}: {LeftOut(**count).sentence}" for count in counts]


def report_page(store: ArtifactStore, report: ArtifactRef) -> Path:
    """Where the page lies."""
    return store.folder(report) / REPORT_FILE


def read_rows(file: Path) -> "pa.Table":
    """Reads a Parquet file without pyarrow's data sets, which bring pandas: a plan must be quick."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(file) as table:
        return table.read()


def held_out_texts(folder: Path, before: str) -> dict[str, tuple[str, str | None]]:
    """The held-out prompts in one language by id, in their order: human references, or machine translations.

    Args:
        folder: Of an artifact of the stage ``ingest`` or ``translate``.
        before: Column of what was said before, :data:`mlc.shapes.history.TURNS`; it may be missing.

    Returns:
        The text of each, and what was said before it; None if nothing was.
    """
    import pyarrow.parquet as pq

    human = (folder / PROMPTS_FILE).is_file()
    file, column = (PROMPTS_FILE, "prompt") if human else (TRANSLATIONS_FILE, "translation")
    rows = pq.read_table(folder / file)
    turns = rows[before].to_pylist() if before in rows.column_names else [None] * len(rows)
    return dict(zip(rows["id"].to_pylist(), zip(rows[column].to_pylist(), turns, strict=True), strict=True))


def _read_json(store: ArtifactStore, ref: ArtifactRef, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((store.folder(ref) / name).read_text(encoding="utf-8"))
    return content


def plain(figure: Mapping[str, Any]) -> str:
    """A figure of the headline for a tag or a cell, such as ``0.50 [0.25, 0.75]``; empty where there is none.

    Args:
        figure: With ``value``, ``low`` and ``high``, each a number or None.
    """
    value, low, high = figure["value"], figure["low"], figure["high"]
    if value is None:
        return ""
    ends = "" if low is None or high is None else f" [{rounded(low, 2)}, {rounded(high, 2)}]"
    return f"{rounded(value, 2)}{ends}"
