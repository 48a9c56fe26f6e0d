"""What people said of answers: ``good`` or ``bad``, however a table writes it."""

FEEDBACK = "feedback"
"""Column that holds it."""
GOOD, BAD = "good", "bad"
_KNOWN = {
    **dict.fromkeys((GOOD, "true", "1", "+1", "yes", "up", "thumbs up", "positive", "like", "liked", "👍"), GOOD),
    **dict.fromkeys(
        (BAD, "false", "0", "-1", "no", "down", "thumbs down", "negative", "dislike", "disliked", "👎"), BAD
    ),
}


def feedback_of(value: object, *, says_bad: bool = False) -> str | None:
    """``good`` or ``bad``; None for what is neither.

    Args:
        value: What a table writes.
        says_bad: Whether its column says that an answer is bad, so that true means bad.
    """
    said = _KNOWN.get(str(value).strip().casefold().removesuffix(".0").replace("_", " "))
    if not says_bad or said is None or str(value).strip().casefold() in (GOOD, BAD):
        return said
    return BAD if said == GOOD else GOOD
