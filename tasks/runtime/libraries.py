"""Libraries that load their parts when they are first asked for them: loaded before stages use them side by side.

Two threads that ask such a library at once break each other's imports, also where one of them only asks another library
that looks whether this one is there, as datasets does with transformers.
"""

import threading
from collections.abc import Iterable
from importlib import import_module

from tasks.runtime.run import waiting

LATE = {
    "torch": (),
    "datasets": (),
    "transformers": ("AutoModelForCausalLM", "AutoTokenizer", "PreTrainedTokenizerBase"),
}
"""What each of them must have loaded. What only the holder of the device asks for may come later."""
_lock = threading.Lock()


def load_libraries(used: Iterable[str]) -> None:
    """Loads all of them if one is among those that a stage uses, while other threads that use them wait.

    Args:
        used: Libraries of a stage.
    """
    if LATE.keys().isdisjoint(used):
        return
    with waiting(_lock):
        for library, parts in LATE.items():
            loaded = import_module(library)
            for part in parts:
                getattr(loaded, part)
