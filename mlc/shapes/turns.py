"""Conversations in a field: lists of messages, ShareGPT turns, transcripts; and the one prompt or answer in them."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlc.tables.rows import text_of

_ROLES = {
    "human": "user",
    "user": "user",
    "prompter": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "assistant": "assistant",
    "system": "system",
    "developer": "system",
}
_KEYS = (("role", "content"), ("from", "value"), ("role", "text"))
"""Under which keys messages name the speaker and the text."""
_SPEAKER = re.compile(r"(?:^|\n\n)(Human|Assistant):")


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation."""

    role: str
    """``user``, ``assistant``, ``system`` or something else, such as ``tool``."""
    content: Any
    """What is said; a text, or something that cannot be used."""


def turns_of(value: Any) -> list[Turn] | None:
    """The turns of a conversation; None if a value is none."""
    if isinstance(value, str) and value.lstrip().startswith("[{"):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    if not isinstance(value, list) or not value:
        return None
    turns = [_turn(item) for item in value]
    return None if None in turns else [turn for turn in turns if turn is not None]


def transcript_turns(value: Any) -> list[Turn] | None:
    """The turns of a transcript with ``Human:`` and ``Assistant:``; None if a value is none."""
    if not isinstance(value, str) or not value.lstrip().startswith("Human:"):
        return None
    parts = _SPEAKER.split("\n\n" + value.strip())[1:]
    speakers, texts = parts[0::2], parts[1::2]
    return [Turn(_ROLES[speaker.casefold()], text.strip()) for speaker, text in zip(speakers, texts, strict=True)]


def prompt_in(turns: list[Turn]) -> tuple[str, str | None]:
    """The prompt of a conversation, and why there is none that stands by itself."""
    if problem := _not_alone(turns):
        return "", problem
    return text_of(next(turn.content for turn in turns if turn.role == "user"))


def answer_in(turns: list[Turn]) -> tuple[str, str | None]:
    """The answer to the one prompt of a conversation, and why there is none; the prompt may stand elsewhere."""
    asked = any(turn.role == "user" for turn in turns)
    if asked and (problem := _not_alone(turns)):
        return "", problem
    answers = [turn for turn in turns if turn.role == "assistant"]
    if len(answers) > 1:
        return "", "several answers"
    if not answers or turns[-1] is not answers[0]:
        return "", "no answer"
    return text_of(answers[0].content)


def _not_alone(turns: list[Turn]) -> str | None:
    roles = [turn.role for turn in turns]
    # What was said before would be lost, and with it what the prompt means.
    if "system" in roles:
        return "a system prompt"
    if unknown := [role for role in roles if role not in ("user", "assistant")]:
        return "a turn of a tool" if unknown[0] in ("tool", "function", "ipython") else "a turn of an unknown role"
    if roles.count("user") != 1:
        return "several user turns" if "user" in roles else "no user turn"
    return "a turn before the prompt" if roles[0] != "user" else None


def _turn(item: Any) -> Turn | None:
    if not isinstance(item, Mapping):
        return None
    for speaker, text in _KEYS:
        if isinstance(item.get(speaker), str) and text in item:
            role = item[speaker].casefold()
            return Turn(_ROLES.get(role, role), _content(item[text]))
    return None


def _content(value: Any) -> Any:
    """A text from its parts, if all of them are text."""
    if not isinstance(value, list):
        return value
    parts = [part.get("text") if isinstance(part, Mapping) else part for part in value]
    texts = [part for part in parts if isinstance(part, str)]
    return "".join(texts) if texts and len(texts) == len(parts) else value


def field_text(value: Any, role: str, *, transcripts: bool = False) -> tuple[str, str | None]:
    """The text that a field holds for a role, and what is wrong with it.

    Args:
        value: A text or a conversation.
        role: ``prompt``, or ``chosen`` or ``rejected`` for an answer; of other roles only texts are read.
        transcripts: Whether texts are transcripts of conversations.
    """
    if role == "label" and isinstance(value, bool):
        return str(value).lower(), None
    turns = turns_of(value) or (transcript_turns(value) if transcripts else None)
    if turns is None or role not in ("prompt", "chosen", "rejected"):
        text, problem = text_of(value)
        return text, "not a text" if transcripts and problem is None else problem
    return prompt_in(turns) if role == "prompt" else answer_in(turns)
