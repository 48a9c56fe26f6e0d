"""What a table is understood as: for people, before they use it. It holds counts, names and ids, never a text."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mlc.choices import Format
from mlc.errors import UserError
from mlc.languages import all_languages, resolve_language
from mlc.naming import looks_like_a_name
from mlc.shapes.history import texts_in
from mlc.shapes.labels import Labels
from mlc.shapes.pairs import pair_reading
from mlc.shapes.prompts import Reading, reading_of
from mlc.shapes.repeats import kinds_in, repeats_of, repeats_within, with_both_labels
from mlc.tables import LINE_COLUMN, TABLE_ENDINGS, TableFile, columns_in_words, find_place

SHOWN_IDS = 5


@dataclass
class Overview:
    """What was understood of a table."""

    location: str
    format: str
    """Format by name and content, and whatever else is unusual about it."""
    rows: int
    usable: int = 0
    """Rows with a prompt, or with both texts of a pair."""
    set_aside: dict[str, int] = field(default_factory=dict)
    """Rows that cannot be used, by reason."""
    shape: str = ""
    columns: dict[str, str] = field(default_factory=dict)
    """Columns of the table by what they are for."""
    other_columns: list[str] = field(default_factory=list)
    """Columns that are carried along; those that do not look like names are left out."""
    labels: dict[str, int] = field(default_factory=dict)
    languages: dict[str, int] = field(default_factory=dict)
    """Rows with a text, by NLLB code, where columns or values name languages."""
    repeated: int = 0
    """Prompts that are word for word one before them."""
    repeated_nearly: int = 0
    """Prompts that are one before them but for capitals, accents, marks and spaces."""
    alike: int = 0
    """Prompts that are nearly one before them, see :mod:`mlc.shapes.repeats`."""
    both_labels: int = 0
    """Prompts that are harmful in one row and harmless in another, but for capitals, accents, marks and spaces."""
    held_out: dict[str, int] | None = None
    """Prompts that are held-out prompts, by split, all three kinds of repeats counted; None without held-out prompts.
    """
    with_turns: int = 0
    """Prompts with a system prompt or earlier turns before them."""
    ids: list[str] = field(default_factory=list)
    """The first ids."""
    hints: list[str] = field(default_factory=list)
    """What a person may want to do."""


def look_at(
    location: str | Path,
    *,
    format: Format | None = None,
    columns: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    held_out: Mapping[str, Iterable[str]] | None = None,
) -> Overview:
    """Reads a table and says what it is understood as.

    Args:
        location: The table; see :func:`mlc.tables.find_place`.
        format: Its format, if its name does not say.
        columns: Columns by role, see :func:`mlc.prompts.read_prompts`.
        labels: ``harmful`` or ``harmless`` by what the file writes.
        held_out: Held-out prompts by split.

    Raises:
        UserError: The table cannot be read, or a column that is named is not there.
    """
    endings = TABLE_ENDINGS if format is None and find_place(location).format != "lines" else (*TABLE_ENDINGS, ".txt")
    file = TableFile(location, format, formats=endings)
    seen = Overview(str(location), ", ".join([_format_name(file), *file.notes]), len(file))
    try:
        reading = reading_of(file, columns=columns)
    except UserError as error:
        if columns:
            raise
        seen.hints.append(str(error))
        reading = Reading(None, {})
    if "prompt" not in reading.roles and not seen.hints:
        texts = next((name for name in file.columns if name.casefold() in (LINE_COLUMN, "sentence")), None)
        reading = Reading(None, {"prompt": texts}, name="texts") if texts is not None else reading
    if "prompt" in reading.roles:
        _look_at_prompts(file, reading, Labels(labels), held_out, seen)
    elif file.columns:
        _look_at_pairs(file, seen)
    else:
        seen.set_aside = dict(Counter(row.problem for row in file if row.problem is not None))
    if not seen.rows:
        seen.hints.append("The file holds no row.")
    return seen


def _look_at_prompts(
    file: TableFile, reading: Reading, labels: Labels, held_out: Mapping[str, Iterable[str]] | None, seen: Overview
) -> None:
    others = [name for name in file.columns if name not in reading.columns.values()]
    spoken = {name: code for name in others if (code := _language_of(name)) is not None}
    seen.shape, seen.columns = reading.name, dict(reading.columns)
    seen.other_columns = [name for name in others if looks_like_a_name(name)]
    seen.hints += [reading.in_words] if reading.in_words else []
    prompts: list[str] = []
    said: list[str | None] = []
    set_aside: Counter[str] = Counter()
    counted: Counter[str] = Counter()
    languages: Counter[str] = Counter()
    ids: set[str] = set()
    for row in file:
        values, problems = reading.values(row) if row.problem is None else ({}, {})
        problem = row.problem or (f"{problems['prompt']} in prompt" if "prompt" in problems else None)
        name = values.get("id") if "id" in values else str(row.number)
        turns, unfit = reading.history(row) if problem is None else (None, None)
        problem = problem or unfit or (None if name else "no id") or ("repeated id" if name in ids else None)
        label, unknown = labels.read(values.get("label")) if problem is None else (None, None)
        problem = problem or unknown
        if problem is not None or name is None:
            set_aside[str(problem)] += 1
            continue
        ids.add(name)
        seen.usable += 1
        prompts.append("\n\n".join(texts_in(values["prompt"] or "", turns)))
        said.append(label)
        seen.with_turns += turns is not None
        if "label" in values:
            counted[label or "none"] += 1
        languages.update(code for name, code in spoken.items() if str(row.values.get(name) or "").strip())
        if len(seen.ids) < SHOWN_IDS:
            seen.ids.append(name)
    seen.set_aside, seen.labels, seen.languages = dict(set_aside), dict(counted), dict(languages)
    repeats = repeats_within(prompts)
    kinds = kinds_in(repeats)
    seen.repeated, seen.repeated_nearly, seen.alike = kinds["exact"], kinds["normalized"], kinds["near"]
    seen.both_labels = with_both_labels(repeats, said)
    if seen.both_labels:
        seen.hints.append(f"{seen.both_labels} prompts have both labels: correct one of the rows.")
    if held_out is not None:
        seen.held_out = {split: len(repeats_of(prompts, list(texts))) for split, texts in held_out.items()}
    if hint := labels.hint("prompts.labels"):
        seen.hints.append(hint)


def _look_at_pairs(file: TableFile, seen: Overview) -> None:
    try:
        reading = pair_reading(file)
    except UserError as error:
        seen.hints.append(str(error))
        return
    if {"source", "translation"} & set(reading.missing):
        seen.other_columns = [name for name in file.columns if looks_like_a_name(name)]
        seen.hints.append(f"Neither prompts nor pairs are found ({columns_in_words(file.columns)}): name the columns.")
        return
    seen.shape, seen.columns = "pairs of source and translation", dict(reading.columns)
    seen.other_columns = [
        name for name in file.columns if name not in reading.columns.values() and looks_like_a_name(name)
    ]
    if reading.in_words:
        seen.hints.append(reading.in_words)
    if reading.missing:
        seen.hints.append(f"Nothing says the {' and the '.join(role.replace('_', ' ') for role in reading.missing)}.")
    set_aside: Counter[str] = Counter()
    languages: Counter[str] = Counter()
    exact: set[bytes] = set()
    for row in file:
        values = reading.values(row)
        texts = [str(values.get(role) or "") for role in ("source", "translation")]
        if row.problem or not all(text.strip() for text in texts):
            set_aside[row.problem or "no text"] += 1
            continue
        seen.usable += 1
        languages[_code(values.get("target_language"))] += 1
        digest = _digest("\0".join([*texts, str(values.get("target_language"))]))
        seen.repeated += digest in exact
        exact.add(digest)
        if len(seen.ids) < SHOWN_IDS:
            seen.ids.append(str(row.values.get("id") or row.number))
    seen.set_aside, seen.languages = dict(set_aside), dict(languages)


def _format_name(file: TableFile) -> str:
    return {"jsonl": "JSON", "csv": "CSV", "tsv": "TSV", "lines": "plain lines", "parallel": "lines side by side"}.get(
        file.format, file.format.capitalize()
    )


def _language_of(name: str) -> str | None:
    if name in ("id", "source", "text"):
        return None
    known = any(name.casefold() in (row.code.casefold(), row.bcp47.casefold(), row.iso639_1) for row in all_languages())
    return resolve_language(name).code if known and _is_clear(name) else None


def _is_clear(name: str) -> bool:
    try:
        resolve_language(name)
    except UserError:
        return False
    return True


def _code(name: object) -> str:
    if not isinstance(name, str):
        return "none named"
    return resolve_language(name).code if _is_clear(name) else "unknown"


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).digest()
