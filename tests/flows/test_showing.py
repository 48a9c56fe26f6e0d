"""What Prefect's pages show of a run, read back from a real server."""

import json
import time
from typing import Any

import httpx
import pytest
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.context import TaskRunContext
from prefect.settings import PREFECT_API_URL, PREFECT_LOGGING_TO_API_ENABLED, temporary_settings

from flows.configuration.reading import load_config
from flows.showing import LANGUAGES_TAGGED, cost_rows, gate_page, plan_page, report_page, result_rows, tags_of
from flows.terminal.server import Server
from mlc.languages import all_languages
from tasks.runtime.progress import EVERY_SECONDS, FIRST_SECONDS, WAITING, Board, Watched
from tasks.runtime.run import Silent
from tests.flows.runs import RECORD_SECONDS
from tests.flows.smoked import Ended, Smoked

LABEL = "align · consistency · seed 0"


def artifacts(server: Server, **of: str) -> list[dict[str, Any]]:
    """The artifacts of a flow run or a task run, which the server may not know yet."""
    wanted = {name: {"any_": [run]} for name, run in of.items()}
    reply = httpx.post(f"{server.api}/artifacts/filter", json={"artifacts": wanted, "limit": 200}, timeout=30)
    reply.raise_for_status()
    found: list[dict[str, Any]] = reply.json()
    return found


def states(server: Server, task_run: str) -> list[str]:
    """The names of the states of a task run, in order, once the server has all of them."""
    deadline, found = time.monotonic() + RECORD_SECONDS, list[str]()
    while "Completed" not in found and time.monotonic() < deadline:
        time.sleep(0.1)
        reply = httpx.get(f"{server.api}/task_run_states/", params={"task_run_id": task_run}, timeout=30)
        found = [state["name"] for state in sorted(reply.json(), key=lambda state: state["timestamp"])]
    return found


def test_a_long_task_has_one_artifact_that_moves_and_a_state_while_it_waits(server: Server) -> None:
    now, seen = [0.0], list[str]()
    board = Board(lambda: now[0], alone=False)

    @task(cache_policy=NO_CACHE)
    def work() -> None:
        context = TaskRunContext.get()
        assert context is not None
        own, display = context.task_run.id, Watched(Silent(), board)
        seen.append(str(own))

        def after(seconds: float) -> None:
            now[0] += seconds
            board.look()
            (artifact,) = artifacts(server, task_run_id=str(own))
            seen.append(f"{artifact['data']:g} % · {artifact['description']}")

        display.waits(LABEL, "the device")
        after(FIRST_SECONDS)
        display.waits(LABEL, "")
        moved = display.bar(LABEL, 10)
        moved(3, 60, loss=0.5)
        after(EVERY_SECONDS)
        moved(2, 60, loss=0.25)
        after(EVERY_SECONDS)
        board.close(own, over=True, wait_seconds=0)
        after(0)

    with temporary_settings({PREFECT_API_URL: server.api, PREFECT_LOGGING_TO_API_ENABLED: False}):
        flow(lambda: work(), name="watched")()
    own, *told = seen
    assert told == [
        "0 % · waiting for the device",
        "30 % · 3 of 10 · loss 0.5",
        "50 % · 12 s left · 5 of 10 · loss 0.25 · 12 tokens/s",
        "100 % · done · 5 of 10 · loss 0.25 · 10 s",
    ]
    (artifact,) = artifacts(server, task_run_id=own)
    assert (artifact["type"], artifact["key"]) == ("progress", "progress-align-consistency-seed-0")
    assert [name for name in states(server, own) if name != "Pending"] == ["Running", WAITING, "Running", "Completed"]


@pytest.mark.slow
@pytest.mark.parametrize("number", ["first", "second"])
def test_the_page_of_a_flow_run_shows_plan_filter_results_gate_and_where_all_lies(
    server: Server, smoked: Smoked, number: str
) -> None:
    ended: Ended = getattr(smoked, number)
    result = ended.result
    found = {row["key"]: row for row in artifacts(server, flow_run_id=result["run_id"]) if row["task_run_id"] is None}
    assert set(found) - {"cached"} == {"plan", "filter", "results", "costs", "gate", "report"}
    ran = sum(task["state"] == "ran" for task in result["tasks"])
    assert found["plan"]["description"] == f"{ran} of {len(result['tasks'])} tasks to run"
    languages = ["Spanish"] if number == "first" else ["French", "Spanish"]
    rows = json.loads(found["filter"]["data"])
    assert [row["language"] for row in rows] == languages
    for row in rows:
        dropped = sum(count for name, count in row.items() if name.startswith("dropped: "))
        assert row["kept"] + dropped == row["translations"] == 24
    assert {row["model"] for row in json.loads(found["results"]["data"])} == {"base", "english-only", "consistency"}
    assert found["gate"]["data"].count("\n| ") == 2 + len(result["gate"]["checks"])
    version = result["model_version"]
    assert f"/models/{version['name']}/versions/{version['version']}" in found["report"]["data"]
    assert f"`{result['report']}`" in found["report"]["data"]
    tags = httpx.get(f"{server.api}/flow_runs/{result['run_id']}", timeout=30).json()["tags"]
    gate = "passed" if result["gate"]["passed"] else "failed"
    expected = {
        "configuration: smoke",
        "method: consistency",
        f"gate: {gate}",
        *(f"language: {it}" for it in languages),
    }
    assert expected <= set(tags)


def test_tags_count_the_languages_beyond_the_first_few_and_name_no_folder() -> None:
    languages = [language.code for language in all_languages()][:30]
    config = load_config("smoke", workspace="/somewhere/else/nightly")
    policy = config.policy.model_copy(update={"model": "/models/of/mine/llama"})
    tags = tags_of(config.model_copy(update={"languages": tuple(languages), "policy": policy}))
    assert len(tags) == 4 + LANGUAGES_TAGGED + 1
    assert tags[-1] == f"and {30 - LANGUAGES_TAGGED} more languages"
    assert tags[:3] == ["configuration: smoke", "workspace: nightly", "model: llama"]


def planned(stage: str, action: str, **more: Any) -> dict[str, Any]:
    return {"stage": stage, "action": action, "reason": "new", "rows_new": 4, "seconds_estimated": None, **more}


def test_a_plan_is_told_by_stage() -> None:
    page = plan_page(
        [
            planned("translate", "run", seconds_estimated=40.0, reason="a | b"),
            planned("translate", "run", seconds_estimated=50.0),
            planned("translate", "cached"),
            planned("report", "cached"),
        ]
    )
    assert page.startswith("**2 of 4 tasks to run**, 2 cached, about 1 min 30 s of work by past runs.\n")
    assert "| translate | 2 | 1 | 8 | 1 min 30 s | a \\| b, and others |" in page
    assert "| report | 0 | 1 |  |  |  |" in page


def test_what_is_missing_leaves_its_cell_empty() -> None:
    none = {"value": None, "low": None, "high": None, "n": 0}
    figures = dict.fromkeys(("selectivity", "attack_success", "harmless_refused", "auroc"), none)
    (row,) = result_rows({"models": {"base": {"seeds": [0], "english": figures}}, "over_languages": {}})
    assert set(row.values()) == {"base", "english", "", 0}


def test_failed_conditions_come_first_and_languages_have_names() -> None:
    estimate = {"value": 0.5, "low": 0.25, "high": 0.75, "n": 8}
    checks = [
        {"name": name, "where": "swh_Latn", "demand": "≥ 0.3", "verdict": verdict, "against": "absolute"}
        | {"estimate": estimate, "passed": verdict == "passed", "languages": ["swh_Latn"]}
        for name, verdict in (("a", "passed"), ("b", "failed"))
    ]
    page = gate_page({"policy": "strict", "passed": False, "champion": "3", "checks": checks}, "policy version 4")
    assert page.startswith("**Gate strict: failed** for policy version 4, compared with version 3\n")
    assert page.splitlines()[-2:] == [
        "| b | Swahili | 0.500 [0.250, 0.750] | ≥ 0.3 | failed | 8 |",
        "| a | Swahili | 0.500 [0.250, 0.750] | ≥ 0.3 | passed | 8 |",
    ]


def test_a_tracking_server_is_linked_without_its_login(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@mlflow.example/")
    summary: dict[str, Any] = {
        "model_version": {"name": "our policy", "version": "7", "run_id": "r"},
        "number": 3,
        "gate": {"policy": "strict", "passed": True},
        "report": "/w/report.html",
        "left_out": [],
        "set_aside": {"mpo": "a reason"},
    }
    page = report_page(load_config("smoke"), tmp_path, summary)
    assert "gate strict passed." in page
    waiting = report_page(load_config("smoke"), tmp_path, summary | {"gate": summary["gate"] | {"waits": True}})
    assert "gate strict passed; it waits for a person" in waiting
    assert "https://mlflow.example/#/models/our%20policy/versions/7" in page
    assert "secret" not in page
    assert "- Set aside: mpo; the report says why" in page


def test_costs_as_prefect_shows_them(tmp_path):
    cost = {"method": "msd", "seconds": 61.23, "own_seconds": 20.0, "tokens": None, "peak_memory_bytes": 3 * 2**30}
    (tmp_path / "costs.json").write_text(json.dumps([cost | {"needs": ["english answers"]}]), encoding="utf-8")
    assert cost_rows(tmp_path) == [
        {
            "method": "msd",
            "seconds": 61.2,
            "seconds of its own": 20.0,
            "tokens": None,
            "GiB": 3.0,
            "data beside the policy": "english answers",
        }
    ]
    # A report of an earlier release has none.
    assert cost_rows(tmp_path / "elsewhere") == []
