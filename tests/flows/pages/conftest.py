"""A workspace of two runs that no model made, with texts and names that try to be more than text."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from flows.pages.app import Beside, make_app
from tasks.runtime.artifacts import DECISION_FILE, REPORT_FILE, VERSION_FILE
from tests.evaluation.outcomes import BAD, EN, GOOD, SW
from tests.flows.made import Made, made_run

AR = "arb_Arab"
MARKUP = "<script>alert('HARM')</script><img src=x onerror=alert(1)>"
ARABIC = "كيف أخبز الخبز؟"
NAMED = "<b>bold</b>"
CHECK = {
    "name": "selectivity",
    "where": SW,
    "demand": "≥ 0.3 (95 %)",
    "passed": False,
    "languages": [SW],
    "against": "absolute",
    "estimate": {"value": 0.1, "low": -0.1, "high": 0.3, "n": 40},
    "verdict": "failed",
}
VERDICTS = [
    {"id": f"t{number:02}", "source": f"HARM {MARKUP}", "translation": ARABIC, "reasons": ["length"]}
    for number in range(51)
] + [{"id": "kept", "source": "bread", "translation": ARABIC, "reasons": []}]


def make_page_workspace(workspace: Path) -> Path:
    """Two runs: the second has a report, a version and a decision."""

    def first(run: Made) -> None:
        run.answers({("consistency", 0, EN): GOOD, ("consistency", 0, SW): BAD}, text)

    def second(run: Made) -> None:
        run.prompts([{"id": row["id"], "prompt": "HARM", "label": "harmful"} for row in VERDICTS], None, "prompts")
        run.verdicts(AR, VERDICTS)
        models = [("consistency", 0), (NAMED, None)]
        letters = {EN: (GOOD, BAD), SW: (BAD, GOOD), AR: (GOOD, GOOD)}
        run.answers(
            {(*model, code): own[place] for place, model in enumerate(models) for code, own in letters.items()}, text
        )
        files = {REPORT_FILE: "<p>the report</p>", "results.csv": "a,b\n"}
        run.artifact("report", None, None, lambda folder: [(folder / n).write_text(t) for n, t in files.items()])
        version, decision = {"name": "policy", "version": "4"}, {"passed": False, "policy": "p", "checks": [CHECK]}
        run.artifact("register", None, None, lambda folder: (folder / VERSION_FILE).write_text(json.dumps(version)))
        run.artifact("promote", None, None, lambda folder: (folder / DECISION_FILE).write_text(json.dumps(decision)))

    made_run(workspace, {"candidate": "consistency", "align": {"steps": 12}}, first)
    made_run(workspace, {"candidate": "consistency", "align": {"steps": 24}, "storage": "s3://me:hidden@host/"}, second)
    return workspace


class Client:
    """Asks the page of a workspace, without a server."""

    def __init__(self, workspace: Path) -> None:
        self.app = make_app(workspace, Beside("http://127.0.0.1:4200", "http://127.0.0.1:5000"))

    def request(self, method: str, path: str, **more: Any) -> httpx.Response:
        async def asked() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:4300") as client:
                return await client.request(method, path, follow_redirects=True, **more)

        return asyncio.run(asked())

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self.request("GET", path, **more)


def text(name: str, language: str) -> str:
    """A prompt."""
    return f"{ARABIC} HARM {name}" if language == AR else f"HARM {name} in {language} {MARKUP}"


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_page_workspace(tmp_path_factory.mktemp("pages") / "workspace")
