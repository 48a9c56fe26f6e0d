"""What was said before a prompt: a system prompt and earlier turns, kept beside it in every table.

A table of prompts with such conversations has a column ``turns`` beside ``prompt``, which is the last user turn alone:
the turns before it as JSON, a list of objects with ``role`` (``system``, ``user`` or ``assistant``) and ``content``;
NULL for a prompt that stands by itself. A table of prompts that all do has no such column.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

TURNS = "turns"
SOURCE_TURNS = "source_turns"
"""In a table of translations, the turns in the language that was translated from."""
VARIANT_TURNS = "variant_turns"
"""In a training set, the turns before each variant of a prompt."""
Message = Mapping[str, str]
Prompt = str | Sequence[Message]
"""A person's text, or messages with ``role`` and ``content`` that end with one of the person."""


def written(messages: Sequence[Message]) -> str | None:
    """Earlier turns as the column has them."""
    return json.dumps(list(messages), ensure_ascii=False) if messages else None


def earlier(turns: str | None) -> list[dict[str, str]]:
    """The turns before a prompt."""
    found: list[dict[str, str]] = json.loads(turns) if turns else []
    return found


def conversation(prompt: str, turns: str | None) -> Prompt:
    """A prompt as a policy is asked: the text alone, or with what was said before it."""
    return [*earlier(turns), {"role": "user", "content": prompt}] if turns else prompt


def as_messages(prompt: Prompt) -> list[Message]:
    """A prompt as messages."""
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)


def last_text(prompt: Prompt) -> str:
    """What the person says at the end of a prompt."""
    return prompt if isinstance(prompt, str) else prompt[-1]["content"]


def whole_text(prompt: Prompt) -> str:
    """All that is said in a prompt, a blank line between turns."""
    return "\n\n".join(message["content"] for message in as_messages(prompt))


def mapped_texts(prompts: Sequence[Prompt], change: Callable[[list[str]], list[str]]) -> list[Prompt]:
    """Prompts with other texts, each with its role.

    Args:
        prompts: Texts or messages.
        change: Makes of all texts, in order, as many others.
    """
    changed = iter(change([message["content"] for prompt in prompts for message in as_messages(prompt)]))
    return [
        next(changed) if isinstance(prompt, str) else [{**message, "content": next(changed)} for message in prompt]
        for prompt in prompts
    ]


def texts_in(prompt: str, turns: str | None) -> list[str]:
    """All that is said, the prompt last."""
    return [*(message["content"] for message in earlier(turns)), prompt]


def retold(turns: str | None, texts: Iterable[str]) -> str | None:
    """Earlier turns with other texts, each with its role."""
    return written([{**message, "content": text} for message, text in zip(earlier(turns), texts, strict=True)])


def speakers(turns: str | None) -> list[str]:
    """Roles of earlier turns, in order."""
    return [message["role"] for message in earlier(turns)]


def turns_in(rows: pa.Table) -> list[str | None]:
    """The column of a table; NULLs where it has none."""
    found: list[str | None] = rows[TURNS].to_pylist() if TURNS in rows.column_names else [None] * len(rows)
    return found


def with_turns(rows: pa.Table, turns: Sequence[str | None]) -> pa.Table:
    """A table with the column at its end, if any row has earlier turns."""
    bare = rows.drop_columns([TURNS]) if TURNS in rows.column_names else rows
    return bare.append_column(TURNS, pa.array(turns, pa.string())) if any(turns) else bare


def whole_texts(rows: pa.Table, column: str, turns: str = TURNS) -> list[Any]:
    """The texts of a column, each with what was said before it, a blank line between turns.

    Args:
        rows: A table.
        column: Its column of texts; NULL stays.
        turns: Its column of turns in the same language; it may be missing.
    """
    texts: list[Any] = rows[column].to_pylist()
    if turns not in rows.column_names:
        return texts
    said = zip(texts, rows[turns].to_pylist(), strict=True)
    return [text and whole_text(conversation(text, before)) for text, before in said]


def variants_of(row: Mapping[str, Any]) -> list[tuple[str, str | None]]:
    """The texts of a row of a training set, one a language, the anchor's first, each with what was said before it."""
    texts = row["variants"]
    return list(zip(texts, row.get(VARIANT_TURNS) or [row.get(TURNS), *[None] * (len(texts) - 1)], strict=True))
