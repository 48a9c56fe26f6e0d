"""Addresses that hold secrets: taken from environment variables where they are used, and never shown."""

import os
import re

from mlc.errors import UserError

HIDDEN = "***"
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_LOGIN = re.compile(r"([A-Za-z][\w+.-]{0,30})://([^\s'\"<>]{0,2000})@")
"""Up to the last ``@`` of a word: passwords have letters in them that no address may have."""
_PARAMETER = re.compile(r"(?<=[?&;#])([^=?&;#\s'\"<>]{1,100})=([^&;#\s'\"<>]+)")
_SECRET_WORD = re.compile(
    r"(?i)token|secret|passw|signature|credential|authorization|(api|access|account|shared)[-_]?key"
)
_SECRET_NAMES = ("auth", "key", "pass", "pwd", "sas", "sig")


def redacted(text: str) -> str:
    """A text with :data:`HIDDEN` in place of the secrets in its URLs: logins, and parameters that look like secrets.

    References to environment variables are no secrets and stay.
    """

    def login(found: re.Match[str]) -> str:
        return f"{found[1]}://{HIDDEN}@" if _is_secret_login(*found.groups()) else found[0]

    def parameter(found: re.Match[str]) -> str:
        return f"{found[1]}={HIDDEN}" if _is_secret_parameter(*found.groups()) else found[0]

    return _PARAMETER.sub(parameter, _LOGIN.sub(login, text))


def require_no_secret(url: str | None, key: str) -> str | None:
    """An address as it may stand in a configuration, which is written down, shown and sent to Prefect.

    Args:
        url: The address.
        key: Of the configuration.

    Raises:
        UserError: It holds a secret in the clear.
    """
    if url is not None and (shown := redacted(url)) != url:
        raise UserError(
            f"The configuration key {key!r} holds a secret ({shown!r}): put it into an environment variable NAME and "
            "write ${NAME} in its place."
        )
    return url


def expanded(url: str, key: str) -> str:
    """An address with the values of the environment variables that it names as ``${NAME}``.

    Args:
        url: The address.
        key: Of the configuration, for the error.

    Raises:
        UserError: A variable is not set.
    """

    def value(found: re.Match[str]) -> str:
        if not (content := os.environ.get(found[1])):
            raise UserError(f"The environment variable {found[1]!r}, which {key!r} names, is not set: set it.")
        return content

    return _VARIABLE.sub(value, url)


def _is_secret_login(scheme: str, login: str) -> bool:
    """Whether what stands before an ``@`` is a login with a password or a token; paths may have an ``@`` too."""
    if "/" in login and not re.search(r":(?!\d+/)[^/]", login):
        return False
    name, colon, password = login.partition(":")
    if not colon and scheme.lower() not in ("http", "https"):
        return False
    secret = password if colon else name
    return secret not in ("", HIDDEN) and _VARIABLE.fullmatch(secret) is None


def _is_secret_parameter(name: str, value: str) -> bool:
    secret = _SECRET_WORD.search(name) is not None or name.lower() in _SECRET_NAMES
    return secret and value != HIDDEN and _VARIABLE.fullmatch(value) is None
