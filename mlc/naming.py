"""Which texts of a table may stand in a message: names, never prompts."""

import re

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,39}")


def looks_like_a_name(text: str) -> bool:
    """Whether a text may be shown in a message as the name of a column or a label."""
    return _NAME.fullmatch(text) is not None
