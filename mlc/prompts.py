"""Prompt files: reading, checking, and setting bad rows aside with a reason."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypedDict

import pyarrow as pa

from mlc.errors import UserError
from mlc.naming import key_in
from mlc.shapes.answers import ANSWERS, answer_column
from mlc.shapes.history import SOURCE_TURNS, TURNS, VARIANT_TURNS, with_turns
from mlc.shapes.labels import LABELS, Labels, kind_of, told_unknown
from mlc.shapes.prompts import Reading, reading_of
from mlc.shapes.row_ids import with_row_ids
from mlc.shapes.spoken import LANGUAGE
from mlc.shipped import resolve_path
from mlc.tables import TABLE_ENDINGS, Row, TableFile, find_place, is_remote, plain_text

__all__ = ["LABELS", "PromptFile", "identify", "locate", "locate_own", "meaning_of", "read_beside", "read_prompts"]

CHUNK_ROWS = 10_000
"""Rows that are held as Python objects at a time."""
TRAINING_COLUMNS = ("languages", "variants", "mask")
"""Columns of a training set that hold its languages."""
RESERVED = frozenset(
    {TURNS, SOURCE_TURNS, VARIANT_TURNS, LANGUAGE, *TRAINING_COLUMNS, "variant_weights", *map(answer_column, ANSWERS)}
)
"""Columns that mean something in the pipeline's own tables, so that what a person calls so must not pass for them."""


@dataclass(frozen=True)
class PromptFile:
    """Rows of a prompt file, all values text or NULL."""

    rows: pa.Table
    """Columns ``id``, ``prompt``, and the others of the file; ids are unique, prompts not blank. Where ids are row
    numbers, the table says so, see :mod:`mlc.shapes.row_ids`."""
    rejected: pa.Table
    """Columns ``row`` (1 for the first) and ``reason``, for rows that were set aside."""
    notes: tuple[str, ...] = ()
    """What was understood of the file that does not go without saying, for people; no text of a row."""
    hint: str = ""
    """How to map labels that are not known; empty if all are."""

    @property
    def reasons(self) -> Counter[str]:
        """How many rows were set aside for what reason, in words that say what to do."""
        return told_unknown(Counter(self.rejected["reason"].to_pylist()), self.hint)


def read_prompts(
    location: Path | str,
    *,
    required: tuple[str, ...] = ("prompt",),
    columns: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    section: str = "prompts",
    own: Collection[str] = (),
) -> PromptFile:
    """Reads prompts from a table in any format, with the columns of any known shape.

    A missing column ``id`` becomes the row number. Rows that cannot be read, rows without usable text in a required
    column, with a repeated id, or with a ``label`` that is not known are set aside. So is a conversation in which a
    person and an assistant do not take turns. The last user turn is the prompt; a system prompt and the turns before
    it become the column ``turns``, see :mod:`mlc.shapes.history`. Columns of the file whose names are reserved are
    carried along under other names.

    Args:
        location: The table; see :func:`mlc.tables.find_place`.
        required: Columns that must be there.
        columns: Columns of the file by role (``prompt``, ``chosen``, …), where they are not known by themselves.
        labels: ``harmful`` or ``harmless`` by what the file writes, where it is not known by itself.
        section: Section of the configuration that has ``columns`` and ``labels``, for messages.
        own: Names of :data:`RESERVED` that mean in the file what they mean here.

    Raises:
        UserError: The file cannot be read, lacks a column, or holds no usable row.
    """
    return _read(_opened(location), required, columns, labels, section, own)


class Meaning(TypedDict):
    """What a person says of the tables of prompts, see :func:`read_prompts`."""

    columns: dict[str, str]
    labels: dict[str, str]


class HasMeaning(Protocol):
    """Settings that say it."""

    columns: dict[str, str]
    labels: dict[str, str]


def meaning_of(settings: HasMeaning) -> Meaning:
    """What settings say of columns and labels."""
    return {"columns": dict(settings.columns), "labels": dict(settings.labels)}


def read_beside(
    location: Path | str,
    *,
    required: tuple[str, ...],
    columns: Mapping[str, str],
    labels: Mapping[str, str],
    section: str = "prompts",
) -> PromptFile:
    """Reads prompts that belong to those of another file, such as their translations.

    Args:
        location: As of :func:`read_prompts`.
        required: As there.
        columns: What columns of the other file mean, and those of this one that have the same names.
        labels: What both write for labels.
        section: As there.

    Raises:
        UserError: As there.
    """
    file = _opened(location)
    own = {role: name for role, name in columns.items() if name in file.columns}
    return _read(file, required, own, labels, section)


def _opened(location: Path | str) -> TableFile:
    return TableFile(location, formats=TABLE_ENDINGS, what="prompt file")


def _read(
    file: TableFile,
    required: tuple[str, ...],
    columns: Mapping[str, str] | None,
    labels: Mapping[str, str] | None,
    section: str,
    own: Collection[str] = (),
) -> PromptFile:
    reading = reading_of(file, required=required, columns=columns, section=section)
    others = _other_columns(file.columns, reading, RESERVED.difference(own))
    rows = _Rows(file, reading, required, Labels(labels), others)
    for row in file:
        rows.add(row)
    hint = rows.labels.hint(key_in(section, "labels"))
    if not rows.count:
        counts = Counter(reason for _, reason in rows.rejected)
        detail = f" (set aside: {', '.join(sorted(counts))})" if counts else ""
        raise UserError(
            f"The prompt file {file.location!r} holds no usable prompt{detail}: give at least one row with text."
            + (f" {hint}" if hint else "")
        )
    notes = [f"{file.location}: {', '.join(file.notes)}."] if file.notes else []
    notes += [f"{file.location}: {reading.in_words}."] if reading.in_words else []
    moved = [f"{old} as {new}" for old, new in others.items() if old in RESERVED and old != new]
    notes += [f"{file.location}: columns with reserved names are carried along, {', '.join(moved)}."] if moved else []
    return PromptFile(rows.table(), rows.set_aside(), (*notes, *([hint] if hint else [])), hint)


class _Rows:
    """The rows of a file on their way into a table."""

    def __init__(
        self,
        file: TableFile,
        reading: Reading,
        required: tuple[str, ...],
        labels: Labels,
        others: Mapping[str, str],
    ) -> None:
        self.rejected: list[tuple[int, str]] = []
        self.labels = labels
        self.count = 0
        self._reading = reading
        self._required = required
        self._roles = reading.roles
        self._others = others
        self._numbered = "id" not in self._roles
        used = {name: role for role, name in reversed(list(reading.columns.items()))}
        own = [used.get(name) or self._others.get(name) for name in file.columns]
        named = dict.fromkeys(name for name in own if name is not None)
        named |= dict.fromkeys(role for role in self._roles if role not in named)
        self.names = tuple(named) if "id" in named else ("id", *named)
        self._waiting: list[dict[str, str | None]] = []
        self._turns: list[str | None] = []
        self._chunks: list[pa.Table] = []
        self._seen: set[str] = set()

    def add(self, row: Row) -> None:
        """Takes a row, or sets it aside."""
        values: dict[str, str | None] = {new: plain_text(row.values.get(old)) for old, new in self._others.items()}
        problem = row.problem
        if problem is None:
            found, problems = self._reading.values(row)
            values |= found
            if "kind" in values:
                values["kind"] = kind_of(values["kind"])
            if self._numbered:
                values["id"] = str(row.number)
            problem = self._problem(values, problems)
        turns = None
        if problem is None:
            turns, problem = self._reading.history(row)
        if problem is not None:
            self.rejected.append((row.number, problem))
            return
        self._seen.add(str(values["id"]))
        self._waiting.append(values)
        self._turns.append(turns)
        self.count += 1
        if len(self._waiting) == CHUNK_ROWS:
            self._flush()

    def table(self) -> pa.Table:
        """The rows that were taken."""
        self._flush()
        rows = pa.concat_tables(self._chunks)
        rows = with_turns(rows, self._turns) if any(self._turns) else rows
        return with_row_ids(rows, self.count + len(self.rejected)) if self._numbered else rows

    def set_aside(self) -> pa.Table:
        """Numbers and reasons of the others."""
        return pa.table(
            {
                "row": pa.array([row for row, _ in self.rejected], pa.int64()),
                "reason": pa.array([reason for _, reason in self.rejected], pa.string()),
            }
        )

    def _problem(self, values: dict[str, str | None], problems: Mapping[str, str]) -> str | None:
        """Why a row is set aside; None if it is not."""
        for role in self._required:
            if role in self._roles and role in problems and not (role == "id" and self._numbered):
                return f"{problems[role]} in {self._told(role)}"
            if role not in self._roles and not (values.get(role) or "").strip():
                return f"no text in {role}"
        if not values["id"] or values["id"] in self._seen:
            return "repeated id" if values["id"] else "no id"
        if "label" not in values:
            return None
        values["label"], problem = self.labels.read(values["label"])
        return problem

    def _told(self, role: str) -> str:
        name = self._reading.columns.get(role, role)
        return role if name.casefold() == role or not name.isidentifier() else f"{role} ({name})"

    def _flush(self) -> None:
        columns = {name: pa.array([values.get(name) for values in self._waiting], pa.string()) for name in self.names}
        self._chunks.append(pa.table(columns))
        self._waiting = []


def _other_columns(columns: tuple[str, ...], reading: Reading, reserved: Collection[str]) -> dict[str, str]:
    """Columns that stand for no role, with the names that they get."""
    used = set(reading.columns.values())
    taken = {"id", *reading.roles, *reserved}
    names = {name: name for name in columns if name not in used}
    for name in [name for name in names if name in taken]:
        new = name
        while new in taken or new in names:
            new = f"file_{new}"
        names[name] = new
    return names


def locate(location: str) -> Path | str:
    """Where a table is: an address, or a path that starts from the current folder."""
    return location if is_remote(location) else resolve_path(location, Path.cwd())


def identify(place: Path | str) -> str:
    """Digest of what is in a table.

    Raises:
        OSError: It is not there.
    """
    return find_place(place, what="prompt file").identity()


def locate_own(location: str, language: str, setting: str) -> tuple[Path | str, str]:
    """Where a table with prompts of a language is, and the digest of what is in it.

    Args:
        location: As the configuration has it.
        language: NLLB code.
        setting: Dotted key that names it.

    Raises:
        UserError: It is not there.
    """
    place = locate(location)
    try:
        return place, identify(place)
    except OSError as error:
        raise UserError(
            f"The prompts {location!r} in {language} cannot be read ({error.strerror or error}): correct {setting}."
        ) from None
