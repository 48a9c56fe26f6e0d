"""How much each rule dropped, and whether enough is left."""

import duckdb
import pyarrow as pa

from mlc.errors import UserError
from mlc.quality.settings import QualitySettings

KEPT = "kept"
FUNNEL_COLUMNS = ("target_language", "reason", "rows", "share")

# A language that keeps nothing still has its row 'kept'.
_FUNNEL = """
WITH
counted AS (
    SELECT target_language, CASE WHEN keep THEN 'kept' ELSE reason END AS reason, count(*) AS rows
    FROM verdicts
    GROUP BY ALL
    UNION ALL BY NAME
    SELECT DISTINCT target_language, 'kept' AS reason, 0 AS rows
    FROM verdicts
),
summed AS (
    SELECT target_language, reason, sum(rows)::BIGINT AS rows
    FROM counted
    GROUP BY ALL
)
SELECT
    target_language,
    reason,
    rows,
    (rows / sum(rows) OVER (PARTITION BY target_language))::DOUBLE AS share
FROM summed
ORDER BY target_language, reason <> 'kept', rows DESC, reason
"""


def funnel(verdicts: pa.Table) -> pa.Table:
    """Counts kept and dropped rows by language and reason.

    Args:
        verdicts: Output of :func:`mlc.quality.deciding.decide`.

    Returns:
        ``target_language``, ``reason`` (the first failing rule, or ``kept``), ``rows``, ``share`` of the
        language's rows. Each language has its row ``kept`` first, then reasons by count.

    Raises:
        UserError: The table has no verdicts.
    """
    missing = [name for name in ("target_language", "keep", "reason") if name not in verdicts.column_names]
    if missing:
        raise UserError(f"The table of verdicts lacks {', '.join(missing)}: run the filter first.")
    with duckdb.connect() as connection:
        connection.register("verdicts", verdicts.select(["target_language", "keep", "reason"]))
        return connection.sql(_FUNNEL).to_arrow_table()


def check_yield(counts: pa.Table, settings: QualitySettings) -> None:
    """Refuses to go on with a language that lost too much.

    Args:
        counts: Output of :func:`funnel`, or the verdicts themselves.
        settings: ``min_kept_share`` and ``allow_low_yield``.

    Raises:
        UserError: A language keeps less than the minimum; the one that keeps least is told.
    """
    if settings.allow_low_yield:
        return
    table = counts if set(FUNNEL_COLUMNS) <= set(counts.column_names) else funnel(counts)
    rows = table.to_pylist()
    low = [row for row in rows if row["reason"] == KEPT and row["share"] < settings.min_kept_share]
    if not low:
        return
    worst = min(low, key=lambda row: (row["share"], row["target_language"]))
    raise UserError(_low_yield(worst, rows, others=len(low) - 1, minimum=settings.min_kept_share))


def _low_yield(worst: dict[str, object], rows: list[dict[str, object]], others: int, minimum: float) -> str:
    language = worst["target_language"]
    dropped = [row for row in rows if row["target_language"] == language and row["reason"] != KEPT]
    reasons = ", ".join(f"{row['reason']} ({row['rows']})" for row in dropped[:3])
    also = f" ({others} more below it)" if others else ""
    return (
        f"{language} keeps {worst['share']:.1%} of its translations, less than the allowed {minimum:.1%}{also}; "
        f"most were dropped for {reasons}: look at the dropped rows and use a better translator, loosen these "
        f"thresholds under quality.languages.{language}, leave the language out, or set quality.allow_low_yield."
    )


def coverage(verdicts: pa.Table) -> pa.Table:
    """Counts for how many rows each signal has a value: what is not applicable is NULL, and counted here.

    Args:
        verdicts: Output of :func:`mlc.quality.deciding.decide`.

    Returns:
        ``target_language``, ``signal``, ``measured`` and ``not_applicable`` rows, one row for each language and column.
    """
    signals = [name for name in verdicts.column_names if name.startswith("signal_")]
    with duckdb.connect() as connection:
        connection.register("verdicts", verdicts.select(["target_language", *signals]))
        counts = ", ".join(f"count({name}) AS {name}" for name in signals)
        return connection.sql(
            f"""
            WITH counted AS (SELECT target_language, count(*) AS rows, {counts} FROM verdicts GROUP BY ALL)
            SELECT target_language, signal, measured, rows - measured AS not_applicable
            FROM (UNPIVOT counted ON {", ".join(signals)} INTO NAME signal VALUE measured)
            ORDER BY ALL
            """
        ).to_arrow_table()


def sample_rejects(verdicts: pa.Table, each: int = 5) -> list[dict[str, object]]:
    """Rows to look at: some rejected ones of each reason, evenly spread over the table, without their texts.

    Args:
        verdicts: Output of :func:`mlc.quality.deciding.decide`.
        each: Rows of each reason at most.

    Returns:
        ``reason``, ``rows`` (numbers from 0, in ascending order) and ``count`` of all rows with that reason.
    """
    by_reason: dict[str, list[int]] = {}
    for number, reason in enumerate(verdicts["reason"].to_pylist()):
        if reason is not None:
            by_reason.setdefault(reason, []).append(number)
    ordered = sorted(by_reason.items(), key=lambda item: (-len(item[1]), item[0]))
    return [
        {
            "reason": reason,
            "rows": ", ".join(str(numbers[place * len(numbers) // each]) for place in range(each))
            if len(numbers) > each
            else ", ".join(map(str, numbers)),
            "count": len(numbers),
        }
        for reason, numbers in ordered
    ]
