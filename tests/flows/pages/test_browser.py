"""The local page in a real browser: what a person sees and does, at the width of a phone and of a desk."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

from flows.pages.app import Beside
from flows.pages.serving import served_page
from flows.terminal.server import HOST, free_port

START_SECONDS = 60
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PATHS = ("/", "/runs/2", "/runs/2/answers?failures=1", "/runs/2/rejects?texts=1", "/compare?a=1&b=2", "/workspace")

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the path"),
]


class Tab:
    """One tab of a browser, driven through its own protocol; keeps what its console says."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection, self._numbers = connection, count(1)
        self.complaints: list[str] = []
        for domain in ("Page", "Runtime", "Log"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **given: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._connection.send(json.dumps({"id": number, "method": method, "params": given}))
        return self._until(lambda message: message.get("id") == number)["result"]

    def _until(self, wanted: Any) -> dict[str, Any]:
        while True:
            message = json.loads(self._connection.recv(timeout=START_SECONDS))
            if message.get("method") in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"):
                self.complaints.append(json.dumps(message["params"]))
            if wanted(message):
                return message

    def open(self, url: str) -> None:
        self.ask("Page.navigate", url=url)
        self._until(lambda message: message.get("method") == "Page.loadEventFired")

    def value(self, expression: str) -> Any:
        return self.ask("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def submit(self, expression: str) -> None:
        self.value(expression)
        self._until(lambda message: message.get("method") == "Page.loadEventFired")

    def look(self, width: int, scheme: str) -> None:
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    profile = tmp_path_factory.mktemp("profile")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-port=0"]
    options += ["--disable-background-networking", "--disable-component-update", f"--user-data-dir={profile}"]
    browser = subprocess.Popen(
        [str(CHROMIUM), *options, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        file, deadline = profile / "DevToolsActivePort", time.monotonic() + START_SECONDS
        while not (file.is_file() and file.read_text().count("\n")) and time.monotonic() < deadline:
            time.sleep(0.1)
        port = file.read_text().splitlines()[0]
        found = httpx.put(f"http://{HOST}:{port}/json/new?about:blank").json()
        with connect(found["webSocketDebuggerUrl"], max_size=None) as connection:
            yield Tab(connection)
    finally:
        browser.terminate()
        browser.wait(timeout=30)


@pytest.fixture(scope="module")
def site(made: Path) -> Iterator[str]:
    port = free_port()
    with served_page(made, port, Beside()):
        yield f"http://{HOST}:{port}"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1400])
def test_no_page_is_wider_than_the_screen_or_complains(tab: Tab, site: str, width: int, scheme: str) -> None:
    tab.look(width, scheme)
    papers = set()
    for path in (*PATHS, "/runs/2/report/report.html"):
        tab.open(site + path)
        assert tab.value("document.documentElement.scrollWidth - innerWidth") <= 0, path
        if "report" not in path:
            papers.add(tab.value("getComputedStyle(document.body).backgroundColor"))
    assert len(papers) == 1
    assert ("rgb(22, 24, 26)" in papers) is (scheme == "dark")
    assert tab.complaints == []


def test_a_person_finds_what_fails_in_swahili_and_why(tab: Tab, site: str) -> None:
    tab.look(1400, "light")
    tab.open(f"{site}/")
    tab.submit("document.querySelector('tbody a').click()")
    tab.submit("document.querySelector('[aria-label$=\"failures of consistency · seed 0 in Swahili\"]').click()")
    assert tab.value("document.querySelectorAll('tbody tr').length") == 20
    assert "as it is made here" in tab.value("document.querySelector('.why').innerText")
    tab.submit("document.querySelector('[name=kind]').value = 'harmful'; document.querySelector('.filter').submit()")
    assert tab.value("document.querySelectorAll('tbody tr').length") == 14
    assert tab.value("document.body.innerText.includes('HARM')") is False
    tab.submit("document.querySelector('.switch button').click()")
    assert tab.value("document.querySelectorAll('.cards > li').length") == 14
    assert tab.value("document.querySelectorAll('main script, main img').length") == 0
    assert tab.value("document.querySelector('.text').innerText").startswith("HARM ")
    assert tab.complaints == []


def test_arabic_runs_from_right_to_left_and_english_beside_it_does_not(tab: Tab, site: str) -> None:
    tab.open(f"{site}/runs/2/answers?language=arb_Arab&texts=1")
    shown = "[...document.querySelectorAll('.cards > li:first-child .text')].map(p => getComputedStyle(p).direction)"
    assert tab.value(shown) == ["rtl", "ltr"]


def test_the_keyboard_reaches_the_content_first(tab: Tab, site: str) -> None:
    tab.open(f"{site}/runs/2")
    for kind in ("keyDown", "keyUp"):
        tab.ask("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
    assert tab.value("document.activeElement.innerText") == "Skip to the content"
    assert tab.value("document.activeElement.getBoundingClientRect().left") >= 0
