"""The local page and the report in a real browser: what a person sees and does, on a phone and on a desk."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.pages.app import Beside
from flows.pages.serving import served_page
from flows.terminal.server import HOST, free_port
from mlc.evaluation.results import Estimate
from mlc.report import Gate, render
from mlc.report.data import Texts
from tests.browser import CHROMIUM, Tab, open_tab
from tests.covering import dealt
from tests.flows.pages.conftest import ARABIC, MARKUP
from tests.report.conftest import check, make_data, make_result

PATHS = ("/", "/runs/2", "/runs/2/answers?failures=1", "/runs/2/rejects?texts=1", "/compare?a=1&b=2", "/workspace")
PHONE, DESK = 390, 1400
LANGUAGES = ("eng_Latn", "arb_Arab")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on the path to look at pages with")


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with open_tab(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture(scope="module")
def site(made: Path) -> Iterator[str]:
    port = free_port()
    with served_page(made, port, Beside()):
        yield f"http://{HOST}:{port}"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Address of a report with texts, of three models in two languages."""
    folder = tmp_path_factory.mktemp("report")
    texts = {("consistency", 0, "arb_Arab", ""): {"prompt 1": Texts(ARABIC, MARKUP)}}
    seeds = {"base": None, "english-only": 0, "consistency": 0}
    results = [make_result(model, seed, code, prompts=4) for model, seed in seeds.items() for code in LANGUAGES]
    first: dict[str, Any] = {
        "verdict": "no other champion",
        "scope": "mean",
        "languages": ("eng_Latn", "spa_Latn", "swh_Latn"),
    }
    first["estimate"] = Estimate(0.0, -0.98, 0.98, 40)
    gate = Gate(False, "strict", [check(), check(**first)])
    render(make_data(LANGUAGES, (0,), results=results, texts=texts, gate=gate), folder)
    return (folder / "report.html").as_uri()


DECIDING = {".checks": "verdict", ".outcomes": "harmful: refused", ".models": "Difference", ".changes": "Over-refusal"}
"""By its section, the last column of a table that decides."""


def test_a_phone_shows_the_columns_that_decide(tab: Tab, report: str) -> None:
    tab.look(PHONE, "light")
    tab.open(report)
    for section, column in DECIDING.items():
        heads = f"[...document.querySelectorAll('{section} thead th')]"
        right = f"{heads}.find(head => head.innerText.startsWith('{column}')).getBoundingClientRect().right"
        assert tab.value(f"innerWidth - {right}") >= 0, section


@pytest.mark.parametrize(("width", "scheme"), dealt((PHONE, DESK), ("light", "dark")))
def test_no_page_keeps_anyone_out(tab: Tab, site: str, report: str, width: int, scheme: str) -> None:
    tab.look(width, scheme)
    papers = set()
    for address in (*(site + path for path in PATHS), f"{site}/runs/2/report/report.html", report):
        tab.open(address)
        assert tab.value("document.documentElement.scrollWidth - innerWidth") <= 0, address
        if "/runs/2/report" not in address:
            assert tab.barriers() == [], address
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


def test_the_texts_of_a_report_are_off_until_switched_on_and_run_their_own_way(tab: Tab, report: str) -> None:
    tab.look(DESK, "light")
    tab.open(report)
    cells = "[...document.querySelectorAll('td.texts')].filter(cell => cell.textContent && cell.offsetWidth)"
    assert tab.value(f"{cells}.length") == 0
    tab.value("document.getElementById('texts').click()")
    assert tab.value(f"{cells}.map(cell => getComputedStyle(cell).direction)") == ["rtl", "ltr"]
    assert tab.complaints == []
