"""Prompts, translations and answers in the terminal: shown as they are, on one line, and able to do nothing."""

import unicodedata

from rich.cells import cell_len, set_cell_size

_ISOLATE, _END = "\u2068", "\u2069"
_JOINERS = "\u200c\u200d"
"""Invisible, and needed to write Persian and the languages of India."""
_MORE = "…"
_UNSEEN = {"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"}


def escaped(text: str) -> str:
    """A text whose controls, marks of direction and other invisible characters are written out."""
    return "".join(_written_out(letter) for letter in text)


def one_line(text: str, width: int | None) -> str:
    """A text for one line of a terminal.

    Args:
        text: Any text.
        width: Cells that it may take; None for all of it.

    Returns:
        The text, escaped and cut; one with letters from right to left inside marks that keep its direction off the rest
        of the line.
    """
    shown = escaped(text)
    if width is not None and cell_len(shown) > width:
        shown = set_cell_size(shown, width - 1).rstrip() + _MORE
    if any(unicodedata.bidirectional(letter) in ("R", "AL", "AN") for letter in shown):
        return f"{_ISOLATE}{shown}{_END}"
    return shown


def _written_out(letter: str) -> str:
    if letter == "\\" or (unicodedata.category(letter) in _UNSEEN and letter not in _JOINERS):
        return letter.encode("unicode_escape").decode("ascii")
    return letter
