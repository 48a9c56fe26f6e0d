"""Conversations in a field: lists of messages, ShareGPT turns, transcripts; and what is the prompt and the answer."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from mlc.tables.rows import NO_TEXT, text_of

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
    """The prompt of a conversation, its last user turn, and why there is none."""
    asked, problem = _asked(turns)
    return ("", problem) if problem else text_of(asked[-1].content)


def history_in(turns: list[Turn]) -> tuple[list[dict[str, str]], str | None]:
    """What was said before the prompt of a conversation, and why it cannot be used; a blank system prompt is none."""
    asked, problem = _asked(turns)
    if problem:
        return [], problem
    history = []
    for turn in asked[:-1]:
        text, problem = text_of(turn.content)
        if turn.role == "system" and problem == NO_TEXT:
            continue
        if problem:
            return [], f"{problem} before the prompt"
        history.append({"role": turn.role, "content": text})
    return history, None


def answer_in(turns: list[Turn]) -> tuple[str, str | None]:
    """The answer at the end of a conversation, and why there is none; the prompt may stand elsewhere."""
    asked, problem = _asked(turns)
    if any(turn.role == "user" for turn in turns):
        if problem:
            return "", problem
        answers = turns[len(asked) :]
    else:
        answers = [turn for turn in turns if turn.role == "assistant"]
    if len(answers) > 1:
        return "", "several answers"
    if not answers or turns[-1] is not answers[0]:
        return "", "no answer"
    return text_of(answers[0].content)


def _asked(turns: list[Turn]) -> tuple[list[Turn], str | None]:
    """A conversation up to its last user turn, and what is wrong with it."""
    roles = [turn.role for turn in turns]
    if unknown := [role for role in roles if role not in ("system", "user", "assistant")]:
        return [], "a turn of a tool" if unknown[0] in ("tool", "function", "ipython") else "a turn of an unknown role"
    if "user" not in roles:
        return [], "no user turn"
    asked = turns[: len(roles) - roles[::-1].index("user")]
    said = [role for role in roles[: len(asked)] if role != "system"]
    if "system" in roles[1:]:
        return [], "a system prompt in the middle"
    if said[0] != "user":
        return [], "a turn before the first prompt"
    if any(first == second for first, second in pairwise(said)):
        return [], "two turns of one speaker in a row"
    return asked, None


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


def conversation_in(value: Any, *, transcripts: bool = False) -> list[Turn] | None:
    """The turns that a field holds, if it holds a conversation.

    Args:
        value: A text or a conversation.
        transcripts: Whether texts are transcripts of conversations.
    """
    return turns_of(value) or (transcript_turns(value) if transcripts else None)


def field_text(value: Any, role: str, *, transcripts: bool = False) -> tuple[str, str | None]:
    """The text that a field holds for a role, and what is wrong with it.

    Args:
        value: A text or a conversation.
        role: ``prompt``, or ``chosen`` or ``rejected`` for an answer; of other roles only texts are read.
        transcripts: Whether texts are transcripts of conversations.
    """
    if role == "label" and isinstance(value, bool):
        return str(value).lower(), None
    turns = conversation_in(value, transcripts=transcripts)
    if turns is None or role not in ("prompt", "chosen", "rejected"):
        text, problem = text_of(value)
        return text, "not a text" if transcripts and problem is None else problem
    return prompt_in(turns) if role == "prompt" else answer_in(turns)
