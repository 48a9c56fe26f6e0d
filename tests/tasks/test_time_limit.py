"""The time limit of a run, and what is tried again: only what may pass, where nobody waits."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from prefect.exceptions import FailedRun
from prefect.settings import PREFECT_API_URL, PREFECT_LOGGING_TO_API_ENABLED, temporary_settings

from flows.terminal.server import Server
from mlc.errors import OutOfReachError, UserError
from mlc.stopping import Stopped, stop_if
from mlc.store import ArtifactRef, ArtifactStore
from tasks.runtime import stage, stopping
from tasks.runtime.run import Run, live
from tasks.runtime.stage import insisting, stage_task
from tasks.runtime.time_limit import limited

HALF_A_SECOND = 0.5 / 3600


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(ArtifactStore(tmp_path / "workspace"))


def works(run: Run, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        stop_if(run.should_stop)
        time.sleep(0.01)


def test_a_run_that_takes_too_long_stops_and_says_why(run: Run) -> None:
    with (
        pytest.raises(UserError, match=r"time limit of .* hours: what is finished is kept"),
        limited(run, HALF_A_SECOND),
    ):
        works(run, 60)


def test_a_run_within_its_limit_goes_on(run: Run) -> None:
    with limited(run, HALF_A_SECOND):
        works(run, 0.01)
    time.sleep(0.6)
    assert not run.should_stop()
    with limited(run, None):
        works(run, 0.01)


def test_a_run_that_somebody_stops_did_not_reach_its_limit(run: Run) -> None:
    run.stop()
    with pytest.raises(Stopped), limited(run, 1.0):
        works(run, 1)


@pytest.mark.parametrize("hours", [0, -1.0, float("nan")])
def test_a_limit_is_above_zero(run: Run, hours: float) -> None:
    with pytest.raises(UserError, match="above 0"), limited(run, hours):
        pass


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "unattended", "times"), [(OutOfReachError, True, 2), (OutOfReachError, False, 1), (UserError, True, 1)]
)
def test_only_what_may_pass_is_tried_again(
    run: Run, server: Server, monkeypatch: pytest.MonkeyPatch, error: type[UserError], unattended: bool, times: int
) -> None:
    monkeypatch.setattr(stage, "RETRY_SECONDS", (0.0,))
    tried: list[int] = []
    asking = stage_task("asking", "asking")(failing(error, tried))

    @flow
    def runs() -> None:
        if unattended:
            # Not before: the variable tells Prefect which flow run this process is for.
            monkeypatch.setenv(stopping._UNDER_A_WORKER, "a flow run")
        with live(run):
            asking.submit(run).result()

    with (
        temporary_settings({PREFECT_API_URL: server.api, PREFECT_LOGGING_TO_API_ENABLED: False}),
        pytest.raises((error, FailedRun)),
    ):
        runs()
    # The first look is that of the flow, which asks whether there is anything to do.
    assert len(tried) == times + 1


@pytest.mark.parametrize(("unattended", "times"), [(True, 2), (False, 1)])
def test_what_a_flow_asks_is_asked_again_where_nobody_waits(
    run: Run, monkeypatch: pytest.MonkeyPatch, unattended: bool, times: int
) -> None:
    monkeypatch.setattr(stage, "RETRY_SECONDS", (0.0,))
    if unattended:
        monkeypatch.setenv(stopping._UNDER_A_WORKER, "a flow run")
    tried: list[int] = []
    with pytest.raises(OutOfReachError):
        insisting(run, lambda: failing(OutOfReachError, tried)(run))
    assert len(tried) == times
    assert insisting(run, lambda: "an answer") == "an answer"


def test_who_waits_for_an_answer_can_be_stopped(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(stopping._UNDER_A_WORKER, "a flow run")
    run.stop()
    with pytest.raises(Stopped):
        insisting(run, lambda: failing(OutOfReachError, [])(run))


def failing(error: type[UserError], tried: list[int]) -> Callable[..., ArtifactRef]:
    def asking(run: Run, *_: Any) -> ArtifactRef:
        tried.append(1)
        raise error("It does not answer: ask later.")

    return asking
