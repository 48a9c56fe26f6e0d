"""Writes the table of docs/methods.md from the methods themselves: `python -m tests.docs.make_methods`."""

from pathlib import Path

from mlc.catalogue import METHODS
from mlc.methods import BASE, resolve_method

PAGE = Path(__file__).parents[2] / "docs" / "methods.md"
_HEAD = "|---|---|---|---|---|---|\n"


def table() -> str:
    """One line a method."""
    lines = []
    for method in map(resolve_method, METHODS.places):
        controls = ", ".join(f"`{name}`" for name in method.controls) or "–"
        places = (f"`{name}`" if name != BASE else "the policy" for name in (method.start, method.baseline))
        cells = (f"`{method.name}`", method.about, ", ".join(sorted(method.needs)), *places, controls)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def page(text: str) -> str:
    """The page with the table as it should be."""
    before, rest = text.split(_HEAD, 1)
    after = rest.split("\n\n", 1)[1] if "\n\n" in rest else ""
    return f"{before}{_HEAD}{table()}\n{after}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
