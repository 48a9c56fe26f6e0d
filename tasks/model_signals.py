"""Stage ``model_signals``: the signals that need the translator, for the translations that passed all others."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlc.languages import ENGLISH, resolve_language
from mlc.quality.asking import measure_passed
from mlc.quality.deciding import decide, rules_in_key
from mlc.quality.estimating import QualityEstimator, estimator_identity
from mlc.quality.rows import with_columns
from mlc.quality.settings import QualitySettings
from mlc.quality.signals import Scope, modules_of
from mlc.store import ArtifactRef, Draft
from mlc.translation.identity import facts_of
from mlc.translation.settings import TranslatorSettings
from tasks.runtime.artifacts import SIGNALS_FILE
from tasks.runtime.compute import loaded
from tasks.runtime.run import Run
from tasks.runtime.stage import Stage, Work, produce, stage_task

if TYPE_CHECKING:
    from mlc.quality.models import PairModel

ESTIMATE = "estimate"
STAGE = Stage("model_signals", version=1, module=__name__, libraries=("torch", "transformers", "sacrebleu", "duckdb"))


@stage_task("model_signals", "model_signals · {language}")
def measure_model_signals(
    run: Run,
    signals: ArtifactRef,
    language: str,
    settings: QualitySettings,
    translator: TranslatorSettings,
    subject: str | None = None,
    source: str = ENGLISH,
) -> ArtifactRef:
    """Asks the translator about its translations, and those of a fallback where ``subject`` names one.

    Returns:
        ``signals.parquet`` with a column for each signal of ``settings.model_signals`` too; NULL for the rows that the
        text alone drops.

    Raises:
        UserError: A signal needs another translator.
    """
    own = settings.only_for(language, source)
    facts = facts_of(translator)
    models = {"translator": facts["model"]}
    if ESTIMATE in own.model_signals:
        models["estimator"] = estimator_identity(own.estimator)
    parts = STAGE.parts(
        {
            "language": asdict(resolve_language(language)),
            "quality": own.model_dump(mode="json", exclude={"estimator"}),
            "rules": rules_in_key(own),
            "engine": facts["engine"],
            **facts["decoding"],
        },
        {"signals": signals},
        models=models,
        modules=modules_of([Scope.MODEL]),
    )

    def write(draft: Draft) -> None:
        pairs = pq.read_table(run.store.folder(signals) / SIGNALS_FILE)
        passed = decide(pairs, own)["keep"]
        asked = pairs.select(["source", "translation", "source_language", "target_language"])
        asked = asked.rename_columns(["source", "translation", "source_code", "target_code"])
        names = own.model_signals
        identity = f"pairs:{models}:{names}:{translator.model_dump_json()}"
        with loaded(run, identity, translator.device, lambda: _load(own, translator)) as model:
            measured = measure_passed(model, asked, passed, run.should_stop)
        pq.write_table(with_columns(pairs, measured), draft.path / SIGNALS_FILE)
        draft.rows = len(pairs)
        draft.facts["asked"] = pc.sum(passed.cast(pa.int64())).as_py() or 0

    return produce(run, STAGE, parts, write, language=language, subject=subject, work=Work(signals.rows))


def _load(quality: QualitySettings, settings: TranslatorSettings) -> "PairModel":
    from mlc.quality.models import PairModel
    from mlc.translation.translator import Translator

    names = quality.model_signals
    # An estimator alone needs no translator, which may be as large.
    translator = Translator.from_settings(settings) if set(names) - {ESTIMATE} else None
    estimator = QualityEstimator.from_settings(quality.estimator, settings.device) if ESTIMATE in names else None
    return PairModel(names, translator, estimator=estimator)
