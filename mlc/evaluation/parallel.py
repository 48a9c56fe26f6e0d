"""Parallel prompts: the same prompts in several languages, from whatever file a person has of them.

N prompts, L languages with English first.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mlc.errors import UserError
from mlc.evaluation.metrics import Flags
from mlc.languages import ENGLISH, all_languages, looks_like_a_tag, resolve_language, resolve_languages
from mlc.prompts import LABELS, TRAINING_COLUMNS, read_prompts
from mlc.shapes.history import Prompt
from mlc.shapes.row_ids import require_like_ids, row_ids
from mlc.shipped import resolve_path
from mlc.tables.formats import read_format
from mlc.tables.saved import read_saved

MIN_PROMPTS = 4
"""Fewer prompts, in all or in a language, say nothing about a layer."""
QUICKSTART_PROMPTS = "shipped:quickstart/validation.jsonl"
QUICKSTART_REFERENCES = "shipped:quickstart/references"
VALIDATION_EVERY = 3
"""Of the prompts of a label, one in so many is for validation where they are dealt out."""

_MIN_LABELLED = 2
_TAG = re.compile(r"[a-z]{2,3}")


@dataclass(frozen=True)
class ParallelPrompts:
    """N prompts in L languages."""

    ids: tuple[str, ...]
    labels: tuple[str | None, ...]
    """[N] ``harmful``, ``harmless`` or None."""
    languages: tuple[str, ...]
    """[L] NLLB codes, English first, or another anchor."""
    texts: tuple[tuple[Prompt | None, ...], ...]
    """[N][L]; None where a translation is missing, never in English."""
    left_out: Mapping[str, int]
    """Rows of the file that could not be used, by reason."""

    @property
    def mask(self) -> Flags:
        """[N, L], which texts are there."""
        return np.array([[text is not None for text in row] for row in self.texts], dtype=bool)

    @property
    def separable(self) -> bool:
        """Whether there are enough harmful and harmless prompts to look for a direction between them."""
        return all(self.labels.count(label) >= _MIN_LABELLED for label in LABELS)


def read_parallel(path: Path, *, references: Path | None = None, languages: Sequence[str] = ()) -> ParallelPrompts:
    """Reads prompts and their translations.

    Args:
        path: A prompt file with a column for each language, named by NLLB code or short code (English may also be
            called ``prompt``), and if there are any ``id`` and ``label``; or a training set of the pipeline, as a file
            or as the folder of the artifact.
        references: A file with ``id`` and a column for each language, or a folder that holds one of the same name as
            ``path``: translations of its prompts.
        languages: Names or codes; all that are there if empty.

    Raises:
        UserError: A file cannot be read, English or a language that was asked for is missing, or there are too few
            prompts.
    """
    rows, left_out, numbered = _rows(path)
    if references is not None:
        file = _beside(references, path) if references.is_dir() else references
        translated = read_prompts(file, required=("id",)).rows
        require_like_ids(numbered, row_ids(translated), (f"prompts {str(path)!r}", f"prompts {str(file)!r}"))
        translations = {row["id"]: row for row in translated.to_pylist()}
        rows = [{**translations.get(row["id"], {}), **row} for row in rows]
    place = repr(str(path)) if references is None else f"{str(path)!r} with {str(references)!r}"
    columns = _language_columns(rows, place)
    try:
        table = [_texts(row, columns) for row in rows]
    except (ValueError, TypeError):
        # The exception's own text may quote prompts.
        raise UserError(
            f"The prompts {place} are no training set of the pipeline, although they have its columns: languages, "
            "variants and mask must be lists of equal length."
        ) from None
    wanted = _wanted({code for texts in table for code in texts}, languages, place)
    usable = [(row, texts) for row, texts in zip(rows, table, strict=True) if ENGLISH in texts]
    left_out["no English text"] = len(rows) - len(usable)
    if len(usable) < MIN_PROMPTS:
        raise UserError(f"The prompts {place} hold {len(usable)} with English text: at least {MIN_PROMPTS} are needed.")
    return ParallelPrompts(
        ids=tuple(row["id"] for row, _ in usable),
        labels=tuple(row.get("label") for row, _ in usable),
        languages=wanted,
        texts=tuple(tuple(texts.get(code) for code in wanted) for _, texts in usable),
        left_out={reason: count for reason, count in left_out.items() if count},
    )


def _beside(folder: Path, prompts: Path) -> Path:
    """The table of a folder that is called like a file of prompts, whatever its format."""
    name = prompts.name.partition(".")[0]
    found = sorted(file for file in folder.iterdir() if file.name.partition(".")[0] == name and read_format(file.name))
    return found[0] if len(found) == 1 else folder / f"{name}.jsonl"


def named_parallel(
    prompts: str | None, references: str | None, languages: Sequence[str], base: Path
) -> ParallelPrompts:
    """Reads the prompts that a person named, else those of the quickstart; see :func:`read_parallel`.

    Args:
        prompts: Path or ``shipped:NAME``; those of the quickstart if None.
        references: Path or ``shipped:NAME`` of translations; with the quickstart's prompts, its own if None.
        languages: Names or codes; all that are there if empty.
        base: Folder that relative paths start from.
    """
    if prompts is None:
        references = references or QUICKSTART_REFERENCES
    return read_parallel(
        resolve_path(prompts or QUICKSTART_PROMPTS, base),
        references=resolve_path(references, base) if references else None,
        languages=languages,
    )


def one_language(prompts: ParallelPrompts, language: str) -> ParallelPrompts:
    """The prompts in the first and one other language."""
    column = prompts.languages.index(language)
    return replace(
        prompts,
        languages=(prompts.languages[0], language),
        texts=tuple((texts[0], texts[column]) for texts in prompts.texts),
    )


def deal(prompts: ParallelPrompts) -> tuple[ParallelPrompts, ParallelPrompts]:
    """Prompts to work with and prompts to validate on, always the same ones: one in three of each label validates."""
    seen: Counter[str | None] = Counter()
    validation: list[int] = []
    others: list[int] = []
    for row, label in enumerate(prompts.labels):
        seen[label] += 1
        (others if seen[label] % VALIDATION_EVERY else validation).append(row)
    return _some(prompts, others), _some(prompts, validation)


def _some(prompts: ParallelPrompts, rows: Sequence[int]) -> ParallelPrompts:
    return replace(
        prompts,
        ids=tuple(prompts.ids[row] for row in rows),
        labels=tuple(prompts.labels[row] for row in rows),
        texts=tuple(prompts.texts[row] for row in rows),
    )


def choose_prompts(prompts: ParallelPrompts, limit: int | None) -> tuple[ParallelPrompts, tuple[str, ...]]:
    """Takes a part of the prompts, always the same: as many of each label as there are, spread over the file.

    Args:
        prompts: All of them.
        limit: How many at most; None = all.

    Returns:
        The chosen ones in the order of the file, and the languages that were left out because fewer than
        :data:`MIN_PROMPTS` of the chosen have a translation.

    Raises:
        UserError: No language but English is left.
    """
    chosen = sorted(_spread(prompts.labels, len(prompts.ids) if limit is None else limit))
    counts = prompts.mask[chosen].sum(axis=0)
    kept = [place for place, count in enumerate(counts) if count >= MIN_PROMPTS]
    if len(kept) < 2:
        raise UserError(
            f"No language has translations of {MIN_PROMPTS} of the {len(chosen)} chosen prompts: add translations, or "
            "take more prompts.",
            about="prompt limit",
        )
    part = _some(prompts, chosen)
    part = replace(
        part,
        languages=tuple(prompts.languages[place] for place in kept),
        texts=tuple(tuple(texts[place] for place in kept) for texts in part.texts),
    )
    return part, tuple(code for code in prompts.languages if code not in part.languages)


def _rows(path: Path) -> tuple[list[dict[str, Any]], Counter[str], int | None]:
    """Rows, those that were set aside by reason, and how many there are if their numbers are their ids."""
    if path.is_dir():
        return _training_rows(path), Counter(), None
    file = read_prompts(path, required=(), own=TRAINING_COLUMNS)
    return file.rows.to_pylist(), Counter(file.rejected["reason"].to_pylist()), row_ids(file.rows)


def _training_rows(folder: Path) -> list[dict[str, Any]]:
    place = folder / "dataset" if (folder / "dataset").is_dir() else folder
    if not (place / "dataset_info.json").is_file():
        raise UserError(
            f"The folder {str(folder)!r} holds no training set of the pipeline: give a prompt file, or a folder below "
            "artifacts/dataset of a workspace."
        )
    rows: list[dict[str, Any]] = read_saved(place).to_list()
    return rows


def _language_columns(rows: Sequence[Mapping[str, Any]], place: str) -> dict[str, str]:
    """Columns by NLLB code; empty for a training set, which names its languages in every row."""
    names = dict.fromkeys(name for row in rows for name in row)
    if names.keys() >= set(TRAINING_COLUMNS):
        return {}
    columns: dict[str, str] = {}
    for name in names:
        if not _names_a_language(name):
            continue
        code = resolve_language(name).code
        if code in columns:
            raise UserError(
                f"The prompts {place} have two columns for {code}, {columns[code]!r} and {name!r}: drop one."
            )
        columns[code] = name
    if ENGLISH not in columns and "prompt" in names:
        columns[ENGLISH] = "prompt"
    return columns


def _names_a_language(column: str) -> bool:
    if column == "id":  # also the tag of Indonesian
        return False
    # What looks like a code with a script or a region is one; "src" may be anything.
    known = _TAG.fullmatch(column) and any(column in language.names() for language in all_languages())
    return bool(known or looks_like_a_tag(column))


def _texts(row: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, str]:
    if columns:
        found = {code: row.get(name) for code, name in columns.items()}
    else:
        listed = {name: row.get(name) for name in TRAINING_COLUMNS}
        # Parquet files come with their lists as JSON.
        lists = {name: json.loads(value) if isinstance(value, str) else value or [] for name, value in listed.items()}
        triples = zip(lists["languages"], lists["variants"], lists["mask"], strict=True)
        found = {code: text for code, text, present in triples if present}
    return {code: text for code, text in found.items() if text and text.strip()}


def _wanted(found: set[str], languages: Sequence[str], place: str) -> tuple[str, ...]:
    if ENGLISH not in found:
        there = ", ".join(sorted(found)) or "none"
        raise UserError(
            f"The prompts {place} hold no English text (languages that are there: {there}): name the column of the "
            "English prompts eng_Latn, en or prompt."
        )
    others = tuple(sorted(found - {ENGLISH}))
    if not others:
        raise UserError(
            f"The prompts {place} are in English only: add a column for each other language, named by its code such as "
            "swh_Latn or sw, or name a file of translations.",
            about="references",
        )
    wanted = resolve_languages(languages) or others
    for code in wanted:
        if code not in found:
            raise UserError(f"The prompts {place} have no text in {code}: choose from {', '.join(others)}.")
    return (ENGLISH, *wanted)


def _spread(labels: Sequence[str | None], limit: int) -> list[int]:
    groups: dict[str | None, list[int]] = {}
    for row, label in enumerate(labels):
        groups.setdefault(label, []).append(row)
    chosen: list[int] = []
    waiting = sorted(groups.values(), key=len)
    for place, members in enumerate(waiting):
        # A small group leaves its share to the larger ones.
        count = min(len(members), (limit - len(chosen)) // (len(waiting) - place))
        chosen += [members[(2 * step + 1) * len(members) // (2 * count)] for step in range(count)]
    return chosen
