"""Where the data that ships with the project lies."""

from pathlib import Path

from mlc.choices import hint_among
from mlc.errors import UserError

SHIPPED_PREFIX = "shipped:"

_PACKAGE = Path(__file__).resolve().parent


def shipped_data(relative: str) -> Path:
    """Returns the path of a shipped data file or folder.

    In a checkout the data is the top-level folder ``data``; in an installed wheel it lies inside the package.

    Args:
        relative: Path below ``data``, with forward slashes.

    Raises:
        FileNotFoundError: There is no such shipped file.
    """
    for root in (_PACKAGE / "_data", _PACKAGE.parent / "data"):
        candidate = root / relative
        if candidate.exists():
            return candidate
    raise FileNotFoundError(f"No shipped data at {relative!r}.")


def resolve_path(location: str, base: Path) -> Path:
    """Turns a path from a configuration into a local path.

    Args:
        location: ``shipped:NAME`` for data of the project, else an ordinary path.
        base: Folder that relative paths start from.

    Raises:
        UserError: ``location`` names shipped data that does not exist.
    """
    if location.startswith(SHIPPED_PREFIX):
        name = location.removeprefix(SHIPPED_PREFIX)
        try:
            return shipped_data(name)
        except FileNotFoundError:
            names = [path.name for path in shipped_data(".").iterdir()]
            hint = hint_among(name, names, "give an ordinary path, or one of the names under data/.")
            raise UserError(f"There is no shipped data named {name!r}: {hint}") from None
    path = Path(location).expanduser()
    return path if path.is_absolute() else base / path
