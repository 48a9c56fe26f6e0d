"""The held-out prompts, in English and in the languages that have human translations."""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import pyarrow as pa

from mlc.errors import UserError
from mlc.evaluation.settings import SPLITS, EvaluationSettings
from mlc.languages import ENGLISH, looks_like_a_tag, resolve_language
from mlc.prompts import LABELS, PromptFile, meaning_of, read_beside, read_prompts
from mlc.shapes.history import TURNS, earlier, turns_in, whole_texts, with_turns, written
from mlc.shapes.labels import first_of_each
from mlc.shapes.row_ids import require_like_ids, row_ids, with_row_ids
from mlc.shapes.turns import conversation_in, history_in, prompt_in
from mlc.shipped import resolve_path
from mlc.tables import TABLE_ENDINGS, TableFile, columns_in_words, is_remote
from mlc.tables.formats import read_format

SECTION = "evaluation"
"""Section of the configuration that has the suite's columns and labels."""


def read_suite(
    validation: Path | str,
    test: Path | str,
    *,
    limit: int | None = None,
    columns: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    on_read: Callable[[str, PromptFile], None] | None = None,
) -> pa.Table:
    """Reads the held-out prompts of both splits.

    Args:
        validation: Prompt file on which the English threshold is set.
        test: Prompt file that is reported.
        limit: Only so many prompts of each file: the first ones of each label, as many of each as there are.
        columns: Columns of the files by role, see :func:`mlc.prompts.read_prompts`.
        labels: ``harmful`` or ``harmless`` by what the files write.
        on_read: Called with each split and its file as it was read, for the rows that were set aside.

    Returns:
        Columns ``id``, ``prompt``, ``label``, ``kind`` (the label where the file has no kind) and ``split``; ``turns``
        where any prompt has a system prompt or earlier turns.

    Raises:
        UserError: A file cannot be read, lacks a class, or shares a prompt with the other one.
    """
    parts = []
    turns: list[str | None] = []
    numbered: dict[str, int] = {}
    for split, path in zip(SPLITS, (validation, test), strict=True):
        file = read_prompts(path, required=("prompt", "label"), columns=columns, labels=labels, section=SECTION)
        if on_read:
            on_read(split, file)
        rows = file.rows.take(first_of_each(file.rows["label"].to_pylist(), limit))
        turns += turns_in(rows)
        if (count := row_ids(file.rows)) is not None:
            numbered[split] = count
        found = set(rows["label"].to_pylist())
        if found != set(LABELS):
            raise UserError(
                f"The {split} prompts {str(path)!r} hold only the label {', '.join(sorted(found))}: "
                "both harmful and harmless prompts are needed to measure refusal and over-refusal."
            )
        kind = rows["kind"] if "kind" in rows.column_names else rows["label"]
        parts.append(
            pa.table(
                {
                    "id": rows["id"],
                    "prompt": rows["prompt"],
                    "label": rows["label"],
                    "kind": kind,
                    "split": pa.array([split] * len(rows)),
                }
            )
        )
    suite = with_turns(pa.concat_tables(parts), turns)
    for column, values in (("id", suite["id"].to_pylist()), ("prompt", whole_texts(suite, "prompt"))):
        if len(set(values)) < len(values):
            raise UserError(
                f"The validation prompts {str(validation)!r} and the test prompts {str(test)!r} share or repeat a "
                f"{column}: each must be there once, or the figures are not held out."
            )
    for split, count in numbered.items():
        suite = with_row_ids(suite, count, split)
    return suite


def held_out_prompts(settings: EvaluationSettings, base: Path) -> dict[str, list[str]]:
    """The held-out prompts by split, whatever the limit.

    Args:
        settings: Names the files.
        base: Folder that relative paths start from.

    Raises:
        UserError: A file cannot be read.
    """
    places = {"validation": settings.validation, "test": settings.test}
    return {
        split: read_prompts(
            location if is_remote(location) else resolve_path(location, base),
            **meaning_of(settings),
            section=SECTION,
        )
        .rows["prompt"]
        .to_pylist()
        for split, location in places.items()
    }


def reference_languages(folder: Path | None, wanted: Collection[str] = (), *, anchor: str = ENGLISH) -> frozenset[str]:
    """The languages for which a folder of references holds a translation of every split; none without a folder.

    Args:
        folder: Has one table a split, ``validation`` and ``test``, in any format: ``id`` and a column for each
            language, named by its NLLB code or by a tag such as ``es`` or ``es-419``.
        wanted: NLLB codes that must not be in one split alone.
        anchor: NLLB code of the prompts' own language.

    Returns:
        NLLB codes.

    Raises:
        UserError: The folder or one of its tables is not there, cannot be read, or names no language.
    """
    if folder is None:
        return frozenset()
    found = {split: frozenset(_language_columns(_reference_file(folder, split), anchor)) - {anchor} for split in SPLITS}
    for code in sorted(wanted):
        splits = [split for split in SPLITS if code in found[split]]
        if len(splits) == 1:
            raise UserError(
                f"The references in {str(folder)!r} have {code} for the {splits[0]} prompts only: add it to the other "
                "split, or take it out."
            )
    return frozenset.intersection(*found.values())


def _reference_file(folder: Path, split: str) -> TableFile:
    if not folder.is_dir():
        raise UserError(
            f"The folder of references {str(folder)!r} does not exist: correct evaluation.references, or set it to "
            "null for machine translation."
        )
    files = sorted(
        path for path in folder.iterdir() if path.name.lower().partition(".")[0] == split and read_format(path.name)
    )
    if len(files) != 1:
        there = "no table" if not files else f"{len(files)} tables ({', '.join(file.name for file in files)})"
        raise UserError(
            f"The folder of references {str(folder)!r} holds {there} for the split {split}: give one, such as "
            f"{split}.jsonl, with id and a column for each language."
        )
    return TableFile(files[0], formats=TABLE_ENDINGS, what="file of references")


def _language_columns(file: TableFile, anchor: str) -> dict[str, str]:
    """Columns of a file of references by NLLB code."""
    columns: dict[str, str] = {}
    for name in file.columns:
        if name in ("id", "prompt", "label", "kind"):  # `id` is also the tag of Indonesian
            continue
        try:
            code = resolve_language(name).code
        except UserError:
            # What looks like a tag is one, so that a mistyped one is an error; "source" may be anything.
            if looks_like_a_tag(name):
                raise
            continue
        if code in columns:
            raise UserError(
                f"The {file.what} {file.location!r} has two columns for {code}, {columns[code]!r} and {name!r}: drop "
                "one."
            )
        columns[code] = name
    if not columns.keys() - {anchor}:
        raise UserError(
            f"The {file.what} {file.location!r} names no language ({columns_in_words(file.columns)}): call the columns "
            "by codes such as spa_Latn or es, or set evaluation.references to null for machine translation."
        )
    return columns


def read_references(
    suite: pa.Table,
    folder: Path,
    language: str,
    *,
    anchor: str = ENGLISH,
    columns: Mapping[str, str] = MappingProxyType({}),
    labels: Mapping[str, str] = MappingProxyType({}),
) -> pa.Table:
    """The suite with its prompts in another language.

    Args:
        suite: From :func:`read_suite`.
        folder: Folder of references, see :func:`reference_languages`.
        language: NLLB code.
        anchor: NLLB code of the prompts' own language.
        columns: As of :func:`read_suite`, where the references have the same.
        labels: As there.

    Raises:
        UserError: A prompt has no translation, or of prompts and references one alone has ids.
    """
    talks = TURNS in suite.column_names
    texts: dict[str, str] = {}
    for split in SPLITS:
        file = _reference_file(folder, split)
        texts_in = _language_columns(file, anchor)
        if language not in texts_in:
            raise UserError(
                f"The {file.what} {file.location!r} has no column {language!r} ({columns_in_words(file.columns)}): add "
                "it, or set evaluation.references to null for machine translation."
            )
        column = texts_in[language]
        rows = read_beside(file.location, required=("id", column), columns=columns, labels=labels, section=SECTION).rows
        names = f"{split} prompts", f"references {file.location!r}"
        require_like_ids(row_ids(suite, split), row_ids(rows), names)
        texts.update(zip(rows["id"].to_pylist(), rows[column].to_pylist(), strict=True))
    ids = suite["id"].to_pylist()
    missing = [name for name in ids if name not in texts]
    if missing:
        raise UserError(
            f"The references in {str(folder)!r} lack {language} for {len(missing)} prompts, the first is "
            f"{missing[0]!r}: add them, or set evaluation.references to null for machine translation."
        )
    if not talks:
        return _with_prompts(suite, [texts[name] for name in ids])
    found = [_talk_in(texts[name]) for name in ids]
    roles = [[message["role"] for message in earlier(turns)] for turns in turns_in(suite)]
    for name, wanted, (_, history) in zip(ids, roles, found, strict=True):
        if [message["role"] for message in history] != wanted:
            raise UserError(
                f"The references in {str(folder)!r} have other turns in {language} than the prompt {name!r}: give the "
                "whole conversation as a list of messages, or set evaluation.references to null for machine "
                "translation."
            )
    return with_turns(_with_prompts(suite, [text for text, _ in found]), [written(history) for _, history in found])


def _with_prompts(suite: pa.Table, texts: Sequence[str]) -> pa.Table:
    return suite.set_column(suite.schema.get_field_index("prompt"), "prompt", pa.array(texts, pa.string()))


def _talk_in(text: str) -> tuple[str, list[dict[str, str]]]:
    """The prompt of a reference, and what was said before it."""
    turns = conversation_in(text)
    return (prompt_in(turns)[0], history_in(turns)[0]) if turns else (text, [])
