"""The columns of a table of translations, wherever one is written."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from mlc.store.hashing import canonical_json

if TYPE_CHECKING:
    from mlc.translation.translator import Translation

SCHEMA = pa.schema(
    [
        ("source", pa.string()),
        ("translation", pa.string()),
        ("source_language", pa.string()),
        ("target_language", pa.string()),
        ("logprob", pa.float64()),
        ("finished", pa.bool_()),
        ("sentences_in", pa.int64()),
        ("sentences_out", pa.int64()),
        ("sentence_logprobs", pa.list_(pa.float64())),
        ("lost", pa.list_(pa.string())),
        ("repaired", pa.int64()),
        ("refusal", pa.string()),
        ("translator", pa.string()),
        ("decoding", pa.string()),
    ]
)
"""Beside the id of the text; ``logprob`` is a mean per token, ``refusal`` says why there is no translation,
``translator`` is the engine and the identity of its model, ``decoding`` its settings as JSON."""


def made_by(facts: Mapping[str, Any]) -> dict[str, str]:
    """The columns that are the same in every row.

    Args:
        facts: Of the translator: engine, model and decoding settings.
    """
    return {"translator": f"{facts['engine']}:{facts['model']}", "decoding": canonical_json(facts["decoding"])}


def row_of(text: str, done: "Translation", *, source: str, target: str) -> dict[str, Any]:
    """The row of one text, without the columns of :func:`made_by`.

    Args:
        text: The text.
        done: Its translation.
        source: NLLB code of the text's language.
        target: NLLB code of the translation's language.
    """
    return {
        "source": text,
        "translation": done.text,
        "source_language": source,
        "target_language": target,
        "logprob": done.logprob,
        "finished": done.finished,
        "sentences_in": done.sentences_in,
        "sentences_out": done.sentences_out,
        "sentence_logprobs": list(done.logprobs),
        "lost": list(done.lost),
        "repaired": done.repaired,
        "refusal": done.refusal,
    }
