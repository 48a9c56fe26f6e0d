"""`mlc status` on a workspace of two runs."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app
from mlc.store import ArtifactStore, KeyParts
from tasks.runtime.artifacts import VERSION_FILE
from tasks.runtime.settings import RegistrySettings
from tests.flows.made import made_run
from tests.flows.smoked import Mlc


@pytest.mark.slow
def test_every_stage_that_made_something_the_runs_the_report_and_the_versions(mlc: Mlc, workspace: Path) -> None:
    ended = mlc("status", "--workspace", str(workspace))
    assert ended.code == 0, ended.err
    lines = [line.split() for line in ended.out.splitlines() if line.strip()]
    made = {
        path.name: sum(1 for _ in path.iterdir())
        for path in (workspace / "artifacts").iterdir()
        if not path.name.startswith(".")
    }
    shown = {line[0]: int(line[1]) for line in lines[1 : 1 + len(made)]}
    assert shown == made
    assert next(iter(shown)) == "ingest"
    assert ["1", "smoke"] in [line[:2] for line in lines]
    assert ["2", "smoke"] in [line[:2] for line in lines]
    assert "Report: " in ended.out
    assert Path(ended.out.partition("Report: ")[2].splitlines()[0]).is_file()
    assert "Registered model" in ended.out


@pytest.mark.slow
def test_stages_that_only_some_runs_have(mlc: Mlc, copy: Path) -> None:
    """Model signals and edits: their artifacts count as those of any other stage."""
    manifest = next((copy / "artifacts" / "signals").glob("*/manifest.json"))
    for stage in ("model_signals", "edit", "merge"):
        place = copy / "artifacts" / stage / manifest.parent.name
        place.mkdir(parents=True)
        (place / manifest.name).write_bytes(manifest.read_bytes())
    ended = mlc("status", "--workspace", str(copy))
    assert ended.code == 0, ended.err
    shown = [line.split()[0] for line in ended.out.splitlines() if line.strip()]
    assert [stage for stage in shown if stage in ("model_signals", "edit", "merge")] == [
        "model_signals",
        "edit",
        "merge",
    ]


def test_what_another_workspace_registered_is_not_registered_here(tmp_path: Path) -> None:
    """As after an import: the artifact is there, and no registry."""
    here = tmp_path / "workspace-of-mine"
    store = ArtifactStore(here)
    registry = RegistrySettings(model_name="policy").model_dump(mode="json")
    with store.writing("register", KeyParts("register", 1, {"registry": registry})) as draft:
        (draft.path / VERSION_FILE).write_text('{"name": "policy", "version": "4"}', encoding="utf-8")
    ended = CliRunner().invoke(app, ["status", "--workspace", str(here)])
    assert (ended.exit_code, "Nothing is registered here yet." in ended.stdout) == (0, True), ended.stderr
    ended = CliRunner().invoke(app, ["status", "--json", "--workspace", str(here)])
    assert json.loads(ended.stdout)["model"] is None
    # Workspaces that lie beside the one that is meant are named.
    ended = CliRunner().invoke(app, ["status", "--workspace", str(tmp_path / "workspace")])
    assert (ended.exit_code, "workspace-of-mine'." in "".join(ended.stderr.split())) == (2, True)


def test_the_same_for_programs(tmp_path: Path) -> None:
    made_run(tmp_path, {}, lambda run: run.prompts([{"id": "a", "prompt": "x", "label": "harmless"}], None, "prompts"))
    (tmp_path / "runs" / "000002.jsonl").write_text("no record\n", encoding="utf-8")
    ended = CliRunner().invoke(app, ["status", "--json", "--workspace", str(tmp_path)])
    assert ended.exit_code == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert list(told["artifacts"]) == ["ingest"]
    assert (told["artifacts"]["ingest"]["artifacts"], told["artifacts"]["ingest"]["bytes"] > 0) == (1, True)
    (run,) = told["runs"]
    assert (run["run"], run["configuration"], run["end"], run["ran"], run["cached"]) == (1, "made", "completed", 1, 0)
    assert (told["report"], told["model"]) == (None, None)
    assert ["000002.jsonl" in sentence for sentence in told["damages"]] == [True]
