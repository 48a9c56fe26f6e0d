"""Stage ``signals``: what can be measured of every translation of one language, before anything is decided."""

from dataclasses import asdict

import pyarrow as pa
import pyarrow.parquet as pq

from mlc.languages import resolve_language
from mlc.quality.measuring.tables import compute_signals
from mlc.quality.settings import QualitySettings
from mlc.quality.signals import Scope, modules_of, text_signals
from mlc.shapes.history import SOURCE_TURNS, TURNS, whole_texts
from mlc.store import ArtifactRef, Draft
from tasks.runtime.artifacts import SIGNALS_FILE, TRANSLATIONS_FILE
from tasks.runtime.run import Run
from tasks.runtime.stage import Stage, Work, produce, stage_task

STAGE = Stage("signals", version=1, module=__name__, libraries=("duckdb", "py3langid", "numpy", "scipy", "rapidfuzz"))


SIDES = {"source": SOURCE_TURNS, "translation": TURNS}
"""Columns of texts, and where the turns before them are."""


@stage_task("signals", "signals · {language}")
def measure_signals(
    run: Run, translations: ArtifactRef, language: str, settings: QualitySettings, subject: str | None = None
) -> ArtifactRef:
    """Measures every translation of one language, as far as the text tells. No threshold has a part in it.

    A prompt is measured together with what was said before it.

    Args:
        run: The run.
        translations: Artifact with ``translations.parquet``.
        language: NLLB code.
        settings: What is measured.
        subject: Whose translations they are, where a fallback was asked, and of what, if not of prompts.

    Returns:
        ``signals.parquet``: the rows of the translations with one column a signal.
    """
    facts = {"quality": settings.model_dump(mode="json", include={"length_batch_rows", "more_signals"})}
    parts = STAGE.parts(
        {"language": asdict(resolve_language(language)), **facts},
        {"translations": translations},
        modules=modules_of([Scope.ROW, Scope.BATCH], settings.more_signals),
    )

    def write(draft: Draft) -> None:
        pairs = pq.read_table(run.store.folder(translations) / TRANSLATIONS_FILE)
        wanted = text_signals(settings.more_signals)
        signals = compute_signals(
            _as_whole(pairs), signals=wanted, batch_rows=settings.length_batch_rows, should_stop=run.should_stop
        )
        for side in SIDES if SOURCE_TURNS in pairs.column_names else ():
            signals = signals.set_column(signals.schema.get_field_index(side), side, pairs[side])
        pq.write_table(signals, draft.path / SIGNALS_FILE)
        draft.rows = len(signals)

    return produce(run, STAGE, parts, write, language=language, subject=subject, work=Work(translations.rows))


def _as_whole(pairs: pa.Table) -> pa.Table:
    """The pairs with whole conversations in place of their last turns, where there are any."""
    whole = pairs
    for side, turns in SIDES.items() if SOURCE_TURNS in pairs.column_names else ():
        texts = pa.array(whole_texts(pairs, side, turns), pa.string())
        whole = whole.set_column(whole.schema.get_field_index(side), side, texts)
    return whole
