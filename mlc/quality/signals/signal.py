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


class Scope(StrEnum):
    """What a signal has to see, and so what it costs."""

    ROW = "one pair"
    BATCH = "all pairs at once"
    MODEL = "one pair and a model"


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
    kind: str = "DOUBLE"
    """Type in DuckDB."""


@dataclass(frozen=True)
class Signal:
    """A quality signal: how it is measured. When a row fails stands in ``sql/decide.sql``.

    ``sql/<name>.sql`` measures it: macros, then a query over ``texts`` (see ``sql/prepare.sql``) that returns ``row``
    and the declared columns; a row that is left out is not applicable.
    """

    name: str
    """Name of the signal and of the reason for dropping a row."""
    columns: tuple[Column, ...]
    source: str
    """Where the idea comes from, and what differs here."""
    scope: Scope = Scope.ROW
    prepare: Callable[[duckdb.DuckDBPyConnection], None] | None = None
    """Adds the tables that the query needs and DuckDB cannot compute by itself, once a chunk of pairs."""
    begin: Callable[[duckdb.DuckDBPyConnection], None] | None = None
    """Adds what does not depend on the pairs, once a connection."""
    uses: tuple[str, ...] = ()
    """Other signals whose columns the rule reads."""
