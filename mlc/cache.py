"""Where the project keeps what it fetched or converted for a user."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """``$MLC_CACHE``, else ``mlc`` in the user's cache folder."""
    default = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "mlc"
    return Path(os.environ.get("MLC_CACHE", default)).expanduser()
