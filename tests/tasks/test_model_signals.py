"""Stages ``signals``, ``model_signals`` and ``filter``: who is asked, and what the verdicts hold."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlc.quality.settings import QualitySettings
from mlc.store import ArtifactRef, ArtifactStore, KeyParts
from mlc.translation.settings import TranslatorSettings
from tasks import filter as filter_stage
from tasks.filter import filter_translations
from tasks.model_signals import (
    join_model_signals,
    measure_model_signals,
    measure_model_signals_shard,
    signal_shards,
)
from tasks.runtime.artifacts import (
    COVERAGE_FILE,
    FUNNEL_FILE,
    REJECTS_FILE,
    SIGNALS_FILE,
    TRANSLATIONS_FILE,
    VERDICTS_FILE,
)
from tasks.runtime.compute import release
from tasks.runtime.run import Run
from tasks.runtime.shards import Shard
from tasks.signals import measure_signals

ROWS = [
    ("a", "This topic is new to me.", "Dieses Thema ist neu für mich."),
    ("b", "I have a quick question.", "I have a quick question."),
    ("c", "I have a quick question.", ""),
]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    shown: list[dict[str, Any]] = []
    # Artifacts on a page need a server, which these tests do without.
    monkeypatch.setattr(filter_stage, "create_table_artifact", lambda **table: shown.append(table))
    release()
    run = Run(ArtifactStore(tmp_path))
    run.shown = shown  # type: ignore[attr-defined]
    yield run
    release()


def reference(done: Any) -> ArtifactRef:
    return done if isinstance(done, ArtifactRef) else done.data


def translations(run: Run) -> ArtifactRef:
    ids, sources, texts = zip(*ROWS, strict=True)
    parts = KeyParts("translate", 1, settings={"rows": "three"})
    with run.store.writing("translate", parts) as draft:
        table = pa.table(
            {
                "id": ids,
                "source": sources,
                "translation": texts,
                "source_language": ["eng_Latn"] * 3,
                "target_language": ["deu_Latn"] * 3,
            }
        )
        pq.write_table(table, draft.path / TRANSLATIONS_FILE)
    return run.store.reference("translate", parts.key)


def test_the_translator_is_asked_about_what_passed_and_the_filter_judges_it(run: Run) -> None:
    settings = QualitySettings.model_validate(
        {"model_signals": ["meaning", "reverse"], "default": {"similarity": 1.0}, "allow_low_yield": True}
    )
    signals = reference(measure_signals.fn(run, translations(run), "deu_Latn", settings))
    measured = reference(measure_model_signals.fn(run, signals, "deu_Latn", settings, TranslatorSettings(device="cpu")))
    table = pq.read_table(run.store.folder(measured) / SIGNALS_FILE)
    assert [value is not None for value in table["signal_similarity"].to_pylist()] == [True, False, False]
    verdicts = reference(filter_translations.fn(run, measured, "deu_Latn", settings))
    folder = run.store.folder(verdicts)
    assert pq.read_table(folder / VERDICTS_FILE)["reason"].to_pylist() == ["meaning", "copied", "empty"]


def test_shards_are_put_together_to_what_is_asked_at_once(run: Run) -> None:
    settings = QualitySettings.model_validate({"model_signals": ["meaning"], "allow_low_yield": True})
    signals = reference(measure_signals.fn(run, translations(run), "deu_Latn", settings))
    asking = ("deu_Latn", settings, TranslatorSettings(device="cpu"))
    # Of the second one nothing passes.
    shards = [Shard(1, 0, 1), Shard(2, 1, 3)]
    parts = [reference(measure_model_signals_shard.fn(run, signals, shard, *asking)) for shard in shards]
    joined = reference(join_model_signals.fn(run, signals, parts, *asking))
    whole = reference(measure_model_signals.fn(run, signals, *asking))
    one, other = (pq.read_table(run.store.folder(ref) / SIGNALS_FILE) for ref in (joined, whole))
    assert one.schema.names == other.schema.names
    assert one["signal_similarity"].to_pylist() == pytest.approx(other["signal_similarity"].to_pylist())
    assert run.store.manifest(joined.kind, joined.key)["facts"]["asked"] == 1
    assert signal_shards(run, signals, 8) == []


def test_what_the_filter_leaves(run: Run) -> None:
    settings = QualitySettings(min_kept_share=0.3)
    signals = reference(measure_signals.fn(run, translations(run), "deu_Latn", settings))
    folder = run.store.folder(reference(filter_translations.fn(run, signals, "deu_Latn", settings)))
    verdicts = pq.read_table(folder / VERDICTS_FILE)
    assert verdicts["keep"].to_pylist() == [True, False, False]
    assert verdicts["quality"].to_pylist()[0] > 0.5
    assert pq.read_table(folder / REJECTS_FILE)["id"].to_pylist() == ["b", "c"]
    assert [row["reason"] for row in pq.read_table(folder / FUNNEL_FILE).to_pylist()] == ["kept", "copied", "empty"]
    coverage = {row["signal"]: row["measured"] for row in pq.read_table(folder / COVERAGE_FILE).to_pylist()}
    assert (coverage["signal_empty"], coverage["signal_copied"], coverage["signal_numbers_kept"]) == (3, 2, 0)
    told = run.shown[0]["table"]  # type: ignore[attr-defined]
    assert told == [{"reason": "copied", "rows": "1", "count": 1}, {"reason": "empty", "rows": "2", "count": 1}]
    assert not any("question" in str(table) for table in run.shown)  # type: ignore[attr-defined]
