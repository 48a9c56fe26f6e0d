"""A real browser, driven through its own protocol: for tests of pages, and for the pictures of the documentation."""

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.resources import files
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

HOST = "127.0.0.1"
START_SECONDS = 60
_SETTLED_SECONDS = 4.0
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_OPTIONS = (
    *(
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--hide-scrollbars",
        "--remote-debugging-port=0",
    ),
    *("--disable-background-networking", "--disable-component-update"),
)
_PHONE = 600
"""Widths up to this one are those of phones."""


class Tab:
    """One tab of a browser; keeps what its console says.

    Args:
        connection: To the tab.
    """

    def __init__(self, connection: ClientConnection) -> None:
        self._connection, self._numbers = connection, count(1)
        self.complaints: list[str] = []
        for domain in ("Page", "Runtime", "Log"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **given: Any) -> dict[str, Any]:
        """Calls a method of the protocol.

        Raises:
            RuntimeError: The browser refuses it.
        """
        number = next(self._numbers)
        self._connection.send(json.dumps({"id": number, "method": method, "params": given}))
        answer = self._until(lambda message: message.get("id") == number)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        result: dict[str, Any] = answer["result"]
        return result

    def _until(self, wanted: Callable[[Mapping[str, Any]], bool]) -> dict[str, Any]:
        while True:
            message: dict[str, Any] = json.loads(self._connection.recv(timeout=START_SECONDS))
            if message.get("method") in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"):
                self.complaints.append(json.dumps(message["params"]))
            if wanted(message):
                return message

    def _loaded(self) -> None:
        self._until(lambda message: message.get("method") == "Page.loadEventFired")

    def open(self, url: str) -> None:
        """Goes to an address, and waits until it is loaded."""
        self.ask("Page.navigate", url=url)
        self._loaded()

    def settle(self, seconds: float) -> None:
        """Waits until what the page says has been the same for a while: of pages that fill themselves by script.

        Raises:
            RuntimeError: It goes on changing, or says nothing.
        """
        said, since, deadline = "", time.monotonic(), time.monotonic() + seconds
        while not said or time.monotonic() - since < _SETTLED_SECONDS:
            if time.monotonic() > deadline:
                raise RuntimeError("The page did not settle.")
            time.sleep(0.2)
            if said != (now := str(self.value("document.body.innerText")).strip()):
                said, since = now, time.monotonic()

    def value(self, expression: str) -> Any:
        """What an expression of JavaScript, or a promise of it, comes to.

        Raises:
            RuntimeError: It fails.
        """
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(json.dumps(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def submit(self, expression: str) -> None:
        """Does what leads to another page, and waits for it."""
        self.value(expression)
        self._loaded()

    def look(self, width: int, scheme: str, height: int = 900, scale: float = 1) -> None:
        """Sets the screen.

        Args:
            width: CSS pixels.
            scheme: ``light`` or ``dark``.
            height: CSS pixels.
            scale: Pixels of the screen for each of them.
        """
        size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width <= _PHONE}
        self.ask("Emulation.setDeviceMetricsOverride", **size)
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def picture(self, whole: bool = False) -> bytes:
        """What is on the screen, or the whole page, as PNG."""
        clip: dict[str, Any] = {}
        if whole:
            size = self.ask("Page.getLayoutMetrics")["cssContentSize"]
            clip = {"clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}}
        answer = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole, **clip)
        return base64.b64decode(answer["data"])

    def paper(self) -> bytes:
        """The page as it is printed on A4: PDF."""
        size = {"paperWidth": 8.27, "paperHeight": 11.69, "preferCSSPageSize": True}
        return base64.b64decode(self.ask("Page.printToPDF", printBackground=False, **size)["data"])

    def barriers(self) -> list[str]:
        """What axe-core finds that keeps people out: rule, element and why; empty for a clean page."""
        self.value(axe())
        found: list[str] = self.value(
            "axe.run(document, {resultTypes: ['violations']}).then(found => found.violations.flatMap(rule =>"
            " rule.nodes.map(node => `${rule.id}: ${node.target.join(' ')}: ${node.failureSummary}`)))"
        )
        return found


def axe() -> str:
    """The source of axe-core (Deque Systems, MPL-2.0), from a package that brings it."""
    return (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")


@contextmanager
def open_tab(profile: Path, options: Sequence[str] = ()) -> Iterator[Tab]:
    """A tab of a browser of its own, for the block.

    Args:
        profile: An empty folder for the browser.
        options: More options of its command line.
    """
    # It leaves folders there when it is ended; below the profile, the names of its sockets could become too long.
    with TemporaryDirectory(prefix="tab-", ignore_cleanup_errors=True) as temporary:
        browser = subprocess.Popen(
            [str(CHROMIUM), *_OPTIONS, *options, f"--user-data-dir={profile}", "about:blank"],
            env={**os.environ, "TMPDIR": temporary},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            with connect(_address(profile), max_size=None) as connection:
                yield Tab(connection)
        finally:
            browser.terminate()
            browser.wait(timeout=30)


def _address(profile: Path) -> str:
    """Where a new tab of a browser that has just been started listens."""
    file, deadline = profile / "DevToolsActivePort", time.monotonic() + START_SECONDS
    while not (file.is_file() and file.read_text().count("\n")) and time.monotonic() < deadline:
        time.sleep(0.05)
    port = file.read_text().splitlines()[0]
    return str(httpx.put(f"http://{HOST}:{port}/json/new?about:blank").json()["webSocketDebuggerUrl"])
