"""What leaves a stage when a library fails in a way that nobody foresaw: nothing that it says."""

import asyncio
import pickle
import stat
import traceback
from pathlib import Path
from typing import Any

import pytest
from prefect.states import exception_to_failed_state
from typer.testing import CliRunner

from flows import cli
from flows.align_flow import align
from flows.commands.status import show_status
from mlc.errors import UserError
from mlc.store import ArtifactRef, ArtifactStore, Draft
from mlc.store.runs import recorded, run_records
from tasks.runtime.run import Run
from tasks.runtime.stage import Stage, produce, stage_task
from tasks.runtime.unexpected import Unexpected, confined

PLANTED = "a planted text \x1b[31m"
STAGE = Stage("demo", version=1, module="mlc.errors")


@stage_task("demo", "demo")
def failing(run: Run) -> ArtifactRef:
    def write(draft: Draft) -> None:
        try:
            raise KeyError(PLANTED)
        except KeyError as error:
            raise ValueError(PLANTED) from error

    return produce(run, STAGE, STAGE.parts({}, {}), write, language="swh_Latn", subject="consistency")


def said(error: BaseException) -> str:
    """All that Prefect can learn of an error, in this process or from another."""
    arrived = pickle.loads(pickle.dumps(error))
    state = asyncio.run(exception_to_failed_state(error))
    return "".join([*traceback.format_exception(error), repr(arrived), str(state.message), repr(state)])


def test_the_record_of_the_run_names_the_task_that_failed_and_no_text(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    with recorded(tmp_path, run_id="", name="x", config={}) as journal, pytest.raises(Unexpected):
        failing.fn(Run(store, journal=journal))
    (failure,) = run_records(tmp_path)[0].failed
    assert (failure["stage"], failure["language"], failure["subject"]) == ("demo", "swh_Latn", "consistency")
    assert PLANTED not in journal.path.read_text(encoding="utf-8")


def test_type_place_and_artifact_leave_and_the_text_stays(tmp_path: Path) -> None:
    run = Run(ArtifactStore(tmp_path / "workspace"))
    with pytest.raises(Unexpected) as caught:
        failing.fn(run)
    told = str(caught.value)
    key = STAGE.parts({}, {}).key[:12]
    assert told.startswith("ValueError at test_unexpected.py:")
    assert " (from tasks/runtime/stage.py:" in told
    assert f"in demo · consistency · swh_Latn (artifact {key})" in told
    assert PLANTED not in said(caught.value)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    (file,) = (run.workspace / "errors").iterdir()
    assert repr(str(file)) in told
    assert PLANTED in file.read_text(encoding="utf-8")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list((run.store.root / ".drafts").iterdir()) == []


def test_what_led_to_a_users_mistake_is_not_told(tmp_path: Path) -> None:
    def mistake() -> None:
        try:
            raise ValueError(PLANTED)
        except ValueError as error:
            raise UserError("The file is wrong: mend it.", about="output") from error

    with pytest.raises(UserError, match="mend it") as caught:
        confined(tmp_path, "x", mistake)
    assert PLANTED not in said(caught.value)
    assert caught.value.about == "output"


def test_a_full_disk_is_still_told_as_one(tmp_path: Path) -> None:
    def full() -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match="make room and run again"):
        confined(tmp_path, "x", full)


def test_a_text_that_cannot_be_kept_is_not_told_either(tmp_path: Path) -> None:
    (tmp_path / "errors").write_text("in the way")
    with pytest.raises(Unexpected, match="could not be written") as caught:
        confined(tmp_path, "x", lambda: [][1])
    assert "IndexError" in str(caught.value)


def test_the_flow_says_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise ValueError(PLANTED)

    monkeypatch.setattr("flows.align_flow.pipeline", fails)
    monkeypatch.setattr("flows.align_flow.stages_in", lambda _: confined_nothing())
    with pytest.raises(Unexpected, match="in the flow") as caught:
        align.fn("smoke", workspace=str(tmp_path / "workspace"))
    assert PLANTED not in said(caught.value)


def confined_nothing() -> Any:
    from contextlib import nullcontext

    return nullcontext()


def test_the_command_prints_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise ValueError(PLANTED)

    left: list[int] = []
    monkeypatch.setattr("flows.commands.languages.command", fails)
    monkeypatch.setattr(cli, "app", fails)
    monkeypatch.setattr(cli, "_leave", left.append)
    cli.main()
    assert left == [cli.DEFECT]
    told = capsys.readouterr().err
    assert "ValueError at test_unexpected.py" in told
    assert "planted" not in told
    Path(told.rpartition(" is in '")[2].partition("'")[0].replace("\n", "")).unlink()


def test_damage_is_the_reason_and_status_shows_it(tmp_path: Path) -> None:
    from rich.console import Console

    run = Run(ArtifactStore(tmp_path / "workspace"))

    def write(draft: Draft) -> None:
        (draft.path / "file.txt").write_text("whole")

    parts = STAGE.parts({}, {})
    produce(run, STAGE, parts, write)
    (run.store.root / "demo" / parts.key / "file.txt").write_text("wrong")
    produce(run, STAGE, parts, write)
    produce(run, STAGE, parts, write)
    assert [outcome.reason for outcome in run.outcomes] == [
        "new",
        "its artifact was damaged: its file file.txt has changed",
        "its artifact is there and intact",
    ]
    aside = run.workspace / "memory" / "id" / "eng_Latn" / "swh_Latn" / "damaged"
    aside.mkdir(parents=True)
    (aside / "x.parquet").touch()
    (run.workspace / "damages.jsonl").open("a").write('5\n{"when": 1}\n')
    console = Console(record=True, width=200)
    show_status(run.workspace, console)
    told = console.export_text()
    assert "found damaged and set aside: 1. The last:" in told
    assert f"demo {parts.key[:12]}: its file file.txt has changed" in told
    assert "translation memory that were found damaged and set aside: 1" in told


def test_a_users_mistake_is_no_defect() -> None:
    ended = CliRunner().invoke(cli.app, ["status", "--workspace", "/nowhere/at/all"])
    assert ended.exit_code == 2
