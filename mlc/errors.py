"""Errors that a person can act on."""


class UserError(ValueError):
    """A mistake of the user's, told in one plain sentence.

    The message says what is wrong, the value, what is allowed and what to do next, in words that hold wherever the
    library is used. The command line prints it without a traceback, adds which option helps, and exits with code 2.

    Args:
        message: The sentence.
        about: What it is about, such as ``workspace``, for whoever has more to say of it.
    """

    def __init__(self, message: str, *, about: str | None = None) -> None:
        super().__init__(message)
        self.about = about


class OutOfReachError(UserError):
    """Something outside, such as a server or a bucket, cannot be used now and may be later: to try again can help."""
