"""The whole pipeline through the command line, and what is cached; states are read from the Prefect API."""

import io
import json
import re
import shutil
import sqlite3
from collections.abc import Callable, Collection
from contextlib import closing
from pathlib import Path

import duckdb
import pytest
from datasets import load_from_disk
from mlflow.entities import Run
from rich.console import Console

from flows.align_flow import find_all
from flows.commands.run import run_config
from flows.configuration.reading import load_config
from flows.looking.planning import plan_again
from flows.terminal.server import Server
from mlc.store import ArtifactStore
from mlc.store.locks import lock_if_free
from mlc.store.runs import run_records
from tasks.runtime.prefect_database import forget_runs, old_runs
from tests.addresses import outside
from tests.flows.runs import Flow, TaskRun, cached_rows, made, task_name
from tests.flows.smoked import Ended, Mlc, Smoked

pytestmark = pytest.mark.slow

States = dict[str, str]
Read = Callable[[str], list[TaskRun]]

STAGES = {
    "ingest", "overlap", "translate", "signals", "filter", "dataset", "align", "generate", "evaluate", "report",
    "register", "promote",
}  # fmt: skip


def states(read: Read, ended: Ended, *, also: Collection[str] = ()) -> States:
    """State of every task of a run, by name: `Completed` did work, `Cached` did none, in Prefect or without it.

    No other state may be there, but for those in ``also``.
    """
    assert ended.code == 0, ended.err[-3000:]
    runs = read(ended.result["run_id"])
    assert len({run.name for run in runs}) == len(runs)
    assert {run.state for run in runs} <= {"Completed", "Cached", *also}
    cached = {task_name(task): "Cached" for task in ended.result["tasks"] if task["state"] == "cached"}
    return cached | {run.name: run.state for run in runs}


def ran(found: States) -> set[str]:
    return {name for name, state in found.items() if state == "Completed"}


@pytest.fixture(scope="module")
def first(smoked: Smoked) -> Ended:
    return smoked.first


@pytest.fixture(scope="module")
def second(smoked: Smoked) -> Ended:
    return smoked.second


@pytest.fixture(scope="module")
def workspace(smoked: Smoked, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(smoked.two, tmp_path_factory.mktemp("smoke") / "workspace"))


def test_first_run_makes_everything(first: Ended, task_runs: Read) -> None:
    found = states(task_runs, first)
    assert ran(found) == set(found)
    assert {name.split(" · ")[0] for name in found} == STAGES
    assert {name for name in found if name.startswith("evaluate · base")} == {
        f"evaluate · base · {code}" for code in ("eng_Latn", "spa_Latn")
    }


def test_nothing_but_loopback_is_connected_to(first: Ended) -> None:
    """See ``test_loopback.py`` for what else is watched."""
    assert first.result["model_version"]["version"]
    assert first.addresses
    assert outside(first.addresses) == set()


def test_json_agrees_with_prefect(first: Ended, second: Ended, task_runs: Read, server: Server) -> None:
    for ended in (first, second):
        told = [task["state"] for task in ended.result["tasks"]]
        assert told.count("ran") == len(ran(states(task_runs, ended)))
        cached = [task for task in ended.result["tasks"] if task["state"] == "cached"]
        shown = cached_rows(server.api, ended.result["run_id"])
        assert [(row["stage"], row["subject"], row["language"], row["key"]) for row in shown] == [
            (task["stage"], task["subject"] or "", task["language"] or "", task["key"][:12]) for task in cached
        ]


def test_what_is_cached_is_no_task_of_prefect(second: Ended, task_runs: Read) -> None:
    named = {run.name for run in task_runs(second.result["run_id"])}
    assert named == ran(states(task_runs, second))


def test_adding_a_language_runs_only_what_it_touches(second: Ended, task_runs: Read) -> None:
    found = states(task_runs, second)
    assert ran(found) == {
        "ingest · held-out · fra_Latn",
        "translate · fra_Latn",
        "signals · fra_Latn",
        "filter · fra_Latn",
        "generate · base · fra_Latn",
        "evaluate · base · fra_Latn",
        "generate · english-only · seed 0 · fra_Latn",
        "evaluate · english-only · seed 0 · fra_Latn",
        "dataset",
        "align · consistency · seed 0",
        *(
            f"{stage} · consistency · seed 0 · {code}"
            for stage in ("generate", "evaluate")
            for code in ("eng_Latn", "fra_Latn", "spa_Latn")
        ),
        "report",
        "register · multilingual-policy",
        "promote · multilingual-policy",
    }


def test_same_run_again_is_all_cached(mlc: Mlc, workspace: Path, second: Ended, task_runs: Read) -> None:
    again = mlc("run", "smoke", "--languages", "es,fr", "--workspace", str(workspace), "--json")
    found = states(task_runs, again)
    assert set(found.values()) == {"Cached"}
    assert task_runs(again.result["run_id"]) == []
    assert len(found) == len(second.result["tasks"])
    assert again.result["model_version"] == second.result["model_version"]
    assert again.result["gate"] == second.result["gate"]
    planned = mlc("plan", "smoke", "--languages", "es,fr", "--workspace", str(workspace), "--json")
    assert {task["action"] for task in planned.result["tasks"]} == {"cached"}


def test_no_server_is_started_where_everything_is_there(
    workspace: Path, second: Ended, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    for name in ("PREFECT_API_URL", "PREFECT_CLIENT_MAX_RETRIES"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    notice = "[red]Not[/] for release."
    config = load_config("smoke", languages=["es,fr"], workspace=str(workspace), overrides={"notice": notice})
    console = Console(file=io.StringIO())
    again = run_config(config, console=console)
    # It changes nothing that is made, and is told first, to the letter.
    assert console.file.getvalue().startswith(f"{notice}\n")
    assert again["run_id"] == ""
    assert {task["state"] for task in again["tasks"]} == {"cached"}
    assert not list(workspace.glob("prefect*/prefect.db"))
    record = run_records(workspace)[-1]
    assert (record.number, record.end) == (again["number"], "completed")
    keys = {task_name(task): task["key"] for task in second.result["tasks"]}
    assert {task_name(task): task["key"] for task in record.tasks} == keys
    for name in ("model_version", "gate", "metrics", "left_out"):
        assert again[name] == second.result[name]
    place = workspace / "artifacts" / "filter" / keys["filter · fra_Latn"]
    aside = shutil.move(place, tmp_path / "aside")
    assert find_all(config) is None
    assert run_records(workspace)[-1] == record
    shutil.move(aside, place)


def test_plan_foresees_the_addition_of_a_language(mlc: Mlc, workspace: Path, second: Ended) -> None:
    planned = mlc("plan", "smoke", "--languages", "es,fr,de", "--workspace", str(workspace), "--json").result["tasks"]
    would_run = {(task["stage"], task["language"]) for task in planned if task["action"] == "run"}
    assert {stage for stage, language in would_run if language is None} == {
        "dataset", "align", "report", "register", "promote"
    }  # fmt: skip
    assert ("translate", "deu_Latn") in would_run
    assert ("translate", "spa_Latn") not in would_run
    assert ("filter", "fra_Latn") not in would_run


@pytest.mark.full
def test_the_page_plans_a_run_again(workspace: Path, second: Ended) -> None:
    plan = plan_again(ArtifactStore(workspace, looking=True), run_records(workspace)[-1])
    assert plan.running == 0
    assert plan.cached == len(second.result["tasks"])


@pytest.mark.parametrize(
    ("stage", "language", "expected"),
    [
        ("translate", "spa_Latn", {"translate · spa_Latn"}),
        pytest.param("filter", "fra_Latn", {"filter · fra_Latn"}, marks=pytest.mark.full),
        pytest.param(
            "evaluate",
            "fra_Latn",
            {f"evaluate · {model} · fra_Latn" for model in ("base", "english-only · seed 0", "consistency · seed 0")},
            marks=pytest.mark.full,
        ),
        ("align", None, {"align · english-only · seed 0", "align · consistency · seed 0"}),
    ],
)
def test_deleting_artifacts_reruns_exactly_what_made_them(
    flow: Flow, workspace: Path, second: Ended, stage: str, language: str | None, expected: set[str]
) -> None:
    wanted = {task["key"] for task in second.result["tasks"] if (task["stage"], task["language"]) == (stage, language)}
    for key in wanted:
        shutil.rmtree(workspace / "artifacts" / stage / key)
    assert made(flow(workspace, "es,fr")) == expected
    for key in wanted:
        assert (workspace / "artifacts" / stage / key / "manifest.json").is_file()


def test_damaged_artifact_is_made_again(flow: Flow, workspace: Path, second: Ended) -> None:
    key = next(task["key"] for task in second.result["tasks"] if task["stage"] == "dataset")
    victim = next((workspace / "artifacts" / "dataset" / key).rglob("*.arrow"))
    victim.write_bytes(victim.read_bytes()[:-7] + b"garbage")
    assert made(flow(workspace, "es,fr")) == {"dataset"}
    assert any((workspace / "artifacts" / ".damaged").iterdir())


def test_old_runs_go_from_prefects_database(
    first: Ended, second: Ended, server: Server, together: Path, tmp_path: Path
) -> None:
    database = tmp_path / "prefect" / "prefect.db"
    database.parent.mkdir()
    with (
        closing(sqlite3.connect(together / "prefect" / "prefect.db")) as running,
        closing(sqlite3.connect(database)) as copy,
    ):
        running.backup(copy)
    ids = [ended.result["run_id"] for ended in (first, second)]
    tables = ("flow_run", "task_run", "task_run_state", "log", "artifact", "events", "event_resources")

    def mentioned(run_id: str) -> list[int]:
        with closing(sqlite3.connect(database)) as connection:
            tasks = {row[0] for row in connection.execute("SELECT id FROM task_run WHERE flow_run_id = ?", (run_id,))}
            rows = (map(str, connection.execute(f"SELECT * FROM {table}")) for table in tables)
            return [sum(any(each in row for each in {run_id, *tasks}) for row in every) for every in rows]

    before = mentioned(ids[1])
    assert all(mentioned(ids[0]))
    assert all(before)
    assert [item.what for item in old_runs(tmp_path, [ids[0], "other"])] == ["run in Prefect"]
    size = database.stat().st_size
    with lock_if_free(database.parent / ".lock"):
        assert forget_runs(tmp_path, [ids[0]]) == []
    (removed,) = forget_runs(tmp_path, [ids[0], "other"])
    assert removed.bytes == size - database.stat().st_size > 0
    assert not any(mentioned(ids[0]))
    assert mentioned(ids[1]) == before
    assert old_runs(tmp_path, [ids[0]]) == []


def test_moved_workspace_keeps_its_artifacts(mlc: Mlc, workspace: Path, second: Ended, tmp_path: Path) -> None:
    shutil.copytree(workspace / "artifacts", tmp_path / "elsewhere" / "artifacts")
    planned = mlc("plan", "smoke", "--languages", "es,fr", "--workspace", str(tmp_path / "elsewhere"), "--json")
    actions = {(task["stage"], task["action"]) for task in planned.result["tasks"]}
    # The registry's database stayed behind, so only the registration is missing there.
    assert {stage for stage, action in actions if action == "run"} == {"register", "promote"}


def test_translations_are_all_accounted_for(workspace: Path, second: Ended) -> None:
    with duckdb.connect(str(workspace / "catalog.duckdb"), read_only=True) as catalog:
        rows = catalog.execute(
            "SELECT target_language, count(*), count(*) FILTER (keep), count(*) FILTER (NOT keep AND reason IS NULL) "
            "FROM verdicts GROUP BY ALL"
        ).fetchall()
    assert {language for language, *_ in rows} == {"spa_Latn", "fra_Latn"}
    for _, total, kept, unexplained in rows:
        assert total == 24
        assert 0 < kept <= total
        assert unexplained == 0


def test_training_set_opens_with_datasets(workspace: Path, second: Ended) -> None:
    key = next(task["key"] for task in second.result["tasks"] if task["stage"] == "dataset")
    rows = load_from_disk(workspace / "artifacts" / "dataset" / key / "dataset")
    assert len(rows) == 24
    assert rows[0]["languages"] == ["eng_Latn", "fra_Latn", "spa_Latn"]
    for row in rows:
        assert row["mask"][0]
        assert row["variants"][0] == row["prompt"]
        assert [bool(text) for text in row["variants"]] == row["mask"]


def test_report_is_complete_and_holds_no_prompt(workspace: Path, second: Ended) -> None:
    page = Path(second.result["report"]).read_text(encoding="utf-8")
    assert re.search(r"<dt>made</dt><dd>20\d\d-\d\d-\d\d \d\d:\d\d UTC</dd>\s*<dt>run</dt><dd>2</dd>", page)
    for name in ("Spanish", "French", "English-only"):
        assert name in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    key = next(task["key"] for task in second.result["tasks"] if task["stage"] == "dataset")
    for row in load_from_disk(workspace / "artifacts" / "dataset" / key / "dataset"):
        assert row["prompt"] not in page


def test_registered_model_answers(workspace: Path, second: Ended, tmp_path: Path) -> None:
    import mlflow
    import pandas as pd

    version = second.result["model_version"]
    # A flow that ran in this process before has set both to its own.
    for set_uri in (mlflow.set_tracking_uri, mlflow.set_registry_uri):
        set_uri(f"sqlite:///{workspace / 'mlflow' / 'mlflow.db'}")
    client = mlflow.tracking.MlflowClient()
    found = client.get_model_version_by_alias(version["name"], "candidate")
    assert str(found.version) == version["version"]
    loaded = mlflow.pyfunc.load_model(f"models:/{version['name']}@candidate", dst_path=str(tmp_path))
    answers = loaded.predict(pd.DataFrame({"prompt": ["How do I bake bread?", "Hello"]}))
    assert list(answers.columns) == ["answer"]
    assert len(answers) == 2
    found = client.get_model_version(version["name"], version["version"])
    assert found.tags["gate"] == ("passed" if second.result["gate"]["passed"] else "failed")
    assert found.tags["languages"] == "fra_Latn, spa_Latn"
    assert found.description.startswith(f"**Gate quickstart: {found.tags['gate']}.**")


def test_the_registration_is_a_run_with_a_child_for_every_model(workspace: Path, second: Ended, server: Server) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{workspace / 'mlflow' / 'mlflow.db'}")
    version = second.result["model_version"]
    parent = client.get_run(version["run_id"])
    assert parent.info.run_name == "smoke · fra spa · run 2"
    params = parent.data.params
    assert params["align.consistency.prompts_per_step"] == "2"
    # Of what no method of the run reads there is nothing.
    assert not [name for name in params if name.startswith(("align.mpo", "align.grpo", "edit.", "serve."))]
    assert {"selectivity/consistency.lower", "change/auroc.upper", "system/seconds.align"} <= set(parent.data.metrics)
    page = f"{server.url}/runs/flow-run/{second.result['run_id']}"
    assert parent.data.tags["prefect.url"] == page
    assert f"({page})" in client.get_model_version("multilingual-policy", version["version"]).description
    found = client.search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    children = {child.info.run_name: child for child in found}
    assert set(children) == {"base", "english-only · seed 0", "consistency · seed 0"}
    keys = {task["key"] for task in second.result["tasks"] if task["stage"] == "align"}
    assert {child.data.tags["artifact"] for child in found if child.info.run_name != "base"} == keys
    child = children["consistency · seed 0"]
    curve = client.get_metric_history(child.info.run_id, "training/learning_rate")
    assert [point.step for point in curve] == [1, 2, 3]
    speeds = client.get_metric_history(child.info.run_id, "training/tokens_per_second")
    assert [point.step for point in speeds] == [2, 3]
    assert all(point.value > 0 for point in speeds)
    figures = client.get_metric_history(child.info.run_id, "auroc/spa_Latn")
    assert {point.step for point in figures} == {0, 3}
    made_of = {name: training_data(child) for name, child in children.items()}
    assert made_of == {"base": [], "english-only · seed 0": ["prompts"], "consistency · seed 0": ["training set"]}


def training_data(found: Run) -> list[str]:
    """What a run of MLflow says its model was made of."""
    return [used.dataset.name for used in found.inputs.dataset_inputs if used.tags[0].value == "training"]


def test_libraries_do_not_break_through_what_a_run_prints(first: Ended, second: Ended) -> None:
    assert "Successfully registered" not in first.err + first.out
    assert "Created version" not in first.err + second.err


def test_no_prompt_reaches_the_terminal_or_the_artifacts_of_prefect(
    workspace: Path, first: Ended, second: Ended, server: Server
) -> None:
    import httpx

    key = next(task["key"] for task in second.result["tasks"] if task["stage"] == "dataset")
    rows = load_from_disk(workspace / "artifacts" / "dataset" / key / "dataset")
    shown = httpx.post(f"{server.api}/artifacts/filter", json={}, timeout=30).text
    shown += httpx.post(f"{server.api}/logs/filter", json={"limit": 200}, timeout=30).text
    everything = json.dumps([first.out, first.err, second.out, second.err]) + shown
    for row in rows:
        for text in row["variants"]:
            assert not text or json.dumps(text)[1:-1] not in everything, f"prompt {row['id']} is shown"
