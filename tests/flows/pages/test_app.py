"""The local page: what it shows of a workspace, and what it never does."""

import re
import shutil
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from flows.looking.planning import Plan
from flows.pages.app import Beside
from flows.pages.rendering import page
from mlc.store.runs import Journal, RunRecord, run_records
from tests.flows.pages.conftest import ARABIC, MARKUP, NAMED, Client

ADDRESSES = (
    "/",
    "/workspace",
    "/compare",
    "/compare?a=1&b=2",
    "/runs/1",
    "/runs/2",
    "/runs/2/answers",
    "/runs/2/answers?failures=1&language=swh_Latn&texts=1",
    "/runs/2/rejects?texts=1",
    "/runs/2/report/report.html",
    "/style.css",
)


@pytest.fixture(scope="module")
def get(made: Path) -> Callable[[str], str]:
    def fetch(path: str) -> str:
        answer = Client(made).get(path)
        assert answer.status_code == 200, answer.text
        return unescape(answer.text)

    return fetch


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "workspace"))


def planned(stage: str, reason: str, **more: Any) -> dict[str, Any]:
    task = {"stage": stage, "language": None, "subject": None, "reason": reason, "action": "run"}
    return {**task, "rows_new": None, "seconds_estimated": None, **more}


def rows_of(text: str) -> list[str]:
    """The rows of the table of answers or rejects, as words."""
    table = text[text.index('<table class="rows">') :]
    lines = re.findall(r"<tr><th scope=\"row\".*?</tr>", table, re.DOTALL)
    return [" ".join(re.sub(r"<[^>]*>", " ", line).split()) for line in lines]


def test_runs_are_listed_with_their_figures_and_the_other_pages(get: Callable[[str], str]) -> None:
    text = get("/")
    assert text.index("Run 2</a>") < text.index("Run 1</a>")
    assert "gate failed" in text
    assert 'href="http://127.0.0.1:4200/runs/flow-run/abcd1234"' in text
    assert 'href="http://127.0.0.1:5000/#/models/policy/versions/4"' in text
    assert 'href="/runs/2/answers?language=swh_Latn&failures=1"' in text


def test_a_run_says_where_answers_fail_and_leads_there(get: Callable[[str], str]) -> None:
    text = get("/runs/2")
    link = re.search(r'href="([^"]*)" aria-label="20 of 40: failures of consistency · seed 0 in Swahili"', text)
    assert link is not None
    assert "<h2>20 rows</h2>" in get(link[1])
    assert "≥ 0.3 (95 %)" in text
    assert ">51</a>" in text
    assert "align.steps" in text
    assert "hidden" not in text
    assert 'href="/compare?a=1&b=2"' in text


def test_failures_are_filtered_by_what_the_judge_saw_and_paged(get: Callable[[str], str]) -> None:
    everything = get("/runs/2/answers")
    assert "<h2>240 rows</h2>" in everything
    assert len(rows_of(everything)) == 50
    assert "Page 1 of 5" in everything
    assert len(rows_of(get("/runs/2/answers?page=5"))) == 40
    swahili = rows_of(get("/runs/2/answers?language=swh_Latn&failures=1&model=consistency+·+seed+0&kind=harmful"))
    assert len(swahili) == 14
    assert all(" complied as it is made here" in row and row.endswith(" harmful") for row in swahili)
    assert len(rows_of(get("/runs/2/answers?why=as+it+is+made+here&id=p39"))) == 6
    assert "No row is like this." in get("/runs/2/answers?id=nothing")


def test_two_models_stand_side_by_side_on_the_same_prompt(get: Callable[[str], str]) -> None:
    two = f"/runs/2/answers?language=swh_Latn&model=consistency+·+seed+0&beside={NAMED}"
    assert "p0 refused as it is made here refused as it is made here harmful" in rows_of(get(two))
    differ = rows_of(get(f"{two}&differ=1"))
    assert differ[0] == "p6 complied as it is made here refused as it is made here harmful"
    assert len(differ) == 16


def test_no_text_is_shown_without_the_switch(get: Callable[[str], str]) -> None:
    for path in ADDRESSES:
        if "texts=1" not in path:
            assert "HARM" not in get(path), path
            assert ARABIC not in get(path), path
    assert "Show the texts" in get("/runs/2/answers")
    for path in ("/runs/2/answers?texts=1", "/runs/2/rejects?texts=1"):
        assert "HARM" in get(path)
        assert "that nobody has reviewed" in get(path)
        assert "&texts=1" in re.findall(r'rel="next" href="([^"]*)"', get(path))[0] + "&"


def test_texts_are_marked_with_language_and_direction_and_can_do_nothing(made: Path) -> None:
    arabic = Client(made).get("/runs/2/answers?language=arb_Arab&texts=1").text
    assert f'<p class="text" dir="auto" lang="ar">{ARABIC} HARM p0</p>' in arabic
    for path in ADDRESSES:
        if "report" not in path:
            text = Client(made).get(path).text
            assert "<script" not in text
            assert "<img" not in text
            assert NAMED not in text
    assert "&lt;script&gt;" in Client(made).get("/runs/2/answers?language=swh_Latn&texts=1").text
    assert MARKUP not in Client(made).get("/runs/2/answers", params={"id": MARKUP}).text


def test_a_comparison_tells_settings_languages_and_figures(get: Callable[[str], str]) -> None:
    text = get("/compare?a=1&b=2")
    assert "Languages gained in run 2: Modern Standard Arabic." in text
    assert re.search(r"align\.steps</th><td[^>]*>12</td><td[^>]*>24</td>", text)
    assert "with 95 % intervals" in text
    assert re.search(r"Run 2</a> \(<span[^>]*>consistency</span>, version 4, gate failed\)", text)


def test_a_plan_is_shown_by_stage_and_why() -> None:
    told = {
        "tasks": [
            planned("translate", "Swahili is new", language="swh_Latn", rows_new=24, seconds_estimated=3.0),
            planned("translate", "its artifact is there", action="cached"),
            planned("align", "the training set changed", subject="consistency · seed 0"),
        ],
        "notes": ["The hub is not asked."],
    }
    record = RunRecord(3, "", "smoke", "2026-11-26T04:35:15+00:00")
    shown = page("plan.html.j2", record=record, plan=Plan.of(told), workspace=Path("w"), beside=Beside())
    text = " ".join(re.sub(r"<[^>]*>", " ", bytes(shown.body).decode()).split())
    assert "2 tasks would run, 1 is cached; about 3.0 s of work by past runs." in text
    assert "translate 1 Swahili is new 1 24 3.0 s" in text
    assert "consistency · seed 0 the training set changed" in text
    assert "The hub is not asked." in text


def test_a_run_that_cannot_be_planned_again_is_one_sentence(made: Path) -> None:
    answer = Client(made).get("/runs/1/plan")
    assert answer.status_code == 404
    assert "Run 1 cannot be planned again: The configuration lacks 'name'" in unescape(answer.text)
    foreign = Client(made).get("/runs/1/plan", headers={"sec-fetch-site": "cross-site"})
    assert "open it from the page of the run" in foreign.text


def test_the_files_of_the_report_are_there_and_no_others(made: Path) -> None:
    report = Client(made).get("/runs/2/report")
    assert report.text == "<p>the report</p>"
    assert report.headers["content-security-policy"].startswith("sandbox allow-scripts")
    assert Client(made).get("/runs/2/report/results.csv").text == "a,b\n"
    for name in ("../../../runs/000001.jsonl", "%2e%2e/%2e%2e/runs/000001.jsonl", "nothing.html"):
        assert Client(made).get(f"/runs/2/report/{name}").status_code == 404


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/runs/7", "is not a run of this workspace"),
        ("/runs/2/answers?language=fra_Latn", "has no rows of this language"),
        ("/runs/2/answers?page=6", "choose one from 1 to 5"),
        ("/runs/2/answers?page=x", "whole number from 1"),
        ("/runs/1/rejects", "did not end ingest · prompts"),
        ("/compare?a=1&b=1", "name two runs"),
        ("/nothing", "There is no such page."),
    ],
)
def test_what_is_not_there_is_one_sentence(made: Path, path: str, words: str) -> None:
    answer = Client(made).get(path)
    assert answer.status_code == 404
    assert words in unescape(answer.text)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_nothing_but_looking(made: Path, method: str) -> None:
    answer = Client(made).request(method, "/runs/2")
    assert answer.status_code == 405
    assert "This page only shows." in answer.text


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "0.0.0.0:4300", ""])
def test_a_foreign_host_is_refused(made: Path, host: str) -> None:
    assert Client(made).get("/", headers={"host": host}).status_code == 400
    assert Client(made).get("/", headers={"host": "localhost:4300"}).status_code == 200


def test_every_answer_forbids_scripts_and_copies(made: Path) -> None:
    for path in ("/", "/runs/7", "/nothing", "/style.css"):
        headers = Client(made).get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'none'; style-src 'self'; ")
        assert headers["cache-control"] == "no-store"
        assert headers["referrer-policy"] == "no-referrer"


def test_nothing_is_written(made: Path) -> None:
    def snapshot() -> dict[Path, tuple[int, int]]:
        return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in made.rglob("*")}

    before = snapshot()
    assert [Client(made).get(path).status_code for path in ADDRESSES] == [200] * len(ADDRESSES)
    assert snapshot() == before


def test_damaged_artifacts_are_one_sentence(copy: Path) -> None:
    for name in ("outcomes.parquet", "verdicts.parquet", "decision.json", "report.html"):
        for path in copy.glob(f"artifacts/*/*/{name}"):
            path.write_bytes(b"HARM")
    text = Client(copy).get("/runs/2").text
    assert text.count("is no longer whole in the workspace") == 5
    for path in ("/runs/2/answers?texts=1", "/runs/2/report"):
        answer = Client(copy).get(path)
        assert answer.status_code == 404
        assert "is no longer whole in the workspace" in answer.text
        assert "HARM" not in answer.text
    assert Client(copy).get("/").status_code == 200


def test_an_error_that_nobody_foresaw_tells_no_text(
    copy: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("flows.pages.guards.tempfile.gettempdir", lambda: str(tmp_path / "errors"))
    monkeypatch.setattr("flows.looking.rows.NOT_JUDGED", {"HARM": 1})
    answer = Client(copy).get("/runs/2/answers")
    assert answer.status_code == 500
    assert "HARM" not in answer.text
    assert "which was not foreseen" in answer.text


def test_a_run_that_goes_on_shows_what_has_ended(copy: Path) -> None:
    record = run_records(copy)[0]
    path = copy / "runs" / "000003.jsonl"
    journal = Journal(path, 3)
    # Half of a surrogate has no bytes of its own.
    path.write_text('{"run": 3, "id": "", "name": "\\ud800", "started": "2026-01-01", "config": {}}\n')
    client = Client(copy)
    assert "No task has ended yet." in client.get("/runs/3").text
    journal.write({"task": record.tasks[0]})
    journal.write({"failed": {"stage": "filter", "language": "swh_Latn", "subject": None, "seconds": 3.0}})
    with path.open("ab") as half:
        half.write(b'{"task": {"sta')
    text = client.get("/runs/3").text
    assert "still going, or was killed" in text
    assert "1 ran, 0 cached" in text
    assert "1 failed" in text
    assert "ended nothing in the stage 'evaluate'" in unescape(text)
    assert client.get("/").status_code == 200
