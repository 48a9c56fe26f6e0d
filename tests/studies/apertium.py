"""Apertium as an endpoint of the engine ``http``, for studies that need answers in another language where no hub is.

``python -m tests.studies.apertium PORT`` serves until it is ended; it needs the Debian packages ``apertium`` and
``apertium-eng-spa``. It translates by rules, so that it invents nothing, and has no model of language.
"""

import subprocess
import sys
import time

from tests.chat.server import ChatServer

PAIRS = {"Spanish": "eng-spa", "Catalan": "eng-cat"}
"""Apertium's names of what it translates English into, by the names of languages in the engine's instruction."""


def translated(messages: list[dict[str, str]]) -> str:
    """What Apertium makes of the last message, into the language that the first one names.

    Raises:
        StopIteration: It names none that is known here.
    """
    pair = next(pair for name, pair in PAIRS.items() if f"into {name}" in messages[0]["content"])
    made = subprocess.run(
        ["apertium", "-u", pair], input=messages[-1]["content"], capture_output=True, text=True, check=True
    )
    # Where a word has no counterpart there, its spaces stay.
    return " ".join(made.stdout.split())


def main() -> None:
    """Serves until the process is ended."""
    server = ChatServer(translated, model="apertium", port=int(sys.argv[1]))
    server.without_logprobs = True
    print(f"Apertium answers at {server.address}.", flush=True)
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main()
