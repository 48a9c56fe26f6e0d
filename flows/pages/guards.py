"""What keeps the page to the person at this machine: hosts, headers, methods, and errors that quote nothing."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlc.errors import UserError

T = TypeVar("T")
HOSTS = ("127.0.0.1", "localhost")
"""Names that a request may use: a foreign name that leads here must read nothing (DNS rebinding)."""
POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""Nothing runs, and nothing is loaded from elsewhere."""
REPORT_POLICY = (
    "sandbox allow-scripts allow-downloads; default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""A report brings its style and its filter along, and may come from elsewhere: it can reach no other page."""
_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": POLICY,
    # Texts that were asked for once do not stay on the disk.
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Headers:
    """Gives every answer the headers that protect it, unless it has its own.

    Args:
        app: What answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, sending)


def guards() -> list[Middleware]:
    """What stands before every page."""
    return [
        Middleware(Headers),
        Middleware(TrustedHostMiddleware, allowed_hosts=list(HOSTS), www_redirect=False),
    ]


def sentence_of(error: Exception) -> str:
    """What a page may say of an error, in one sentence: of one that nobody foresaw its type and place."""
    if isinstance(error, UserError):
        return str(error)
    from tasks.runtime.unexpected import unexpected

    return str(unexpected(error, "mlc ui", Path(tempfile.gettempdir())))


def read_or_told(read: Callable[[], T]) -> dict[str, Any]:
    """A part of a page.

    Args:
        read: Reads what it shows.

    Returns:
        ``found``, or None with the ``problem`` in one sentence: one damaged artifact must not hide the others.
    """
    try:
        return {"found": read(), "problem": ""}
    except Exception as error:
        return {"found": None, "problem": sentence_of(error)}
