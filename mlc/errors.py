"""Errors that a person can act on."""


class UserError(ValueError):
    """A mistake of the user's, told in one plain sentence.

    The message says what is wrong, the value, what is allowed and what to do next.
    The command line prints it without a traceback and exits with code 2.
    """
