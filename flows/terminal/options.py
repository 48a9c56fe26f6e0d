"""What people write on the command line."""

from collections.abc import Iterable


def words_of(items: Iterable[str]) -> list[str]:
    """The words of an option that may be repeated, and that may hold several words with commas between them."""
    return [word.strip() for item in items for word in item.split(",") if word.strip()]
