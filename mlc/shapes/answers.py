"""Answers of a prompt in the languages of its variants, as a training set has them."""

ANSWERS = ("chosen", "rejected")
"""Columns that hold answers."""


def answer_column(name: str) -> str:
    """The column with an answer in each language, in the order of the variants of its prompt, empty where missing.

    Args:
        name: One of :data:`ANSWERS`.
    """
    return f"variant_{name}"
