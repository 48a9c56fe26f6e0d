import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from mlc.errors import UserError
from mlc.store.runs import (
    Journal,
    announced,
    close_killed,
    damaged_records,
    find_run,
    recorded,
    run_records,
    take_dead,
)

KEY = "ab" * 32
TASK = {"stage": "filter", "language": "spa_Latn", "subject": None, "state": "ran", "seconds": 1.0, "key": KEY}


def record(workspace, run_id="", tasks=(TASK,)):
    with recorded(workspace, run_id=run_id, name="smoke", config={"seeds": [0]}) as journal:
        for task in tasks:
            journal.write({"task": task})


def test_a_record_is_read_as_it_was_written(tmp_path):
    record(tmp_path, "id-1")
    (found,) = run_records(tmp_path)
    assert (found.number, found.id, found.name, found.end) == (1, "id-1", "smoke", "completed")
    assert (found.config, found.tasks) == ({"seeds": [0]}, (TASK,))
    assert found.key_of("filter", "spa_Latn", None) == KEY
    assert found.key_of("filter", "fra_Latn", None) is None


def test_a_run_that_fails_says_so(tmp_path):
    with pytest.raises(RuntimeError), recorded(tmp_path, run_id="", name="x", config={}):
        raise RuntimeError
    assert run_records(tmp_path)[0].end == "failed"


def test_a_task_that_failed_is_told_unless_it_ended_well_later(tmp_path):
    failures = [
        {"stage": "filter", "language": code, "subject": None, "seconds": 2.0} for code in ("spa_Latn", "fra_Latn")
    ]
    with recorded(tmp_path, run_id="", name="x", config={}) as journal:
        for failure in failures:
            journal.write({"failed": failure})
        journal.write({"task": TASK})
    (found,) = run_records(tmp_path)
    assert (found.failed, found.damaged) == ((failures[1],), 0)


def test_a_run_that_was_killed_keeps_what_it_wrote(tmp_path):
    record(tmp_path)
    path = tmp_path / "runs" / "000001.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1] + lines[1][:20])
    (found,) = run_records(tmp_path)
    assert (found.end, found.tasks) == (None, (TASK,))


def test_numbers_go_on_and_leave_no_run_out(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: record(tmp_path, f"run-{number}"), range(24)))
    found = run_records(tmp_path)
    assert [record.number for record in found] == list(range(1, 25))
    assert {record.id for record in found} == {f"run-{number}" for number in range(24)}


def test_an_empty_record_is_passed_over(tmp_path):
    record(tmp_path)
    (tmp_path / "runs" / "000002.jsonl").write_text("")
    assert len(run_records(tmp_path)) == 1
    record(tmp_path)
    assert [found.number for found in run_records(tmp_path)] == [1, 3]


def test_a_workspace_without_runs(tmp_path):
    assert run_records(tmp_path) == []


def test_finding_a_run(tmp_path):
    record(tmp_path, "abcd-1")
    record(tmp_path, "abcd-2")
    records = run_records(tmp_path)
    assert find_run(records, "2").id == find_run(records, "#2").id == find_run(records, "abcd-2").id == "abcd-2"
    with pytest.raises(UserError, match="more than one run"):
        find_run(records, "abcd")
    with pytest.raises(UserError, match="the last ones are 1, 2"):
        find_run(records, "3")


BAD_LINES = [
    "5",
    "null",
    "[]",
    '"run"',
    "{}",
    "nonsense",
    "[" * 100_000,
    "9" * 5000,
    '{"task": 5}',
    '{"task": {"stage": "../..", "key": "memory", "language": null, "subject": null}}',
    '{"task": {"stage": "filter", "key": "../../x", "language": null, "subject": null, "state": "ran"}}',
    f'{{"task": {{"stage": "filter", "key": "{KEY}", "language": [], "subject": null, "state": "ran"}}}}',
    '{"failed": {"stage": 5}}',
    '{"failed": {"stage": "filter", "language": [], "subject": null}}',
    '{"end": 5}',
    '{"run": 1, "name": "x", "started": "y"}',
    '{"run": 1, "id": null, "name": "x", "started": "y"}',
]


@pytest.mark.parametrize("line", BAD_LINES, ids=range(len(BAD_LINES)))
def test_a_line_that_says_nothing_is_passed_over_and_named(tmp_path, line):
    record(tmp_path, "good")
    record(tmp_path, "bad")
    path = tmp_path / "runs" / "000002.jsonl"
    first, *rest = path.read_text().splitlines()
    path.write_text("\n".join([first, line, *rest, ""]))
    found = run_records(tmp_path)
    assert [(each.id, each.tasks, each.end) for each in found] == [
        (name, (TASK,), "completed") for name in ("good", "bad")
    ]
    assert damaged_records(tmp_path) == ["runs/000002.jsonl has 1 line that cannot be read"]
    path.write_text(line + "\n")
    assert [each.id for each in run_records(tmp_path)] == ["good"]
    assert damaged_records(tmp_path) == ["runs/000002.jsonl is passed over: it does not say of which run it is"]


def test_a_task_without_a_state_keeps_its_artifact(tmp_path):
    record(tmp_path, tasks=[{"stage": "filter", "key": KEY}])
    (found,) = run_records(tmp_path)
    assert found.tasks == ({"stage": "filter", "key": KEY, "language": None, "subject": None, "state": ""},)
    assert damaged_records(tmp_path) == []


def test_records_of_killed_runs_are_closed_and_no_others(tmp_path):
    record(tmp_path)
    (tmp_path / "runs" / "000002.jsonl").write_text('{"run": 2, "id": "", "name": "x", "started": "now"}\n')
    Journal.of(tmp_path, 2).ask_to_stop()
    close_killed(tmp_path)
    assert [found.end for found in run_records(tmp_path)] == ["completed", "killed"]
    assert not list((tmp_path / "runs").glob("*.stop"))


def test_who_was_announced_and_died_is_told_once(tmp_path):
    """Between the start of a run in Prefect and its record, nothing else tells of it."""
    died = os.fork()
    if not died:
        with announced(tmp_path, "dead"):
            os._exit(1)
    os.waitpid(died, 0)
    with announced(tmp_path, "waiting"):
        assert take_dead(tmp_path) == {"dead"}
        assert take_dead(tmp_path) == set()
    assert list((tmp_path / "runs").iterdir()) == []
