"""What people said of answers: ``good`` or ``bad``, however a table writes it."""

FEEDBACK = "feedback"
"""Column that holds it."""
GOOD, BAD = "good", "bad"
_KNOWN = {
    **dict.fromkeys((GOOD, "true", "1", "+1", "yes", "up", "👍"), GOOD),
    **dict.fromkeys((BAD, "false", "0", "-1", "no", "down", "👎"), BAD),
}


def feedback_of(value: object) -> str | None:
    """``good`` or ``bad``; None for what is neither."""
    return _KNOWN.get(str(value).strip().casefold().removesuffix(".0"))
