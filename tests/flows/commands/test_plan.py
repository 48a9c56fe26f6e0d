"""A plan is quick because it loads nothing that computes; how it is shown."""

import io
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest
from rich.console import Console

from flows.terminal.plan_tables import Task, show_plan, show_work
from tests.flows.conftest import PROJECT

PLAN = """
import sys
from flows.config import load_config
from flows.commands.plan import plan_run

tasks = plan_run(load_config("smoke", workspace=sys.argv[1]))
print(len(tasks), *sorted({"torch", "transformers", "mlflow", "trl"} & set(sys.modules)))
"""


@pytest.mark.skipif(not metadata.version("torch").endswith("+cpu"), reason="this build of torch is asked for a GPU")
def test_no_library_that_computes_is_loaded(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PLAN, str(tmp_path / "workspace")],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    count, *loaded = ended.stdout.split()
    assert int(count) > 20
    assert loaded == []


def task(stage: str, language: str | None, action: str = "run", **facts: object) -> Task:
    return {
        "stage": stage,
        "language": language,
        "subject": None,
        "action": action,
        "reason": "new",
        "rows_new": 3,
        "seconds_estimated": 0.5,
        **facts,
    }


PLANNED = [
    task("ingest", None, "cached"),
    task("translate", "deu_Latn"),
    task("translate", "fra_Latn", reason="model [revision] changed"),
    task("translate", "spa_Latn", "cached"),
    task("filter", "deu_Latn", rows_new=None),
    task("filter", "fra_Latn"),
    task("filter", "spa_Latn", seconds_estimated=None),
]


def printed(show: Callable[[list[Task], Console], None]) -> list[list[str]]:
    text = io.StringIO()
    show(PLANNED, Console(file=text, width=120))
    return [line.split() for line in text.getvalue().splitlines()]


def test_what_runs_is_shown_with_its_languages_in_one_line() -> None:
    header, *lines, total = printed(show_work)
    assert header[-1] == "why"
    assert lines == [
        ["translate", "deu_Latn,", "fra_Latn", "6", "1.0", "s", "new,", "and", "others"],
        ["filter", "3", "?", "new"],
    ]
    assert " ".join(total) == (
        "5 tasks would run, 2 are cached; about 2.0 s of work by past runs, and 1 task that never ran here."
    )


def test_a_whole_plan_has_a_line_for_every_task() -> None:
    _, *lines, total = printed(show_plan)
    assert len(lines) == len(PLANNED)
    assert lines[0] == ["ingest", "cached"]
    assert lines[2] == ["translate", "fra_Latn", "run", "3", "0.5", "s", "model", "[revision]", "changed"]
    assert total[:4] == ["5", "tasks", "would", "run,"]
