"""`mlc keep` on a workspace of an earlier release: why it would run again, and how a team goes on without that.

Its artifacts have the right keys and nothing in them: what decides is looked at by key and digest alone.
"""

import getpass
import io
import json
import shutil
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from flows.cli import app
from flows.commands.keep import Answer, keep_results, show_answers
from flows.commands.plan import foresee
from flows.commands.why import explain, show_explanations
from flows.configuration.pipeline import PipelineConfig
from flows.configuration.reading import load_config
from mlc.errors import UserError
from mlc.store import ArtifactStore, KeyParts
from mlc.store.artifacts import MANIFEST
from mlc.store.hashing import digest_data
from mlc.store.keys import PENDING
from mlc.store.runs import recorded
from tasks.ingest import ingest, ingest_suite
from tasks.runtime.run import Run, live
from tests.flows.runs import plan_run

OTHER_RULE = "keys are made in another way since this release"
END = {"report", "register", "promote"}


def smoke(workspace: Path, **settings: Any) -> PipelineConfig:
    overrides = {name.replace("__", "."): value for name, value in settings.items()}
    return load_config("smoke", languages=["es"], workspace=str(workspace), overrides=overrides)


def waits(parts: KeyParts) -> bool:
    return any(digest.startswith(PENDING) for digest in (*parts.inputs.values(), *parts.models.values()))


def finished(workspace: Path) -> None:
    """Puts an artifact in the place of every stage but the last ones."""
    config, store = smoke(workspace), ArtifactStore(workspace)
    with live(Run(store)) as run:
        ingest.fn(run, config.prompts)
        for language in ("eng_Latn", *config.languages):
            ingest_suite.fn(run, config.evaluation, language)
    while True:
        planned = foresee(config)
        possible = [
            outcome
            for outcome in planned.outcomes
            if outcome.state == "run" and outcome.stage not in END and not waits(planned.parts[outcome.key])
        ]
        if not possible:
            return
        for outcome in possible:
            with store.writing(outcome.stage, planned.parts[outcome.key]) as draft:
                (draft.path / "file.txt").write_text(outcome.key)
                draft.facts |= {"language": outcome.language, "subject": outcome.subject, "overlaps": []}


def aged(workspace: Path) -> None:
    """Makes a workspace as a release left it that had machinery in its keys and no number for their rule."""
    config = smoke(workspace)
    outcomes = foresee(config).outcomes
    with recorded(workspace, run_id="abcd1234", name="smoke", config=config.model_dump(mode="json")) as journal:
        for outcome in outcomes:
            folder = workspace / "artifacts" / outcome.stage / outcome.key
            if not folder.is_dir():
                continue
            manifest = json.loads((folder / MANIFEST).read_text())
            del manifest["parts"]["rule"], manifest["digest"]
            manifest["parts"]["sources"] |= {"mlc/errors.py": "e" * 64, "tasks/files.py": "f" * 64}
            manifest["key"] = digest_data(manifest["parts"])
            (folder / MANIFEST).write_text(json.dumps(manifest))
            folder.rename(folder.with_name(manifest["key"]))
            journal.write({"task": {**asdict(outcome), "key": manifest["key"], "state": "ran"}})


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace = tmp_path_factory.mktemp("earlier") / "workspace"
    finished(workspace)
    aged(workspace)
    return workspace


@pytest.fixture
def workspace(earlier: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(earlier, tmp_path / "workspace"))


def kept(answers: Iterable[Answer]) -> set[str]:
    return {answer.stage for answer in answers if answer.old_key}


def test_one_sentence_says_why_it_would_run_again(workspace: Path) -> None:
    planned = plan_run(smoke(workspace))
    assert {task["action"] for task in planned} == {"run"}
    reasons = {task["reason"] for task in planned if task["stage"] not in END}
    assert reasons == {OTHER_RULE, "its input is new"}
    (found,) = explain(workspace, "translate")
    assert found.differences == [OTHER_RULE]


def test_a_whole_workspace_goes_on_without_being_made_again(workspace: Path) -> None:
    store = ArtifactStore(workspace)
    before = {m["facts"]["subject"]: m["sha256"] for m in store.manifests("align")}
    answers = keep_results(workspace, "all", reason="only the keys are new", by="ann")
    planned = plan_run(smoke(workspace))
    assert {task["stage"] for task in planned if task["action"] == "run"} == END
    assert kept(answers) == {task["stage"] for task in planned} - END
    # Both keys stand for the same content.
    assert len(store.manifests("align")) == 2 * len(before)
    assert {m["facts"]["subject"]: m["sha256"] for m in store.manifests("align")} == before
    (found,) = explain(workspace, "translate", language="es")
    assert found.action == "cached"
    assert [(note["by"], note["reason"]) for note in found.kept] == [("ann", "only the keys are new")]
    console = Console(file=io.StringIO(), width=200)
    show_explanations([found], console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert (
        f"kept by ann on {found.kept[0]['when'][:10]}: only the keys are new (was {found.kept[0]['old_key'][:12]})"
        in shown
    )
    # The report says so, and with the next change of code it is the kept artifact that is kept.
    (report,) = [parts for parts in foresee(smoke(workspace)).parts.values() if parts.stage == "report"]
    assert any(sentence.startswith("align (") for sentence in report.settings["facts"]["kept"])


def test_one_language_of_one_stage(workspace: Path) -> None:
    keep_results(workspace, "ingest", reason="the same")
    answers = keep_results(workspace, "translate", reason="the same", language="Spanish")
    assert [(answer.stage, answer.language) for answer in answers] == [("translate", "spa_Latn")]
    (note,) = explain(workspace, "translate")[0].kept
    assert note["by"] == getpass.getuser()
    assert keep_results(workspace, "translate", reason="again") == []


def test_one_model(workspace: Path) -> None:
    keep_results(workspace, "ingest", reason="the same")
    answers = keep_results(workspace, "align", model="english-only", reason="the same")
    assert [answer.subject for answer in answers] == ["english-only · seed 0"]


def test_looking_changes_nothing(workspace: Path) -> None:
    before = sorted(path for path in workspace.rglob("*") if path.name != ".lock")
    answers = keep_results(workspace, "ingest", reason="the same", dry_run=True)
    assert kept(answers) == {"ingest"}
    assert sorted(path for path in workspace.rglob("*") if path.name != ".lock") == before
    console = Console(file=io.StringIO(), width=200)
    show_answers(answers, console, dry_run=True)
    assert f"would be kept (was {answers[0].old_key[:12]}): {OTHER_RULE}" in console.file.getvalue()  # type: ignore


@pytest.mark.parametrize(
    ("stage", "settings", "options", "words"),
    [
        ("align", {"align__learning_rate": 0.5}, {}, r"Nothing is kept: align .* because configuration align"),
        ("align", {"seeds": [7]}, {}, "Nothing is kept: align · english-only · seed 7 is made anew because new"),
        ("translate", {"translator__num_beams": 4}, {}, "because configuration translator.num_beams 1 → 4"),
        ("filter", {}, {}, "because its input is made anew: keep or run signals first"),
        ("filtre", {}, {}, "There is no stage 'filtre'"),
        ("align", {}, {"model": "edit"}, "no artifact of a model 'edit'"),
        ("filter", {}, {"language": "sw"}, "one for each of Spanish"),
        ("all", {}, {"model": "edit"}, "name the stage instead of all"),
        ("align", {}, {"reason": " "}, "The reason is empty"),
    ],
)
def test_what_is_refused(
    workspace: Path, stage: str, settings: dict[str, Any], options: dict[str, str], words: str
) -> None:
    given = {"reason": "the same", **options}
    with pytest.raises(UserError, match=words):
        keep_results(workspace, stage, config=smoke(workspace, **settings), **given)


def test_a_damaged_artifact_is_refused(workspace: Path) -> None:
    keep_results(workspace, "ingest", reason="the same")
    for file in (workspace / "artifacts" / "translate").rglob("file.txt"):
        file.write_text("x" * file.stat().st_size)
    with pytest.raises(UserError, match="because its artifact is damaged"):
        keep_results(workspace, "translate", reason="the same")


def test_the_command(workspace: Path) -> None:
    given = ["keep", "ingest", "--reason", "the same", "--by", "ann", "--workspace", str(workspace), "--json"]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 0, done.output
    answers = json.loads(done.stdout.splitlines()[-1])["answers"]
    assert {answer["stage"] for answer in answers} == {"ingest"}
    assert all(answer["old_key"] for answer in answers)
    refused = CliRunner().invoke(app, ["keep", "filter", "--reason", "the same", "--workspace", str(workspace)])
    assert refused.exit_code == 2
