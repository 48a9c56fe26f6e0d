"""A method that fails ends the run, or is set aside with what starts from it; the others go on."""

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from prefect.exceptions import UnfinishedRun

from flows.attempts import Attempts
from flows.configuration.pipeline import PipelineConfig
from flows.configuration.reading import load_config
from mlc.errors import UserError
from mlc.methods import resolve_method
from mlc.stopping import Stopped
from mlc.store import ArtifactStore
from tasks.runtime.run import Run
from tasks.runtime.unexpected import Unexpected

MODELS = ["english-only", "consistency", "edit", "consistency+edit"]
SILENT = UserError("The model answers nothing.")
UNFORESEEN = Unexpected("KeyError at x.py:1 in align", "its text is in '/home/of/someone.txt'.")


def ended(error: BaseException | None = None) -> "Future[None]":
    future: Future[None] = Future()
    if error:
        future.set_exception(error)
    else:
        future.set_result(None)
    return future


def settled(run: Run, config: PipelineConfig, futures: dict[str, list["Future[None]"]]) -> tuple[Attempts, Any]:
    attempts = Attempts(run, config)
    for name in MODELS:
        attempts.of(resolve_method(name), run.futures.extend, futures.get(name, [ended()]))
    return attempts, attempts.settle(config)


def config_of(folder: Path, **overrides: Any) -> PipelineConfig:
    given = {"workspace": str(folder), "models": MODELS, "candidate": "consistency", "failures": "set_aside"}
    return load_config("smoke", overrides={**given, **overrides})


@pytest.fixture
def config(tmp_path: Path) -> PipelineConfig:
    return config_of(tmp_path / "w")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(ArtifactStore(tmp_path / "w"))


def test_what_fails_is_set_aside_with_what_starts_from_it(run: Run, config: PipelineConfig) -> None:
    failed = {"consistency": [ended(), ended(SILENT), ended(UnfinishedRun())]}
    failed["consistency+edit"] = [ended(UnfinishedRun())]
    run.fail(SILENT)
    attempts, left = settled(run, config, failed)
    assert attempts.reasons == {
        "consistency": "The model answers nothing.",
        "consistency+edit": "It starts from consistency, which is set aside.",
    }
    # The last one that is left takes the place of the candidate.
    assert (left.models, left.candidate) == (("english-only", "edit"), "edit")
    # What the run goes on without is not what a later failure is told by.
    assert run.first_failure() is None


def test_an_unforeseen_error_is_told_without_places_of_this_machine(run: Run, config: PipelineConfig) -> None:
    attempts, left = settled(run, config, {"edit": [ended(UNFORESEEN)]})
    assert attempts.reasons == {"edit": "KeyError at x.py:1 in align."}
    assert left.candidate == "consistency"


def test_what_several_methods_share_is_the_reason_of_each(run: Run, config: PipelineConfig) -> None:
    run.fail(SILENT)
    never = {name: [ended(UnfinishedRun())] for name in ("consistency", "edit")}
    attempts, _ = settled(run, config, never)
    assert {attempts.reasons[name] for name in never} == {"The model answers nothing."}


def test_without_what_all_are_held_against_nothing_is_compared(run: Run, config: PipelineConfig) -> None:
    with pytest.raises(UserError, match="answers nothing"):
        settled(run, config, {"english-only": [ended(SILENT)]})


def test_a_failure_ends_the_run_where_nothing_else_is_asked(run: Run, tmp_path: Path) -> None:
    config = config_of(tmp_path / "w", failures="stop")
    attempts = Attempts(run, config)

    def fails() -> None:
        raise SILENT

    work: Callable[[], None] = fails
    with pytest.raises(UserError, match="answers nothing"):
        attempts.of(resolve_method("edit"), work)
    assert attempts.settle(config) is config


def test_a_run_that_is_stopped_sets_nothing_aside(run: Run, config: PipelineConfig) -> None:
    run.stop()
    with pytest.raises(Stopped):
        settled(run, config, {"consistency": [ended(UnfinishedRun())]})
