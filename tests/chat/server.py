"""A real server on this machine that speaks OpenAI's chat protocol, and fails as it is told to.

``python -m tests.chat.server MODEL PORT`` serves until it is ended, and calls its model by the name that it was given.
"""

import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CUT = "cut"
"""A failure: the connection ends in the middle of the answer."""
SILENT = "silent"
"""A failure: no answer comes while the client waits."""
SILENCE = 1.0
_CUT_ANSWER = b'{"choices": [{"mess'


class ChatServer:
    """Answers with what ``reply`` makes of the messages; the last one in upper case if it is left out.

    ``failures`` are taken by the requests one after the other: a status with headers and a body, :data:`CUT`,
    :data:`SILENT`, or None for a request that is answered.
    """

    def __init__(
        self, reply: Callable[[list[dict[str, str]]], str] | None = None, *, model: str = "ours", port: int = 0
    ) -> None:
        self.reply = reply or (lambda messages: f" {messages[-1]['content'].upper()}\n")
        self.requests: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.failures: list[Any] = []
        self.at_once = self.most_at_once = 0
        self.without_logprobs = False
        self.slow = 0.0
        """Seconds that the two halves of an answer lie apart."""
        self._lock = threading.Lock()
        here = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, headers, answer = here.answer(self.path, dict(self.headers), body)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer) + (status == 200 and here.cuts(answer))))
                self.end_headers()
                half = len(answer) // 2
                # Whoever does not wait any longer hangs up.
                with contextlib.suppress(ConnectionError):
                    self.wfile.write(answer[:half])
                    if here.slow and status == 200:
                        time.sleep(here.slow)
                    self.wfile.write(answer[half:])

            def do_GET(self) -> None:
                known = self.path.endswith("/models")
                answer = json.dumps({"data": [{"id": model}]} if known else {}).encode()
                self.send_response(200 if known else 404)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self) -> "ChatServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self.server.socket.fileno() != -1:
            self.server.shutdown()
            self.server.server_close()

    @property
    def asked(self) -> list[str]:
        """The last message of each request, in the order in which they came."""
        return [body["messages"][-1]["content"] for _, _, body in self.requests]

    @staticmethod
    def cuts(answer: bytes) -> int:
        """Bytes that are promised and never come."""
        return 10 if answer == _CUT_ANSWER else 0

    def answer(self, path: str, headers: dict[str, str], body: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        with self._lock:
            self.requests.append((path, headers, body))
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            failure = self.failures.pop(0) if self.failures else None
        try:
            if failure == SILENT:
                time.sleep(SILENCE)
            elif failure == CUT:
                return 200, {}, _CUT_ANSWER
            elif failure:
                return failure
            if self.without_logprobs and "logprobs" in body:
                return 400, {}, b"{}"
            choice: dict[str, Any] = {"message": {"content": self.reply(body["messages"])}, "finish_reason": "stop"}
            if body.get("logprobs"):
                choice["logprobs"] = {"content": [{"token": "a", "logprob": -0.5}, {"token": "b", "logprob": -0.25}]}
            usage = {"prompt_tokens": 11, "completion_tokens": 7}
            return 200, {}, json.dumps({"choices": [choice], "usage": usage}).encode()
        finally:
            with self._lock:
                self.at_once -= 1


if __name__ == "__main__":
    with ChatServer(model=sys.argv[1], port=int(sys.argv[2])):
        print("serving", flush=True)
        threading.Event().wait()
