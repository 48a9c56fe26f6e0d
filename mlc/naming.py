"""Which texts of a table may stand in a message: names, never prompts."""

import re

_LETTER = r"A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f"
"""Of alphabets that write spaces between words, so that a text of one word is no sentence."""
_NAME = re.compile(rf"[{_LETTER}_][{_LETTER}0-9_.-]{{0,39}}")


def key_in(section: str, name: str) -> str:
    """What messages call a setting: by its section, if it has one."""
    return f"{section}.{name}" if section else name


def looks_like_a_name(text: str) -> bool:
    """Whether a text may be shown in a message as the name of a column or a label."""
    return _NAME.fullmatch(text) is not None
