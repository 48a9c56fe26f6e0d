"""How guards are asked, and what."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["chat", "text", "yes", "classifier"]
"""How a guard is asked: with messages, which its chat template makes a text of; with a whole text; with messages after
which the likelihood of Yes against No is read; or as a classifier of one text."""


@dataclass(frozen=True)
class Asked:
    """What a guard is asked once."""

    messages: tuple[Mapping[str, str], ...] = ()
    text: str = ""
    """In place of messages."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """Variables for the chat template."""

    @property
    def plain(self) -> dict[str, Any]:
        """As plain data."""
        return {"messages": list(self.messages), "text": self.text, "values": dict(self.values)}
