"""How much of a set of texts a translator has not translated yet, without loading it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mlc.translation.engines.protocol import identity_of
from mlc.translation.memory import parts_folder
from mlc.translation.sentences import has_sentences, split_texts


def new_texts(texts: Sequence[str], facts: Mapping[str, Any], root: Path, *, source: str, target: str) -> int:
    """Number of texts with a sentence that the translation memory does not know.

    Where the translator takes whole texts, these count.

    A sentence that the translator would cut because it is longer than it reads well counts as new, since only the
    translator's own tokenizer can tell.

    Args:
        texts: Texts in the source language.
        facts: Facts of the engine, see :func:`mlc.translation.identity.facts_of`.
        root: Folder of all translation memories; it may be missing, and nothing in it is changed.
        source: NLLB code of their language.
        target: NLLB code to translate into.
    """
    if facts["engine"] == "given":
        # What is looked up is not remembered.
        return sum(map(has_sentences, texts))
    known = _known(parts_folder(root, identity_of(facts), source, target))
    if facts["decoding"].get("unit") == "prompt":
        return sum(bool(text.strip()) and text not in known for text in texts)
    return sum(not known.issuperset(parts.sentences) for parts in split_texts(texts, source))


def _known(folder: Path) -> set[str]:
    found: set[str] = set()
    for path in folder.glob("[!.]*.parquet"):
        try:
            found.update(pq.read_table(path, columns=["sentence"])["sentence"].to_pylist())
        except (pa.ArrowException, OSError):  # damaged, or merged into another one meanwhile
            continue
    return found
