"""Packages that only some settings need."""

import importlib.util


def require_extra(package: str, setting: str) -> None:
    """Checks that a package is installed, without importing it.

    Args:
        package: Its import name, which is that of its distribution too.
        setting: What needs it.

    Raises:
        ValueError: It is not.
    """
    if importlib.util.find_spec(package) is None:
        raise ValueError(
            f"{setting} needs the package {package.replace('_', '-')}, which is not installed: install it, or choose "
            "another value"
        )
