"""Stage ``filter``: which translations are good enough, and why the others are not; decided from stored signals."""

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from prefect.artifacts import create_table_artifact

from mlc.languages import ENGLISH
from mlc.quality.deciding import decide, rules_in_key
from mlc.quality.funnel import check_yield, coverage, funnel, sample_rejects
from mlc.quality.settings import QualitySettings
from mlc.store import ArtifactRef, Draft
from tasks.runtime.artifacts import COVERAGE_FILE, FUNNEL_FILE, REJECTS_FILE, SIGNALS_FILE, VERDICTS_FILE
from tasks.runtime.run import Run
from tasks.runtime.stage import Stage, Work, produce, shows, stage_task

STAGE = Stage("filter", version=3, module=__name__, libraries=("duckdb",))


@stage_task("filter", "filter · {language}")
def filter_translations(
    run: Run, signals: ArtifactRef, language: str, settings: QualitySettings, source: str = ENGLISH
) -> ArtifactRef:
    """Decides about every translation of one language; changed thresholds come here and no further back.

    Returns:
        ``verdicts.parquet`` (all rows with their signals, ``quality``, ``keep``, ``reason``, ``reasons``),
        ``rejects.parquet``, ``funnel.parquet``, and ``coverage.parquet`` (for how many rows each signal has a value).

    Raises:
        UserError: So few translations are kept that training on the language makes no sense.
    """
    # Only what decides about this language: an override for another one changes nothing here.
    own = settings.only_for(language, source)
    facts = {"language": language, "quality": own.model_dump(mode="json"), "rules": rules_in_key(own)}
    parts = STAGE.parts(facts, {"signals": signals})

    def write(draft: Draft) -> None:
        verdicts = decide(pq.read_table(run.store.folder(signals) / SIGNALS_FILE), own)
        counts = funnel(verdicts)
        measured = coverage(verdicts)
        _show(counts, verdicts, language)
        check_yield(counts, own)
        pq.write_table(verdicts, draft.path / VERDICTS_FILE)
        pq.write_table(verdicts.filter(pc.invert(verdicts["keep"])), draft.path / REJECTS_FILE)
        pq.write_table(counts, draft.path / FUNNEL_FILE)
        pq.write_table(measured, draft.path / COVERAGE_FILE)
        draft.rows = len(verdicts)
        draft.facts["kept"] = int(pc.sum(verdicts["keep"].cast(pa.int64())).as_py() or 0)
        draft.facts["language_not_identified"] = sum(
            row["not_applicable"] for row in measured.to_pylist() if row["signal"] == "signal_language_expected"
        )

    return produce(run, STAGE, parts, write, language=language, work=Work(signals.rows))


@shows
def _show(counts: pa.Table, verdicts: pa.Table, language: str) -> None:
    key = language.lower().replace("_", "-")
    create_table_artifact(
        key=f"filter-{key}",
        table=counts.to_pylist(),
        description=f"Translations into {language}: kept, and rejected by reason.",
    )
    create_table_artifact(
        key=f"filter-rejects-{key}",
        table=sample_rejects(verdicts),
        description=f"Some rejected translations into {language} for each reason, by row number in verdicts.parquet, "
        "counted from 0; their texts are in rejects.parquet.",
    )
