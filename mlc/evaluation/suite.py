"""The held-out prompts, in English and in the languages that have human translations."""

import json
from pathlib import Path

import pyarrow as pa

from mlc.errors import UserError
from mlc.languages import ENGLISH
from mlc.prompts import LABELS, read_prompts

SPLITS = ("validation", "test")


def read_suite(validation: Path, test: Path, *, limit: int | None = None) -> pa.Table:
    """Reads the held-out prompts of both splits.

    Args:
        validation: Prompt file on which the English threshold is set.
        test: Prompt file that is reported.
        limit: Only the first prompts of each file.

    Returns:
        Columns ``id``, ``prompt``, ``label``, ``kind`` (the label where the file has no kind) and ``split``.

    Raises:
        UserError: A file cannot be read, lacks a class, or shares a prompt with the other one.
    """
    parts = []
    for split, path in zip(SPLITS, (validation, test), strict=True):
        rows = read_prompts(path, required=("prompt", "label")).rows.slice(0, limit)
        labels = set(rows["label"].to_pylist())
        if labels != set(LABELS):
            raise UserError(
                f"The {split} prompts {str(path)!r} hold only the label {', '.join(sorted(labels))}: "
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
    suite = pa.concat_tables(parts)
    for column in ("id", "prompt"):
        values = suite[column].to_pylist()
        if len(set(values)) < len(values):
            raise UserError(
                f"The validation prompts {str(validation)!r} and the test prompts {str(test)!r} share or repeat a "
                f"{column}: each must be there once, or the figures are not held out."
            )
    return suite


def reference_languages(folder: Path | None) -> frozenset[str]:
    """NLLB codes for which the folder of references holds a translation of every split; empty without a folder."""
    if folder is None or not folder.is_dir():
        return frozenset()
    found = []
    for split in SPLITS:
        path = folder / f"{split}.jsonl"
        if not path.is_file():
            return frozenset()
        with path.open(encoding="utf-8-sig") as handle:
            first = next((line for line in handle if line.strip()), "{}")
        try:
            found.append(frozenset(dict(json.loads(first))) - {"id", ENGLISH})
        except (ValueError, TypeError):
            raise UserError(
                f"The first line of {str(path)!r} is not a JSON object: write one with id and a column per language."
            ) from None
    return frozenset.intersection(*found)


def read_references(suite: pa.Table, folder: Path, language: str) -> pa.Table:
    """The suite with its prompts in another language.

    Args:
        suite: From :func:`read_suite`.
        folder: Folder of references, one JSON Lines file a split: ``id`` and one column per NLLB code.
        language: NLLB code.

    Raises:
        UserError: A prompt has no translation.
    """
    texts: dict[str, str] = {}
    for split in SPLITS:
        rows = read_prompts(folder / f"{split}.jsonl", required=("id", language)).rows
        texts.update(zip(rows["id"].to_pylist(), rows[language].to_pylist(), strict=True))
    ids = suite["id"].to_pylist()
    missing = [name for name in ids if name not in texts]
    if missing:
        raise UserError(
            f"The references in {str(folder)!r} lack {language} for {len(missing)} prompts, the first is "
            f"{missing[0]!r}: add them, or set evaluation.references to null for machine translation."
        )
    position = suite.schema.get_field_index("prompt")
    return suite.set_column(position, "prompt", pa.array([texts[name] for name in ids], pa.string()))
