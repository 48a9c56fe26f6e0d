"""Exactly the affected stages: the table of docs/reruns.md over the real flow."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from markupsafe import escape
from mlflow.tracking import MlflowClient

from flows.commands.keep import keep_results
from flows.configuration.reading import load_config
from flows.looking.overview import results_of
from mlc.report.prompts import LONGEST_TEXT
from mlc.store import ArtifactStore, sources
from mlc.store.runs import run_records
from tasks.runtime.registry.addresses import DATABASE_FILE
from tasks.runtime.registry.champions import promote_version
from tasks.runtime.registry.connecting import connect
from tasks.runtime.registry.promotions import PROMOTIONS_FILE
from tasks.runtime.registry.versions import ModelVersion
from tests.covering import chosen
from tests.flows.runs import Flow, made, plan_run, task_name
from tests.flows.smoked import PROJECT, Smoked

pytestmark = pytest.mark.slow

ENGLISH, FRENCH, SPANISH, SWAHILI = "eng_Latn", "fra_Latn", "spa_Latn", "swh_Latn"
TRAINED = (FRENCH, SPANISH)
MODELS = ("base", "english-only · seed 0", "consistency · seed 0")
END = {"report", "register", "promote"}


@pytest.fixture
def workspace(smoked: Smoked, tmp_path: Path) -> Path:
    """A copy in another place, so every case shows too that a moved workspace keeps its hits."""
    return Path(shutil.copytree(smoked.two, tmp_path / "moved"))


def each(stage: str, *languages: str) -> set[str]:
    return {f"{stage} · {language}" for language in languages}


def measured(model: str, *languages: str) -> set[str]:
    return {f"{stage} · {model} · {language}" for stage in ("generate", "evaluate") for language in languages}


def judged(*languages: str) -> set[str]:
    return {f"evaluate · {model} · {language}" for model in MODELS for language in languages}


def aligned(role: str, *languages: str, seed: int = 0) -> set[str]:
    return {f"align · {role} · seed {seed}"} | measured(f"{role} · seed {seed}", *languages)


EVERYWHERE = (ENGLISH, *TRAINED)
WITH_THE_TERM = aligned("consistency", *EVERYWHERE) | END

ON_A_SUITE = {"conditions": [{"figure": "in_language", "suite": "english", "scope": "worst", "at_least": 0.0}]}

CASES: dict[str, tuple[dict[str, Any], set[str]]] = {
    "nothing": ({}, set()),
    "name, batch sizes, device": (
        {
            "name": "another",
            "translator__batch_tokens": 100,
            "evaluation__batch_size": 3,
            "policy__device": "cpu",
        },
        set(),
    ),
    "a language added": (
        {"languages": "es,fr,sw"},
        {f"ingest · held-out · {SWAHILI}", "dataset"}
        | each("translate", SWAHILI)
        | each("signals", SWAHILI)
        | each("filter", SWAHILI)
        | measured("base", SWAHILI)
        | measured("english-only · seed 0", SWAHILI)
        | aligned("consistency", *EVERYWHERE, SWAHILI)
        | END,
    ),
    "a language taken away": ({"languages": "fr"}, {"dataset"} | aligned("consistency", ENGLISH, FRENCH) | END),
    "a threshold that changes no verdict": ({"quality__default__length_z": 3.250001}, each("filter", *TRAINED)),
    "a threshold that changes verdicts": (
        {"quality__default__length_z": 0.5, "quality__allow_low_yield": True},
        each("filter", *TRAINED) | {"dataset"} | WITH_THE_TERM,
    ),
    "lambda": ({"align__consistency__weight": 0.5}, WITH_THE_TERM),
    "how answers are judged": ({"evaluation__judges": ["openings"]}, judged(*EVERYWHERE) | END),
    "prompts added": (
        {"prompts__limit": 26},
        {"ingest · prompts", "overlap", "dataset"}
        | each("translate", *TRAINED)
        | each("signals", *TRAINED)
        | each("filter", *TRAINED)
        | aligned("english-only", *EVERYWHERE)
        | WITH_THE_TERM,
    ),
    "gate, suite, ability and report": (
        {
            "gate": ON_A_SUITE,
            "evaluation__suites": [str(PROJECT / "tests" / "data" / "english.yaml")],
            "evaluation__ability__neutral": "held-out",
            "report__texts": "hidden",
        },
        {f"suite · english · {ENGLISH}", "overlap · suite english"}
        | {f"{stage} · suite english · {model} · {ENGLISH}" for stage in ("generate", "evaluate") for model in MODELS}
        | {f"ability · {model}" for model in MODELS}
        | {"report", "promote"},
    ),
}


@pytest.mark.parametrize(
    "case", chosen(CASES, "nothing", "prompts added", "a language added", "lambda", "gate, suite, ability and report")
)
def test_exactly_the_affected_stages_run(flow: Flow, workspace: Path, case: str) -> None:
    settings, expected = CASES[case]
    languages = settings.get("languages", "es,fr")
    others = {name: value for name, value in settings.items() if name != "languages"}
    overrides = {name.replace("__", "."): value for name, value in others.items()}
    config = load_config("smoke", languages=[languages], workspace=str(workspace), overrides=overrides)
    planned = plan_run(config)
    summary = flow(workspace, languages, **others)
    assert made(summary) == expected
    # The plan names at least these; it cannot know that a stage will write the same bytes as before.
    assert {task_name(task) for task in planned if task["action"] == "run"} >= expected
    assert {task_name(task) for task in planned} == {task_name(task) for task in summary["tasks"]}
    if not expected:
        assert {task["action"] for task in planned} == {"cached"}
        assert summary["seconds_saved"] > 0
    if "prompts__limit" in settings:
        # Two prompts came, and the memory knows the others.
        for tasks in (planned, summary["tasks"]):
            new = {task["language"]: task["rows_new"] for task in tasks if task["stage"] == "translate"}
            assert new == dict.fromkeys(TRAINED, 2)
    if "report__texts" in settings:
        page = Path(summary["report"]).read_text(encoding="utf-8")
        answers = [pq.read_table(path) for path in workspace.glob("artifacts/evaluate/*/answers.parquet")]
        texts = [text for table in answers for name in ("prompt", "answer") for text in table[name].to_pylist()]
        assert all(f">{escape(text[:LONGEST_TEXT])}" in page for text in texts)
        assert texts
        assert [check["suite"] for check in summary["gate"]["checks"]] == ["english"]
        assert "Suite english" in page
        assert "General ability" in page
        # What people look at elsewhere are the held-out prompts.
        looked = results_of(ArtifactStore(workspace), run_records(workspace)[-1])
        assert len(looked.figures.blocks) > 0
    if languages == "es,fr,sw":
        # Taken away again, everything is there.
        assert made(flow(workspace)) == set()


def test_a_method_more_makes_no_other_version(flow: Flow, workspace: Path) -> None:
    alone = flow(workspace, models=["english-only"], candidate="english-only")["model_version"]
    summary = flow(workspace, candidate="english-only")
    beside = summary["model_version"]
    assert made(summary) == END
    assert {name: beside[name] for name in ("name", "version")} == {name: alone[name] for name in ("name", "version")}
    client = MlflowClient(f"sqlite:///{workspace / 'mlflow' / DATABASE_FILE}")
    told = {run["run_id"]: {file.path for file in client.list_artifacts(run["run_id"])} for run in (alone, beside)}
    # Each comparison has its own, with its models and its decision.
    assert list(told.values()) == [{"config.json", "gate.json", "report"}] * 2
    experiment = client.get_run(beside["run_id"]).info.experiment_id
    children = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{beside['run_id']}'")
    assert {child.info.run_name for child in children} == set(MODELS)


def test_another_machine_finds_everything_in_the_storage(flow: Flow, workspace: Path, tmp_path: Path) -> None:
    storage = f"memory://{tmp_path.name}"
    assert made(flow(workspace, storage=storage)) == set()
    # Its registry is empty, so that only the registration is missing.
    registration = {"register", "promote"}
    planned = plan_run(
        load_config("smoke", languages=["es,fr"], workspace=str(tmp_path / "other"), overrides={"storage": storage})
    )
    assert {task["stage"] for task in planned if task["action"] == "run"} == registration
    assert made(flow(tmp_path / "other", storage=storage)) == registration


@pytest.mark.full
def test_a_champion_is_judged_beside_the_candidate_and_nothing_else_is_done_for_it(flow: Flow, workspace: Path) -> None:
    settings = load_config("smoke").registry
    version = ModelVersion(**flow(workspace)["model_version"])
    record = workspace / PROMOTIONS_FILE
    promote_version(connect(settings, workspace), record, version, ["a trial"], by="person")
    # Its own run finds its decision: it is not held against itself.
    assert made(flow(workspace)) == set()
    config = load_config(
        "smoke", languages=["es,fr"], workspace=str(workspace), overrides={"candidate": "english-only"}
    )
    planned = plan_run(config)
    summary = flow(workspace, candidate="english-only")
    # What the champion answers is known, for it is the checkpoint of another model here.
    judged_anew = {f"evaluate · champion · {language}" for language in EVERYWHERE}
    assert made(summary) == judged_anew | END
    assert {task_name(task) for task in planned} == {task_name(task) for task in summary["tasks"]}
    assert summary["gate"]["champion"] == version.version
    against = [check for check in summary["gate"]["checks"] if check["against"] == "champion"]
    assert [check["verdict"] in ("passed", "failed") for check in against] == [True]
    assert f"Champion, version {version.version}" in Path(summary["report"]).read_text(encoding="utf-8")
    assert made(flow(workspace, candidate="english-only")) == set()


def test_changed_code_of_a_judge_reruns_judging_alone(
    flow: Flow, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with as_if_changed(monkeypatch, "judges", "rules.py"):
        # It judges as before, so nothing that follows is touched.
        assert made(flow(workspace)) == judged(*EVERYWHERE)


@contextmanager
def as_if_changed(monkeypatch: pytest.MonkeyPatch, *end: str) -> Iterator[None]:
    """Lets a file look as if its code had changed, named by the end of its path."""
    read = sources._module_facts

    def facts(path: Path, package: str) -> tuple[str, tuple[str, ...]]:
        digest, imported = read(path, package)
        return ("changed" if path.parts[-len(end) :] == end else digest), imported

    monkeypatch.setattr(sources, "_module_facts", facts)
    sources._source_digests.cache_clear()
    try:
        yield
    finally:
        sources._source_digests.cache_clear()


def test_what_is_kept_is_not_trained_again_and_is_told(
    flow: Flow, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with as_if_changed(monkeypatch, "losses", "consistency.py"):
        config = load_config("smoke", languages=["es,fr"], workspace=str(workspace))
        keep_results(workspace, "align", reason="a name in the loss", by="ann", config=config)
        # Nothing behind the models is made again; the report says that they were kept.
        summary = flow(workspace)
        assert made(summary) == {"report"}
        page = Path(summary["report"]).read_text(encoding="utf-8")
        models = "consistency · seed 0, english-only · seed 0"
        told = f"align ({models}) was kept by ann on {datetime.now(UTC).date()}: a name in the loss"
        assert f"had changed: {told}." in page
        # A version that is registered now says so, too.
        registered = flow(workspace, registry__model_name="other")
        assert made(registered) == {"register", "promote"}
        version = registered["model_version"]
        client = MlflowClient(f"sqlite:///{workspace / 'mlflow' / DATABASE_FILE}")
        assert client.get_model_version(version["name"], version["version"]).tags["kept"] == told
        assert client.get_run(version["run_id"]).data.tags["kept"] == told
