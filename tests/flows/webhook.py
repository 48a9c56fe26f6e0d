"""A real webhook on loopback."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Webhook:
    """Keeps what it is sent; answers with each of ``answers`` once, and with 200 after them."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.tokens: list[str | None] = []
        self.answers: list[int] = []
        here = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                here.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                here.tokens.append(self.headers["Authorization"])
                self.send_response(here.answers.pop(0) if here.answers else 200)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"


@contextmanager
def listening() -> Iterator[Webhook]:
    """A webhook that is there in the block."""
    there = Webhook()
    threading.Thread(target=there.server.serve_forever, daemon=True).start()
    try:
        yield there
    finally:
        there.server.shutdown()
        there.server.server_close()
