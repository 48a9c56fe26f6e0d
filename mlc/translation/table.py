"""The columns of a table of translations, wherever one is written."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
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


def as_one(parts: "Sequence[Translation]") -> "Translation":
    """What is told of the turns of a conversation, with the text of the last one; without it if one has none.

    Args:
        parts: Translations of the turns, at least one.
    """
    *_, last = parts
    if len(parts) == 1:
        return last
    scored = [part.logprob for part in parts]
    sums = [sum(value or 0.0 for value in part.logprobs) for part in parts]
    tokens = sum(total / mean for total, mean in zip(sums, scored, strict=True) if mean)
    logprob = None if None in scored else sum(sums) / tokens if tokens else 0.0
    return replace(
        last,
        text=last.text if all(part.text for part in parts) else "",
        logprob=logprob,
        finished=all(part.finished for part in parts),
        sentences_in=sum(part.sentences_in for part in parts),
        sentences_out=sum(part.sentences_out for part in parts),
        logprobs=tuple(value for part in parts for value in part.logprobs),
        lost=tuple(dict.fromkeys(kind for part in parts for kind in part.lost)),
        repaired=sum(part.repaired for part in parts),
        refusal=next((part.refusal for part in parts if part.refusal), None),
    )


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
