"""Stage ``model_signals``: the signals that need the translator, for the translations that passed all others."""

from collections.abc import Mapping, Sequence
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
from mlc.store import ArtifactRef, Draft, KeyParts
from mlc.store.hashing import digest_data
from mlc.store.keys import PENDING
from mlc.translation.identity import facts_of
from mlc.translation.settings import TranslatorSettings
from tasks.runtime.artifacts import SIGNALS_FILE
from tasks.runtime.compute import loaded
from tasks.runtime.run import Run
from tasks.runtime.shards import Shard, content_shards
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
    return _measured(run, signals, None, language, settings, translator, subject, source)


@stage_task("model_signals", "model_signals · {language} · shard {shard.number}")
def measure_model_signals_shard(
    run: Run,
    signals: ArtifactRef,
    shard: Shard,
    language: str,
    settings: QualitySettings,
    translator: TranslatorSettings,
    subject: str | None = None,
    source: str = ENGLISH,
) -> ArtifactRef:
    """Asks the translator about some rows; arguments as of :func:`measure_model_signals`.

    The key has the translations of the shard that the text alone lets pass, and nothing of other rows: what is measured
    over all of them moves with each new one.

    Returns:
        ``signals.parquet`` with the new columns alone, one row for each of the shard.
    """
    return _measured(run, signals, shard, language, settings, translator, subject, source)


@stage_task("model_signals", "model_signals · {language}")
def join_model_signals(
    run: Run,
    signals: ArtifactRef,
    shards: Sequence[ArtifactRef],
    language: str,
    settings: QualitySettings,
    translator: TranslatorSettings,
    subject: str | None = None,
    source: str = ENGLISH,
) -> ArtifactRef:
    """Puts what was measured of all shards together, to what :func:`measure_model_signals` makes of all at once."""
    own = settings.only_for(language, source)
    inputs = {"signals": signals, **{f"shard {number}": ref for number, ref in enumerate(shards, start=1)}}
    parts, _ = _parts(inputs, own, language, translator)

    def write(draft: Draft) -> None:
        pairs = pq.read_table(run.store.folder(signals) / SIGNALS_FILE)
        measured = pa.concat_tables([pq.read_table(run.store.folder(ref) / SIGNALS_FILE) for ref in shards])
        pq.write_table(with_columns(pairs, measured), draft.path / SIGNALS_FILE)
        draft.rows = len(pairs)
        draft.facts["asked"] = sum(run.store.manifest(ref.kind, ref.key)["facts"]["asked"] for ref in shards)

    work = Work(signals.rows, new=lambda: 0)
    return produce(run, STAGE, parts, write, language=language, subject=subject, work=work)


def signal_shards(run: Run, signals: ArtifactRef, rows: int | None) -> list[Shard]:
    """The shards that a translator is asked about; none where they are asked about at once, or only foreseen.

    Args:
        run: The run.
        signals: Artifact with ``signals.parquet``.
        rows: As of :func:`tasks.runtime.shards.content_shards`.
    """
    file = run.store.folder(signals) / SIGNALS_FILE
    if rows is None or not file.is_file():
        return []
    return content_shards(pq.read_table(file, columns=["id"])["id"].to_pylist(), rows)


def _parts(
    inputs: Mapping[str, ArtifactRef | str], own: QualitySettings, language: str, translator: TranslatorSettings
) -> tuple[KeyParts, dict[str, str]]:
    """The key parts, and the identities of the models."""
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
        inputs,
        models=models,
        modules=modules_of([Scope.MODEL]),
    )
    return parts, models


def _asked(pairs: pa.Table, own: QualitySettings, shard: Shard | None) -> tuple[pa.Table, pa.ChunkedArray]:
    """What a translator is asked with, and which rows the text alone lets pass."""
    passed = decide(pairs, own)["keep"]
    asked = pairs.select(["source", "translation", "source_language", "target_language"])
    asked = asked.rename_columns(["source", "translation", "source_code", "target_code"])
    return (shard.of(asked), shard.of(passed)) if shard else (asked, passed)


def _content(run: Run, signals: ArtifactRef, own: QualitySettings, shard: Shard) -> str:
    """Digest of all that is asked about in a shard; of one that is only foreseen, what stands for it in a plan."""
    file = run.store.folder(signals) / SIGNALS_FILE
    if not file.is_file():
        return f"{PENDING}{signals.key}{shard.number}"
    asked, passed = _asked(pq.read_table(file), own, shard)
    kept = passed.to_pylist()
    return digest_data([row if keep else None for row, keep in zip(asked.to_pylist(), kept, strict=True)])


def _measured(
    run: Run,
    signals: ArtifactRef,
    shard: Shard | None,
    language: str,
    settings: QualitySettings,
    translator: TranslatorSettings,
    subject: str | None,
    source: str,
) -> ArtifactRef:
    own = settings.only_for(language, source)
    inputs: dict[str, ArtifactRef | str] = {"signals": signals}
    if shard:
        inputs = {"translations": _content(run, signals, own, shard)}
    parts, models = _parts(inputs, own, language, translator)

    def write(draft: Draft) -> None:
        pairs = pq.read_table(run.store.folder(signals) / SIGNALS_FILE)
        asked, passed = _asked(pairs, own, shard)
        names = own.model_signals
        identity = f"pairs:{models}:{names}:{translator.model_dump_json()}"
        with loaded(run, identity, translator.device, lambda: _load(own, translator)) as model:
            measured = measure_passed(model, asked, passed, run.should_stop)
        pq.write_table(measured if shard else with_columns(pairs, measured), draft.path / SIGNALS_FILE)
        draft.rows = len(asked)
        draft.facts["asked"] = pc.sum(passed.cast(pa.int64())).as_py() or 0

    work = Work(shard.stop - shard.start if shard else signals.rows)
    told = shard.subject(subject) if shard else subject
    return produce(run, STAGE, parts, write, language=language, subject=told, work=work)


def _load(quality: QualitySettings, settings: TranslatorSettings) -> "PairModel":
    from mlc.quality.models import PairModel
    from mlc.translation.translator import Translator

    names = quality.model_signals
    # An estimator alone needs no translator, which may be as large.
    translator = Translator.from_settings(settings) if set(names) - {ESTIMATE} else None
    estimator = QualityEstimator.from_settings(quality.estimator, settings.device) if ESTIMATE in names else None
    return PairModel(names, translator, estimator=estimator)
