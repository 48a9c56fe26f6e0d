"""The translation memory: every sentence that was ever translated, so that none is translated twice.

Layout::

    <root>/<identity>/translator.json               what the identity stands for, for people
    <root>/<identity>/<source>/<target>/*.parquet    the parts, append-only, one row a sentence
    <root>/<identity>/<source>/<target>/damaged/     parts that could not be read

A part becomes visible only when it is complete and on the disk, so that a process may be killed at any moment, and
several may write at once.
"""

import contextlib
import json
import logging
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlc.errors import UserError
from mlc.store.drafts import DRAFTS, draft_file
from mlc.store.hashing import canonical_json
from mlc.store.locks import lock_if_free
from mlc.translation.engines.protocol import Batch, SentenceTranslation

MEMORY_FOLDER = "memory"
"""Name of the folder of all memories. What is in it decides how long a translation takes, and nothing else."""
MERGE_AT = 64
"""Number of small parts at which they are merged into one."""
SMALL_PART = 50_000
"""Rows below which a part counts as small."""
ABANDONED_SECONDS = 24 * 3600.0
"""Age at which an unfinished file is taken for one of a process that was killed."""

SCHEMA = pa.schema(
    [
        ("sentence", pa.string()),
        ("text", pa.string()),
        ("logprob_sum", pa.float64()),
        ("tokens", pa.int64()),
        ("finished", pa.bool_()),
        ("refusal", pa.string()),
    ]
)
_BEFORE_REFUSALS = pa.schema(list(SCHEMA)[:-1])
"""Of the parts of earlier releases."""
_REPLACES = b"mlc.replaces"
_IDENTITY_LENGTH = 32

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Part:
    name: str
    table: pa.Table

    @property
    def replaces(self) -> frozenset[str]:
        """Names of the parts whose rows this one holds too."""
        return frozenset(json.loads((self.table.schema.metadata or {}).get(_REPLACES, b"[]")))


class TranslationMemory:
    """What one translator has translated so far.

    Args:
        root: Folder of all memories.
        identity: Identity of the translator, see :class:`mlc.translation.engines.protocol.Engine`.
        facts: What the identity is made of.

    Raises:
        UserError: The folder cannot be made or written.
    """

    def __init__(self, root: Path, identity: str, facts: Mapping[str, Any]) -> None:
        self.folder = memory_folder(root, identity)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not (self.folder / "translator.json").exists():
                text = json.dumps({"identity": identity, **facts}, indent=1, ensure_ascii=False, sort_keys=True)
                with draft_file(self.folder / "translator.json") as draft:
                    draft.write_text(text, encoding="utf-8")
        except OSError as error:
            raise UserError(
                f"The translation memory {str(root)!r} cannot be written ({error.strerror or error}): "
                "name another folder, or change its permissions."
            ) from None

    def lookup(self, sentences: Iterable[str], *, source: str, target: str) -> Batch:
        """Translations of those sentences that are known.

        Args:
            sentences: Sentences in the source language.
            source: NLLB code.
            target: NLLB code.
        """
        folder = self._parts_folder(source, target)
        wanted = pa.array(list(dict.fromkeys(sentences)), pa.string())
        if not len(wanted) or not folder.is_dir():
            return {}
        if len(_part_names(folder)) > MERGE_AT:
            self._merge(folder)
        found: Batch = {}
        for part in _intact_parts(folder):
            table = part.table.filter(pc.is_in(part.table["sentence"], value_set=wanted))
            columns = (table[name].to_pylist() for name in SCHEMA.names)
            for sentence, *row in zip(*columns, strict=True):
                found.setdefault(sentence, SentenceTranslation(*row))
        return found

    def store(self, batch: Batch, *, source: str, target: str) -> None:
        """Adds translations, on the disk when this returns.

        Args:
            batch: Translations by sentence.
            source: NLLB code.
            target: NLLB code.
        """
        if not batch:
            return
        folder = self._parts_folder(source, target)
        folder.mkdir(parents=True, exist_ok=True)
        rows = list(batch.values())
        columns = [list(batch), *([getattr(row, name) for row in rows] for name in SCHEMA.names[1:])]
        _write_part(folder, pa.table(columns, schema=SCHEMA))

    def rows(self, *, source: str, target: str) -> int:
        """Number of sentences that are known."""
        folder = self._parts_folder(source, target)
        seen: set[str] = set()
        for part in _intact_parts(folder) if folder.is_dir() else ():
            seen.update(part.table["sentence"].to_pylist())
        return len(seen)

    def _parts_folder(self, source: str, target: str) -> Path:
        return self.folder / source / target

    def _merge(self, folder: Path) -> None:
        """Makes one part of many small ones; whoever reads meanwhile sees each sentence once."""
        with lock_if_free(folder / ".lock") as alone:
            if not alone:
                return
            parts = _intact_parts(folder)
            small = [part for part in parts if len(part.table) < SMALL_PART]
            if len(small) > 1:
                merged = _distinct(pa.concat_tables([part.table.replace_schema_metadata() for part in small]))
                _write_part(folder, merged, replaces=[part.name for part in small])
                for part in small:
                    (folder / part.name).unlink(missing_ok=True)
            for path in folder.glob(DRAFTS):
                with contextlib.suppress(FileNotFoundError):
                    if time.time() - path.stat().st_mtime > ABANDONED_SECONDS:
                        path.unlink()


def memory_folder(root: Path, identity: str) -> Path:
    """Where the memory of one translator lies.

    Args:
        root: Folder of all memories.
        identity: Identity of the translator.
    """
    return root / identity[:_IDENTITY_LENGTH]


def parts_folder(root: Path, identity: str, source: str, target: str) -> Path:
    """Where the parts of one translator and pair of languages lie."""
    return memory_folder(root, identity) / source / target


def _part_names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.suffix == ".parquet" and not path.name.startswith(".")}


def _intact_parts(folder: Path) -> list[_Part]:
    """Parts that can be read and are not replaced by another, oldest first.

    Damaged ones are set aside, and replaced ones, which a merge that was killed has left, are removed.
    """
    while True:
        try:
            parts = [part for name in sorted(_part_names(folder)) if (part := _read(folder / name))]
        except FileNotFoundError:  # another process has merged it meanwhile
            continue
        replaced = frozenset().union(*(part.replaces for part in parts))
        for name in replaced:
            (folder / name).unlink(missing_ok=True)
        return [part for part in parts if part.name not in replaced]


def _read(path: Path) -> _Part | None:
    try:
        table = pq.read_table(path, page_checksum_verification=True, use_threads=False, memory_map=False)
        if table.schema.equals(_BEFORE_REFUSALS):
            table = table.append_column(SCHEMA.field("refusal"), pa.nulls(len(table), pa.string()))
        if not table.schema.equals(SCHEMA):
            raise ValueError("it has other columns")
        return _Part(path.name, table)
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, ValueError) as problem:
        aside = path.parent / "damaged"
        # What Arrow says of a broken file can hold pieces of it, and so of a prompt.
        logger.warning(
            "The part %s of the translation memory is damaged (%s); it is set aside, and its sentences are "
            "translated again.", path.name, type(problem).__name__,
        )  # fmt: skip
        aside.mkdir(exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # another process set it aside first
            path.rename(aside / path.name)
        return None


def _distinct(table: pa.Table) -> pa.Table:
    """The first row of each sentence."""
    first: dict[str, int] = {}
    for index, sentence in enumerate(table["sentence"].to_pylist()):
        first.setdefault(sentence, index)
    return table.take(pa.array(first.values(), pa.int64())) if len(first) < len(table) else table


def _write_part(folder: Path, table: pa.Table, replaces: Sequence[str] = ()) -> None:
    if replaces:
        table = table.replace_schema_metadata({_REPLACES: canonical_json(list(replaces))})
    name = f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.parquet"
    with draft_file(folder / name) as draft:
        pq.write_table(table, draft, write_page_checksum=True)
