"""Stages of a run that ends early: what had not begun is cancelled, and nothing is called a crash."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL, PREFECT_LOGGING_TO_API_ENABLED, temporary_settings

from flows.terminal.server import Server
from mlc.errors import UserError
from mlc.stopping import Stopped
from mlc.store import ArtifactRef, ArtifactStore
from tasks.runtime.run import Run, live
from tasks.runtime.runners import stages_in
from tasks.runtime.settings import RunnerSettings
from tasks.runtime.stage import NotThereError, naming_the_cause, stage_task
from tasks.runtime.states import settled
from tests.flows.runs import TaskRun

pytestmark = pytest.mark.slow

LEAVING_SECONDS = 1.0
"""Until a flow that was left has told its runner."""


@pytest.mark.parametrize(("asked", "raised"), [(True, Stopped), (False, UserError)])
def test_what_would_begin_when_the_run_is_over_is_cancelled(
    asked: bool,
    raised: type[Exception],
    server: Server,
    task_runs: Callable[[str], list[TaskRun]],
    tmp_path: Path,
) -> None:
    began, left = threading.Event(), threading.Event()
    made = ArtifactRef("first", "0" * 64, "first", "0" * 64, 1)
    ids: list[str] = []
    futures: list[Any] = []
    worked: list[ArtifactRef] = []

    @stage_task("first", "first")
    def first(run: Run) -> ArtifactRef:
        if run.looking:
            raise NotThereError
        began.set()
        left.wait()
        time.sleep(LEAVING_SECONDS)
        return made

    @stage_task("second", "second")
    def second(run: Run, given: ArtifactRef) -> ArtifactRef:
        worked.append(given)
        return given

    @flow
    def body() -> None:
        ids.append(str(flow_run.id))
        with (
            live(Run(ArtifactStore(tmp_path), id=ids[0])) as run,
            settled(run),
            naming_the_cause(run),
            stages_in(run, RunnerSettings(), {}),
        ):
            second.submit(run, first.submit(run))
            futures.extend(run.futures)
            began.wait()
            left.set()
            if asked:
                run.stop()
                raise Stopped
            raise UserError("Something else failed.")

    # Words that the server is not there for any more would hold up the end of the process.
    settings = {PREFECT_API_URL: server.api, PREFECT_LOGGING_TO_API_ENABLED: False}
    with temporary_settings(settings), pytest.raises(raised):
        body()
    assert [future.wrapped_future.result().name for future in futures] == ["Completed", "Cancelled"]
    assert {run.name: run.state for run in task_runs(ids[0])} == {"first": "Completed", "second": "Cancelled"}
    assert not worked
