"""Stage ``filter``: which translations are good enough, and why the others are not; decided from stored signals."""

import re
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from prefect.artifacts import create_table_artifact

from mlc.languages import ENGLISH
from mlc.quality.better import better_of, wins
from mlc.quality.deciding import decide, rules_in_key
from mlc.quality.funnel import check_yield, coverage, funnel, sample_rejects
from mlc.quality.settings import QualitySettings
from mlc.store import ArtifactRef, Draft
from tasks.runtime.artifacts import (
    COVERAGE_FILE,
    FALLBACK_COLUMN,
    FUNNEL_FILE,
    REJECTS_FILE,
    SIGNALS_FILE,
    VERDICTS_FILE,
)
from tasks.runtime.run import Run
from tasks.runtime.stage import Stage, Work, produce, shows, stage_task

STAGE = Stage("filter", version=3, module=__name__, libraries=("duckdb",))


@stage_task("filter", "filter · {language}")
def filter_translations(
    run: Run,
    signals: ArtifactRef,
    language: str,
    settings: QualitySettings,
    earlier: ArtifactRef | None = None,
    number: int = 0,
    last: bool = True,
    source: str = ENGLISH,
    about: str | None = None,
) -> ArtifactRef:
    """Decides about every translation of one language; changed thresholds come here and no further back.

    Args:
        run: The run.
        signals: Artifact with ``signals.parquet``.
        language: NLLB code.
        settings: The thresholds.
        earlier: Verdicts on the translations of those who were asked before; of two translations of a prompt the one
            that is kept counts, and the earlier one where both are as good.
        number: Of the fallback whose translations are judged with ``earlier``.
        last: Whether no other translator is asked after this one, so that what is kept now has to suffice.
        source: NLLB code of the prompts' language.
        about: What was translated, if not prompts, for the display.

    Returns:
        ``verdicts.parquet`` (all rows with their signals, ``quality``, ``keep``, ``reason``, ``reasons``),
        ``rejects.parquet``, ``funnel.parquet``, and ``coverage.parquet`` (for how many rows each signal has a value).

    Raises:
        UserError: So few translations are kept that training on the language makes no sense.
    """
    # Only what decides about this language: an override for another one changes nothing here.
    own = settings.only_for(language, source)
    translator = f"fallback {number}" if number else None
    subject = " ".join(text for text in (about, translator) if text) or None
    if not last:
        own = own.model_copy(update={"allow_low_yield": True})
    facts = {
        "language": language,
        "quality": own.model_dump(mode="json", exclude={"estimator"}),
        "rules": rules_in_key(own),
    }
    parts = STAGE.parts(facts, {"signals": signals, **({"earlier": earlier} if earlier else {})})

    def write(draft: Draft) -> None:
        verdicts = decide(pq.read_table(run.store.folder(signals) / SIGNALS_FILE), own)
        yields = [_yield_of(verdicts, pc.is_valid(verdicts["id"]), "translator")]
        if earlier is not None:
            before = pq.read_table(run.store.folder(earlier) / VERDICTS_FILE)
            if FALLBACK_COLUMN not in before.column_names:
                before = before.append_column(FALLBACK_COLUMN, pa.array([0] * len(before), pa.int64()))
            asked = pc.equal(verdicts[FALLBACK_COLUMN], number)
            yields = run.store.manifest(earlier.kind, earlier.key)["facts"]["translators"]
            yields.append(
                _yield_of(verdicts, asked, str(translator))
                | {"kept": pc.sum(wins(before, verdicts, asked)).as_py() or 0}
            )
            verdicts = better_of(before, verdicts, asked)
            _tell(run, yields[-1], subject, language)
        draft.facts["translators"] = yields
        counts = funnel(verdicts)
        measured = coverage(verdicts)
        _show(verdicts, language, about)
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

    return produce(run, STAGE, parts, write, language=language, subject=subject, work=Work(signals.rows))


def _yield_of(verdicts: pa.Table, asked: pa.ChunkedArray, translator: str) -> dict[str, Any]:
    """How many prompts a translator was asked for, refused, and brought a translation of that is kept."""
    own = verdicts.filter(asked)
    refused = len(own) - own["refusal"].null_count if "refusal" in own.column_names else 0
    return {"translator": translator, "asked": len(own), "refused": refused, "kept": pc.sum(own["keep"]).as_py() or 0}


@shows
def _tell(run: Run, counts: dict[str, Any], subject: str | None, language: str) -> None:
    run.display.note(
        f"{language}: of {counts['asked']} prompts without a translation that passes, {subject} brought one of "
        f"{counts['kept']}."
    )


@shows
def _show(verdicts: pa.Table, language: str, about: str | None) -> None:
    key = "-".join(re.findall(r"[a-z0-9]+", f"{about or ''} {language}".lower()))
    create_table_artifact(
        key=f"filter-rejects-{key}",
        table=sample_rejects(verdicts),
        description=f"Some rejected translations into {language} for each reason, by row number in verdicts.parquet, "
        "counted from 0; their texts are in rejects.parquet.",
    )
