"""Decides which translations to keep, from stored signals alone: a changed threshold needs nothing else.

The rules are the signals' own (:class:`mlc.quality.signals.signal.Rule`); here they become one query.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import duckdb
import pyarrow as pa

from mlc.quality.calibration import quality_expression
from mlc.quality.rows import numbered, require_columns, with_columns
from mlc.quality.settings import QualitySettings
from mlc.quality.signals import QUALITY, Rule, chosen_signals, rules_of, signals_of, text_signals
from mlc.store.hashing import digest_data

VERDICT_COLUMNS = ("quality", "keep", "reason", "reasons")

_DECISION = """
WITH judged AS (
    SELECT
        signals.row,
        signals.quality,
        list_filter([{cases}]::VARCHAR[], lambda reason: reason IS NOT NULL) AS reasons
    FROM signals
    LEFT JOIN limits
        ON limits.target_code = signals.target_code
        AND limits.source_code IS NOT DISTINCT FROM signals.source_code
)
SELECT
    quality,
    len(reasons) = 0 AS keep,
    reasons[1] AS reason,
    reasons
FROM judged
ORDER BY row
"""


def decide(signals: pa.Table, settings: QualitySettings, *, rules: Iterable[str] | None = None) -> pa.Table:
    """Decides which rows to keep, from the stored signals alone.

    Args:
        signals: Output of :func:`mlc.quality.measuring.tables.compute_signals`; of its other columns only
            ``target_language`` is read, and ``source_language`` if it is there.
        settings: Thresholds.
        rules: Names of the rules that may drop a row; if not given, all whose signals are there, and those of the text
            signals in any case.

    Returns:
        The input with ``quality`` (calibrated, 0 to 1), ``keep`` (bool), ``reason`` (the first failing rule in the
        order of ``RULES``, NULL when kept) and ``reasons`` (all of them); such columns that were there are replaced.

    Raises:
        UserError: A signal that a rule needs is missing, or ``target_language`` is.
    """
    known = signals_of(settings.more_signals)
    names = [signal.name for signal in text_signals(settings.more_signals)] if rules is None else list(rules)
    needed = chosen_signals((name for name in names if name != QUALITY.name), known)
    columns = tuple(column.name for signal in needed for column in signal.columns)
    require_columns(signals, ("target_language", *columns), "run the filter again to measure them")
    codes = {"target_code": signals["target_language"].cast(pa.string())}
    has_source = "source_language" in signals.column_names
    codes["source_code"] = (
        signals["source_language"].cast(pa.string()) if has_source else pa.nulls(len(signals), pa.string())
    )
    columns = tuple(column.name for signal in known for column in signal.columns)
    stored = [name for name in columns if name in signals.column_names]
    table = numbered(with_columns(pa.table(codes), signals.select(stored)))
    return with_columns(signals, judge(table, settings, None if rules is None else tuple(rules)))


def judge(chunk: pa.Table, settings: QualitySettings, rules: Sequence[str] | None = None) -> pa.Table:
    """The columns ``VERDICT_COLUMNS`` of a chunk, in the order of its rows.

    Args:
        chunk: ``row``, ``source_code``, ``target_code`` and signals; those that are not there count as not applicable.
        settings: Thresholds.
        rules: Names of the rules that may drop a row; all, if not given.
    """
    known = signals_of(settings.more_signals)
    absent = [
        f"NULL::{column.kind} AS {column.name}"
        for signal in known
        for column in signal.columns
        if column.name not in chunk.column_names
    ]
    # What cannot be read has no quality, although nothing speaks against it.
    quality = f"CASE WHEN signal_problem IS NULL THEN {quality_expression()} ELSE 0.0 END AS quality"
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.register("chunk", chunk)
        connection.execute(
            f"CREATE TEMP VIEW signals AS SELECT *, {quality} FROM (SELECT {', '.join(['*', *absent])} FROM chunk)"
        )
        connection.register("limits", _limits(chunk, settings))
        chosen = [rule for rule in rules_of(known) if rules is None or rule.name in rules]
        return connection.sql(decision(chosen)).to_arrow_table()


def decision(rules: Sequence[Rule]) -> str:
    """The query that decides by some rules.

    It reads the table ``signals`` and, by pair of languages, the thresholds in the table ``limits``.

    Args:
        rules: In order of priority: the first one that fails is the reason.
    """
    cases = [f"CASE WHEN {rule.condition} THEN '{rule.name}' END" for rule in rules]
    return _DECISION.format(cases=",\n".join(cases))


def rules_in_key(settings: QualitySettings) -> dict[str, dict[str, Any]]:
    """What the rules say, by name, for the key of what they decide; thresholds are in the settings."""
    return {
        rule.name: {"priority": rule.priority, "condition": digest_data(rule.condition)}
        for rule in rules_of(signals_of(settings.more_signals))
    }


def _limits(signals: pa.Table, settings: QualitySettings) -> pa.Table:
    pairs = signals.select(["source_code", "target_code"]).group_by(["source_code", "target_code"]).aggregate([])
    rows = sorted({(row["source_code"], row["target_code"]) for row in pairs.to_pylist()}, key=str)
    thresholds = [settings.thresholds(target or "", *([source] if source else [])) for source, target in rows]
    return pa.table(
        {
            "source_code": pa.array([source for source, _ in rows], pa.string()),
            "target_code": pa.array([target for _, target in rows], pa.string()),
            **{
                name: pa.array([getattr(each, name) for each in thresholds], pa.float64())
                for name in type(settings.default).model_fields
            },
        }
    )
