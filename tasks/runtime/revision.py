"""Which release and revision of the code is at work."""

import subprocess
from functools import cache
from pathlib import Path

from mlc.packages import PIPELINE, VERSION

PROJECT = PIPELINE
_SECONDS = 5.0


def release() -> str:
    """The release."""
    return VERSION


@cache
def revision(project: Path = PROJECT) -> str | None:
    """The Git commit of the code, with ``-dirty`` where files differ from it; None where it is in no repository.

    Args:
        project: The folder that holds the code; only a repository of its own counts, not one around it.
    """
    if not (project / ".git").exists():
        return None
    command = ["git", "-C", str(project), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return told.stdout.strip() or None
