"""What a quality signal declares: what it measures, and the rule that drops a row by it.

Light to import: whatever a measure needs, it imports when it is called.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Share = Annotated[float, Field(ge=0, le=1)]
Level = Annotated[float, Field(ge=0)]
Deviations = Annotated[float, Field(gt=0)]
LogProbability = Annotated[float, Field(le=0)]
Cosine = Annotated[float, Field(ge=-1, le=1)]
Count = Annotated[int, Field(ge=0)]
AtLeastTwo = Annotated[int, Field(ge=2)]


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
    """Begins with ``signal_``."""
    direction: Direction
    meaning: str
    low: float | None = None
    """Lowest possible value; None where the column has no lower bound or is text."""
    high: float | None = None
    """Highest possible value; None where the column has no upper bound or is text."""
    kind: str = "DOUBLE"
    """Type in DuckDB."""


@dataclass(frozen=True)
class Threshold:
    """A number that a rule compares with: a key of ``quality.default`` and of the overrides by language."""

    name: str
    kind: Any
    """Type with its bounds, such as :data:`Share`; with ``| None`` if it may be unset."""
    default: float | None
    meaning: str
    """When a row is dropped, for people; what value switches the rule off."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """When a row is dropped. What stands here decides and is no part of what is measured."""

    name: str
    """The reason that is given for dropping a row."""
    condition: str
    """In SQL: true where the row is dropped. It reads stored columns, and thresholds as ``limits.NAME``. A comparison
    with NULL is NULL, so a signal that is not applicable and a threshold that is not set drop nothing."""
    priority: int = 1000
    """The reason of a row is the failing rule with the lowest number."""
    thresholds: tuple[Threshold, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Signal(Rule):
    """A quality signal: how it is measured, and its rule.

    ``measure`` is SQL: macros, then a query over ``texts`` (see ``measuring/prepare.sql``) that returns ``row`` and the
    declared columns; a row that is left out is not applicable. What needs all rows (``Scope.BATCH``) is finished in
    ``measuring/batch.sql``, what needs a model (``Scope.MODEL``) is measured in :mod:`mlc.quality.models`.
    """

    columns: tuple[Column, ...]
    source: str
    """Where the idea comes from, and what differs here."""
    measure: str = ""
    scope: Scope = Scope.ROW
    prepare: "Callable[[DuckDBPyConnection], None] | None" = None
    """Adds the tables that the query needs and DuckDB cannot compute by itself, once a chunk of pairs."""
    begin: "Callable[[DuckDBPyConnection], None] | None" = None
    """Adds what does not depend on the pairs, once a connection."""
    uses: tuple[str, ...] = ()
    """Other signals whose columns the rule reads."""
