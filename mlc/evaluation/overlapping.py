"""Finding the prompts that are there twice, in training and held out."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from mlc.evaluation.overlap import BETWEEN, WITHIN, Overlap
from mlc.evaluation.settings import SPLITS
from mlc.shapes.history import whole_texts
from mlc.shapes.repeats import Repeat, kinds_in, repeats_of, repeats_within, with_both_labels

SHOWN_IDS = 3


def find_overlaps(training: pa.Table, suite: pa.Table) -> list[Overlap]:
    """Counts prompts that are there twice.

    Args:
        training: Training prompts, with ``id`` and ``prompt``.
        suite: Held-out prompts of :func:`mlc.evaluation.suite.read_suite`.

    Returns:
        One for each split, one between the splits, and one within the training prompts.
    """
    known = texts_of(training)
    parts = {split: suite.filter(pc.equal(suite["split"], split)) for split in SPLITS}
    texts = {split: texts_of(part) for split, part in parts.items()}
    found = [_counted(split, parts[split], repeats_of(texts[split], known), training) for split in SPLITS]
    first, second = SPLITS
    found.append(_counted(BETWEEN, parts[second], repeats_of(texts[second], texts[first]), parts[first]))
    return [*found, _counted(WITHIN, training, repeats_within(known))]


def held_out_rows(training: pa.Table, suite: pa.Table) -> list[int]:
    """Places of the training prompts that are held-out prompts."""
    return [repeat.place for repeat in repeats_of(texts_of(training), texts_of(suite))]


def texts_of(prompts: pa.Table) -> list[str]:
    """What is compared of prompts: each with what was said before it."""
    return whole_texts(prompts, "prompt")


def _counted(where: str, rows: pa.Table, repeats: Sequence[Repeat], known: pa.Table | None = None) -> Overlap:
    others = () if known is None else _labels(known)
    both = with_both_labels(repeats, _labels(rows), others) if repeats else 0
    ids = [rows["id"][repeat.place].as_py() for repeat in repeats[:SHOWN_IDS]]
    return Overlap(where, len(rows), kinds_in(repeats), ids, both)


def _labels(rows: pa.Table) -> list[str | None]:
    found: list[str | None] = rows["label"].to_pylist() if "label" in rows.column_names else [None] * len(rows)
    return found
