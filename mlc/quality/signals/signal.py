"""What a quality signal declares."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import duckdb


class Direction(StrEnum):
    """Which way a column points."""

    HIGHER_IS_WORSE = "higher is worse"
    HIGHER_IS_BETTER = "higher is better"
    TWO_SIDED = "far from zero is worse"
    CONTEXT = "no direction: it says how far to trust another column"


@dataclass(frozen=True)
class Column:
    """One stored column of a signal. NULL always means: not applicable to this row."""

    name: str
    direction: Direction
    meaning: str
    low: float | None = None
    """Lowest possible value; None where the column has no lower bound or is text."""
    high: float | None = None
    """Highest possible value; None where the column has no upper bound or is text."""


@dataclass(frozen=True)
class Signal:
    """A quality signal: how it is measured, and when a row fails.

    ``sql/<name>.sql`` measures it: a query over ``texts`` (see ``sql/prepare.sql``) that returns ``row`` and
    the declared columns.
    """

    name: str
    """Name of the signal and of the reason for dropping a row."""
    columns: tuple[Column, ...]
    fails: str
    """SQL condition over stored ``signal_*`` columns and ``limits.*`` thresholds; NULL counts as not failing."""
    source: str
    """Where the idea comes from, and what differs here."""
    prepare: Callable[[duckdb.DuckDBPyConnection], None] | None = None
    """Adds the tables that the query needs and DuckDB cannot compute by itself."""
